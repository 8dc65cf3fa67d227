//! Jobs.

use serde_json::Value;
use stint_api::defaulting::{BACKOFF_BASE_ANNOTATION, BACKOFF_CAP_ANNOTATION};
use stint_api::limits::{BACKOFF_BASE_MS_DEFAULT, BACKOFF_CAP_MS_DEFAULT};
use stint_api::{CompletionMode, Job, JobSpec, JobStatus, ObjectMeta, PodReplacementPolicy, duration};

use super::Object;
use super::meta::{metadata, seconds, selector};
use super::pod::template;

/// The Job as Kubernetes' `batch/v1` Job.
///
/// A back-off other than the default (D4), for which Kubernetes has no fields, is shown as the annotations that set it.
pub fn job_to_json(job: &Job) -> Value {
    let mut object = Object::new();
    object.set("apiVersion", "batch/v1");
    object.set("kind", "Job");
    object.set("metadata", metadata(&annotated(job)));
    object.set("spec", spec(&job.spec));
    object.set("status", status(&job.status));
    object.into()
}

fn annotated(job: &Job) -> ObjectMeta {
    let mut meta = job.metadata.clone();
    let annotations = &mut meta.annotations;
    for (annotation, value, default) in [
        (BACKOFF_BASE_ANNOTATION, job.spec.backoff_base_ms, BACKOFF_BASE_MS_DEFAULT),
        (BACKOFF_CAP_ANNOTATION, job.spec.backoff_cap_ms, BACKOFF_CAP_MS_DEFAULT),
    ] {
        let Some(value) = value else { continue };
        let says =
            annotations.get(annotation).map(|text| duration::parse(text).ok().map(|one| one.as_millis()));
        let is_said = match says {
            Some(said) => said == Some(u128::from(value)),
            None => value == default,
        };
        if !is_said {
            annotations.insert(annotation.to_owned(), duration::format_ms(value));
        }
    }
    meta
}

fn spec(spec: &JobSpec) -> Object {
    let mut object = Object::new();
    object.set_some("parallelism", spec.parallelism);
    object.set_some("completions", spec.completions);
    object.set_some("activeDeadlineSeconds", spec.active_deadline_seconds);
    object.set_some("backoffLimit", spec.backoff_limit);
    object.set_some("selector", spec.selector.as_ref().map(selector));
    object.set_some("manualSelector", spec.manual_selector);
    object.set("template", template(&spec.template));
    object.set_some("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished);
    object.set_some("completionMode", spec.completion_mode.as_ref().map(CompletionMode::as_str));
    object.set_some("suspend", spec.suspend);
    object.set_some(
        "podReplacementPolicy",
        spec.pod_replacement_policy.as_ref().map(PodReplacementPolicy::as_str),
    );
    object.set_some("managedBy", spec.managed_by.as_deref());
    object
}

/// Counts of zero are left out, as Kubernetes does, but for `ready` and `terminating` once they are known.
fn status(status: &JobStatus) -> Object {
    let mut object = Object::new();
    let conditions = status.conditions.iter().map(|condition| {
        let mut object = Object::new();
        object.set("type", condition.condition_type.as_str());
        object.set("status", condition.status.as_str());
        object.set("lastProbeTime", seconds(condition.last_probe_time));
        object.set("lastTransitionTime", seconds(condition.last_transition_time));
        object.set_filled("reason", condition.reason.as_str());
        object.set_filled("message", condition.message.as_str());
        Value::from(object)
    });
    object.set_filled("conditions", conditions.collect::<Vec<_>>());
    object.set_some("startTime", status.start_time.map(seconds));
    object.set_some("completionTime", status.completion_time.map(seconds));
    for (name, count) in
        [("active", status.active), ("succeeded", status.succeeded), ("failed", status.failed)]
    {
        object.set_some(name, (count != 0).then_some(count));
    }
    object.set_some("ready", status.ready);
    object.set_some("terminating", status.terminating);
    object.set_filled("completedIndexes", status.completed_indexes.as_deref().unwrap_or(""));
    object
}
