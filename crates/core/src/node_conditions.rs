//! What a node says of itself while it runs: that its disk is nearly full, that memory is short, that it guarantees less, that its
//! agent ends.
//!
//! Owns: since when each condition holds, which of them keep Pods away, and what is told of those. Does not own: when they
//! hold, which the agent knows.
//!
//! Invariant: what a pressure keeps away are Pods that are not bound yet; those that run go on.

use std::sync::Arc;

use stint_api::{AGENT_STOPPED, ConditionStatus, DISK_PRESSURE, MEMORY_PRESSURE, NodeCondition, NodeName};

use crate::command::ReportNodeConditions;
use crate::events::{NODE_LIFECYCLE, Occurrence};
use crate::node_lifecycle::node_not_found;
use crate::record::NodeRecord;
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::state::State;
use crate::traits::PodClass;

/// A condition that keeps Pods away, in Kubernetes' words.
struct Pressure {
    condition: &'static str,
    taint: &'static str,
    /// Reason of the event when it begins to hold.
    begins: &'static str,
    /// Reason of the event when it holds no more.
    ends: &'static str,
}

const DISK: Pressure = Pressure {
    condition: DISK_PRESSURE,
    taint: "node.kubernetes.io/disk-pressure",
    begins: "NodeHasDiskPressure",
    ends: "NodeHasNoDiskPressure",
};

const MEMORY: Pressure = Pressure {
    condition: MEMORY_PRESSURE,
    taint: "node.kubernetes.io/memory-pressure",
    begins: "NodeHasInsufficientMemory",
    ends: "NodeHasSufficientMemory",
};

const STOPPED: Pressure = Pressure {
    condition: AGENT_STOPPED,
    taint: "stint.dev/agent-stopped",
    begins: "NodeAgentStopped",
    ends: "NodeAgentStarted",
};

/// The taint that keeps Pods of the class from the node, if one does. As in Kubernetes, a Pod that says how much CPU or memory
/// it needs is taken to cope with little memory.
pub(crate) fn repelled_by(class: &PodClass, node: &NodeRecord) -> Option<&'static str> {
    let is_best_effort = class.requests.cpu_millis == 0 && class.requests.memory_bytes == 0;
    [(&STOPPED, true), (&DISK, true), (&MEMORY, is_best_effort)]
        .into_iter()
        .find(|(pressure, applies)| *applies && holds(node, pressure.condition).is_some())
        .map(|(pressure, _)| pressure.taint)
}

/// The condition of this type, if it is true.
pub(crate) fn holds<'a>(node: &'a NodeRecord, condition_type: &str) -> Option<&'a NodeCondition> {
    let mut conditions = node.conditions.iter();
    conditions.find(|one| one.condition_type == condition_type && one.status == ConditionStatus::True)
}

impl State {
    pub(crate) fn report_node_conditions(&mut self, command: &ReportNodeConditions) -> Reply {
        let Some(node) = self.nodes.get(&command.node) else { return node_not_found(&command.node) };
        let known = Arc::clone(&node.record);
        if !known.live || known.incarnation != command.incarnation {
            let message = format!(
                "incarnation {} of node {} is over: register anew",
                command.incarnation, command.node
            );
            return Reply::Rejected(Rejection::new(RejectionReason::StaleIncarnation, message));
        }
        let conditions = self.dated_conditions(&command.conditions, Some(&known));
        if conditions != known.conditions {
            self.change_node(&command.node, |record| record.conditions = conditions);
            self.tell_of_pressure(&command.node, Some(&known));
        }
        self.done()
    }

    /// The conditions, each since when it is as it is; `known` is what the node was before. Of one type the first counts.
    pub(crate) fn dated_conditions(
        &self,
        said: &[NodeCondition],
        known: Option<&NodeRecord>,
    ) -> Vec<NodeCondition> {
        let mut dated: Vec<NodeCondition> = Vec::with_capacity(said.len());
        for condition in said {
            if dated.iter().any(|other| other.condition_type == condition.condition_type) {
                continue;
            }
            let before = known.into_iter().flat_map(|known| &known.conditions).find(|before| {
                before.condition_type == condition.condition_type && before.status == condition.status
            });
            let since = before.and_then(|before| before.last_transition_time).unwrap_or(self.meta.time);
            dated.push(NodeCondition { last_transition_time: Some(since), ..condition.clone() });
        }
        dated
    }

    /// Events about pressures that began or ended since the node was as `before`.
    pub(crate) fn tell_of_pressure(&mut self, name: &NodeName, before: Option<&NodeRecord>) {
        let Some(now) = self.nodes.get(name).map(|node| Arc::clone(&node.record)) else { return };
        for pressure in [DISK, MEMORY, STOPPED] {
            let held = before.is_some_and(|before| holds(before, pressure.condition).is_some());
            match holds(&now, pressure.condition) {
                Some(condition) if !held => {
                    let message = match condition.message.as_str() {
                        "" => format!("Node {name} has {}", pressure.condition),
                        why => format!("Node {name} has {}: {why}", pressure.condition),
                    };
                    self.node_event(name, Occurrence::warning(NODE_LIFECYCLE, pressure.begins, message));
                }
                None if held => {
                    let message = format!("Node {name} has no {} any more", pressure.condition);
                    self.node_event(name, Occurrence::normal(NODE_LIFECYCLE, pressure.ends, message));
                }
                _ => {}
            }
        }
    }
}
