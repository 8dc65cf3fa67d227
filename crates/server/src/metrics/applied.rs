//! What was applied: how long it took, and what became of Jobs and Pods, counted, told as traces and, at level debug, logged.
//!
//! Owns: looking at row changes as they are told. Does not own: the changes (`stint-core`), the traces (`life_traces`).
//!
//! Invariant: a row change costs a look at it and an atomic at most; nothing is kept of it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;
use stint_api::{JobConditionType, PodPhase};
use stint_core::{JobRecord, PodRecord, Row, RowChange, RowChangeKind};
use stint_daemon::figures::{Figures, doubling};
use stint_raft::{AppliedBatch, Leadership};
use tokio::sync::watch;

use crate::life_traces::LifeTraces;

/// One label with one of a few words.
type Word = [(&'static str, &'static str); 1];

/// See the module.
#[derive(Debug)]
pub struct AppliedFigures {
    apply_seconds: Histogram,
    changes: Counter,
    jobs_finished: Family<Word, Counter>,
    pods_ended: Family<Word, Counter>,
    pods_bound: Counter,
    placement_seconds: Histogram,
    traces: LifeTraces,
}

impl Default for AppliedFigures {
    fn default() -> AppliedFigures {
        AppliedFigures {
            // From 16 µs to half a second.
            apply_seconds: doubling(0.000_016, 16),
            changes: Counter::default(),
            jobs_finished: Family::default(),
            pods_ended: Family::default(),
            pods_bound: Counter::default(),
            // From a millisecond, that of the cluster's clock, to more than four hours.
            placement_seconds: doubling(0.001, 25),
            traces: LifeTraces::default(),
        }
    }
}

impl AppliedFigures {
    /// Lets them be read.
    pub fn register(&self, figures: &mut Figures) {
        for condition in ["Complete", "Failed"] {
            drop(self.jobs_finished.get_or_create(&[("condition", condition)]));
        }
        for phase in ["Succeeded", "Failed"] {
            drop(self.pods_ended.get_or_create(&[("phase", phase)]));
        }
        figures.histogram(
            "apply_seconds",
            "Time that the state machine took for a log entry",
            &self.apply_seconds,
        );
        figures.counter("row_changes", "Rows that log entries have changed", &self.changes);
        figures.counters("jobs_finished", "Jobs that have become Complete or Failed", &self.jobs_finished);
        figures.counters("pods_ended", "Pods that have ended", &self.pods_ended);
        figures.counter("pods_bound", "Pods for which a node was found", &self.pods_bound);
        figures.histogram(
            "placement_seconds",
            "Time from the creation of a Pod to its binding to a node, in the cluster's time",
            &self.placement_seconds,
        );
    }

    /// From now on it is known who leads: that server tells of lives that are over.
    pub fn follow(&self, leadership: watch::Receiver<Leadership>) {
        self.traces.follow(leadership);
    }

    /// An entry took so long.
    pub fn took(&self, elapsed: Duration) {
        self.apply_seconds.observe(elapsed.as_secs_f64());
    }

    /// What an entry has changed.
    pub fn applied(&self, batch: &AppliedBatch) {
        self.changes.inc_by(batch.changes.len() as u64);
        for change in batch.changes.iter() {
            match &change.kind {
                RowChangeKind::Added(Row::Pod(pod)) | RowChangeKind::Modified(Row::Pod(pod)) => {
                    self.pod_changed(change, pod, batch);
                }
                // One whose row goes with its end.
                RowChangeKind::Deleted(Row::Pod(pod)) => self.pod_ended(pod, batch),
                RowChangeKind::Modified(Row::Job(job)) => self.job_changed(job, batch),
                _ => {}
            }
        }
    }

    fn pod_changed(&self, change: &RowChange, pod: &PodRecord, batch: &AppliedBatch) {
        if pod.binding_revision == change.revision
            && let Some(bound_at) = pod.bound_at
        {
            self.pods_bound.inc();
            tracing::debug!(
                job.uid = %pod.job,
                pod.uid = %pod.uid,
                node = pod.node.as_ref().map(ToString::to_string),
                term = batch.term,
                index = batch.log_index,
                "a pod is bound"
            );
            self.placement_seconds.observe(bound_at.since_ms(pod.created_at).max(0) as f64 / 1000.0);
        }
        self.pod_ended(pod, batch);
    }

    /// Of an ended Pod one change is of the time of its end.
    fn pod_ended(&self, pod: &PodRecord, batch: &AppliedBatch) {
        let phase = match pod.phase {
            PodPhase::Succeeded => "Succeeded",
            PodPhase::Failed => "Failed",
            PodPhase::Pending | PodPhase::Running => return,
        };
        if pod.finished_at == Some(batch.time) {
            self.pods_ended.get_or_create(&[("phase", phase)]).inc();
            tracing::debug!(
                job.uid = %pod.job,
                pod.uid = %pod.uid,
                node = pod.node.as_ref().map(ToString::to_string),
                term = batch.term,
                index = batch.log_index,
                phase,
                "a pod has ended"
            );
            self.traces.pod_ended(pod, batch);
        }
    }

    fn job_changed(&self, job: &JobRecord, batch: &AppliedBatch) {
        let finished = job.status.conditions.iter().rev().find_map(|condition| {
            let name = match condition.condition_type {
                JobConditionType::Complete => "Complete",
                JobConditionType::Failed => "Failed",
                _ => return None,
            };
            (condition.last_transition_time == batch.time).then_some(name)
        });
        if let Some(condition) = finished {
            self.jobs_finished.get_or_create(&[("condition", condition)]).inc();
            tracing::debug!(
                job.uid = %job.uid, term = batch.term, index = batch.log_index, condition, "a job has finished"
            );
            self.traces.job_finished(job, condition, batch);
        }
    }
}
