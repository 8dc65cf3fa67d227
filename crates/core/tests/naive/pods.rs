//! Pods: how they stop, end, restart and count (J12–J17, J50, J51, J61, J91, A10, A12, A14).

use stint_api::{ContainerTermination, JobUid, PodUid, Revision};
use stint_core::testing::Rows;
use stint_core::{
    ContainerRun, DeletePod, PodReport, PodReportKind, RejectionReason, Reply, ReportPods, StopReason,
};

use super::containers::{Container, Doing, all_good};
use super::{Naive, decision, done, refused};

/// A Pod that is stored.
#[derive(Debug, Clone)]
pub struct Pod {
    pub job: JobUid,
    /// None until it is met in the rows.
    pub uid: Option<PodUid>,
    pub name: String,
    pub created: Revision,
    pub index: Option<u32>,
    pub node: Option<String>,
    pub stop: Option<Stop>,
    pub grace_end: Option<i64>,
    pub counted: bool,
    /// Empty while it has no node.
    pub containers: Vec<Container>,
    pub ready_since: Option<i64>,
    /// It is Running (P1).
    pub has_started: bool,
    /// Something of it has run.
    pub has_run: bool,
    /// Its init containers have done their work, and its sidecars have started.
    pub initialized_since: Option<i64>,
    /// P7: it is over but for its sidecars, which have until then.
    pub sidecars_until: Option<i64>,
    /// P10: all of its containers are stopped, to begin anew.
    pub starting_over: bool,
    pub reason: &'static str,
    pub avoid: Option<String>,
    pub end: Option<End>,
}

/// Why a Pod was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    ScaleDown,
    Suspend,
    JobFailed,
    JobSucceeded,
    Deleted,
    JobDeleted,
}

impl Stop {
    pub fn real(self) -> StopReason {
        match self {
            Stop::ScaleDown => StopReason::ScaleDown,
            Stop::Suspend => StopReason::Suspend,
            Stop::JobFailed => StopReason::JobFailed,
            Stop::JobSucceeded => StopReason::JobSucceeded,
            Stop::Deleted => StopReason::Deleted,
            Stop::JobDeleted => StopReason::JobDeleted,
        }
    }
}

/// How a Pod ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub succeeded: bool,
    pub at: i64,
    /// Its row goes at the end of the step.
    pub gone: bool,
}

impl Pod {
    pub fn new(job: JobUid, index: Option<u32>, avoid: Option<String>) -> Pod {
        Pod {
            job,
            uid: None,
            name: String::new(),
            created: Revision(0),
            index,
            node: None,
            stop: None,
            grace_end: None,
            counted: false,
            containers: Vec::new(),
            ready_since: None,
            has_started: false,
            has_run: false,
            initialized_since: None,
            sidecars_until: None,
            starting_over: false,
            reason: "",
            avoid,
            end: None,
        }
    }

    pub fn is_unfinished_of(&self, job: JobUid) -> bool {
        self.job == job && self.end.is_none()
    }
}

impl Naive {
    /// A10.
    pub(super) fn report(&mut self, report: &ReportPods, reply: &Reply) {
        let Some(node) = self.nodes.get(report.node.as_str()) else {
            return refused(reply, RejectionReason::NotFound);
        };
        // A11.
        if !node.live || node.incarnation != report.incarnation {
            return refused(reply, RejectionReason::StaleIncarnation);
        }
        let expected: Vec<bool> =
            report.reports.iter().map(|one| self.report_one(report.node.as_str(), one)).collect();
        let Reply::Reported { accepted } = reply else { panic!("{reply:?}") };
        assert_eq!(*accepted, expected);
    }

    /// False: ignored.
    pub(super) fn report_one(&mut self, node: &str, report: &PodReport) -> bool {
        let Some(place) = self.place_of(report.pod) else { return false };
        let pod = &self.pods[place];
        if pod.end.is_some() || pod.node.as_deref() != Some(node) {
            return false;
        }
        let shapes = &self.templates[&pod.job].shapes;
        let of_run = |run: &ContainerRun| {
            let at = shapes.iter().position(|shape| shape.name == run.container)?;
            let one = &pod.containers[at];
            (one.may_run() && one.restarts == run.restart_count).then_some(at)
        };
        match &report.kind {
            PodReportKind::NotStarted { run: None } => {
                if pod.stop.is_none() {
                    return false;
                }
                let good = all_good(shapes, pod);
                self.end(place, good, "");
            }
            // A12.
            PodReportKind::LeaseExpired { run, .. } => {
                if let Some(at) = of_run(run) {
                    self.report_run(place, at, &report.kind);
                }
                self.end(place, false, "NodeLost");
            }
            // P4.
            PodReportKind::PodFailed { ended, .. } => {
                let known = |(run, termination): &(ContainerRun, ContainerTermination)| {
                    let (at, run, termination) = (of_run(run)?, run.clone(), Some(termination.clone()));
                    Some((at, PodReportKind::LeaseExpired { run, termination }))
                };
                let known: Vec<_> = ended.iter().filter_map(known).collect();
                for (at, kind) in known {
                    self.report_run(place, at, &kind);
                }
                self.end(place, false, "Evicted");
            }
            PodReportKind::Notice { .. } => return true,
            PodReportKind::Running { run, .. }
            | PodReportKind::ContainerExited { run, .. }
            | PodReportKind::StartFailed { run, .. }
            | PodReportKind::NotStarted { run: Some(run) }
            | PodReportKind::Waiting { run, .. }
            | PodReportKind::Readiness { run, .. } => {
                let Some(at) = of_run(run) else { return false };
                if !self.report_run(place, at, &report.kind) {
                    return false;
                }
                self.follow(place);
            }
        }
        self.sweep();
        true
    }

