//! What was applied: how long it took, and what became of Jobs and Pods, counted, told as traces and, at level debug, logged.
//!
//! Owns: looking at row changes and ends as they are told. Does not own: them (`stint-core`), the traces (`life_traces`).
//!
//! Invariant: a row change costs a look at it and an atomic at most; nothing is kept of it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;
use stint_api::{JobConditionType, PodPhase};
use stint_core::{Ended, JobRecord, PodRecord, Row, RowChange, RowChangeKind};
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
            if let RowChangeKind::Added(Row::Pod(pod)) | RowChangeKind::Modified(Row::Pod(pod)) = &change.kind
            {
                self.pod_changed(change, pod, batch);
            }
        }
        for end in &batch.ends {
            match end {
                Ended::Pod(pod) => self.pod_ended(pod, batch),
                Ended::Job { record, condition } => self.job_finished(record, *condition, batch),
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
    }

    fn pod_ended(&self, pod: &PodRecord, batch: &AppliedBatch) {
        let phase = if pod.phase == PodPhase::Succeeded { "Succeeded" } else { "Failed" };
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

    fn job_finished(&self, job: &JobRecord, condition: JobConditionType, batch: &AppliedBatch) {
        let condition = if condition == JobConditionType::Complete { "Complete" } else { "Failed" };
        self.jobs_finished.get_or_create(&[("condition", condition)]).inc();
        tracing::debug!(
            job.uid = %job.uid, term = batch.term, index = batch.log_index, condition, "a job has finished"
        );
        self.traces.job_finished(job, condition, batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ClusterId, Container, Job, JobUid, MemberId, RestartPolicy, Timestamp, defaulting};
    use stint_core::testing::Harness;
    use stint_core::{ClusterSettings, Command, CreateJob, PlacementPolicy, Reply, UpdateJob};

    const JOB: JobUid = JobUid(7);

    /// Applies entries of one command each, all of them at the same time of the cluster, and tells of them.
    fn applied(commands: Vec<Command>) -> String {
        let settings = ClusterSettings {
            cluster_id: ClusterId(1),
            node_lease_ms: 10_000,
            placement_policy: PlacementPolicy::Spread,
            event_retention_ms: 1_000,
            highest_member_id: MemberId(1),
            default_runtime: String::new(),
            ended_pods_max: 0,
        };
        let (mut harness, told) = (Harness::new(), AppliedFigures::default());
        for command in std::iter::once(Command::SetClusterSettings(settings)).chain(commands) {
            let outcome = harness.apply_command(Timestamp(1_000), 1, command);
            assert!(!matches!(outcome.replies[..], [Reply::Rejected(_)]), "{outcome:?}");
            told.applied(&AppliedBatch {
                log_index: harness.log_index,
                term: harness.term,
                revision: harness.state.revision(),
                changes: outcome.changes.into(),
                orders: outcome.orders,
                ends: outcome.ends,
            });
        }
        let mut figures = Figures::default();
        told.register(&mut figures);
        figures.encode(|| {})
    }

    /// One that is complete as soon as it is there.
    fn job(ttl_seconds: i32) -> Job {
        let mut job = Job::default();
        job.metadata.name = "a".to_owned();
        job.spec.completions = Some(0);
        job.spec.template.spec.restart_policy = Some(RestartPolicy::Never);
        let container = Container { name: "main".to_owned(), image: "i".to_owned(), ..Container::default() };
        job.spec.template.spec.containers.push(container);
        job.spec.ttl_seconds_after_finished = Some(ttl_seconds);
        defaulting::set_defaults(&mut job);
        defaulting::generate_labels(&mut job, JOB);
        job
    }

    #[test]
    fn a_job_that_is_changed_in_the_moment_of_its_end_has_finished_once() {
        let (request_id, other_names) = (String::new(), Vec::new());
        let create = CreateJob { job: job(100), uid: JOB, request_id, other_names };
        let update = UpdateJob { job: job(200), uid: Some(JOB), resource_version: None };
        let text = applied(vec![Command::CreateJob(Box::new(create)), Command::UpdateJob(Box::new(update))]);
        assert!(text.contains("\nstint_jobs_finished_total{condition=\"Complete\"} 1\n"), "{text}");
        assert!(text.contains("\nstint_jobs_finished_total{condition=\"Failed\"} 0\n"), "{text}");
    }
}
