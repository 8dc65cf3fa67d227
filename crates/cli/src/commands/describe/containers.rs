//! Containers and volumes, of a template or of a Pod with what became of them.

use std::collections::BTreeMap;
use stint_api::{
    Container, ContainerState, ContainerStatus, ContainerTermination, EnvVar, EnvVarSource, ExecAction,
    LifecycleHandler, PodSpec, Probe, Quantity, Volume, VolumeMount, VolumeSource,
};

use super::moment;
use crate::sheet::Sheet;

/// All containers of a Pod or a template. `status` finds what became of one.
pub fn containers<'a>(
    sheet: &mut Sheet,
    spec: &PodSpec,
    status: impl Fn(&str) -> Option<&'a ContainerStatus>,
) {
    for (name, containers) in [("Init Containers", &spec.init_containers), ("Containers", &spec.containers)] {
        if !containers.is_empty() {
            sheet.part(name, |sheet| {
                for container in containers {
                    sheet.part(&container.name, |sheet| one(sheet, container, status(&container.name)));
                }
            });
        }
    }
}

fn one(sheet: &mut Sheet, container: &Container, status: Option<&ContainerStatus>) {
    if let Some(status) = status {
        sheet.field_if("Container ID", &status.container_id);
    }
    sheet.field_if("Image", &container.image);
    if let Some(status) = status {
        sheet.field_if("Image ID", &status.image_id);
    }
    if !container.command.is_empty() {
        sheet.list("Command", container.command.iter().cloned());
    }
    if !container.args.is_empty() {
        sheet.list("Args", container.args.iter().cloned());
    }
    sheet.field_if("Working Folder", &container.working_dir);
    if let Some(policy) = &container.restart_policy {
        sheet.field("Restart Policy", policy.as_str());
    }
    if let Some(status) = status {
        state(sheet, "State", &status.state);
        if let Some(last) = &status.last_state {
            state(sheet, "Last State", last);
        }
        sheet.field("Ready", status.ready.to_string());
        sheet.field("Restart Count", status.restart_count.to_string());
    }
    amounts(sheet, "Limits", &container.limits);
    amounts(sheet, "Requests", &container.requests);
    for (name, found) in [
        ("Startup", &container.startup_probe),
        ("Liveness", &container.liveness_probe),
        ("Readiness", &container.readiness_probe),
    ] {
        if let Some(found) = found {
            sheet.field(name, probe(found));
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        for (name, handler) in [("Post Start", &lifecycle.post_start), ("Pre Stop", &lifecycle.pre_stop)] {
            if let Some(handler) = handler {
                sheet.field(name, hook(handler));
            }
        }
    }
    let from = container.env_from.iter().map(|source| {
        let prefix = if source.prefix.is_empty() { "" } else { " with prefix " };
        format!("{} (ConfigMap){prefix}{}", source.config_map_name, source.prefix)
    });
    if !container.env_from.is_empty() {
        sheet.list("Environment From", from);
    }
    sheet.list("Environment", container.env.iter().map(variable));
    sheet.list("Mounts", container.volume_mounts.iter().map(mount));
}

fn state(sheet: &mut Sheet, name: &str, state: &ContainerState) {
    match state {
        ContainerState::Waiting { reason, message } => {
            sheet.field(name, "Waiting");
            sheet.field_if("  Reason", reason);
            sheet.field_if("  Message", message);
        }
        ContainerState::Running { started_at } => {
            sheet.field(name, "Running");
            sheet.field_if("  Started", moment(*started_at));
        }
        ContainerState::Terminated(end) => {
            let ContainerTermination { exit_code, signal, reason, message, started_at, finished_at } = end;
            sheet.field(name, "Terminated");
            sheet.field_if("  Reason", reason);
            sheet.field_if("  Message", message.trim_end());
            sheet.field("  Exit Code", exit_code.to_string());
            sheet.field_if("  Signal", if *signal > 0 { signal.to_string() } else { String::new() });
            sheet.field_if("  Started", moment(*started_at));
            sheet.field_if("  Finished", moment(*finished_at));
        }
    }
}

fn amounts(sheet: &mut Sheet, name: &str, amounts: &BTreeMap<String, Quantity>) {
    if !amounts.is_empty() {
        sheet.list(name, amounts.iter().map(|(resource, amount)| format!("{resource}: {amount}")));
    }
}

fn words(action: &ExecAction) -> String {
    format!("exec [{}]", action.command.join(" "))
}

/// In the form that kubectl has for it.
fn probe(probe: &Probe) -> String {
    format!(
        "{} delay={}s timeout={}s period={}s #success={} #failure={}",
        words(&probe.exec),
        probe.initial_delay_seconds,
        probe.timeout_seconds,
        probe.period_seconds,
        probe.success_threshold,
        probe.failure_threshold
    )
}

fn hook(handler: &LifecycleHandler) -> String {
    match handler {
        LifecycleHandler::Exec(action) => words(action),
        LifecycleHandler::Sleep(sleep) => format!("sleep {}s", sleep.seconds),
    }
}

fn variable(variable: &EnvVar) -> String {
    let name = &variable.name;
    match &variable.value_from {
        None => format!("{name}: {}", variable.value),
        Some(EnvVarSource::FieldRef(field)) => format!("{name}: ({})", field.field_path),
        Some(EnvVarSource::ResourceFieldRef(field)) => format!("{name}: ({})", field.resource),
        Some(EnvVarSource::ConfigMapKeyRef(key)) => {
            format!("{name}: <key {} of ConfigMap {}>", key.key, key.name)
        }
    }
}

fn mount(mount: &VolumeMount) -> String {
    let access = if mount.read_only { "ro" } else { "rw" };
    let path = [&mount.sub_path, &mount.sub_path_expr].into_iter().find(|path| !path.is_empty());
    let path = path.map(|path| format!(", path {path:?}")).unwrap_or_default();
    format!("{} from {} ({access}{path})", mount.mount_path, mount.name)
}

/// What the mounts are from.
pub fn volumes(sheet: &mut Sheet, volumes: &[Volume]) {
    sheet
        .list("Volumes", volumes.iter().map(|volume| format!("{}: {}", volume.name, source(&volume.source))));
}

fn source(source: &VolumeSource) -> String {
    match source {
        VolumeSource::EmptyDir(volume) => {
            let medium = if volume.medium.is_empty() { "disk" } else { volume.medium.as_str() };
            let limit = volume.size_limit.as_ref().map(|limit| format!(", at most {limit}"));
            format!("EmptyDir on {medium}{}", limit.unwrap_or_default())
        }
        VolumeSource::HostPath(volume) => format!("HostPath {}", volume.path),
        VolumeSource::ConfigMap(volume) => format!("ConfigMap {}", volume.name),
        VolumeSource::DownwardApi(_) => "DownwardAPI".to_owned(),
        VolumeSource::Projected(volume) => format!("Projected from {} sources", volume.sources.len()),
    }
}
