//! Whether a Job can be accepted (job-semantics 1.2–1.4, 1.6 stage 1).
//!
//! Owns: the rules V1–V24 as far as the types can express what they are about, and table 1.6. Does not own: defaults,
//! fields that a wire refuses before they become these types (crate `kube`), rules about other objects (crate `core`).
//!
//! Invariant: validation never panics, looks at everything and gives the errors in the order of the fields.

use crate::container::{Container, KEPT_CONTAINER_FIELDS};
use crate::defaulting::{
    BACKOFF_BASE_ANNOTATION, BACKOFF_CAP_ANNOTATION, CONTROLLER_UID_LABELS, JOB_NAME_LABELS,
};
use crate::duration;
use crate::field_error::FieldError;
use crate::job::{CompletionMode, Job, JobSpec, PodReplacementPolicy};
use crate::limits;
use crate::meta::StringMap;
use crate::names::{check_dns_label, check_dns_subdomain, check_label_value, check_qualified_name};
use crate::pod::{KEPT_POD_FIELDS, PodSpec, RestartPolicy};
use crate::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const IMMUTABLE: &str = "field is immutable";
/// The one foreign-looking value of `managedBy` that means "the built-in controller" (D10).
const BUILT_IN_CONTROLLER: &str = "kubernetes.io/job-controller";

/// All that is wrong with a defaulted Job that has its uid and its generated labels (M2), as it will be stored.
pub fn validate_create(job: &Job) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_metadata(job, &mut errors);
    validate_spec(&job.spec, &mut errors);
    validate_pod_host_name(job, &mut errors);
    validate_generated_labels(job, &mut errors);
    let bytes = written_bytes(job);
    if bytes > limits::JOB_BYTES_MAX {
        errors.push(FieldError::forbidden(
            "spec",
            format!(
                "the object has {bytes} bytes and may have {}: make commands and variables shorter",
                limits::JOB_BYTES_MAX
            ),
        ));
    }
    errors
}

/// All that is wrong with replacing `old` by `new`, both defaulted and with generated labels. Includes what is wrong with
/// `new` by itself.
pub fn validate_update(old: &Job, new: &Job) -> Vec<FieldError> {
    let mut errors = validate_create(new);
    let (before, after) = (&old.spec, &new.spec);
    if before.completions != after.completions {
        let shown =
            after.completions.map_or_else(|| "null".to_owned(), |completions| completions.to_string());
        let is_indexed = before.completion_mode == Some(CompletionMode::Indexed);
        if !is_indexed {
            errors.push(FieldError::invalid("spec.completions", shown, IMMUTABLE));
        } else if after.completions != after.parallelism {
            let detail = "can only be modified in tandem with spec.parallelism";
            errors.push(FieldError::invalid("spec.completions", shown, detail));
        }
    }
    if before.selector != after.selector {
        let shown = after.selector.as_ref().map(ToString::to_string).unwrap_or_default();
        errors.push(FieldError::invalid_text("spec.selector", &shown, IMMUTABLE));
    }
    if before.completion_mode != after.completion_mode {
        let shown = after.completion_mode.as_ref().map_or("", CompletionMode::as_str);
        errors.push(FieldError::invalid_text("spec.completionMode", shown, IMMUTABLE));
    }
    if before.managed_by != after.managed_by {
        let shown = after.managed_by.as_deref().unwrap_or("");
        errors.push(FieldError::invalid_text("spec.managedBy", shown, IMMUTABLE));
    }
    validate_template_update(old, new, &mut errors);
    errors
}

/// What is accepted without having the effect that its author may expect (M6, table 1.6).
pub fn warnings(job: &Job) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Err(problem) = check_dns_label(&job.metadata.name) {
        warnings.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label \
             is recommended: [{problem}]"
        ));
    }
    let indexed = job.spec.completion_mode == Some(CompletionMode::Indexed);
    if indexed && job.spec.completions.unwrap_or(0) > 100_000 && job.spec.parallelism.unwrap_or(0) > 10_000 {
        warnings.push(
            "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
                .to_owned(),
        );
    }
    let pod = &job.spec.template.spec;
    for (position, container) in pod.containers.iter().enumerate() {
        let path = format!("spec.template.spec.containers[{position}]");
        if !container.image.is_empty() {
            warnings.push(format!(
                "{path}.image: image {:?} is not pulled: node runtime is process",
                container.image
            ));
        }
        if !container.limits.is_empty() {
            warnings.push(format!("{path}.resources.limits: kept without effect: node runtime is process"));
        }
        for field in container.kept_fields.keys() {
            warnings.push(format!("{path}.{field}: kept without effect"));
        }
    }
    for field in pod.kept_fields.keys() {
        warnings.push(format!("spec.template.spec.{field}: kept without effect"));
    }
    warnings
}

