//! Logs on their way to where they outlive their node.
//!
//! Owns: excerpts of log files, which runs have ended, marks beside the files that say what has arrived. Does not own: where
//! excerpts go, and when.
//!
//! Invariant: a mark is made for a run that has ended and goes with its log; without one everything is shipped again, which
//! does no harm.

use super::{LogStore, files, run_blocking};
use crate::container_id::check_pod_uid;
use crate::{ContainerId, Error};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use stint_logs::Excerpt;
use tokio::sync::mpsc;

/// What a mark says of the log of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shipped {
    /// The servers have its tail.
    Tail,
    /// The archive has all of it.
    Archive,
}

impl Shipped {
    fn suffix(self) -> &'static str {
        match self {
            Shipped::Tail => "tail-shipped",
            Shipped::Archive => "archived",
        }
    }

    /// Of the mark beside the files of a run.
    pub(super) fn mark_name(self, container: &str, run: u32) -> String {
        format!("{container}.{run}.{}", self.suffix())
    }
}

impl LogStore {
    /// Logs whose runs have ended, from now on, each once; not those of deleted Pods. There is one such receiver: an earlier one
    /// hears nothing more.
    pub fn ended(&self) -> mpsc::UnboundedReceiver<ContainerId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.inner.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Logs that may grow.
    pub fn live(&self) -> Vec<ContainerId> {
        self.lock_live().keys().cloned().collect()
    }

    /// Where logs end at present; 0 for one to which nothing was written, or whose files can't be looked at.
    pub async fn end_offsets(&self, ids: Vec<ContainerId>) -> Vec<(ContainerId, u64)> {
        let store = self.clone();
        let measured = run_blocking(move || {
            let ids = ids.into_iter();
            Ok(ids.map(|id| (id.clone(), end_offset(&store.pod_directory(id.pod_uid()), &id))).collect())
        });
        measured.await.unwrap_or_default()
    }

    /// The last entries of a log, of at most `max` bytes together, from a beginning of a line on; none if nothing was written.
    ///
    /// # Errors
    /// If its files can't be read.
    pub async fn tail(&self, id: &ContainerId, max: usize) -> Result<Option<Excerpt>, Error> {
        let (folder, id) = (self.pod_directory(id.pod_uid()), id.clone());
        run_blocking(move || {
            let failed = |source| Error::Log { path: folder.clone(), action: "read tail", source };
            let mut tail: Option<Excerpt> = None;
            for start in files::starts(&folder, &id).map_err(failed)?.into_iter().rev() {
                let missing = max.saturating_sub(tail.as_ref().map_or(0, |tail| tail.entries.len()));
                if missing == 0 {
                    break;
                }
                // One byte more than is wanted, so that the cut knows what is before it.
                let (at, mut entries) = match read_last(&files::path(&folder, &id, start), missing + 1) {
                    Ok(read) => read,
                    // Removed by rotation since the folder was listed, and with it all that is older.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => return Err(failed(error)),
                };
                match &mut tail {
                    // Files are whole but the last: its end may be an entry that is being written.
                    None => {
                        let whole = entries.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                        entries.truncate(whole);
                        tail = Some(Excerpt { first_offset: start + at, entries });
                    }
                    // A torn end of a file, which a crash has left, would shift what comes after it.
                    Some(tail) if start + at + entries.len() as u64 == tail.first_offset => {
                        entries.append(&mut tail.entries);
                        *tail = Excerpt { first_offset: start + at, entries };
                    }
                    Some(_) => break,
                }
            }
            let mut tail = tail.filter(|tail| !tail.entries.is_empty());
            if let Some(tail) = &mut tail {
                tail.cut_to_last(max);
            }
            Ok(tail)
        })
        .await
    }

    /// Whole entries of a log from an offset on, of at most `max` bytes together; none at its end. What rotation has removed is
    /// passed over.
    ///
    /// # Errors
    /// If its files can't be read.
    pub async fn excerpt(&self, id: &ContainerId, from: u64, max: usize) -> Result<Option<Excerpt>, Error> {
        let (folder, id) = (self.pod_directory(id.pod_uid()), id.clone());
        run_blocking(move || {
            let failed = |source| Error::Log { path: folder.clone(), action: "read log", source };
            let starts = files::starts(&folder, &id).map_err(failed)?;
            for (number, start) in starts.iter().enumerate() {
                if starts.get(number + 1).is_some_and(|next| *next <= from) {
                    continue;
                }
                let first_offset = from.max(*start);
                let path = files::path(&folder, &id, *start);
                let entries = match read_from(&path, first_offset - start, max) {
                    Ok(entries) => entries,
                    // Its Pod is being deleted.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(error)),
                };
                if !entries.is_empty() {
                    return Ok(Some(Excerpt { first_offset, entries }));
                }
            }
            Ok(None)
        })
        .await
    }

