//! A container's output, kept in files until its Pod is deleted, or until two further runs have followed (`retention`).
//!
//! Owns: the folder of all logs, its layout, which logs may grow. Does not own: when a log may be deleted, or who may
//! read it. Logs are written by other processes: by shims with `writer`, by container engines in the same format.
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
mod retention;
mod shipping;
mod writer;

pub use format::Stream;
pub use reader::{LogChunk, LogReader, ReadOptions, StreamRun};
pub use shipping::Shipped;
pub(crate) use writer::LogWriter;

use crate::container_id::check_pod_uid;
use crate::{ContainerId, Error, limits};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

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
    /// Logs that may grow.
    live: Mutex<HashMap<ContainerId, watch::Sender<LiveState>>>,
    /// Is told which logs have come to their end.
    ended: Mutex<Option<mpsc::UnboundedSender<ContainerId>>>,
    /// There is an archive for them.
    is_archived: AtomicBool,
}

/// What is known of a log that may grow.
#[derive(Debug, Clone, Copy, Default)]
struct LiveState {
    /// Nothing more will come.
    closed: bool,
    /// The Pod's logs were deleted.
    discarded: bool,
}

/// A log that may grow, as its container runs: readers that follow it wait for more. Its end, when this is dropped, is theirs.
#[derive(Debug)]
pub struct LiveLog {
    store: LogStore,
    id: ContainerId,
    state: watch::Receiver<LiveState>,
}

impl LiveLog {
    /// Whether the Pod's logs were deleted.
    #[cfg(feature = "cri")]
    pub(crate) fn is_discarded(&self) -> bool {
        self.state.borrow().discarded
    }

    /// Resolves when the Pod's logs were deleted: nothing may be made again.
    pub async fn discarded(&mut self) {
        if self.state.wait_for(|state| state.discarded).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for LiveLog {
    fn drop(&mut self) {
        let removed = self.store.lock_live().remove(&self.id);
        let Some(state) = removed else { return };
        state.send_modify(|state| state.closed = true);
        if !state.borrow().discarded
            && let Some(ended) = &*self.store.inner.ended.lock().unwrap_or_else(PoisonError::into_inner)
        {
            // Nobody may listen any more.
            drop(ended.send(self.id.clone()));
        }
    }
}

impl LogStore {
    /// Opens the folder of all logs, made with mode 0700 if missing.
    pub fn open(root: &Path) -> Result<LogStore, Error> {
        let log_error = |action| move |source| Error::Log { path: root.to_owned(), action, source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(root).map_err(log_error("make folder"))?;
        let inner = Inner {
            root: root.to_owned(),
            live: Mutex::default(),
            ended: Mutex::default(),
            is_archived: AtomicBool::new(false),
        };
        Ok(LogStore { inner: Arc::new(inner) })
    }

    /// Says that a log may grow from now on. A log has one writer at a time: a second one is an error.
    pub fn begin(&self, id: &ContainerId) -> Result<LiveLog, Error> {
        let (sender, state) = watch::channel(LiveState::default());
        let mut live = self.lock_live();
        if live.contains_key(id) {
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error::Log {
                path: self.pod_directory(id.pod_uid()),
                action: "open for a second writer",
                source,
            });
        }
        live.insert(id.clone(), sender);
        drop(live);
        Ok(LiveLog { store: self.clone(), id: id.clone(), state })
    }

    /// A reader of a container's log. A log without any output, or of a container that never was, is empty.
    pub async fn reader(&self, id: &ContainerId, options: ReadOptions) -> Result<LogReader, Error> {
        let live = self.lock_live().get(id).map(watch::Sender::subscribe);
        LogReader::open(self.pod_directory(id.pod_uid()), id.clone(), options, live).await
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
        for (id, state) in &*self.lock_live() {
            if id.pod_uid() == pod_uid {
                state.send_modify(|state| state.discarded = true);
            }
        }
        let path = self.pod_directory(pod_uid);
        run_blocking(move || match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Log { path, action: "remove folder", source: error })
            }
            _ => Ok(()),
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

    /// Folder of a Pod's logs, which exists once there is output.
    pub(crate) fn pod_directory(&self, pod_uid: &str) -> PathBuf {
        self.inner.root.join(pod_uid)
    }

    fn lock_live(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, watch::Sender<LiveState>>> {
        // A map is whole after any panic.
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a reader whether a log may grow.
type LiveReceiver = watch::Receiver<LiveState>;

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
