//! The scheduler: which node a Pod is bound to, and why it can't be.
//!
//! Owns: Pods that wait, in classes of Pods alike; the order of nodes; the pass at the end of each entry. Does not own:
//! what a node offers (module `node_lifecycle`), when Pods are created.
//!
//! Order: priority, highest first, then creation. If the first Pod of a class can't be placed, no other of the class can,
//! so the pass skips the rest of the class; smaller Pods of other classes go ahead.
//!
//! Invariants: free capacity never becomes negative by a binding; a pass over a state in which nothing has changed
//! changes nothing, so which classes and nodes are marked for a look is a mere cache: a server that was restarted, and
//! looks at all of them, does the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{ENGINE_UNAVAILABLE, NodeCapacity, NodeCondition, NodeName, PodUid, Revision};

use crate::command::{ClusterSettings, PlacementPolicy};
use crate::events::{Occurrence, SCHEDULER};
use crate::limits::{
    CLASSES_EXPLAINED_PER_ENTRY_MAX, FITTING_NODES_COMPARED_MAX, NODES_NAMED_MAX, PODS_BOUND_PER_ENTRY_MAX,
    PODS_EXPLAINED_PER_CLASS,
};
use crate::node_conditions::{holds, repelled_by};
use crate::progress;
use crate::record::NodeRecord;
use crate::state::{NodeState, State};
use crate::traits::PodClass;

/// Condition of a node that keeps its containers to no limits, and reason of the event of a Pod that is bound to one.
const LIMITS_NOT_ENFORCED: &str = "LimitsNotEnforced";
/// The runtime of the host's container engine, which sees to limits whatever the node's agent can do itself.
const ENGINE_RUNTIME: &str = "cri";

/// What the scheduler remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scheduler {
    /// Pods without a node. No class is empty.
    pub(crate) classes: BTreeMap<Arc<PodClass>, ClassQueue>,
    /// How many Pods there are in all classes.
    pub(crate) n_pending: usize,
    /// Nodes that may be given Pods, those to be preferred first.
    candidates: BTreeSet<(u64, NodeName)>,
    /// Where each candidate stands.
    scores: BTreeMap<NodeName, u64>,
    /// A cache: classes to be looked at.
    marked: BTreeSet<Arc<PodClass>>,
    /// A cache: nodes on which something has become free, or that are new.
    grown: BTreeSet<NodeName>,
    /// The last pass could not do all that it might have.
    pub(crate) unfinished: bool,
}

/// Pods of one class, by creation.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClassQueue {
    pub(crate) pods: BTreeMap<Revision, PodUid>,
    /// A cache: no node fits, unless it has grown since.
    blocked: bool,
}

impl Scheduler {
    pub(crate) fn add_pending(&mut self, class: &Arc<PodClass>, created: Revision, uid: PodUid) {
        self.n_pending += 1;
        self.classes.entry(Arc::clone(class)).or_default().pods.insert(created, uid);
        self.marked.insert(Arc::clone(class));
    }

    pub(crate) fn remove_pending(&mut self, class: &Arc<PodClass>, created: Revision) {
        let Some(queue) = self.classes.get_mut(class) else { return };
        if queue.pods.remove(&created).is_some() {
            self.n_pending = self.n_pending.saturating_sub(1);
        }
        if queue.pods.is_empty() {
            self.classes.remove(class);
            self.marked.remove(class);
        } else {
            // The next Pods of the class may be told why they wait.
            self.marked.insert(Arc::clone(class));
        }
    }

    pub(crate) fn node_grew(&mut self, name: &NodeName) {
        if !self.grown.contains(name) {
            self.grown.insert(name.clone());
        }
    }

    /// Enters a node where it stands now, or takes it out.
    pub(crate) fn index_node(
        &mut self,
        name: &NodeName,
        node: Option<&NodeState>,
        settings: Option<&ClusterSettings>,
    ) {
        let policy = settings.map(|settings| settings.placement_policy).unwrap_or_default();
        let score = node.filter(|node| is_open(&node.record)).map(|node| {
            let share = free_share(&node.record.capacity, &node.requested);
            match policy {
                PlacementPolicy::Spread => u64::MAX - share,
                PlacementPolicy::Pack => share,
            }
        });
        let old = self.scores.get(name).copied();
        if old == score {
            return;
        }
        if let Some(old) = old {
            self.candidates.remove(&(old, name.clone()));
            self.scores.remove(name);
        }
        if let Some(score) = score {
            self.candidates.insert((score, name.clone()));
            self.scores.insert(name.clone(), score);
        }
    }

