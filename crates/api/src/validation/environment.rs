//! Whether a container's environment can be accepted, and what it and volumes may refer to.
//!
//! Owns: names of variables, references to fields, resources and keys. Does not own: what they come to (`server`).

use super::pod::PodFacts;
use super::{NOT_NEGATIVE, check_dns_subdomain, check_no_nul, check_qualified_name};
use crate::config_map::check_key;
use crate::container::{Container, EnvVarSource, FieldRef, ResourceFieldRef};
use crate::field_error::{FieldError, FieldErrorKind};
use std::collections::BTreeSet;

/// Fields that a variable may refer to, beside single labels and annotations.
const VARIABLE_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file may refer to, beside single labels and annotations.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 4] = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const CPU_DIVISORS: [&str; 2] = ["1m", "1"];
const MEMORY_DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn validate(
    path: &str,
    container: &Container,
    facts: &PodFacts<'_>,
    errors: &mut Vec<FieldError>,
) {
    for (position, source) in container.env_from.iter().enumerate() {
        let path = format!("{path}.envFrom[{position}]");
        if !source.prefix.is_empty() {
            check_variable_name(format!("{path}.prefix"), &source.prefix, errors);
        }
        check_config_map_name(format!("{path}.configMapRef.name"), &source.config_map_name, errors);
    }
    for (position, variable) in container.env.iter().enumerate() {
        let path = format!("{path}.env[{position}]");
        check_variable_name(format!("{path}.name"), &variable.name, errors);
        check_no_nul(format!("{path}.value"), &variable.value, errors);
        let Some(source) = &variable.value_from else { continue };
        let path = format!("{path}.valueFrom");
        if !variable.value.is_empty() {
            let detail = "may not be specified when `value` is not empty";
            errors.push(FieldError::invalid_text(path.as_str(), "", detail));
        }
        match source {
            EnvVarSource::FieldRef(field) => {
                check_field(&format!("{path}.fieldRef"), field, &VARIABLE_FIELDS, errors);
            }
            EnvVarSource::ResourceFieldRef(field) => {
                check_resource(&format!("{path}.resourceFieldRef"), field, &facts.containers, errors);
            }
            EnvVarSource::ConfigMapKeyRef(key) => {
                let path = format!("{path}.configMapKeyRef");
                check_config_map_name(format!("{path}.name"), &key.name, errors);
                check_config_map_key(format!("{path}.key"), &key.key, errors);
            }
        }
    }
}

/// A reference of a file of the downward API.
pub(super) fn check_file_field(path: &str, field: &FieldRef, errors: &mut Vec<FieldError>) {
    check_field(path, field, &FILE_FIELDS, errors);
}

pub(super) fn check_resource(
    path: &str,
    field: &ResourceFieldRef,
    containers: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let container = field.container_name.as_str();
    if !container.is_empty() && !containers.contains(container) {
        let kind = FieldErrorKind::NotFound { value: container.to_owned() };
        errors.push(FieldError { field: format!("{path}.containerName"), kind });
    }
    let resource = field.resource.as_str();
    if resource.is_empty() {
        errors.push(FieldError::required(format!("{path}.resource"), ""));
    } else if !RESOURCES.contains(&resource) {
        errors.push(FieldError::unsupported(format!("{path}.resource"), resource, &RESOURCES));
    }
    let Some(divisor) = &field.divisor else { return };
    let field = format!("{path}.divisor");
    let (known, unit) = if resource.ends_with(".cpu") {
        (&CPU_DIVISORS[..], "cpu")
    } else {
        (&MEMORY_DIVISORS[..], "memory")
    };
    if divisor.millis() < 0 {
        errors.push(FieldError::invalid_text(field, divisor.as_str(), NOT_NEGATIVE));
    } else if divisor.millis() != 0 && !known.contains(&divisor.as_str()) {
        let detail =
            format!("only divisor's values {} are supported with the {unit} resource", known.join(", "));
        errors.push(FieldError::invalid_text(field, divisor.as_str(), detail));
    }
}

pub(super) fn check_config_map_name(field: String, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if let Err(problem) = check_dns_subdomain(name) {
        errors.push(FieldError::invalid_text(field, name, problem));
    }
}

pub(super) fn check_config_map_key(field: String, key: &str, errors: &mut Vec<FieldError>) {
    if key.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if let Err(problem) = check_key(key) {
        errors.push(FieldError::invalid_text(field, key, problem));
    }
}

fn check_variable_name(field: String, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if name.bytes().any(|byte| !(b' '..=b'~').contains(&byte) || byte == b'=') {
        let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(FieldError::invalid_text(field, name, detail));
    }
}

fn check_field(path: &str, field: &FieldRef, known: &[&'static str], errors: &mut Vec<FieldError>) {
    let text = field.field_path.as_str();
    let field = format!("{path}.fieldPath");
    if text.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if let Some((subject, key)) = field_key(text) {
        if !matches!(subject, "metadata.labels" | "metadata.annotations") {
            errors.push(FieldError::invalid_text(field, text, "does not support subscript"));
        } else if let Err(problem) = check_qualified_name(&key.to_ascii_lowercase()) {
            errors.push(FieldError::invalid_text(field, key, problem));
        }
    } else if !known.contains(&text) {
        errors.push(FieldError::unsupported(field, text, known));
    }
}

/// Splits `metadata.labels['key']` into the field and the key.
fn field_key(text: &str) -> Option<(&str, &str)> {
    let (subject, rest) = text.split_once("['")?;
    Some((subject, rest.strip_suffix("']")?))
}
