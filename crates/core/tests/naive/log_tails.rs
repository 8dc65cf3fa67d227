//! Tails of logs: of each container of each stored Pod, what its last two runs have sent last.

use std::collections::BTreeMap;

use stint_core::testing::Rows;
use stint_core::{LogTail, LogTailKey, RejectionReason, Reply, Row, RowKey, StoreLogTails};

use super::{Naive, refused};

/// What should be kept: where it begins, whether it is the last, its content.
pub type Kept = (u64, bool, Vec<u8>);

impl Naive {
    pub(super) fn store_log_tails(&mut self, store: &StoreLogTails, reply: &Reply) {
        let node = self.nodes.get(store.node.as_str());
        if node.is_none_or(|node| !node.live || node.incarnation != store.incarnation) {
            return refused(reply, RejectionReason::StaleIncarnation);
        }
        let expected: Vec<bool> =
            store.tails.iter().map(|tail| self.store_log_tail(store.node.as_str(), tail)).collect();
        let Reply::LogTailsStored { accepted } = reply else { panic!("{reply:?}") };
        assert_eq!(*accepted, expected);
    }

    fn store_log_tail(&mut self, node: &str, tail: &LogTail) -> bool {
        let Some(place) = self.place_of(tail.pod) else { return false };
        let pod = &self.pods[place];
        let is_found = match &pod.end {
            Some(end) => !end.gone && tail.key.created_revision == pod.created,
            None => true,
        };
        let container = pod.containers.get(tail.container as usize);
        let is_begun = container.is_some_and(|container| tail.restart_count <= container.restarts);
        if !is_found || pod.node.as_deref() != Some(node) || !is_begun {
            return false;
        }
        let key = LogTailKey { pod: tail.pod, container: tail.container, restart_count: tail.restart_count };
        let is_of_container = |other: &LogTailKey| other.pod == key.pod && other.container == key.container;
        let newest =
            self.log_tails.keys().filter(|other| is_of_container(other)).map(|one| one.restart_count);
        let newest = newest.max().unwrap_or(0);
        let known = self.log_tails.get(&key);
        let is_late = known
            .is_some_and(|(first, is_last, _)| *first > tail.first_offset || (*is_last && !tail.is_last));
        if !is_late && newest < key.restart_count + 2 {
            self.log_tails.insert(key, (tail.first_offset, tail.is_last, tail.entries.clone()));
            self.log_tails
                .retain(|other, _| !is_of_container(other) || other.restart_count + 2 > key.restart_count);
        }
        true
    }

    pub(super) fn compare_log_tails(&mut self, rows: &Rows) {
        let stored: Vec<_> = rows.pods().into_iter().map(|(_, pod)| pod.uid).collect();
        self.log_tails.retain(|key, _| stored.contains(&key.pod));
        let mut real = BTreeMap::new();
        for (key, stored) in &rows.map {
            if let (RowKey::LogTail(key), Row::LogTail(record)) = (key, &stored.row) {
                real.insert(*key, (record.first_offset, record.is_last, record.entries.clone()));
            }
        }
        assert_eq!(real, self.log_tails);
    }
}
