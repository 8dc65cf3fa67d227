//! From a payload's pipes, or its terminal, to its log and to the clients of its streams, in the shim.
//!
//! Owns: both pipes, the thread that copies. Does not own: formatting, files (`logs`), who is a client (`streams`).
//!
//! A disk may hang for as long as it likes; the shim must kill in time all the same. So whoever writes is a thread of its own,
//! which is made when there is output for the first time: a container that says nothing costs none. A payload whose log hangs
//! waits at its pipe. A client that does not read is waited for a while, and then let go: nothing of a client is kept here.
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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    changes: Mutex<Changes>,
}

/// Clients that the copying thread does not know of yet. Locked for a moment only, whatever the thread waits for.
#[derive(Default)]
struct Changes {
    come: Vec<Sink>,
    gone: Vec<u32>,
}

/// Where a client's output goes.
pub(super) struct Sink {
    number: u32,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Output {
    /// Pipes for a payload whose output goes to `log`, with the payload's ends of standard output and standard error.
    pub fn of_pipes(log: LogWriter) -> Result<(Output, OwnedFd, OwnedFd), Errno> {
        let (out, stdout) = output_pipe()?;
        let (err, stderr) = output_pipe()?;
        let pipes = vec![Pipe::new(out, Stream::Stdout), Pipe::new(err, Stream::Stderr)];
        Ok((Output::new(pipes, log)?, stdout, stderr))
    }

    /// The same, for a payload with a terminal, of which this is the shim's end. It doesn't block.
    pub fn of_terminal(end: OwnedFd, log: LogWriter) -> Result<Output, Errno> {
        Output::new(vec![Pipe { is_terminal: true, ..Pipe::new(end, Stream::Stdout) }], log)
    }

    fn new(pipes: Vec<Pipe>, log: LogWriter) -> Result<Output, Errno> {
        let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let shared = Arc::new(Shared {
            news: event()?,
            finished: event()?,
            ended: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            dropped_bytes: AtomicU64::new(0),
            changes: Mutex::default(),
        });
        let copier = Some(Copier { pipes, log, sinks: Vec::new(), shared: shared.clone() });
        Ok(Output { copier, thread: None, shared })
    }

    /// A client gets all output that is read from now on.
    pub fn attach(&mut self, sink: Sink) {
        self.shared.changes().come.push(sink);
        let _ = self.shared.news.write(1);
    }

    /// A client is gone.
    pub fn detach(&mut self, number: u32) {
        {
            let mut changes = self.shared.changes();
            match changes.come.iter().position(|sink| sink.number == number) {
                Some(at) => drop(changes.come.swap_remove(at)),
                // Else the thread has it, if there is one.
                None if self.copier.is_none() => changes.gone.push(number),
                None => {}
            }
        }
        let _ = self.shared.news.write(1);
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
        if self.copier.is_some() {
            // Nothing was written, and clients are to find the end of it.
            *self.shared.changes() = Changes::default();
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

impl Shared {
    fn changes(&self) -> MutexGuard<'_, Changes> {
        // Lists are whole after any panic.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies output to the log, and to clients.
struct Copier {
    pipes: Vec<Pipe>,
    log: LogWriter,
    sinks: Vec<Sink>,
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
                // In a terminal something may be on its way still, and it may be opened again.
                has_any |= pipe.is_terminal;
                pipe.open = pipe.is_terminal;
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
                // Whether a terminal that nobody has open is opened again is not told.
                None if self.pipes.iter().any(|pipe| pipe.is_terminal && !pipe.open) => {
                    PollTimeout::from(u16::try_from(limits::LOG_PARTIAL_MS).unwrap_or(u16::MAX))
                }
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
            self.take_changes();
            if self.shared.discarded.load(Ordering::SeqCst) {
                self.log.discard();
            }
            // Before the pipes: what comes after the end is read below.
            let has_ended = self.shared.ended.load(Ordering::SeqCst);
            for at in 0..self.pipes.len() {
                self.read(at);
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
        for at in 0..self.pipes.len() {
            let mut left = limits::OUTPUT_DRAIN_BYTES_MAX;
            let mut is_last_look = !self.pipes[at].is_terminal;
            while left > 0 {
                let count = self.read(at);
                if count > 0 {
                    left = left.saturating_sub(count);
                } else if std::mem::replace(&mut is_last_look, true) {
                    break;
                } else {
                    std::thread::sleep(limits::TERMINAL_SECOND_LOOK);
                }
            }
        }
        // That was all of it for clients, who need not wait for the disk.
        self.take_changes();
        self.sinks.clear();
        self.log.flush_unfinished_lines(SystemTime::now());
        self.log.write();
        self.log.sync();
        self.shared.dropped_bytes.store(self.log.dropped_bytes(), Ordering::SeqCst);
        let _ = self.shared.finished.write(1);
    }

    /// Reads what is there of one pipe, up to a buffer's size, and writes it; 0 if there is nothing.
    fn read(&mut self, at: usize) -> usize {
        let pipe = &mut self.pipes[at];
        if !pipe.open && !pipe.is_terminal {
            return 0;
        }
        // Made anew each time: a container that is quiet for hours shall hold nothing meanwhile.
        let mut buffer = vec![0; limits::OUTPUT_READ_BYTES_MAX];
        let count = match sys::retry(|| nix::unistd::read(&pipe.end, &mut buffer)) {
            Err(Errno::EAGAIN) => 0,
            Ok(0) | Err(_) => {
                pipe.open = false;
                return 0;
            }
            Ok(count) => count,
        };
        pipe.open = true;
        let stream = pipe.stream;
        // After the read: whoever has written something before this was answered is a client by now.
        self.take_changes();
        // Entries of short lines are many times as long as the lines.
        for part in buffer[..count].chunks(limits::OUTPUT_WRITE_BYTES_MAX) {
            self.log.append(stream, part, SystemTime::now());
            self.log.write();
        }
        self.sinks.retain(|sink| sink.write(stream, &buffer[..count]));
        count
    }

    fn take_changes(&mut self) {
        let Changes { come, gone } = std::mem::take(&mut *self.shared.changes());
        self.sinks.retain(|sink| !gone.contains(&sink.number));
        self.sinks.extend(come);
    }
}

impl Sink {
    /// Of the client's ends of two pipes.
    pub fn new(number: u32, stdout: OwnedFd, stderr: OwnedFd) -> Result<Sink, Errno> {
        for end in [&stdout, &stderr] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Sink { number, stdout, stderr })
    }

    /// Writes all of it; false if the client is gone, or takes nothing for too long.
    fn write(&self, stream: Stream, mut bytes: &[u8]) -> bool {
        let end = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        let patience = PollTimeout::from(u16::try_from(limits::ATTACH_PATIENCE_MS).unwrap_or(u16::MAX));
        while !bytes.is_empty() {
            match sys::retry(|| nix::unistd::write(end, bytes)) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN) => {
                    let mut watched = [PollFd::new(end.as_fd(), PollFlags::POLLOUT)];
                    if sys::retry(|| poll(&mut watched, patience)) != Ok(1) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// The shim's end of a pipe, or of a terminal.
struct Pipe {
    end: OwnedFd,
    stream: Stream,
    /// Somebody has the other end open.
    open: bool,
    is_terminal: bool,
}

impl Pipe {
    fn new(end: OwnedFd, stream: Stream) -> Pipe {
        Pipe { end, stream, open: true, is_terminal: false }
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
