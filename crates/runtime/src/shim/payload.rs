//! The last steps from a copy of the shim to the payload's program.
//!
//! Owns: what a payload inherits, and finding its program. Does not own: the environment's content (`payload` of the
//! crate), what it is confined to (`confine`).
//!
//! A payload gets: its own session, `/dev/null` or a pipe as stdin, pipes as stdout and stderr, or a terminal as all three, and no
//! other descriptor, no blocked
//! and no ignored signal, umask 022, the limits that the agent was started with, no core dumps, and nothing of the agent's
//! standing on its host (`inherited`). A further program in its container gets the same but for its streams.

use super::confine::Failure;
use super::inherited;
use super::messages::{Isolation, NotExecuted, Stage};
use super::sys;
use crate::payload::Payload;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, getppid, setsid};
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What a program reads and writes.
pub(super) struct Stdio<'a> {
    pub stdin: BorrowedFd<'a>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// All three are a terminal, which is to be the one of the program's session.
    pub terminal: bool,
}

impl Stdio<'_> {
    /// Closes everything but these and what is given, in a copy of the shim. Nothing of the shim's may be open in a process that
    /// others in the container can see, nor be reached by a working folder such as `/proc/self/fd/7`.
    pub fn close_all_but(&self, further: &[BorrowedFd<'_>]) {
        sys::close_descriptors_but(&[&[self.stdin, self.stdout, self.stderr], further].concat());
    }
}

impl From<Failure> for NotExecuted {
    fn from(failure: Failure) -> NotExecuted {
        NotExecuted { stage: Stage::Confinement, errno: failure.errno, text: failure.what }
    }
}

/// Turns this process into the program; returns only if that failed. `inside` is a pidfd of the container's main process, if
/// this is a further program of it.
pub(super) fn execute(
    payload: &Payload,
    stdio: &Stdio<'_>,
    isolation: Isolation,
    shim: Pid,
    inside: Option<BorrowedFd<'_>>,
) -> NotExecuted {
    match try_execute(payload, stdio, isolation, shim, inside) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

/// The exit code of a payload that never ran, as shells and container engines have it.
pub(super) fn exit_code(stage: Stage, errno: Errno) -> i32 {
    match (stage, errno) {
        (Stage::Exec, Errno::ENOENT) => 127,
        (Stage::Exec, _) => 126,
        _ => 128,
    }
}

fn try_execute(
    payload: &Payload,
    stdio: &Stdio<'_>,
    isolation: Isolation,
    shim: Pid,
    inside: Option<BorrowedFd<'_>>,
) -> Result<std::convert::Infallible, NotExecuted> {
    let exec = |errno| (Stage::Exec, errno);
    setsid().map_err(exec)?;
    inherited::give_up();
    let confinement = &payload.confinement;
    if confinement.view.is_none() {
        // Without a view of its own, folders above may be closed to the payload's user.
        enter_home(payload)?;
    }
    confinement.give_streams([stdio.stdin, stdio.stdout, stdio.stderr]);
    match inside {
        Some(main) => confinement.join(main)?,
        None => confinement.enter()?,
    }
    if isolation == Isolation::Degraded {
        // The shim's death would not be ours otherwise. A change of the user would have undone it.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(exec)?;
        if getppid() != shim {
            sys::exit_now(128 + Signal::SIGKILL as i32);
        }
    }
    if confinement.view.is_some() {
        enter_home(payload)?;
    }
    let working = |errno| (Stage::WorkingDirectory, errno);
    if !payload.working_directory.is_empty() {
        chdir(payload.working_directory.as_slice()).map_err(working)?;
    }
    dup2_stdin(stdio.stdin).map_err(exec)?;
    dup2_stdout(stdio.stdout).map_err(exec)?;
    dup2_stderr(stdio.stderr).map_err(exec)?;
    if stdio.terminal {
        sys::make_controlling_terminal().map_err(exec)?;
    }
    sys::close_descriptors_on_exec();
    Err(execute_program(payload))
}

/// The last steps, for a process that has everything else already.
pub(super) fn execute_program(payload: &Payload) -> NotExecuted {
    match try_execute_program(payload) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_execute_program(payload: &Payload) -> Result<std::convert::Infallible, NotExecuted> {
    let exec = |errno| (Stage::Exec, errno);
    let arguments = c_strings(&payload.arguments).map_err(exec)?;
    let environment = c_strings(&payload.environment).map_err(exec)?;
    let candidates = candidates(payload).map_err(exec)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(exec)?;
    check_start_deadline(payload)?;
    payload.confinement.filter()?;
    // As execvp does it: one that may not be executed is remembered, and the search goes on.
    let mut failure = Errno::ENOENT;
    for candidate in candidates {
        let Err(errno) = execve(&candidate, &arguments, &environment);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => failure = errno,
            _ => return Err(exec(errno).into()),
        }
    }
    Err(exec(failure).into())
}

fn enter_home(payload: &Payload) -> Result<(), NotExecuted> {
    chdir(payload.home.as_slice()).map_err(|errno| NotExecuted {
        stage: Stage::Confinement,
        errno,
        text: "the Pod's working folder can't be used".to_owned(),
    })
}

/// A9: the last look before the program is executed.
fn check_start_deadline(payload: &Payload) -> Result<(), (Stage, Errno)> {
    let late = |errno| (Stage::StartDeadline, errno);
    let Some(start_before) = payload.start_before else { return Ok(()) };
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(late)?);
    if now >= Duration::from_nanos(start_before) { Err(late(Errno::ETIME)) } else { Ok(()) }
}

/// Paths that may be the program: itself if it has a `/`, else below each part of the payload's own `PATH`.
fn candidates(payload: &Payload) -> Result<Vec<CString>, Errno> {
    let program = payload.arguments.first().map(Vec::as_slice).unwrap_or_default();
    if program.is_empty() {
        return Ok(Vec::new());
    }
    if program.contains(&b'/') {
        return c_strings(&[program.to_vec()]);
    }
    let path =
        payload.environment.iter().find_map(|variable| variable.strip_prefix(b"PATH=")).unwrap_or_default();
    let folders =
        path.split(|byte| *byte == b':').map(|folder| if folder.is_empty() { b"." } else { folder });
    c_strings(&folders.map(|folder| [folder, b"/", program].concat()).collect::<Vec<_>>())
}

fn c_strings(texts: &[Vec<u8>]) -> Result<Vec<CString>, Errno> {
    // Texts were checked for NUL bytes when the payload was made.
    texts.iter().map(|text| CString::new(text.as_slice()).map_err(|_| Errno::EINVAL)).collect()
}
