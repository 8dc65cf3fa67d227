//! Which Pods are gone, so that agents may drop their logs (A8), and where the rows of those are that have ended.
//!
//! Owns: remembering Pods that ended or were deleted lately, and finding out about older ones by looking through the rows now
//! and then. Does not own: deleting Pods (`stint-core`), logs (agents).
//!
//! Invariants: a uid is called gone only if its row was deleted, or a complete look through a view taken after the question
//! did not find it; memory is bounded by what was asked and a fixed number of uids.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Bound;

use parking_lot::Mutex;
use stint_api::{JobUid, PodUid, Revision};
use stint_core::{PodKey, Row, RowChange, RowChangeKind, RowKey, RowRange};
use stint_raft::RowView;

use crate::limits::{
    DELETED_PODS_REMEMBERED_MAX, ENDED_PODS_ASKED_MAX, ENDED_PODS_KNOWN_MAX, LIST_SCAN_CHUNK_ROWS,
};

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
    /// Rows of Pods that have ended.
    keys: HashMap<PodUid, PodKey>,
    /// Oldest first; bounds `keys`.
    keys_order: VecDeque<PodUid>,
}

impl EndedPods {
    /// Takes note of ends and deletions among applied changes.
    pub fn applied(&self, changes: &[RowChange]) {
        let mut known = None;
        for change in changes {
            match (&change.key, &change.kind) {
                (_, RowChangeKind::Deleted(Row::Pod(record))) => {
                    known.get_or_insert_with(|| self.known.lock()).add(record.uid);
                }
                (RowKey::Pod(key), RowChangeKind::Modified(Row::Pod(record)))
                    if record.phase.is_terminal() =>
                {
                    known.get_or_insert_with(|| self.known.lock()).add_key(record.uid, *key);
                }
                _ => {}
            }
        }
    }

    /// Where the row of a Pod is that has ended, if that is known. Otherwise it is looked for the next time.
    pub fn key_of(&self, uid: PodUid) -> Option<PodKey> {
        let mut known = self.known.lock();
        let key = known.keys.get(&uid).copied();
        if key.is_none() && !known.gone.contains(&uid) && known.asked.len() < ENDED_PODS_ASKED_MAX {
            known.asked.insert(uid);
        }
        key
    }

    /// True if the Pod is known to be gone.
    pub fn is_gone(&self, uid: PodUid) -> bool {
        self.known.lock().gone.contains(&uid)
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
            for (key, stored) in &rows {
                if let (RowKey::Pod(key), Row::Pod(record)) = (key, &stored.row)
                    && asked.remove(&record.uid)
                {
                    self.known.lock().add_key(record.uid, *key);
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
    fn add_key(&mut self, uid: PodUid, key: PodKey) {
        if self.keys.insert(uid, key).is_none() {
            self.keys_order.push_back(uid);
        }
        while self.keys_order.len() > ENDED_PODS_KNOWN_MAX {
            if let Some(oldest) = self.keys_order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
    }

    fn add(&mut self, uid: PodUid) {
        self.keys.remove(&uid);
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
    fn rows_of_pods_that_have_ended_are_known_until_they_are_gone() {
        let ended = EndedPods::default();
        let key = PodKey { job: JobUid(3), created_revision: Revision(4) };
        ended.known.lock().add_key(PodUid(1), key);
        assert_eq!(ended.key_of(PodUid(1)), Some(key));
        assert!(ended.take_asked().is_empty());
        ended.known.lock().add(PodUid(1));
        assert_eq!((ended.key_of(PodUid(1)), ended.is_gone(PodUid(1))), (None, true));
        // Those that it does not know are looked for.
        assert_eq!((ended.key_of(PodUid(2)), ended.is_gone(PodUid(2))), (None, false));
        assert_eq!(ended.take_asked(), HashSet::from([PodUid(2)]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let ended = EndedPods::default();
        for uid in 0..(ENDED_PODS_KNOWN_MAX as u128 + 10) {
            ended.known.lock().add_key(PodUid(uid), PodKey { job: JobUid(1), created_revision: Revision(1) });
        }
        assert_eq!(ended.known.lock().keys.len(), ENDED_PODS_KNOWN_MAX);
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
