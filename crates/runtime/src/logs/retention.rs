//! Logs of runs that nobody asks for any more.
//!
//! Owns: which runs of a container are kept beside the one that is about to begin, and the removal of the others. Does not own: how
//! much of one run is kept (`writer`), when all logs of a Pod go.
//!
//! A container that fails again and again must not fill its node's disk. As in Kubernetes the run that goes on and the one before
//! it are kept. With an archive a few more wait until they have arrived there.

use super::{LogStore, Shipped, files, run_blocking};
use crate::{ContainerId, Error, limits};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

impl LogStore {
    /// Says whether there is an archive, for which logs of runs that are not in it are kept a little longer, as far as
    /// [`LOG_RUNS_UNARCHIVED_MAX`](limits::LOG_RUNS_UNARCHIVED_MAX) lets them.
    pub fn keep_for_archive(&self, there_is_one: bool) {
        self.inner.is_archived.store(there_is_one, Ordering::Relaxed);
    }

    /// Whether there are files of a log, or may be soon. A log without output has none.
    pub async fn has_files(&self, id: &ContainerId) -> bool {
        let (folder, wanted) = (self.pod_directory(id.pod_uid()), id.clone());
        let found =
            run_blocking(move || Ok(files::starts(&folder, &wanted).is_ok_and(|found| !found.is_empty())));
        self.is_live(id) || found.await.unwrap_or(false)
    }

    /// Removes the logs of those runs of a container that are not kept once `id` is begun. Readers get what they have open.
    ///
    /// # Errors
    /// If the folder can't be read, or something of it can't be removed.
    pub(crate) async fn remove_earlier_runs(&self, id: &ContainerId) -> Result<(), Error> {
        // The one before it is kept.
        let Some(kept_from) = id.restart_count().checked_sub(1).filter(|kept_from| *kept_from > 0) else {
            return Ok(());
        };
        let waits_from = match self.inner.is_archived.load(Ordering::Relaxed) {
            true => kept_from.saturating_sub(limits::LOG_RUNS_UNARCHIVED_MAX),
            false => kept_from,
        };
        let (folder, container) = (self.pod_directory(id.pod_uid()), id.container_name().to_owned());
        run_blocking(move || {
            let failed = |action| {
                let path = folder.clone();
                move |source| Error::Log { path, action, source }
            };
            let mut earlier: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other.map_err(failed("list folder"))?,
            };
            for entry in entries {
                let name = entry.map_err(failed("list folder"))?.file_name();
                let run = name.to_str().and_then(|name| files::run_of(name, &container));
                if let Some(run) = run.filter(|run| *run < kept_from) {
                    earlier.entry(run).or_default().push(folder.join(name));
                }
            }
            for (run, paths) in earlier {
                let is_archived = paths.contains(&folder.join(Shipped::Archive.mark_name(&container, run)));
                if run >= waits_from && !is_archived {
                    continue;
                }
                for path in paths {
                    match fs::remove_file(path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(failed("remove an earlier run's file")(error));
                        }
                        _ => {}
                    }
                }
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogLimits, LogWriter, Stream};
    use std::time::SystemTime;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn id(container: &str, run: u32) -> ContainerId {
        ContainerId::new(UID, container, run).unwrap()
    }

    fn write(store: &LogStore, id: &ContainerId) {
        let mut writer = LogWriter::new(store.pod_directory(UID), id.clone(), LogLimits::default());
        writer.append(Stream::Stdout, b"a line\n", SystemTime::UNIX_EPOCH);
        writer.write();
    }

    async fn runs(store: &LogStore, container: &str) -> Vec<u32> {
        let mut found = Vec::new();
        for run in 0..30 {
            if store.has_files(&id(container, run)).await {
                found.push(run);
            }
        }
        found
    }

    #[tokio::test]
    async fn r15_the_last_run_and_the_one_before_it_are_kept_however_often_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let store = LogStore::open(root.path()).unwrap();
        write(&store, &id("other", 0));
        write(&store, &id("a-b", 0));
        for run in 0..20 {
            let id = id("a", run);
            store.remove_earlier_runs(&id).await.unwrap();
            write(&store, &id);
            store.mark(&id, Shipped::Tail).await.unwrap();
            let expected: Vec<u32> = (run.saturating_sub(1)..=run).collect();
            assert_eq!(runs(&store, "a").await, expected);
        }
        // Two logs of two others, and of this one two logs and their marks.
        assert_eq!(fs::read_dir(store.pod_directory(UID)).unwrap().count(), 2 + 2 * 2);
        // A mark that comes late makes nothing that nobody removes.
        store.mark(&id("a", 3), Shipped::Archive).await.unwrap();
        assert_eq!(fs::read_dir(store.pod_directory(UID)).unwrap().count(), 2 + 2 * 2);
    }

    #[tokio::test]
    async fn r15_what_an_archive_has_not_got_yet_is_kept_a_little_longer() {
        let root = tempfile::tempdir().unwrap();
        let store = LogStore::open(root.path()).unwrap();
        store.keep_for_archive(true);
        for run in 0..20 {
            write(&store, &id("a", run));
        }
        store.mark(&id("a", 15), Shipped::Archive).await.unwrap();
        store.remove_earlier_runs(&id("a", 20)).await.unwrap();
        let first = 19 - limits::LOG_RUNS_UNARCHIVED_MAX;
        let expected: Vec<u32> = (first..20).filter(|run| *run != 15).collect();
        assert_eq!(runs(&store, "a").await, expected);
        store.keep_for_archive(false);
        store.remove_earlier_runs(&id("a", 20)).await.unwrap();
        assert_eq!(runs(&store, "a").await, [19]);
    }
}
