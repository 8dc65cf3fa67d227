//! Words and numbers that tables show of objects, as Kubernetes' users know them.
//!
//! Owns: what a cell says. Does not own: columns, printing.

use crate::ids::Timestamp;
use crate::job::{Job, JobConditionType};
use crate::meta::ConditionStatus;
use crate::node::{AGENT_STOPPED, DISK_PRESSURE, MEMORY_PRESSURE, Node};
use crate::pod::{ContainerState, Pod, PodPhase, RestartPolicy};

/// `Complete`, `Failed`, `Terminating`, `Suspended`, `FailureTarget`, `SuccessCriteriaMet` or `Running`.
pub fn job_status(job: &Job) -> &'static str {
    let holds = |wanted: JobConditionType| {
        job.status
            .conditions
            .iter()
            .any(|condition| condition.condition_type == wanted && condition.status == ConditionStatus::True)
    };
    if holds(JobConditionType::Complete) {
        "Complete"
    } else if holds(JobConditionType::Failed) {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if holds(JobConditionType::Suspended) {
        "Suspended"
    } else if holds(JobConditionType::FailureTarget) {
        "FailureTarget"
    } else if holds(JobConditionType::SuccessCriteriaMet) {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

/// `3/10`; for a work queue `0/1 of 4`.
pub fn job_completions(job: &Job) -> String {
    let succeeded = job.status.succeeded;
    match (job.spec.completions, job.spec.parallelism.unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

/// How long the Job ran or has been running; empty before its start.
pub fn job_duration(job: &Job, now: Timestamp) -> String {
    let failed = job.status.conditions.iter().find(|condition| {
        condition.condition_type == JobConditionType::Failed && condition.status == ConditionStatus::True
    });
    let end =
        job.status.completion_time.or(failed.map(|condition| condition.last_transition_time)).unwrap_or(now);
    job.status.start_time.map(|start| human_duration_ms(end.since_ms(start))).unwrap_or_default()
}

/// Containers that are ready, of all: `1/1`.
pub fn pod_ready(pod: &Pod) -> String {
    let ready = pod.status.container_statuses.iter().filter(|status| status.ready).count();
    format!("{ready}/{}", pod.spec.containers.len())
}

/// One word for a Pod: `Completed`, `Error`, `NodeLost`, `Terminating`, `CrashLoopBackOff`, `Running`, `Pending`, …
pub fn pod_status(pod: &Pod) -> String {
    let state = pod.status.container_statuses.first().map(|status| &status.state);
    let is_terminal = pod.status.phase.is_terminal();
    if pod.metadata.deletion_timestamp.is_some() && !is_terminal {
        return "Terminating".to_owned();
    }
    if !pod.status.reason.is_empty() {
        return pod.status.reason.clone();
    }
    // A Pod that ended before its containers began ended by one of those before them.
    let has_begun = !matches!(state, None | Some(ContainerState::Waiting { .. }));
    if let Some(word) = init_status(pod).filter(|_| !is_terminal || !has_begun) {
        return word;
    }
    match (pod.status.phase, state) {
        (PodPhase::Succeeded, _) => "Completed".to_owned(),
        (_, Some(ContainerState::Waiting { reason, .. }))
            if !reason.is_empty() && pod.node_name.is_some() =>
        {
            reason.clone()
        }
        (_, Some(ContainerState::Terminated(end))) if !end.reason.is_empty() => end.reason.clone(),
        (PodPhase::Failed, _) => "Error".to_owned(),
        (phase, _) => phase.as_str().to_owned(),
    }
}

/// `Init:1/2`, `Init:Error`, `Init:ImagePullBackOff`, … while the containers before the others have not done their work.
fn init_status(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.init_containers;
    for (done, status) in pod.status.init_container_statuses.iter().enumerate() {
        let stays = containers.get(done).is_some_and(|one| one.restart_policy == Some(RestartPolicy::Always));
        return Some(match &status.state {
            ContainerState::Terminated(end) if end.exit_code == 0 => continue,
            ContainerState::Running { .. } if stays && status.started == Some(true) => continue,
            ContainerState::Terminated(end) if end.reason.is_empty() => {
                format!("Init:ExitCode:{}", end.exit_code)
            }
            ContainerState::Terminated(end) => format!("Init:{}", end.reason),
            ContainerState::Waiting { reason, .. } if !reason.is_empty() && reason != "PodInitializing" => {
                format!("Init:{reason}")
            }
            ContainerState::Waiting { .. } | ContainerState::Running { .. } => {
                format!("Init:{done}/{}", containers.len())
            }
        });
    }
    None
}

/// Restarts in place of all containers.
pub fn pod_restarts(pod: &Pod) -> u32 {
    pod.status.container_statuses.iter().map(|status| status.restart_count).sum()
}

/// `Ready` or `NotReady`, with `,SchedulingDisabled` if cordoned, and with what keeps Pods away, such as `,DiskPressure`.
pub fn node_status(node: &Node) -> String {
    let holds = |wanted: &str| {
        let mut conditions = node.conditions.iter();
        conditions.any(|one| one.condition_type == wanted && one.status == ConditionStatus::True)
    };
    let mut status = if holds("Ready") { "Ready" } else { "NotReady" }.to_owned();
    if node.unschedulable {
        status.push_str(",SchedulingDisabled");
    }
    for pressure in
        [DISK_PRESSURE, MEMORY_PRESSURE, AGENT_STOPPED].into_iter().filter(|pressure| holds(pressure))
    {
        status.push(',');
        status.push_str(pressure);
    }
    status
}

/// How long ago something was; `<unknown>` if it never was.
pub fn age(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |time| human_duration_ms(now.since_ms(time)))
}

/// A duration as `kubectl` shows it: two units where the larger one is small, else one.
pub fn human_duration_ms(milliseconds: i64) -> String {
    let seconds = milliseconds.div_euclid(1000);
    if seconds < 0 {
        return "0s".to_owned();
    }
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Container;
    use crate::job::JobCondition;
    use crate::meta::ObjectMeta;
    use crate::pod::{ContainerStatus, ContainerTermination, PodSpec, PodStatus};

    #[test]
    fn durations_as_kubectl_shows_them() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (184, "3m4s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (2 * 86_400 + 3 * 3600, "2d3h"),
            (30 * 86_400, "30d"),
            (3 * 365 * 86_400, "3y"),
        ] {
            assert_eq!(human_duration_ms(seconds * 1000), text);
        }
    }

    #[test]
    fn one_word_for_a_job() {
        let condition = |condition_type| JobCondition {
            condition_type,
            status: ConditionStatus::True,
            last_probe_time: Timestamp(0),
            last_transition_time: Timestamp(0),
            reason: String::new(),
            message: String::new(),
        };
        let mut job = Job::default();
        assert_eq!(job_status(&job), "Running");
        for (condition_type, word) in [
            (JobConditionType::SuccessCriteriaMet, "SuccessCriteriaMet"),
            (JobConditionType::FailureTarget, "FailureTarget"),
            (JobConditionType::Suspended, "Suspended"),
        ] {
            job.status.conditions.push(condition(condition_type));
            assert_eq!(job_status(&job), word);
        }
        job.metadata.deletion_timestamp = Some(Timestamp(0));
        assert_eq!(job_status(&job), "Terminating");
        job.status.conditions.push(condition(JobConditionType::Failed));
        assert_eq!(job_status(&job), "Failed");
        let mut resumed = Job::default();
        resumed.status.conditions.push(condition(JobConditionType::Suspended));
        resumed.status.conditions[0].status = ConditionStatus::False;
        assert_eq!(job_status(&resumed), "Running", "J102");
    }

    #[test]
    fn one_word_for_a_pod_that_is_being_initialized() {
        let running = |started| ContainerStatus {
            state: ContainerState::Running { started_at: None },
            started: Some(started),
            ..ContainerStatus::default()
        };
        let ended = |exit_code, reason: &str| ContainerStatus {
            state: ContainerState::Terminated(ContainerTermination {
                exit_code,
                reason: reason.to_owned(),
                ..Default::default()
            }),
            ..ContainerStatus::default()
        };
        let waiting = |reason: &str| ContainerStatus {
            state: ContainerState::Waiting { reason: reason.to_owned(), message: String::new() },
            ..ContainerStatus::default()
        };
        let sidecar = Container { restart_policy: Some(RestartPolicy::Always), ..Container::default() };
        for (statuses, word) in [
            (vec![waiting("PodInitializing"), waiting("")], "Init:0/2"),
            (vec![running(false), waiting("")], "Init:0/2"),
            (vec![running(true), running(true)], "Init:1/2"),
            (vec![running(true), ended(3, "")], "Init:ExitCode:3"),
            (vec![running(true), ended(3, "Error")], "Init:Error"),
            (vec![running(true), waiting("ErrImagePull")], "Init:ErrImagePull"),
            (vec![running(true), ended(0, "Completed")], "Pending"),
        ] {
            let pod = Pod {
                metadata: ObjectMeta::default(),
                spec: PodSpec {
                    init_containers: vec![sidecar.clone(), Container::default()],
                    ..PodSpec::default()
                },
                node_name: Some("n".to_owned()),
                completion_index: None,
                binding_revision: None,
                status: PodStatus { init_container_statuses: statuses, ..PodStatus::default() },
            };
            assert_eq!(pod_status(&pod), word);
            let mut failed = pod;
            failed.status.phase = PodPhase::Failed;
            failed.status.container_statuses = vec![waiting("PodInitializing")];
            if word == "Init:Error" {
                assert_eq!(pod_status(&failed), word);
            }
            failed.status.container_statuses = vec![ended(1, "Error")];
            assert_eq!(pod_status(&failed), "Error");
        }
    }

    #[test]
    fn one_word_for_a_pod() {
        let waiting =
            |reason: &str| ContainerState::Waiting { reason: reason.to_owned(), message: String::new() };
        let ended = |reason: &str| {
            ContainerState::Terminated(ContainerTermination {
                reason: reason.to_owned(),
                ..Default::default()
            })
        };
        let running = ContainerState::Running { started_at: None };
        // Phase, reason of the Pod, state of its container, whether it is bound, whether it is being deleted.
        for (phase, reason, state, is_bound, is_deleted, word) in [
            (PodPhase::Pending, "", None, false, false, "Pending"),
            (PodPhase::Pending, "", None, true, false, "Pending"),
            (PodPhase::Pending, "", Some(waiting("ContainerCreating")), true, false, "ContainerCreating"),
            (PodPhase::Running, "", Some(running.clone()), true, false, "Running"),
            (PodPhase::Running, "", Some(waiting("CrashLoopBackOff")), true, false, "CrashLoopBackOff"),
            (PodPhase::Running, "", Some(running), true, true, "Terminating"),
            (PodPhase::Succeeded, "", Some(ended("Completed")), true, false, "Completed"),
            (PodPhase::Succeeded, "", Some(ended("Completed")), true, true, "Completed"),
            (PodPhase::Failed, "", Some(ended("Error")), true, false, "Error"),
            (PodPhase::Failed, "", Some(ended("StartError")), true, false, "StartError"),
            (PodPhase::Failed, "", None, true, false, "Error"),
            (PodPhase::Failed, "NodeLost", None, true, false, "NodeLost"),
        ] {
            let statuses = state.map(|state| ContainerStatus {
                name: "main".to_owned(),
                state,
                last_state: None,
                ready: false,
                restart_count: 2,
                ..ContainerStatus::default()
            });
            let metadata = ObjectMeta {
                deletion_timestamp: is_deleted.then_some(Timestamp(0)),
                ..ObjectMeta::default()
            };
            let pod = Pod {
                metadata,
                spec: PodSpec { containers: vec![Container::default()], ..PodSpec::default() },
                node_name: is_bound.then(|| "n1".to_owned()),
                completion_index: None,
                binding_revision: None,
                status: PodStatus {
                    phase,
                    conditions: Vec::new(),
                    reason: reason.to_owned(),
                    message: String::new(),
                    start_time: None,
                    container_statuses: statuses.into_iter().collect(),
                    ..PodStatus::default()
                },
            };
            assert_eq!(pod_status(&pod), word);
            assert_eq!(pod_ready(&pod), "0/1");
        }
    }

    #[test]
    fn a_node_says_whether_it_takes_pods() {
        let of = |conditions: &[(&str, ConditionStatus)], unschedulable: bool| {
            let conditions = conditions.iter().map(|(kind, status)| crate::NodeCondition {
                condition_type: (*kind).to_owned(),
                status: *status,
                last_transition_time: None,
                reason: String::new(),
                message: String::new(),
            });
            node_status(&Node { unschedulable, conditions: conditions.collect(), ..Node::default() })
        };
        let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
        assert_eq!(of(&[], false), "NotReady");
        assert_eq!(of(&[("Ready", yes), ("DiskPressure", no), ("FencingDegraded", yes)], false), "Ready");
        let all = [("MemoryPressure", yes), ("Ready", yes), ("DiskPressure", yes)];
        assert_eq!(of(&all, true), "Ready,SchedulingDisabled,DiskPressure,MemoryPressure");
    }

    #[test]
    fn completions_of_jobs_and_work_queues() {
        let mut job = Job::default();
        job.status.succeeded = 2;
        job.spec.completions = Some(5);
        assert_eq!(job_completions(&job), "2/5");
        job.spec.completions = None;
        job.spec.parallelism = Some(4);
        assert_eq!(job_completions(&job), "2/1 of 4");
        job.spec.parallelism = Some(1);
        assert_eq!(job_completions(&job), "2/1");
    }
}
