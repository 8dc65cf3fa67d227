//! Containers, their environment, probes and hooks.

use serde_json::{Value, json};
use stint_api::{
    ConfigMapKeyRef, Container, ContainerRestartRule, EnvFromSource, EnvVar, EnvVarSource, FieldRef,
    ImagePullPolicy, Lifecycle, LifecycleHandler, Probe, ResourceFieldRef, RestartPolicy,
    TerminationMessagePolicy,
};

use super::Object;
use super::meta::{quantities, set_kept};
use super::security::security_context;
use super::volume::volume_mount;

pub(super) fn container(container: &Container) -> Value {
    let mut object = Object::new();
    object.set("name", container.name.as_str());
    object.set_filled("image", container.image.as_str());
    object.set_some("imagePullPolicy", container.image_pull_policy.as_ref().map(ImagePullPolicy::as_str));
    object.set_filled("command", container.command.clone());
    object.set_filled("args", container.args.clone());
    object.set_filled("workingDir", container.working_dir.as_str());
    object.set_filled("envFrom", container.env_from.iter().map(variables).collect::<Vec<_>>());
    object.set_filled("env", container.env.iter().map(variable).collect::<Vec<_>>());
    let mut resources = Object::new();
    resources.set_filled("limits", quantities(&container.limits));
    resources.set_filled("requests", quantities(&container.requests));
    object.set("resources", resources);
    object.set_filled("volumeMounts", container.volume_mounts.iter().map(volume_mount).collect::<Vec<_>>());
    object.set_some("securityContext", container.security_context.as_ref().map(security_context));
    object.set_some("restartPolicy", container.restart_policy.as_ref().map(RestartPolicy::as_str));
    object.set_filled(
        "restartPolicyRules",
        container.restart_policy_rules.iter().map(restart_rule).collect::<Vec<_>>(),
    );
    object.set_some("lifecycle", container.lifecycle.as_ref().map(lifecycle));
    for (field, one) in [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ] {
        object.set_some(field, one.as_ref().map(probe));
    }
    object.set_filled("terminationMessagePath", container.termination_message_path.as_str());
    object.set_some(
        "terminationMessagePolicy",
        container.termination_message_policy.as_ref().map(TerminationMessagePolicy::as_str),
    );
    for (field, is_so) in
        [("stdin", container.stdin), ("stdinOnce", container.stdin_once), ("tty", container.tty)]
    {
        object.set_some(field, is_so.then_some(true));
    }
    set_kept(&mut object, &container.kept_fields);
    object.into()
}

fn variable(variable: &EnvVar) -> Value {
    let mut object = Object::new();
    object.set("name", variable.name.as_str());
    object.set_filled("value", variable.value.as_str());
    let source = variable.value_from.as_ref().map(|source| match source {
        EnvVarSource::FieldRef(field) => json!({ "fieldRef": field_ref(field) }),
        EnvVarSource::ResourceFieldRef(field) => json!({ "resourceFieldRef": resource_field_ref(field) }),
        EnvVarSource::ConfigMapKeyRef(ConfigMapKeyRef { name, key, optional }) => {
            let mut object = Object::new();
            object.set_filled("name", name.as_str());
            object.set("key", key.as_str());
            object.set_some("optional", *optional);
            json!({ "configMapKeyRef": Value::from(object) })
        }
    });
    object.set_some("valueFrom", source);
    object.into()
}

pub(super) fn field_ref(field: &FieldRef) -> Value {
    json!({ "apiVersion": "v1", "fieldPath": field.field_path })
}

pub(super) fn resource_field_ref(field: &ResourceFieldRef) -> Value {
    let mut object = Object::new();
    object.set_filled("containerName", field.container_name.as_str());
    object.set("resource", field.resource.as_str());
    object.set_some("divisor", field.divisor.as_ref().map(|divisor| divisor.as_str()));
    object.into()
}

fn variables(source: &EnvFromSource) -> Value {
    let mut map = Object::new();
    map.set_filled("name", source.config_map_name.as_str());
    map.set_some("optional", source.optional);
    let mut object = Object::new();
    object.set_filled("prefix", source.prefix.as_str());
    object.set("configMapRef", map);
    object.into()
}

fn restart_rule(rule: &ContainerRestartRule) -> Value {
    let mut object = Object::new();
    object.set("action", rule.action.as_str());
    let codes = rule.exit_codes.as_ref().map(|codes| {
        let mut object = Object::new();
        object.set("operator", codes.operator.as_str());
        object.set_filled("values", codes.values.clone());
        Value::from(object)
    });
    object.set_some("exitCodes", codes);
    object.into()
}

fn lifecycle(lifecycle: &Lifecycle) -> Value {
    let handler = |handler: &LifecycleHandler| match handler {
        LifecycleHandler::Exec(exec) => json!({ "exec": exec_action(&exec.command) }),
        LifecycleHandler::Sleep(sleep) => json!({ "sleep": { "seconds": sleep.seconds } }),
    };
    let mut object = Object::new();
    object.set_some("postStart", lifecycle.post_start.as_ref().map(handler));
    object.set_some("preStop", lifecycle.pre_stop.as_ref().map(handler));
    object.set_some("stopSignal", lifecycle.stop_signal.as_deref());
    object.into()
}

fn exec_action(command: &[String]) -> Value {
    let mut object = Object::new();
    object.set_filled("command", command.to_vec());
    object.into()
}

fn probe(probe: &Probe) -> Value {
    let mut object = Object::new();
    object.set("exec", exec_action(&probe.exec.command));
    for (field, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        object.set_some(field, (number != 0).then_some(number));
    }
    object.set_some("terminationGracePeriodSeconds", probe.termination_grace_period_seconds);
    object.into()
}
