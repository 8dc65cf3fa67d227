//! Where the reference and the real state must agree.

use std::collections::{BTreeMap, BTreeSet};

use stint_api::{ConditionStatus, JobUid, NodeName, PodPhase, PodUid};
use stint_core::testing::Rows;
use stint_core::{DesiredAction, JobRecord, NodeRecord, PodRecord, Row, State};

use super::pods::Pod;
use super::{Job, Naive, completed_text, decision, is_finished, succeeded};

impl Naive {
    /// Gives Pods that were created in this entry the identity that they got: as many, for the same indexes in the same
    /// order.
    pub(super) fn meet_new_pods(&mut self, rows: &Rows) {
        let known: BTreeSet<PodUid> = self.pods.iter().filter_map(|pod| pod.uid).collect();
        let mut new: BTreeMap<JobUid, Vec<_>> = BTreeMap::new();
        for (_, pod) in rows.pods() {
            if !known.contains(&pod.uid) {
                new.entry(pod.job).or_default().push(pod);
            }
        }
        for pod in self.pods.iter_mut().filter(|pod| pod.uid.is_none()) {
            let of_job = new.get_mut(&pod.job).filter(|pods| !pods.is_empty());
            let Some(of_job) = of_job else { panic!("a Pod was not created: {pod:?}") };
            let real = of_job.remove(0);
            assert_eq!(real.index.map(|index| index.0), pod.index, "J30");
            assert_eq!(real.avoid_node.as_ref().map(ToString::to_string), pod.avoid, "D2");
            (pod.uid, pod.name, pod.created) = (Some(real.uid), real.name.clone(), real.created_revision);
        }
        let surplus: Vec<_> = new.into_values().flatten().collect();
        assert!(surplus.is_empty(), "Pods that nobody wants, or that should be gone: {surplus:?}");
        self.pods.sort_by_key(|pod| pod.created);
    }

    pub fn compare(&mut self, state: &State, rows: &Rows) {
        let real: BTreeMap<JobUid, _> = rows.jobs().into_iter().map(|(_, job)| (job.uid, job)).collect();
        assert_eq!(real.keys().collect::<Vec<_>>(), self.jobs.keys().collect::<Vec<_>>(), "the Jobs");
        for (uid, job) in &self.jobs {
            self.compare_job(*uid, job, &real[uid]);
        }
        let real: BTreeMap<PodUid, _> = rows.pods().into_iter().map(|(_, pod)| (pod.uid, pod)).collect();
        let uids: BTreeSet<PodUid> = self.pods.iter().filter_map(|pod| pod.uid).collect();
        assert_eq!(real.keys().copied().collect::<BTreeSet<_>>(), uids, "the Pods");
        for pod in &self.pods {
            compare_pod(pod, &real[&pod.uid.unwrap()]);
        }
        self.compare_desired(state);
        self.compare_nodes_and_requests(rows);
        self.compare_config_maps(rows);
        self.compare_log_tails(rows);
        self.check_that_nothing_is_forgotten(state);
    }

    fn compare_job(&self, uid: JobUid, job: &Job, real: &JobRecord) {
        let status = &real.status;
        let active = self.active(uid);
        let ready = active.iter().filter(|place| self.pods[**place].ready_since.is_some());
        assert_eq!(
            (status.active, status.ready, status.terminating),
            (active.len() as u32, ready.count() as u32, self.terminating(uid).len() as u32),
            "active, ready, terminating of {job:?}"
        );
        assert_eq!((status.succeeded, status.failed), (succeeded(job), job.failed), "counts of {job:?}");
        assert_eq!(status.completed_indexes, completed_text(job), "{job:?}");
        let conditions: Vec<_> = status
            .conditions
            .iter()
            .map(|one| {
                let holds = one.status == ConditionStatus::True;
                (one.condition_type.as_str(), holds, one.last_transition_time.0, one.reason.as_str())
            })
            .collect();
        assert_eq!(conditions, job.conditions, "{job:?}");
        assert_eq!(status.start_time.map(|at| at.0), job.start, "J101, J102: {job:?}");
        let complete = job.conditions.iter().find(|(kind, ..)| *kind == "Complete").map(|one| one.2);
        assert_eq!(status.completion_time.map(|at| at.0), complete, "J92");
        assert_eq!(status.backoff_until.map(|at| at.0), job.backoff_until, "J50: {job:?}");
        assert_eq!(status.deleting, job.deleting);
        assert_eq!(real.metadata.generation, job.generation, "M1");
        assert_eq!(real.metadata.name, job.name);
    }

