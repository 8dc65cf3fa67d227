//! A Pod: where it is, what it waits for, how it ended.

use stint_api::{PodPhase, PodUid, Timestamp};

use super::job::{is_image_reason, next_restart, waits_for};
use super::{Explanation, Reason, span};
use crate::record::{PodRecord, StopReason};
use crate::state::State;

impl State {
    /// Why an unfinished Pod does not run, or since when it runs. None: there is none of this uid.
    pub fn explain_pod(&self, uid: PodUid) -> Option<Explanation> {
        let pod = &self.pods.get(&uid)?.record;
        let time = self.meta.time;
        let node = pod.node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        let mut reasons = Vec::new();
        let mut state = "Waiting";
        let mut placement = None;
        if let Some(stop) = pod.stop_reason {
            state = "Ending";
            let grace = pod.deletion_at.map(|at| match at > time {
                true => format!(", with {} left until it is killed", span(time, at)),
                false => ", and its grace is over".to_owned(),
            });
            let message =
                format!("it is being stopped{node}, as {}{}", why_stopped(stop), grace.unwrap_or_default());
            let reason = Reason::new("Stopping", message);
            reasons.push(match pod.deletion_at {
                Some(at) => reason.until(at),
                None => reason,
            });
        } else if pod.node.is_none() {
            let why = match pod.unschedulable_message.as_str() {
                "" => "others that are alike wait before it, and for the same".to_owned(),
                message => message.to_owned(),
            };
            reasons.push(Reason::new("WaitingForNode", format!("it waits for a node: {why}")));
            placement = self.placement(pod);
        } else if let Some(at) = next_restart(pod, time) {
            let message =
                format!("its container is started again in {}{node}, after a failure", span(time, at));
            reasons.push(Reason::new("RestartBackOff", message).until(at));
        } else if let Some((reason, message)) = waits_for(pod) {
            let word = if is_image_reason(reason) { "WaitingForImage" } else { "WaitingForContainer" };
            let text = if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") };
            reasons.push(Reason::new(word, format!("it waits to start{node} ({text})")));
        } else if pod.phase == PodPhase::Running {
            state = "Running";
            let since = pod.started_at.map(|at| format!(" since {}", span(at, time))).unwrap_or_default();
            reasons.push(Reason::new("Running", format!("it runs{node}{since}")));
            if let Some(until) = pod.sidecars_until {
                let message = "it has done its work, and its sidecars are being stopped".to_owned();
                reasons.push(Reason::new("StoppingSidecars", message).until(until));
            } else if !pod.ready {
                reasons.push(Reason::new("NotReady", "not all its containers are ready".to_owned()));
            }
        } else {
            let since = pod.bound_at.map(|at| format!(", for {}", span(at, time))).unwrap_or_default();
            reasons.push(Reason::new("Starting", format!("it is being started{node}{since}")));
        }
        let what = reasons.first().map(|one| one.message.clone()).unwrap_or_default();
        let runs = if state == "Running" { "runs" } else { "does not run" };
        let summary = format!("pod {} {runs}: {what}", pod.name);
        Some(Explanation { state, summary, reasons, placement })
    }
}

/// What is to be said of a Pod that has ended, by its row.
pub fn explain_ended(pod: &PodRecord, time: Timestamp) -> Explanation {
    let (word, what) = match pod.phase {
        PodPhase::Succeeded => ("Succeeded", "has succeeded"),
        _ => ("Failed", "has failed"),
    };
    let since = pod.finished_at.map(|at| format!(", since {}", span(at, time))).unwrap_or_default();
    let failed =
        pod.containers.iter().filter_map(|one| one.termination.as_ref()).find(|end| end.exit_code != 0);
    let message = match (pod.reason.as_str(), failed) {
        ("", None) => "all that it was there for is done".to_owned(),
        ("", Some(end)) => {
            let said = match end.message.trim_end() {
                "" => String::new(),
                message => format!(": {message}"),
            };
            format!("a container ended with exit code {} ({}){said}", end.exit_code, end.reason)
        }
        (reason, _) => format!("{reason}: {}", pod.message),
    };
    let summary = format!("pod {} {what}{since}", pod.name);
    Explanation { state: "Finished", summary, reasons: vec![Reason::new(word, message)], placement: None }
}

fn why_stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::ScaleDown => "its job has more pods than it wants",
        StopReason::Suspend => "its job is suspended",
        StopReason::JobFailed => "its job has failed",
        StopReason::JobSucceeded => "its job has what it wants",
        StopReason::Deleted => "it was deleted",
        StopReason::JobDeleted => "its job was deleted",
    }
}
