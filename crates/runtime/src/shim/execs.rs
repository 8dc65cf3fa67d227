//! Further programs in a container, in the shim.
//!
//! Owns: starting them, knowing how they ended. Does not own: their streams, which lead to the agent directly.
//!
//! Each is a child of the shim in a session of its own, so it is in the container's namespaces and ends with the container. It
//! is reported over the connection that asked for it, and killed with that connection: nobody else could read it.

#[cfg(feature = "oci")]
use super::container;
use super::messages::{Exec, ExecStreams, Fact, Isolation, NotExecuted, Stage};
use super::payload::{self, Stdio};
use super::sys::{self, ChildEnd};
use crate::limits;
use crate::payload::Payload;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{ForkResult, Pid, pipe2, read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// All of a container's.
#[derive(Default)]
pub(super) struct Execs {
    running: Vec<Running>,
}

struct Running {
    /// Its number over the connection that asked for it; none once that is gone.
    number: Option<u32>,
    pid: Pid,
    /// Until it is known whether the program runs.
    result: Option<OwnedFd>,
}

/// What an exec is carried out in.
pub(super) struct Surroundings<'a> {
    pub payload: &'a Payload,
    pub isolation: Isolation,
    pub null: &'a OwnedFd,
    pub shim: Pid,
    /// The payload's main process, whose namespaces are joined.
    pub main: Pid,
}

impl Execs {
    /// Starts one; what is to be told at once, if it failed.
    pub fn begin(
        &mut self,
        exec: Exec,
        descriptors: Vec<OwnedFd>,
        around: &Surroundings<'_>,
    ) -> Option<Fact> {
        let number = exec.exec;
        let failed = |why: NotExecuted| Some(Fact::ExecFailed { exec: number, why });
        if self.running.len() >= limits::EXECS_PER_CONTAINER_MAX {
            let text = format!("{} programs run in the container besides its own", self.running.len());
            return failed(NotExecuted { stage: Stage::Fork, errno: Errno::EAGAIN, text });
        }
        let Some(streams) = Streams::of(exec.streams, descriptors) else {
            return failed((Stage::Fork, Errno::EBADF).into());
        };
        let (result, reporter) = match pipe2(OFlag::O_CLOEXEC) {
            Ok(pipe) => pipe,
            Err(errno) => return failed((Stage::Fork, errno).into()),
        };
        let main = sys::pidfd_open(around.main).ok();
        let payload = Payload {
            arguments: exec.arguments,
            environment: merged(&around.payload.environment, exec.environment),
            start_before: None,
            ..around.payload.clone()
        };
        match sys::fork() {
            Err(errno) => failed((Stage::Fork, errno).into()),
            Ok(ForkResult::Child) => {
                let stdio = streams.stdio(around.null.as_fd());
                let inside = main.as_ref().map(AsFd::as_fd);
                stdio.close_all_but(&[&[reporter.as_fd()], inside.as_slice()].concat());
                #[cfg(feature = "oci")]
                if let Some(launch) = container::launch_of(&payload) {
                    let why = container::join(&payload, &launch, &stdio, inside, reporter);
                    sys::exit_now(payload::exit_code(why.stage, why.errno))
                }
                let why = payload::execute(&payload, &stdio, around.isolation, around.shim, inside);
                let _ = nix::unistd::write(&reporter, &why.encode());
                sys::exit_now(payload::exit_code(why.stage, why.errno))
            }
            Ok(ForkResult::Parent { child }) => {
                self.running.push(Running { number: Some(number), pid: child, result: Some(result) });
                None
            }
        }
    }

