//! From a payload's pipes to its log.
//!
//! Owns: reading both pipes until the container has ended. Does not own: formatting, files (`logs`).
//!
//! Invariant: holds at most one read's worth of output plus one unfinished line per stream, and nothing while idle.

use crate::shim::sys;
use crate::{LogWriter, Stream, limits};
use std::cell::RefCell;
use std::time::{Duration, SystemTime};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Copies output to the log until the container has `ended` and all of it was read; returns the bytes that the disk
/// refused.
pub(super) async fn copy_output(
    stdout: Receiver,
    stderr: Receiver,
    mut log: LogWriter,
    mut ended: oneshot::Receiver<()>,
) -> u64 {
    let mut pipes = [Pipe::new(stdout, Stream::Stdout), Pipe::new(stderr, Stream::Stderr)];
    // When a line that goes on without an end is written, however often more of it comes.
    let mut partial_due: Option<Instant> = None;
    loop {
        let [out, err] = &pipes;
        if !log.has_unfinished_line() {
            partial_due = None;
        } else if partial_due.is_none() {
            partial_due = Some(Instant::now() + Duration::from_millis(limits::LOG_PARTIAL_MS));
        }
        let due = partial_due.unwrap_or_else(Instant::now);
        tokio::select! {
            // Either side of the channel ending means that the container has.
            _ = &mut ended => break,
            () = out.readable() => {}
            () = err.readable() => {}
            () = tokio::time::sleep_until(due), if partial_due.is_some() => {
                log.flush_unfinished_lines(SystemTime::now());
            }
        }
        for pipe in &mut pipes {
            pipe.read_some(&mut log);
        }
        log.write().await;
    }
    // All who wrote are dead, so what they wrote is in the pipes now. A descriptor that was passed to a stranger may go
    // on being written to: that is bounded, and not waited for.
    for pipe in &mut pipes {
        let mut left = limits::OUTPUT_DRAIN_BYTES_MAX;
        while left > 0 {
            let count = pipe.read_rest(&mut log);
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
            log.write().await;
        }
    }
    log.flush_unfinished_lines(SystemTime::now());
    log.write().await;
    log.dropped_bytes()
}

/// One end of a pipe.
struct Pipe {
    receiver: Receiver,
    stream: Stream,
    open: bool,
}

thread_local! {
    /// Shared by all containers of a thread: output is taken over before the thread does anything else.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::OUTPUT_READ_BYTES_MAX]);
}

impl Pipe {
    fn new(receiver: Receiver, stream: Stream) -> Pipe {
        Pipe { receiver, stream, open: true }
    }

    /// Resolves when there may be something to read; never after the pipe's end.
    async fn readable(&self) {
        // An error is found by the read that follows.
        if !self.open || self.receiver.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads what the async runtime knows to be there, up to a buffer's size.
    fn read_some(&mut self, log: &mut LogWriter) -> usize {
        self.read_by(log, |receiver, buffer| receiver.try_read(buffer))
    }

    /// Reads what is there, whether or not the async runtime has heard of it yet; 0 if there is nothing.
    fn read_rest(&mut self, log: &mut LogWriter) -> usize {
        self.read_by(log, |receiver, buffer| Ok(sys::retry(|| nix::unistd::read(receiver, buffer))?))
    }

    fn read_by(
        &mut self,
        log: &mut LogWriter,
        read: impl FnOnce(&Receiver, &mut [u8]) -> std::io::Result<usize>,
    ) -> usize {
        if !self.open {
            return 0;
        }
        BUFFER.with_borrow_mut(|buffer| match read(&self.receiver, buffer) {
            Ok(count) if count > 0 => {
                log.append(self.stream, &buffer[..count], SystemTime::now());
                count
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            _ => {
                self.open = false;
                0
            }
        })
    }
}
