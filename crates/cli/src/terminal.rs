//! The terminal that a command was started from.
//!
//! Owns: raw mode and its end, single keys, the size. Does not own: what goes through it.
//!
//! Invariant: a terminal that was made raw is as before when the command ends, whatever ends it but SIGKILL.

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::io::IsTerminal;
use stint_client::TerminalSize;
use tokio::sync::mpsc;

/// As POSIX's `_POSIX_VDISABLE`: no key does it.
const NO_KEY: u8 = 0;

/// The terminal of stdin in raw mode: every key comes at once and as it is, Ctrl-C too. Dropping it restores what was.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Makes it raw.
    pub fn enter() -> Result<RawTerminal> {
        RawTerminal::with(Termios::make_raw)
    }

    /// Only makes single keys come at once and unseen: Ctrl-C stays a signal, and output is as it was. Ctrl-Z and Ctrl-\ are
    /// keys without a meaning: as signals they would leave the terminal so.
    fn enter_for_keys() -> Result<RawTerminal> {
        RawTerminal::with(|modes| {
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            modes.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
            modes.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
        })
    }

    fn with(change: impl FnOnce(&mut Termios)) -> Result<RawTerminal> {
        let before = termios::tcgetattr(rustix::stdio::stdin()).context("the terminal can't be asked")?;
        let mut changed = before.clone();
        change(&mut changed);
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &changed)
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

/// Single keys of the terminal of stdin, which come at once and are not seen.
#[derive(Debug)]
pub struct Keys {
    typed: mpsc::Receiver<u8>,
    _terminal: RawTerminal,
}

impl Keys {
    /// Takes keys until it is dropped.
    pub fn listen() -> Result<Keys> {
        /// How long a key may be taken after nobody wants it any more.
        const PATIENCE_MS: u16 = 50;
        let terminal = RawTerminal::enter_for_keys()?;
        let (sender, typed) = mpsc::channel(1);
        // A thread: whoever reads a terminal waits, and nothing ends that wait from outside.
        std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || {
                while !sender.is_closed() {
                    let stdin = rustix::stdio::stdin();
                    let mut watched = [PollFd::new(stdin, PollFlags::POLLIN)];
                    let mut key = [0];
                    match poll(&mut watched, PollTimeout::from(PATIENCE_MS)) {
                        Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                        Ok(_) if matches!(rustix::io::read(stdin, &mut key), Ok(1)) => {}
                        // The terminal is gone.
                        _ => return,
                    }
                    if sender.blocking_send(key[0]).is_err() {
                        return;
                    }
                }
            })
            .context("keys can't be waited for")?;
        Ok(Keys { typed, _terminal: terminal })
    }

    /// The next byte that is typed; None if the terminal is gone. May be given up and called again.
    pub async fn next(&mut self) -> Option<u8> {
        self.typed.recv().await
    }
}

/// True if stdin is a terminal.
pub fn is_stdin() -> bool {
    std::io::stdin().is_terminal()
}

/// True if somebody can be asked something, and can see the question.
pub fn can_ask() -> bool {
    is_stdin() && std::io::stderr().is_terminal()
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
