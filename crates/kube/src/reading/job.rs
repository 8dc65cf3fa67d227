//! Kubernetes' Job as ours.
//!
//! Owns: which fields of a Job's spec are honoured and which refused. Does not own: the Pod's fields ([`super::template`]).
//!
//! Invariant: Kubernetes' types are taken apart field by field, so that a new field of a newer schema does not compile
//! until somebody decides what it gets.

use k8s_openapi::api::batch::v1 as batch;
use stint_api::{Job, JobSpec, JobStatus};

use super::convert::{Refusals, metadata, selector};
use super::template;

/// Converts a Job; what is refused is noted.
pub(super) fn job_of(from: batch::Job, refusals: &mut Refusals) -> Job {
    let batch::Job { metadata: meta, spec, status: _ } = from;
    Job {
        metadata: metadata(meta, refusals),
        spec: spec_of(spec.unwrap_or_default(), refusals),
        status: JobStatus::default(),
    }
}

fn spec_of(from: batch::JobSpec, refusals: &mut Refusals) -> JobSpec {
    let batch::JobSpec {
        active_deadline_seconds,
        backoff_limit,
        backoff_limit_per_index,
        completion_mode,
        completions,
        managed_by,
        manual_selector,
        max_failed_indexes,
        parallelism,
        pod_failure_policy,
        pod_replacement_policy,
        selector: pods,
        success_policy,
        suspend,
        template,
        ttl_seconds_after_finished,
    } = from;
    for (field, is_given) in [
        ("spec.backoffLimitPerIndex", backoff_limit_per_index.is_some()),
        ("spec.maxFailedIndexes", max_failed_indexes.is_some()),
        ("spec.podFailurePolicy", pod_failure_policy.is_some()),
        ("spec.successPolicy", success_policy.is_some()),
    ] {
        if is_given {
            refusals.not_yet(field);
        }
    }
    JobSpec {
        parallelism,
        completions,
        active_deadline_seconds,
        backoff_limit,
        selector: pods.map(|pods| selector(pods, "spec.selector", refusals)),
        manual_selector,
        template: template::template_of(template, refusals),
        ttl_seconds_after_finished,
        completion_mode: completion_mode.as_deref().map(Into::into),
        suspend,
        pod_replacement_policy: pod_replacement_policy.as_deref().map(Into::into),
        managed_by,
        // D4: the annotations that say them are read by defaulting, as those of a gRPC request are.
        backoff_base_ms: None,
        backoff_cap_ms: None,
    }
}
