//! J122: deletes the Pods that ended longest ago once more are kept than the cluster's setting allows.
//!
//! Owns: when to look, which Pods go. Does not own: deleting one (`stint-core`), which counts nothing: what a Pod was worth to
//! its Job was counted when it ended (J110).
//!
//! Invariants: only the leader looks, only while there are too many, and it holds a bounded number of them in memory; each
//! deletion is a command that names the Pod's uid, so that an outdated look does no harm.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use stint_api::{JobUid, PodUid, Revision, Timestamp};
use stint_core::{Command, DeletePod, PodKey, PodRecord, Row, RowKey, RowRange};
use stint_raft::RaftNode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::error;
use crate::limits::{
    LIST_SCAN_CHUNK_ROWS, POD_COLLECTION_CHUNK, POD_COLLECTION_INTERVAL_MS, POD_COLLECTION_PROPOSALS,
};
use crate::objects::RowReader;
use crate::proposer::Proposer;
use crate::reads::Reads;

/// Runs until `stop`.
pub async fn run(raft: Arc<RaftNode>, reads: Reads, proposer: Proposer, stop: CancellationToken) {
    let interval = Duration::from_millis(POD_COLLECTION_INTERVAL_MS);
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        while !stop.is_cancelled() {
            let excess = excess(&raft);
            if excess == 0 {
                break;
            }
            let wanted = excess.min(POD_COLLECTION_CHUNK);
            let found = reads.rows(false, move |reader| oldest(reader, wanted)).await;
            let deleted = match found {
                Ok(found) => delete(&proposer, found).await,
                Err(failed) => {
                    tracing::debug!(%failed, "ended pods were not looked through");
                    0
                }
            };
            if deleted == 0 {
                break;
            }
            tracing::info!(deleted, excess, "deleted the pods that ended longest ago");
        }
    }
}

/// How many ended Pods there are too many; 0 on a server that does not lead.
fn excess(raft: &RaftNode) -> usize {
    if !raft.leadership().borrow().established {
        return 0;
    }
    raft.with_state(|state| {
        let max = state.settings().map_or(0, |settings| u64::from(settings.ended_pods_max));
        let excess = if max == 0 { 0 } else { state.meta().n_ended_pods.saturating_sub(max) };
        usize::try_from(excess).unwrap_or(usize::MAX)
    })
}

/// What goes first: what was evicted, then what ended first.
type Age = (Reverse<bool>, Timestamp, PodUid);

fn age(pod: &PodRecord) -> Age {
    (Reverse(pod.reason == "Evicted"), pod.finished_at.unwrap_or(Timestamp(0)), pod.uid)
}

/// The deletions of at most `wanted` Pods that have ended, the oldest ones.
fn oldest(reader: &mut RowReader<'_>, wanted: usize) -> Result<Vec<DeletePod>, Status> {
    let first = PodKey { job: JobUid(0), created_revision: Revision(0) };
    let last = PodKey { job: JobUid(u128::MAX), created_revision: Revision(u64::MAX) };
    let mut from = Bound::Included(RowKey::Pod(first));
    // The youngest of those found so far is on top: it makes room for an older one.
    let mut found: BinaryHeap<(Age, JobUid, Revision, String)> = BinaryHeap::new();
    loop {
        let range = RowRange { from, to: Bound::Included(RowKey::Pod(last)), limit: LIST_SCAN_CHUNK_ROWS };
        let rows = reader.view().scan(&range).map_err(|failed| error::internal("reading Pods", &failed))?;
        for (_, stored) in &rows {
            let Row::Pod(pod) = &stored.row else { continue };
            if pod.phase.is_terminal() {
                found.push((age(pod), pod.job, pod.created_revision, pod.name.clone()));
                if found.len() > wanted {
                    found.pop();
                }
            }
        }
        match rows.into_iter().nth(LIST_SCAN_CHUNK_ROWS - 1) {
            Some((key, _)) => from = Bound::Excluded(key),
            None => break,
        }
    }
    let mut deletions = Vec::with_capacity(found.len());
    for ((_, _, uid), job, created_revision, name) in found.into_sorted_vec() {
        // Without its template a Pod can't be named; it goes with its Job.
        let Some(template) = reader.template(job)? else { continue };
        deletions.push(DeletePod {
            namespace: template.namespace.clone(),
            name,
            uid: Some(uid),
            grace_period_seconds: None,
            key: Some(PodKey { job, created_revision }),
        });
    }
    Ok(deletions)
}

/// Proposes the deletions, some at a time; how many were carried out.
async fn delete(proposer: &Proposer, deletions: Vec<DeletePod>) -> usize {
    /// More than a command of this kind has.
    const COMMAND_BYTES: usize = 512;
    let mut under_way: JoinSet<bool> = JoinSet::new();
    let mut deleted = 0;
    for deletion in deletions {
        if under_way.len() >= POD_COLLECTION_PROPOSALS {
            deleted += usize::from(matches!(under_way.join_next().await, Some(Ok(true))));
        }
        let proposer = proposer.clone();
        under_way.spawn(async move {
            proposer.propose(Command::DeletePod(deletion), COMMAND_BYTES).await.is_ok()
        });
    }
    while let Some(done) = under_way.join_next().await {
        deleted += usize::from(matches!(done, Ok(true)));
    }
    deleted
}
