//! What a Pod's own row tells of its life, as Events.
//!
//! Owns: reading them out of a Pod. Does not own: events that are written (`core`): those are about what is out of the
//! ordinary only, so that a Pod whose life goes as planned costs no event (D14).
//!
//! Invariant: a Pod tells the same however often it is asked.

use crate::event::{Event, EventType, ObjectReference};
use crate::ids::Timestamp;
use crate::meta::{ConditionStatus, ObjectMeta};
use crate::pod::{ContainerState, ContainerStatus, Pod};

/// `Scheduled`, `Started` for each container that has run, `Killing` for a Pod that is being stopped: the oldest first.
pub fn of_pod(pod: &Pod) -> Vec<Event> {
    let mut events = Vec::new();
    if let (Some(node), Some(at)) = (&pod.node_name, scheduled_at(pod)) {
        let message =
            format!("Successfully assigned {}/{} to {node}", pod.metadata.namespace, pod.metadata.name);
        events.push(event(pod, ("scheduler", "Scheduled"), message, 1, (at, at)));
    }
    let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    for status in statuses {
        let starts = starts(status);
        if let (Some(first), Some(last)) = (starts.iter().min(), starts.iter().max()) {
            let message = format!("Started container {}", status.name);
            let has_run_again = matches!(status.state, ContainerState::Waiting { .. });
            // A run that is waited for has not been started.
            let count = status.restart_count + u32::from(!has_run_again);
            events.push(event(pod, ("agent", "Started"), message, count.max(1), (*first, *last)));
        }
    }
    if let Some(until) = pod.metadata.deletion_timestamp {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let at = until.plus_ms(grace.saturating_mul(-1000));
        let message = format!("Stopping its containers, within {grace} s");
        events.push(event(pod, ("agent", "Killing"), message, 1, (at, at)));
    }
    events.sort_by_key(|event| event.first_timestamp);
    events
}

fn scheduled_at(pod: &Pod) -> Option<Timestamp> {
    let scheduled = pod.status.conditions.iter().find(|condition| {
        condition.condition_type == "PodScheduled" && condition.status == ConditionStatus::True
    });
    scheduled?.last_transition_time
}

/// When the runs that are known began.
fn starts(status: &ContainerStatus) -> Vec<Timestamp> {
    let start = |state: &ContainerState| match state {
        ContainerState::Running { started_at } => *started_at,
        ContainerState::Terminated(end) => end.started_at,
        ContainerState::Waiting { .. } => None,
    };
    [Some(&status.state), status.last_state.as_ref()].into_iter().flatten().filter_map(start).collect()
}

fn event(
    pod: &Pod,
    (source, reason): (&str, &str),
    message: String,
    count: u32,
    (first, last): (Timestamp, Timestamp),
) -> Event {
    let metadata = &pod.metadata;
    Event {
        metadata: ObjectMeta {
            name: format!("{}.{}", metadata.name, reason.to_lowercase()),
            namespace: metadata.namespace.clone(),
            creation_timestamp: Some(first),
            ..ObjectMeta::default()
        },
        regarding: ObjectReference {
            kind: "Pod".to_owned(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
        },
        event_type: EventType::Normal,
        reason: reason.to_owned(),
        message,
        source: source.to_owned(),
        count,
        first_timestamp: first,
        last_timestamp: last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{ContainerTermination, PodCondition, PodStatus};

    fn ended(started_at: i64) -> ContainerState {
        ContainerState::Terminated(ContainerTermination {
            started_at: Some(Timestamp(started_at)),
            ..ContainerTermination::default()
        })
    }

    fn pod(state: ContainerState, last_state: Option<ContainerState>, restart_count: u32) -> Pod {
        let status = ContainerStatus {
            name: "main".to_owned(),
            state,
            last_state,
            restart_count,
            ..ContainerStatus::default()
        };
        Pod {
            metadata: ObjectMeta { name: "p".to_owned(), namespace: "n".to_owned(), ..ObjectMeta::default() },
            spec: Default::default(),
            node_name: Some("w1".to_owned()),
            completion_index: None,
            binding_revision: None,
            status: PodStatus {
                conditions: vec![PodCondition {
                    condition_type: "PodScheduled".to_owned(),
                    status: ConditionStatus::True,
                    last_transition_time: Some(Timestamp(1_000)),
                    reason: String::new(),
                    message: String::new(),
                }],
                container_statuses: vec![status],
                ..PodStatus::default()
            },
        }
    }

    fn told(pod: &Pod) -> Vec<(String, u32, i64, i64)> {
        let events = of_pod(pod).into_iter();
        events.map(|one| (one.reason, one.count, one.first_timestamp.0, one.last_timestamp.0)).collect()
    }

    #[test]
    fn an_ordinary_life_is_told_from_the_row() {
        let one = pod(ended(2_000), None, 0);
        assert_eq!(told(&one), [("Scheduled".into(), 1, 1_000, 1_000), ("Started".into(), 1, 2_000, 2_000)]);
        let events = of_pod(&one);
        assert_eq!(events[0].message, "Successfully assigned n/p to w1");
        assert_eq!(
            (events[1].message.as_str(), events[1].regarding.name.as_str()),
            ("Started container main", "p")
        );
    }

    #[test]
    fn starts_are_counted_and_a_stop_is_told() {
        let again =
            pod(ContainerState::Running { started_at: Some(Timestamp(9_000)) }, Some(ended(2_000)), 3);
        assert_eq!(told(&again)[1], ("Started".into(), 4, 2_000, 9_000));
        let waiting =
            ContainerState::Waiting { reason: "CrashLoopBackOff".to_owned(), message: String::new() };
        assert_eq!(
            told(&pod(waiting.clone(), Some(ended(2_000)), 3))[1],
            ("Started".into(), 3, 2_000, 2_000)
        );
        assert_eq!(told(&pod(waiting, None, 0)).len(), 1, "nothing has started yet");
        let mut stopping = again;
        stopping.metadata.deletion_timestamp = Some(Timestamp(40_000));
        stopping.metadata.deletion_grace_period_seconds = Some(30);
        assert_eq!(told(&stopping)[2], ("Killing".into(), 1, 10_000, 10_000));
        stopping.node_name = None;
        stopping.status = PodStatus::default();
        assert_eq!(told(&stopping).len(), 1);
    }
}
