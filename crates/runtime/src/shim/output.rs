//! From a payload's pipes to its log, in the shim.
//!
//! Owns: both pipes, the thread that copies. Does not own: formatting, files (`logs`).
//!
//! A disk may hang for as long as it likes; the shim must kill in time all the same. So whoever writes is a thread of its own,
//! which is made when there is output for the first time: a container that says nothing costs none. A payload whose log hangs
//! waits at its pipe.
//!
//! Invariant: holds at most one read's worth of output plus one unfinished line per stream, and next to nothing while idle.

use super::sys;
use crate::{LogWriter, Stream, limits};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::pipe2;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// A payload's output.
pub(super) struct Output {
    copier: Option<Copier>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What both threads look at.
struct Shared {
    /// Said to the copying thread: look at `ended` and `discarded`.
    news: EventFd,
    /// Readable once everything is written.
    finished: EventFd,
    ended: AtomicBool,
    discarded: AtomicBool,
    dropped_bytes: AtomicU64,
}

/// The payload's ends of the pipes.
pub(super) struct PayloadEnds {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Output {
    /// Pipes for a payload whose output goes to `log`.
    pub fn new(log: LogWriter) -> Result<(Output, PayloadEnds), Errno> {
        let (out, stdout) = output_pipe()?;
        let (err, stderr) = output_pipe()?;
        let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let shared = Arc::new(Shared {
            news: event()?,
            finished: event()?,
            ended: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            dropped_bytes: AtomicU64::new(0),
        });
        let pipes = [Pipe::new(out, Stream::Stdout), Pipe::new(err, Stream::Stderr)];
        let copier = Some(Copier { pipes, log, shared: shared.clone() });
        Ok((Output { copier, thread: None, shared }, PayloadEnds { stdout, stderr }))
    }

    /// What is to be watched: the pipes until something comes, then the end of it all.
    pub fn watched(&self) -> Vec<BorrowedFd<'_>> {
        match &self.copier {
            Some(copier) => {
                copier.pipes.iter().filter(|pipe| pipe.open).map(|pipe| pipe.end.as_fd()).collect()
            }
            None => vec![self.shared.finished.as_fd()],
        }
    }

    /// Something watched is ready. Fails if the system refuses a thread: to be tried again.
    pub fn attend(&mut self) -> Result<(), ()> {
        let Some(copier) = &mut self.copier else { return Ok(()) };
        if !copier.has_any() {
            return Ok(());
        }
        let Some(copier) = self.copier.take() else { return Ok(()) };
        // A thread that is refused drops what it was given: it takes it out of here only once it runs.
        let handed = Arc::new(std::sync::Mutex::new(Some(copier)));
        let taken = handed.clone();
        let thread =
            std::thread::Builder::new().stack_size(limits::LOG_THREAD_STACK_BYTES).spawn(move || {
                let copier = taken.lock().ok().and_then(|mut copier| copier.take());
                if let Some(mut copier) = copier {
                    copier.copy();
                }
            });
        match thread {
            Ok(thread) => {
                self.thread = Some(thread);
                Ok(())
            }
            Err(_) => {
                self.copier = handed.lock().ok().and_then(|mut copier| copier.take());
                Err(())
            }
        }
    }

    /// Nobody of the container is left: what is in the pipes now is all there will be.
    pub fn end(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = self.shared.news.write(1);
        // Without output there is nothing to be waited for. With some, if no thread can be made, nothing but the log is left
        // to be waited for.
        if self.attend().is_err()
            && let Some(mut copier) = self.copier.take()
        {
            copier.copy();
        }
    }

    /// True once all output is written and flushed. To be asked after [`end`](Self::end).
    pub fn is_finished(&mut self) -> bool {
        match (&self.copier, &self.thread) {
            // Never anything to write.
            (Some(_), _) => true,
            (None, None) => true,
            (None, Some(_)) => {
                let is_finished = self.shared.finished.read().is_ok();
                if is_finished && let Some(thread) = self.thread.take() {
                    let _ = thread.join();
                }
                is_finished
            }
        }
    }

    /// The Pod's logs were deleted.
    pub fn discard(&mut self) {
        self.shared.discarded.store(true, Ordering::SeqCst);
        let _ = self.shared.news.write(1);
    }

