//! A Job: what the controller would do with it now, and what its Pods wait for.

use std::collections::BTreeMap;
use std::sync::Arc;

use stint_api::{JobConditionType, JobUid, PodPhase, Timestamp};

use super::{Explanation, Pods, Reason, counted, span, verb};
use crate::controller::{Plan, wanted_active};
use crate::limits::{PODS_LOOKED_AT_MAX, PODS_UNFINISHED_MAX};
use crate::record::{ContainerRunState, JobRecord, PodRecord};
use crate::state::{ActiveJob, State, ttl_due};
use crate::timers::deadline;

/// The unfinished Pods of a Job, by what they do.
#[derive(Default)]
struct Doing {
    unbound: Pods,
    first_unbound: Option<Arc<PodRecord>>,
    starting: Pods,
    running: Pods,
    stopping: Pods,
    stops_until: Option<Timestamp>,
    /// Containers that wait, by the reason that their agents give, with the last message.
    waiting: BTreeMap<String, (Pods, String)>,
    restarting: Pods,
    restarts_at: Option<Timestamp>,
    not_looked_at: usize,
}

impl State {
    /// Why an unfinished Job does not run, or what of it runs. None: there is none of this uid.
    pub fn explain_job(&self, uid: JobUid) -> Option<Explanation> {
        let job = self.jobs.get(&uid)?;
        let doing = self.doing(uid);
        let mut reasons = Vec::new();
        self.say_what_the_job_does(uid, job, &doing, &mut reasons);
        self.say_what_the_pods_do(&doing, &mut reasons);
        self.say_what_ends_it(job, &mut reasons);
        let status = &job.record.status;
        let state = match job.target() {
            _ if status.deleting => "Deleting",
            Some(_) => "Ending",
            None if job.record.spec.suspend => "Suspended",
            None if doing.running.count > 0 => "Running",
            None => "Waiting",
        };
        let name = &job.record.metadata.name;
        let summary = match (state, reasons.first()) {
            ("Running", _) => {
                let waiting = status.active.saturating_sub(doing.running.count);
                let others = match waiting {
                    0 => String::new(),
                    waiting => format!(", {waiting} {} not yet", verb(waiting, "does", "do")),
                };
                format!(
                    "job {name} runs: {} {}{others}",
                    counted(doing.running.count, "pod"),
                    verb(doing.running.count, "runs", "run")
                )
            }
            (_, Some(first)) => format!("job {name} does not run: {}", first.message),
            (_, None) => format!("job {name} does not run"),
        };
        let placement = doing.first_unbound.as_ref().and_then(|pod| self.placement(pod));
        Some(Explanation { state, summary, reasons, placement })
    }

    fn doing(&self, uid: JobUid) -> Doing {
        let mut doing = Doing::default();
        let Some(group) = self.groups.get(&uid) else { return doing };
        doing.not_looked_at = group.pods.len().saturating_sub(PODS_LOOKED_AT_MAX);
        let pods = group.pods.values().take(PODS_LOOKED_AT_MAX).filter_map(|uid| self.pods.get(uid));
        for pod in pods.map(|pod| &pod.record) {
            if pod.stop_reason.is_some() {
                doing.stopping.add(pod);
                doing.stops_until = doing.stops_until.max(pod.deletion_at);
            } else if pod.node.is_none() {
                doing.unbound.add(pod);
                doing.first_unbound.get_or_insert_with(|| Arc::clone(pod));
            } else if let Some(at) = next_restart(pod, self.meta.time) {
                doing.restarting.add(pod);
                doing.restarts_at = Some(doing.restarts_at.map_or(at, |other| other.min(at)));
            } else if let Some((reason, message)) = waits_for(pod) {
                let (pods, last) = doing.waiting.entry(reason.to_owned()).or_default();
                pods.add(pod);
                message.clone_into(last);
            } else if pod.phase == PodPhase::Running {
                doing.running.add(pod);
            } else {
                doing.starting.add(pod);
            }
        }
        doing
    }

