//! Conversion of Pods.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::meta::{condition_status, metadata};
use crate::time::{timestamp_from_wire, timestamp_to_wire};
use crate::v1;
use crate::v1::container_state::State;

const PHASES: &[&str] = &["Pending", "Running", "Succeeded", "Failed"];

impl From<api::Pod> for v1::Pod {
    fn from(pod: api::Pod) -> v1::Pod {
        v1::Pod {
            metadata: Some(pod.metadata.into()),
            spec: Some(pod.spec.into()),
            status: Some(pod.status.into()),
            node_name: pod.node_name,
            completion_index: pod.completion_index.map(|index| index.0),
            binding_revision: pod.binding_revision.map(|revision| revision.0),
        }
    }
}

impl TryFrom<v1::Pod> for api::Pod {
    type Error = ConversionError;

    fn try_from(pod: v1::Pod) -> Result<api::Pod, ConversionError> {
        Ok(api::Pod {
            metadata: metadata(pod.metadata)?,
            spec: pod.spec.unwrap_or_default().try_into().within("spec")?,
            node_name: pod.node_name,
            completion_index: pod.completion_index.map(api::CompletionIndex),
            binding_revision: pod.binding_revision.map(api::Revision),
            status: pod.status.unwrap_or_default().try_into().within("status")?,
        })
    }
}

impl From<api::PodStatus> for v1::PodStatus {
    fn from(status: api::PodStatus) -> v1::PodStatus {
        v1::PodStatus {
            phase: v1::PodPhase::from(status.phase).into(),
            conditions: status.conditions.into_iter().map(Into::into).collect(),
            message: status.message,
            reason: status.reason,
            start_time: status.start_time.map(timestamp_to_wire),
            init_container_statuses: status.init_container_statuses.into_iter().map(Into::into).collect(),
            container_statuses: status.container_statuses.into_iter().map(Into::into).collect(),
            host_ip: status.host_ip,
            pod_ip: status.pod_ips.first().cloned(),
            pod_ips: status.pod_ips,
        }
    }
}

impl TryFrom<v1::PodStatus> for api::PodStatus {
    type Error = ConversionError;

    fn try_from(status: v1::PodStatus) -> Result<api::PodStatus, ConversionError> {
        Ok(api::PodStatus {
            phase: pod_phase(status.phase)?,
            conditions: each("conditions", status.conditions, TryInto::try_into)?,
            reason: status.reason,
            message: status.message,
            start_time: timestamp_from_wire("startTime", status.start_time)?,
            init_container_statuses: each(
                "initContainerStatuses",
                status.init_container_statuses,
                TryInto::try_into,
            )?,
            container_statuses: each("containerStatuses", status.container_statuses, TryInto::try_into)?,
            host_ip: status.host_ip,
            pod_ips: status.pod_ips,
        })
    }
}

impl From<api::PodPhase> for v1::PodPhase {
    fn from(phase: api::PodPhase) -> v1::PodPhase {
        match phase {
            api::PodPhase::Pending => v1::PodPhase::Pending,
            api::PodPhase::Running => v1::PodPhase::Running,
            api::PodPhase::Succeeded => v1::PodPhase::Succeeded,
            api::PodPhase::Failed => v1::PodPhase::Failed,
        }
    }
}