    /// What is readable when a program runs, or never will.
    pub fn watched(&self) -> Vec<BorrowedFd<'_>> {
        self.running.iter().filter_map(|running| running.result.as_ref().map(AsFd::as_fd)).collect()
    }

    /// Some program may run now; what is to be told.
    pub fn attend(&mut self) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.running.retain_mut(|running| match running.outcome() {
            Some(fact) => {
                let runs = matches!(fact, Fact::ExecStarted { .. });
                facts.push(fact);
                runs
            }
            None => true,
        });
        facts
    }

    /// A child was reaped; what is to be told if it was one of these.
    pub fn ended(&mut self, pid: Pid, end: ChildEnd) -> Vec<Fact> {
        let Some(at) = self.running.iter().position(|running| running.pid == pid) else { return Vec::new() };
        let mut running = self.running.swap_remove(at);
        // Its end has closed its side of the pipe.
        let outcome = running.outcome();
        let was_executed = !matches!(outcome, Some(Fact::ExecFailed { .. }));
        let ended = running.number.filter(|_| was_executed).map(|exec| Fact::ExecEnded { exec, end });
        outcome.into_iter().chain(ended).collect()
    }

    /// Kills one and its session's first process group.
    pub fn kill(&self, number: u32) {
        self.running.iter().filter(|running| running.number == Some(number)).for_each(Running::kill);
    }

    /// Kills all: their agent is gone, and the next one numbers its own from the beginning.
    pub fn kill_all(&mut self) {
        for running in &mut self.running {
            running.number = None;
            running.result = None;
            running.kill();
        }
    }
}

impl Running {
    fn kill(&self) {
        // Not reaped yet, so both are still its own.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let _ = kill(self.pid, Signal::SIGKILL);
    }

    /// What the pipe says of its start, once; `None` if it has nothing to say yet, or has said it.
    fn outcome(&mut self) -> Option<Fact> {
        let result = self.result.as_ref()?;
        let mut watched = [nix::poll::PollFd::new(result.as_fd(), nix::poll::PollFlags::POLLIN)];
        if sys::retry(|| nix::poll::poll(&mut watched, nix::poll::PollTimeout::ZERO)) != Ok(1) {
            return None;
        }
        let (result, exec) = (self.result.take()?, self.number?);
        Some(match read_failure(&result) {
            Some(why) => Fact::ExecFailed { exec, why },
            None => Fact::ExecStarted { exec },
        })
    }
}

/// What the process that was to become a program has said about a failure; `None`: it has become it.
pub(super) fn read_failure(result: &OwnedFd) -> Option<NotExecuted> {
    let mut bytes = [0; NotExecuted::BYTES_MAX];
    match sys::retry(|| read(result, &mut bytes)) {
        Ok(count) if count > 0 => NotExecuted::decode(&bytes[..count]),
        _ => None,
    }
}

/// The streams of one program.
struct Streams {
    terminal: bool,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Streams {
    /// `None` if descriptors are missing.
    fn of(wanted: ExecStreams, descriptors: Vec<OwnedFd>) -> Option<Streams> {
        let mut descriptors = descriptors.into_iter();
        if wanted.terminal {
            let terminal = descriptors.next()?;
            return Some(Streams { terminal: true, stdin: Some(terminal), stdout: None, stderr: None });
        }
        let mut next = |is_wanted: bool| if is_wanted { descriptors.next().map(Some) } else { Some(None) };
        Some(Streams {
            terminal: false,
            stdin: next(wanted.stdin)?,
            stdout: next(wanted.stdout)?,
            stderr: next(wanted.stderr)?,
        })
    }

    fn stdio<'a>(&'a self, null: BorrowedFd<'a>) -> Stdio<'a> {
        let stdin = self.stdin.as_ref().map_or(null, AsFd::as_fd);
        let other = if self.terminal { stdin } else { null };
        Stdio {
            stdin,
            stdout: self.stdout.as_ref().map_or(other, AsFd::as_fd),
            stderr: self.stderr.as_ref().map_or(other, AsFd::as_fd),
            terminal: self.terminal,
        }
    }
}

/// An environment with further entries, which replace those of the same name.
fn merged(environment: &[Vec<u8>], further: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let name = |entry: &[u8]| entry.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    let names: Vec<_> = further.iter().map(|entry| name(entry)).collect();
    let kept = environment.iter().filter(|entry| !names.contains(&name(entry))).cloned();
    kept.chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_entries_of_an_environment_replace_those_of_the_same_name() {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
        let all = merged(&texts(&["A=1", "AB=2", "C=3=4"]), texts(&["A=9", "D=5", "C="]));
        assert_eq!(all, texts(&["AB=2", "A=9", "D=5", "C="]));
    }
}