fn validate_metadata(job: &Job, errors: &mut Vec<FieldError>) {
    let metadata = &job.metadata;
    if metadata.name.is_empty() {
        if metadata.generate_name.is_empty() {
            errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        } else if let Err(problem) = check_dns_subdomain(&format!("{}x", metadata.generate_name)) {
            errors.push(FieldError::invalid_text("metadata.generateName", &metadata.generate_name, problem));
        }
    } else if let Err(problem) = check_dns_subdomain(&metadata.name) {
        errors.push(FieldError::invalid_text("metadata.name", &metadata.name, problem));
    }
    if let Err(problem) = check_dns_label(&metadata.namespace) {
        errors.push(FieldError::invalid_text("metadata.namespace", &metadata.namespace, problem));
    }
    validate_labels("metadata.labels", &metadata.labels, errors);
    validate_annotations("metadata.annotations", &metadata.annotations, errors);
    for annotation in [BACKOFF_BASE_ANNOTATION, BACKOFF_CAP_ANNOTATION] {
        if let Some(text) = metadata.annotations.get(annotation)
            && let Err(error) = duration::parse(text)
        {
            errors.push(FieldError::invalid_text(
                format!("metadata.annotations[{annotation}]"),
                text,
                error.to_string(),
            ));
        }
    }
}

fn validate_labels(path: &str, labels: &StringMap, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        if let Err(problem) = check_qualified_name(key) {
            errors.push(FieldError::invalid_text(path, key, problem));
        }
        if let Err(problem) = check_label_value(value) {
            errors.push(FieldError::invalid_text(path, value, problem));
        }
    }
}

fn validate_annotations(path: &str, annotations: &StringMap, errors: &mut Vec<FieldError>) {
    for key in annotations.keys() {
        if let Err(problem) = check_qualified_name(&key.to_ascii_lowercase()) {
            errors.push(FieldError::invalid_text(path, key, problem));
        }
    }
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > limits::ANNOTATIONS_BYTES_MAX {
        let kind = crate::FieldErrorKind::TooLong { bytes_max: limits::ANNOTATIONS_BYTES_MAX };
        errors.push(FieldError { field: path.to_owned(), kind });
    }
}