    fn say_what_the_job_does(&self, uid: JobUid, job: &ActiveJob, doing: &Doing, reasons: &mut Vec<Reason>) {
        let (spec, status) = (&job.record.spec, &job.record.status);
        let time = self.meta.time;
        let stopping = counted(doing.stopping.count, "pod");
        let until_stopped = |reason: Reason| match doing.stops_until {
            Some(until) => reason.until(until).about(&doing.stopping),
            None => reason.about(&doing.stopping),
        };
        if status.deleting {
            let message = match doing.stopping.count {
                0 => "it is being deleted: the rows of its pods go first".to_owned(),
                count => {
                    format!("it is being deleted: {stopping} {} to end first", verb(count, "has", "have"))
                }
            };
            reasons.push(until_stopped(Reason::new("Deleting", message)));
            return;
        }
        if let Some(failing) = job.target() {
            let wanted =
                if failing { JobConditionType::FailureTarget } else { JobConditionType::SuccessCriteriaMet };
            let condition = status.conditions.iter().find(|one| one.condition_type == wanted);
            let why = condition.map(|one| format!("{}: {}", one.reason, one.message)).unwrap_or_default();
            let what = if failing { "it fails" } else { "it is complete" };
            let left = status.active.saturating_add(status.terminating);
            let word = if failing { "FailureTarget" } else { "SuccessCriteriaMet" };
            let message =
                format!("{what} ({why}) once {} {} ended", counted(left, "pod"), verb(left, "has", "have"));
            reasons.push(until_stopped(Reason::new(word, message)));
            return;
        }
        if spec.suspend {
            let stops = match doing.stopping.count {
                0 => String::new(),
                count => format!("; {stopping} {} not ended yet", verb(count, "has", "have")),
            };
            let message = format!("it is suspended: no pods are created until suspend is false{stops}");
            reasons.push(until_stopped(Reason::new("Suspended", message)));
            return;
        }
        if spec.parallelism == 0 {
            reasons
                .push(Reason::new("ParallelismZero", "its parallelism is 0: no pods are created".to_owned()));
        }
        if let Some(until) = status.backoff_until {
            let failures = counted(status.consecutive_failures, "failure");
            let message = format!(
                "it backs off after {failures} in a row: no pod is created for {}",
                span(time, until)
            );
            reasons.push(Reason::new("BackOff", message).until(until));
        }
        match self.plan(uid) {
            Plan::Create { pods } if self.pods.len() >= PODS_UNFINISHED_MAX => {
                let message = format!(
                    "{} can't be created: the cluster has {PODS_UNFINISHED_MAX} unfinished ones, its limit",
                    counted(pods, "pod")
                );
                reasons.push(Reason::new("ClusterFull", message));
            }
            Plan::Create { pods } => {
                let message =
                    format!("{} {} still being created", counted(pods, "pod"), verb(pods, "is", "are"));
                reasons.push(Reason::new("Creating", message));
            }
            Plan::Remove { pods, .. } => {
                let message = format!(
                    "{} {} too many, and being stopped",
                    counted(pods, "pod"),
                    verb(pods, "is", "are")
                );
                reasons.push(Reason::new("ScaleDown", message));
            }
            Plan::Idle | Plan::Finish => {}
        }
        let missing = wanted_active(job).saturating_sub(status.active);
        if missing > 0
            && status.terminating > 0
            && !spec.replace_terminating
            && status.backoff_until.is_none()
        {
            let message = format!(
                "{} {} for {stopping} to end first (podReplacementPolicy Failed)",
                counted(missing.min(status.terminating), "replacement"),
                verb(missing.min(status.terminating), "waits", "wait")
            );
            reasons.push(until_stopped(Reason::new("WaitingForOldPods", message)));
        } else if doing.stopping.count > 0 {
            let message = format!("{stopping} {} being stopped", verb(doing.stopping.count, "is", "are"));
            reasons.push(until_stopped(Reason::new("Stopping", message)));
        }
        if let Some(completions) = spec.completions {
            let left = completions.saturating_sub(status.succeeded);
            if status.active > 0 && left > status.active && status.active >= spec.parallelism {
                let message = format!(
                    "{} of {completions} completions are left, and parallelism allows {} at a time",
                    left,
                    counted(spec.parallelism, "pod")
                );
                reasons.push(Reason::new("ParallelismReached", message));
            }
        }
    }

