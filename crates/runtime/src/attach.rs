//! Conversations with a container's own program, over the streams that it was started with.
//!
//! Owns: the types. Does not own: any way of reaching those streams.

use crate::{ExecInput, ExecOutput, TerminalSize};
use std::any::Any;
use std::fmt;

/// What is wanted of a container's streams. Its output from now on always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachSpec {
    /// Something is to be written to it.
    pub stdin: bool,
    /// Its terminal is looked at by one of this size. It must have a terminal then.
    pub terminal: Option<TerminalSize>,
}

/// One client of a container's streams, of which there may be several: each gets all output, and what they write comes as it
/// comes. Dropping it detaches; the container goes on, but for what [`StreamsSpec::stdin_once`](crate::StreamsSpec) says.
pub struct AttachSession {
    /// Its standard input, if that was wanted. Ending it ends the container's own only as `stdin_once` says.
    pub stdin: Option<ExecInput>,
    /// Its standard output, or its terminal, from now until the end of the container. What is not read holds the container up,
    /// but not for ever: a client that takes nothing for a while is let go, and finds its streams at an end.
    pub stdout: ExecOutput,
    /// Its standard error; none with a terminal.
    pub stderr: Option<ExecOutput>,
    /// Dropping this detaches.
    pub control: AttachControl,
}

/// What keeps a client attached, and changes what it looks at.
pub struct AttachControl {
    resize: Box<dyn Fn(TerminalSize) + Send + Sync>,
    /// Detaches when it is dropped.
    _client: Box<dyn Any + Send + Sync>,
}

impl AttachSession {
    /// Of streams, with what changes the terminal's size and what is dropped last.
    pub(crate) fn new(
        stdin: Option<ExecInput>,
        stdout: ExecOutput,
        stderr: Option<ExecOutput>,
        resize: impl Fn(TerminalSize) + Send + Sync + 'static,
        client: impl Any + Send + Sync,
    ) -> AttachSession {
        let control = AttachControl { resize: Box::new(resize), _client: Box::new(client) };
        AttachSession { stdin, stdout, stderr, control }
    }
}

impl AttachControl {
    /// The terminal has another size: the last one that any client says counts. Does nothing without a terminal.
    pub fn resize(&self, size: TerminalSize) {
        (self.resize)(size);
    }
}

impl fmt::Debug for AttachSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AttachSession").finish_non_exhaustive()
    }
}

/// Why a container's streams can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachRefusal {
    /// It was started without standard input.
    NoStdin,
    /// Its standard input was to be for one client, which has come and gone.
    StdinClosed,
    /// It was started without a terminal.
    NoTerminal,
    /// As many clients as there may be have it already.
    TooMany,
    /// The one who looks after it could not do its part.
    Failed,
}

impl fmt::Display for AttachRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            AttachRefusal::NoStdin => "it has no stdin: set stdin: true in its template",
            AttachRefusal::StdinClosed => {
                "its stdin is closed: it was for one client (stdinOnce), which has come and gone"
            }
            AttachRefusal::NoTerminal => "it has no terminal: set tty: true in its template",
            AttachRefusal::TooMany => "as many clients as there may be are attached to it already",
            AttachRefusal::Failed => "its streams can't be reached at the moment: try again",
        })
    }
}
