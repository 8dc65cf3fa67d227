//! How much people wrote.
//!
//! Owns: counting the bytes of a Job. Does not own: the limit.
//!
//! Invariant: types are taken apart field by field, so that a new field does not compile until somebody counts it.

use crate::container::{Container, EnvFromSource, EnvVar, EnvVarSource, LifecycleHandler, Probe};
use crate::job::Job;
use crate::pod::{HostAlias, PodSpec};
use crate::quantity::Quantity;
use crate::security::{PodSecurityContext, SeccompProfile, SecurityContext};
use crate::volume::{
    DownwardApiFile, DownwardApiSource, KeyToPath, Volume, VolumeMount, VolumeProjection, VolumeSource,
};
use std::collections::BTreeMap;

/// What an item of a list or map takes beside its texts.
const ITEM_BYTES: usize = 8;
/// What a structure takes beside its texts: about the numbers and switches in it.
const STRUCTURE_BYTES: usize = 32;

/// Bytes of everything that people wrote; maps, lists and structures count a little per item.
pub(super) fn job_bytes(job: &Job) -> usize {
    let metadata = &job.metadata;
    let owners: usize = metadata
        .owner_references
        .iter()
        .map(|owner| {
            owner.api_version.len() + owner.kind.len() + owner.name.len() + owner.uid.len() + ITEM_BYTES
        })
        .sum();
    let template = &job.spec.template;
    map(&metadata.labels)
        + map(&metadata.annotations)
        + metadata.generate_name.len()
        + owners
        + map(&template.labels)
        + map(&template.annotations)
        + pod_spec_bytes(&template.spec)
}

/// Bytes of everything in a Pod's spec, by the same count.
pub fn pod_spec_bytes(pod: &PodSpec) -> usize {
    let PodSpec {
        containers,
        init_containers,
        volumes,
        restart_policy: _,
        termination_grace_period_seconds: _,
        node_selector,
        priority: _,
        security_context,
        host_network: _,
        host_pid: _,
        host_ipc: _,
        share_process_namespace: _,
        runtime_class_name,
        hostname,
        subdomain,
        host_aliases,
        kept_fields,
    } = pod;
    sum(containers, container_bytes)
        + sum(init_containers, container_bytes)
        + sum(volumes, volume_bytes)
        + map(node_selector)
        + security_context.as_ref().map_or(0, pod_security_bytes)
        + optional(runtime_class_name)
        + optional(hostname)
        + optional(subdomain)
        + sum(host_aliases, |HostAlias { ip, hostnames }| ip.len() + list(hostnames))
        + map(kept_fields)
}

fn container_bytes(container: &Container) -> usize {
    let Container {
        name,
        image,
        image_pull_policy: _,
        command,
        args,
        env,
        env_from,
        working_dir,
        requests,
        limits,
        volume_mounts,
        security_context,
        restart_policy: _,
        restart_policy_rules,
        lifecycle,
        startup_probe,
        liveness_probe,
        readiness_probe,
        termination_message_path,
        termination_message_policy: _,
        stdin: _,
        stdin_once: _,
        tty: _,
        kept_fields,
    } = container;
    let rules = restart_policy_rules.iter().map(|rule| {
        rule.exit_codes.as_ref().map_or(0, |codes| codes.values.len() * ITEM_BYTES) + STRUCTURE_BYTES
    });
    let hooks = lifecycle.as_ref().map_or(0, |lifecycle| {
        let handlers = lifecycle.post_start.iter().chain(&lifecycle.pre_stop);
        optional(&lifecycle.stop_signal) + handlers.map(handler_bytes).sum::<usize>()
    });
    let probes = [startup_probe, liveness_probe, readiness_probe];
    name.len()
        + image.len()
        + list(command)
        + list(args)
        + sum(env, variable_bytes)
        + sum(env_from, |EnvFromSource { prefix, config_map_name, optional: _ }| {
            prefix.len() + config_map_name.len()
        })
        + working_dir.len()
        + quantities(requests)
        + quantities(limits)
        + sum(volume_mounts, mount_bytes)
        + security_context.as_ref().map_or(0, security_bytes)
        + rules.sum::<usize>()
        + hooks
        + probes.into_iter().flatten().map(probe_bytes).sum::<usize>()
        + termination_message_path.len()
        + map(kept_fields)
}

