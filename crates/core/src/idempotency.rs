//! Request ids of deleted Jobs (decision 10): a create that is repeated after the Job was deleted must not run it again.
//!
//! Owns: the tombstones, bounded in time and number. Does not own: the ids of existing Jobs, which are in their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{JobUid, Timestamp};

use crate::limits::{EXPIRIES_PER_ENTRY_MAX, TOMBSTONE_RETENTION_MS, TOMBSTONES_MAX};
use crate::record::{JobRecord, TombstoneRecord};
use crate::row::{Row, RowChangeKind, RowKey};
use crate::state::State;

type TombstoneKey = (String, String, String);

/// Tombstones by key and by when they are forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct TombstoneTable {
    records: BTreeMap<TombstoneKey, Arc<TombstoneRecord>>,
    queue: BTreeSet<(Timestamp, TombstoneKey)>,
}

impl TombstoneTable {
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| *due)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<TombstoneRecord>> {
        self.records.values()
    }

    /// Adds or replaces one.
    pub(crate) fn insert(&mut self, record: Arc<TombstoneRecord>) {
        let key = key_of(&record);
        let due = record.expires_at;
        if let Some(old) = self.records.insert(key.clone(), record) {
            self.queue.remove(&(old.expires_at, key.clone()));
        }
        self.queue.insert((due, key));
    }

    fn pop_first(&mut self) -> Option<Arc<TombstoneRecord>> {
        let (_, key) = self.queue.pop_first()?;
        self.records.remove(&key)
    }
}

fn key_of(record: &TombstoneRecord) -> TombstoneKey {
    (record.namespace.clone(), record.name.clone(), record.request_id.clone())
}

fn row_key(record: &TombstoneRecord) -> RowKey {
    RowKey::Tombstone {
        namespace: record.namespace.clone(),
        name: record.name.clone(),
        request_id: record.request_id.clone(),
    }
}

impl State {
    /// The Job that this request created and that was deleted since, if it is remembered.
    pub(crate) fn deleted_by_request(&self, namespace: &str, name: &str, request_id: &str) -> Option<JobUid> {
        if request_id.is_empty() {
            return None;
        }
        let key = (namespace.to_owned(), name.to_owned(), request_id.to_owned());
        self.tombstones.records.get(&key).map(|record| record.uid)
    }

    /// Remembers the request that created a Job which is being deleted now.
    pub(crate) fn remember_request(&mut self, job: &JobRecord) {
        if job.request_id.is_empty() {
            return;
        }
        if self.tombstones.records.len() >= TOMBSTONES_MAX {
            self.forget_first_tombstone();
        }
        let record = Arc::new(TombstoneRecord {
            namespace: job.metadata.namespace.clone(),
            name: job.metadata.name.clone(),
            request_id: job.request_id.clone(),
            uid: job.uid,
            expires_at: self.meta.time.plus_ms(TOMBSTONE_RETENTION_MS),
        });
        let row = Row::Tombstone(Arc::clone(&record));
        let kind = match self.tombstones.records.contains_key(&key_of(&record)) {
            true => RowChangeKind::Modified(row),
            false => RowChangeKind::Added(row),
        };
        self.push_plain(row_key(&record), kind);
        self.tombstones.insert(record);
    }

    /// Forgets what is due.
    pub(crate) fn expire_tombstones(&mut self) {
        for _ in 0..EXPIRIES_PER_ENTRY_MAX {
            if self.tombstones.next_due().is_none_or(|due| due > self.meta.time) {
                break;
            }
            self.forget_first_tombstone();
        }
    }

    fn forget_first_tombstone(&mut self) {
        if let Some(record) = self.tombstones.pop_first() {
            self.push_plain(row_key(&record), RowChangeKind::Deleted(Row::Tombstone(record)));
        }
    }
}
