//! The rows of each table: what is in their cells, and what they are ordered by.

use std::cmp::Reverse;
use stint_api::{Timestamp, table as words};
use stint_client::{moment, v1};

use super::model::Tab;
use crate::table::harmless;

const JOB_TITLES: [&str; 8] = ["NAME", "NAMESPACE", "STATUS", "DONE", "ACTIVE", "FAILED", "ENDS/S", "AGE"];
const POD_TITLES: [&str; 7] = ["NAME", "NAMESPACE", "JOB", "NODE", "STATUS", "RESTARTS", "AGE"];
const NODE_TITLES: [&str; 6] = ["NAME", "STATUS", "PODS", "CPU ASKED", "MEM ASKED", "USED"];

/// By which rows are ordered.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SortKey {
    Number(Reverse<u64>),
    Text(String),
}

/// What is more comes first.
fn largest(number: u64) -> SortKey {
    SortKey::Number(Reverse(number))
}

fn newest(created: Option<Timestamp>) -> SortKey {
    largest(u64::try_from(created.unwrap_or_default().0).unwrap_or(0))
}

pub fn titles(tab: Tab) -> &'static [&'static str] {
    match tab {
        Tab::Jobs => &JOB_TITLES,
        Tab::Pods => &POD_TITLES,
        Tab::Nodes => &NODE_TITLES,
    }
}

pub fn pod_row(pod: &v1::OverviewPod, order: usize, now: Timestamp) -> (SortKey, Vec<String>) {
    let created = moment(pod.created);
    let cells = vec![
        harmless(&pod.name),
        harmless(&pod.namespace),
        harmless(&pod.job_name),
        harmless(&pod.node_name),
        harmless(&pod.status),
        pod.restarts.to_string(),
        words::age(created, now),
    ];
    let key = match order {
        5 => largest(pod.restarts.into()),
        6 => newest(created),
        column => SortKey::Text(cells[column].clone()),
    };
    (key, cells)
}

pub fn node_row(
    node: &v1::OverviewNode,
    usage: Option<&v1::NodeUsage>,
    order: usize,
) -> (SortKey, Vec<String>) {
    let used = usage.and_then(|one| one.usage);
    let mebibytes = |bytes: u64| bytes >> 20;
    let cells = vec![
        harmless(&node.name),
        harmless(&node.status),
        format!("{}/{}", node.requested_pods, node.capacity_pods),
        format!("{}m/{}m", node.requested_cpu_millis, node.capacity_cpu_millis),
        format!("{}/{}Mi", mebibytes(node.requested_memory_bytes), mebibytes(node.capacity_memory_bytes)),
        used.map(|used| format!("{}m {}Mi", used.cpu_millis, mebibytes(used.memory_bytes)))
            .unwrap_or_default(),
    ];
    let key = match order {
        2 => largest(node.requested_pods.into()),
        3 => largest(node.requested_cpu_millis),
        4 => largest(node.requested_memory_bytes),
        5 => largest(used.map_or(0, |used| used.cpu_millis)),
        column => SortKey::Text(cells[column].clone()),
    };
    (key, cells)
}

pub fn job_row(job: &v1::OverviewJob, rate: f64, order: usize, now: Timestamp) -> (SortKey, Vec<String>) {
    let created = moment(job.created);
    let cells = vec![
        harmless(&job.name),
        harmless(&job.namespace),
        harmless(&job.status),
        harmless(&job.completions),
        job.active.to_string(),
        job.failed.to_string(),
        if rate > 0.0 { format!("{rate:.1}") } else { String::new() },
        words::age(created, now),
    ];
    let key = match order {
        4 => largest(job.active.into()),
        5 => largest(job.failed.into()),
        6 => largest((rate * 1000.0) as u64),
        7 => newest(created),
        3 => largest(job.succeeded.into()),
        column => SortKey::Text(cells[column].clone()),
    };
    (key, cells)
}
