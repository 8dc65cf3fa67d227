//! Whether a Pod's spec can be accepted (table 1.6).
//!
//! Owns: its own fields, names that must be unique, what is accepted without effect. Does not own: its parts.

use super::volume::VolumeNames;
use super::{
    NOT_NEGATIVE, check_count, check_dns_label, check_dns_subdomain, container, security, validate_labels,
    volume,
};
use crate::container::Container;
use crate::field_error::{FieldError, FieldErrorKind};
use crate::limits;
use crate::pod::{HostAlias, KEPT_POD_FIELDS, PodSpec, RUNTIME_CLASSES, RestartPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a container of a Pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// One of `containers`.
    App,
    /// One of `initContainers`, run to its end.
    Init,
    /// One of `initContainers` that stays (P7).
    Sidecar,
}

impl Role {
    fn of_init(container: &Container) -> Role {
        match container.restart_policy {
            Some(RestartPolicy::Always) => Role::Sidecar,
            _ => Role::Init,
        }
    }
}

/// What the checks of a container need to know of its Pod.
pub(super) struct PodFacts<'a> {
    pub volumes: VolumeNames<'a>,
    pub containers: BTreeSet<&'a str>,
    pub grace_seconds: i64,
    /// `runtimeClassName` is `process`.
    pub is_process: bool,
}

pub(super) fn validate(path: &str, pod: &PodSpec, errors: &mut Vec<FieldError>) {
    let all = || pod.init_containers.iter().chain(&pod.containers);
    let facts = PodFacts {
        volumes: VolumeNames::of(&pod.volumes),
        containers: all().map(|container| container.name.as_str()).collect(),
        grace_seconds: pod.termination_grace_period_seconds.unwrap_or(limits::GRACE_PERIOD_SECONDS_DEFAULT),
        is_process: pod.runtime_class_name.as_deref() == Some("process"),
    };
    volume::validate_all(&format!("{path}.volumes"), &pod.volumes, &facts.containers, errors);
    if pod.containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let count = pod.containers.len() + pod.init_containers.len();
    if !check_count(format!("{path}.containers"), count, limits::CONTAINERS_MAX, errors) {
        return;
    }
    let mut names = BTreeSet::new();
    for (position, one) in pod.init_containers.iter().enumerate() {
        let path = format!("{path}.initContainers[{position}]");
        container::validate(&path, one, Role::of_init(one), &facts, errors);
        check_unique(&path, &one.name, &mut names, errors);
    }
    for (position, one) in pod.containers.iter().enumerate() {
        let path = format!("{path}.containers[{position}]");
        container::validate(&path, one, Role::App, &facts, errors);
        check_unique(&path, &one.name, &mut names, errors);
    }
    validate_restart_policy(path, pod, errors);
    validate_grace(path, pod, errors);
    if let Some(priority) = pod.priority.filter(|priority| *priority > limits::PRIORITY_MAX) {
        let detail = format!("must be less than or equal to {}", limits::PRIORITY_MAX);
        errors.push(FieldError::invalid(format!("{path}.priority"), priority, detail));
    }
    validate_labels(&format!("{path}.nodeSelector"), &pod.node_selector, errors);
    if pod.host_pid && pod.share_process_namespace == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(format!("{path}.shareProcessNamespace"), true, detail));
    }
    for (field, name) in [("hostname", &pod.hostname), ("subdomain", &pod.subdomain)] {
        if let Some(name) = name
            && let Err(problem) = check_dns_label(name)
        {
            errors.push(FieldError::invalid_text(format!("{path}.{field}"), name, problem));
        }
    }
    if let Some(class) = &pod.runtime_class_name
        && !RUNTIME_CLASSES.contains(&class.as_str())
    {
        errors.push(FieldError::unsupported(format!("{path}.runtimeClassName"), class, &RUNTIME_CLASSES));
    }
    if let Some(context) = &pod.security_context {
        security::validate_pod(&format!("{path}.securityContext"), context, errors);
    }
    validate_host_aliases(&format!("{path}.hostAliases"), &pod.host_aliases, errors);
    validate_kept_fields(path, &pod.kept_fields, &KEPT_POD_FIELDS, errors);
}