    /// Bytes that the disk refused.
    pub fn dropped_bytes(&self) -> u64 {
        self.shared.dropped_bytes.load(Ordering::SeqCst)
    }
}

/// Copies output to the log.
struct Copier {
    pipes: [Pipe; 2],
    log: LogWriter,
    shared: Arc<Shared>,
}

impl Copier {
    /// Whether there is something to read, or the end of a pipe.
    fn has_any(&mut self) -> bool {
        let ready =
            ready(&self.pipes.iter().map(|pipe| pipe.end.as_fd()).collect::<Vec<_>>(), PollTimeout::ZERO);
        let mut has_any = false;
        for (pipe, events) in self.pipes.iter_mut().zip(ready) {
            has_any |= events.contains(PollFlags::POLLIN);
            // All writers are gone, and nothing is left in it.
            if events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN) {
                pipe.open = false;
            }
        }
        has_any
    }

    /// Copies until the container has ended and all of its output is written and flushed.
    fn copy(&mut self) {
        // When a line that goes on without an end is written, however often more of it comes.
        let mut partial_due: Option<Instant> = None;
        loop {
            let timeout = match partial_due {
                None => PollTimeout::NONE,
                Some(due) => {
                    let left = due.saturating_duration_since(Instant::now()).as_millis() + 1;
                    PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX))
                }
            };
            let mut watched = vec![self.shared.news.as_fd()];
            watched.extend(self.pipes.iter().filter(|pipe| pipe.open).map(|pipe| pipe.end.as_fd()));
            ready(&watched, timeout);
            let _ = self.shared.news.read();
            if self.shared.discarded.load(Ordering::SeqCst) {
                self.log.discard();
            }
            // Before the pipes: what comes after the end is read below.
            let has_ended = self.shared.ended.load(Ordering::SeqCst);
            for pipe in &mut self.pipes {
                pipe.read(&mut self.log);
            }
            if has_ended {
                break;
            }
            if !self.log.has_unfinished_line() {
                partial_due = None;
            } else if partial_due.is_none() {
                partial_due = Some(Instant::now() + Duration::from_millis(limits::LOG_PARTIAL_MS));
            } else if partial_due.is_some_and(|due| due <= Instant::now()) {
                self.log.flush_unfinished_lines(SystemTime::now());
                self.log.write();
                partial_due = None;
            }
        }
        // All who wrote are dead, so what they wrote is in the pipes now. A descriptor that was passed to a stranger may go
        // on being written to: that is bounded, and not waited for.
        for pipe in &mut self.pipes {
            let mut left = limits::OUTPUT_DRAIN_BYTES_MAX;
            while left > 0 {
                let count = pipe.read(&mut self.log);
                if count == 0 {
                    break;
                }
                left = left.saturating_sub(count);
            }
        }
        self.log.flush_unfinished_lines(SystemTime::now());
        self.log.write();
        self.log.sync();
        self.shared.dropped_bytes.store(self.log.dropped_bytes(), Ordering::SeqCst);
        let _ = self.shared.finished.write(1);
    }
}

/// The shim's end of a pipe.
struct Pipe {
    end: OwnedFd,
    stream: Stream,
    open: bool,
}

impl Pipe {
    fn new(end: OwnedFd, stream: Stream) -> Pipe {
        Pipe { end, stream, open: true }
    }

    /// Reads what is there, up to a buffer's size, and writes it; 0 if there is nothing.
    fn read(&mut self, log: &mut LogWriter) -> usize {
        if !self.open {
            return 0;
        }
        // Made anew each time: a container that is quiet for hours shall hold nothing meanwhile.
        let mut buffer = vec![0; limits::OUTPUT_READ_BYTES_MAX];
        match sys::retry(|| nix::unistd::read(&self.end, &mut buffer)) {
            Ok(0) => {
                self.open = false;
                0
            }
            Ok(count) => {
                // Entries of short lines are many times as long as the lines.
                for part in buffer[..count].chunks(limits::OUTPUT_WRITE_BYTES_MAX) {
                    log.append(self.stream, part, SystemTime::now());
                    log.write();
                }
                count
            }
            Err(Errno::EAGAIN) => 0,
            Err(_) => {
                self.open = false;
                0
            }
        }
    }
}

/// A pipe for output: the shim's end never blocks, the payload's does, and neither survives an exec by accident.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, payloads) = pipe2(OFlag::O_CLOEXEC)?;
    // On this end only.
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, payloads))
}

/// What each of the descriptors is ready for, once one is or the time is up.
fn ready(descriptors: &[BorrowedFd<'_>], timeout: PollTimeout) -> Vec<PollFlags> {
    let mut watched: Vec<_> =
        descriptors.iter().map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN)).collect();
    let _ = sys::retry(|| poll(&mut watched, timeout));
    watched.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect()
}
