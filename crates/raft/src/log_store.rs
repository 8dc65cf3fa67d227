//! The log as openraft sees it.
//!
//! Owns: the newest entries in memory, so that they can be read the moment `append` returns; reading of older ones with
//! their checksums; the vote and the positions as they were last saved. Does not own: writing (module `log_thread`).
//!
//! Invariant: what is not in memory is in the engine: an entry leaves memory only after it was written.

use crate::codec;
use crate::engine::{Engine, Table};
use crate::error::Error;
use crate::limits::{LOG_CACHE_BYTES_MAX, LOG_READ_BYTES_MAX};
use crate::log_growth::LogGrowth;
use crate::log_thread::{LogWriter, entry_bytes, log_key};
use crate::recovery::Recovered;
use crate::types::{LogEntry, LogId, TypeConfig, Vote};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::path::PathBuf;
use std::sync::Arc;

/// Log, vote and positions. Clones share everything; openraft writes through one of them only.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    engine: Arc<dyn Engine>,
    writer: LogWriter,
    tail: RwLock<Tail>,
    growth: Arc<LogGrowth>,
    cache_bytes_max: usize,
}

/// What is known of the log without reading the engine.
#[derive(Debug, Default)]
struct Tail {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The last entry; none if the log is empty.
    last: Option<LogId>,
    /// The newest entries without a gap; the last one is `last`. May be fewer than there are, also none.
    entries: VecDeque<LogEntry>,
    bytes: usize,
}

impl LogStore {
    pub(crate) fn new(
        folder: PathBuf,
        engine: Arc<dyn Engine>,
        writer: LogWriter,
        recovered: Recovered,
    ) -> LogStore {
        let tail = Tail {
            vote: recovered.vote,
            committed: recovered.committed,
            purged: recovered.purged,
            last: recovered.last,
            entries: VecDeque::new(),
            bytes: 0,
        };
        LogStore {
            inner: Arc::new(Inner {
                folder,
                engine,
                writer,
                tail: RwLock::new(tail),
                growth: Arc::new(recovered.growth),
                cache_bytes_max: LOG_CACHE_BYTES_MAX,
            }),
        }
    }

    /// The log's position after a snapshot was installed: the log that it covers is gone.
    pub(crate) fn snapshot_installed(&self, last: LogId) {
        self.inner.tail.write().purge(last);
        self.inner.growth.purged(last.index());
    }

    /// How large the log is, as it grows.
    pub(crate) fn growth(&self) -> Arc<LogGrowth> {
        self.inner.growth.clone()
    }

    /// Entries from `start` to `end` (excluded); at least one if there is one, and no more once `bytes_max` is reached.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<LogEntry>, Error> {
        let (mut cached, on_disk_end) = {
            let tail = self.inner.tail.read();
            let first_cached = tail.first_cached();
            let cached: Vec<LogEntry> = tail
                .entries
                .iter()
                .skip(usize::try_from(start.saturating_sub(first_cached)).unwrap_or(usize::MAX))
                .take_while(|entry| entry.log_id.index() < end)
                .cloned()
                .collect();
            let first_kept = tail.purged.map_or(0, |purged| purged.index() + 1);
            (cached, if first_kept >= first_cached { 0 } else { end.min(first_cached) })
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        if start < on_disk_end {
            entries = self.read_engine(start, on_disk_end, bytes_max, &mut bytes)?;
        }
        let stopped_early = entries.last().is_some_and(|last| last.log_id.index() + 1 < on_disk_end);
        if !stopped_early {
            cached.retain(|entry| {
                let fits = bytes < bytes_max;
                bytes += entry_bytes(entry);
                fits
            });
            entries.append(&mut cached);
        }
        for pair in entries.windows(2) {
            if pair[0].log_id.index() + 1 != pair[1].log_id.index() {
                return Err(self.damaged(format!(
                    "the log has a gap between entries {} and {}",
                    pair[0].log_id.index(),
                    pair[1].log_id.index()
                )));
            }
        }
        Ok(entries)
    }

