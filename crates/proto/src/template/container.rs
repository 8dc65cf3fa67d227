//! Containers, their environment, probes and hooks.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::template::{quantity_from_wire, quantity_to_wire};
use crate::v1;
use crate::v1::{env_var_source, lifecycle_handler};

type Quantities = std::collections::BTreeMap<String, api::Quantity>;

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
            volume_mounts: container.volume_mounts.into_iter().map(Into::into).collect(),
            liveness_probe: container.liveness_probe.map(Into::into),
            readiness_probe: container.readiness_probe.map(Into::into),
            lifecycle: container.lifecycle.map(Into::into),
            termination_message_path: container.termination_message_path,
            image_pull_policy: container.image_pull_policy.map(|policy| policy.as_str().to_owned()),
            security_context: container.security_context.map(Into::into),
            env_from: container.env_from.into_iter().map(Into::into).collect(),
            termination_message_policy: container
                .termination_message_policy
                .map(|policy| policy.as_str().to_owned()),
            stdin: container.stdin,
            stdin_once: container.stdin_once,
            tty: container.tty,
            startup_probe: container.startup_probe.map(Into::into),
            restart_policy: container.restart_policy.map(|policy| policy.as_str().to_owned()),
            restart_policy_rules: container.restart_policy_rules.into_iter().map(Into::into).collect(),
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
            image_pull_policy: container.image_pull_policy.as_deref().map(Into::into),
            command: container.command,
            args: container.args,
            env: each("env", container.env, TryInto::try_into)?,
            env_from: each("envFrom", container.env_from, TryInto::try_into)?,
            working_dir: container.working_dir,
            requests: quantities_from_wire(resources.requests).within("resources.requests")?,
            limits: quantities_from_wire(resources.limits).within("resources.limits")?,
            volume_mounts: container.volume_mounts.into_iter().map(Into::into).collect(),
            security_context: container.security_context.map(Into::into),
            restart_policy: container.restart_policy.as_deref().map(Into::into),
            restart_policy_rules: container.restart_policy_rules.into_iter().map(Into::into).collect(),
            lifecycle: container.lifecycle.map(TryInto::try_into).transpose().within("lifecycle")?,
            startup_probe: container.startup_probe.map(Into::into),
            liveness_probe: container.liveness_probe.map(Into::into),
            readiness_probe: container.readiness_probe.map(Into::into),
            termination_message_path: container.termination_message_path,
            termination_message_policy: container.termination_message_policy.as_deref().map(Into::into),
            stdin: container.stdin,
            stdin_once: container.stdin_once,
            tty: container.tty,
            kept_fields: container.kept_fields,
        })
    }
}

impl From<api::EnvVar> for v1::EnvVar {
    fn from(variable: api::EnvVar) -> v1::EnvVar {
        v1::EnvVar {
            name: variable.name,
            value: variable.value,
            value_from: variable.value_from.map(Into::into),
        }
    }
}

impl TryFrom<v1::EnvVar> for api::EnvVar {
    type Error = ConversionError;

    fn try_from(variable: v1::EnvVar) -> Result<api::EnvVar, ConversionError> {
        Ok(api::EnvVar {
            name: variable.name,
            value: variable.value,
            value_from: variable.value_from.map(TryInto::try_into).transpose().within("valueFrom")?,
        })
    }
}

impl From<api::EnvVarSource> for v1::EnvVarSource {
    fn from(source: api::EnvVarSource) -> v1::EnvVarSource {
        use env_var_source::Source;
        let source = match source {
            api::EnvVarSource::FieldRef(field) => Source::FieldRef(field.into()),
            api::EnvVarSource::ResourceFieldRef(field) => Source::ResourceFieldRef(field.into()),
            api::EnvVarSource::ConfigMapKeyRef(key) => Source::ConfigMapKeyRef(v1::ConfigMapKeySelector {
                name: key.name,
                key: key.key,
                optional: key.optional,
            }),
        };
        v1::EnvVarSource { source: Some(source) }
    }
}

impl TryFrom<v1::EnvVarSource> for api::EnvVarSource {
    type Error = ConversionError;

    fn try_from(source: v1::EnvVarSource) -> Result<api::EnvVarSource, ConversionError> {
        use env_var_source::Source;
        match source.source {
            Some(Source::FieldRef(field)) => Ok(api::EnvVarSource::FieldRef(field.into())),
            Some(Source::ResourceFieldRef(field)) => {
                field.try_into().within("resourceFieldRef").map(api::EnvVarSource::ResourceFieldRef)
            }
            Some(Source::ConfigMapKeyRef(key)) => {
                Ok(api::EnvVarSource::ConfigMapKeyRef(api::ConfigMapKeyRef {
                    name: key.name,
                    key: key.key,
                    optional: key.optional,
                }))
            }
            None => Err(ConversionError::required("")),
        }
    }
}

impl From<api::FieldRef> for v1::ObjectFieldSelector {
    fn from(field: api::FieldRef) -> v1::ObjectFieldSelector {
        v1::ObjectFieldSelector { field_path: field.field_path }
    }
}

impl From<v1::ObjectFieldSelector> for api::FieldRef {
    fn from(field: v1::ObjectFieldSelector) -> api::FieldRef {
        api::FieldRef { field_path: field.field_path }
    }
}

