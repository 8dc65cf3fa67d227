//! Traces of Jobs and Pods: what their rows know of their lives, told when they are over.
//!
//! Owns: the first span of each of these traces, that of the Pod's way to its node. Does not own: when a life is over (`metrics`),
//! what requests and agents tell.
//!
//! Invariants: the server that leads tells, so that each life is told once; it is told while the entry is applied, and so never waits.

use std::sync::OnceLock;

use stint_api::PodPhase;
use stint_core::{JobRecord, PodRecord};
use stint_daemon::figures::gauge_value;
use stint_daemon::traces::{self, KeyValue, Past};
use stint_raft::{AppliedBatch, Leadership};
use tokio::sync::watch;

/// See the module.
#[derive(Debug, Default)]
pub struct LifeTraces {
    leadership: OnceLock<watch::Receiver<Leadership>>,
}

/// Which part of a Pod's trace its placement is.
const PLACEMENT: u64 = 1;

impl LifeTraces {
    /// From now on it is known who leads.
    pub fn follow(&self, leadership: watch::Receiver<Leadership>) {
        // Once, when replication has started.
        let _ = self.leadership.set(leadership);
    }

    fn is_told_here(&self) -> bool {
        traces::is_on() && self.leadership.get().is_some_and(|leadership| leadership.borrow().is_leader)
    }

    /// A Pod has ended with this entry.
    pub fn pod_ended(&self, pod: &PodRecord, batch: &AppliedBatch) {
        if !self.is_told_here() {
            return;
        }
        let mut attributes = vec![
            KeyValue::new("job.uid", pod.job.to_string()),
            KeyValue::new("pod.uid", pod.uid.to_string()),
            KeyValue::new("pod.name", pod.name.clone()),
        ];
        attributes.extend(pod.node.as_ref().map(|node| KeyValue::new("node", node.to_string())));
        if let Some(bound_at) = pod.bound_at {
            let past = Past {
                name: "placement",
                begun_at_ms: pod.created_at.0,
                ended_at_ms: bound_at.0,
                attributes: &attributes,
                failed: false,
                belongs_to: None,
            };
            traces::tell_part(pod.uid.0, PLACEMENT, &past);
        }
        attributes.push(KeyValue::new("phase", pod.phase.as_str()));
        attributes.extend(position(batch));
        if !pod.reason.is_empty() {
            attributes.push(KeyValue::new("reason", pod.reason.clone()));
        }
        let past = Past {
            name: "pod",
            begun_at_ms: pod.created_at.0,
            ended_at_ms: pod.finished_at.unwrap_or(pod.created_at).0,
            attributes: &attributes,
            failed: pod.phase == PodPhase::Failed,
            belongs_to: Some(pod.job.0),
        };
        traces::tell_whole(pod.uid.0, &past);
    }

    /// A Job has got one of its last conditions with this entry.
    pub fn job_finished(&self, job: &JobRecord, condition: &'static str, batch: &AppliedBatch) {
        if !self.is_told_here() {
            return;
        }
        let mut attributes = vec![
            KeyValue::new("job.uid", job.uid.to_string()),
            KeyValue::new("job.name", job.metadata.name.clone()),
            KeyValue::new("job.namespace", job.metadata.namespace.clone()),
            KeyValue::new("condition", condition),
            KeyValue::new("pods.succeeded", i64::from(job.status.succeeded)),
            KeyValue::new("pods.failed", i64::from(job.status.failed)),
        ];
        attributes.extend(position(batch));
        let Some(ended_at) = job.status.conditions.last().map(|last| last.last_transition_time) else {
            return;
        };
        let past = Past {
            name: "job",
            begun_at_ms: job.metadata.creation_timestamp.unwrap_or(ended_at).0,
            ended_at_ms: ended_at.0,
            attributes: &attributes,
            failed: condition == "Failed",
            belongs_to: None,
        };
        traces::tell_whole(job.uid.0, &past);
    }
}

/// Which entry told of the end.
fn position(batch: &AppliedBatch) -> [KeyValue; 2] {
    [KeyValue::new("term", gauge_value(batch.term)), KeyValue::new("index", gauge_value(batch.log_index))]
}
