//! Log files that the engine writes, in the layout of the log store.
//!
//! Owns: their names, rotation, their end. Does not own: their content, which is the engine's, in the format that the store has
//! for all; reading.
//!
//! The engine knows one name, `<container>.<run>.current`, and opens that again when it is asked to. The store names a file by
//! the offset at which it begins, so each file has both names, as hard links, while it is the last one. Rotation takes the first
//! name away, lets the engine make another file by it, and waits until nobody writes the old one any more: only then is known
//! where the next one begins. A crash in between leaves a state from which [`EngineLog::attend`] goes on.

use super::engine::{Engine, Refusal};
use crate::logs::files;
use crate::shim::sys;
use crate::{ContainerId, LogLimits, limits};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name by which the engine knows the last file.
pub(super) fn current_name(id: &ContainerId) -> String {
    format!("{}.{}.current", id.container_name(), id.restart_count())
}

/// The log of one run that the engine writes.
#[derive(Debug, Clone)]
pub(super) struct EngineLog {
    directory: PathBuf,
    id: ContainerId,
    log_limits: LogLimits,
}

impl EngineLog {
    pub fn new(directory: PathBuf, id: &ContainerId, log_limits: LogLimits) -> EngineLog {
        let log_limits = LogLimits {
            file_bytes: log_limits.file_bytes.max(limits::LOG_FILE_BYTES_MIN),
            files: log_limits.files.max(1),
        };
        EngineLog { directory, id: id.clone(), log_limits }
    }

    /// Whether the engine has begun a start of this run: containerd makes the file as the first thing that it does of one. CRI-O has
    /// it as soon as it has the container.
    pub async fn is_begun(&self) -> bool {
        let path = self.current();
        // What can't be looked at may be there.
        tokio::task::spawn_blocking(move || path.try_exists().unwrap_or(true)).await.unwrap_or(true)
    }

