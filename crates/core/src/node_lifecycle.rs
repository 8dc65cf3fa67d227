//! Nodes: registration (A2), expiry (A6), cordon, drain, removal.
//!
//! Owns: nodes' rows, what becomes of a node's Pods when it comes back or is lost. Does not own: leases (crate `lease`).
//!
//! Invariants: an incarnation that was fenced never counts again; a Pod lost with its node is Failed/NodeLost once
//! (R5); a Pod that never started is bound anew, uncounted.

use std::collections::BTreeSet;
use std::sync::Arc;

use stint_api::{Incarnation, NodeName, NodeOffer, PodPhase, PodUid};

use crate::command::{ExpireNode, RegisterNode};
use crate::events::{EventObject, NODE_LIFECYCLE, Occurrence};
use crate::limits::{NODE_PODS_MAX, NODES_MAX, PODS_LOST_PER_ENTRY_MAX, REPORTS_PER_COMMAND_MAX};
use crate::pods::PodEnd;
use crate::record::{NodeRecord, PodRecord, StopReason};
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::row::{Row, RowChangeKind, RowKey};
use crate::state::{NodeState, State};

/// P13: reason of condition DisruptionTarget of a Pod that a drain has deleted.
pub(crate) const EVICTION: &str = "EvictionByEvictionAPI";

fn rejected(reason: RejectionReason, message: String) -> Reply {
    Reply::Rejected(Rejection::new(reason, message))
}

/// Registration.
impl State {
    pub(crate) fn register_node(&mut self, command: &RegisterNode) -> Reply {
        if let Some(reply) = self.refuse_registration(command) {
            return reply;
        }
        let known = self.nodes.get(&command.node).map(|node| Arc::clone(&node.record));
        if let Some(known) = &known
            && known.live
        {
            self.settle_pods_of_returned_node(command);
        }
        let revision = self.next_revision();
        let incarnation = Incarnation(revision.0);
        let same_folder = known.as_ref().filter(|known| known.node_uid == command.node_uid);
        let conditions = self.dated_conditions(&command.conditions, same_folder.map(Arc::as_ref));
        let record = NodeRecord {
            name: command.node.clone(),
            node_uid: command.node_uid,
            created_at: same_folder.map_or(self.meta.time, |known| known.created_at),
            boot_id: command.boot_id.clone(),
            registration_number: command.registration_number,
            nonce: command.nonce,
            incarnation,
            live: true,
            live_changed_at: known
                .as_ref()
                .filter(|known| known.live)
                .map_or(self.meta.time, |known| known.live_changed_at),
            // A cordon holds for the name, whatever runs under it.
            unschedulable: known.as_ref().is_some_and(|known| known.unschedulable),
            capacity: command.capacity,
            labels: command.labels.clone(),
            runtimes: command.runtimes.clone(),
            conditions,
            agent_version: command.agent_version.clone(),
            features: command.features.clone(),
            info: command.info.clone(),
        };
        self.put_node(record, revision);
        self.tell_of_pressure(&command.node, same_folder.map(Arc::as_ref));
        if known.as_ref().is_none_or(|known| !known.live) {
            let message = format!("Node {} is ready", command.node);
            self.node_event(&command.node, Occurrence::normal(NODE_LIFECYCLE, "NodeReady", message));
        }
        self.registered(incarnation)
    }

    fn registered(&self, incarnation: Incarnation) -> Reply {
        match &self.meta.settings {
            Some(settings) => Reply::NodeRegistered {
                incarnation,
                cluster_id: settings.cluster_id,
                node_lease_ms: settings.node_lease_ms,
                revision: self.meta.revision,
            },
            None => not_initialized(),
        }
    }

    /// Everything for which a registration changes nothing (A2).
    fn refuse_registration(&self, command: &RegisterNode) -> Option<Reply> {
        let name = &command.node;
        let Some(settings) = &self.meta.settings else { return Some(not_initialized()) };
        if command.cluster_id.is_some_and(|known| known != settings.cluster_id) {
            let message = format!(
                "node {name} knows another cluster, this one is {}: kill its pods, drop its journal and register as new",
                settings.cluster_id
            );
            return Some(rejected(RejectionReason::OtherCluster, message));
        }
        if self.is_restoring() {
            let message = format!(
                "the pods that the cluster had before it was restored are still being ended: node {name} can register when they are"
            );
            return Some(rejected(RejectionReason::PreviousLeaseAlive, message));
        }
        if let Some(message) = invalid_registration(command) {
            return Some(rejected(RejectionReason::Invalid, message));
        }
        let Some(node) = self.nodes.get(name) else {
            let full = self.nodes.len() >= NODES_MAX;
            let message = format!("the cluster has {NODES_MAX} nodes, its limit: delete one that is gone");
            return full.then(|| rejected(RejectionReason::LimitExceeded, message));
        };
        let known = &node.record;
        if known.node_uid != command.node_uid {
            if known.live {
                let message = format!(
                    "node name {name} is held by a live lease of another data folder: choose another --name, or stop that agent"
                );
                return Some(rejected(RejectionReason::NodeNameTaken, message));
            }
        } else if command.registration_number < known.registration_number {
            let message = format!(
                "registration {} of node {name} is older than {}, which was applied: register with a higher number",
                command.registration_number, known.registration_number
            );
            return Some(rejected(RejectionReason::StaleRegistration, message));
        } else if command.registration_number == known.registration_number {
            if command.nonce == known.nonce {
                return Some(self.registered(known.incarnation));
            }
            let message = format!(
                "registration {} of node {name} came twice with different nonces: its data folder was cloned; give each agent a folder of its own",
                command.registration_number
            );
            return Some(rejected(RejectionReason::ClonedFolder, message));
        }
        if known.live && known.node_uid == command.node_uid && known.boot_id != command.boot_id {
            let message =
                format!("node {name} was rebooted and its previous lease has not expired yet: try again");
            return Some(rejected(RejectionReason::PreviousLeaseAlive, message));
        }
        // Its old Pods are still being counted, over several entries.
        if !known.live && !node.pods.is_empty() {
            let message = format!("the lost pods of node {name} are still being counted: try again");
            return Some(rejected(RejectionReason::PreviousLeaseAlive, message));
        }
        None
    }

