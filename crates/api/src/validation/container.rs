//! Whether a container can be accepted (table 1.6).
//!
//! Owns: names, image, command, resources, mounts, restart policy and rules (P10). Does not own: environment
//! ([`super::environment`]), probes and hooks ([`super::hooks`]), privileges ([`super::security`]).

use super::pod::{PodFacts, Role, validate_kept_fields};
use super::volume::validate_mounts;
use super::{NOT_NEGATIVE, check_count, check_dns_label, check_no_nul, check_word};
use super::{environment, hooks, security};
use crate::container::{
    Container, ExitCodeOperator, ImagePullPolicy, KEPT_CONTAINER_FIELDS, RestartRuleAction,
    TerminationMessagePolicy,
};
use crate::field_error::FieldError;
use crate::limits;
use crate::quantity::Quantity;
use std::collections::BTreeMap;

pub(super) fn validate(
    path: &str,
    container: &Container,
    role: Role,
    facts: &PodFacts<'_>,
    errors: &mut Vec<FieldError>,
) {
    if container.name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else if let Err(problem) = check_dns_label(&container.name) {
        errors.push(FieldError::invalid_text(format!("{path}.name"), &container.name, problem));
    }
    validate_image(path, container, facts, errors);
    if container.command.is_empty() && facts.is_process {
        let detail = "the entrypoint is in the image, which the runtime process does not use";
        errors.push(FieldError::required(format!("{path}.command"), detail));
    }
    for (field, texts) in [("command", &container.command), ("args", &container.args)] {
        for (position, text) in texts.iter().enumerate() {
            check_no_nul(format!("{path}.{field}[{position}]"), text, errors);
        }
    }
    check_no_nul(format!("{path}.workingDir"), &container.working_dir, errors);
    environment::validate(path, container, facts, errors);
    validate_resources(path, container, errors);
    validate_mounts(path, container, &facts.volumes, errors);
    hooks::validate(path, container, role, facts.grace_seconds, errors);
    validate_restart_policy(path, container, errors);
    validate_termination_message(path, container, errors);
    if let Some(context) = &container.security_context {
        security::validate_container(&format!("{path}.securityContext"), context, errors);
    }
    validate_kept_fields(path, &container.kept_fields, &KEPT_CONTAINER_FIELDS, errors);
}

fn validate_image(path: &str, container: &Container, facts: &PodFacts<'_>, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.image");
    if container.image.is_empty() && facts.is_process {
        // Kubernetes wants one from everybody; a process can't be made from it, whatever it is.
    } else if container.image.trim().is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if container.image.trim() != container.image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid_text(field, &container.image, detail));
    } else {
        check_no_nul(field, &container.image, errors);
    }
    if let Some(policy) = &container.image_pull_policy {
        check_word(format!("{path}.imagePullPolicy"), policy.as_str(), ImagePullPolicy::KNOWN, errors);
    }
}

/// P10.
fn validate_restart_policy(path: &str, container: &Container, errors: &mut Vec<FieldError>) {
    let field = format!("{path}.restartPolicy");
    let rules = &container.restart_policy_rules;
    match &container.restart_policy {
        Some(policy) => check_word(field, policy.as_str(), &["Always", "Never", "OnFailure"], errors),
        None if !rules.is_empty() => {
            errors
                .push(FieldError::required(field, "must specify restartPolicy when restart rules are used"));
        }
        None => {}
    }
    let path = format!("{path}.restartPolicyRules");
    if !check_count(path.clone(), rules.len(), limits::RESTART_RULES_MAX, errors) {
        return;
    }
    for (position, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{position}]");
        check_word(format!("{path}.action"), rule.action.as_str(), RestartRuleAction::KNOWN, errors);
        let Some(codes) = &rule.exit_codes else {
            errors.push(FieldError::required(format!("{path}.exitCodes"), "must be specified"));
            continue;
        };
        let path = format!("{path}.exitCodes");
        check_word(format!("{path}.operator"), codes.operator.as_str(), ExitCodeOperator::KNOWN, errors);
        if codes.values.is_empty() {
            errors.push(FieldError::required(format!("{path}.values"), "at least one value is required"));
        }
        check_count(format!("{path}.values"), codes.values.len(), limits::EXIT_CODES_MAX, errors);
    }
}

/// P12.
fn validate_termination_message(path: &str, container: &Container, errors: &mut Vec<FieldError>) {
    let file = &container.termination_message_path;
    let field = format!("{path}.terminationMessagePath");
    if !file.is_empty() {
        if !file.starts_with('/') {
            errors.push(FieldError::invalid_text(field.as_str(), file, "must be an absolute path"));
        } else if file.ends_with('/') || file.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid_text(
                field.as_str(),
                file,
                "must be the path of a file, without '..'",
            ));
        }
        check_no_nul(field, file, errors);
    }
    if let Some(policy) = &container.termination_message_policy {
        let field = format!("{path}.terminationMessagePolicy");
        check_word(field, policy.as_str(), TerminationMessagePolicy::KNOWN, errors);
    }
}

fn validate_resources(path: &str, container: &Container, errors: &mut Vec<FieldError>) {
    let check = |field: &str, amounts: &BTreeMap<String, Quantity>, errors: &mut Vec<FieldError>| {
        for (resource, amount) in amounts {
            let field = format!("{path}.resources.{field}[{resource}]");
            if !matches!(resource.as_str(), "cpu" | "memory") {
                errors.push(FieldError::unsupported(field, resource, &["cpu", "memory"]));
            } else if amount.millis() < 0 {
                errors.push(FieldError::invalid_text(field, amount.as_str(), NOT_NEGATIVE));
            } else if amount_of(resource, amount) > i128::from(limits::REQUEST_MAX) {
                errors.push(FieldError::invalid_text(
                    field,
                    amount.as_str(),
                    "is more than any node could have",
                ));
            }
        }
    };
    check("limits", &container.limits, errors);
    check("requests", &container.requests, errors);
    for (resource, request) in &container.requests {
        if let Some(limit) = container.limits.get(resource)
            && request.millis() > limit.millis()
        {
            let detail = format!("must be less than or equal to {resource} limit of {limit}");
            errors.push(FieldError::invalid_text(
                format!("{path}.resources.requests"),
                request.as_str(),
                detail,
            ));
        }
    }
}

/// Thousandths of a core, or bytes.
fn amount_of(resource: &str, amount: &Quantity) -> i128 {
    if resource == "cpu" { amount.millis() } else { amount.units() }
}
