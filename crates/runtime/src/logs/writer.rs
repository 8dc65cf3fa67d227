//! Writing a log, in the shim.
//!
//! Owns: formatting of output, rotation, flushing. Does not own: pipes, when output is written (`shim::output`).
//!
//! Invariants: what is written is whole entries, each written whole or taken back; a disk that refuses makes output be dropped
//! and counted, never held. Nothing here is async: the one thread that writes waits for the disk, and nobody for it.

use super::format::{LineAssembler, Stream, format_time};
use super::{LogLimits, files};
use crate::{ContainerId, limits};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

/// Writes one log. Nothing is made on the disk until there is output; a log that exists goes on at its end.
#[derive(Debug)]
pub(crate) struct LogWriter {
    files: LogFiles,
    assemblers: [LineAssembler; 2],
    batch: Vec<u8>,
    dropped_bytes: u64,
}

impl LogWriter {
    /// For the log of one run, in the folder of its Pod's logs.
    pub fn new(pod_directory: PathBuf, id: ContainerId, log_limits: LogLimits) -> LogWriter {
        LogWriter {
            files: LogFiles::new(pod_directory, id, log_limits),
            assemblers: [LineAssembler::new(Stream::Stdout), LineAssembler::new(Stream::Stderr)],
            batch: Vec::new(),
            dropped_bytes: 0,
        }
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

    /// Writes all entries made so far, or drops and counts those that the disk refuses.
    pub fn write(&mut self) {
        if !self.batch.is_empty() {
            // Given back: an idle container shall hold nothing.
            let batch = std::mem::take(&mut self.batch);
            self.dropped_bytes += self.files.write(&batch);
        }
    }

    /// Resolves when what was written is on the disk (R13). A refusal is one of the disk, told like any other.
    pub fn sync(&mut self) {
        self.dropped_bytes += self.files.sync();
    }

    /// From now on output is dropped, uncounted: the Pod's logs were deleted, and nothing may be made again.
    pub fn discard(&mut self) {
        self.files.discarded = true;
        self.files.current = None;
    }

    /// Bytes of entries that the disk refused so far.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }
}

/// The files of one log that is being written.
#[derive(Debug)]
struct LogFiles {
    pod_directory: PathBuf,
    id: ContainerId,
    log_limits: LogLimits,
    current: Option<File>,
    current_bytes: u64,
    /// Written to the last file since it was flushed.
    unsynced_bytes: u64,
    /// A file was made or removed since the folder was flushed.
    is_folder_changed: bool,
    /// Where the files that exist begin, ascending.
    starts: VecDeque<u64>,
    discarded: bool,
}

impl LogFiles {
    fn new(pod_directory: PathBuf, id: ContainerId, log_limits: LogLimits) -> LogFiles {
        let log_limits = LogLimits {
            file_bytes: log_limits.file_bytes.max(limits::LOG_FILE_BYTES_MIN),
            files: log_limits.files.max(1),
        };
        LogFiles {
            pod_directory,
            id,
            log_limits,
            current: None,
            current_bytes: 0,
            unsynced_bytes: 0,
            is_folder_changed: false,
            starts: VecDeque::new(),
            discarded: false,
        }
    }

    /// Writes entries; returns how many bytes of them the disk refused.
    fn write(&mut self, entries: &[u8]) -> u64 {
        if self.discarded {
            return 0;
        }
        let mut rest = entries;
        while !rest.is_empty() {
            // Whole entries, so that a file never ends within one.
            let room = self.log_limits.file_bytes.saturating_sub(self.current_bytes);
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let mut taken = rest[..fits].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if taken == 0 && self.current_bytes == 0 {
                // A first entry is written whatever its size.
                taken = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            }
            let result = if taken == 0 { self.begin_file() } else { self.write_part(&rest[..taken]) };
            if result.is_err() {
                return rest.len() as u64;
            }
            rest = &rest[taken..];
        }
        0
    }

    fn write_part(&mut self, part: &[u8]) -> io::Result<()> {
        if self.current.is_none() {
            self.begin_file()?;
        }
        let Some(file) = &mut self.current else { return Ok(()) };
        if let Err(error) = file.write_all(part) {
            // Take back what was written of it: entries are whole. If even that fails, begin another file next time.
            if file.set_len(self.current_bytes).is_err() {
                self.current = None;
            }
            return Err(error);
        }
        self.current_bytes += part.len() as u64;
        self.unsynced_bytes += part.len() as u64;
        Ok(())
    }

    /// Begins the next file, at the end of the last one, and removes what is too old.
    fn begin_file(&mut self) -> io::Result<()> {
        self.sync_file()?;
        if self.starts.is_empty() {
            let mut builder = fs::DirBuilder::new();
            match builder.mode(0o700).create(&self.pod_directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // A log of this name may have been written by an earlier process.
                    self.starts = files::starts(&self.pod_directory, &self.id)?.into();
                }
                Err(error) => return Err(error),
            }
        }
        let start = match self.starts.back() {
            None => 0,
            Some(last) => last + fs::metadata(files::path(&self.pod_directory, &self.id, *last))?.len(),
        };
        let path = files::path(&self.pod_directory, &self.id, start);
        // An empty last file, left by a refusal, has this very name.
        let mut options = File::options();
        let file = options.append(true).create(true).mode(0o600).open(&path)?;
        self.current = Some(file);
        self.current_bytes = 0;
        self.is_folder_changed = true;
        if self.starts.back() != Some(&start) {
            self.starts.push_back(start);
        }
        while self.starts.len() > self.log_limits.files {
            if let Some(oldest) = self.starts.pop_front() {
                fs::remove_file(files::path(&self.pod_directory, &self.id, oldest))?;
            }
        }
        Ok(())
    }

    /// Flushes; returns how many bytes are not sure to be there.
    fn sync(&mut self) -> u64 {
        let unsynced_bytes = self.unsynced_bytes;
        if self.sync_file().and_then(|()| self.sync_folder()).is_err() && !self.discarded {
            self.unsynced_bytes = 0;
            return unsynced_bytes;
        }
        0
    }

    fn sync_file(&mut self) -> io::Result<()> {
        if let Some(file) = &self.current
            && self.unsynced_bytes > 0
        {
            file.sync_data()?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// The names of the files, and that of the folder itself.
    fn sync_folder(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_folder_changed) {
            File::open(&self.pod_directory)?.sync_all()?;
            if let Some(root) = self.pod_directory.parent() {
                File::open(root)?.sync_all()?;
            }
        }
        Ok(())
    }
}
