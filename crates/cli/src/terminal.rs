//! The terminal that a command was started from.
//!
//! Owns: raw mode and its end, the size. Does not own: what goes through it.
//!
//! Invariant: a terminal that was made raw is as before when the command ends, whatever ends it but SIGKILL.

use anyhow::{Context, Result};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::IsTerminal;
use stint_client::TerminalSize;

/// The terminal of stdin in raw mode: every key comes at once and as it is, Ctrl-C too. Dropping it restores what was.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Makes it raw.
    pub fn enter() -> Result<RawTerminal> {
        let before = termios::tcgetattr(rustix::stdio::stdin()).context("the terminal can't be asked")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)
            .context("the terminal can't be made raw")?;
        Ok(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // It is gone if this fails, with nobody to tell.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// True if stdin is a terminal.
pub fn is_stdin() -> bool {
    std::io::stdin().is_terminal()
}

/// Its size; the usual one if it has none.
pub fn size() -> TerminalSize {
    let known =
        termios::tcgetwinsize(rustix::stdio::stdin()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(TerminalSize { columns: 80, rows: 24 }, |size| TerminalSize {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}