    /// Candidates in the order of preference, for the state's hash.
    pub(crate) fn candidates(&self) -> &BTreeSet<(u64, NodeName)> {
        &self.candidates
    }
}

/// The cluster's default; empty: there is none.
pub(crate) fn default_runtime(settings: Option<&ClusterSettings>) -> &str {
    settings.map_or("", |settings| settings.default_runtime.as_str())
}

/// True for a node that may be given Pods.
fn is_open(node: &NodeRecord) -> bool {
    node.live && !node.unschedulable
}

/// What is left of a node's capacity.
pub(crate) fn free(capacity: &NodeCapacity, requested: &NodeCapacity) -> NodeCapacity {
    NodeCapacity {
        cpu_millis: capacity.cpu_millis.saturating_sub(requested.cpu_millis),
        memory_bytes: capacity.memory_bytes.saturating_sub(requested.memory_bytes),
        pods: capacity.pods.saturating_sub(requested.pods),
    }
}

/// The free shares of cpu, memory and Pods, in 2^20ths, added up.
fn free_share(capacity: &NodeCapacity, requested: &NodeCapacity) -> u64 {
    let free = free(capacity, requested);
    let share = |free: u64, capacity: u64| {
        let scaled = (u128::from(free) << 20).checked_div(u128::from(capacity)).unwrap_or(0);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    share(free.cpu_millis, capacity.cpu_millis)
        + share(free.memory_bytes, capacity.memory_bytes)
        + share(u64::from(free.pods), u64::from(capacity.pods))
}

fn selects(class: &PodClass, node: &NodeRecord) -> bool {
    class.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

fn fits(class: &PodClass, node: &NodeState, default_runtime: &str) -> bool {
    let free = free(&node.record.capacity, &node.requested);
    free.pods >= class.requests.pods
        && free.cpu_millis >= class.requests.cpu_millis
        && free.memory_bytes >= class.requests.memory_bytes
        && is_open(&node.record)
        && selects(class, &node.record)
        && missing(class, node, default_runtime).is_none()
        && repelled_by(class, &node.record).is_none()
}

/// What would run a Pod of the class on the node. An error is what the node does not offer, or not now.
fn runtime<'a>(class: &PodClass, node: &'a NodeRecord, default_runtime: &str) -> Result<&'a str, String> {
    let runtime = offered(class, node, default_runtime)?;
    let is_down = runtime == ENGINE_RUNTIME && holds(node, ENGINE_UNAVAILABLE).is_some();
    // It waits for the engine: another runtime would not run the same.
    if is_down { Err("node(s) had a container engine that can't be used".to_owned()) } else { Ok(runtime) }
}

/// What the Pod names, else the cluster's default, else the node's first.
fn offered<'a>(class: &PodClass, node: &'a NodeRecord, default_runtime: &str) -> Result<&'a str, String> {
    let (asked, what) = match (class.runtime.as_str(), default_runtime) {
        ("", "") => return Ok(node.runtimes.first().map_or("", String::as_str)),
        ("", default) => (default, "the default runtime"),
        (asked, _) => (asked, "runtime"),
    };
    let offered = node.runtimes.iter().find(|runtime| *runtime == asked);
    offered.map(String::as_str).ok_or_else(|| format!("node(s) didn't offer {what} {asked}"))
}

/// What the Pod asks for and the node does not offer; the first that is found, in Kubernetes' style.
fn missing(class: &PodClass, node: &NodeState, default_runtime: &str) -> Option<Objection> {
    let runtime = match runtime(class, &node.record, default_runtime) {
        Ok(runtime) => runtime,
        Err(missing) => return Some(Objection::Runtime(missing)),
    };
    let refusal = class.asks.iter().find_map(|ask| node.offer.refusal(runtime, ask));
    refusal.map(|refusal| Objection::Policy(format!("node(s) {refusal}")))
}

/// What the node says of limits that a Pod of the class has and that it does not keep it to.
fn unenforced<'a>(
    class: &PodClass,
    node: &'a NodeRecord,
    default_runtime: &str,
) -> Option<&'a NodeCondition> {
    let by_engine = || runtime(class, node, default_runtime) == Ok(ENGINE_RUNTIME);
    holds(node, LIMITS_NOT_ENFORCED).filter(|_| class.has_limits && !by_engine())
}

