//! A further program in a container that runs.
//!
//! libcontainer could do this too, but it would have to find the container by what it wrote down, and owns the terminal.

use super::super::inherited;
use super::super::messages::{NotExecuted, Stage};
use super::super::payload::{self, Stdio};
use super::super::sys;
use super::users::{self, User};
use super::{failed, refused};
use crate::oci::groups;
use crate::oci::launch::Launch;
use crate::payload::Payload;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, chdir, getcwd, setgroups, setresgid, setresuid, setsid, write};
use pathrs::Root;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Becomes the *keeper* of the program: the process that the shim knows, which ends as the program ends and whose end is the
/// program's. A process can't enter a PID namespace itself, only its children can.
pub(in super::super) fn join(
    payload: &Payload,
    launch: &Launch,
    stdio: &Stdio<'_>,
    main: Option<BorrowedFd<'_>>,
    reporter: OwnedFd,
) -> NotExecuted {
    match try_join(payload, launch, stdio, main, &reporter) {
        Ok(keeper) => {
            // Only the program may hold it now.
            drop(reporter);
            keeper.keep()
        }
        Err(why) => {
            let _ = write(reporter.as_fd(), &why.encode());
            why
        }
    }
}

struct Keeper {
    child: nix::unistd::Pid,
}

impl Keeper {
    fn keep(self) -> ! {
        loop {
            match waitpid(self.child, None) {
                Ok(WaitStatus::Exited(_, code)) => sys::exit_now(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => sys::exit_now(128 + signal as i32),
                Err(Errno::EINTR) | Ok(_) => {}
                Err(_) => sys::exit_now(128 + Signal::SIGKILL as i32),
            }
        }
    }
}

fn try_join(
    payload: &Payload,
    launch: &Launch,
    stdio: &Stdio<'_>,
    main: Option<BorrowedFd<'_>>,
    reporter: &OwnedFd,
) -> Result<Keeper, NotExecuted> {
    let problem = |text: &str, errno| NotExecuted { stage: Stage::Container, errno, text: text.to_owned() };
    let main = main.ok_or_else(|| problem("the container's main process", Errno::ESRCH))?;
    if let Some(path) = launch.config["linux"]["cgroupsPath"].as_str() {
        groups::join(Path::new(path)).map_err(refused)?;
    }
    setsid().map_err(|errno| problem("a session", errno))?;
    inherited::give_up();
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // All at once, as the mount namespace hides the others; it brings the container's root.
    setns(main, namespaces).map_err(|errno| problem("the container's namespaces can't be joined", errno))?;
    let root = Root::open("/").map_err(|error| failed("the container's root", &error))?;
    let user = users::find(&root, &launch.user).map_err(refused)?;
    drop(root);
    let mut payload = payload.clone();
    if !payload.environment.iter().any(|entry| entry.starts_with(b"HOME=")) {
        payload.environment.push(format!("HOME={}", user.home).into_bytes());
    }
    match sys::fork().map_err(|errno| problem("no process can be made", errno))? {
        ForkResult::Parent { child } => Ok(Keeper { child }),
        ForkResult::Child => {
            let why = match become_program(launch, stdio, &user, payload.confinement.identity.is_some()) {
                Ok(()) => payload::execute_program(&payload),
                Err(why) => why,
            };
            let _ = write(reporter.as_fd(), &why.encode());
            sys::exit_now(payload::exit_code(why.stage, why.errno))
        }
    }
}

/// Everything but the filter and the exec. With `keeps_right` what the filter needs is kept for it.
fn become_program(
    launch: &Launch,
    stdio: &Stdio<'_>,
    user: &User,
    keeps_right: bool,
) -> Result<(), NotExecuted> {
    let problem = |text: &'static str| {
        move |errno| NotExecuted { stage: Stage::Container, errno, text: text.to_owned() }
    };
    setsid().map_err(problem("a session"))?;
    let streams = problem("the program's streams");
    nix::unistd::dup2_stdin(stdio.stdin).map_err(streams)?;
    nix::unistd::dup2_stdout(stdio.stdout).map_err(streams)?;
    nix::unistd::dup2_stderr(stdio.stderr).map_err(streams)?;
    if stdio.terminal {
        sys::make_controlling_terminal().map_err(problem("the program's terminal"))?;
    }
    sys::close_descriptors_on_exec();
    umask(Mode::from_bits_truncate(0o022));
    let process = &launch.config["process"];
    let directory = process["cwd"].as_str().unwrap_or("/");
    chdir(directory).map_err(problem("the container's working folder"))?;
    if !getcwd().is_ok_and(|path| path.is_absolute()) {
        // It led out of the container's root, whatever it may be a link to.
        return Err(problem("the container's working folder")(Errno::ELOOP));
    }
    let bounding = capabilities(process);
    for capability in caps::all() {
        if !bounding.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(|error| failed("rights", &error))?;
        }
    }
    let groups: Vec<_> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if keeps_right {
        prctl::set_keepcaps(true).map_err(problem("rights"))?;
    }
    setgroups(&groups).map_err(problem("the user's groups"))?;
    setresgid(gid, gid, gid).map_err(problem("the user's group"))?;
    // Takes all rights away, unless it is user 0 or they are kept.
    setresuid(uid, uid, uid).map_err(problem("the user"))?;
    if uid.is_root() || keeps_right {
        let mut held = if uid.is_root() { bounding } else { CapsHashSet::new() };
        held.extend(keeps_right.then_some(Capability::CAP_SYS_ADMIN));
        for (set, value) in [
            (CapSet::Inheritable, &CapsHashSet::new()),
            (CapSet::Effective, &held),
            (CapSet::Permitted, &held),
        ] {
            caps::set(None, set, value).map_err(|error| failed("rights", &error))?;
        }
    }
    if process["noNewPrivileges"] == true {
        prctl::set_no_new_privs().map_err(problem("rights"))?;
    }
    // The keeper's end is the program's; after the change of user, which would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(problem("a death signal"))?;
    Ok(())
}

fn capabilities(process: &serde_json::Value) -> CapsHashSet {
    let names = process["capabilities"]["bounding"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(|name| name.as_str()?.parse::<Capability>().ok()).collect()
}
