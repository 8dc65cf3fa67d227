//! Which Pods are gone, so that agents may drop their logs (A8).
//!
//! Owns: remembering Pods that were deleted lately, and finding out about older ones by looking through the rows now and
//! then. Does not own: deleting Pods (`stint-core`), logs (agents).
//!
//! Invariants: a uid is called gone only if its row was deleted, or a complete look through a view taken after the question
//! did not find it; memory is bounded by what was asked and a fixed number of uids.

use std::collections::{HashSet, VecDeque};
use std::ops::Bound;

use parking_lot::Mutex;
use stint_api::{JobUid, PodUid, Revision};
use stint_core::{PodKey, Row, RowChange, RowChangeKind, RowKey, RowRange};
use stint_raft::RowView;

use crate::limits::{DELETED_PODS_REMEMBERED_MAX, ENDED_PODS_ASKED_MAX, LIST_SCAN_CHUNK_ROWS};

/// See the module.
#[derive(Debug, Default)]
pub struct EndedPods {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    gone: HashSet<PodUid>,
    /// Oldest first; bounds `gone`.
    order: VecDeque<PodUid>,
    /// Asked about since the last look, and not known to be gone.
    asked: HashSet<PodUid>,
}

impl EndedPods {
    /// Takes note of deletions among applied changes.
    pub fn applied(&self, changes: &[RowChange]) {
        let mut known = None;
        for change in changes {
            if let RowChangeKind::Deleted(Row::Pod(record)) = &change.kind {
                known.get_or_insert_with(|| self.known.lock()).add(record.uid);
            }
        }
    }

    /// Which of these are known to be gone. The others are looked for the next time.
    pub fn gone_among(&self, uids: &[PodUid]) -> Vec<PodUid> {
        let mut known = self.known.lock();
        let (gone, open): (Vec<PodUid>, Vec<PodUid>) = uids.iter().partition(|uid| known.gone.contains(uid));
        for uid in open {
            if known.asked.len() < ENDED_PODS_ASKED_MAX {
                known.asked.insert(uid);
            }
        }
        gone
    }

    /// What has been asked about since the last look; a look at a view taken from now on answers it.
    pub fn take_asked(&self) -> HashSet<PodUid> {
        std::mem::take(&mut self.known.lock().asked)
    }

    /// Looks through all Pods of a view for what was asked. Blocks; for a thread of its own.
    ///
    /// # Errors
    /// If rows cannot be read: then nothing is concluded.
    pub fn look_through(
        &self,
        view: &RowView<'_>,
        mut asked: HashSet<PodUid>,
    ) -> Result<(), stint_raft::Error> {
        let first = PodKey { job: JobUid(0), created_revision: Revision(0) };
        let last = PodKey { job: JobUid(u128::MAX), created_revision: Revision(u64::MAX) };
        let mut from = Bound::Included(RowKey::Pod(first));
        while !asked.is_empty() {
            let to = Bound::Included(RowKey::Pod(last));
            let rows = view.scan(&RowRange { from, to, limit: LIST_SCAN_CHUNK_ROWS })?;
            for (_, stored) in &rows {
                if let Row::Pod(record) = &stored.row {
                    asked.remove(&record.uid);
                }
            }
            match rows.into_iter().nth(LIST_SCAN_CHUNK_ROWS - 1) {
                Some((key, _)) => from = Bound::Excluded(key),
                None => break,
            }
        }
        let mut known = self.known.lock();
        for uid in asked {
            known.add(uid);
        }
        Ok(())
    }
}

impl Known {
    fn add(&mut self, uid: PodUid) {
        if !self.gone.insert(uid) {
            return;
        }
        self.order.push_back(uid);
        while self.order.len() > DELETED_PODS_REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_only_what_is_known_to_be_gone_is_called_gone_and_the_rest_is_looked_for() {
        let ended = EndedPods::default();
        ended.known.lock().add(PodUid(1));
        assert_eq!(ended.gone_among(&[PodUid(1), PodUid(2)]), vec![PodUid(1)]);
        assert_eq!(ended.take_asked(), HashSet::from([PodUid(2)]));
        assert!(ended.take_asked().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ended = EndedPods::default();
        for uid in 0..(DELETED_PODS_REMEMBERED_MAX as u128 + 10) {
            ended.known.lock().add(PodUid(uid));
        }
        let known = ended.known.lock();
        assert_eq!(
            (known.gone.len(), known.order.len()),
            (DELETED_PODS_REMEMBERED_MAX, DELETED_PODS_REMEMBERED_MAX)
        );
    }
}
