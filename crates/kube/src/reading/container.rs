//! Kubernetes' containers as ours: environment, probes, hooks.
//!
//! Owns: which fields of a container are honoured, kept or refused. Does not own: their values' validity (crate `api`).
//!
//! Invariant: as in [`super::job`], every field of Kubernetes' types is named here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use stint_api::{
    ConfigMapKeyRef, Container, ContainerRestartRule, EnvFromSource, EnvVar, EnvVarSource, ExecAction,
    FieldError, FieldRef, Lifecycle, LifecycleHandler, Probe, ResourceFieldRef, RestartRuleExitCodes,
    SleepAction,
};

use super::convert::{Refusals, keep, only_one, quantities, quantity, says, says_object, stated};
use super::security::security_context;
use super::volume::volume_mount;

const ONLY_EXEC: &str = "not supported: use exec";
const NO_HANDLER: &str = "must specify a handler type";

/// Converts a container or init container; what is refused is noted.
pub(super) fn container(from: core::Container, path: &str, refusals: &mut Refusals) -> Container {
    let core::Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle: hooks,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context: security,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = from;
    let resources = resources.unwrap_or_default();
    for (field, is_given) in [
        ("resizePolicy", says(&resize_policy)),
        ("resources.claims", says(&resources.claims)),
        ("volumeDevices", says(&volume_devices)),
    ] {
        if is_given {
            refusals.never(&format!("{path}.{field}"));
        }
    }
    let mut kept_fields = BTreeMap::new();
    keep(&mut kept_fields, "ports", ports);
    let word = |text: Option<String>| text.filter(|text| !text.is_empty());
    let mut probe_of = |field: &str, from: Option<core::Probe>| {
        from.map(|from| probe(from, &format!("{path}.{field}"), refusals))
    };
    let startup_probe = probe_of("startupProbe", startup_probe);
    let liveness_probe = probe_of("livenessProbe", liveness_probe);
    let readiness_probe = probe_of("readinessProbe", readiness_probe);
    let mounts = volume_mounts.unwrap_or_default().into_iter().enumerate();
    Container {
        name,
        image: image.unwrap_or_default(),
        image_pull_policy: word(image_pull_policy).as_deref().map(Into::into),
        command: command.unwrap_or_default(),
        args: args.unwrap_or_default(),
        env: environment(env.unwrap_or_default(), path, refusals),
        env_from: environment_from(env_from.unwrap_or_default(), path, refusals),
        working_dir: working_dir.unwrap_or_default(),
        requests: quantities(resources.requests, &format!("{path}.resources.requests"), refusals),
        limits: quantities(resources.limits, &format!("{path}.resources.limits"), refusals),
        volume_mounts: mounts
            .map(|(index, one)| volume_mount(one, &format!("{path}.volumeMounts[{index}]"), refusals))
            .collect(),
        security_context: security
            .and_then(|one| stated(security_context(one, &format!("{path}.securityContext"), refusals))),
        restart_policy: word(restart_policy).as_deref().map(Into::into),
        restart_policy_rules: restart_policy_rules
            .unwrap_or_default()
            .into_iter()
            .map(restart_rule)
            .collect(),
        lifecycle: hooks.and_then(|one| stated(lifecycle(one, &format!("{path}.lifecycle"), refusals))),
        startup_probe,
        liveness_probe,
        readiness_probe,
        termination_message_path: termination_message_path.unwrap_or_default(),
        termination_message_policy: word(termination_message_policy).as_deref().map(Into::into),
        stdin: stdin.unwrap_or_default(),
        stdin_once: stdin_once.unwrap_or_default(),
        tty: tty.unwrap_or_default(),
        kept_fields,
    }
}

fn environment(from: Vec<core::EnvVar>, path: &str, refusals: &mut Refusals) -> Vec<EnvVar> {
    let variable = |(index, variable): (usize, core::EnvVar)| {
        let core::EnvVar { name, value, value_from } = variable;
        let path = format!("{path}.env[{index}].valueFrom");
        let value_from = value_from.and_then(|source| variable_source(source, &path, refusals));
        EnvVar { name, value: value.unwrap_or_default(), value_from }
    };
    from.into_iter().enumerate().map(variable).collect()
}

fn variable_source(from: core::EnvVarSource, path: &str, refusals: &mut Refusals) -> Option<EnvVarSource> {
    let core::EnvVarSource {
        config_map_key_ref,
        field_ref,
        file_key_ref,
        resource_field_ref,
        secret_key_ref,
    } = from;
    if says_object(&file_key_ref) {
        refusals.never(&format!("{path}.fileKeyRef"));
        return None;
    }
    if says_object(&secret_key_ref) {
        refusals.not_yet(&format!("{path}.secretKeyRef"));
        return None;
    }
    let sources = [
        (
            "fieldRef",
            field_ref
                .map(|from| EnvVarSource::FieldRef(field_of(from, &format!("{path}.fieldRef"), refusals))),
        ),
        (
            "resourceFieldRef",
            resource_field_ref.map(|from| {
                let path = format!("{path}.resourceFieldRef");
                EnvVarSource::ResourceFieldRef(resource_of(from, &path, refusals))
            }),
        ),
        (
            "configMapKeyRef",
            config_map_key_ref.map(|from| {
                let core::ConfigMapKeySelector { key, name, optional } = from;
                EnvVarSource::ConfigMapKeyRef(ConfigMapKeyRef { name, key, optional })
            }),
        ),
    ];
    let none = "must specify one of: `fieldRef`, `resourceFieldRef` or `configMapKeyRef`";
    let several = "may not have more than one field specified at a time";
    let invalid = |detail| FieldError::invalid_text(path, "", detail);
    only_one(sources, || invalid(none), |_| invalid(several), refusals)
}

