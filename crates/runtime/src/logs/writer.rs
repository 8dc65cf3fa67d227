//! Writing logs.
//!
//! Owns: formatting of output, rotation, the thread that touches the disk. Does not own: pipes.
//!
//! Invariants: a batch is whole entries, and is written whole or taken back; each writer has at most one batch with the
//! thread, so memory is bounded by what one read of a pipe yields; a disk that refuses makes output be dropped and
//! counted, never held; a disk that hangs makes the payload wait at its pipe, not the agent.

use super::format::{LineAssembler, Stream, format_time};
use super::{LogLimits, LogStore, ProgressReceiver, files};
use crate::{ContainerId, limits};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot, watch};

/// Writes one log. Dropping it ends the log for its readers.
#[derive(Debug)]
pub struct LogWriter {
    store: LogStore,
    id: ContainerId,
    files: Arc<LogFiles>,
    assemblers: [LineAssembler; 2],
    batch: Vec<u8>,
}

impl LogWriter {
    pub(super) fn new(store: LogStore, id: ContainerId, files: Arc<LogFiles>) -> LogWriter {
        let assemblers = [LineAssembler::new(Stream::Stdout), LineAssembler::new(Stream::Stderr)];
        LogWriter { store, id, files, assemblers, batch: Vec::new() }
    }

    /// Takes output. Lines that it ends are part of the next [`write`](Self::write); call that after each read.
    pub fn append(&mut self, stream: Stream, bytes: &[u8], time: SystemTime) {
        self.assemblers[stream.index()].feed(bytes, &format_time(time), &mut self.batch);
    }

    /// Whether a line without its end is held, of either stream.
    pub fn has_unfinished_line(&self) -> bool {
        self.assemblers.iter().any(LineAssembler::has_pending)
    }

    /// Makes unfinished lines part of the next [`write`](Self::write), for followers and for the end.
    pub fn flush_unfinished_lines(&mut self, time: SystemTime) {
        let time = format_time(time);
        for assembler in &mut self.assemblers {
            assembler.flush(&time, &mut self.batch);
        }
    }

    /// Resolves when all entries made so far are in the files, or dropped because the disk refused them.
    pub async fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let (done, written) = oneshot::channel();
        let batch = Batch { files: self.files.clone(), entries: std::mem::take(&mut self.batch), done };
        let bytes = batch.entries.len() as u64;
        if self.store.batches().send(batch).await.is_err() || written.await.is_err() {
            // The thread is gone: only at the end of the process.
            self.files.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of entries that the disk refused so far.
    pub fn dropped_bytes(&self) -> u64 {
        self.files.dropped_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.store.forget(&self.id);
        self.files.progress.send_modify(|progress| progress.closed = true);
    }
}

/// How far a log is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Raised with each batch.
    pub batches: u64,
    /// Nothing more will come.
    pub closed: bool,
}

/// Entries on their way to the disk.
#[derive(Debug)]
pub(super) struct Batch {
    files: Arc<LogFiles>,
    entries: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// Body of the thread that writes log files. Ends with the last sender.
pub(super) fn write_batches(mut batches: mpsc::Receiver<Batch>) {
    while let Some(Batch { files, entries, done }) = batches.blocking_recv() {
        files.write(&entries);
        // Before the answer, so that a log's end is also the end of its open file.
        drop(files);
        // The writer may be gone; the entries are written all the same.
        let _ = done.send(());
    }
}

/// The files of one log that is being written.
#[derive(Debug)]
pub(super) struct LogFiles {
    pod_directory: PathBuf,
    id: ContainerId,
    log_limits: LogLimits,
    state: Mutex<FilesState>,
    progress: watch::Sender<Progress>,
    dropped_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct FilesState {
    current: Option<File>,
    current_bytes: u64,
    /// Where the files that exist begin, ascending.
    starts: VecDeque<u64>,
    /// The Pod's logs were deleted: nothing may be made again.
    discarded: bool,
    /// A refusal is told once per log, not once per line.
    refusal_told: bool,
}

impl LogFiles {
    pub fn new(pod_directory: PathBuf, id: &ContainerId, log_limits: LogLimits) -> LogFiles {
        let log_limits = LogLimits {
            file_bytes: log_limits.file_bytes.max(limits::LOG_FILE_BYTES_MIN),
            files: log_limits.files.max(1),
        };
        LogFiles {
            pod_directory,
            id: id.clone(),
            log_limits,
            state: Mutex::default(),
            progress: watch::Sender::default(),
            dropped_bytes: AtomicU64::new(0),
        }
    }