fn validate_spec(spec: &JobSpec, errors: &mut Vec<FieldError>) {
    let numbers: [(&str, Option<i64>); 5] = [
        ("spec.parallelism", spec.parallelism.map(i64::from)),
        ("spec.completions", spec.completions.map(i64::from)),
        ("spec.activeDeadlineSeconds", spec.active_deadline_seconds),
        ("spec.backoffLimit", spec.backoff_limit.map(i64::from)),
        ("spec.ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
    ];
    // V3
    for (field, value) in numbers {
        if let Some(value) = value.filter(|value| *value < 0) {
            errors.push(FieldError::invalid(field, value, NOT_NEGATIVE));
        }
    }
    if let Some(completions) = spec.completions.filter(|completions| *completions > limits::COMPLETIONS_MAX) {
        let detail = format!("must be less than or equal to {}", limits::COMPLETIONS_MAX);
        errors.push(FieldError::invalid("spec.completions", completions, detail));
    }
    validate_manager(spec, errors);
    validate_completion_mode(spec, errors);
    match &spec.pod_replacement_policy {
        // V20
        Some(PodReplacementPolicy::Other(text)) => {
            let supported = ["Failed", "TerminatingOrFailed"];
            errors.push(FieldError::unsupported("spec.podReplacementPolicy", text, &supported));
        }
        Some(PodReplacementPolicy::Failed | PodReplacementPolicy::TerminatingOrFailed) | None => {}
    }
    for (field, value) in
        [("spec.backoffBase", spec.backoff_base_ms), ("spec.backoffCap", spec.backoff_cap_ms)]
    {
        if let Some(value) = value.filter(|value| *value > limits::BACKOFF_MS_MAX) {
            let detail =
                format!("must be less than or equal to {}", duration::format_ms(limits::BACKOFF_MS_MAX));
            errors.push(FieldError::invalid_text(field, &duration::format_ms(value), detail));
        }
    }
    if let (Some(base), Some(cap)) = (spec.backoff_base_ms, spec.backoff_cap_ms)
        && base > cap
    {
        let detail = format!("must be less than or equal to the cap, {}", duration::format_ms(cap));
        errors.push(FieldError::invalid_text("spec.backoffBase", &duration::format_ms(base), detail));
    }
    validate_labels("spec.template.metadata.labels", &spec.template.labels, errors);
    validate_annotations("spec.template.metadata.annotations", &spec.template.annotations, errors);
    validate_pod_spec(&spec.template.spec, errors);
}

/// V5, V6, D9, D10.
fn validate_manager(spec: &JobSpec, errors: &mut Vec<FieldError>) {
    if spec.manual_selector == Some(true) {
        let detail = "a Job's Pods are those that it made: leave manualSelector and selector out";
        errors.push(FieldError::forbidden("spec.manualSelector", detail));
    }
    let Some(manager) = &spec.managed_by else { return };
    if manager.len() > limits::MANAGED_BY_BYTES_MAX {
        let kind = crate::FieldErrorKind::TooLong { bytes_max: limits::MANAGED_BY_BYTES_MAX };
        errors.push(FieldError { field: "spec.managedBy".to_owned(), kind });
    }
    let is_prefixed = manager.contains('/') && check_qualified_name(manager).is_ok();
    if !is_prefixed {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid_text("spec.managedBy", manager, detail));
    } else if manager != BUILT_IN_CONTROLLER {
        let detail = format!("other controllers than {BUILT_IN_CONTROLLER:?} are not supported");
        errors.push(FieldError::forbidden("spec.managedBy", detail));
    }
}

fn validate_completion_mode(spec: &JobSpec, errors: &mut Vec<FieldError>) {
    match &spec.completion_mode {
        // V7
        Some(CompletionMode::Other(text)) => {
            errors.push(FieldError::unsupported("spec.completionMode", text, &["NonIndexed", "Indexed"]));
        }
        Some(CompletionMode::Indexed) => {
            // V8
            if spec.completions.is_none() {
                errors.push(FieldError::required("spec.completions", "when completion mode is Indexed"));
            }
            // V9
            if let Some(value) = spec.parallelism.filter(|value| *value > limits::INDEXED_PARALLELISM_MAX) {
                let detail = format!(
                    "must be less than or equal to {} when completion mode is Indexed",
                    limits::INDEXED_PARALLELISM_MAX
                );
                errors.push(FieldError::invalid("spec.parallelism", value, detail));
            }
        }
        Some(CompletionMode::NonIndexed) | None => {}
    }
}

/// V2.
fn validate_pod_host_name(job: &Job, errors: &mut Vec<FieldError>) {
    let completions = job.spec.completions.unwrap_or(0);
    let is_indexed = job.spec.completion_mode == Some(CompletionMode::Indexed);
    if !is_indexed || completions <= 0 || job.metadata.name.is_empty() {
        return;
    }
    let host_name = format!("{}-{}", job.metadata.name, completions - 1);
    if check_dns_label(&host_name).is_err() {
        let detail = format!("will not able to create pod with invalid DNS label: {host_name}");
        errors.push(FieldError::invalid_text("metadata.name", &job.metadata.name, detail));
    }
}