impl From<api::ResourceFieldRef> for v1::ResourceFieldSelector {
    fn from(field: api::ResourceFieldRef) -> v1::ResourceFieldSelector {
        v1::ResourceFieldSelector {
            container_name: field.container_name,
            resource: field.resource,
            divisor: quantity_to_wire(field.divisor),
        }
    }
}

impl TryFrom<v1::ResourceFieldSelector> for api::ResourceFieldRef {
    type Error = ConversionError;

    fn try_from(field: v1::ResourceFieldSelector) -> Result<api::ResourceFieldRef, ConversionError> {
        Ok(api::ResourceFieldRef {
            container_name: field.container_name,
            resource: field.resource,
            divisor: quantity_from_wire("divisor", field.divisor)?,
        })
    }
}

impl From<api::EnvFromSource> for v1::EnvFromSource {
    fn from(source: api::EnvFromSource) -> v1::EnvFromSource {
        let map = v1::ConfigMapEnvSource { name: source.config_map_name, optional: source.optional };
        v1::EnvFromSource { prefix: source.prefix, config_map_ref: Some(map) }
    }
}

impl TryFrom<v1::EnvFromSource> for api::EnvFromSource {
    type Error = ConversionError;

    fn try_from(source: v1::EnvFromSource) -> Result<api::EnvFromSource, ConversionError> {
        let map = source.config_map_ref.ok_or_else(|| ConversionError::required("configMapRef"))?;
        Ok(api::EnvFromSource { prefix: source.prefix, config_map_name: map.name, optional: map.optional })
    }
}

impl From<api::ContainerRestartRule> for v1::ContainerRestartRule {
    fn from(rule: api::ContainerRestartRule) -> v1::ContainerRestartRule {
        v1::ContainerRestartRule {
            action: rule.action.as_str().to_owned(),
            exit_codes: rule.exit_codes.map(|codes| v1::ContainerRestartRuleOnExitCodes {
                operator: codes.operator.as_str().to_owned(),
                values: codes.values,
            }),
        }
    }
}

impl From<v1::ContainerRestartRule> for api::ContainerRestartRule {
    fn from(rule: v1::ContainerRestartRule) -> api::ContainerRestartRule {
        api::ContainerRestartRule {
            action: rule.action.as_str().into(),
            exit_codes: rule.exit_codes.map(|codes| api::RestartRuleExitCodes {
                operator: codes.operator.as_str().into(),
                values: codes.values,
            }),
        }
    }
}

impl From<api::Lifecycle> for v1::Lifecycle {
    fn from(lifecycle: api::Lifecycle) -> v1::Lifecycle {
        v1::Lifecycle {
            post_start: lifecycle.post_start.map(Into::into),
            pre_stop: lifecycle.pre_stop.map(Into::into),
            stop_signal: lifecycle.stop_signal,
        }
    }
}

impl TryFrom<v1::Lifecycle> for api::Lifecycle {
    type Error = ConversionError;

    fn try_from(lifecycle: v1::Lifecycle) -> Result<api::Lifecycle, ConversionError> {
        Ok(api::Lifecycle {
            post_start: lifecycle.post_start.map(TryInto::try_into).transpose().within("postStart")?,
            pre_stop: lifecycle.pre_stop.map(TryInto::try_into).transpose().within("preStop")?,
            stop_signal: lifecycle.stop_signal,
        })
    }
}

impl From<api::LifecycleHandler> for v1::LifecycleHandler {
    fn from(handler: api::LifecycleHandler) -> v1::LifecycleHandler {
        use lifecycle_handler::Handler;
        let handler = match handler {
            api::LifecycleHandler::Exec(exec) => Handler::Exec(v1::ExecAction { command: exec.command }),
            api::LifecycleHandler::Sleep(sleep) => Handler::Sleep(v1::SleepAction { seconds: sleep.seconds }),
        };
        v1::LifecycleHandler { handler: Some(handler) }
    }
}

impl TryFrom<v1::LifecycleHandler> for api::LifecycleHandler {
    type Error = ConversionError;

    fn try_from(handler: v1::LifecycleHandler) -> Result<api::LifecycleHandler, ConversionError> {
        use lifecycle_handler::Handler;
        match handler.handler {
            Some(Handler::Exec(exec)) => {
                Ok(api::LifecycleHandler::Exec(api::ExecAction { command: exec.command }))
            }
            Some(Handler::Sleep(sleep)) => {
                Ok(api::LifecycleHandler::Sleep(api::SleepAction { seconds: sleep.seconds }))
            }
            None => Err(ConversionError::required("")),
        }
    }
}

impl From<api::Probe> for v1::Probe {
    fn from(probe: api::Probe) -> v1::Probe {
        v1::Probe {
            exec: Some(v1::ExecAction { command: probe.exec.command }),
            initial_delay_seconds: probe.initial_delay_seconds,
            timeout_seconds: probe.timeout_seconds,
            period_seconds: probe.period_seconds,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            termination_grace_period_seconds: probe.termination_grace_period_seconds,
        }
    }
}

impl From<v1::Probe> for api::Probe {
    fn from(probe: v1::Probe) -> api::Probe {
        api::Probe {
            exec: api::ExecAction { command: probe.exec.unwrap_or_default().command },
            initial_delay_seconds: probe.initial_delay_seconds,
            timeout_seconds: probe.timeout_seconds,
            period_seconds: probe.period_seconds,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            termination_grace_period_seconds: probe.termination_grace_period_seconds,
        }
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