impl State {
    /// The pass: binds what can be bound, and tells the first of those that wait why.
    pub(crate) fn schedule(&mut self) {
        self.unblock_where_nodes_grew();
        let mut heads: BTreeSet<(Reverse<i32>, Revision, Arc<PodClass>)> = BTreeSet::new();
        for class in &self.scheduler.marked {
            if let Some(queue) = self.scheduler.classes.get(class)
                && !queue.blocked
                && let Some((created, _)) = queue.pods.first_key_value()
            {
                heads.insert((Reverse(class.priority), *created, Arc::clone(class)));
            }
        }
        let mut budget = PODS_BOUND_PER_ENTRY_MAX;
        while let Some((priority, created, class)) = heads.pop_first() {
            if budget == 0 {
                self.scheduler.unfinished = true;
                return;
            }
            if !self.bind_first(&class, created) {
                if let Some(queue) = self.scheduler.classes.get_mut(&class) {
                    queue.blocked = true;
                }
                continue;
            }
            budget -= 1;
            let next = self.scheduler.classes.get(&class).and_then(|queue| queue.pods.first_key_value());
            if let Some((created, _)) = next {
                heads.insert((priority, *created, class));
            }
        }
        self.explain();
    }

    /// A class that was blocked is looked at again if a node that has grown fits.
    fn unblock_where_nodes_grew(&mut self) {
        let grown = std::mem::take(&mut self.scheduler.grown);
        if grown.is_empty() {
            return;
        }
        let default_runtime = default_runtime(self.meta.settings.as_ref());
        for (class, queue) in &mut self.scheduler.classes {
            let fits_now =
                |name: &NodeName| self.nodes.get(name).is_some_and(|node| fits(class, node, default_runtime));
            if queue.blocked && grown.iter().any(fits_now) {
                queue.blocked = false;
                self.scheduler.marked.insert(Arc::clone(class));
            }
        }
    }

    fn bind_first(&mut self, class: &Arc<PodClass>, created: Revision) -> bool {
        let Some(uid) = self.scheduler.classes.get(class).and_then(|queue| queue.pods.get(&created).copied())
        else {
            return false;
        };
        let avoid = self.pods.get(&uid).and_then(|pod| pod.record.avoid_node.clone());
        let Some(name) = self.choose_node(class, avoid.as_ref()) else { return false };
        let time = self.meta.time;
        let job = self.pods.get(&uid).map(|pod| pod.record.job);
        let traits = job.and_then(|job| self.groups.get(&job)).map(|group| Arc::clone(&group.traits));
        let node = self.nodes.get(&name).map(|node| Arc::clone(&node.record));
        let host_ip = node.as_ref().and_then(|node| node.info.addresses.first()).cloned();
        let unenforced = node.as_ref().and_then(|node| {
            let of_node = unenforced(class, node, default_runtime(self.meta.settings.as_ref()))?;
            Some(format!("Node {} does not enforce this pod's limits: {}", node.name, of_node.message))
        });
        let runtime = node.and_then(|node| {
            runtime(class, &node, default_runtime(self.meta.settings.as_ref())).ok().map(str::to_owned)
        });
        let bound = self.change_pod_at(uid, |record, revision| {
            if let Some(traits) = &traits {
                progress::bind(record, traits);
            }
            record.node = Some(name);
            record.host_ip = host_ip.unwrap_or_default();
            record.runtime = runtime.unwrap_or_default();
            record.binding_revision = revision;
            record.bound_at = Some(time);
            record.unschedulable_message.clear();
        });
        if let Some(pod) = bound {
            self.order(&pod);
        }
        if let Some(message) = unenforced {
            self.pod_event(uid, Occurrence::warning(SCHEDULER, LIMITS_NOT_ENFORCED, message));
        }
        true
    }