    /// The runs of a Pod that have written anything, whose logs don't grow, and that are not marked.
    ///
    /// # Errors
    /// If the uid is none, or the folder can't be read.
    pub async fn unmarked(&self, pod_uid: &str, shipped: Shipped) -> Result<Vec<ContainerId>, Error> {
        check_pod_uid(pod_uid)?;
        let (folder, pod_uid) = (self.pod_directory(pod_uid), pod_uid.to_owned());
        let runs = run_blocking(move || {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
                other => {
                    other.map_err(|source| Error::Log { path: folder, action: "list folder", source })?
                }
            };
            let names: Vec<String> =
                entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
            let mut runs = BTreeSet::new();
            for name in &names {
                if let Some((container, run)) = files::container_and_run(name)
                    && let Ok(id) = ContainerId::new(&pod_uid, container, run)
                {
                    runs.insert((id.container_name().to_owned(), run));
                }
            }
            runs.retain(|(container, run)| !names.contains(&shipped.mark_name(container, *run)));
            Ok(runs
                .into_iter()
                .filter_map(|(name, run)| ContainerId::new(&pod_uid, &name, run).ok())
                .collect())
        })
        .await?;
        Ok(runs.into_iter().filter(|id| !self.is_live(id)).collect())
    }

    /// Marks the log of a run that has ended. Nothing is made for a log that is gone.
    ///
    /// # Errors
    /// If the mark can't be made.
    pub async fn mark(&self, id: &ContainerId, shipped: Shipped) -> Result<(), Error> {
        let name = shipped.mark_name(id.container_name(), id.restart_count());
        let (folder, id) = (self.pod_directory(id.pod_uid()), id.clone());
        let path = folder.join(name);
        run_blocking(move || {
            // Two further runs may have begun meanwhile.
            if files::starts(&folder, &id).is_ok_and(|found| found.is_empty()) {
                return Ok(());
            }
            let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            match made {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::Log { path, action: "mark log", source: error })
                }
                _ => Ok(()),
            }
        })
        .await
    }
}

fn end_offset(folder: &Path, id: &ContainerId) -> u64 {
    let starts = files::starts(folder, id).unwrap_or_default();
    let Some(last) = starts.last() else { return 0 };
    let length = fs::metadata(files::path(folder, id, *last)).map_or(0, |metadata| metadata.len());
    last.saturating_add(length)
}

/// Whole entries of a file from a position on, of at most `max` bytes together.
fn read_from(path: &Path, position: u64, max: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len().saturating_sub(position).min(max as u64);
    let mut entries = vec![0; length as usize];
    file.read_exact_at(&mut entries, position)?;
    let whole = entries.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    entries.truncate(whole);
    Ok(entries)
}

/// The last bytes of a file, at most so many, and where they begin.
fn read_last(path: &Path, bytes: usize) -> io::Result<(u64, Vec<u8>)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let at = length.saturating_sub(bytes as u64);
    let mut last = vec![0; (length - at) as usize];
    file.read_exact_at(&mut last, at)?;
    Ok((at, last))
}

#[cfg(test)]
mod tests {
    use super::super::{LogLimits, LogWriter, Stream};
    use super::*;
    use crate::limits;
    use std::time::{Duration, SystemTime};

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    struct Fixture {
        store: LogStore,
        _root: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        Fixture { store: LogStore::open(&root.path().join("logs")).unwrap(), _root: root }
    }

    fn id(run: u32) -> ContainerId {
        ContainerId::new(UID, "main", run).unwrap()
    }

    impl Fixture {
        async fn end_offset(&self) -> u64 {
            self.store.end_offsets(vec![id(0)]).await[0].1
        }

        fn writer(&self, run: u32) -> LogWriter {
            let log_limits = LogLimits { file_bytes: limits::LOG_FILE_BYTES_MIN, files: 3 };
            LogWriter::new(self.store.pod_directory(UID), id(run), log_limits)
        }
    }