    /// Begins to stop a Pod; one without a node ends at once.
    pub(super) fn stop(&mut self, place: usize, why: Stop, grace_ms: Option<i64>) {
        let time = self.time;
        let pod = &self.pods[place];
        let uid = pod.job;
        let grace_ms = grace_ms.unwrap_or(self.templates[&uid].grace_ms);
        let grace_end = time.saturating_add(grace_ms);
        let replaces_at_once = self.jobs.get(&uid).is_some_and(|job| job.spec.replace_terminating);
        let pod = &mut self.pods[place];
        // P6, P7: there is one grace.
        let ends = [Some(grace_end), pod.grace_end, pod.sidecars_until];
        pod.grace_end = ends.into_iter().flatten().min();
        pod.stop = Some(why);
        // J13, J14.
        if why == Stop::Deleted && replaces_at_once && !pod.counted {
            pod.counted = true;
            self.count_failure(uid, None);
        }
        if self.pods[place].node.is_none() {
            self.end(place, false, "");
        }
    }

    /// A Pod has ended: it counts by why it was stopped and by what its Job has decided.
    pub(super) fn end(&mut self, place: usize, succeeded: bool, reason: &'static str) {
        let pod = self.pods[place].clone();
        let at = self.time;
        let goes =
            self.templates[&pod.job].goes_with_pods || !matches!(pod.stop, None | Some(Stop::JobFailed));
        let end = End { succeeded, at, gone: goes };
        let ended = &mut self.pods[place];
        ended.end = Some(end);
        ended.ready_since = None;
        ended.sidecars_until = None;
        ended.starting_over = false;
        if !reason.is_empty() {
            ended.reason = reason;
        }
        for one in &mut ended.containers {
            one.restart_at = None;
            if matches!(one.doing, Doing::Runs { .. }) {
                one.doing = Doing::Over;
                one.last_exit = Some(137);
            }
        }
        ended.counted = true;
        let Some(job) = self.jobs.get(&pod.job) else { return };
        if pod.counted {
            return;
        }
        let lost_on = pod.node.clone().filter(|_| reason == "NodeLost");
        match (pod.stop, decision(job)) {
            // J16, J120.
            (Some(Stop::ScaleDown | Stop::Suspend | Stop::JobSucceeded | Stop::JobDeleted), _) => {}
            // J91.
            (_, Some(true)) | (Some(Stop::JobFailed), _) => self.count_failure(pod.job, lost_on),
            (None, Some(false)) => {}
            // J14.
            (Some(Stop::Deleted), None) if job.spec.replace_terminating => {
                self.count_failure(pod.job, lost_on);
            }
            (None | Some(Stop::Deleted), _) if succeeded => self.count_success(pod.job, pod.index),
            (None | Some(Stop::Deleted), _) => self.count_failure(pod.job, lost_on),
        }
    }

    fn count_success(&mut self, uid: JobUid, index: Option<u32>) {
        let job = self.jobs.get_mut(&uid).unwrap();
        if let Some(index) = index {
            // J12, J32.
            if index >= job.spec.completions.unwrap() {
                return;
            }
            if !job.completed.contains(&index) {
                job.completed.push(index);
                job.completed.sort_unstable();
            }
        } else {
            job.successes += 1;
        }
        job.failures_in_a_row = 0;
        job.backoff_until = None;
        // J28: no other Pod of the index is wanted.
        for place in self.active(uid) {
            if index.is_some() && self.pods[place].index == index {
                self.stop(place, Stop::ScaleDown, None);
            }
        }
    }

    /// J15, J50, J51, D2.
    fn count_failure(&mut self, uid: JobUid, lost_on: Option<String>) {
        let time = self.time;
        let job = self.jobs.get_mut(&uid).unwrap();
        job.failed += 1;
        if let Some(node) = lost_on {
            let so_far = job.avoid.as_ref().map_or(0, |(_, count)| *count);
            job.avoid = Some((node, so_far + 1));
            return;
        }
        job.failures_in_a_row += 1;
        let delay = doubled(job.spec.base_ms, job.spec.cap_ms, job.failures_in_a_row - 1);
        let waits = delay > 0 && decision(job).is_none();
        job.backoff_until = waits.then(|| time.saturating_add(delay));
    }

    /// J17, P6.
    pub(super) fn delete_pod(&mut self, delete: &DeletePod, reply: &Reply, rows: &Rows) {
        let _ = rows;
        let found = (0..self.pods.len()).find(|place| self.pods[*place].name == delete.name);
        let Some(place) = found else { return refused(reply, RejectionReason::NotFound) };
        let pod = &self.pods[place];
        if pod.end.is_some() {
            if delete.key.is_none() {
                return refused(reply, RejectionReason::NotFound);
            }
            done(reply);
            self.pods.remove(place);
            return;
        }
        done(reply);
        let why = match pod.stop {
            None | Some(Stop::JobFailed) => Stop::Deleted,
            Some(why) => why,
        };
        if pod.stop != Some(why) || delete.grace_period_seconds.is_some() {
            self.stop(place, why, delete.grace_period_seconds.map(|seconds| i64::from(seconds) * 1000));
        }
        self.sweep();
    }

    /// Rows of Pods that go with their end.
    pub(super) fn sweep(&mut self) {
        self.pods.retain(|pod| pod.end.as_ref().is_none_or(|end| !end.gone));
    }
}

/// base, 2 · base, 4 · base …, at most cap.
pub fn doubled(base_ms: u64, cap_ms: u64, times: u32) -> i64 {
    let mut delay = u128::from(base_ms);
    for _ in 0..times {
        delay = (2 * delay).min(u128::from(u64::MAX));
    }
    delay.min(u128::from(cap_ms)).min(i64::MAX as u128) as i64
}
