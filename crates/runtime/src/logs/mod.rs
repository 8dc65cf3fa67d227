//! A container's output, kept in files until its Pod is deleted.
//!
//! Owns: the folder of all logs, its layout, who writes which log. Does not own: when a log may be deleted, or who may
//! read it.
//!
//! Layout: `<root>/<pod uid>/<container>.<restart>.<offset of its first byte, 20 digits>.log`. Each file holds entries
//! (see `format`); a log is its files in order, and an *offset* counts the bytes of entries since the log's beginning,
//! so it stays true when old files are removed. Addresses are [`ContainerId`]s, never paths from outside (A15).
//!
//! Invariants: a file is made at the first byte of output; a log has one writer; what a reader returns, for one stream
//! and without timestamps, are the very bytes that the payload wrote.

pub(crate) mod files;
mod format;
mod reader;
mod writer;

pub use format::Stream;
pub use reader::{LogChunk, LogReader, ReadOptions};
pub use writer::LogWriter;

use crate::container_id::check_pod_uid;
use crate::{ContainerId, Error, limits};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use writer::{Batch, LogFiles, Progress};

/// How much of a container's output is kept, per restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Size of a file before the next is begun; at least [`limits::LOG_FILE_BYTES_MIN`].
    pub file_bytes: u64,
    /// Files kept; at least one. Older ones are removed.
    pub files: usize,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { file_bytes: limits::LOG_FILE_BYTES_DEFAULT, files: limits::LOG_FILES_DEFAULT }
    }
}

/// All logs of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// To the one thread that writes log files; it ends with the store. Async threads never wait for a disk.
    batches: mpsc::Sender<Batch>,
    /// Logs that have a writer.
    live: Mutex<HashMap<ContainerId, Arc<LogFiles>>>,
}

impl LogStore {
    /// Opens the folder of all logs, made with mode 0700 if missing, and starts the thread that writes there.
    pub fn open(root: &Path) -> Result<LogStore, Error> {
        let log_error = |action| move |source| Error::Log { path: root.to_owned(), action, source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(root).map_err(log_error("make folder"))?;
        let (batches, receiver) = mpsc::channel(limits::LOG_QUEUE_BATCHES_MAX);
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer::write_batches(receiver))
            .map_err(log_error("start the writing thread"))?;
        let live = Mutex::new(HashMap::new());
        Ok(LogStore { inner: Arc::new(Inner { root: root.to_owned(), batches, live }) })
    }

    /// A writer for a container's output. If the log exists already, it goes on at its end.
    ///
    /// Nothing is written until there is output. A log has one writer at a time: a second one is an error.
    pub fn writer(&self, id: &ContainerId, log_limits: LogLimits) -> Result<LogWriter, Error> {
        let files = Arc::new(LogFiles::new(self.pod_directory(id.pod_uid()), id, log_limits));
        let mut live = self.lock_live();
        if live.contains_key(id) {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error::Log {
                path: self.pod_directory(id.pod_uid()),
                action: "open for a second writer",
                source,
            });
        }
        live.insert(id.clone(), files.clone());
        Ok(LogWriter::new(self.clone(), id.clone(), files))
    }

    /// A reader of a container's log. A log without any output, or of a container that never was, is empty.
    pub async fn reader(&self, id: &ContainerId, options: ReadOptions) -> Result<LogReader, Error> {
        let progress = self.lock_live().get(id).map(|files| files.progress());
        LogReader::open(self.pod_directory(id.pod_uid()), id.clone(), options, progress).await
    }

    /// The last run of a Pod that has written anything: its container and its number.
    ///
    /// # Errors
    /// If the uid is none, or the folder can't be read.
    pub async fn newest_run(&self, pod_uid: &str) -> Result<Option<(String, u32)>, Error> {
        check_pod_uid(pod_uid)?;
        let path = self.pod_directory(pod_uid);
        run_blocking(move || {
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                other => other.map_err(|source| Error::Log { path, action: "list folder", source })?,
            };
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            let runs = names.filter_map(|name| {
                let (container, run) = files::container_and_run(&name)?;
                Some((container.to_owned(), run))
            });
            Ok(runs.max_by_key(|(_, run)| *run))
        })
        .await
    }

    /// Whether a log of this container is being written.
    pub fn is_live(&self, id: &ContainerId) -> bool {
        self.lock_live().contains_key(id)
    }

    /// Removes all logs of a Pod. Output that still arrives for it is dropped; readers get what they have open.
    pub async fn delete_pod(&self, pod_uid: &str) -> Result<(), Error> {
        check_pod_uid(pod_uid)?;
        let live: Vec<_> = self
            .lock_live()
            .iter()
            .filter(|(id, _)| id.pod_uid() == pod_uid)
            .map(|(_, files)| files.clone())
            .collect();
        let path = self.pod_directory(pod_uid);
        run_blocking(move || {
            // Each waits for a write under way, so that nothing is made again after the removal.
            live.iter().for_each(|files| files.discard());
            match fs::remove_dir_all(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(Error::Log { path, action: "remove folder", source })
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Pods that have logs, for the search of those whose Pod is gone. Other names in the folder are ignored.
    pub async fn pods(&self) -> Result<Vec<String>, Error> {
        let root = self.inner.root.clone();
        run_blocking(move || {
            let log_error = |source| Error::Log { path: root.clone(), action: "list folder", source };
            let mut pods = Vec::new();
            for entry in fs::read_dir(&root).map_err(log_error)? {
                if let Ok(name) = entry.map_err(log_error)?.file_name().into_string()
                    && check_pod_uid(&name).is_ok()
                {
                    pods.push(name);
                }
            }
            Ok(pods)
        })
        .await
    }

    pub(crate) fn pod_directory(&self, pod_uid: &str) -> PathBuf {
        self.inner.root.join(pod_uid)
    }

    fn batches(&self) -> &mpsc::Sender<Batch> {
        &self.inner.batches
    }

    fn forget(&self, id: &ContainerId) {
        self.lock_live().remove(id);
    }

    fn lock_live(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Arc<LogFiles>>> {
        // A map is whole after any panic.
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a reader how far a log is written.
type ProgressReceiver = watch::Receiver<Progress>;

/// Runs file reads off the async threads.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => Err(Error::Log {
            path: PathBuf::new(),
            action: "run file access",
            source: io::Error::other(failure.to_string()),
        }),
    }
}
