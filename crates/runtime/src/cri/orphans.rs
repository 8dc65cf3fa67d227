//! What nodes left in the engine that are no more: their data folder was lost, and with it their uid.
//!
//! Owns: telling that nobody is left who would come for it, and its removal. Does not own: what this node's own agents left
//! (`recovery`).
//!
//! A node is taken for gone when no agent of this host has its uid and no guard guards its Pods: a guard outlives its agent until
//! the lease is over, so a node whose agent is just being started again has one. That must be seen twice.

use super::config::pod_uid;
use super::recovery::{Holdings, remove_stray};
use super::removal::remove_sandbox;
use super::{Shared, guard};
use crate::container_id::check_pod_uid;
use crate::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// One look at what others than this node have. `suspects`: nodes that were found to be gone by the last one, and after it by this one.
pub(super) async fn collect(
    shared: &Arc<Shared>,
    mut by_node: BTreeMap<String, Holdings>,
    suspects: &mut BTreeSet<String>,
) {
    let Some(has_owner) = shared.owners else { return };
    let cgroups = shared.cgroups.clone();
    let look = tokio::task::spawn_blocking(move || {
        by_node.retain(|node_uid, _| !has_owner(node_uid) && !guard::guards(&cgroups.of_node(node_uid)));
        by_node
    });
    let Ok(gone) = look.await else { return };
    let seen = gone.keys().cloned().collect();
    for (node_uid, left) in gone {
        if suspects.contains(&node_uid) {
            let (pods, containers) = (left.sandboxes.len(), left.strays.len());
            tracing::info!(node_uid, pods, containers, "what a node left that is no more is removed");
            remove(shared, &node_uid, left).await;
        }
    }
    *suspects = seen;
}

async fn remove(shared: &Arc<Shared>, node_uid: &str, left: Holdings) {
    let cgroups = shared.cgroups.of_node(node_uid);
    for container in &left.strays {
        remove_stray(shared, container).await;
    }
    for sandbox in left.sandboxes {
        // Others' words, and a path is made of them.
        let uid = pod_uid(&sandbox.labels).filter(|uid| check_pod_uid(uid).is_ok()).map(str::to_owned);
        let group = uid.map(|uid| (cgroups.clone(), uid));
        if let Some((cgroups, uid)) = group.clone() {
            // What is frozen does not end by the engine's signals.
            let kill = move || cgroups.kill_pod(&uid, Duration::from_millis(limits::KILL_PATIENCE_MS));
            let _ = tokio::task::spawn_blocking(kill).await;
        }
        match remove_sandbox(&shared.engine, &sandbox.id).await {
            Ok(()) => {
                if let Some((cgroups, uid)) = group {
                    cgroups.remove_pod(&uid);
                }
            }
            // The next look finds it again.
            Err(refusal) => {
                tracing::warn!(sandbox = sandbox.id, message = refusal.message, "it can't be removed");
            }
        }
    }
    // Only if nothing is below it any more.
    cgroups.remove_parent();
}
