//! From a copy of the shim to the main process of a container with a root of its own.
//!
//! Owns: the steps around libcontainer, which makes the namespaces, mounts and rights of a container and forks twice on the
//! way, so that it must never run in a process with threads. Does not own: what is asked for (`oci`).
//!
//! The copy, the *launcher*, has a mount namespace of its own, in which the container's layers are put together: when the last
//! process of the container is gone, so is the mount, whoever was killed. The main process is a child of the launcher first and
//! the shim's when the launcher has ended. It is the init of a PID namespace below that of the shim.

mod join;
mod overlay;
mod program;
mod sources;
mod users;

pub(super) use join::join;

use super::confine;
use super::inherited;
use super::messages::{NotExecuted, Stage};
use super::payload::Stdio;
use super::sys;
use crate::oci::launch::Launch;
use crate::payload::Payload;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::write;
use pathrs::Root;
use program::Program;
use serde_json::json;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// What libcontainer calls the container, in a folder of its own.
const NAME: &str = "container";

/// What a payload with a root of its own is made of.
pub(super) fn launch_of(payload: &Payload) -> Option<Launch> {
    // Written by an agent of the same wire.
    if payload.launch.is_empty() { None } else { serde_json::from_slice(&payload.launch).ok() }
}

/// Makes the container and starts its program. `main` is told its process id, as an `i32`, before anything of it runs; a
/// failure is told through `reporter`, which the program's process closes.
pub(super) fn launch_and_exit(
    payload: &Payload,
    launch: &Launch,
    stdio: &Stdio<'_>,
    reporter: OwnedFd,
    main: &OwnedFd,
) -> ! {
    let reporter = Arc::new(reporter);
    match make(payload, launch, stdio, &reporter, main) {
        Ok(()) => sys::exit_now(0),
        Err(why) => {
            let _ = write(reporter.as_fd(), &why.encode());
            sys::exit_now(super::payload::exit_code(why.stage, why.errno))
        }
    }
}

fn make(
    payload: &Payload,
    launch: &Launch,
    stdio: &Stdio<'_>,
    reporter: &Arc<OwnedFd>,
    main: &OwnedFd,
) -> Result<(), NotExecuted> {
    // Before anything of the container is: all of it comes from here.
    inherited::give_up();
    prepare_namespace()?;
    for folder in [launch.upper(), launch.work(), launch.state()] {
        remove_folder(&folder)?;
    }
    for folder in [&launch.directory, &launch.root(), &launch.upper(), &launch.work(), &launch.state()] {
        make_folder(folder)?;
    }
    overlay::mount(launch)?;
    let root = Root::open(launch.root()).map_err(|error| failed("the container's root", &error))?;
    let user = users::find(&root, &launch.user).map_err(refused)?;
    let mut payload = payload.clone();
    if !payload.environment.iter().any(|entry| entry.starts_with(b"HOME=")) {
        payload.environment.push(format!("HOME={}", user.home).into_bytes());
    }
    let mut config = launch.config.clone();
    config["process"]["user"] = json!({"uid": user.uid, "gid": user.gid, "additionalGids": user.groups});
    make_working_folder(&root, &config)?;
    make_volumes(&root, launch)?;
    sources::hold(launch, &mut config)?;
    drop(root);
    std::fs::write(launch.directory.join("config.json"), config.to_string())
        .map_err(|error| failed("the container's config", &error))?;
    let duplicate = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
    let streams = [duplicate(stdio.stdin), duplicate(stdio.stdout), duplicate(stdio.stderr)];
    let [Ok(stdin), Ok(stdout), Ok(stderr)] = streams else {
        return Err((Stage::Fork, Errno::EMFILE).into());
    };
    confine::give_streams([stdio.stdin, stdio.stdout, stdio.stderr], user.uid, user.gid);
    let program =
        Program { payload: Arc::new(payload), reporter: reporter.clone(), terminal: stdio.terminal };
    let making = |error| failed("the container can't be made", &error);
    let mut container = ContainerBuilder::new(NAME.to_owned(), SyscallType::default())
        .with_root_path(launch.state())
        .map_err(making)?
        .with_executor(program)
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .as_init(&launch.directory)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(making)?;
    let pid: i32 = container.pid().map_or(0, |pid| pid.as_raw());
    // The shim is there, or nothing matters any more.
    let _ = write(main.as_fd(), &pid.to_ne_bytes());
    container.start().map_err(|error| failed("the container can't be started", &error))
}

/// Mounts of this process stay its own, and `/proc` tells of the shim's PID namespace.
fn prepare_namespace() -> Result<(), NotExecuted> {
    let failed = |errno| NotExecuted { stage: Stage::Container, errno, text: "a mount namespace".to_owned() };
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(failed)
}

fn make_folder(path: &Path) -> Result<(), NotExecuted> {
    let mode = if path.ends_with("upper") { 0o755 } else { 0o700 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| failed("the container's folder", &error))
}

/// An earlier try at the same run has left it, which came too late for the lease or whose shim was killed. Nothing of it is left
/// that could still use it.
fn remove_folder(path: &Path) -> Result<(), NotExecuted> {
    crate::remove_tree(path).map_err(|error| failed("what an earlier try has left", &error))
}

/// Images name working folders that they do not have.
fn make_working_folder(root: &Root, config: &serde_json::Value) -> Result<(), NotExecuted> {
    use std::os::unix::fs::PermissionsExt;
    let Some(path) = config["process"]["cwd"].as_str() else { return Ok(()) };
    match root.mkdir_all(path, &PermissionsExt::from_mode(0o755)) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(format!(
            "workingDir {path:?} can't be used, which must be a folder of the container's or be possible to make as one: {}",
            innermost(&error)
        ))),
    }
}

/// Images name folders for data that they do not have, and engines make them.
fn make_volumes(root: &Root, launch: &Launch) -> Result<(), NotExecuted> {
    use std::os::unix::fs::PermissionsExt;
    for path in &launch.volumes {
        root.mkdir_all(path, &PermissionsExt::from_mode(0o755)).map_err(|error| {
            refused(format!("VOLUME {path:?} of the image can't be made: {}", innermost(&error)))
        })?;
    }
    Ok(())
}

/// The last reason of an error: those before it name folders of the node.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

/// With every reason below the error.
fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> NotExecuted {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    refused(text)
}

fn refused(text: String) -> NotExecuted {
    NotExecuted { stage: Stage::Container, errno: Errno::UnknownErrno, text }
}