    fn say_what_the_pods_do(&self, doing: &Doing, reasons: &mut Vec<Reason>) {
        let time = self.meta.time;
        let at = reasons.iter().position(|one| one.word == "ParallelismReached").unwrap_or(reasons.len());
        let mut said = Vec::new();
        if let Some(pod) = &doing.first_unbound {
            let why = match pod.unschedulable_message.as_str() {
                "" => String::new(),
                message => format!(": {message}"),
            };
            let count = doing.unbound.count;
            let message =
                format!("{} {} for a node{why}", counted(count, "pod"), verb(count, "waits", "wait"));
            said.push(Reason::new("WaitingForNode", message).about(&doing.unbound));
        }
        for (reason, (pods, message)) in &doing.waiting {
            let word = if is_image_reason(reason) { "WaitingForImage" } else { "WaitingForContainer" };
            let text = match message.as_str() {
                "" => reason.clone(),
                message => format!("{reason}: {message}"),
            };
            let text = format!(
                "{} {} to start ({text})",
                counted(pods.count, "pod"),
                verb(pods.count, "waits", "wait")
            );
            said.push(Reason::new(word, text).about(pods));
        }
        if let Some(at) = doing.restarts_at {
            let count = doing.restarting.count;
            let message = format!(
                "{} {} to be started again after a failure, the next in {}",
                counted(count, "pod"),
                verb(count, "waits", "wait"),
                span(time, at)
            );
            said.push(Reason::new("RestartBackOff", message).until(at).about(&doing.restarting));
        }
        if doing.starting.count > 0 {
            let count = doing.starting.count;
            let message = format!(
                "{} {} being started on {}",
                counted(count, "pod"),
                verb(count, "is", "are"),
                verb(count, "its node", "their nodes")
            );
            said.push(Reason::new("Starting", message).about(&doing.starting));
        }
        if doing.running.count > 0 {
            let count = doing.running.count;
            let message = format!("{} {}", counted(count, "pod"), verb(count, "runs", "run"));
            said.push(Reason::new("Running", message).about(&doing.running));
        }
        if doing.not_looked_at > 0 {
            let message = format!("{} more unfinished pods were not looked at", doing.not_looked_at);
            said.push(Reason::new("NotAllPods", message));
        }
        reasons.splice(at..at, said);
    }

    /// What ends the Job if it goes on like this.
    fn say_what_ends_it(&self, job: &ActiveJob, reasons: &mut Vec<Reason>) {
        let (record, time) = (&job.record, self.meta.time);
        if job.target().is_some() || record.status.deleting {
            return;
        }
        if let Some(due) = deadline(record) {
            let message = format!(
                "unless it is done in {}, its activeDeadlineSeconds are over and it fails",
                span(time, due)
            );
            reasons.push(Reason::new("Deadline", message).until(due));
        }
        let (failed, limit) = (record.status.failed, record.spec.backoff_limit);
        if failed > 0 {
            let left = limit.saturating_sub(failed);
            let message = match left {
                0 => format!(
                    "{} so far: the next one fails it (backoffLimit {limit})",
                    counted(failed, "failure")
                ),
                left => format!(
                    "{} so far: it fails at the {} (backoffLimit {limit})",
                    counted(failed, "failure"),
                    ordinal(u64::from(failed) + u64::from(left) + 1)
                ),
            };
            reasons.push(Reason::new("Failures", message));
        }
    }
}

/// What is to be said of a Job that has finished, by its row.
pub fn explain_finished(job: &JobRecord, time: Timestamp) -> Explanation {
    let name = &job.metadata.name;
    let end = job
        .status
        .conditions
        .iter()
        .find(|one| matches!(one.condition_type, JobConditionType::Complete | JobConditionType::Failed));
    let mut reasons = Vec::new();
    let mut summary = format!("job {name} is not finished");
    if let Some(end) = end {
        let (word, what) = match end.condition_type {
            JobConditionType::Failed => ("Failed", "has failed"),
            _ => ("Complete", "is complete"),
        };
        let ago = span(end.last_transition_time, time);
        summary = format!("job {name} {what}, since {ago}: {}", end.message);
        reasons.push(Reason::new(word, format!("{}: {}", end.reason, end.message)));
    }
    if job.status.deleting {
        reasons.push(Reason::new(
            "Deleting",
            "it is being deleted, and stays until its pods are gone".to_owned(),
        ));
    }
    if let Some(due) = ttl_due(job) {
        let message = format!("it is deleted in {}, by its ttlSecondsAfterFinished", span(time, due));
        reasons.push(Reason::new("TimeToLive", message).until(due));
    }
    Explanation { state: "Finished", summary, reasons, placement: None }
}

/// When the first container that waits for its back-off may start again.
pub(super) fn next_restart(pod: &PodRecord, time: Timestamp) -> Option<Timestamp> {
    let due =
        pod.containers.iter().filter(|container| container.is_outstanding()).filter_map(|one| one.restart_at);
    due.filter(|at| *at > time).min()
}

/// What the first container that does not start waits for, as its agent says.
pub(super) fn waits_for(pod: &PodRecord) -> Option<(&str, &str)> {
    pod.containers.iter().find_map(|container| match &container.state {
        ContainerRunState::Waiting { reason, message } if !reason.is_empty() => {
            Some((reason.as_str(), message.as_str()))
        }
        _ => None,
    })
}

pub(super) fn is_image_reason(reason: &str) -> bool {
    reason.contains("Image") || reason.contains("Pull")
}

fn ordinal(number: u64) -> String {
    let end = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}