/// Each becomes a line of a file, in which nothing else may be said.
fn validate_host_aliases(path: &str, aliases: &[HostAlias], errors: &mut Vec<FieldError>) {
    for (position, alias) in aliases.iter().enumerate() {
        let path = format!("{path}[{position}]");
        if alias.ip.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid_text(format!("{path}.ip"), &alias.ip, detail));
        }
        for (position, name) in alias.hostnames.iter().enumerate() {
            if let Err(problem) = check_dns_subdomain(name) {
                errors.push(FieldError::invalid_text(format!("{path}.hostnames[{position}]"), name, problem));
            }
        }
    }
}

/// D10: what would change a Pod must not slip in among the fields without effect.
pub(super) fn validate_kept_fields(
    path: &str,
    kept: &BTreeMap<String, String>,
    known: &[&str],
    errors: &mut Vec<FieldError>,
) {
    for name in kept.keys().filter(|name| !known.contains(&name.as_str())) {
        errors.push(FieldError::forbidden(format!("{path}.{name}"), "not supported: leave it out"));
    }
}

/// What of a Pod is accepted without having the effect that its author may expect.
pub(super) fn warn(pod: &PodSpec, default_runtime: Option<&str>, warnings: &mut Vec<String>) {
    let asked = pod.runtime_class_name.as_deref();
    let why_not_pulled = match (asked, asked.or(default_runtime)) {
        (Some("process"), _) => Some("runtimeClassName is process"),
        (None, Some("process")) => Some("the cluster runs Pods without a runtimeClassName as processes"),
        (None, None) => Some("a node whose runtime is process does not use images"),
        _ => None,
    };
    for (field, containers) in [("initContainers", &pod.init_containers), ("containers", &pod.containers)] {
        for (position, container) in containers.iter().enumerate() {
            let path = format!("spec.template.spec.{field}[{position}]");
            if let Some(cause) = why_not_pulled.filter(|_| !container.image.is_empty()) {
                let image = &container.image;
                warnings.push(format!("{path}.image: image {image:?} is not pulled: {cause}"));
            }
            if field == "containers" && container.restart_policy == Some(RestartPolicy::Always) {
                warnings.push(format!(
                    "{path}.restartPolicy: with Always the container never ends by itself, nor does its Pod"
                ));
            }
            for kept in container.kept_fields.keys() {
                warnings.push(format!("{path}.{kept}: kept without effect"));
            }
        }
    }
    for field in pod.kept_fields.keys() {
        let instead = match field.as_str() {
            "imagePullSecrets" => {
                ": there are no secrets; nodes have credentials of their own (--registry-credentials)"
            }
            _ => "",
        };
        warnings.push(format!("spec.template.spec.{field}: kept without effect{instead}"));
    }
}

fn check_unique<'a>(path: &str, name: &'a str, names: &mut BTreeSet<&'a str>, errors: &mut Vec<FieldError>) {
    if !name.is_empty() && !names.insert(name) {
        let kind = FieldErrorKind::Duplicate { value: name.to_owned() };
        errors.push(FieldError { field: format!("{path}.name"), kind });
    }
}

fn validate_restart_policy(path: &str, pod: &PodSpec, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.restartPolicy");
    match &pod.restart_policy {
        Some(RestartPolicy::Never | RestartPolicy::OnFailure) => {}
        // V16
        None | Some(RestartPolicy::Always) => {
            errors.push(FieldError::required(field, r#"valid values: "OnFailure", "Never""#));
        }
        // V17
        Some(RestartPolicy::Other(text)) => {
            errors.push(FieldError::unsupported(field, text, &["OnFailure", "Never"]));
        }
    }
}

fn validate_grace(path: &str, pod: &PodSpec, errors: &mut Vec<FieldError>) {
    let Some(grace) = pod.termination_grace_period_seconds else { return };
    let field = format!("{path}.terminationGracePeriodSeconds");
    if grace < 0 {
        errors.push(FieldError::invalid(field, grace, NOT_NEGATIVE));
    } else if grace > limits::GRACE_PERIOD_SECONDS_MAX {
        let detail = format!("must be less than or equal to {}", limits::GRACE_PERIOD_SECONDS_MAX);
        errors.push(FieldError::invalid(field, grace, detail));
    }
}
