//! A whole history: what was written down, together with what a Job's row and its Pods' rows tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{JobConditionType, PodPhase, Timestamp};

use super::Decision;
use super::words::{how_it_ended, is_of_drain};
use crate::events::cut;
use crate::limits::DECISION_MESSAGE_BYTES_MAX;
use crate::record::{DecisionRecord, JobRecord, PodRecord, StopReason, TemplateRecord};
use crate::restore::RESTORED;
use crate::state::finish_time;

/// Everything that was decided about a Job, the oldest first: what was written down, and what its row and its Pods' rows tell.
/// `pods` may be fewer than there are.
pub fn of_job(
    job: &JobRecord,
    template: &TemplateRecord,
    written: &[DecisionRecord],
    pods: &[Arc<PodRecord>],
) -> Vec<Decision> {
    let nodes: BTreeMap<&str, &str> =
        pods.iter().filter_map(|pod| Some((&*pod.name, pod.node.as_ref()?.as_str()))).collect();
    let mut told: Vec<Decision> = written
        .iter()
        .map(|one| Decision {
            at: one.at,
            reason: one.reason.clone(),
            message: one.message.clone(),
            by: by_whom(one, nodes.get(one.pod.as_str()).copied()),
            pod: one.pod.clone(),
            count: one.count,
        })
        .collect();
    let resumed: BTreeSet<Timestamp> =
        written.iter().filter(|one| one.reason == "Resumed").map(|one| one.at).collect();
    told_by_job(&mut told, job, &resumed);
    let failures = || {
        written.iter().filter(|one| matches!(one.reason.as_str(), "PodFailed" | "PodLost" | "PodRestored"))
    };
    let names_told: BTreeSet<&str> = failures().map(|one| one.pod.as_str()).collect();
    // Several of one moment, of which the last stands for those that follow.
    let moments_told: BTreeSet<Timestamp> =
        failures().filter(|one| one.count > 1).map(|one| one.at).collect();
    let is_told = |pod: &PodRecord| {
        names_told.contains(pod.name.as_str()) || pod.finished_at.is_some_and(|at| moments_told.contains(&at))
    };
    let spec = &template.template.spec;
    let names: Vec<&str> =
        spec.init_containers.iter().chain(&spec.containers).map(|one| one.name.as_str()).collect();
    for pod in pods {
        told_by_pod(&mut told, pod, &names, is_told(pod));
    }
    told.sort_by_key(|one| (one.at, rank(&one.reason)));
    told
}

/// Who decides over Jobs.
const CONTROLLER: &str = "controller";
/// Who decides where Pods go.
const SCHEDULER: &str = "scheduler";
/// Who asked for it. The log knows no more of clients: they share one token.
const CLIENT: &str = "client";

fn agent(node: Option<&str>) -> String {
    node.map_or_else(|| "agent".to_owned(), |node| format!("agent of {node}"))
}

/// Who is behind a decision that was written down; `node` is that of its Pod, if both are known.
fn by_whom(written: &DecisionRecord, node: Option<&str>) -> String {
    let by = match written.reason.as_str() {
        "Updated" | "Suspended" | "Resumed" => CLIENT,
        "PodDeleted" if is_of_drain(&written.message) => "operator (drain)",
        "PodDeleted" => CLIENT,
        // What agents report of their Pods.
        "PodFailed" | "ContainerRestarts" => return agent(node),
        // Its node's lease has run out, another agent has registered the node, or the cluster was restored.
        "PodLost" | "PodRestored" | "PodUnbound" => "servers",
        _ => CONTROLLER,
    };
    by.to_owned()
}

/// The order of what happens in one moment: a Pod's end first, then what the Job makes of it, then new Pods.
fn rank(reason: &str) -> u8 {
    match reason {
        "Created" => 0,
        "Updated" => 1,
        "Suspended" | "Resumed" => 2,
        // Before the end of the same Pod, which may be told of in the same report.
        "Started" | "PodStarted" => 3,
        "FailureTarget" | "SuccessCriteriaMet" => 5,
        "PodsStopped" => 6,
        "Complete" | "Failed" => 7,
        "DeletionBegan" => 8,
        "PodCreated" => 9,
        "PodBound" => 10,
        _ => 4,
    }
}

