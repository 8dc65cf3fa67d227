//! What is said of decisions.

use stint_api::{Job, duration};

use crate::node_lifecycle::EVICTION;
use crate::record::{JobRecord, JobSpecRecord, PodRecord, StopReason};

/// Behind the name of a node that is drained.
const OF_DRAIN: &str = " is drained";

/// How an ended Pod ended. `names` are those of its containers.
pub(super) fn how_it_ended(pod: &PodRecord, names: &[&str]) -> String {
    if !pod.reason.is_empty() {
        return match pod.message.as_str() {
            "" => pod.reason.clone(),
            message => format!("{}: {message}", pod.reason),
        };
    }
    let ends =
        pod.containers.iter().enumerate().filter_map(|(place, one)| Some((place, one.termination.as_ref()?)));
    match ends.into_iter().find(|(_, end)| end.exit_code != 0) {
        Some((place, end)) => {
            let name = names.get(place).copied().unwrap_or("?");
            let reason = match end.reason.as_str() {
                "" | "Error" => String::new(),
                reason => format!(" ({reason})"),
            };
            format!("container {name} ended with {}{reason}", end.exit_code)
        }
        None if pod.node.is_none() => "it had no node yet".to_owned(),
        None => "it was stopped".to_owned(),
    }
}

/// What was changed about a Job. `spec` is the new one, `new` the whole.
pub(crate) fn changes(old: &JobRecord, spec: &JobSpecRecord, new: &Job, template_changed: bool) -> String {
    let mut changes = Vec::new();
    let mut differ = |name: &str, before: String, after: String| {
        if before != after {
            changes.push(format!("{name}: {before} → {after}"));
        }
    };
    let number = |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
    let was = &old.spec;
    differ("parallelism", was.parallelism.to_string(), spec.parallelism.to_string());
    differ("completions", number(was.completions.map(u64::from)), number(spec.completions.map(u64::from)));
    differ("backoffLimit", was.backoff_limit.to_string(), spec.backoff_limit.to_string());
    differ("suspend", was.suspend.to_string(), spec.suspend.to_string());
    differ(
        "activeDeadlineSeconds",
        number(was.active_deadline_seconds),
        number(spec.active_deadline_seconds),
    );
    differ(
        "ttlSecondsAfterFinished",
        number(was.ttl_seconds_after_finished.map(u64::from)),
        number(spec.ttl_seconds_after_finished.map(u64::from)),
    );
    let policy =
        |replace_terminating| if replace_terminating { "TerminatingOrFailed" } else { "Failed" }.to_owned();
    differ("podReplacementPolicy", policy(was.replace_terminating), policy(spec.replace_terminating));
    let delays = |spec: &JobSpecRecord| format!("{} ms to {} ms", spec.backoff_base_ms, spec.backoff_cap_ms);
    differ("back-off", delays(was), delays(spec));
    let others = [
        (template_changed, "template"),
        (old.metadata.labels != new.metadata.labels, "labels"),
        (old.metadata.annotations != new.metadata.annotations, "annotations"),
        (old.metadata.owner_references != new.metadata.owner_references, "ownerReferences"),
    ];
    changes.extend(
        others.into_iter().filter(|(changed, _)| *changed).map(|(_, name)| format!("{name} changed")),
    );
    changes.join(", ")
}

pub(crate) fn suspension(suspend: bool, job: &JobRecord) -> String {
    match suspend {
        true => format!("no pod is created, and those that are active are stopped: {}", job.status.active),
        false => "pods are created again, and activeDeadlineSeconds counts from here on".to_owned(),
    }
}

pub(crate) fn stopped(reason: StopReason, pods: usize) -> String {
    let (why, counts) = match reason {
        StopReason::ScaleDown => ("more are active than are wanted", "does not count"),
        StopReason::Suspend => ("the job is suspended", "does not count"),
        StopReason::JobFailed => ("the job has failed", "counts as a failure"),
        StopReason::JobSucceeded => ("the job has what it wants", "does not count"),
        StopReason::Deleted => ("they were deleted", "counts"),
        StopReason::JobDeleted => ("the job was deleted", "does not count"),
    };
    let of_pods = if pods == 1 { "its end" } else { "their end" };
    let n_pods = if pods == 1 { "1 pod is".to_owned() } else { format!("{pods} pods are") };
    format!("{n_pods} stopped, as {why}: {of_pods} {counts}")
}

/// Of a Pod that somebody, or a drain, deletes.
pub(crate) fn deleted(pod: &PodRecord, disruption: &str, is_counted_now: bool) -> String {
    let by = match &pod.node {
        Some(node) if disruption == EVICTION => format!("node {node}{OF_DRAIN}"),
        _ => "somebody deleted it".to_owned(),
    };
    let counts = if is_counted_now { "counts as a failure at once" } else { "counts by how it ends" };
    format!("{by}: it is stopped, and {counts}")
}

/// True of what [`deleted`] says where a drain stops the Pod.
pub(super) fn is_of_drain(message: &str) -> bool {
    message.starts_with("node ") && message.contains(OF_DRAIN)
}

pub(super) fn delay(delay_ms: i64) -> String {
    duration::format_ms(u64::try_from(delay_ms).unwrap_or(0))
}