    /// A2: the lease never expired: what was reported counts; what the agent can account for is carried over, also what
    /// waits for the restart of a container; what was started and is gone is lost; what never started is bound anew.
    fn settle_pods_of_returned_node(&mut self, command: &RegisterNode) {
        for report in &command.unacknowledged_reports {
            self.report_pod(&command.node, report);
        }
        let running: BTreeSet<PodUid> = command.running_pods.iter().copied().collect();
        let started: BTreeSet<PodUid> = command.started_pods.iter().copied().collect();
        let bound: Vec<PodUid> =
            self.nodes.get(&command.node).map(|node| node.pods.iter().copied().collect()).unwrap_or_default();
        for uid in bound {
            let Some(pod) = self.pods.get(&uid).map(|pod| Arc::clone(&pod.record)) else { continue };
            if running.contains(&uid) {
                continue;
            }
            if started.contains(&uid) || pod.started_at.is_some() {
                let message =
                    format!("its processes were gone when the agent of node {} registered", command.node);
                self.lose_pod(uid, message, None);
            } else {
                self.unbind(&pod);
            }
        }
    }

    /// A2: the Pod was bound but never started: it waits for a node again, or, if it was to stop, is at its end.
    fn unbind(&mut self, pod: &PodRecord) {
        if pod.stop_reason.is_some() {
            self.end_pod(pod.uid, PodEnd::default());
            return;
        }
        if let Some(node) = &pod.node {
            let message =
                format!("it had not started on node {node}: it waits for a node again, nothing is counted");
            self.decided(pod.job, "PodUnbound", &pod.name, message);
        }
        self.change_pod(pod.uid, |record| {
            record.phase = PodPhase::Pending;
            record.node = None;
            record.binding_revision = stint_api::Revision(0);
            record.bound_at = None;
            record.containers.clear();
            record.initialized_at = None;
            record.runtime.clear();
            record.host_ip.clear();
            record.pod_ips.clear();
        });
    }
}

fn not_initialized() -> Reply {
    let message = "the cluster is not initialized yet: try again".to_owned();
    rejected(RejectionReason::FailedPrecondition, message)
}

fn invalid_registration(command: &RegisterNode) -> Option<String> {
    let name = &command.node;
    if name.as_str().is_empty() {
        return Some("a node needs a name: give its agent --name".to_owned());
    }
    if command.capacity.pods > NODE_PODS_MAX {
        return Some(format!(
            "node {name} offers {} pods, at most {NODE_PODS_MAX} are allowed: lower --max-pods",
            command.capacity.pods
        ));
    }
    if command.unacknowledged_reports.len() > REPORTS_PER_COMMAND_MAX {
        return Some(format!(
            "node {name} registers with {} reports, at most {REPORTS_PER_COMMAND_MAX} are allowed",
            command.unacknowledged_reports.len()
        ));
    }
    None
}

/// Expiry, cordon, drain, removal.
impl State {
    /// A6: fences the incarnation now; its Pods follow at the end of this and of later entries.
    pub(crate) fn expire_node(&mut self, command: &ExpireNode) -> Reply {
        let name = &command.node;
        if command.term != self.entry.term {
            let message = format!(
                "the expiry of node {name} was decided in term {}, this entry is of term {}",
                command.term, self.entry.term
            );
            return rejected(RejectionReason::StaleTerm, message);
        }
        let Some(node) = self.nodes.get(name) else { return node_not_found(name) };
        if !node.record.live || node.record.incarnation != command.incarnation {
            let message = format!("incarnation {} of node {name} is not the live one", command.incarnation);
            return rejected(RejectionReason::StaleIncarnation, message);
        }
        let time = self.meta.time;
        self.change_node(name, |record| {
            record.live = false;
            record.live_changed_at = time;
        });
        let message = format!("Node {name} is lost: its lease expired");
        self.node_event(name, Occurrence::warning(NODE_LIFECYCLE, "NodeNotReady", message));
        self.done()
    }