/// A reference to a field of the Pod.
pub(super) fn field_of(from: core::ObjectFieldSelector, path: &str, refusals: &mut Refusals) -> FieldRef {
    let core::ObjectFieldSelector { api_version, field_path } = from;
    if let Some(version) = api_version.filter(|version| !matches!(version.as_str(), "" | "v1")) {
        refusals.push(FieldError::unsupported(format!("{path}.apiVersion"), &version, &["v1"]));
    }
    FieldRef { field_path }
}

/// A reference to what a container requests or may use.
pub(super) fn resource_of(
    from: core::ResourceFieldSelector,
    path: &str,
    refusals: &mut Refusals,
) -> ResourceFieldRef {
    let core::ResourceFieldSelector { container_name, divisor, resource } = from;
    ResourceFieldRef {
        container_name: container_name.unwrap_or_default(),
        resource,
        divisor: quantity(divisor, &format!("{path}.divisor"), refusals),
    }
}

fn environment_from(
    from: Vec<core::EnvFromSource>,
    path: &str,
    refusals: &mut Refusals,
) -> Vec<EnvFromSource> {
    let source = |(index, source): (usize, core::EnvFromSource)| {
        let core::EnvFromSource { config_map_ref, prefix, secret_ref } = source;
        let path = format!("{path}.envFrom[{index}]");
        if secret_ref.is_some() {
            refusals.not_yet(&format!("{path}.secretRef"));
            return None;
        }
        let Some(map) = config_map_ref else {
            refusals.push(FieldError::invalid_text(path, "", "must specify `configMapRef`"));
            return None;
        };
        let core::ConfigMapEnvSource { name, optional } = map;
        Some(EnvFromSource { prefix: prefix.unwrap_or_default(), config_map_name: name, optional })
    };
    from.into_iter().enumerate().filter_map(source).collect()
}

fn restart_rule(from: core::ContainerRestartRule) -> ContainerRestartRule {
    let core::ContainerRestartRule { action, exit_codes } = from;
    ContainerRestartRule {
        action: action.as_str().into(),
        exit_codes: exit_codes.map(|from| {
            let core::ContainerRestartRuleOnExitCodes { operator, values } = from;
            RestartRuleExitCodes { operator: operator.as_str().into(), values: values.unwrap_or_default() }
        }),
    }
}

fn lifecycle(from: core::Lifecycle, path: &str, refusals: &mut Refusals) -> Lifecycle {
    let core::Lifecycle { post_start, pre_stop, stop_signal } = from;
    let mut handler_of = |field: &str, from: Option<core::LifecycleHandler>| {
        from.and_then(|from| handler(from, &format!("{path}.{field}"), refusals))
    };
    Lifecycle {
        post_start: handler_of("postStart", post_start),
        pre_stop: handler_of("preStop", pre_stop),
        stop_signal: stop_signal.filter(|text| !text.is_empty()),
    }
}

fn handler(from: core::LifecycleHandler, path: &str, refusals: &mut Refusals) -> Option<LifecycleHandler> {
    let core::LifecycleHandler { exec, http_get, sleep, tcp_socket } = from;
    let others = [("httpGet", http_get.is_some()), ("tcpSocket", tcp_socket.is_some())];
    if refuse_others(&others, path, refusals) {
        return None;
    }
    let handlers = [
        ("exec", exec.map(|from| LifecycleHandler::Exec(exec_of(from)))),
        ("sleep", sleep.map(|from| LifecycleHandler::Sleep(SleepAction { seconds: from.seconds }))),
    ];
    let none = || FieldError::required(path, NO_HANDLER);
    let several = |name: &str| {
        FieldError::forbidden(format!("{path}.{name}"), "may not specify more than 1 handler type")
    };
    only_one(handlers, none, several, refusals)
}

fn probe(from: core::Probe, path: &str, refusals: &mut Refusals) -> Probe {
    let core::Probe {
        exec,
        failure_threshold,
        grpc,
        http_get,
        initial_delay_seconds,
        period_seconds,
        success_threshold,
        tcp_socket,
        termination_grace_period_seconds,
        timeout_seconds,
    } = from;
    let others =
        [("grpc", grpc.is_some()), ("httpGet", http_get.is_some()), ("tcpSocket", tcp_socket.is_some())];
    if !refuse_others(&others, path, refusals) && exec.is_none() {
        refusals.push(FieldError::required(path, NO_HANDLER));
    }
    Probe {
        exec: exec.map(exec_of).unwrap_or_default(),
        initial_delay_seconds: initial_delay_seconds.unwrap_or_default(),
        timeout_seconds: timeout_seconds.unwrap_or_default(),
        period_seconds: period_seconds.unwrap_or_default(),
        success_threshold: success_threshold.unwrap_or_default(),
        failure_threshold: failure_threshold.unwrap_or_default(),
        termination_grace_period_seconds,
    }
}

/// Refuses ways of probing that are not ours; true if there was one.
fn refuse_others(others: &[(&str, bool)], path: &str, refusals: &mut Refusals) -> bool {
    let mut refused = false;
    for (field, _) in others.iter().filter(|(_, is_given)| *is_given) {
        refusals.push(FieldError::forbidden(format!("{path}.{field}"), ONLY_EXEC));
        refused = true;
    }
    refused
}

fn exec_of(from: core::ExecAction) -> ExecAction {
    ExecAction { command: from.command.unwrap_or_default() }
}