fn variable_bytes(variable: &EnvVar) -> usize {
    let source = match &variable.value_from {
        None => 0,
        Some(EnvVarSource::FieldRef(field)) => field.field_path.len(),
        Some(EnvVarSource::ResourceFieldRef(field)) => field.container_name.len() + field.resource.len(),
        Some(EnvVarSource::ConfigMapKeyRef(key)) => key.name.len() + key.key.len(),
    };
    variable.name.len() + variable.value.len() + source
}

fn handler_bytes(handler: &LifecycleHandler) -> usize {
    match handler {
        LifecycleHandler::Exec(exec) => list(&exec.command) + STRUCTURE_BYTES,
        LifecycleHandler::Sleep(_) => STRUCTURE_BYTES,
    }
}

fn probe_bytes(probe: &Probe) -> usize {
    list(&probe.exec.command) + STRUCTURE_BYTES
}

fn mount_bytes(mount: &VolumeMount) -> usize {
    mount.name.len() + mount.mount_path.len() + mount.sub_path.len() + mount.sub_path_expr.len()
}

fn volume_bytes(volume: &Volume) -> usize {
    let source = match &volume.source {
        VolumeSource::EmptyDir(empty) => empty.medium.len(),
        VolumeSource::HostPath(host) => host.path.len(),
        VolumeSource::ConfigMap(map) => map.name.len() + sum(&map.items, key_bytes),
        VolumeSource::DownwardApi(fields) => sum(&fields.items, file_bytes),
        VolumeSource::Projected(projected) => sum(&projected.sources, |source| match source {
            VolumeProjection::ConfigMap(map) => map.name.len() + sum(&map.items, key_bytes),
            VolumeProjection::DownwardApi(fields) => sum(&fields.items, file_bytes),
        }),
    };
    volume.name.len() + source + STRUCTURE_BYTES
}

fn key_bytes(item: &KeyToPath) -> usize {
    item.key.len() + item.path.len()
}

fn file_bytes(file: &DownwardApiFile) -> usize {
    let source = match &file.source {
        DownwardApiSource::FieldRef(field) => field.field_path.len(),
        DownwardApiSource::ResourceFieldRef(field) => field.container_name.len() + field.resource.len(),
    };
    file.path.len() + source
}

fn pod_security_bytes(context: &PodSecurityContext) -> usize {
    context.supplemental_groups.len() * ITEM_BYTES
        + optional(&context.fs_group_change_policy)
        + context.seccomp_profile.as_ref().map_or(0, seccomp_bytes)
        + STRUCTURE_BYTES
}

fn security_bytes(context: &SecurityContext) -> usize {
    let capabilities = context.capabilities.as_ref();
    capabilities.map_or(0, |set| list(&set.add) + list(&set.drop))
        + context.seccomp_profile.as_ref().map_or(0, seccomp_bytes)
        + STRUCTURE_BYTES
}

fn seccomp_bytes(profile: &SeccompProfile) -> usize {
    profile.profile_type.as_str().len() + optional(&profile.localhost_profile)
}

fn sum<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> usize {
    items.iter().map(|item| bytes(item) + ITEM_BYTES).sum()
}

fn list(texts: &[String]) -> usize {
    sum(texts, String::len)
}

fn map(texts: &BTreeMap<String, String>) -> usize {
    texts.iter().map(|(key, value)| key.len() + value.len() + ITEM_BYTES).sum()
}

fn quantities(amounts: &BTreeMap<String, Quantity>) -> usize {
    amounts.iter().map(|(key, value)| key.len() + value.as_str().len() + ITEM_BYTES).sum()
}

fn optional(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}
