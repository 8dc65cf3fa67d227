//! Pods and their templates.

use serde_json::{Value, json};
use stint_api::{
    Container, ContainerState, ContainerStatus, ContainerTermination, ImagePullPolicy, Pod, PodSpec,
    PodStatus, PodTemplateSpec, RestartPolicy,
};

use super::Object;
use super::meta::{metadata, quantities, seconds, set_kept, strings};

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
    object.set("containers", spec.containers.iter().map(container).collect::<Vec<_>>());
    object.set_some("restartPolicy", spec.restart_policy.as_ref().map(RestartPolicy::as_str));
    object.set_some("terminationGracePeriodSeconds", spec.termination_grace_period_seconds);
    object.set_filled("nodeSelector", strings(&spec.node_selector));
    object.set_some("priority", spec.priority);
    set_kept(&mut object, &spec.kept_fields);
    object
}

fn container(container: &Container) -> Value {
    let mut object = Object::new();
    object.set("name", container.name.as_str());
    object.set_filled("image", container.image.as_str());
    object.set_filled("command", container.command.clone());
    object.set_filled("args", container.args.clone());
    object.set_filled("workingDir", container.working_dir.as_str());
    let variables = container.env.iter().map(|variable| {
        let mut object = Object::new();
        object.set("name", variable.name.as_str());
        object.set_filled("value", variable.value.as_str());
        Value::from(object)
    });
    object.set_filled("env", variables.collect::<Vec<_>>());
    let mut resources = Object::new();
    resources.set_filled("limits", quantities(&container.limits));
    resources.set_filled("requests", quantities(&container.requests));
    object.set("resources", resources);
    object.set_some("imagePullPolicy", container.image_pull_policy.as_ref().map(ImagePullPolicy::as_str));
    set_kept(&mut object, &container.kept_fields);
    object.into()
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
    object.set_filled(
        "containerStatuses",
        status.container_statuses.iter().map(container_status).collect::<Vec<_>>(),
    );
    object
}

fn container_status(status: &ContainerStatus) -> Value {
    json!({
        "name": status.name,
        "state": state(&status.state),
        "lastState": status.last_state.as_ref().map_or_else(|| json!({}), state),
        "ready": status.ready,
        "started": matches!(status.state, ContainerState::Running { .. }),
        "restartCount": status.restart_count,
        "image": status.image,
        "imageID": "",
    })
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