    /// Ends Pods of lost nodes, as many as one entry may.
    pub(crate) fn end_pods_of_lost_nodes(&mut self) {
        // All nodes are those of the old cluster then, and all of their Pods end uncounted.
        if self.is_restoring() {
            return;
        }
        let mut allowed = PODS_LOST_PER_ENTRY_MAX;
        while allowed > 0 {
            let Some(name) = self.lost_nodes.first().cloned() else { break };
            let Some(node) = self.nodes.get(&name) else {
                self.lost_nodes.remove(&name);
                continue;
            };
            let lost: Vec<PodUid> = node.pods.iter().take(allowed).copied().collect();
            if lost.is_empty() {
                self.lost_nodes.remove(&name);
                continue;
            }
            allowed -= lost.len();
            for uid in lost {
                self.lose_pod(uid, format!("node {name} was lost: its lease expired"), None);
            }
        }
    }

    pub(crate) fn cordon_node(&mut self, name: &NodeName, unschedulable: bool) -> Reply {
        let Some(node) = self.nodes.get(name) else { return node_not_found(name) };
        if node.record.unschedulable != unschedulable {
            self.change_node(name, |record| record.unschedulable = unschedulable);
            let (reason, state) = match unschedulable {
                true => ("NodeNotSchedulable", "cordoned"),
                false => ("NodeSchedulable", "open for pods again"),
            };
            let message = format!("Node {name} is {state}");
            self.node_event(name, Occurrence::normal(NODE_LIFECYCLE, reason, message));
        }
        self.done()
    }

    /// J17, P13: the Pods are deleted as by the eviction API, and count as failures.
    pub(crate) fn drain_node(&mut self, name: &NodeName) -> Reply {
        let reply = self.cordon_node(name, true);
        let pods: Vec<PodUid> =
            self.nodes.get(name).map(|node| node.pods.iter().copied().collect()).unwrap_or_default();
        for uid in pods {
            if self.pods.get(&uid).is_some_and(|pod| pod.record.stop_reason.is_none()) {
                self.stop_pod(uid, StopReason::Deleted, None, EVICTION);
            }
        }
        match reply {
            Reply::Done { .. } => self.done(),
            rejected => rejected,
        }
    }

    pub(crate) fn delete_node(&mut self, name: &NodeName) -> Reply {
        let Some(node) = self.nodes.get(name) else { return node_not_found(name) };
        if node.record.live {
            let message =
                format!("node {name} has a live lease: stop its agent and wait until the lease expires");
            return rejected(RejectionReason::FailedPrecondition, message);
        }
        if !node.pods.is_empty() {
            let message = format!("the lost pods of node {name} are still being counted: try again");
            return rejected(RejectionReason::FailedPrecondition, message);
        }
        self.remove_node(name);
        self.done()
    }

    /// Removes a node that has no Pods.
    pub(crate) fn remove_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.remove(name) else { return };
        self.old_cluster.nodes.remove(name);
        let revision = self.next_revision();
        self.push(RowKey::Node(name.clone()), revision, RowChangeKind::Deleted(Row::Node(node.record)));
        self.delete_events_of(&EventObject::Node(name.clone()));
        self.entry.nodes_changed = true;
        self.node_changed(name);
    }

    pub(crate) fn change_node(&mut self, name: &NodeName, change: impl FnOnce(&mut NodeRecord)) {
        let Some(node) = self.nodes.get(name) else { return };
        let mut record = NodeRecord::clone(&node.record);
        change(&mut record);
        let revision = self.next_revision();
        self.put_node(record, revision);
    }

    /// Writes a node's row and enters it everywhere.
    fn put_node(&mut self, record: NodeRecord, revision: stint_api::Revision) {
        let name = record.name.clone();
        let record = Arc::new(record);
        let row = Row::Node(Arc::clone(&record));
        let kind = match self.nodes.get_mut(&name) {
            Some(node) => {
                node.offer = NodeOffer::of_words(&record.features);
                node.record = record;
                node.revision = revision;
                RowChangeKind::Modified(row)
            }
            None => {
                self.nodes.insert(name.clone(), NodeState::new(record, revision));
                RowChangeKind::Added(row)
            }
        };
        self.push(RowKey::Node(name.clone()), revision, kind);
        self.entry.nodes_changed = true;
        self.node_changed(&name);
    }

    /// Brings what derives from a node's row up to date.
    pub(crate) fn node_changed(&mut self, name: &NodeName) {
        let node = self.nodes.get(name);
        if node.is_some_and(|node| !node.record.live && !node.pods.is_empty()) {
            self.lost_nodes.insert(name.clone());
        } else {
            self.lost_nodes.remove(name);
        }
        if node.is_some() {
            self.scheduler.node_grew(name);
        }
        self.scheduler.index_node(name, node, self.meta.settings.as_ref());
    }
}

pub(crate) fn node_not_found(name: &NodeName) -> Reply {
    rejected(RejectionReason::NotFound, format!("node {name} is not registered"))
}
