//! The spawner: a single-threaded process that clones itself for each container.
//!
//! Owns: its set-up, finding out what the system allows, making shims. Does not own: what a shim does.

use super::confine::{self, View};
use super::messages::{Fact, Isolation, SHIM_REQUEST_BYTES, SpawnerHello};
use super::supervise::{self, ShimFds};
use super::wire;
use super::{SHIM_NAME, sys};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, getegid, geteuid, getppid, setsid};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// Stack of a shim. Pages that are not touched cost nothing.
const STACK_BYTES: usize = 512 * 1024;

/// Runs the spawner until the agent is gone; the result is its exit code.
///
/// `open_files` is the soft limit that payloads shall have, as the agent has raised its own.
pub(super) fn run(agent_pid: u64, force_degraded: bool, open_files: Option<u64>) -> i32 {
    // The agent's spawning thread lives as long as the agent, so this fires at the agent's end and not before.
    let armed = prctl::set_pdeathsig(Signal::SIGKILL);
    // The agent may have died before that.
    if armed.is_err() || u64::try_from(getppid().as_raw()) != Ok(agent_pid) {
        return 1;
    }
    // A terminal's Ctrl-C is for the agent, which ends Pods in order.
    let _ = setsid();
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
    sys::reset_signal_dispositions();
    // Whatever the agent was started with: it would stay open for as long as any container runs.
    sys::close_descriptors_but(&[]);
    umask(Mode::from_bits_truncate(0o022));
    let _ = chdir("/");
    if let Ok(name) = CString::new(SHIM_NAME) {
        let _ = prctl::set_name(&name);
    }
    if let (Some(soft), Ok((_, hard))) = (open_files, getrlimit(Resource::RLIMIT_NOFILE)) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard);
    }
    let Ok(null) = File::open("/dev/null") else { return 1 };
    let mut stack = vec![0; STACK_BYTES];
    let user = AgentUser::new();
    let (isolation, errno) = if force_degraded { (Isolation::Degraded, 0) } else { probe(&mut stack, user) };
    confine::make_ready();
    sys::reap_automatically();
    let _ = wire::send(sys::stdin(), &SpawnerHello { isolation, errno }.encode(), &[]);
    serve(isolation, user, &null.into(), &mut stack)
}

fn serve(isolation: Isolation, user: AgentUser, null: &OwnedFd, stack: &mut [u8]) -> i32 {
    let flags = clone_flags(isolation);
    loop {
        let mut bytes = [0; SHIM_REQUEST_BYTES];
        let mut descriptors = match wire::receive(sys::stdin(), &mut bytes) {
            Ok((SHIM_REQUEST_BYTES, descriptors)) => descriptors,
            // The agent is gone.
            Ok(_) => return 0,
            // Too many open files: that request is lost, and its agent sees its socket close.
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS) => continue,
            Err(_) => return 1,
        };
        let (Some(cell), Some(listener), Some(agent)) =
            (descriptors.pop(), descriptors.pop(), descriptors.pop())
        else {
            continue;
        };
        // Taken out in the copy only, where it is the shim's.
        let mut fds = Some(ShimFds { agent, listener, cell, null });
        let result = sys::clone_process(flags, stack, || {
            fds.take().map_or(1, |fds| supervise::run(fds, isolation, user))
        });
        if let (Err(errno), Some(fds)) = (result, fds) {
            let bytes = wire::framed(&Fact::NoShim { errno: errno as i32 }.encode());
            // Whoever asked may be gone.
            let _ = wire::send(fds.agent.as_fd(), &bytes, &[]);
        }
    }
}

fn clone_flags(isolation: Isolation) -> CloneFlags {
    match isolation {
        Isolation::NamespaceWithProc | Isolation::NamespaceOnly => CloneFlags::CLONE_NEWPID,
        Isolation::UserNamespace => CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUSER,
        Isolation::Degraded => CloneFlags::empty(),
    }
}

/// User and group of the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct AgentUser {
    uid: Uid,
    gid: Gid,
}

impl AgentUser {
    fn new() -> AgentUser {
        AgentUser { uid: geteuid(), gid: getegid() }
    }

    /// Makes the agent's user and group exist in the new user namespace of this process, under their own numbers, and no
    /// other.
    pub fn exist_in_new_namespace(self) -> Result<(), Errno> {
        let write = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
        };
        // Or a process could leave a group that is refused something.
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{0} {0} 1", self.uid))?;
        write("gid_map", format!("{0} {0} 1", self.gid))
    }
}

/// Finds out what this process may do, by doing it once. With the reason if it is not all.
fn probe(stack: &mut [u8], user: AgentUser) -> (Isolation, i32) {
    let mut failure = 0;
    let kinds = [Isolation::NamespaceWithProc, Isolation::UserNamespace, Isolation::NamespaceOnly];
    for isolation in kinds {
        // Root needs none, and could not be another user in it.
        if isolation == Isolation::UserNamespace && user.uid.is_root() {
            continue;
        }
        let cloned = sys::clone_process(clone_flags(isolation), stack, || {
            if isolation == Isolation::UserNamespace
                && let Err(errno) = user.exist_in_new_namespace()
            {
                return errno as i32;
            }
            if isolation == Isolation::NamespaceOnly {
                return 0;
            }
            let host_devices = isolation == Isolation::UserNamespace;
            let view = View { host_devices, ..View::default() };
            view.make().map_or_else(|failure| failure.errno as i32, |()| 0)
        });
        let errno = match cloned {
            Err(errno) => errno as i32,
            Ok(_) => match sys::wait_any(true) {
                sys::Waited::Ended(_, sys::ChildEnd::Exited(errno)) => errno,
                _ => Errno::ECHILD as i32,
            },
        };
        if errno == 0 {
            return (isolation, failure);
        }
        if failure == 0 {
            failure = errno;
        }
    }
    (Isolation::Degraded, failure)
}
