//! The last output of containers, kept by the servers for when a node is lost.
//!
//! Owns: whose tails are taken, which are kept, when they go. Does not own: what is in them (crate `logs`), how many come in a
//! second (crate `server`).
//!
//! A tail is a row without a revision: nobody watches it. It goes with its Pod; of each container the last runs are kept, and
//! beyond the limits of the cluster the one that was written longest ago goes.
//!
//! Invariants: memory holds where each tail is and its size, within a limit; contents are in rows alone; a tail is of a Pod
//! whose row is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use stint_api::PodUid;

use crate::command::{LogTail, StoreLogTails};
use crate::limits::{
    LOG_TAIL_BYTES_MAX, LOG_TAIL_OVERHEAD_BYTES, LOG_TAIL_RUNS_KEPT, LOG_TAILS_BYTES_MAX, LOG_TAILS_MAX,
    LOG_TAILS_PER_COMMAND_MAX,
};
use crate::record::{LogTailRecord, PodRecord};
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::row::{LogTailKey, Row, RowChangeKind, RowKey, RowsNeeded, RowsRead};
use crate::state::State;

/// What memory keeps of all tails.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogTailTable {
    tails: BTreeMap<LogTailKey, TailState>,
    by_age: BTreeMap<u64, LogTailKey>,
    /// Of all contents, overhead included.
    bytes: u64,
}

/// What memory keeps of a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TailState {
    /// Higher for what was written later.
    age: u64,
    first_offset: u64,
    is_last: bool,
    bytes: u64,
}

impl LogTailTable {
    pub(crate) fn load(&mut self, key: LogTailKey, record: &LogTailRecord) {
        self.remove(&key);
        let bytes = u64::try_from(record.entries.len()).unwrap_or(u64::MAX);
        let state = TailState {
            age: record.age,
            first_offset: record.first_offset,
            is_last: record.is_last,
            bytes: bytes.saturating_add(LOG_TAIL_OVERHEAD_BYTES),
        };
        self.bytes = self.bytes.saturating_add(state.bytes);
        self.tails.insert(key, state);
        self.by_age.insert(state.age, key);
    }

    fn remove(&mut self, key: &LogTailKey) -> Option<TailState> {
        let removed = self.tails.remove(key)?;
        self.by_age.remove(&removed.age);
        self.bytes = self.bytes.saturating_sub(removed.bytes);
        Some(removed)
    }

    fn next_age(&self) -> u64 {
        self.by_age.last_key_value().map_or(0, |(age, _)| age.saturating_add(1))
    }

    fn of_pod(&self, pod: PodUid) -> Vec<LogTailKey> {
        let first = LogTailKey { pod, container: 0, restart_count: 0 };
        let last = LogTailKey { pod, container: u32::MAX, restart_count: u32::MAX };
        self.tails.range(first..=last).map(|(key, _)| *key).collect()
    }

    fn is_full(&self) -> bool {
        self.tails.len() > LOG_TAILS_MAX || self.bytes > LOG_TAILS_BYTES_MAX
    }
}

impl State {
    /// Rows of Pods that have ended; the others are in memory.
    pub(crate) fn rows_of_log_tails(&self, command: &StoreLogTails) -> RowsNeeded {
        let tails = command.tails.iter().take(LOG_TAILS_PER_COMMAND_MAX);
        let ended = tails.filter(|tail| !self.pods.contains_key(&tail.pod));
        RowsNeeded { keys: ended.map(|tail| RowKey::Pod(tail.key)).collect(), ranges: Vec::new() }
    }

    pub(crate) fn store_log_tails(&mut self, command: &StoreLogTails, rows: &RowsRead) -> Reply {
        let holds = self
            .nodes
            .get(&command.node)
            .is_some_and(|node| node.record.live && node.record.incarnation == command.incarnation);
        if !holds {
            let message = format!(
                "incarnation {} of node {} is over: register anew",
                command.incarnation, command.node
            );
            return Reply::Rejected(Rejection::new(RejectionReason::StaleIncarnation, message));
        }
        let mut ended = rows.keys.iter();
        let mut accepted = Vec::with_capacity(command.tails.len());
        for tail in command.tails.iter().take(LOG_TAILS_PER_COMMAND_MAX) {
            let pod = match self.pods.get(&tail.pod) {
                Some(pod) => Some(Arc::clone(&pod.record)),
                None => match ended.next().and_then(Option::as_ref).map(|stored| &stored.row) {
                    Some(Row::Pod(pod)) if pod.uid == tail.pod => Some(Arc::clone(pod)),
                    _ => None,
                },
            };
            let pod = pod.filter(|pod| pod.node.as_ref() == Some(&command.node) && is_of(tail, pod));
            if pod.is_some() {
                self.store_log_tail(tail);
            }
            accepted.push(pod.is_some());
        }
        accepted.resize(command.tails.len(), false);
        Reply::LogTailsStored { accepted }
    }