    fn write(writer: &mut LogWriter, lines: std::ops::Range<usize>) {
        for line in lines {
            let text = format!("{line:06} {}\n", "x".repeat(500));
            writer.append(Stream::Stdout, text.as_bytes(), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        }
        writer.write();
    }

    fn first_and_last_line(excerpt: &Excerpt) -> (usize, usize) {
        let lines: Vec<usize> = excerpt
            .entries
            .split(|byte| *byte == b'\n')
            .filter_map(|entry| stint_logs::Entry::parse(entry)?.content.get(..6))
            .map(|digits| std::str::from_utf8(digits).unwrap().parse().unwrap())
            .collect();
        assert!(lines.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{lines:?}");
        (lines[0], *lines.last().unwrap())
    }

    #[tokio::test]
    async fn r13_a_tail_is_the_last_lines_also_across_files() {
        let fixture = fixture();
        assert_eq!(fixture.store.tail(&id(0), 1_000).await.unwrap(), None);
        assert_eq!(fixture.end_offset().await, 0);
        let (mut written, mut writer) = (0, fixture.writer(0));
        // With every number of lines in the newest file.
        while written < 700 {
            write(&mut writer, written..written + 37);
            written += 37;
            let end = fixture.end_offset().await;
            for max in [100, 5_000, 64 << 10] {
                let tail = fixture.store.tail(&id(0), max).await.unwrap().unwrap_or_default();
                if max == 100 {
                    // Not even one line.
                    assert!(tail.entries.is_empty());
                    continue;
                }
                assert_eq!(tail.end_offset(), end);
                let (first, last) = first_and_last_line(&tail);
                assert_eq!(last + 1, written);
                let line_bytes = tail.entries.len() / (last - first + 1);
                let expected = (max / line_bytes).min(written);
                assert!((last - first + 1).abs_diff(expected) <= 1, "{first} {last} {max}");
                assert_eq!(first == 0, tail.first_offset == 0);
            }
        }
    }

    #[tokio::test]
    async fn r13_excerpts_are_the_whole_log_whatever_their_size() {
        let fixture = fixture();
        let mut writer = fixture.writer(0);
        for lines in [0..50, 50..300, 300..500] {
            write(&mut writer, lines);
        }
        let all = |max: usize| {
            let store = fixture.store.clone();
            async move {
                let (mut whole, mut offset) = (Excerpt::default(), 0);
                while let Some(part) = store.excerpt(&id(0), offset, max).await.unwrap() {
                    assert!(part.entries.len() <= max);
                    if whole.entries.is_empty() {
                        whole.first_offset = part.first_offset;
                    }
                    assert_eq!(part.first_offset, whole.end_offset());
                    offset = part.end_offset();
                    whole.entries.extend(part.entries);
                }
                whole
            }
        };
        let whole = all(1 << 20).await;
        assert!(whole.first_offset > 0, "rotation has removed what was before it");
        assert_eq!((first_and_last_line(&whole).1, whole.end_offset()), (499, fixture.end_offset().await));
        for max in [1_000, 10_000, 70_000] {
            assert!(all(max).await == whole, "{max}");
        }
        // Not one entry.
        assert_eq!(fixture.store.excerpt(&id(0), 0, 10).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_has_ended_is_told_once_and_marks_are_found_again() {
        let fixture = fixture();
        let mut ended = fixture.store.ended();
        for run in 0..3 {
            let live = fixture.store.begin(&id(run)).unwrap();
            write(&mut fixture.writer(run), 0..3);
            if run < 2 {
                drop(live);
                assert_eq!(ended.recv().await, Some(id(run)));
            } else {
                assert_eq!(fixture.store.live(), [id(2)]);
                assert_eq!(fixture.store.unmarked(UID, Shipped::Tail).await.unwrap(), [id(0), id(1)]);
                fixture.store.mark(&id(0), Shipped::Tail).await.unwrap();
                assert_eq!(fixture.store.unmarked(UID, Shipped::Tail).await.unwrap(), [id(1)]);
                assert_eq!(fixture.store.unmarked(UID, Shipped::Archive).await.unwrap(), [id(0), id(1)]);
                // Readers take no notice of marks.
                assert_eq!(fixture.store.newest_run(UID).await.unwrap(), Some(("main".to_owned(), 2)));
                fixture.store.delete_pod(UID).await.unwrap();
                drop(live);
            }
        }
        assert!(ended.try_recv().is_err(), "the Pod was deleted");
        fixture.store.mark(&id(0), Shipped::Tail).await.unwrap();
        assert!(fixture.store.pods().await.unwrap().is_empty(), "a mark brings nothing back");
        assert!(fixture.store.unmarked(UID, Shipped::Tail).await.unwrap().is_empty());
    }
}
