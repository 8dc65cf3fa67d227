//! A cluster that begins with the rows of a snapshot: what becomes of the Pods and nodes of the cluster that it was taken of.
//!
//! Owns: what a restore changes of the state (decision 6), the end of the old cluster's Pods and nodes. Does not own: the
//! snapshot's file, the new cluster's place on disk (crate `raft`).
//!
//! Invariants: a restore changes one row, [`RowKey::Meta`]; the rest follows from it, over as many entries as it takes. What
//! was unfinished may have gone on, ended or been lost in the old cluster, and nobody can know: such Pods end uncounted, and
//! their Jobs make others. Until the last of them has ended no node registers and no Pod is bound, so that nothing of the
//! old cluster is ever ordered to run.
//!
//! [`RowKey::Meta`]: crate::row::RowKey::Meta

use std::collections::BTreeSet;
use std::sync::Arc;

use stint_api::{ClusterId, Incarnation, NodeName, PodUid, Revision};

use crate::error::CoreError;
use crate::limits::{NODES_FORGOTTEN_PER_ENTRY_MAX, PODS_LOST_PER_ENTRY_MAX, REVISION_RAISE};
use crate::pods::PodEnd;
use crate::record::MetaRecord;
use crate::state::State;

/// Reason of a Pod that was unfinished when its cluster's snapshot was taken.
pub(crate) const RESTORED: &str = "Restored";

/// What is left of the cluster that a snapshot was taken of. Derived from rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct OldCluster {
    /// Its unfinished Pods.
    pub(crate) pods: BTreeSet<PodUid>,
    /// Its nodes.
    pub(crate) nodes: BTreeSet<NodeName>,
}

impl OldCluster {
    fn is_gone(&self) -> bool {
        self.pods.is_empty() && self.nodes.is_empty()
    }
}

impl MetaRecord {
    /// What is true of the whole state in a new cluster that begins with these rows. Revisions are raised by `raises` times
    /// [`REVISION_RAISE`], so that neither a cursor nor a fencing token of the old cluster is ever one of the new one
    /// (decision 6). Member ids, time and settings are carried over.
    ///
    /// # Errors
    /// If the old cluster was never initialized, or no revision is left.
    pub fn restored(&self, cluster_id: ClusterId, raises: u32) -> Result<MetaRecord, CoreError> {
        let mut restored = self.clone();
        let settings = restored.settings.as_mut().ok_or(CoreError::NotInitialized)?;
        settings.cluster_id = cluster_id;
        let raise = REVISION_RAISE.checked_mul(u64::from(raises)).filter(|raise| *raise > 0);
        let raised = raise.and_then(|raise| self.revision.0.checked_add(raise));
        restored.revision = Revision(raised.ok_or(CoreError::NoRevisionLeft { revision: self.revision })?);
        restored.restored_at = restored.revision;
        Ok(restored)
    }
}

impl State {
    /// True while Pods or nodes of the cluster that this one was restored from are left.
    pub fn is_restoring(&self) -> bool {
        !self.old_cluster.is_gone()
    }

    /// Finds what is left of the old cluster in a state that was loaded.
    pub(crate) fn find_old_cluster(&mut self) {
        let until = self.meta.restored_at;
        let pods = self.pods.iter().filter(|(_, pod)| pod.record.created_revision <= until);
        let nodes = self.nodes.iter().filter(|(_, node)| node.record.incarnation <= Incarnation(until.0));
        self.old_cluster = OldCluster {
            pods: pods.map(|(uid, _)| *uid).collect(),
            nodes: nodes.map(|(name, _)| name.clone()).collect(),
        };
    }

    /// Ends Pods of the old cluster, then forgets its nodes: as many as one entry may.
    pub(crate) fn carry_restore_on(&mut self) {
        for _ in 0..PODS_LOST_PER_ENTRY_MAX {
            let Some(uid) = self.old_cluster.pods.pop_first() else { break };
            self.end_restored_pod(uid);
        }
        if !self.old_cluster.pods.is_empty() {
            return;
        }
        for _ in 0..NODES_FORGOTTEN_PER_ENTRY_MAX {
            let Some(name) = self.old_cluster.nodes.pop_first() else { break };
            self.remove_node(&name);
        }
    }

    fn end_restored_pod(&mut self, uid: PodUid) {
        let Some(pod) = self.pods.get(&uid).map(|pod| Arc::clone(&pod.record)) else { return };
        let message = "the cluster was restored from a snapshot in which this pod was unfinished: what became of it is not \
                       known, and nothing is counted";
        self.decided(pod.job, "PodRestored", &pod.name, message.to_owned());
        let mut record = pod.as_ref().clone();
        // Decided never to be.
        record.counted = true;
        let end = PodEnd {
            record: Some(record),
            reason: RESTORED.to_owned(),
            message: message.to_owned(),
            disruption_reason: RESTORED,
            ..PodEnd::default()
        };
        self.end_pod(uid, end);
    }
}
