//! What agents observe (A10, A12, A14): containers that run, wait, exit, could not start, were killed with the lease.
//!
//! Owns: what a report means to a Pod, restarts in place (P9, P10, J61). Does not own: whose turn it is (module `progress`),
//! how ends are counted (module `pods`).
//!
//! Invariants: a report changes something only if its Pod is bound to the reporting node and, for a run of a container,
//! names the run that is wanted now; so a doubled, late or foreign report changes nothing (R4). A Pod ends only when nothing
//! of it can run any more.

use std::sync::Arc;

use stint_api::{ContainerTermination, JobUid, NodeName, PodUid, Timestamp};

use crate::backoff;
use crate::command::{ContainerRun, PodReport, PodReportKind, ReportPods};
use crate::controller::restarts_exhausted;
use crate::events::{AGENT, JOB_CONTROLLER, Occurrence};
use crate::limits::{REPORTS_PER_COMMAND_MAX, RESTART_BACKOFF_RESET_MS};
use crate::pods::PodEnd;
use crate::progress::{self, Next};
use crate::record::{ContainerRunState, PodRecord, StopReason};
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::state::{PodGroup, State};
use crate::traits::PodTraits;

/// Exit code of a container that could not be started, if its agent names none.
const CANNOT_RUN: i32 = 128;

/// P4, D2: reason of a Pod lost with its node.
pub(crate) const NODE_LOST: &str = "NodeLost";

impl State {
    pub(crate) fn report_pods(&mut self, command: &ReportPods) -> Reply {
        let Some(node) = self.nodes.get(&command.node) else {
            let message = format!("node {} is not registered: register it first", command.node);
            return Reply::Rejected(Rejection::new(RejectionReason::NotFound, message));
        };
        // A11: once its lease has expired, what an incarnation says changes nothing.
        if !node.record.live || node.record.incarnation != command.incarnation {
            let message = format!(
                "incarnation {} of node {} is not the live one: register again",
                command.incarnation, command.node
            );
            return Reply::Rejected(Rejection::new(RejectionReason::StaleIncarnation, message));
        }
        if command.reports.len() > REPORTS_PER_COMMAND_MAX {
            let message = format!(
                "{} reports of node {} in one command, at most {REPORTS_PER_COMMAND_MAX} are allowed: send fewer at a time",
                command.reports.len(),
                command.node
            );
            return Reply::Rejected(Rejection::new(RejectionReason::LimitExceeded, message));
        }
        let accepted = command.reports.iter().map(|report| self.report_pod(&command.node, report)).collect();
        Reply::Reported { accepted }
    }

    /// Takes in one report of a node's live incarnation. False: ignored.
    pub(crate) fn report_pod(&mut self, node: &NodeName, report: &PodReport) -> bool {
        let Some(pod) = self.pods.get(&report.pod) else { return false };
        let pod = Arc::clone(&pod.record);
        if pod.node.as_ref() != Some(node) {
            return false;
        }
        let Some(traits) = self.groups.get(&pod.job).map(|group| Arc::clone(&group.traits)) else {
            return false;
        };
        let found = |run: &ContainerRun| outstanding(&pod, &traits, run);
        match &report.kind {
            PodReportKind::Running { run, started_at, container_id, image_id, pod_addresses } => found(run)
                .is_some_and(|place| {
                    let ids = (container_id.as_str(), image_id.as_str());
                    self.container_runs(&pod, &traits, place, *started_at, ids, pod_addresses)
                }),
            PodReportKind::ContainerExited { run, termination } => found(run)
                .is_some_and(|place| self.container_ended(&pod, &traits, place, termination.clone())),
            PodReportKind::StartFailed { run, termination } => found(run).is_some_and(|place| {
                let mut termination = termination.clone();
                if termination.exit_code == 0 {
                    termination.exit_code = CANNOT_RUN;
                }
                let why = match termination.message.as_str() {
                    "" => &termination.reason,
                    message => message,
                };
                let message = format!("Container {} could not be started: {why}", run.container);
                self.pod_event(pod.uid, Occurrence::warning(AGENT, "Failed", message));
                self.container_ended(&pod, &traits, place, termination)
            }),
            PodReportKind::NotStarted { run: None } => self.pod_not_started(&pod, &traits),
            PodReportKind::NotStarted { run: Some(run) } => {
                found(run).is_some_and(|place| self.container_not_started(&pod, &traits, place))
            }
            PodReportKind::LeaseExpired { run, termination } => {
                let mut record = PodRecord::clone(&pod);
                // P2: one that never began goes on waiting.
                if let (Some(place), Some(termination)) = (found(run), termination) {
                    progress::settle(&mut record, place, Some(termination.clone()));
                }
                self.lose_pod(pod.uid, "lease expired before renewal".to_owned(), Some(record));
                true
            }
            PodReportKind::Waiting { run, reason, message } => {
                found(run).is_some_and(|place| self.container_waits(&pod, place, reason, message))
            }
            PodReportKind::Readiness { run, started, ready } => {
                found(run).is_some_and(|place| self.container_probed(&pod, &traits, place, *started, *ready))
            }
            PodReportKind::Notice { event_type, reason, message, count } => {
                let source = AGENT;
                let (event_type, message, count) = (*event_type, message.clone(), (*count).max(1));
                self.pod_event(pod.uid, Occurrence { event_type, reason, message, source, count });
                true
            }
            PodReportKind::PodFailed { reason, message, ended } => {
                let mut record = PodRecord::clone(&pod);
                for (run, termination) in ended {
                    if let Some(place) = outstanding(&record, &traits, run) {
                        progress::settle(&mut record, place, Some(termination.clone()));
                    }
                }
                self.pod_failed(record, reason, message);
                true
            }
        }
    }

