//! Kubernetes' Pod template as ours: table 1.6 of the Job semantics, stage 1.
//!
//! Owns: which fields of a Pod are honoured, kept or refused. Does not own: their values' validity (crate `api`).
//!
//! Invariant: as in [`super::job`], every field of Kubernetes' types is named here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use stint_api::{Container, EnvVar, PodSpec, PodTemplateSpec};

use super::convert::{Refusals, keep, quantities, says, says_object};

const POD: &str = "spec.template.spec";
/// What Kubernetes fills in; nothing is read from there.
const TERMINATION_MESSAGE_PATH_DEFAULT: &str = "/dev/termination-log";

/// Converts a Pod template; what is refused is noted.
pub(super) fn template_of(from: core::PodTemplateSpec, refusals: &mut Refusals) -> PodTemplateSpec {
    let meta = from.metadata.unwrap_or_default();
    if says(&meta.finalizers) {
        refusals.never("spec.template.metadata.finalizers");
    }
    if says(&meta.owner_references) {
        refusals.never("spec.template.metadata.ownerReferences");
    }
    // Name and namespace of a template have no effect in Kubernetes either: Pods get theirs from the Job.
    PodTemplateSpec {
        labels: meta.labels.unwrap_or_default(),
        annotations: meta.annotations.unwrap_or_default(),
        spec: pod_spec(from.spec.unwrap_or_default(), refusals),
    }
}

fn pod_spec(from: core::PodSpec, refusals: &mut Refusals) -> PodSpec {
    let core::PodSpec {
        active_deadline_seconds,
        affinity,
        automount_service_account_token,
        containers,
        dns_config,
        dns_policy,
        enable_service_links,
        ephemeral_containers,
        host_aliases,
        host_ipc,
        host_network,
        host_pid,
        host_users,
        hostname,
        hostname_override,
        image_pull_secrets,
        init_containers,
        node_name,
        node_selector,
        os,
        overhead,
        preemption_policy,
        priority,
        priority_class_name,
        readiness_gates,
        resource_claims,
        resources,
        restart_policy,
        runtime_class_name,
        scheduler_name,
        scheduling_gates,
        security_context,
        service_account,
        service_account_name,
        set_hostname_as_fqdn,
        share_process_namespace,
        subdomain,
        termination_grace_period_seconds,
        tolerations,
        topology_spread_constraints,
        volumes,
    } = from;
    let only_node_affinity = affinity.as_ref().is_none_or(|affinity| {
        !says_object(&affinity.pod_affinity) && !says_object(&affinity.pod_anti_affinity)
    });
    for (field, is_given) in [
        ("activeDeadlineSeconds", active_deadline_seconds.is_some()),
        ("affinity", says_object(&affinity) && only_node_affinity),
        ("hostIPC", says(&host_ipc)),
        ("hostNetwork", says(&host_network)),
        ("hostPID", says(&host_pid)),
        ("hostname", says(&hostname)),
        ("initContainers", says(&init_containers)),
        ("runtimeClassName", says(&runtime_class_name)),
        ("securityContext", says_object(&security_context)),
        ("shareProcessNamespace", says(&share_process_namespace)),
        ("subdomain", says(&subdomain)),
        ("tolerations", says(&tolerations)),
        ("volumes", says(&volumes)),
    ] {
        if is_given {
            refusals.not_yet(&format!("{POD}.{field}"));
        }
    }
    for (field, is_given) in [
        ("affinity", !only_node_affinity),
        ("ephemeralContainers", says(&ephemeral_containers)),
        ("hostUsers", host_users == Some(false)),
        ("hostnameOverride", says(&hostname_override)),
        ("nodeName", says(&node_name)),
        ("priorityClassName", says(&priority_class_name)),
        ("resourceClaims", says(&resource_claims)),
        ("resources", says_object(&resources)),
        ("schedulingGates", says(&scheduling_gates)),
        ("topologySpreadConstraints", says(&topology_spread_constraints)),
    ] {
        if is_given {
            refusals.never(&format!("{POD}.{field}"));
        }
    }
    let mut kept_fields = BTreeMap::new();
    let kept = &mut kept_fields;
    keep(kept, "automountServiceAccountToken", automount_service_account_token);
    keep(kept, "dnsConfig", dns_config);
    keep(kept, "dnsPolicy", dns_policy);
    keep(kept, "enableServiceLinks", enable_service_links);
    keep(kept, "hostAliases", host_aliases);
    keep(kept, "imagePullSecrets", image_pull_secrets);
    keep(kept, "os", os);
    keep(kept, "overhead", overhead);
    keep(kept, "preemptionPolicy", preemption_policy);
    keep(kept, "readinessGates", readiness_gates);
    keep(kept, "schedulerName", scheduler_name);
    keep(kept, "serviceAccount", service_account);
    keep(kept, "serviceAccountName", service_account_name);
    keep(kept, "setHostnameAsFQDN", set_hostname_as_fqdn);
    let containers = containers.into_iter().enumerate();
    PodSpec {
        containers: containers
            .map(|(index, one)| container(one, &format!("{POD}.containers[{index}]"), refusals))
            .collect(),
        restart_policy: restart_policy.filter(|text| !text.is_empty()).as_deref().map(Into::into),
        termination_grace_period_seconds,
        node_selector: node_selector.unwrap_or_default(),
        priority,
        kept_fields,
        ..PodSpec::default()
    }
}

