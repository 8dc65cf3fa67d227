//! Conversion of Jobs, but for the template of their Pods (module `template`).
//!
//! Parts that a request leaves out are empty, not an error: validation says what is missing, with Kubernetes' words, and
//! says all of it at once.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::meta::{condition_status, metadata};
use crate::time::{duration_from_wire, duration_to_wire, timestamp_from_wire, timestamp_to_wire};
use crate::v1;

const CONDITION_TYPES: &[&str] = &["Suspended", "SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"];

impl From<api::Job> for v1::Job {
    fn from(job: api::Job) -> v1::Job {
        v1::Job {
            metadata: Some(job.metadata.into()),
            spec: Some(job.spec.into()),
            status: Some(job.status.into()),
        }
    }
}

impl TryFrom<v1::Job> for api::Job {
    type Error = ConversionError;

    fn try_from(job: v1::Job) -> Result<api::Job, ConversionError> {
        Ok(api::Job {
            metadata: metadata(job.metadata)?,
            spec: job.spec.unwrap_or_default().try_into().within("spec")?,
            status: job.status.unwrap_or_default().try_into().within("status")?,
        })
    }
}

impl From<api::JobSpec> for v1::JobSpec {
    fn from(spec: api::JobSpec) -> v1::JobSpec {
        v1::JobSpec {
            parallelism: spec.parallelism,
            completions: spec.completions,
            active_deadline_seconds: spec.active_deadline_seconds,
            selector: spec.selector.map(Into::into),
            manual_selector: spec.manual_selector,
            template: Some(spec.template.into()),
            backoff_limit: spec.backoff_limit,
            ttl_seconds_after_finished: spec.ttl_seconds_after_finished,
            completion_mode: spec.completion_mode.map(|mode| mode.as_str().to_owned()),
            suspend: spec.suspend,
            pod_replacement_policy: spec.pod_replacement_policy.map(|policy| policy.as_str().to_owned()),
            managed_by: spec.managed_by,
            backoff_base: spec.backoff_base_ms.map(duration_to_wire),
            backoff_cap: spec.backoff_cap_ms.map(duration_to_wire),
        }
    }
}

impl TryFrom<v1::JobSpec> for api::JobSpec {
    type Error = ConversionError;

    fn try_from(spec: v1::JobSpec) -> Result<api::JobSpec, ConversionError> {
        Ok(api::JobSpec {
            parallelism: spec.parallelism,
            completions: spec.completions,
            active_deadline_seconds: spec.active_deadline_seconds,
            backoff_limit: spec.backoff_limit,
            selector: spec.selector.map(TryInto::try_into).transpose().within("selector")?,
            manual_selector: spec.manual_selector,
            template: spec.template.unwrap_or_default().try_into().within("template")?,
            ttl_seconds_after_finished: spec.ttl_seconds_after_finished,
            completion_mode: spec.completion_mode.as_deref().map(Into::into),
            suspend: spec.suspend,
            pod_replacement_policy: spec.pod_replacement_policy.as_deref().map(Into::into),
            managed_by: spec.managed_by,
            backoff_base_ms: duration_from_wire("backoffBase", spec.backoff_base)?,
            backoff_cap_ms: duration_from_wire("backoffCap", spec.backoff_cap)?,
        })
    }
}

impl From<api::JobStatus> for v1::JobStatus {
    fn from(status: api::JobStatus) -> v1::JobStatus {
        v1::JobStatus {
            conditions: status.conditions.into_iter().map(Into::into).collect(),
            start_time: status.start_time.map(timestamp_to_wire),
            completion_time: status.completion_time.map(timestamp_to_wire),
            active: status.active,
            succeeded: status.succeeded,
            failed: status.failed,
            completed_indexes: status.completed_indexes,
            ready: status.ready,
            terminating: status.terminating,
        }
    }
}

impl TryFrom<v1::JobStatus> for api::JobStatus {
    type Error = ConversionError;

    fn try_from(status: v1::JobStatus) -> Result<api::JobStatus, ConversionError> {
        Ok(api::JobStatus {
            conditions: each("conditions", status.conditions, TryInto::try_into)?,
            start_time: timestamp_from_wire("startTime", status.start_time)?,
            completion_time: timestamp_from_wire("completionTime", status.completion_time)?,
            active: status.active,
            ready: status.ready,
            terminating: status.terminating,
            succeeded: status.succeeded,
            failed: status.failed,
            completed_indexes: status.completed_indexes,
        })
    }
}

impl From<api::JobCondition> for v1::JobCondition {
    fn from(condition: api::JobCondition) -> v1::JobCondition {
        v1::JobCondition {
            r#type: condition.condition_type.as_str().to_owned(),
            status: v1::ConditionStatus::from(condition.status).into(),
            last_probe_time: Some(timestamp_to_wire(condition.last_probe_time)),
            last_transition_time: Some(timestamp_to_wire(condition.last_transition_time)),
            reason: condition.reason,
            message: condition.message,
        }
    }
}

impl TryFrom<v1::JobCondition> for api::JobCondition {
    type Error = ConversionError;

    fn try_from(condition: v1::JobCondition) -> Result<api::JobCondition, ConversionError> {
        let condition_type = match condition.r#type.as_str() {
            "Suspended" => api::JobConditionType::Suspended,
            "SuccessCriteriaMet" => api::JobConditionType::SuccessCriteriaMet,
            "Complete" => api::JobConditionType::Complete,
            "FailureTarget" => api::JobConditionType::FailureTarget,
            "Failed" => api::JobConditionType::Failed,
            _ => return Err(ConversionError::unsupported("type", condition.r#type, CONDITION_TYPES)),
        };
        let last_transition_time = timestamp_from_wire("lastTransitionTime", condition.last_transition_time)?
            .ok_or_else(|| ConversionError::required("lastTransitionTime"))?;
        Ok(api::JobCondition {
            condition_type,
            status: condition_status(condition.status)?,
            last_probe_time: timestamp_from_wire("lastProbeTime", condition.last_probe_time)?
                .unwrap_or(last_transition_time),
            last_transition_time,
            reason: condition.reason,
            message: condition.message,
        })
    }
}