    /// D2, A12: the Pod was lost with its node. `record` is what is known of it at the end, if that is not in memory.
    pub(crate) fn lose_pod(&mut self, uid: PodUid, message: String, record: Option<PodRecord>) {
        let end = PodEnd {
            record,
            succeeded: false,
            reason: NODE_LOST.to_owned(),
            message,
            disruption_reason: NODE_LOST,
            node_lost: true,
        };
        self.end_pod(uid, end);
    }
}

/// Containers that do not end.
impl State {
    fn container_runs(
        &mut self,
        pod: &PodRecord,
        traits: &PodTraits,
        place: usize,
        started_at: Timestamp,
        (container_id, image_id): (&str, &str),
        pod_addresses: &[String],
    ) -> bool {
        let Some(of_container) = traits.containers.get(place) else { return false };
        let time = self.meta.time;
        let started = !of_container.has_startup_probe;
        let mut next = pod.clone();
        let Some(container) = next.containers.get_mut(place) else { return false };
        if container.is_running() {
            return true;
        }
        let ready = started && !of_container.has_readiness_probe;
        container.state = ContainerRunState::Running { since: time, started_at, started, ready };
        container.restart_at = None;
        container.has_started |= started;
        container_id.clone_into(&mut container.container_id);
        image_id.clone_into(&mut container.image_id);
        pod_addresses.clone_into(&mut next.pod_ips);
        self.go_on(next, traits);
        true
    }

    fn container_probed(
        &mut self,
        pod: &PodRecord,
        traits: &PodTraits,
        place: usize,
        started: bool,
        ready: bool,
    ) -> bool {
        let Some(of_container) = traits.containers.get(place) else { return false };
        let mut next = pod.clone();
        let Some(container) = next.containers.get_mut(place) else { return false };
        let ContainerRunState::Running { started: was_started, ready: was_ready, .. } = &mut container.state
        else {
            return false;
        };
        // What has started once stays so as long as this run goes on; without a probe there is nothing to wait for.
        let started = started || *was_started;
        let ready = started && (ready || !of_container.has_readiness_probe);
        if (started, ready) == (*was_started, *was_ready) {
            return true;
        }
        (*was_started, *was_ready) = (started, ready);
        container.has_started |= started;
        self.go_on(next, traits);
        true
    }

    fn container_waits(&mut self, pod: &PodRecord, place: usize, reason: &str, message: &str) -> bool {
        let Some(container) = pod.containers.get(place) else { return false };
        let ContainerRunState::Waiting { reason: known, message: known_message } = &container.state else {
            return false;
        };
        let is_news = known != reason;
        if !is_news && known_message == message {
            return true;
        }
        self.change_pod(pod.uid, |record| {
            if let Some(container) = record.containers.get_mut(place) {
                container.state =
                    ContainerRunState::Waiting { reason: reason.to_owned(), message: message.to_owned() };
            }
        });
        let event = match reason {
            "ImagePullBackOff" => "BackOff",
            // Nothing is wrong.
            "ContainerCreating" | "PodInitializing" | "" => return true,
            _ => "Failed",
        };
        if is_news {
            self.pod_event(pod.uid, Occurrence::warning(AGENT, event, format!("{reason}: {message}")));
        }
        true
    }

