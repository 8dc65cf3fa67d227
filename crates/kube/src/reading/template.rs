//! Kubernetes' Pod template as ours: table 1.6 of the Job semantics.
//!
//! Owns: which fields of a Pod are honoured, kept or refused. Does not own: fields of containers ([`super::container`]), volumes
//! ([`super::volume`]) and security contexts ([`super::security`]), their values' validity (crate `api`).
//!
//! Invariant: as in [`super::job`], every field of Kubernetes' types is named here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use stint_api::{HostAlias, PodSpec, PodTemplateSpec};

use super::container::container;
use super::convert::{Refusals, keep, says, says_object, stated};
use super::security::pod_security_context;
use super::volume::volume;

const POD: &str = "spec.template.spec";

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
        ("tolerations", says(&tolerations)),
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
    keep(kept, "imagePullSecrets", image_pull_secrets);
    keep(kept, "os", os);
    keep(kept, "overhead", overhead);
    keep(kept, "preemptionPolicy", preemption_policy);
    keep(kept, "readinessGates", readiness_gates);
    keep(kept, "schedulerName", scheduler_name);
    keep(kept, "serviceAccount", service_account);
    keep(kept, "serviceAccountName", service_account_name);
    keep(kept, "setHostnameAsFQDN", set_hostname_as_fqdn);
    let mut each = |field: &str, containers: Vec<core::Container>| {
        let one = |(index, one)| container(one, &format!("{POD}.{field}[{index}]"), refusals);
        containers.into_iter().enumerate().map(one).collect()
    };
    let containers = each("containers", containers);
    let init_containers = each("initContainers", init_containers.unwrap_or_default());
    let volumes = volumes.unwrap_or_default().into_iter().enumerate();
    PodSpec {
        containers,
        init_containers,
        volumes: volumes
            .filter_map(|(index, one)| volume(one, &format!("{POD}.volumes[{index}]"), refusals))
            .collect(),
        restart_policy: restart_policy.filter(|text| !text.is_empty()).as_deref().map(Into::into),
        termination_grace_period_seconds,
        node_selector: node_selector.unwrap_or_default(),
        priority,
        security_context: security_context
            .and_then(|one| stated(pod_security_context(one, &format!("{POD}.securityContext"), refusals))),
        host_network: host_network.unwrap_or_default(),
        host_pid: host_pid.unwrap_or_default(),
        host_ipc: host_ipc.unwrap_or_default(),
        share_process_namespace,
        runtime_class_name: runtime_class_name.filter(|text| !text.is_empty()),
        hostname: hostname.filter(|text| !text.is_empty()),
        subdomain: subdomain.filter(|text| !text.is_empty()),
        host_aliases: host_aliases.unwrap_or_default().into_iter().map(host_alias).collect(),
        kept_fields,
    }
}

fn host_alias(from: core::HostAlias) -> HostAlias {
    let core::HostAlias { ip, hostnames } = from;
    HostAlias { ip, hostnames: hostnames.unwrap_or_default() }
}
