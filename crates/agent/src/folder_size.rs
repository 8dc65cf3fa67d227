//! How large a folder is, for those who can't wait until it was walked through.
//!
//! Owns: when it is walked through, what is told meanwhile. Does not own: what is in it.
//!
//! Invariants: one walk at a time, however many ask; whoever asks waits for a bounded time only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

use crate::limits::{LOG_SIZE_FRESH, LOG_SIZE_PATIENCE};

/// See the module.
#[derive(Debug)]
pub struct FolderSize {
    folder: PathBuf,
    walk: fn(&Path) -> u64,
    /// Shared with the walk that is under way.
    state: Arc<watch::Sender<Walked>>,
}

/// What came of walks.
#[derive(Debug, Default)]
struct Walked {
    known: Option<(Instant, u64)>,
    is_under_way: bool,
}

impl FolderSize {
    /// Of this folder, also if it is not there yet.
    pub fn of(folder: PathBuf) -> FolderSize {
        FolderSize::by(folder, bytes_below)
    }

    fn by(folder: PathBuf, walk: fn(&Path) -> u64) -> FolderSize {
        FolderSize { folder, walk, state: Arc::default() }
    }

    /// Bytes of its files: not older than [`LOG_SIZE_FRESH`], or, if a walk takes longer than [`LOG_SIZE_PATIENCE`], what the
    /// last one has found. None: no walk was ever finished.
    pub async fn bytes(&self) -> Option<u64> {
        let must_walk = self.state.send_if_modified(|walked| {
            let is_fresh = walked.known.is_some_and(|(at, _)| at.elapsed() < LOG_SIZE_FRESH);
            let must_walk = !is_fresh && !walked.is_under_way;
            walked.is_under_way |= must_walk;
            must_walk
        });
        if must_walk {
            let (folder, walk, state) = (self.folder.clone(), self.walk, Arc::clone(&self.state));
            // Goes on when whoever asked has given up.
            tokio::task::spawn_blocking(move || {
                let bytes = walk(&folder);
                state.send_replace(Walked { known: Some((Instant::now(), bytes)), is_under_way: false });
            });
        }
        let mut state = self.state.subscribe();
        let _ = tokio::time::timeout(LOG_SIZE_PATIENCE, state.wait_for(|walked| !walked.is_under_way)).await;
        let known = state.borrow().known;
        known.map(|(_, bytes)| bytes)
    }
}

/// Bytes of all files below a folder, as far as they can be looked at: some may go meanwhile.
fn bytes_below(folder: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            // Links are not followed.
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => folders.push(entry.path()),
                Ok(facts) => bytes = bytes.saturating_add(facts.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_in_all_folders_below_counts() {
        let folder = tempfile::tempdir().unwrap();
        let size = FolderSize::of(folder.path().join("logs"));
        assert_eq!(size.bytes().await, Some(0), "it is not there yet");
        std::fs::create_dir_all(folder.path().join("logs/pod")).unwrap();
        std::fs::write(folder.path().join("logs/pod/0.log"), "12345").unwrap();
        assert_eq!(size.bytes().await, Some(0), "that is fresh");
        assert_eq!(FolderSize::of(folder.path().to_owned()).bytes().await, Some(5));
    }

    #[tokio::test]
    async fn a_long_walk_holds_nobody_up_and_is_one_walk() {
        static WALKS: AtomicUsize = AtomicUsize::new(0);
        /// Takes as long as `go` is not there, but not longer than the test.
        fn walk(folder: &Path) -> u64 {
            WALKS.fetch_add(1, Ordering::SeqCst);
            while folder.exists() && !folder.join("go").exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            7
        }
        let folder = tempfile::tempdir().unwrap();
        let size = FolderSize::by(folder.path().to_owned(), walk);
        let (one, other) = tokio::join!(size.bytes(), size.bytes());
        assert_eq!((one, other, size.bytes().await), (None, None, None), "nothing is known");
        std::fs::write(folder.path().join("go"), "").unwrap();
        while size.bytes().await.is_none() {}
        assert_eq!((size.bytes().await, WALKS.load(Ordering::SeqCst)), (Some(7), 1));

        // Old by now, and the next walk takes long again: the last figure is told.
        std::fs::remove_file(folder.path().join("go")).unwrap();
        let long_ago = Instant::now().checked_sub(LOG_SIZE_FRESH);
        size.state.send_modify(|walked| walked.known = long_ago.map(|at| (at, 6)));
        assert_eq!((size.bytes().await, WALKS.load(Ordering::SeqCst)), (long_ago.map(|_| 6), 2));
        std::fs::write(folder.path().join("go"), "").unwrap();
        while size.bytes().await != Some(7) {}
    }
}