    /// An earlier start of this run has failed before anything ran: what the next one makes is its own.
    pub fn forget_start(&self) -> io::Result<()> {
        match fs::remove_file(self.current()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn current(&self) -> PathBuf {
        self.directory.join(current_name(&self.id))
    }

    /// Looks at the last file, makes it readable, and begins another if it is large enough. To be called often while the
    /// container runs.
    pub async fn attend(&self, engine: &Engine, container_id: &str) -> Result<(), LogTrouble> {
        let log = self.clone();
        if !run(move || log.look()).await? {
            return Ok(());
        }
        // There is no last file: the engine still writes one that it was to give up, and shall make another.
        engine.reopen_log(container_id).await.map_err(LogTrouble::Engine)?;
        let log = self.clone();
        run(move || {
            log.wait_until_closed()?;
            log.look().map(drop)
        })
        .await?;
        Ok(())
    }

    /// The container has ended: waits until all that it wrote is in the files, and gives up the engine's name.
    pub async fn finish(&self) {
        let log = self.clone();
        let result = run(move || {
            log.link()?;
            log.wait_until_closed()?;
            match fs::remove_file(log.current()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await;
        if let Err(trouble) = result {
            tracing::warn!(log = %self.id, %trouble, "the end of a log is not sure to be readable");
        }
    }

    /// Links and measures the last file; true if the engine is to make another.
    fn look(&self) -> io::Result<bool> {
        let Some(bytes) = self.link()? else { return Ok(true) };
        if bytes < self.log_limits.file_bytes {
            return Ok(false);
        }
        fs::remove_file(self.current())?;
        Ok(true)
    }

    /// Gives the last file the name by which it is read. Its length; `None` if the engine has none.
    fn link(&self) -> io::Result<Option<u64>> {
        let current = match fs::metadata(self.current()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut starts = files::starts(&self.directory, &self.id)?;
        let path = |start| files::path(&self.directory, &self.id, start);
        let start = match starts.last() {
            None => 0,
            Some(last) => {
                let last_file = fs::metadata(path(*last))?;
                if last_file.ino() == current.ino() {
                    return Ok(Some(current.len()));
                }
                // An engine that has made another file may still be writing the end of this one. If that is not in yet, the next
                // would seem to begin before it, and readers would pass over what lies between.
                self.wait_until_closed()?;
                last + fs::metadata(path(*last))?.len()
            }
        };
        if starts.last() == Some(&start) {
            // Nothing was written to it.
            fs::remove_file(path(start))?;
            starts.pop();
        }
        fs::hard_link(self.current(), path(start))?;
        starts.push(start);
        let too_many = starts.len().saturating_sub(self.log_limits.files);
        for oldest in &starts[..too_many] {
            fs::remove_file(path(*oldest))?;
        }
        Ok(Some(current.len()))
    }

    /// Waits until nobody has the last readable file open for writing.
    fn wait_until_closed(&self) -> io::Result<()> {
        let Some(last) = files::starts(&self.directory, &self.id)?.pop() else { return Ok(()) };
        let path = files::path(&self.directory, &self.id, last);
        let end = Instant::now() + Duration::from_millis(limits::LOG_CLOSE_MS);
        while is_written(&path)? {
            if Instant::now() >= end {
                return Err(io::Error::other("the engine keeps a file open that it should have closed"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Whether somebody has a file open for writing.
fn is_written(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    Ok(sys::is_open_for_writing(file.as_fd())?)
}

/// Why a log was not attended to.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogTrouble {
    #[error("{0}")]
    Files(#[from] io::Error),
    #[error("{}", .0.message)]
    Engine(Refusal),
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, LogTrouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(failure) => Err(LogTrouble::Files(io::Error::other(failure.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn log(directory: &Path, files: usize) -> EngineLog {
        let id = ContainerId::new(UID, "main", 0).unwrap();
        EngineLog::new(directory.to_owned(), &id, LogLimits { file_bytes: limits::LOG_FILE_BYTES_MIN, files })
    }

    /// What an engine does when it opens a log.
    fn open(log: &EngineLog) -> File {
        OpenOptions::new().create(true).append(true).open(log.current()).unwrap()
    }

    fn starts(log: &EngineLog) -> Vec<u64> {
        files::starts(&log.directory, &log.id).unwrap()
    }

    #[test]
    fn files_begin_where_the_one_before_ends_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 2);
        let line = vec![b'x'; 1000];
        let mut expected = Vec::new();
        for round in 0..4_u64 {
            let mut engine = open(&log);
            assert!(!log.look().unwrap());
            expected.push(round * 70_000);
            for _ in 0..70 {
                engine.write_all(&line).unwrap();
            }
            assert!(log.look().unwrap(), "round {round}: large enough for another");
            assert!(log.look().unwrap(), "and again after a crash at this point");
            drop(engine);
            log.wait_until_closed().unwrap();
        }
        // Before the fifth file there are two.
        assert_eq!(starts(&log), expected[2..]);
    }

    #[test]
    fn a_file_is_not_closed_while_a_writer_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 2);
        let engine = open(&log);
        log.look().unwrap();
        let path = files::path(&log.directory, &log.id, 0);
        assert!(is_written(&path).unwrap());
        drop(engine);
        assert!(!is_written(&path).unwrap());
    }

    #[test]
    fn a_file_begins_after_what_is_still_written_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 3);
        let mut old = open(&log);
        old.write_all(b"begun ").unwrap();
        assert!(!log.look().unwrap());
        // As after an order to make another file whose answer nobody has waited for.
        fs::remove_file(log.current()).unwrap();
        open(&log).write_all(b"later").unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            old.write_all(b"and ended").unwrap();
        });
        log.link().unwrap();
        writer.join().unwrap();
        assert_eq!(starts(&log), [0, 15]);
    }

    #[test]
    fn an_empty_file_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 2);
        drop(open(&log));
        log.look().unwrap();
        fs::remove_file(log.current()).unwrap();
        let mut engine = open(&log);
        engine.write_all(b"x").unwrap();
        log.look().unwrap();
        assert_eq!(starts(&log), [0]);
        assert_eq!(fs::read(files::path(&log.directory, &log.id, 0)).unwrap(), b"x");
    }
}
