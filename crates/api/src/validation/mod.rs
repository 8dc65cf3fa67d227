//! Whether a Job or a ConfigMap can be accepted (job-semantics 1.2–1.4, 1.6).
//!
//! Owns: the rules V1–V24 as far as the types can express what they are about, and table 1.6. Does not own: defaults,
//! fields that a wire refuses before they become these types (crate `kube`), rules about other objects (crate `core`), what
//! a node's policy allows (`agent`).
//!
//! Invariant: validation never panics, looks at everything and gives the errors in the order of the fields.

mod config_map;
mod container;
mod environment;
mod hooks;
mod pod;
mod security;
mod size;
mod template_update;
#[cfg(test)]
mod tests;
mod volume;

pub use config_map::{validate_config_map, validate_config_map_update};
pub use size::pod_spec_bytes;

use crate::defaulting::{
    BACKOFF_BASE_ANNOTATION, BACKOFF_CAP_ANNOTATION, CONTROLLER_UID_LABELS, JOB_NAME_LABELS,
};
use crate::duration;
use crate::field_error::FieldError;
use crate::job::{CompletionMode, Job, JobSpec, PodReplacementPolicy};
use crate::limits;
use crate::meta::{ObjectMeta, StringMap};
use crate::names::{check_dns_label, check_dns_subdomain, check_label_value, check_qualified_name};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const IMMUTABLE: &str = "field is immutable";
/// The one foreign-looking value of `managedBy` that means "the built-in controller" (D10).
const BUILT_IN_CONTROLLER: &str = "kubernetes.io/job-controller";

/// All that is wrong with a defaulted Job that has its uid and its generated labels (M2), as it will be stored.
pub fn validate_create(job: &Job) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_job_metadata(job, &mut errors);
    validate_spec(&job.spec, &mut errors);
    validate_pod_host_name(job, &mut errors);
    validate_generated_labels(job, &mut errors);
    let bytes = size::job_bytes(job);
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
    template_update::validate(old, new, &mut errors);
    errors
}

/// What is accepted without having the effect that its author may expect (M6, table 1.6). `default_runtime` is what runs Pods
/// that name no runtime; none: that depends on the node, or is not known.
pub fn warnings(job: &Job, default_runtime: Option<&str>) -> Vec<String> {
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
    pod::warn(&job.spec.template.spec, default_runtime, &mut warnings);
    warnings
}

fn validate_job_metadata(job: &Job, errors: &mut Vec<FieldError>) {
    let metadata = &job.metadata;
    validate_metadata(metadata, errors);
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

/// What holds for the metadata of every object of a namespace.
fn validate_metadata(metadata: &ObjectMeta, errors: &mut Vec<FieldError>) {
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
    pod::validate("spec.template.spec", &spec.template.spec, errors);
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

/// A text that is one of the known words; `words` holds any text.
fn check_word(field: String, text: &str, known: &[&'static str], errors: &mut Vec<FieldError>) {
    if text.is_empty() {
        let quoted: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        errors.push(FieldError::required(field, format!("valid values: {}", quoted.join(", "))));
    } else if !known.contains(&text) {
        errors.push(FieldError::unsupported(field, text, known));
    }
}

fn check_no_nul(field: String, text: &str, errors: &mut Vec<FieldError>) {
    if text.contains('\0') {
        errors.push(FieldError::invalid_text(field, text, "must not contain a NUL character"));
    }
}

fn check_not_negative(field: String, value: i64, errors: &mut Vec<FieldError>) {
    if value < 0 {
        errors.push(FieldError::invalid(field, value, NOT_NEGATIVE));
    }
}

/// True if there are no more than may be.
fn check_count(field: String, count: usize, count_max: usize, errors: &mut Vec<FieldError>) -> bool {
    if count > count_max {
        let kind = crate::FieldErrorKind::TooMany { count, count_max };
        errors.push(FieldError { field, kind });
    }
    count <= count_max
}
