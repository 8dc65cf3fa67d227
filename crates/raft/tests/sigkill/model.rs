//! What a log must do, and what a process found in its data folder.
//!
//! Owns: the expected hashes after each entry, from applying the log in memory; the one-line report between the processes.

use crate::support::{CLUSTER, Script};
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Bound, ControlFlow};
use std::str::FromStr;
use stint_api::MemberId;
use stint_core::{RowChange, RowChangeKind, StoredRow};
use stint_raft::Storage;
use stint_raft::codec;
use stint_raft::folder::ClusterPlace;
use stint_raft::types::{EntryPayload, LogEntry, LogPayload, log_id};

/// Name of the server whose folder it is.
pub const NAME: &str = "s1";
/// Its place: must be found in every folder, whatever happened.
pub const PLACE: ClusterPlace = ClusterPlace { member_id: MemberId(3), cluster_id: CLUSTER };
/// All entries are of it; votes are of it and later ones.
pub const TERM: u64 = 1;

/// A log, made as far as it was asked for, with what it does to state and rows.
pub struct Model {
    script: Script,
    entries: Vec<LogEntry>,
    /// After each entry: hash of the state, hash of all rows.
    hashes: Vec<(u64, u64)>,
    /// Hash of each row, by encoded key.
    rows: HashMap<Vec<u8>, u64>,
    rows_hash: u64,
}

impl Model {
    /// Equal seeds are equal logs, in every process.
    pub fn new(seed: u64) -> Model {
        let script = Script::new(seed);
        let first = LogEntry { log_id: log_id(0, 0), payload: EntryPayload::Blank };
        let hashes = vec![(script.harness.state.hash(), 0)];
        Model { script, entries: vec![first], hashes, rows: HashMap::new(), rows_hash: 0 }
    }

    /// The entries of an inclusive range of indexes.
    pub fn entries(&mut self, from: u64, to: u64) -> &[LogEntry] {
        self.make(to);
        let range = from as usize..(to + 1).max(from) as usize;
        &self.entries[range]
    }

    /// Hash of the state and of all rows after an entry; none: before the first.
    pub fn hashes(&mut self, index: Option<u64>) -> (u64, u64) {
        let Some(index) = index else { return Model::new(0).hashes[0] };
        self.make(index);
        self.hashes[index as usize]
    }

    /// Hash of the entries of an inclusive range of indexes.
    pub fn log_hash(&mut self, from: u64, to: u64) -> u64 {
        log_hash(self.entries(from, to))
    }

    fn make(&mut self, index: u64) {
        while (self.entries.len() as u64) <= index {
            let (entry, outcome) = self.script.next_entry();
            let payload = EntryPayload::Normal(LogPayload(codec::encode_commands(&entry)));
            self.entries.push(LogEntry { log_id: log_id(TERM, self.script.harness.log_index), payload });
            for change in &outcome.changes {
                self.change_row(change);
            }
            self.hashes.push((self.script.harness.state.hash(), self.rows_hash));
        }
    }

    /// The hash of all rows is the sum of their hashes, so that a change costs no more than its row.
    fn change_row(&mut self, change: &RowChange) {
        let key = codec::encode_row_key(&change.key);
        let old = match &change.kind {
            RowChangeKind::Added(row) | RowChangeKind::Modified(row) => {
                let hash = row_hash(&key, &StoredRow { revision: change.revision, row: row.clone() });
                self.rows_hash = self.rows_hash.wrapping_add(hash);
                self.rows.insert(key, hash)
            }
            RowChangeKind::Deleted(_) => self.rows.remove(&key),
        };
        self.rows_hash = self.rows_hash.wrapping_sub(old.unwrap_or(0));
    }
}

fn row_hash(key: &[u8], row: &StoredRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, codec::encode_row(row)).hash(&mut hasher);
    hasher.finish()
}

fn log_hash(entries: &[LogEntry]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in entries {
        codec::encode_log_entry(entry).hash(&mut hasher);
    }
    hasher.finish()
}

/// What storage has, read back: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Term of the vote.
    pub vote: Option<u64>,
    /// Index of the last entry, purged or not.
    pub last: Option<u64>,
    pub purged: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    /// Of the entries that are not purged.
    pub log_hash: u64,
    pub state_hash: u64,
    pub rows_hash: u64,
}

impl Found {
    pub async fn read(storage: &mut Storage) -> Found {
        let log = &mut storage.log_store;
        let state = log.get_log_state().await.expect("the log's state is read");
        let entries = log.try_get_log_entries(..).await.expect("the log is read");
        let reader = storage.state_machine.reader();
        let mut rows_hash: u64 = 0;
        let scan = |view: &stint_raft::RowView<'_>| {
            view.scan_while(&Bound::Unbounded, &Bound::Unbounded, |key, row| {
                rows_hash = rows_hash.wrapping_add(row_hash(&codec::encode_row_key(&key), &row));
                ControlFlow::Continue(())
            })
        };
        reader.rows().read_now(scan).expect("the rows are read");
        let found = Found {
            vote: log.read_vote().await.expect("the vote is read").map(|vote| vote.leader_id.term),
            last: state.last_log_id.map(|id| id.index()),
            purged: state.last_purged_log_id.map(|id| id.index()),
            committed: log.read_committed().await.expect("it is read").map(|id| id.index()),
            applied: reader.applied().borrow().index(),
            log_hash: log_hash(&entries),
            state_hash: reader.state().hash(),
            rows_hash,
        };
        let first = entries.first().map(|entry| entry.log_id.index());
        let last = entries.last().map(|entry| entry.log_id.index());
        match (first, last) {
            (Some(first), Some(_)) => {
                assert_eq!((first, last), (found.purged.map_or(0, |purged| purged + 1), found.last));
            }
            _ => assert_eq!(found.last, found.purged, "an empty log ends where it was purged"),
        }
        found
    }

    /// What holds of every folder at every moment: log, state and rows are those of the model.
    pub fn check(&self, model: &mut Model) {
        assert!(self.purged <= self.applied && self.applied <= self.last, "{self:?}");
        assert!(self.committed <= self.last, "{self:?}");
        if let Some(last) = self.last {
            let from = self.purged.map_or(0, |purged| purged + 1);
            assert_eq!(self.log_hash, model.log_hash(from, last), "the log's entries: {self:?}");
        }
        let (state_hash, rows_hash) = model.hashes(self.applied);
        assert_eq!(self.state_hash, state_hash, "state from rows is not the state of the log: {self:?}");
        assert_eq!(self.rows_hash, rows_hash, "rows on disk are not those of the log: {self:?}");
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for number in [self.vote, self.last, self.purged, self.committed, self.applied] {
            match number {
                Some(number) => write!(formatter, "{number} ")?,
                None => formatter.write_str("- ")?,
            }
        }
        write!(formatter, "{} {} {}", self.log_hash, self.state_hash, self.rows_hash)
    }
}

impl FromStr for Found {
    type Err = String;

    fn from_str(line: &str) -> Result<Found, String> {
        let unreadable = || format!("no report: {line:?}");
        let words: Vec<Option<u64>> = line.split(' ').map(|word| word.parse().ok()).collect();
        let [vote, last, purged, committed, applied, Some(log_hash), Some(state_hash), Some(rows_hash)] =
            words[..]
        else {
            return Err(unreadable());
        };
        Ok(Found { vote, last, purged, committed, applied, log_hash, state_hash, rows_hash })
    }
}
