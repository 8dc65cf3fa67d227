//! Conversion of Jobs and of the template of their Pods.
//!
//! Parts that a request leaves out are empty, not an error: validation says what is missing, with Kubernetes' words, and
//! says all of it at once.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::meta::{condition_status, metadata};
use crate::time::{duration_from_wire, duration_to_wire, timestamp_from_wire, timestamp_to_wire};
use crate::v1;

const CONDITION_TYPES: &[&str] = &["Suspended", "SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"];

type Quantities = std::collections::BTreeMap<String, api::Quantity>;

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

impl From<api::PodTemplateSpec> for v1::PodTemplateSpec {
    fn from(template: api::PodTemplateSpec) -> v1::PodTemplateSpec {
        v1::PodTemplateSpec {
            metadata: Some(v1::PodTemplateMeta {
                labels: template.labels,
                annotations: template.annotations,
            }),
            spec: Some(template.spec.into()),
        }
    }
}

impl TryFrom<v1::PodTemplateSpec> for api::PodTemplateSpec {
    type Error = ConversionError;

    fn try_from(template: v1::PodTemplateSpec) -> Result<api::PodTemplateSpec, ConversionError> {
        let metadata = template.metadata.unwrap_or_default();
        Ok(api::PodTemplateSpec {
            labels: metadata.labels,
            annotations: metadata.annotations,
            spec: template.spec.unwrap_or_default().try_into().within("spec")?,
        })
    }
}

impl From<api::PodSpec> for v1::PodSpec {
    fn from(spec: api::PodSpec) -> v1::PodSpec {
        v1::PodSpec {
            containers: spec.containers.into_iter().map(Into::into).collect(),
            restart_policy: spec.restart_policy.map(|policy| policy.as_str().to_owned()),
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            node_selector: spec.node_selector,
            priority: spec.priority,
            kept_fields: spec.kept_fields,
        }
    }
}

impl TryFrom<v1::PodSpec> for api::PodSpec {
    type Error = ConversionError;

    fn try_from(spec: v1::PodSpec) -> Result<api::PodSpec, ConversionError> {
        Ok(api::PodSpec {
            containers: each("containers", spec.containers, TryInto::try_into)?,
            restart_policy: spec.restart_policy.as_deref().map(Into::into),
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            node_selector: spec.node_selector,
            priority: spec.priority,
            kept_fields: spec.kept_fields,
        })
    }
}

impl From<api::Container> for v1::Container {
    fn from(container: api::Container) -> v1::Container {
        v1::Container {
            name: container.name,
            image: container.image,
            command: container.command,
            args: container.args,
            working_dir: container.working_dir,
            env: container.env.into_iter().map(Into::into).collect(),
            resources: Some(v1::ResourceRequirements {
                limits: quantities_to_wire(container.limits),
                requests: quantities_to_wire(container.requests),
            }),
            kept_fields: container.kept_fields,
        }
    }
}

impl TryFrom<v1::Container> for api::Container {
    type Error = ConversionError;

    fn try_from(container: v1::Container) -> Result<api::Container, ConversionError> {
        let resources = container.resources.unwrap_or_default();
        Ok(api::Container {
            name: container.name,
            image: container.image,
            command: container.command,
            args: container.args,
            env: container.env.into_iter().map(Into::into).collect(),
            working_dir: container.working_dir,
            requests: quantities_from_wire(resources.requests).within("resources.requests")?,
            limits: quantities_from_wire(resources.limits).within("resources.limits")?,
            kept_fields: container.kept_fields,
        })
    }
}

impl From<api::EnvVar> for v1::EnvVar {
    fn from(variable: api::EnvVar) -> v1::EnvVar {
        v1::EnvVar { name: variable.name, value: variable.value }
    }
}

impl From<v1::EnvVar> for api::EnvVar {
    fn from(variable: v1::EnvVar) -> api::EnvVar {
        api::EnvVar { name: variable.name, value: variable.value }
    }
}

fn quantities_to_wire(quantities: Quantities) -> api::StringMap {
    quantities.into_iter().map(|(name, quantity)| (name, quantity.as_str().to_owned())).collect()
}

fn quantities_from_wire(texts: api::StringMap) -> Result<Quantities, ConversionError> {
    texts
        .into_iter()
        .map(|(name, text)| match api::Quantity::parse(&text) {
            Ok(quantity) => Ok((name, quantity)),
            Err(error) => Err(ConversionError::invalid(&format!("[{name}]"), text, error.to_string())),
        })
        .collect()
}