fn told_by_job(told: &mut Vec<Decision>, job: &JobRecord, resumed: &BTreeSet<Timestamp>) {
    let mut add = |at: Timestamp, reason: &str, by: &str, message: String| {
        let (reason, by) = (reason.to_owned(), by.to_owned());
        told.push(Decision { at, reason, message, by, pod: String::new(), count: 1 });
    };
    let created = job.metadata.creation_timestamp;
    if let Some(at) = created {
        let request = match job.request_id.as_str() {
            "" => String::new(),
            id => format!(" as request {id}"),
        };
        let (spec, count) =
            (&job.spec, |count: Option<u32>| count.map_or("any".to_owned(), |count| count.to_string()));
        let shape = format!(
            "submitted{request}: parallelism {}, completions {}, backoffLimit {}",
            spec.parallelism,
            count(spec.completions),
            spec.backoff_limit
        );
        add(
            at,
            "Created",
            CLIENT,
            if job.metadata.generation > 1 { format!("{shape}, as it is now") } else { shape },
        );
    }
    let status = &job.status;
    // A job that was resumed has it told already.
    if let Some(at) = status.start_time.filter(|at| Some(*at) != created && !resumed.contains(at)) {
        let message = "pods may be created from here on, and activeDeadlineSeconds counts".to_owned();
        add(at, "Started", CONTROLLER, message);
    }
    for condition in &status.conditions {
        if condition.condition_type != JobConditionType::Suspended {
            let message = format!("{}: {}", condition.reason, condition.message);
            add(condition.last_transition_time, condition.condition_type.as_str(), CONTROLLER, message);
        }
    }
    if let Some(at) = job.metadata.deletion_timestamp {
        let ttl = job.spec.ttl_seconds_after_finished;
        let expired = ttl
            .zip(finish_time(job))
            .filter(|(ttl, finished)| at >= finished.plus_ms(i64::from(*ttl) * 1000));
        let (by, message) = match expired {
            Some((ttl, _)) => {
                (CONTROLLER, format!("its ttlSecondsAfterFinished, {ttl} s, is over: it goes with its pods"))
            }
            None => (CLIENT, "it was deleted, and stays until its pods are gone".to_owned()),
        };
        add(at, "DeletionBegan", by, message);
    }
}

fn told_by_pod(told: &mut Vec<Decision>, pod: &PodRecord, names: &[&str], is_failure_told: bool) {
    let mut add = |at: Timestamp, reason: &str, by: &str, message: String| {
        let (message, by) = (cut(message, DECISION_MESSAGE_BYTES_MAX), by.to_owned());
        told.push(Decision { at, reason: reason.to_owned(), message, by, pod: pod.name.clone(), count: 1 });
    };
    let agent = agent(pod.node.as_ref().map(|node| node.as_str()));
    let mut created = match pod.index {
        Some(index) => format!("for index {index}"),
        None => "as one is missing".to_owned(),
    };
    if let Some(node) = &pod.avoid_node {
        created.push_str(&format!("; it avoids node {node}, if another fits"));
    }
    add(pod.created_at, "PodCreated", CONTROLLER, created);
    if let (Some(at), Some(node)) = (pod.bound_at, &pod.node) {
        let runtime = match pod.runtime.as_str() {
            "" => String::new(),
            runtime => format!(", runtime {runtime}"),
        };
        add(at, "PodBound", SCHEDULER, format!("to node {node}{runtime}"));
    }
    if let Some(at) = pod.started_at {
        let node = pod.node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        add(at, "PodStarted", &agent, format!("its containers run{node}"));
    }
    let Some(at) = pod.finished_at else { return };
    match pod.phase {
        PodPhase::Succeeded if pod.stop_reason.is_none() => {
            add(at, "PodSucceeded", &agent, "counted as a success".to_owned());
        }
        _ if is_failure_told => {}
        _ => {
            let counts = match pod.stop_reason {
                _ if pod.reason == RESTORED => "not counted",
                None | Some(StopReason::Deleted | StopReason::JobFailed) => "counted as a failure",
                Some(_) => "not counted",
            };
            let by = if pod.started_at.is_some() { &agent } else { CONTROLLER };
            add(at, "PodEnded", by, format!("{}; {counts}", how_it_ended(pod, names)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::new_pod;
    use crate::history::words;
    use crate::node_lifecycle::EVICTION;
    use stint_api::{JobUid, NodeName, PodUid};

    #[test]
    fn who_is_behind_a_decision_is_said_in_words() {
        let mut pod = new_pod(PodUid(1), JobUid(1));
        pod.node = Some(NodeName::new("w1"));
        let drained = words::deleted(&pod, EVICTION, false);
        let deleted = words::deleted(&pod, "", true);
        for (reason, message, node, expected) in [
            ("Updated", "parallelism: 1 → 2", None, "client"),
            ("Suspended", "", None, "client"),
            ("PodDeleted", drained.as_str(), Some("w1"), "operator (drain)"),
            ("PodDeleted", deleted.as_str(), Some("w1"), "client"),
            ("PodFailed", "container main ended with 1", Some("w1"), "agent of w1"),
            // Its Pod is gone, and with it what is known of its node.
            ("ContainerRestarts", "", None, "agent"),
            ("PodLost", "", Some("w1"), "servers"),
            ("PodsStopped", "", None, "controller"),
        ] {
            let record = DecisionRecord {
                at: Timestamp(0),
                reason: reason.to_owned(),
                message: message.to_owned(),
                pod: String::new(),
                count: 1,
            };
            assert_eq!(by_whom(&record, node), expected, "{reason} {message}");
        }
    }
}