    pub fn progress(&self) -> ProgressReceiver {
        self.progress.subscribe()
    }

    /// From now on output is dropped. Returns when no write is under way.
    pub fn discard(&self) {
        let mut state = self.lock_state();
        state.discarded = true;
        state.current = None;
    }

    fn write(&self, entries: &[u8]) {
        let mut state = self.lock_state();
        if state.discarded {
            return;
        }
        let mut rest = entries;
        while !rest.is_empty() {
            // Whole entries, so that a file never ends within one.
            let room = self.log_limits.file_bytes.saturating_sub(state.current_bytes);
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let mut taken = rest[..fits].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if taken == 0 && state.current_bytes == 0 {
                // A first entry is written whatever its size.
                taken = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            }
            let result = if taken == 0 {
                self.begin_file(&mut state)
            } else {
                self.write_part(&mut state, &rest[..taken])
            };
            if let Err(error) = result {
                self.dropped_bytes.fetch_add(rest.len() as u64, Ordering::Relaxed);
                if !std::mem::replace(&mut state.refusal_told, true) {
                    tracing::warn!(log = %self.id, %error, "output is dropped: its log can't be written");
                }
                break;
            }
            rest = &rest[taken..];
        }
        drop(state);
        self.progress.send_modify(|progress| progress.batches += 1);
    }

    fn write_part(&self, state: &mut FilesState, part: &[u8]) -> io::Result<()> {
        if state.current.is_none() {
            self.begin_file(state)?;
        }
        let Some(file) = &mut state.current else { return Ok(()) };
        if let Err(error) = file.write_all(part) {
            // Take back what was written of it: entries are whole. If even that fails, begin another file next time.
            if file.set_len(state.current_bytes).is_err() {
                state.current = None;
            }
            return Err(error);
        }
        state.current_bytes += part.len() as u64;
        Ok(())
    }

    /// Begins the next file, at the end of the last one, and removes what is too old.
    fn begin_file(&self, state: &mut FilesState) -> io::Result<()> {
        if state.starts.is_empty() {
            let mut builder = fs::DirBuilder::new();
            match builder.mode(0o700).create(&self.pod_directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // A log of this name may have been written by an earlier process.
                    state.starts = files::starts(&self.pod_directory, &self.id)?.into();
                }
                Err(error) => return Err(error),
            }
        }
        let start = match state.starts.back() {
            None => 0,
            Some(last) => last + fs::metadata(files::path(&self.pod_directory, &self.id, *last))?.len(),
        };
        let path = files::path(&self.pod_directory, &self.id, start);
        // An empty last file, left by a refusal, has this very name.
        let mut options = File::options();
        let file = options.append(true).create(true).mode(0o600).open(&path)?;
        state.current = Some(file);
        state.current_bytes = 0;
        if state.starts.back() != Some(&start) {
            state.starts.push_back(start);
        }
        while state.starts.len() > self.log_limits.files {
            if let Some(oldest) = state.starts.pop_front() {
                fs::remove_file(files::path(&self.pod_directory, &self.id, oldest))?;
            }
        }
        Ok(())
    }

    fn lock_state(&self) -> MutexGuard<'_, FilesState> {
        // Only the writing thread changes it, in steps that don't panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
