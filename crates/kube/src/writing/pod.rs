//! Pods and their templates.

use serde_json::{Value, json};
use stint_api::{
    ContainerState, ContainerStatus, ContainerTermination, HostAlias, Pod, PodSpec, PodStatus,
    PodTemplateSpec, RestartPolicy,
};

use super::Object;
use super::container::container;
use super::meta::{metadata, seconds, set_kept, strings};
use super::security::pod_security_context;
use super::volume::volume;

/// Annotation with the revision of a Pod's binding (D11): what a program shows to a store that refuses stale writers.
const FENCING_TOKEN: &str = "stint.dev/fencing-token";

/// The Pod as Kubernetes' `v1` Pod. What Kubernetes has no field for is shown as annotations `stint.dev/…`.
pub fn pod_to_json(pod: &Pod) -> Value {
    let mut meta = pod.metadata.clone();
    if let Some(revision) = pod.binding_revision {
        meta.annotations.insert(FENCING_TOKEN.to_owned(), revision.to_string());
    }
    let mut spec = pod_spec(&pod.spec);
    spec.set_some("nodeName", pod.node_name.as_deref());
    let mut object = Object::new();
    object.set("apiVersion", "v1");
    object.set("kind", "Pod");
    object.set("metadata", metadata(&meta));
    object.set("spec", spec);
    object.set("status", status(&pod.status));
    object.into()
}

pub(super) fn template(template: &PodTemplateSpec) -> Object {
    let mut metadata = Object::new();
    metadata.set_filled("labels", strings(&template.labels));
    metadata.set_filled("annotations", strings(&template.annotations));
    let mut object = Object::new();
    object.set("metadata", metadata);
    object.set("spec", pod_spec(&template.spec));
    object
}

fn pod_spec(spec: &PodSpec) -> Object {
    let mut object = Object::new();
    object.set_filled("initContainers", spec.init_containers.iter().map(container).collect::<Vec<_>>());
    object.set("containers", spec.containers.iter().map(container).collect::<Vec<_>>());
    object.set_filled("volumes", spec.volumes.iter().map(volume).collect::<Vec<_>>());
    object.set_some("restartPolicy", spec.restart_policy.as_ref().map(RestartPolicy::as_str));
    object.set_some("terminationGracePeriodSeconds", spec.termination_grace_period_seconds);
    object.set_filled("nodeSelector", strings(&spec.node_selector));
    object.set_some("priority", spec.priority);
    object.set_some("securityContext", spec.security_context.as_ref().map(pod_security_context));
    for (field, holds) in
        [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)]
    {
        object.set_some(field, holds.then_some(true));
    }
    object.set_some("shareProcessNamespace", spec.share_process_namespace);
    object.set_some("runtimeClassName", spec.runtime_class_name.as_deref());
    object.set_some("hostname", spec.hostname.as_deref());
    object.set_some("subdomain", spec.subdomain.as_deref());
    let aliases = spec.host_aliases.iter().map(|HostAlias { ip, hostnames }| {
        let mut object = Object::new();
        object.set("ip", ip.as_str());
        object.set_filled("hostnames", hostnames.clone());
        Value::from(object)
    });
    object.set_filled("hostAliases", aliases.collect::<Vec<_>>());
    set_kept(&mut object, &spec.kept_fields);
    object
}

fn status(status: &PodStatus) -> Object {
    let mut object = Object::new();
    object.set("phase", status.phase.as_str());
    let conditions = status.conditions.iter().map(|condition| {
        let mut object = Object::new();
        object.set("type", condition.condition_type.as_str());
        object.set("status", condition.status.as_str());
        object.set("lastProbeTime", Value::Null);
        object.set("lastTransitionTime", condition.last_transition_time.map_or(Value::Null, seconds));
        object.set_filled("reason", condition.reason.as_str());
        object.set_filled("message", condition.message.as_str());
        Value::from(object)
    });
    object.set_filled("conditions", conditions.collect::<Vec<_>>());
    object.set_filled("reason", status.reason.as_str());
    object.set_filled("message", status.message.as_str());
    object.set_some("startTime", status.start_time.map(seconds));
    object.set_some("hostIP", status.host_ip.as_deref());
    object.set_some("hostIPs", status.host_ip.as_deref().map(|ip| vec![json!({ "ip": ip })]));
    object.set_some("podIP", status.pod_ips.first().map(String::as_str));
    let pod_ips: Vec<Value> = status.pod_ips.iter().map(|ip| json!({ "ip": ip })).collect();
    object.set_filled("podIPs", pod_ips);
    for (field, statuses) in [
        ("initContainerStatuses", &status.init_container_statuses),
        ("containerStatuses", &status.container_statuses),
    ] {
        object.set_filled(field, statuses.iter().map(container_status).collect::<Vec<_>>());
    }
    object
}

fn container_status(status: &ContainerStatus) -> Value {
    let mut object = Object::new();
    object.set("name", status.name.as_str());
    object.set("state", state(&status.state));
    object.set("lastState", status.last_state.as_ref().map_or_else(|| json!({}), state));
    object.set("ready", status.ready);
    let is_running = matches!(status.state, ContainerState::Running { .. });
    object.set("started", status.started.unwrap_or(is_running));
    object.set("restartCount", status.restart_count);
    object.set("image", status.image.as_str());
    object.set("imageID", status.image_id.as_str());
    object.set_filled("containerID", status.container_id.as_str());
    object.into()
}

fn state(state: &ContainerState) -> Value {
    let mut object = Object::new();
    match state {
        ContainerState::Waiting { reason, message } => {
            object.set_filled("reason", reason.as_str());
            object.set_filled("message", message.as_str());
            json!({ "waiting": Value::from(object) })
        }
        ContainerState::Running { started_at } => {
            object.set_some("startedAt", started_at.map(seconds));
            json!({ "running": Value::from(object) })
        }
        ContainerState::Terminated(termination) => json!({ "terminated": terminated(termination) }),
    }
}

fn terminated(termination: &ContainerTermination) -> Value {
    let mut object = Object::new();
    object.set("exitCode", termination.exit_code);
    object.set_some("signal", (termination.signal != 0).then_some(termination.signal));
    object.set_filled("reason", termination.reason.as_str());
    object.set_filled("message", termination.message.as_str());
    object.set_some("startedAt", termination.started_at.map(seconds));
    object.set_some("finishedAt", termination.finished_at.map(seconds));
    object.into()
}
