//! What nodes left in the engine that are no more: their data folder was lost, and with it their uid.
//!
//! Owns: telling that nobody is left who would come for it, and its removal. Does not own: what this node's own agents left
//! (`recovery`).
//!
//! A node is taken for gone when no agent of this host has its uid and no guard guards its Pods: a guard outlives its agent until
//! the lease is over, so a node whose agent is just being started again has one. That must be seen twice.

use super::api::{Container, PodSandbox};
use super::config::{NODE_UID, pod_uid};
use super::engine::Refusal;
use super::recovery::without_sandbox;
use super::removal::remove_sandbox;
use super::{Shared, guard};
use crate::container_id::check_pod_uid;
use crate::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a node has in the engine.
#[derive(Default)]
struct Left {
    sandboxes: Vec<PodSandbox>,
    /// Those that are of none of them.
    containers: Vec<Container>,
}

/// One look. `suspects`: nodes that were found to be gone by the last one, and after it by this one.
pub(super) async fn collect(shared: &Arc<Shared>, suspects: &mut BTreeSet<String>) -> Result<(), Refusal> {
    let Some(has_owner) = shared.owners else { return Ok(()) };
    let mut by_node: BTreeMap<String, Left> = BTreeMap::new();
    // Others use the engine too.
    let other = |labels: &BTreeMap<String, String>| {
        labels.get(NODE_UID).filter(|uid| **uid != shared.node_uid).cloned()
    };
    let containers = shared.engine.containers(BTreeMap::new()).await?;
    let sandboxes = shared.engine.sandboxes(BTreeMap::new()).await?;
    for container in without_sandbox(containers, &sandboxes) {
        if let Some(node_uid) = other(&container.labels) {
            by_node.entry(node_uid).or_default().containers.push(container);
        }
    }
    for sandbox in sandboxes {
        if let Some(node_uid) = other(&sandbox.labels) {
            by_node.entry(node_uid).or_default().sandboxes.push(sandbox);
        }
    }
    let cgroups = shared.cgroups.clone();
    let look = tokio::task::spawn_blocking(move || {
        by_node.retain(|node_uid, _| !has_owner(node_uid) && !guard::guards(&cgroups.of_node(node_uid)));
        by_node
    });
    let Ok(gone) = look.await else { return Ok(()) };
    let seen = gone.keys().cloned().collect();
    for (node_uid, left) in gone {
        if suspects.contains(&node_uid) {
            let (pods, containers) = (left.sandboxes.len(), left.containers.len());
            tracing::info!(node_uid, pods, containers, "what a node left that is no more is removed");
            remove(shared, &node_uid, left).await;
        }
    }
    *suspects = seen;
    Ok(())
}

async fn remove(shared: &Arc<Shared>, node_uid: &str, left: Left) {
    let cgroups = shared.cgroups.of_node(node_uid);
    for container in left.containers {
        if let Err(refusal) = shared.engine.remove_container(&container.id).await {
            tracing::warn!(container = container.id, message = refusal.message, "it can't be removed");
        }
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
