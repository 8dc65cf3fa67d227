//! Further programs in a container that runs: probes, hooks, what people look around with.
//!
//! Owns: the traits and types. Does not own: any way of running them.

use crate::{BoxFuture, ContainerId, Error, limits};
use tokio::io::{AsyncRead, AsyncWrite};

/// A program to run inside a container. `$(VAR)` is not expanded in it, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Besides the container's own environment; replaces entries of the same name.
    pub env: Vec<(String, String)>,
    /// A terminal of this size; standard error is part of standard output then.
    pub terminal: Option<TerminalSize>,
    /// Something is to be written to it; else it reads nothing.
    pub stdin: bool,
    /// Its output is read; else it goes nowhere.
    pub stdout: bool,
    /// Its errors are read; else they go nowhere. Nothing of its own with a terminal.
    pub stderr: bool,
}

impl ExecSpec {
    /// Refuses what no program can be given.
    pub(crate) fn check(&self, id: &ContainerId) -> Result<(), Error> {
        if self.command.is_empty() {
            let message = "no command is given".to_owned();
            return Err(Error::ExecStart { container: id.to_string(), exit_code: 127, message });
        }
        let texts = self.env.iter().flat_map(|(name, value)| [name, value]).chain(&self.command);
        let mut bytes = 0;
        for text in texts {
            bytes += text.len();
            if text.contains('\0') {
                let shown: String = text.chars().take(limits::SHOWN_PROGRAM_CHARS_MAX).collect();
                return Err(Error::Unrepresentable {
                    container: id.container_name().to_owned(),
                    what: format!("a command to run in it, {shown:?},"),
                    problem: "contains a NUL byte",
                });
            }
        }
        if bytes > limits::SPEC_BYTES_MAX {
            return Err(Error::SpecTooLarge { container: id.container_name().to_owned(), bytes });
        }
        Ok(())
    }
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What is written to a program.
pub type ExecInput = Box<dyn AsyncWrite + Send + Unpin>;

/// What is read of a program. Nothing more comes after the end of the program, except from processes that it left behind.
pub type ExecOutput = Box<dyn AsyncRead + Send + Unpin>;

/// A program that runs inside a container. Dropping it kills the program and what it started in its own session.
pub trait ExecSession: Send + Sync + 'static {
    /// Its standard input, once; dropping that ends it, except for a terminal.
    fn stdin(&mut self) -> Option<ExecInput>;

    /// Its standard output, once. What is not read holds the program up.
    fn stdout(&mut self) -> Option<ExecOutput>;

    /// Its standard error, once; none with a terminal.
    fn stderr(&mut self) -> Option<ExecOutput>;

    /// The terminal has another size. Does nothing without a terminal.
    fn resize(&self, size: TerminalSize);

    /// Kills it.
    fn kill(&self);

    /// Resolves when it has ended, with its exit code: 0–255; 128 + n if signal n ended it; 137 also if the container ended
    /// before. May be called often.
    fn wait(&self) -> BoxFuture<'_, i32>;
}