    /// The first candidate that fits. One that does not enforce the Pod's limits only if no other of those that are compared
    /// does; the one to be avoided only if no other fits (D2).
    fn choose_node(&self, class: &PodClass, avoid: Option<&NodeName>) -> Option<NodeName> {
        let default_runtime = default_runtime(self.meta.settings.as_ref());
        let (mut lax, mut avoided) = (None, None);
        let mut compared = 0;
        for (_, name) in &self.scheduler.candidates {
            let Some(node) = self.nodes.get(name).filter(|node| fits(class, node, default_runtime)) else {
                continue;
            };
            if Some(name) == avoid {
                avoided = Some(name);
                continue;
            }
            if unenforced(class, &node.record, default_runtime).is_none() {
                return Some(name.clone());
            }
            lax.get_or_insert(name);
            compared += 1;
            if compared == FITTING_NODES_COMPARED_MAX {
                break;
            }
        }
        lax.or(avoided).cloned()
    }

    /// Gives the first Pods of each class that waits the reason: those that have none, and, if nodes came or went in this
    /// entry, all whose reason has changed. Every class that still waits after a whole pass is blocked.
    fn explain(&mut self) {
        let classes: Vec<Arc<PodClass>> = if self.entry.nodes_changed {
            self.scheduler.classes.keys().cloned().collect()
        } else {
            self.scheduler.marked.iter().cloned().collect()
        };
        let mut explained = 0;
        self.scheduler.unfinished = false;
        for class in classes {
            if explained == CLASSES_EXPLAINED_PER_ENTRY_MAX {
                self.scheduler.unfinished = !self.scheduler.marked.is_empty();
                return;
            }
            explained += usize::from(self.explain_class(&class));
            self.scheduler.marked.remove(&class);
        }
    }

    fn explain_class(&mut self, class: &Arc<PodClass>) -> bool {
        let Some(queue) = self.scheduler.classes.get(class) else { return false };
        let first: Vec<PodUid> = queue.pods.values().take(PODS_EXPLAINED_PER_CLASS).copied().collect();
        let mut message: Option<String> = None;
        let mut written = false;
        for uid in first {
            let Some(pod) = self.pods.get(&uid) else { continue };
            let told = pod.record.unschedulable_message.clone();
            if !told.is_empty() && !self.entry.nodes_changed {
                continue;
            }
            let text = message.get_or_insert_with(|| self.why_not(class)).clone();
            if told == text {
                continue;
            }
            written = true;
            self.change_pod(uid, |record| record.unschedulable_message.clone_from(&text));
            self.pod_event(uid, Occurrence::warning(SCHEDULER, "FailedScheduling", text));
        }
        written
    }

    /// Why no node takes a Pod of the class, in Kubernetes' words.
    fn why_not(&self, class: &PodClass) -> String {
        if self.nodes.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut reasons: BTreeMap<Objection, Vec<&NodeName>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            for reason in objections(class, node, default_runtime(self.meta.settings.as_ref())) {
                reasons.entry(reason).or_default().push(name);
            }
        }
        let mut texts: Vec<String> = reasons.into_iter().map(|(reason, nodes)| reason.text(&nodes)).collect();
        texts.sort();
        format!("0/{} nodes are available: {}.", self.nodes.len(), texts.join(", "))
    }
}

/// Why a node does not take a Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Objection {
    /// It has no live lease.
    NotReady,
    /// It is cordoned.
    Cordoned,
    /// Its labels are others.
    Selector,
    /// It does not offer the runtime, or not now: whoever can change that has to know which it is.
    Runtime(String),
    /// It does not grant what the Pod asks for: likewise.
    Policy(String),
    /// It keeps Pods away for now, by this taint.
    Condition(&'static str),
    /// Too little is free.
    Cpu,
    /// Too little is free.
    Memory,
    /// It has as many Pods as it runs.
    Pods,
}

impl Objection {
    fn text(&self, nodes: &[&NodeName]) -> String {
        let count = nodes.len();
        match self {
            Objection::NotReady => format!("{count} node(s) were not ready"),
            Objection::Cordoned => format!("{count} node(s) were unschedulable"),
            Objection::Selector => format!("{count} node(s) didn't match Pod's node affinity/selector"),
            Objection::Condition(taint) => format!("{count} node(s) had untolerated taint {{{taint}: }}"),
            Objection::Cpu => format!("{count} Insufficient cpu"),
            Objection::Memory => format!("{count} Insufficient memory"),
            Objection::Pods => format!("{count} Too many pods"),
            Objection::Runtime(reason) | Objection::Policy(reason) => {
                let named: Vec<&str> = nodes.iter().take(NODES_NAMED_MAX).map(|name| name.as_str()).collect();
                let more = if count > NODES_NAMED_MAX { ", …" } else { "" };
                format!("{count} {reason} ({}{more})", named.join(", "))
            }
        }
    }
}