    /// A8, P7, P10: which runs an agent should hold, and which of them are to stop.
    fn compare_desired(&self, state: &State) {
        for desired in self.nodes.keys().flat_map(|node| state.desired_pods(&NodeName::new(node))) {
            let pod = &self.pods[self.place_of(desired.pod).unwrap()];
            let DesiredAction::Run { containers } = &desired.action else {
                assert!(pod.stop.is_some(), "{pod:?}");
                continue;
            };
            assert!(pod.stop.is_none(), "{pod:?}");
            let shapes = &self.templates[&pod.job].shapes;
            let mut wanted: Vec<_> = shapes
                .iter()
                .zip(&pod.containers)
                .filter(|(_, one)| one.may_run())
                .map(|(shape, one)| {
                    let delay = one.restart_at.map_or(0, |at| at.saturating_sub(self.time).max(0) as u64);
                    (shape.name.as_str(), one.restarts, delay, pod.starting_over.then_some(0))
                })
                .collect();
            if let (Some(until), Some(last)) = (pod.sidecars_until, wanted.last_mut()) {
                // However late its turn comes, it gets its signal and two seconds, unless the whole Pod has less.
                let least = self.templates[&pod.job].grace_ms.min(2_000);
                last.3 = Some(until.saturating_sub(self.time).max(least) as u64);
            }
            let real =
                containers.iter().map(|one| (&*one.name, one.restart_count, one.delay_ms, one.stop_grace_ms));
            assert_eq!(real.collect::<Vec<_>>(), wanted, "{pod:?}");
        }
    }

    fn compare_nodes_and_requests(&self, rows: &Rows) {
        let (mut nodes, mut tombstones) = (BTreeMap::new(), BTreeMap::new());
        for stored in rows.map.values() {
            match &stored.row {
                Row::Node(node) => {
                    let NodeRecord { incarnation, live, unschedulable, .. } = **node;
                    nodes.insert(node.name.to_string(), (incarnation, live, unschedulable));
                }
                Row::Tombstone(row) => {
                    tombstones.insert((row.name.clone(), row.request_id.clone()), row.expires_at.0);
                }
                _ => {}
            }
        }
        let known = self.nodes.iter();
        let known = known.map(|(name, node)| (name.clone(), (node.incarnation, node.live, node.cordoned)));
        assert_eq!(nodes, known.collect::<BTreeMap<_, _>>());
        assert_eq!(tombstones, self.tombstones, "decision 10");
    }

    /// R9: whatever will be due, and whatever is left to do, is known to the one who proposes `Tick` and `Continue`.
    fn check_that_nothing_is_forgotten(&self, state: &State) {
        let mut first_due = i64::MAX;
        let mut goes_on = false;
        for (uid, job) in &self.jobs {
            if job.deleting {
                goes_on |= self.unfinished(*uid).is_empty();
            } else if is_finished(job) {
                first_due = first_due.min(self.ttl_end(job).unwrap_or(i64::MAX));
            } else if decision(job).is_none() {
                first_due = first_due.min(job.backoff_until.unwrap_or(i64::MAX));
                let deadline = job.start.zip(job.spec.deadline_ms).filter(|_| !job.spec.suspend);
                first_due = first_due.min(deadline.map_or(i64::MAX, |(start, ms)| start.saturating_add(ms)));
            }
        }
        for until in self.tombstones.values() {
            first_due = first_due.min(*until);
        }
        let next_due = state.next_due().map_or(i64::MAX, |due| due.0);
        assert!(next_due <= first_due, "a timer is lost: {next_due}, expected {first_due}");
        assert!(!goes_on || state.has_backlog(), "a deletion is forgotten");
    }
}

fn compare_pod(pod: &Pod, real: &PodRecord) {
    let phase = match &pod.end {
        Some(end) if end.succeeded => PodPhase::Succeeded,
        Some(_) => PodPhase::Failed,
        None if pod.has_started => PodPhase::Running,
        None => PodPhase::Pending,
    };
    assert_eq!(real.phase, phase, "P1: {pod:?}");
    assert_eq!(real.reason, pod.reason, "{pod:?}");
    assert_eq!(real.finished_at.map(|at| at.0), pod.end.as_ref().map(|end| end.at));
    assert_eq!(real.node.as_ref().map(ToString::to_string), pod.node, "{pod:?}");
    assert_eq!(real.stop_reason, pod.stop.map(|stop| stop.real()), "{pod:?}");
    assert_eq!(real.deletion_at.map(|at| at.0), pod.grace_end, "P6: {pod:?}");
    assert_eq!(real.counted, pod.counted, "R4: {pod:?}");
    assert_eq!(real.ready_changed_at.filter(|_| real.ready).map(|at| at.0), pod.ready_since, "P2: {pod:?}");
    assert_eq!(real.initialized_at.map(|at| at.0), pod.initialized_since, "P8: {pod:?}");
    assert_eq!(real.sidecars_until.map(|at| at.0), pod.sidecars_until, "P7: {pod:?}");
    assert_eq!(real.restarting_all, pod.starting_over, "P10: {pod:?}");
    assert_eq!(real.containers.len(), pod.containers.len(), "{pod:?}");
    for (one, real) in pod.containers.iter().zip(&real.containers) {
        one.compare(real);
    }
    assert_eq!(
        real.disruption_reason == "NodeLost",
        real.reason == "NodeLost" && real.disruption_reason != "EvictionByEvictionAPI"
    );
}