/// V22–V24: labels and a selector that are there must be those that are generated.
fn validate_generated_labels(job: &Job, errors: &mut Vec<FieldError>) {
    let uid = &job.metadata.uid;
    let path = "spec.template.metadata.labels";
    for (keys, expected) in [(JOB_NAME_LABELS, &job.metadata.name), (CONTROLLER_UID_LABELS, uid)] {
        for key in keys {
            if let Some(value) = job.spec.template.labels.get(key)
                && value != expected
                && !expected.is_empty()
            {
                let detail = format!("must be {expected:?}");
                errors.push(FieldError::invalid_text(format!("{path}[{key}]"), value, detail));
            }
        }
    }
    let Some(selector) = &job.spec.selector else { return };
    let is_generated = selector.match_expressions.is_empty()
        && selector
            .match_labels
            .iter()
            .all(|(key, value)| key == CONTROLLER_UID_LABELS[0] && (uid.is_empty() || value == uid));
    if !is_generated {
        errors.push(FieldError::invalid_text(
            "spec.selector",
            &selector.to_string(),
            "`selector` not auto-generated",
        ));
    }
}

fn validate_pod_spec(pod: &PodSpec, errors: &mut Vec<FieldError>) {
    let path = "spec.template.spec";
    match pod.containers.len() {
        0 => errors.push(FieldError::required(format!("{path}.containers"), "")),
        1 => {}
        _ => errors.push(FieldError::forbidden(
            format!("{path}.containers"),
            "several containers are not supported yet",
        )),
    }
    for (position, container) in pod.containers.iter().enumerate() {
        validate_container(&format!("{path}.containers[{position}]"), container, errors);
    }
    match &pod.restart_policy {
        Some(RestartPolicy::Never | RestartPolicy::OnFailure) => {}
        // V16
        None | Some(RestartPolicy::Always) => {
            let detail = r#"valid values: "OnFailure", "Never""#;
            errors.push(FieldError::required(format!("{path}.restartPolicy"), detail));
        }
        // V17
        Some(RestartPolicy::Other(text)) => {
            errors.push(FieldError::unsupported(
                format!("{path}.restartPolicy"),
                text,
                &["OnFailure", "Never"],
            ));
        }
    }
    if let Some(grace) = pod.termination_grace_period_seconds {
        let field = format!("{path}.terminationGracePeriodSeconds");
        if grace < 0 {
            errors.push(FieldError::invalid(field, grace, NOT_NEGATIVE));
        } else if grace > limits::GRACE_PERIOD_SECONDS_MAX {
            let detail = format!("must be less than or equal to {}", limits::GRACE_PERIOD_SECONDS_MAX);
            errors.push(FieldError::invalid(field, grace, detail));
        }
    }
    if let Some(priority) = pod.priority.filter(|priority| *priority > limits::PRIORITY_MAX) {
        let detail = format!("must be less than or equal to {}", limits::PRIORITY_MAX);
        errors.push(FieldError::invalid(format!("{path}.priority"), priority, detail));
    }
    validate_labels(&format!("{path}.nodeSelector"), &pod.node_selector, errors);
    validate_kept_fields(path, &pod.kept_fields, &KEPT_POD_FIELDS, errors);
}

/// D10: what would change a Pod must not slip in among the fields without effect.
fn validate_kept_fields(
    path: &str,
    kept: &BTreeMap<String, String>,
    known: &[&str],
    errors: &mut Vec<FieldError>,
) {
    for name in kept.keys().filter(|name| !known.contains(&name.as_str())) {
        errors.push(FieldError::forbidden(format!("{path}.{name}"), "not supported: leave it out"));
    }
}

