//! The controller: what a Job decides and wants, from counts alone (J20–J30, J60–J64, J90–J104).

use std::cmp::Reverse;

use stint_api::JobUid;

use super::pods::{Pod, Stop};
use super::{Job, Naive, decision, is_finished, succeeded};

impl Naive {
    /// Until nothing is left to do.
    pub(super) fn sync(&mut self, uid: JobUid) {
        while self.sync_once(uid) {}
        self.sweep();
    }

    fn sync_once(&mut self, uid: JobUid) -> bool {
        if is_finished(&self.jobs[&uid]) || self.jobs[&uid].deleting {
            return false;
        }
        self.take_decisions(uid);
        let job = &self.jobs[&uid];
        let (active, terminating) = (self.active(uid), self.terminating(uid));
        if let Some(fails) = decision(job) {
            // J90, J91.
            let why = if fails { Stop::JobFailed } else { Stop::JobSucceeded };
            if active.is_empty() && terminating.is_empty() {
                self.finish(uid, fails);
                return false;
            }
            active.iter().for_each(|place| self.stop(*place, why, None));
            return !active.is_empty();
        }
        let wanted = wanted_active(job, active.len() as u32) as usize;
        let end = job.spec.completions.filter(|_| job.spec.indexed).unwrap_or(u32::MAX);
        let strays = active.iter().filter(|place| self.pods[**place].index.is_some_and(|index| index >= end));
        let too_many = active.len().saturating_sub(wanted).max(strays.count());
        if too_many > 0 {
            let enough = job.spec.completions.is_some_and(|completions| succeeded(job) >= completions);
            let why = match job.spec.suspend {
                _ if enough => Stop::JobSucceeded,
                true => Stop::Suspend,
                false => Stop::ScaleDown,
            };
            let mut order = active;
            order.sort_by_key(|place| removal_key(&self.pods[*place], end));
            order.iter().take(too_many).for_each(|place| self.stop(*place, why, None));
            return true;
        }
        if job.spec.suspend || job.backoff_until.is_some() {
            return false;
        }
        // J27, D3.
        let blocking = if job.spec.replace_terminating { 0 } else { terminating.len() };
        let missing = wanted.saturating_sub(active.len() + blocking);
        for _ in 0..missing {
            self.create_pod(uid);
        }
        missing > 0
    }

    /// J64: the first that applies.
    fn take_decisions(&mut self, uid: JobUid) {
        let time = self.time;
        let job = self.jobs.get_mut(&uid).unwrap();
        if decision(job).is_some() {
            return;
        }
        if !job.spec.suspend && job.start.is_none() {
            job.start = Some(time);
        }
        let job = &self.jobs[&uid];
        let restarts = self.restarts_of(uid);
        let limit = job.spec.backoff_limit;
        let too_many_restarts =
            self.templates[&uid].on_failure && restarts > 0 && restarts >= u64::from(limit);
        let deadline = job.start.zip(job.spec.deadline_ms).map(|(start, ms)| start.saturating_add(ms));
        let none_active = self.active(uid).is_empty();
        let enough = match job.spec.completions {
            Some(completions) => succeeded(job) >= completions,
            None => succeeded(job) > 0,
        };
        if job.failed > limit || too_many_restarts {
            self.decide(uid, "FailureTarget", "BackoffLimitExceeded");
        } else if !job.spec.suspend && deadline.is_some_and(|deadline| deadline <= time) {
            self.decide(uid, "FailureTarget", "DeadlineExceeded");
        } else if enough && none_active {
            self.decide(uid, "SuccessCriteriaMet", "CompletionsReached");
        } else {
            self.suspend_or_resume(uid);
        }
    }

    /// J100–J104.
    fn suspend_or_resume(&mut self, uid: JobUid) {
        let time = self.time;
        let job = self.jobs.get_mut(&uid).unwrap();
        let told = job.conditions.iter().find(|(kind, ..)| *kind == "Suspended").map(|(_, holds, ..)| *holds);
        if job.spec.suspend == told.unwrap_or(false) {
            return;
        }
        job.conditions.retain(|(kind, ..)| *kind != "Suspended");
        let reason = if job.spec.suspend { "JobSuspended" } else { "JobResumed" };
        job.conditions.push(("Suspended", job.spec.suspend, time, reason));
        job.start = if job.spec.suspend { None } else { Some(time) };
    }

    pub(super) fn decide(&mut self, uid: JobUid, kind: &'static str, reason: &'static str) {
        let time = self.time;
        let job = self.jobs.get_mut(&uid).unwrap();
        job.conditions.push((kind, true, time, reason));
        // J53.
        job.backoff_until = None;
    }

    fn finish(&mut self, uid: JobUid, fails: bool) {
        let time = self.time;
        let job = self.jobs.get_mut(&uid).unwrap();
        let reason = job.conditions.last().unwrap().3;
        job.conditions.push((if fails { "Failed" } else { "Complete" }, true, time, reason));
    }

    fn create_pod(&mut self, uid: JobUid) {
        let unfinished = self.unfinished(uid);
        let job = &self.jobs[&uid];
        // J30.
        let blocks = |pod: &Pod| !job.spec.replace_terminating || pod.stop.is_none();
        let in_use = |index: u32| {
            let pods = unfinished.iter().map(|place| &self.pods[*place]);
            pods.filter(|pod| blocks(pod)).any(|pod| pod.index == Some(index))
        };
        let free = |index: &u32| !job.completed.contains(index) && !in_use(*index);
        let index = job.spec.indexed.then(|| (0..job.spec.completions.unwrap()).find(free).unwrap());
        let job = self.jobs.get_mut(&uid).unwrap();
        let avoid = job.avoid.take();
        job.avoid = avoid.clone().map(|(node, count)| (node, count - 1)).filter(|(_, count)| *count > 0);
        self.pods.push(Pod::new(uid, index, avoid.map(|(node, _)| node)));
    }
}

/// J20–J22, J101.
fn wanted_active(job: &Job, active: u32) -> u32 {
    match job.spec.completions {
        _ if job.spec.suspend => 0,
        Some(completions) => completions.saturating_sub(succeeded(job)).min(job.spec.parallelism),
        None if succeeded(job) > 0 => active,
        None => job.spec.parallelism,
    }
}

/// J28: the smallest goes first.
#[allow(clippy::type_complexity, reason = "one place per rule")]
fn removal_key(
    pod: &Pod,
    end: u32,
) -> (bool, bool, bool, bool, Reverse<Option<i64>>, Reverse<u32>, Reverse<u64>) {
    (
        pod.index.is_none_or(|index| index < end),
        pod.node.is_some(),
        pod.has_started,
        pod.ready_since.is_some(),
        Reverse(pod.ready_since),
        Reverse(pod.containers.iter().map(|one| one.restarts).max().unwrap_or(0)),
        Reverse(pod.created.0),
    )
}
