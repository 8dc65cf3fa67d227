//! The spawner: a single-threaded process that clones itself for each container.
//!
//! Owns: its set-up, finding out what the system allows, making shims. Does not own: what a shim does.

use super::messages::{Fact, Isolation, SHIM_REQUEST_BYTES, SpawnerHello};
use super::supervise::{self, ShimFds};
use super::wire;
use super::{SHIM_NAME, sys};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getppid, setsid};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// Stack of a shim. Pages that are not touched cost nothing.
const STACK_BYTES: usize = 512 * 1024;

/// Exit code of a probe whose namespace has no own `/proc`.
const PROBE_NO_PROC: i32 = 1;

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
    sys::close_descriptors_on_exec();
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
    let (isolation, errno) = if force_degraded { (Isolation::Degraded, 0) } else { probe(&mut stack) };
    sys::reap_automatically();
    let _ = wire::send(sys::stdin(), &SpawnerHello { isolation, errno }.encode(), &[]);
    serve(isolation, &null.into(), &mut stack)
}

fn serve(isolation: Isolation, null: &OwnedFd, stack: &mut [u8]) -> i32 {
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
        let result =
            sys::clone_process(flags, stack, || fds.take().map_or(1, |fds| supervise::run(fds, isolation)));
        if let (Err(errno), Some(fds)) = (result, fds) {
            let bytes = wire::framed(&Fact::NoShim { errno: errno as i32 }.encode());
            // Whoever asked may be gone.
            let _ = wire::send(fds.agent.as_fd(), &bytes, &[]);
        }
    }
}

fn clone_flags(isolation: Isolation) -> CloneFlags {
    match isolation {
        Isolation::NamespaceWithProc => CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS,
        Isolation::NamespaceOnly => CloneFlags::CLONE_NEWPID,
        Isolation::Degraded => CloneFlags::empty(),
    }
}

/// Gives this process, in a new mount namespace, the `/proc` of its PID namespace. Mounts of the host go on to appear.
pub(super) fn mount_proc() -> Result<(), Errno> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)
}

/// Finds out what this process may do, by doing it once.
fn probe(stack: &mut [u8]) -> (Isolation, i32) {
    let flags = clone_flags(Isolation::NamespaceWithProc);
    let cloned = sys::clone_process(flags, stack, || if mount_proc().is_ok() { 0 } else { PROBE_NO_PROC });
    if let Err(errno) = cloned {
        return (Isolation::Degraded, errno as i32);
    }
    match sys::wait_any(true) {
        sys::Waited::Ended(_, sys::ChildEnd::Exited(0)) => (Isolation::NamespaceWithProc, 0),
        sys::Waited::Ended(_, sys::ChildEnd::Exited(PROBE_NO_PROC)) => (Isolation::NamespaceOnly, 0),
        _ => (Isolation::Degraded, Errno::ECHILD as i32),
    }
}