fn container(from: core::Container, path: &str, refusals: &mut Refusals) -> Container {
    let core::Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
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
    let differs =
        |field: Option<String>, default: &str| field.is_some_and(|text| !text.is_empty() && text != default);
    for (field, is_given) in [
        ("envFrom", says(&env_from)),
        ("lifecycle", says_object(&lifecycle)),
        ("livenessProbe", liveness_probe.is_some()),
        ("readinessProbe", readiness_probe.is_some()),
        ("restartPolicy", says(&restart_policy)),
        ("restartPolicyRules", says(&restart_policy_rules)),
        ("securityContext", says_object(&security_context)),
        ("startupProbe", startup_probe.is_some()),
        ("terminationMessagePath", differs(termination_message_path, TERMINATION_MESSAGE_PATH_DEFAULT)),
        ("terminationMessagePolicy", differs(termination_message_policy, "File")),
        ("volumeMounts", says(&volume_mounts)),
    ] {
        if is_given {
            refusals.not_yet(&format!("{path}.{field}"));
        }
    }
    for (field, is_given) in [
        ("resizePolicy", says(&resize_policy)),
        ("resources.claims", says(&resources.claims)),
        ("stdin", says(&stdin)),
        ("stdinOnce", says(&stdin_once)),
        ("tty", says(&tty)),
        ("volumeDevices", says(&volume_devices)),
    ] {
        if is_given {
            refusals.never(&format!("{path}.{field}"));
        }
    }
    let mut kept_fields = BTreeMap::new();
    keep(&mut kept_fields, "ports", ports);
    Container {
        name,
        image: image.unwrap_or_default(),
        image_pull_policy: image_pull_policy.filter(|text| !text.is_empty()).as_deref().map(Into::into),
        command: command.unwrap_or_default(),
        args: args.unwrap_or_default(),
        env: environment(env.unwrap_or_default(), path, refusals),
        working_dir: working_dir.unwrap_or_default(),
        requests: quantities(resources.requests, &format!("{path}.resources.requests"), refusals),
        limits: quantities(resources.limits, &format!("{path}.resources.limits"), refusals),
        kept_fields,
        ..Container::default()
    }
}

fn environment(from: Vec<core::EnvVar>, path: &str, refusals: &mut Refusals) -> Vec<EnvVar> {
    let variable = |(index, variable): (usize, core::EnvVar)| {
        let core::EnvVar { name, value, value_from } = variable;
        if value_from.is_some() {
            refusals.not_yet(&format!("{path}.env[{index}].valueFrom"));
        }
        EnvVar { name, value: value.unwrap_or_default(), value_from: None }
    };
    from.into_iter().enumerate().map(variable).collect()
}