    /// Writes a Pod whose containers have changed, lets those begin whose turn has come, and tells the agent.
    fn go_on(&mut self, mut next: PodRecord, traits: &PodTraits) {
        let is_going_on = next.stop_reason.is_none() && !next.restarting_all && next.sidecars_until.is_none();
        let opened = is_going_on && progress::advance(&mut next, traits);
        self.write_progress(next, traits, opened);
    }

    fn write_progress(&mut self, mut next: PodRecord, traits: &PodTraits, tell: bool) {
        progress::refresh(&mut next, traits, self.meta.time);
        let changed = self.change_pod(next.uid, |record| *record = next);
        if let Some(changed) = changed.filter(|_| tell) {
            self.order(&changed);
        }
    }
}

/// Containers that end.
impl State {
    /// A14: the container stays ended, or starts again, or takes the Pod with it, as the core decides.
    fn container_ended(
        &mut self,
        pod: &PodRecord,
        traits: &PodTraits,
        place: usize,
        termination: ContainerTermination,
    ) -> bool {
        let Some(of_container) = traits.containers.get(place) else { return false };
        let after =
            if self.may_restart(pod) { of_container.after(termination.exit_code) } else { Next::Stay };
        let restarts = match after {
            Next::Stay => 0,
            Next::Restart => 1,
            Next::RestartAll => progress::restarts_of_all(pod),
        };
        let (exponent, delay_ms) = self.restart_backoff(pod, place);
        let exit_code = termination.exit_code;
        let mut next = pod.clone();
        progress::settle(&mut next, place, Some(termination));
        if traits.on_failure && self.would_exhaust(pod.job, restarts) {
            self.fail_instead(next, traits);
            return true;
        }
        let restart_at = self.meta.time.plus_ms(delay_ms);
        match after {
            Next::Stay => {}
            Next::Restart => progress::restart(&mut next, place, restart_at),
            Next::RestartAll => next.restarting_all = true,
        }
        if after != Next::Stay
            && let Some(container) = next.containers.get_mut(place)
        {
            container.restart_backoff_exponent = exponent.saturating_add(1);
            // P10: the others wait for it too.
            container.restart_at = Some(restart_at);
        }
        self.settled(next, traits, after == Next::Restart);
        let name = &of_container.name;
        let message = match after {
            Next::Stay => return true,
            Next::Restart => format!("Back-off restarting failed container {name} in pod {}", pod.name),
            Next::RestartAll => {
                format!("Restarting all containers of pod {}, as container {name} has exited", pod.name)
            }
        };
        self.pod_event(pod.uid, Occurrence::warning(JOB_CONTROLLER, "BackOff", message));
        let what = if after == Next::RestartAll { "all containers start" } else { "it starts" };
        self.tell_restart(pod, &format!("container {name} ended with {exit_code}: {what} again"), delay_ms);
        true
    }

    /// A9: a run that was to stop was never begun.
    fn container_not_started(&mut self, pod: &PodRecord, traits: &PodTraits, place: usize) -> bool {
        let was_to_stop = pod.stop_reason.is_some() || pod.restarting_all || pod.sidecars_until.is_some();
        if !was_to_stop || pod.containers.get(place).is_none_or(|container| container.is_running()) {
            return false;
        }
        let mut next = pod.clone();
        progress::settle(&mut next, place, None);
        self.settled(next, traits, false);
        true
    }

    /// A9: nothing of the Pod runs, or is going to.
    fn pod_not_started(&mut self, pod: &PodRecord, traits: &PodTraits) -> bool {
        // Only a stop makes an agent say so; without one the desired set asks for the Pod again.
        if pod.stop_reason.is_none() {
            return false;
        }
        let succeeded = progress::has_succeeded(pod, traits);
        self.end_pod(pod.uid, PodEnd { succeeded, ..PodEnd::default() });
        true
    }

    /// P4: the agent has ended the Pod as a whole. `record` says how its containers ended.
    fn pod_failed(&mut self, record: PodRecord, reason: &str, message: &str) {
        let uid = record.uid;
        if !reason.is_empty() {
            self.pod_event(uid, Occurrence::warning(AGENT, reason, message.to_owned()));
        }
        let (reason, message) = (reason.to_owned(), message.to_owned());
        self.end_pod(uid, PodEnd { record: Some(record), reason, message, ..PodEnd::default() });
    }