    fn read_engine(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
        bytes: &mut usize,
    ) -> Result<Vec<LogEntry>, Error> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut previous: Option<u32> = None;
        let mut damage = None;
        let (from, to) = (log_key(start), log_key(end));
        let mut visit = |key: &[u8], value: bytes::Bytes| {
            if *bytes >= bytes_max {
                return ControlFlow::Break(());
            }
            let index = key.try_into().map_or(u64::MAX, u64::from_be_bytes);
            match codec::check_record(index, value) {
                Ok(record) if previous.is_none_or(|checksum| checksum == record.previous_checksum) => {
                    previous = Some(record.checksum);
                    *bytes += entry_bytes(&record.entry);
                    entries.push(record.entry);
                    ControlFlow::Continue(())
                }
                Ok(_) => {
                    damage = Some(format!("log entry {index} does not follow the entry before it"));
                    ControlFlow::Break(())
                }
                Err(error) => {
                    damage = Some(format!("log entry {index}: {error}"));
                    ControlFlow::Break(())
                }
            }
        };
        let mut scanned = Ok(());
        self.inner
            .engine
            .with_view(&mut |view| {
                scanned = view.scan(Table::Log, Bound::Included(&from), Bound::Excluded(&to), &mut visit);
            })
            .and(scanned)
            .map_err(|error| self.damaged(error.to_string()))?;
        match damage {
            Some(damage) => Err(self.damaged(damage)),
            None => Ok(entries),
        }
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { folder: self.inner.folder.clone(), what }
    }
}

impl Tail {
    fn first_cached(&self) -> u64 {
        match (self.entries.front(), self.last) {
            (Some(first), _) => first.log_id.index(),
            (None, Some(last)) => last.index() + 1,
            (None, None) => self.purged.map_or(0, |purged| purged.index() + 1),
        }
    }

    fn push(&mut self, entry: LogEntry) {
        self.last = Some(entry.log_id);
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }

    fn pop_front_while(&mut self, condition: impl Fn(&Tail, &LogEntry) -> bool) {
        while let Some(first) = self.entries.front() {
            if !condition(self, first) {
                return;
            }
            if let Some(first) = self.entries.pop_front() {
                self.bytes -= entry_bytes(&first);
            }
        }
    }

    fn truncate(&mut self, keep_up_to: Option<LogId>) {
        let end = keep_up_to.map_or(0, |log_id| log_id.index() + 1);
        while let Some(last) = self.entries.back()
            && last.log_id.index() >= end
        {
            if let Some(last) = self.entries.pop_back() {
                self.bytes -= entry_bytes(&last);
            }
        }
        if self.last.is_some_and(|last| last.index() >= end) {
            self.last = keep_up_to.filter(|log_id| Some(*log_id) > self.purged);
        }
    }

    fn purge(&mut self, up_to: LogId) {
        self.purged = self.purged.max(Some(up_to));
        self.pop_front_while(|_, entry| entry.log_id.index() <= up_to.index());
        if self.last.is_some_and(|last| last.index() <= up_to.index()) {
            self.last = None;
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<LogEntry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.read(start, end, usize::MAX)?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.inner.tail.read().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        Ok(self.read(start, end, LOG_READ_BYTES_MAX)?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.inner.tail.read();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last.or(tail.purged) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.inner.writer.save_vote(*vote).await?;
        self.inner.tail.write().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.inner.writer.save_committed(committed).await?;
            self.inner.tail.write().committed = Some(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.inner.tail.read().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        {
            let mut tail = self.inner.tail.write();
            for entry in &entries {
                if let Some(last) = tail.last.or(tail.purged)
                    && last.index() + 1 != entry.log_id.index()
                {
                    return Err(io::Error::other(format!(
                        "entry {} cannot be appended to a log that ends with {last}: there would be a gap",
                        entry.log_id
                    )));
                }
                tail.push(entry.clone());
                self.inner.growth.appended(entry.log_id.index(), entry_bytes(entry));
            }
            let written_end = self.inner.writer.written_log_end();
            let bytes_max = self.inner.cache_bytes_max;
            tail.pop_front_while(|tail, first| {
                tail.bytes > bytes_max && tail.entries.len() > 1 && first.log_id.index() < written_end
            });
        }
        Ok(self.inner.writer.append(entries, callback).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.inner.tail.write().truncate(last_log_id);
        self.inner.growth.truncated(last_log_id.map_or(0, |log_id| log_id.index() + 1));
        Ok(self.inner.writer.truncate(last_log_id.map(|log_id| log_id.index())).await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.inner.tail.write().purge(log_id);
        self.inner.growth.purged(log_id.index());
        Ok(self.inner.writer.purge(log_id).await?)
    }
}
