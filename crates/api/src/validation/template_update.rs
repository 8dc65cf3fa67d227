//! What of a Job's template may change (job-semantics 1.4).
//!
//! Owns: the window and the fields. Does not own: whether the new template is valid by itself.

use super::IMMUTABLE;
use crate::defaulting::default_pod;
use crate::field_error::FieldError;
use crate::job::Job;

/// Job-semantics 1.4: what of a template may change, and only while suspended with nothing running.
pub(super) fn validate(old: &Job, new: &Job, errors: &mut Vec<FieldError>) {
    // What was stored by an earlier version may lack defaults that are set today.
    let mut before = old.spec.template.clone();
    default_pod(&mut before.spec);
    let after = &new.spec.template;
    if before == *after {
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
        let old_ones = before.spec.init_containers.iter().chain(&before.spec.containers);
        let containers = allowed.spec.init_containers.iter_mut().chain(&mut allowed.spec.containers);
        for (container, old_one) in containers.zip(old_ones) {
            container.requests.clone_from(&old_one.requests);
            container.limits.clone_from(&old_one.limits);
        }
    }
    if allowed != before {
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
