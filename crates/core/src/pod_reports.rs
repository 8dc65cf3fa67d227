//! What agents observe (A10, A12, A14): containers that run, exit, could not start, were killed with the lease.
//!
//! Owns: what a report means to a Pod, restarts in place (P9, J61). Does not own: how ends are counted (module `pods`).
//!
//! Invariants: a report changes something only if its Pod is bound to the reporting node and, for a run of a container,
//! names the run that is wanted now; so a doubled, late or foreign report changes nothing (R4).

use std::sync::Arc;

use stint_api::{ContainerTermination, NodeName, PodPhase, PodUid, Timestamp};

use crate::backoff;
use crate::command::{PodReport, PodReportKind, ReportPods};
use crate::controller::restarts_exhausted;
use crate::events::{JOB_CONTROLLER, Occurrence};
use crate::limits::{REPORTS_PER_COMMAND_MAX, RESTART_BACKOFF_RESET_MS};
use crate::pods::PodEnd;
use crate::record::{PodRecord, StopReason};
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::state::State;

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
        match &report.kind {
            PodReportKind::Running { restart_count, started_at } => {
                *restart_count == pod.restart_count && self.container_runs(&pod, *started_at)
            }
            PodReportKind::ContainerExited { restart_count, termination } => {
                let succeeded = termination.exit_code == 0;
                *restart_count == pod.restart_count && self.container_ended(&pod, termination, succeeded)
            }
            PodReportKind::StartFailed { restart_count, termination } => {
                *restart_count == pod.restart_count && self.container_ended(&pod, termination, false)
            }
            PodReportKind::NotStarted => {
                // Only a stop makes an agent say so; without one the desired set asks for the Pod again.
                if pod.stop_reason.is_none() {
                    return false;
                }
                self.end_pod(pod.uid, PodEnd::default());
                true
            }
            PodReportKind::LeaseExpired { termination } => {
                let message = "lease expired before renewal".to_owned();
                self.lose_pod(pod.uid, message, Some(termination.clone()));
                true
            }
        }
    }

    /// D2, A12: the Pod was lost with its node.
    pub(crate) fn lose_pod(
        &mut self,
        uid: PodUid,
        message: String,
        termination: Option<ContainerTermination>,
    ) {
        let end = PodEnd {
            succeeded: false,
            termination,
            reason: NODE_LOST,
            message,
            disruption_reason: NODE_LOST,
            node_lost: true,
        };
        self.end_pod(uid, end);
    }

    fn container_runs(&mut self, pod: &PodRecord, started_at: Timestamp) -> bool {
        if pod.container_running {
            return true;
        }
        let time = self.meta.time;
        self.change_pod(pod.uid, |record| {
            record.phase = PodPhase::Running;
            record.started_at.get_or_insert(time);
            record.container_running = true;
            record.container_running_at = Some(time);
            record.container_started_at = Some(started_at);
            record.restart_at = None;
        });
        true
    }

    /// A14: the container ends the Pod or starts again, as the core decides.
    fn container_ended(
        &mut self,
        pod: &PodRecord,
        termination: &ContainerTermination,
        succeeded: bool,
    ) -> bool {
        let on_failure = self.groups.get(&pod.job).is_some_and(|group| group.traits.on_failure);
        let mut end = PodEnd { succeeded, termination: Some(termination.clone()), ..PodEnd::default() };
        if succeeded || !on_failure || pod.stop_reason.is_some() {
            self.end_pod(pod.uid, end);
            return true;
        }
        if let Some(job) = self.jobs.get(&pod.job) {
            if job.target().is_some() {
                self.end_pod(pod.uid, end);
                return true;
            }
            // J61, D5: this restart would be one too many: the Job fails, the Pod stays as it ended.
            let restarts = job.restart_sum.saturating_add(1);
            if restarts_exhausted(restarts, job.record.spec.backoff_limit) {
                self.fail_for_restarts(pod.job);
                end.reason = "BackoffLimitExceeded";
                end.message = "the container failed as often as the Job's backoffLimit allows".to_owned();
                self.change_stop_reason(pod.uid, StopReason::JobFailed);
                self.end_pod(pod.uid, end);
                return true;
            }
        }
        self.restart_container(pod, termination);
        true
    }

    fn change_stop_reason(&mut self, uid: PodUid, reason: StopReason) {
        self.change_pod(uid, |record| record.stop_reason = Some(reason));
    }

    /// P9: the same Pod on the same node, after a back-off.
    fn restart_container(&mut self, pod: &PodRecord, termination: &ContainerTermination) {
        let time = self.meta.time;
        let was_healthy =
            pod.container_running_at.is_some_and(|since| time.since_ms(since) >= RESTART_BACKOFF_RESET_MS);
        let exponent = if was_healthy { 0 } else { pod.restart_backoff_exponent };
        let spec = self.jobs.get(&pod.job).map(|job| &job.record.spec);
        let delay_ms = backoff::restart_delay_ms(spec, exponent);
        let restarted = self.change_pod(pod.uid, |record| {
            record.phase = PodPhase::Running;
            record.started_at.get_or_insert(time);
            record.container_running = false;
            record.container_running_at = None;
            record.termination = Some(termination.clone());
            record.restart_count = record.restart_count.saturating_add(1);
            record.restart_backoff_exponent = exponent.saturating_add(1);
            record.restart_at = Some(time.plus_ms(delay_ms));
        });
        if let Some(restarted) = restarted {
            self.order(&restarted);
        }
        let message = format!("Back-off restarting failed container in pod {}", pod.name);
        self.pod_event(pod.uid, Occurrence::warning(JOB_CONTROLLER, "BackOff", message));
    }
}