    fn store_log_tail(&mut self, tail: &LogTail) {
        let key = LogTailKey { pod: tail.pod, container: tail.container, restart_count: tail.restart_count };
        let table = &self.log_tails;
        let older = table.tails.get(&key);
        // Repeated, or overtaken by a later one.
        let is_late = older
            .is_some_and(|older| (older.is_last && !tail.is_last) || older.first_offset > tail.first_offset);
        let is_newer = |other: &&LogTailKey| {
            other.container == key.container
                && other.restart_count >= key.restart_count.saturating_add(LOG_TAIL_RUNS_KEPT)
        };
        let of_pod = table.of_pod(tail.pod);
        if is_late || of_pod.iter().find(is_newer).is_some() {
            return;
        }
        let is_outdated = |other: &&LogTailKey| {
            other.container == key.container
                && other.restart_count.saturating_add(LOG_TAIL_RUNS_KEPT) <= key.restart_count
        };
        for outdated in of_pod.iter().filter(is_outdated) {
            self.delete_log_tail(outdated);
        }
        let record = LogTailRecord {
            age: self.log_tails.next_age(),
            first_offset: tail.first_offset,
            is_last: tail.is_last,
            entries: tail.entries.clone(),
        };
        let is_new = !self.log_tails.tails.contains_key(&key);
        self.log_tails.load(key, &record);
        let row = Row::LogTail(Arc::new(record));
        let kind = if is_new { RowChangeKind::Added(row) } else { RowChangeKind::Modified(row) };
        self.push_plain(RowKey::LogTail(key), kind);
        while self.log_tails.is_full() {
            let Some(oldest) = self.log_tails.by_age.first_key_value().map(|(_, key)| *key) else { break };
            self.delete_log_tail(&oldest);
        }
    }

    /// The Pod is gone.
    pub(crate) fn delete_log_tails_of(&mut self, pod: PodUid) {
        for key in self.log_tails.of_pod(pod) {
            self.delete_log_tail(&key);
        }
    }

    fn delete_log_tail(&mut self, key: &LogTailKey) {
        let Some(state) = self.log_tails.remove(key) else { return };
        let TailState { age, first_offset, is_last, .. } = state;
        // Nobody watches tails: what was in it is not read for this.
        let record = LogTailRecord { age, first_offset, is_last, entries: Vec::new() };
        let row = Row::LogTail(Arc::new(record));
        self.push_plain(RowKey::LogTail(*key), RowChangeKind::Deleted(row));
    }
}

/// True if the Pod can have such a run, and the tail is no larger than tails may be.
fn is_of(tail: &LogTail, pod: &PodRecord) -> bool {
    let place = usize::try_from(tail.container).unwrap_or(usize::MAX);
    let container = pod.containers.get(place);
    let is_begun = container.is_some_and(|container| tail.restart_count <= container.restart_count);
    is_begun && tail.entries.len() <= LOG_TAIL_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pod: u128, restart_count: u32) -> LogTailKey {
        LogTailKey { pod: PodUid(pod), container: 0, restart_count }
    }

    fn record(age: u64, bytes: usize) -> LogTailRecord {
        LogTailRecord { age, first_offset: 0, is_last: false, entries: vec![0; bytes] }
    }

    #[test]
    fn what_is_replaced_or_removed_is_counted_no_more() {
        let mut table = LogTailTable::default();
        table.load(key(1, 0), &record(0, 100));
        table.load(key(1, 1), &record(1, 10));
        table.load(key(1, 0), &record(2, 50));
        assert_eq!(table.bytes, 60 + 2 * LOG_TAIL_OVERHEAD_BYTES);
        assert_eq!(table.by_age.values().copied().collect::<Vec<_>>(), [key(1, 1), key(1, 0)]);
        assert_eq!(table.next_age(), 3);
        assert_eq!(table.of_pod(PodUid(1)), [key(1, 0), key(1, 1)]);
        assert_eq!(table.of_pod(PodUid(2)), []);
        table.remove(&key(1, 0));
        assert_eq!(table.bytes, 10 + LOG_TAIL_OVERHEAD_BYTES);
        assert!(table.remove(&key(1, 0)).is_none());
    }
}
