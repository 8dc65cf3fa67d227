//! Signals that end a command which has something to put right before.
//!
//! Owns: which they are, and the exit code. Does not own: those of servers, which end in order (`commands::server`).

use anyhow::{Context as _, Result};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP, which no longer end this process by themselves.
pub struct EndingSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl EndingSignals {
    /// Takes them from now on.
    ///
    /// # Errors
    /// If the system does not let them be listened to.
    pub fn listen() -> Result<EndingSignals> {
        let listen = |kind| signal(kind).context("signals can't be listened to");
        Ok(EndingSignals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Resolves when one of them comes, with what a shell makes of a process that it ended.
    pub async fn received(&mut self) -> ExitCode {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
        };
        ExitCode::from(u8::try_from(128 + kind.as_raw_value()).unwrap_or(u8::MAX))
    }
}