fn validate_container(path: &str, container: &Container, errors: &mut Vec<FieldError>) {
    if container.name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else if let Err(problem) = check_dns_label(&container.name) {
        errors.push(FieldError::invalid_text(format!("{path}.name"), &container.name, problem));
    }
    if container.image.trim().is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    if container.command.is_empty() {
        let detail = "the entrypoint is in the image, which is not pulled: node runtime is process";
        errors.push(FieldError::required(format!("{path}.command"), detail));
    }
    for (field, texts) in [("command", &container.command), ("args", &container.args)] {
        for (position, text) in texts.iter().enumerate() {
            check_no_nul(format!("{path}.{field}[{position}]"), text, errors);
        }
    }
    check_no_nul(format!("{path}.workingDir"), &container.working_dir, errors);
    for (position, variable) in container.env.iter().enumerate() {
        let field = format!("{path}.env[{position}]");
        if variable.name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if variable.name.bytes().any(|byte| !(b' '..=b'~').contains(&byte) || byte == b'=') {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(FieldError::invalid_text(format!("{field}.name"), &variable.name, detail));
        }
        check_no_nul(format!("{field}.value"), &variable.value, errors);
    }
    validate_resources(path, container, errors);
    validate_kept_fields(path, &container.kept_fields, &KEPT_CONTAINER_FIELDS, errors);
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

fn check_no_nul(field: String, text: &str, errors: &mut Vec<FieldError>) {
    if text.contains('\0') {
        errors.push(FieldError::invalid_text(field, text, "must not contain a NUL character"));
    }
}

/// Job-semantics 1.4: what of a template may change, and only while suspended with nothing running.
fn validate_template_update(old: &Job, new: &Job, errors: &mut Vec<FieldError>) {
    let (before, after) = (&old.spec.template, &new.spec.template);
    if before == after {
        return;
    }
    let is_suspended = old.spec.suspend == Some(true)
        && old.status.active == 0
        && (old.status.start_time.is_none() || has_suspended_condition(old));
    let mut allowed = after.clone();
    if is_suspended {
        allowed.labels.clone_from(&before.labels);
        allowed.annotations.clone_from(&before.annotations);
        allowed.spec.node_selector.clone_from(&before.spec.node_selector);
        let names: BTreeSet<&str> = before.spec.containers.iter().map(|one| one.name.as_str()).collect();
        if names.len() == before.spec.containers.len() {
            for (container, old_one) in allowed.spec.containers.iter_mut().zip(&before.spec.containers) {
                container.requests.clone_from(&old_one.requests);
                container.limits.clone_from(&old_one.limits);
            }
        }
    }
    if allowed != *before {
        let detail = if old.spec.suspend == Some(true) {
            IMMUTABLE.to_owned()
        } else {
            // The prefix is Kubernetes'; people ask which part may change at all.
            format!(
                "{IMMUTABLE}; nodeSelector, labels, annotations and resources can be changed while the Job is suspended"
            )
        };
        errors.push(FieldError::invalid("spec.template", "{…}", detail));
    }
}

fn has_suspended_condition(job: &Job) -> bool {
    job.status.conditions.iter().any(|condition| {
        condition.condition_type == crate::JobConditionType::Suspended
            && condition.status == crate::ConditionStatus::True
    })
}

/// Bytes of everything that people wrote; maps and lists count a little per item.
fn written_bytes(job: &Job) -> usize {
    const BYTES_PER_ITEM: usize = 8;
    let map = |map: &StringMap| {
        map.iter().map(|(key, value)| key.len() + value.len() + BYTES_PER_ITEM).sum::<usize>()
    };
    let list = |list: &[String]| list.iter().map(|text| text.len() + BYTES_PER_ITEM).sum::<usize>();
    let template = &job.spec.template;
    let containers: usize = template
        .spec
        .containers
        .iter()
        .map(|container| {
            let env: usize =
                container.env.iter().map(|one| one.name.len() + one.value.len() + BYTES_PER_ITEM).sum();
            list(&container.command)
                + list(&container.args)
                + env
                + map(&container.kept_fields)
                + container.image.len()
                + container.working_dir.len()
                + container.name.len()
        })
        .sum();
    let owners: usize = job
        .metadata
        .owner_references
        .iter()
        .map(|owner| {
            owner.api_version.len() + owner.kind.len() + owner.name.len() + owner.uid.len() + BYTES_PER_ITEM
        })
        .sum();
    map(&job.metadata.labels)
        + map(&job.metadata.annotations)
        + job.metadata.generate_name.len()
        + owners
        + map(&template.labels)
        + map(&template.annotations)
        + map(&template.spec.node_selector)
        + map(&template.spec.kept_fields)
        + containers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::EnvVar;
    use crate::defaulting::{generate_labels, set_defaults};
    use crate::ids::JobUid;

    fn valid() -> Job {
        let mut job = Job::default();
        job.metadata.name = "good".to_owned();
        job.spec.template.spec.restart_policy = Some(RestartPolicy::Never);
        job.spec.template.spec.containers = vec![Container {
            name: "main".to_owned(),
            image: "none".to_owned(),
            command: vec!["true".to_owned()],
            ..Container::default()
        }];
        set_defaults(&mut job);
        job
    }

    #[test]
    fn a_good_job_is_accepted_before_and_after_its_labels_are_generated() {
        let mut job = valid();
        assert_eq!(validate_create(&job), []);
        job.metadata.uid = JobUid(5).to_string();
        generate_labels(&mut job, JobUid(5));
        assert_eq!(validate_create(&job), []);
        assert_eq!(validate_update(&job, &job), []);
    }

    #[test]
    fn bad_jobs_are_refused_in_kubernetes_words() {
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        type Change = Box<dyn Fn(&mut Job)>;
        let cases: Vec<(&str, Change, &str)> = vec![
            (
                "V1",
                Box::new(|job| job.metadata.name = "A".into()),
                "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            ),
            (
                "V1",
                Box::new(|job| job.metadata.name = String::new()),
                "metadata.name: Required value: name or generateName is required",
            ),
            (
                "V1",
                Box::new(|job| job.metadata.namespace = "../x".into()),
                "metadata.namespace: Invalid value: \"../x\": a lowercase RFC 1123 label",
            ),
            (
                "V3",
                Box::new(|job| job.spec.parallelism = Some(-1)),
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "V3",
                Box::new(|job| job.spec.completions = Some(-1)),
                "spec.completions: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "V3",
                Box::new(|job| job.spec.active_deadline_seconds = Some(-1)),
                "spec.activeDeadlineSeconds: Invalid value: -1: must",
            ),
            (
                "V3",
                Box::new(|job| job.spec.backoff_limit = Some(-1)),
                "spec.backoffLimit: Invalid value: -1: must",
            ),
            (
                "V3",
                Box::new(|job| job.spec.ttl_seconds_after_finished = Some(-1)),
                "spec.ttlSecondsAfterFinished: Invalid value: -1: must",
            ),
            (
                "limit",
                Box::new(|job| job.spec.completions = Some(1_000_001)),
                "spec.completions: Invalid value: 1000001: must be less than",
            ),
            (
                "V5",
                Box::new(|job| job.spec.managed_by = Some("me".into())),
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                "V6",
                Box::new(|job| job.spec.managed_by = Some(format!("a.b/{}", "c".repeat(63)))),
                "spec.managedBy: Too long: may not be more than 63 bytes",
            ),
            (
                "D10",
                Box::new(|job| job.spec.managed_by = Some("acme.io/x".into())),
                "spec.managedBy: Forbidden: other controllers",
            ),
            ("D9", Box::new(|job| job.spec.manual_selector = Some(true)), "spec.manualSelector: Forbidden"),
            (
                "V7",
                Box::new(|job| job.spec.completion_mode = Some("Other".into())),
                "spec.completionMode: Unsupported value: \"Other\": supported values: \"NonIndexed\", \"Indexed\"",
            ),
            (
                "V8",
                Box::new(|job| {
                    job.spec.completion_mode = Some("Indexed".into());
                    job.spec.completions = None;
                }),
                "spec.completions: Required value: when completion mode is Indexed",
            ),
            (
                "V9",
                Box::new(|job| {
                    job.spec.completion_mode = Some("Indexed".into());
                    job.spec.parallelism = Some(100_001);
                }),
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ),
            (
                "V2",
                Box::new(|job| {
                    job.spec.completion_mode = Some("Indexed".into());
                    job.metadata.name = "a".repeat(62);
                }),
                "metadata.name: Invalid value: ",
            ),
            (
                "V16",
                Box::new(|job| job.spec.template.spec.restart_policy = None),
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                "V16",
                Box::new(|job| job.spec.template.spec.restart_policy = Some("Always".into())),
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                "V17",
                Box::new(|job| job.spec.template.spec.restart_policy = Some("Maybe".into())),
                "spec.template.spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"OnFailure\", \"Never\"",
            ),
            (
                "V20",
                Box::new(|job| job.spec.pod_replacement_policy = Some("Maybe".into())),
                "spec.podReplacementPolicy: Unsupported value: \"Maybe\": supported values: \"Failed\", \"TerminatingOrFailed\"",
            ),
            (
                "V23",
                Box::new(|job| job.spec.template.labels = [("job-name".to_owned(), "x".to_owned())].into()),
                "spec.template.metadata.labels[job-name]: Invalid value: \"x\": must be \"good\"",
            ),
            (
                "V24",
                Box::new(|job| job.spec.selector = Some(crate::selector::parse("a=b").unwrap())),
                "spec.selector: Invalid value: \"a=b\": `selector` not auto-generated",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.template.spec.containers.clear()),
                "spec.template.spec.containers: Required value",
            ),
            (
                "1.6",
                Box::new(|job| {
                    let one = job.spec.template.spec.containers[0].clone();
                    job.spec.template.spec.containers.push(one);
                }),
                "spec.template.spec.containers: Forbidden: several containers",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.template.spec.containers[0].name = "X".into()),
                "spec.template.spec.containers[0].name: Invalid value: \"X\"",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.template.spec.containers[0].image = " ".into()),
                "spec.template.spec.containers[0].image: Required value",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.template.spec.containers[0].command.clear()),
                "spec.template.spec.containers[0].command: Required value: the entrypoint is in the image",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.template.spec.containers[0].args = vec!["a\0b".into()]),
                "containers[0].args[0]: Invalid value",
            ),
            (
                "1.6",
                Box::new(|job| {
                    job.spec.template.spec.containers[0].env =
                        vec![EnvVar { name: "A=B".into(), ..EnvVar::default() }]
                }),
                "containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name",
            ),
            (
                "1.6",
                Box::new(move |job| {
                    job.spec.template.spec.containers[0].requests.insert("gpu".into(), quantity("1"));
                }),
                "containers[0].resources.requests[gpu]: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\"",
            ),
            (
                "1.6",
                Box::new(move |job| {
                    job.spec.template.spec.containers[0].requests.insert("cpu".into(), quantity("-1"));
                }),
                "resources.requests[cpu]: Invalid value: \"-1\": must be greater",
            ),
            (
                "1.6",
                Box::new(move |job| {
                    job.spec.template.spec.containers[0].requests.insert("cpu".into(), quantity("2P"));
                }),
                "resources.requests[cpu]: Invalid value: \"2P\": is more than any node could have",
            ),
            (
                "1.6",
                Box::new(move |job| {
                    job.spec.template.spec.containers[0].limits.insert("memory".into(), quantity("1025Ti"));
                }),
                "resources.limits[memory]: Invalid value: \"1025Ti\": is more than any node could have",
            ),
            (
                "1.6",
                Box::new(move |job| {
                    job.spec.template.spec.containers[0].requests.insert("cpu".into(), quantity("2"));
                    job.spec.template.spec.containers[0].limits.insert("cpu".into(), quantity("1"));
                }),
                "resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.template.spec.termination_grace_period_seconds = Some(-1)),
                "spec.template.spec.terminationGracePeriodSeconds: Invalid value: -1",
            ),
            (
                "1.6",
                Box::new(|job| {
                    job.spec.template.spec.node_selector = [("a b".to_owned(), "c".to_owned())].into()
                }),
                "spec.template.spec.nodeSelector: Invalid value: \"a b\"",
            ),
            (
                "1.6",
                Box::new(|job| {
                    job.metadata.annotations.insert(BACKOFF_BASE_ANNOTATION.into(), "soon".into());
                }),
                "metadata.annotations[stint.dev/backoff-base]: Invalid value: \"soon\"",
            ),
            (
                "1.6",
                Box::new(|job| {
                    job.spec.template.spec.kept_fields.insert("hostNetwork".into(), "true".into());
                }),
                "spec.template.spec.hostNetwork: Forbidden: not supported",
            ),
            (
                "1.6",
                Box::new(|job| {
                    let kept = &mut job.spec.template.spec.containers[0].kept_fields;
                    kept.insert("lifecycle".into(), "{}".into());
                }),
                "spec.template.spec.containers[0].lifecycle: Forbidden: not supported",
            ),
            (
                "1.6",
                Box::new(|job| {
                    let name = "x".repeat(limits::JOB_BYTES_MAX);
                    job.metadata.owner_references.push(crate::OwnerReference { name, ..Default::default() });
                }),
                "spec: Forbidden: the object has",
            ),
            (
                "1.6",
                Box::new(|job| job.spec.backoff_base_ms = Some(700_000)),
                "spec.backoffBase: Invalid value: \"11m40s\": must be less than or equal to the cap, 10m0s",
            ),
            (
                "1.6",
                Box::new(|job| {
                    job.spec.template.spec.containers[0].args = vec!["x".repeat(limits::JOB_BYTES_MAX)]
                }),
                "spec: Forbidden: the object has",
            ),
        ];
        for (rule, change, expected) in cases {
            let mut job = valid();
            change(&mut job);
            let errors: Vec<String> = validate_create(&job).iter().map(ToString::to_string).collect();
            assert!(
                errors.iter().any(|error| error.contains(expected)),
                "{rule}: expected {expected:?} in {errors:?}"
            );
        }
    }

    #[test]
    fn v23_v24_generated_labels_can_not_be_given_otherwise() {
        let uid = JobUid(5);
        let errors_of = |change: &dyn Fn(&mut Job)| {
            let mut job = valid();
            change(&mut job);
            job.metadata.uid = uid.to_string();
            generate_labels(&mut job, uid);
            validate_create(&job).iter().map(ToString::to_string).collect::<Vec<String>>()
        };
        let stolen = JobUid(6).to_string();
        for key in CONTROLLER_UID_LABELS {
            let errors = errors_of(&|job| {
                job.spec.template.labels.insert(key.to_owned(), stolen.clone());
            });
            let expected =
                format!("spec.template.metadata.labels[{key}]: Invalid value: {stolen:?}: must be");
            assert!(errors.iter().any(|error| error.starts_with(&expected)), "{errors:?}");
        }
        let errors = errors_of(&|job| {
            let text = format!("{}={stolen}", CONTROLLER_UID_LABELS[0]);
            job.spec.selector = Some(crate::selector::parse(&text).unwrap());
        });
        assert!(errors.iter().any(|error| error.ends_with("`selector` not auto-generated")), "{errors:?}");
        // The name is the value of a label.
        let errors = errors_of(&|job| job.metadata.name = "x".repeat(64));
        let expected = "must be no more than 63 bytes";
        assert!(
            errors.iter().any(|error| error.starts_with("spec.template.metadata.labels: Invalid value")
                && error.ends_with(expected)),
            "{errors:?}"
        );
        assert_eq!(errors_of(&|job| job.metadata.name = "x".repeat(63)), Vec::<String>::new());
    }

    #[test]
    fn updates_of_immutable_fields_are_refused() {
        let old = valid();
        let mut new = old.clone();
        new.spec.completions = Some(7);
        let errors = validate_update(&old, &new);
        assert_eq!(errors[0].to_string(), "spec.completions: Invalid value: 7: field is immutable");
        let mut new = old.clone();
        new.spec.template.spec.containers[0].image = "other".to_owned();
        assert!(validate_update(&old, &new)[0].to_string().starts_with("spec.template: Invalid value"));
        let mut new = old.clone();
        new.spec.parallelism = Some(9);
        new.spec.active_deadline_seconds = Some(9);
        new.spec.suspend = Some(true);
        assert_eq!(validate_update(&old, &new), []);
    }

    #[test]
    fn a_suspended_job_may_change_where_its_pods_run() {
        let mut old = valid();
        old.spec.suspend = Some(true);
        let mut new = old.clone();
        new.spec.template.spec.node_selector = [("disk".to_owned(), "ssd".to_owned())].into();
        new.spec.suspend = Some(false);
        assert_eq!(validate_update(&old, &new), [], "1.4: the check looks at the old suspend");
        old.status.active = 1;
        assert_ne!(validate_update(&old, &new), []);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let mut job = valid();
        job.spec.template.spec.containers[0].image = "perl:5.34".to_owned();
        job.spec.template.spec.kept_fields.insert("dnsPolicy".to_owned(), "\"Default\"".to_owned());
        let warnings = warnings(&job);
        assert!(
            warnings
                .iter()
                .any(|one| one.contains("image \"perl:5.34\" is not pulled: node runtime is process"))
        );
        assert!(warnings.iter().any(|one| one.contains("spec.template.spec.dnsPolicy: kept without effect")));
    }
}
