//! What a container's program is started with as its input and output, and who else holds the other ends.
//!
//! Owns: making the ends, which clients of them there are, when input ends. Does not own: where output goes (`output`), what
//! clients write: they get the shim's end of the input and write to it themselves, so that a program which does not read holds
//! up its clients and never the shim.
//!
//! The shim keeps its end of the input open for as long as the container runs, so that neither a client that goes nor an agent
//! that ends is an end of it.

use super::messages::Attach;
use super::output::{Output, Sink};
use super::sys;
use crate::{AttachRefusal, LogWriter, StreamsSpec, limits};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::unistd::pipe2;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The program's ends.
pub(super) struct PayloadEnds {
    /// None: `/dev/null`.
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// All three are this terminal.
    pub terminal: bool,
}

/// The input, and its clients.
pub(super) struct Clients {
    wanted: StreamsSpec,
    /// What writes to the program, or its terminal's other end; none once it is closed, or if there is none.
    end: Option<OwnedFd>,
    attached: Vec<Client>,
}

struct Client {
    number: u32,
    has_input: bool,
}

/// Makes all ends of a program whose output goes to `log`.
pub(super) fn make(wanted: StreamsSpec, log: LogWriter) -> Result<(Clients, Output, PayloadEnds), Errno> {
    let clients = |end| Clients { wanted, end, attached: Vec::new() };
    if wanted.terminal {
        let OpenptyResult { master, slave } = openpty(None, None)?;
        for end in [&master, &slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        let output = Output::of_terminal(copy(&master)?, log)?;
        let ends =
            PayloadEnds { stdin: Some(copy(&slave)?), stdout: copy(&slave)?, stderr: slave, terminal: true };
        return Ok((clients(Some(master)), output, ends));
    }
    let (output, stdout, stderr) = Output::of_pipes(log)?;
    let (stdin, end) = if wanted.stdin {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        // On this end only.
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        (Some(theirs), Some(ours))
    } else {
        (None, None)
    };
    Ok((clients(end), output, PayloadEnds { stdin, stdout, stderr, terminal: false }))
}

fn copy(end: &OwnedFd) -> Result<OwnedFd, Errno> {
    let raw = fcntl(end, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    Ok(sys::own(raw))
}

impl Clients {
    /// One more, if it can have what it wants: what it is to be given of the input, and whether that is a terminal.
    /// `descriptors`: where its output and its errors go.
    pub fn attach(
        &mut self,
        wanted: Attach,
        descriptors: Vec<OwnedFd>,
        output: &mut Output,
    ) -> Result<(Option<BorrowedFd<'_>>, bool), AttachRefusal> {
        let mut descriptors = descriptors.into_iter();
        let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) else {
            return Err(AttachRefusal::Failed);
        };
        if wanted.stdin && !self.wanted.stdin {
            return Err(AttachRefusal::NoStdin);
        }
        if wanted.stdin && self.end.is_none() {
            return Err(AttachRefusal::StdinClosed);
        }
        if wanted.terminal && !self.wanted.terminal {
            return Err(AttachRefusal::NoTerminal);
        }
        if self.attached.len() >= limits::ATTACHES_PER_CONTAINER_MAX {
            return Err(AttachRefusal::TooMany);
        }
        let sink = Sink::new(wanted.attach, stdout, stderr).map_err(|_| AttachRefusal::Failed)?;
        output.attach(sink);
        self.attached.push(Client { number: wanted.attach, has_input: wanted.stdin });
        let is_given = wanted.stdin || self.wanted.terminal;
        Ok((self.end.as_ref().filter(|_| is_given).map(AsFd::as_fd), self.wanted.terminal))
    }

    /// A client has ended its input; true if that was the end of it for all.
    pub fn end_input(&mut self, number: u32) -> bool {
        let mut clients = self.attached.iter_mut().filter(|client| client.number == number);
        let had_input = clients.any(|client| std::mem::take(&mut client.has_input));
        self.input_of_one_ended(had_input)
    }

    /// A client is gone; true if that was the end of the input for all.
    pub fn detach(&mut self, number: u32, output: &mut Output) -> bool {
        let Some(at) = self.attached.iter().position(|client| client.number == number) else { return false };
        let client = self.attached.swap_remove(at);
        output.detach(number);
        self.input_of_one_ended(client.has_input)
    }

    /// The agent is gone, and all clients were its.
    pub fn detach_all(&mut self, output: &mut Output) {
        while let Some(client) = self.attached.last() {
            self.detach(client.number, output);
        }
    }

    fn input_of_one_ended(&mut self, had_input: bool) -> bool {
        had_input && self.wanted.ends_with_client() && self.end.take().is_some()
    }
}