/// Everything that keeps the node from taking a Pod of the class, as far as one thing does not make the others idle. Empty: it
/// fits.
pub(crate) fn objections(class: &PodClass, node: &NodeState, default_runtime: &str) -> Vec<Objection> {
    if !node.record.live {
        return vec![Objection::NotReady];
    }
    if node.record.unschedulable {
        return vec![Objection::Cordoned];
    }
    if !selects(class, &node.record) {
        return vec![Objection::Selector];
    }
    if let Some(missing) = missing(class, node, default_runtime) {
        return vec![missing];
    }
    if let Some(taint) = repelled_by(class, &node.record) {
        return vec![Objection::Condition(taint)];
    }
    let free = free(&node.record.capacity, &node.requested);
    let lacks = [
        (free.cpu_millis < class.requests.cpu_millis, Objection::Cpu),
        (free.memory_bytes < class.requests.memory_bytes, Objection::Memory),
        (free.pods < class.requests.pods, Objection::Pods),
    ];
    lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, objection)| objection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ConditionStatus, Incarnation, NodeInfo, NodeUid, Timestamp};

    fn node(runtimes: &[&str], engine: ConditionStatus) -> NodeRecord {
        let condition = NodeCondition {
            condition_type: ENGINE_UNAVAILABLE.to_owned(),
            status: engine,
            last_transition_time: None,
            reason: ENGINE_UNAVAILABLE.to_owned(),
            message: String::new(),
        };
        NodeRecord {
            name: NodeName::new("w1"),
            node_uid: NodeUid(1),
            created_at: Timestamp::default(),
            boot_id: String::new(),
            registration_number: 1,
            nonce: 1,
            incarnation: Incarnation(1),
            live: true,
            live_changed_at: Timestamp::default(),
            unschedulable: false,
            capacity: NodeCapacity::default(),
            labels: BTreeMap::default(),
            runtimes: runtimes.iter().map(|&name| name.to_owned()).collect(),
            conditions: vec![condition],
            agent_version: String::new(),
            features: Vec::new(),
            info: NodeInfo::default(),
        }
    }

    #[test]
    fn while_its_engine_is_down_a_node_takes_pods_for_its_other_runtimes() {
        let (up, down) = (ConditionStatus::False, ConditionStatus::True);
        let check = |asked: &str, default: &str, node: &NodeRecord, expected: Option<&str>| {
            let spec = stint_api::PodSpec {
                runtime_class_name: Some(asked.to_owned()).filter(|name| !name.is_empty()),
                ..stint_api::PodSpec::default()
            };
            let class = crate::traits::PodTraits::of(&spec).class;
            let found = runtime(&class, node, default);
            assert_eq!(found.as_deref().ok(), expected, "{asked:?} {default:?} {:?}", node.runtimes);
            if expected.is_none() {
                assert!(found.unwrap_err().contains("container engine"));
            }
        };
        for (asked, default, runtimes, when_down) in [
            ("cri", "", ["process", "cri"], None),
            ("", "cri", ["process", "cri"], None),
            ("", "", ["process", "cri"], Some("process")),
            ("oci", "cri", ["cri", "oci"], Some("oci")),
            // Not by another one: what it names no runtime for may be an image.
            ("", "", ["cri", "process"], None),
        ] {
            check(asked, default, &node(&runtimes, down), when_down);
            let expected = [asked, default, runtimes[0]].into_iter().find(|name| !name.is_empty());
            check(asked, default, &node(&runtimes, up), expected);
        }
    }

    #[test]
    fn limits_are_not_enforced_only_while_the_node_says_so() {
        let class = PodClass {
            has_limits: true,
            ..PodClass::clone(&crate::traits::PodTraits::of(&stint_api::PodSpec::default()).class)
        };
        for (status, expected) in [(ConditionStatus::True, true), (ConditionStatus::False, false)] {
            let mut node = node(&["process"], ConditionStatus::False);
            let said = NodeCondition {
                condition_type: LIMITS_NOT_ENFORCED.to_owned(),
                status,
                ..node.conditions[0].clone()
            };
            node.conditions.push(said);
            assert_eq!(unenforced(&class, &node, "").is_some(), expected, "{status:?}");
        }
    }
}
