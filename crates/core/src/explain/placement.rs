//! Why no node takes a Pod: how many nodes fail which requirement, by the scheduler's own judgement, and the Pod's place among
//! those that wait.

use std::collections::BTreeMap;

use stint_api::{NodeName, Revision};

use super::{Obstacle, Placement, counted, verb};
use crate::limits::{NODES_NAMED_MAX, PODS_AHEAD_COUNTED_MAX};
use crate::record::PodRecord;
use crate::scheduler::{Objection, default_runtime, free, objections};
use crate::state::{NodeState, State};
use crate::traits::PodClass;

/// Nodes with one objection.
#[derive(Default)]
struct Group<'a> {
    nodes: Vec<&'a NodeName>,
    /// The most that is free of what is short, and where.
    most_free: Option<(u64, &'a NodeName)>,
    /// The most that one of them offers when it is empty.
    largest: u64,
}

impl State {
    /// Why no node takes this Pod, which waits for one.
    pub(super) fn placement(&self, pod: &PodRecord) -> Option<Placement> {
        let class = &self.groups.get(&pod.job)?.traits.class;
        let default_runtime = default_runtime(self.meta.settings.as_ref());
        let mut groups: BTreeMap<Objection, Group<'_>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            for objection in objections(class, node, default_runtime) {
                let (free, capacity) = short_of(&objection, node);
                let group = groups.entry(objection).or_default();
                group.nodes.push(name);
                group.largest = group.largest.max(capacity);
                if group.most_free.is_none_or(|(most, _)| free > most) {
                    group.most_free = Some((free, name));
                }
            }
        }
        let (pods_ahead, more_ahead) = self.pods_ahead(class, pod.created_revision);
        Some(Placement {
            asks: asks(class, default_runtime),
            nodes: u32::try_from(self.nodes.len()).unwrap_or(u32::MAX),
            obstacles: groups
                .into_iter()
                .map(|(objection, group)| obstacle(&objection, &group, class))
                .collect(),
            pods_ahead,
            more_ahead,
        })
    }

    /// How many Pods that wait come before it in the scheduler's order, and whether there may be more.
    fn pods_ahead(&self, class: &PodClass, created: Revision) -> (u32, bool) {
        let mut ahead = 0;
        for (other, queue) in &self.scheduler.classes {
            let left = PODS_AHEAD_COUNTED_MAX.saturating_sub(ahead);
            ahead += match other.priority.cmp(&class.priority) {
                std::cmp::Ordering::Greater => queue.pods.len().min(left),
                std::cmp::Ordering::Equal => queue.pods.range(..created).take(left).count(),
                std::cmp::Ordering::Less => 0,
            };
        }
        (u32::try_from(ahead).unwrap_or(u32::MAX), ahead >= PODS_AHEAD_COUNTED_MAX)
    }
}

/// What is free of what the node is short of, and how much it has.
fn short_of(objection: &Objection, node: &NodeState) -> (u64, u64) {
    let capacity = &node.record.capacity;
    let free = free(capacity, &node.requested);
    match objection {
        Objection::Cpu => (free.cpu_millis, capacity.cpu_millis),
        Objection::Memory => (free.memory_bytes, capacity.memory_bytes),
        Objection::Pods => (u64::from(free.pods), u64::from(capacity.pods)),
        _ => (0, 0),
    }
}

fn obstacle(objection: &Objection, group: &Group<'_>, class: &PodClass) -> Obstacle {
    let count = u32::try_from(group.nodes.len()).unwrap_or(u32::MAX);
    let nodes = counted(count, "node");
    let has = verb(count, "has", "have");
    let too_little = |what: &str, asked: u64, text: fn(u64) -> String| {
        let (free, name) = group.most_free.map_or((0, ""), |(free, name)| (free, name.as_str()));
        let asked_text = text(asked);
        match group.largest < asked {
            true => format!(
                "{nodes} {has} too little {what}, even when empty: {asked_text} asked for, the largest has {}",
                text(group.largest)
            ),
            false => format!(
                "{nodes} {has} too little {what} free: {asked_text} asked for, the most that is free is {}, on {name}",
                text(free)
            ),
        }
    };
    let (requirement, message) = match objection {
        Objection::NotReady => {
            ("NotReady", format!("{nodes} {} not ready: no live lease", verb(count, "is", "are")))
        }
        Objection::Cordoned => ("Cordoned", format!("{nodes} {} cordoned", verb(count, "is", "are"))),
        Objection::Selector => ("Selector", format!("{nodes} {has} not the labels of the node selector")),
        Objection::Runtime(why) => ("Runtime", told(&nodes, why)),
        Objection::Policy(why) => ("Policy", told(&nodes, why)),
        Objection::Condition(taint) => {
            ("Condition", format!("{nodes} {} pods away for now: {taint}", verb(count, "keeps", "keep")))
        }
        Objection::Cpu => ("Cpu", too_little("CPU", class.requests.cpu_millis, cores)),
        Objection::Memory => ("Memory", too_little("memory", class.requests.memory_bytes, bytes)),
        Objection::Pods => {
            ("Pods", format!("{nodes} {has} as many pods as {} run", verb(count, "it may", "they may")))
        }
    };
    let names = group.nodes.iter().take(NODES_NAMED_MAX).map(ToString::to_string).collect();
    Obstacle { requirement, message, nodes: count, names }
}

/// The scheduler's words begin with `node(s)`.
fn told(nodes: &str, why: &str) -> String {
    format!("{nodes} {}", why.strip_prefix("node(s) ").unwrap_or(why))
}

fn asks(class: &PodClass, default_runtime: &str) -> Vec<String> {
    let mut asks = vec![
        format!("cpu {}", cores(class.requests.cpu_millis)),
        format!("memory {}", bytes(class.requests.memory_bytes)),
    ];
    if !class.node_selector.is_empty() {
        let labels: Vec<String> =
            class.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        asks.push(format!("node selector {}", labels.join(",")));
    }
    match (class.runtime.as_str(), default_runtime) {
        ("", "") => {}
        ("", default) => asks.push(format!("runtime {default} (the cluster's default)")),
        (runtime, _) => asks.push(format!("runtime {runtime}")),
    }
    if class.priority != 0 {
        asks.push(format!("priority {}", class.priority));
    }
    asks
}

/// CPUs as Kubernetes writes them.
fn cores(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Bytes in the largest unit that they are whole in, or else in mebibytes, cut.
fn bytes(bytes: u64) -> String {
    const MEBI: u64 = 1 << 20;
    const GIBI: u64 = 1 << 30;
    match bytes {
        0 => "0".to_owned(),
        bytes if bytes.is_multiple_of(GIBI) => format!("{}Gi", bytes / GIBI),
        bytes if bytes >= MEBI => format!("{}Mi", bytes / MEBI),
        bytes => bytes.to_string(),
    }
}
