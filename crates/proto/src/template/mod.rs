//! Conversion of the template of a Job's Pods.
//!
//! Parts that a request leaves out are empty, not an error, where validation can say what is missing; a choice of which
//! nothing was chosen is an error here.

mod container;
mod security;
mod volume;

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::v1;

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
            volumes: spec.volumes.into_iter().map(Into::into).collect(),
            containers: spec.containers.into_iter().map(Into::into).collect(),
            restart_policy: spec.restart_policy.map(|policy| policy.as_str().to_owned()),
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            node_selector: spec.node_selector,
            host_network: spec.host_network,
            host_pid: spec.host_pid,
            host_ipc: spec.host_ipc,
            security_context: spec.security_context.map(Into::into),
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            host_aliases: spec.host_aliases.into_iter().map(Into::into).collect(),
            init_containers: spec.init_containers.into_iter().map(Into::into).collect(),
            priority: spec.priority,
            share_process_namespace: spec.share_process_namespace,
            runtime_class_name: spec.runtime_class_name,
            kept_fields: spec.kept_fields,
        }
    }
}

impl TryFrom<v1::PodSpec> for api::PodSpec {
    type Error = ConversionError;

    fn try_from(spec: v1::PodSpec) -> Result<api::PodSpec, ConversionError> {
        Ok(api::PodSpec {
            containers: each("containers", spec.containers, TryInto::try_into)?,
            init_containers: each("initContainers", spec.init_containers, TryInto::try_into)?,
            volumes: each("volumes", spec.volumes, TryInto::try_into)?,
            restart_policy: spec.restart_policy.as_deref().map(Into::into),
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            node_selector: spec.node_selector,
            priority: spec.priority,
            security_context: spec.security_context.map(Into::into),
            host_network: spec.host_network,
            host_pid: spec.host_pid,
            host_ipc: spec.host_ipc,
            share_process_namespace: spec.share_process_namespace,
            runtime_class_name: spec.runtime_class_name,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            host_aliases: spec.host_aliases.into_iter().map(Into::into).collect(),
            kept_fields: spec.kept_fields,
        })
    }
}

impl From<api::HostAlias> for v1::HostAlias {
    fn from(api::HostAlias { ip, hostnames }: api::HostAlias) -> v1::HostAlias {
        v1::HostAlias { ip, hostnames }
    }
}

impl From<v1::HostAlias> for api::HostAlias {
    fn from(v1::HostAlias { ip, hostnames }: v1::HostAlias) -> api::HostAlias {
        api::HostAlias { ip, hostnames }
    }
}

fn quantity_from_wire(field: &str, text: Option<String>) -> Result<Option<api::Quantity>, ConversionError> {
    let parse = |text: String| {
        api::Quantity::parse(&text).map_err(|error| ConversionError::invalid(field, text, error.to_string()))
    };
    text.map(parse).transpose()
}

fn quantity_to_wire(quantity: Option<api::Quantity>) -> Option<String> {
    quantity.map(|quantity| quantity.as_str().to_owned())
}