impl From<api::PodCondition> for v1::PodCondition {
    fn from(condition: api::PodCondition) -> v1::PodCondition {
        v1::PodCondition {
            r#type: condition.condition_type,
            status: v1::ConditionStatus::from(condition.status).into(),
            last_transition_time: condition.last_transition_time.map(timestamp_to_wire),
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl TryFrom<v1::PodCondition> for api::PodCondition {
    type Error = ConversionError;

    fn try_from(condition: v1::PodCondition) -> Result<api::PodCondition, ConversionError> {
        Ok(api::PodCondition {
            condition_type: condition.r#type,
            status: condition_status(condition.status)?,
            last_transition_time: timestamp_from_wire("lastTransitionTime", condition.last_transition_time)?,
            reason: condition.reason,
            message: condition.message,
        })
    }
}

impl From<api::ContainerStatus> for v1::ContainerStatus {
    fn from(status: api::ContainerStatus) -> v1::ContainerStatus {
        v1::ContainerStatus {
            name: status.name,
            state: Some(status.state.into()),
            last_state: status.last_state.map(Into::into),
            ready: status.ready,
            started: status.started,
            restart_count: status.restart_count,
            image: status.image,
            image_id: status.image_id,
            container_id: status.container_id,
        }
    }
}

impl TryFrom<v1::ContainerStatus> for api::ContainerStatus {
    type Error = ConversionError;

    fn try_from(status: v1::ContainerStatus) -> Result<api::ContainerStatus, ConversionError> {
        Ok(api::ContainerStatus {
            name: status.name,
            state: status.state.unwrap_or_default().try_into().within("state")?,
            last_state: status.last_state.map(TryInto::try_into).transpose().within("lastState")?,
            ready: status.ready,
            started: status.started,
            restart_count: status.restart_count,
            image: status.image,
            image_id: status.image_id,
            container_id: status.container_id,
        })
    }
}

impl From<api::ContainerState> for v1::ContainerState {
    fn from(state: api::ContainerState) -> v1::ContainerState {
        let state = match state {
            api::ContainerState::Waiting { reason, message } => {
                State::Waiting(v1::ContainerStateWaiting { reason, message })
            }
            api::ContainerState::Running { started_at } => {
                State::Running(v1::ContainerStateRunning { started_at: started_at.map(timestamp_to_wire) })
            }
            api::ContainerState::Terminated(termination) => State::Terminated(termination.into()),
        };
        v1::ContainerState { state: Some(state) }
    }
}

impl TryFrom<v1::ContainerState> for api::ContainerState {
    type Error = ConversionError;

    fn try_from(state: v1::ContainerState) -> Result<api::ContainerState, ConversionError> {
        match state.state {
            Some(State::Waiting(waiting)) => {
                Ok(api::ContainerState::Waiting { reason: waiting.reason, message: waiting.message })
            }
            Some(State::Running(running)) => Ok(api::ContainerState::Running {
                started_at: timestamp_from_wire("running.startedAt", running.started_at)?,
            }),
            Some(State::Terminated(terminated)) => {
                terminated.try_into().within("terminated").map(api::ContainerState::Terminated)
            }
            None => Err(ConversionError::required("")),
        }
    }
}

impl From<api::ContainerTermination> for v1::ContainerStateTerminated {
    fn from(termination: api::ContainerTermination) -> v1::ContainerStateTerminated {
        v1::ContainerStateTerminated {
            exit_code: termination.exit_code,
            signal: termination.signal,
            reason: termination.reason,
            message: termination.message,
            started_at: termination.started_at.map(timestamp_to_wire),
            finished_at: termination.finished_at.map(timestamp_to_wire),
        }
    }
}

impl TryFrom<v1::ContainerStateTerminated> for api::ContainerTermination {
    type Error = ConversionError;

    fn try_from(
        terminated: v1::ContainerStateTerminated,
    ) -> Result<api::ContainerTermination, ConversionError> {
        Ok(api::ContainerTermination {
            exit_code: terminated.exit_code,
            signal: terminated.signal,
            reason: terminated.reason,
            message: terminated.message,
            started_at: timestamp_from_wire("startedAt", terminated.started_at)?,
            finished_at: timestamp_from_wire("finishedAt", terminated.finished_at)?,
        })
    }
}

fn pod_phase(phase: i32) -> Result<api::PodPhase, ConversionError> {
    match v1::PodPhase::try_from(phase) {
        Ok(v1::PodPhase::Pending) => Ok(api::PodPhase::Pending),
        Ok(v1::PodPhase::Running) => Ok(api::PodPhase::Running),
        Ok(v1::PodPhase::Succeeded) => Ok(api::PodPhase::Succeeded),
        Ok(v1::PodPhase::Failed) => Ok(api::PodPhase::Failed),
        Ok(v1::PodPhase::Unspecified) | Err(_) => {
            Err(ConversionError::unsupported("phase", phase.to_string(), PHASES))
        }
    }
}