    /// A container has ended, for good or to run again: what follows for its Pod.
    fn settled(&mut self, mut next: PodRecord, traits: &PodTraits, is_restarted: bool) {
        let time = self.meta.time;
        let outstanding = progress::is_outstanding(&next);
        let is_stopping = next.stop_reason.is_some();
        if !outstanding && next.restarting_all && !is_stopping {
            let restart_at = next.containers.iter().filter_map(|container| container.restart_at).max();
            progress::restart_all(&mut next, traits, restart_at.unwrap_or(time));
            self.write_progress(next, traits, true);
        } else if is_stopping || next.restarting_all || next.sidecars_until.is_some() {
            if outstanding {
                // The next sidecar has its turn; a Pod that stops as a whole is ended by its agent.
                self.write_progress(next, traits, !is_stopping);
            } else {
                self.end_settled(next, traits);
            }
        } else if progress::main_over(&next, traits).is_some() {
            if outstanding {
                next.sidecars_until =
                    Some(time.plus_ms(i64::from(traits.grace_seconds).saturating_mul(1000)));
                self.write_progress(next, traits, true);
            } else {
                self.end_settled(next, traits);
            }
        } else {
            let opened = progress::advance(&mut next, traits);
            self.write_progress(next, traits, opened || is_restarted);
        }
    }

    fn end_settled(&mut self, mut next: PodRecord, traits: &PodTraits) {
        progress::refresh(&mut next, traits, self.meta.time);
        let succeeded = progress::has_succeeded(&next, traits);
        self.end_pod(next.uid, PodEnd { succeeded, record: Some(next), ..PodEnd::default() });
    }

    /// A Pod that is to stop, or whose Job has come to a decision or is deleted with its Pods (J6), restarts nothing; nor
    /// does one that is over but for its sidecars.
    fn may_restart(&self, pod: &PodRecord) -> bool {
        let is_decided = self.jobs.get(&pod.job).is_some_and(|job| job.target().is_some())
            || self.groups.get(&pod.job).is_some_and(PodGroup::takes_pods_along);
        pod.stop_reason.is_none() && !pod.restarting_all && pod.sidecars_until.is_none() && !is_decided
    }

    /// J61: so many further restarts would be too many for the Job.
    fn would_exhaust(&self, job: JobUid, restarts: u64) -> bool {
        restarts > 0
            && self.jobs.get(&job).is_some_and(|job| {
                let sum = job.restart_sum.saturating_add(restarts);
                restarts_exhausted(sum, job.record.spec.backoff_limit)
            })
    }

    /// J61, D5: instead of a restart that is one too many the Job fails, and the Pod stays as it ended.
    fn fail_instead(&mut self, mut next: PodRecord, traits: &PodTraits) {
        self.fail_for_restarts(next.job);
        next.reason = "BackoffLimitExceeded".to_owned();
        next.message = "the container failed as often as the Job's backoffLimit allows".to_owned();
        if progress::is_outstanding(&next) {
            let uid = next.uid;
            self.write_progress(next, traits, false);
            self.stop_pod(uid, StopReason::JobFailed, None, "");
        } else {
            next.stop_reason = Some(StopReason::JobFailed);
            self.end_settled(next, traits);
        }
    }

    /// P9: how often the delay before the next restart of a container is doubled, and that delay.
    fn restart_backoff(&self, pod: &PodRecord, place: usize) -> (u32, i64) {
        let Some(container) = pod.containers.get(place) else { return (0, 0) };
        let was_healthy = match container.state {
            ContainerRunState::Running { since, .. } => {
                self.meta.time.since_ms(since) >= RESTART_BACKOFF_RESET_MS
            }
            _ => false,
        };
        let exponent = if was_healthy { 0 } else { container.restart_backoff_exponent };
        let spec = self.jobs.get(&pod.job).map(|job| &job.record.spec);
        (exponent, backoff::restart_delay_ms(spec, exponent))
    }
}

/// Where the container stands of which the report speaks, if that run may go on.
fn outstanding(pod: &PodRecord, traits: &PodTraits, run: &ContainerRun) -> Option<usize> {
    let place = traits.position(&run.container)?;
    let container = pod.containers.get(place)?;
    (container.is_outstanding() && container.restart_count == run.restart_count).then_some(place)
}
