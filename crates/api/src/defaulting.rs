//! What a Job gets that its author left out (job-semantics 1.1, M2, M3, D3, D4).
//!
//! Owns: defaults and generated labels. Does not own: whether the result is valid.
//!
//! Invariant: setting defaults twice changes nothing more, so that a manifest that is applied again compares equal.

use crate::container::{Container, ImagePullPolicy, TerminationMessagePolicy};
use crate::duration;
use crate::ids::JobUid;
use crate::job::{CompletionMode, Job, PodReplacementPolicy};
use crate::limits;
use crate::meta::LabelSelector;
use crate::pod::PodSpec;
use crate::volume::{HostPathType, VolumeSource};

/// Annotation that sets the first back-off delay (D4).
pub const BACKOFF_BASE_ANNOTATION: &str = "stint.dev/backoff-base";
/// Annotation that sets the longest back-off delay (D4).
pub const BACKOFF_CAP_ANNOTATION: &str = "stint.dev/backoff-cap";
/// Labels with the Job's name (J41).
pub const JOB_NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// Labels with the Job's uid (J41). The first is the one that the generated selector uses.
pub const CONTROLLER_UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
/// Label and annotation with a Pod's completion index (J31).
pub const COMPLETION_INDEX_LABEL: &str = "batch.kubernetes.io/job-completion-index";

/// Fills in what Kubernetes fills in.
///
/// The annotations of D4 become `backoff_base_ms` and `backoff_cap_ms` where those are unset; a text that is no duration
/// is left for validation to refuse.
pub fn set_defaults(job: &mut Job) {
    if job.metadata.namespace.is_empty() {
        job.metadata.namespace = limits::NAMESPACE_DEFAULT.to_owned();
    }
    let spec = &mut job.spec;
    if spec.parallelism.is_none() && spec.completions.is_none() {
        spec.completions = Some(1);
    }
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit.get_or_insert(limits::BACKOFF_LIMIT_DEFAULT);
    spec.completion_mode.get_or_insert(CompletionMode::NonIndexed);
    spec.suspend.get_or_insert(false);
    spec.pod_replacement_policy.get_or_insert(PodReplacementPolicy::Failed);
    let annotated = |annotation: &str| {
        let text = job.metadata.annotations.get(annotation)?;
        u64::try_from(duration::parse(text).ok()?.as_millis()).ok()
    };
    spec.backoff_base_ms = spec.backoff_base_ms.or_else(|| annotated(BACKOFF_BASE_ANNOTATION));
    spec.backoff_cap_ms = spec.backoff_cap_ms.or_else(|| annotated(BACKOFF_CAP_ANNOTATION));
    let base = *spec.backoff_base_ms.get_or_insert(limits::BACKOFF_BASE_MS_DEFAULT);
    // A base above the default cap is meant to be used.
    spec.backoff_cap_ms.get_or_insert(limits::BACKOFF_CAP_MS_DEFAULT.max(base));
    default_pod(&mut spec.template.spec);
}

/// Fills in what Kubernetes fills in of a Pod.
pub fn default_pod(pod: &mut PodSpec) {
    pod.termination_grace_period_seconds.get_or_insert(limits::GRACE_PERIOD_SECONDS_DEFAULT);
    pod.priority.get_or_insert(0);
    for container in pod.init_containers.iter_mut().chain(&mut pod.containers) {
        default_container(container);
    }
    for volume in &mut pod.volumes {
        let mode = match &mut volume.source {
            VolumeSource::ConfigMap(map) => &mut map.default_mode,
            VolumeSource::DownwardApi(fields) => &mut fields.default_mode,
            VolumeSource::Projected(projected) => &mut projected.default_mode,
            VolumeSource::HostPath(host) => {
                host.path_type.get_or_insert(HostPathType::Unset);
                continue;
            }
            VolumeSource::EmptyDir(_) => continue,
        };
        mode.get_or_insert(limits::FILE_MODE_DEFAULT);
    }
}

fn default_container(container: &mut Container) {
    for (resource, limit) in &container.limits {
        if !container.requests.contains_key(resource) {
            container.requests.insert(resource.clone(), limit.clone());
        }
    }
    let image = &container.image;
    // A process may name none.
    if !image.is_empty() {
        container.image_pull_policy.get_or_insert_with(|| pull_policy(image));
    }
    if container.termination_message_path.is_empty() {
        limits::TERMINATION_MESSAGE_PATH_DEFAULT.clone_into(&mut container.termination_message_path);
    }
    container.termination_message_policy.get_or_insert(TerminationMessagePolicy::File);
    let probes =
        [&mut container.startup_probe, &mut container.liveness_probe, &mut container.readiness_probe];
    for probe in probes.into_iter().flatten() {
        for (number, default) in [
            (&mut probe.timeout_seconds, limits::PROBE_TIMEOUT_SECONDS_DEFAULT),
            (&mut probe.period_seconds, limits::PROBE_PERIOD_SECONDS_DEFAULT),
            (&mut probe.success_threshold, limits::PROBE_SUCCESSES_DEFAULT),
            (&mut probe.failure_threshold, limits::PROBE_FAILURES_DEFAULT),
        ] {
            if *number == 0 {
                *number = default;
            }
        }
    }
}

/// An image that may change under its name is looked for each time.
fn pull_policy(image: &str) -> ImagePullPolicy {
    if image.contains('@') {
        return ImagePullPolicy::IfNotPresent;
    }
    // A colon before the last slash belongs to the registry's port.
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        None | Some((_, "" | "latest")) => ImagePullPolicy::Always,
        Some(_) => ImagePullPolicy::IfNotPresent,
    }
}

/// Adds the labels and the selector that a Job of this name and uid generates (M2), and gives a Job without labels those
/// of its template (M3). Labels that are there already are left for validation to compare.
pub fn generate_labels(job: &mut Job, uid: JobUid) {
    let uid = uid.to_string();
    let labels = &mut job.spec.template.labels;
    for key in JOB_NAME_LABELS {
        labels.entry(key.to_owned()).or_insert_with(|| job.metadata.name.clone());
    }
    for key in CONTROLLER_UID_LABELS {
        labels.entry(key.to_owned()).or_insert_with(|| uid.clone());
    }
    let selector = job.spec.selector.get_or_insert_with(LabelSelector::default);
    selector.match_labels.entry(CONTROLLER_UID_LABELS[0].to_owned()).or_insert(uid);
    if job.metadata.labels.is_empty() {
        job.metadata.labels = job.spec.template.labels.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Probe;
    use crate::quantity::Quantity;

    #[test]
    fn completions_default_to_one_only_without_parallelism() {
        let mut job = Job::default();
        set_defaults(&mut job);
        assert_eq!((job.spec.completions, job.spec.parallelism), (Some(1), Some(1)));
        let mut job = Job::default();
        job.spec.parallelism = Some(3);
        set_defaults(&mut job);
        assert_eq!((job.spec.completions, job.spec.parallelism), (None, Some(3)), "J20: a work queue");
        let mut job = Job::default();
        job.spec.completions = Some(5);
        set_defaults(&mut job);
        assert_eq!((job.spec.completions, job.spec.parallelism), (Some(5), Some(1)));
        assert_eq!(job.spec.backoff_limit, Some(6));
        assert_eq!(job.spec.pod_replacement_policy, Some(PodReplacementPolicy::Failed), "D3");
        assert_eq!((job.spec.backoff_base_ms, job.spec.backoff_cap_ms), (Some(10_000), Some(600_000)), "J50");
        let once = job.clone();
        set_defaults(&mut job);
        assert_eq!(job, once);
    }

    #[test]
    fn d4_annotations_set_the_back_off() {
        let mut job = Job::default();
        job.metadata.annotations.insert(BACKOFF_BASE_ANNOTATION.to_owned(), "250ms".to_owned());
        job.metadata.annotations.insert(BACKOFF_CAP_ANNOTATION.to_owned(), "1m".to_owned());
        set_defaults(&mut job);
        assert_eq!((job.spec.backoff_base_ms, job.spec.backoff_cap_ms), (Some(250), Some(60_000)));
    }

    #[test]
    fn limits_without_requests_set_the_requests() {
        let mut job = Job::default();
        let two = Quantity::parse("2").unwrap();
        let container =
            Container { limits: [("cpu".to_owned(), two.clone())].into(), ..Container::default() };
        job.spec.template.spec.containers.push(container);
        set_defaults(&mut job);
        assert_eq!(job.spec.template.spec.containers[0].requests["cpu"], two);
    }

    #[test]
    fn an_image_that_may_change_is_pulled_each_time() {
        for (image, expected) in [
            ("perl", "Always"),
            ("perl:latest", "Always"),
            ("perl:5.34", "IfNotPresent"),
            ("registry:5000/perl", "Always"),
            ("registry:5000/team/perl:5.34", "IfNotPresent"),
            ("perl@sha256:0123", "IfNotPresent"),
            ("perl:latest@sha256:0123", "IfNotPresent"),
        ] {
            let mut job = Job::default();
            let container = Container { image: image.to_owned(), ..Container::default() };
            job.spec.template.spec.init_containers.push(container);
            set_defaults(&mut job);
            let policy = job.spec.template.spec.init_containers[0].image_pull_policy.clone();
            assert_eq!(policy.as_ref().map(ImagePullPolicy::as_str), Some(expected), "{image}");
        }
    }

    #[test]
    fn probes_get_the_numbers_that_they_leave_out() {
        let mut job = Job::default();
        let probe = Probe { period_seconds: 3, ..Probe::default() };
        let container = Container { readiness_probe: Some(probe), ..Container::default() };
        job.spec.template.spec.containers.push(container);
        set_defaults(&mut job);
        let container = &job.spec.template.spec.containers[0];
        let probe = container.readiness_probe.as_ref().unwrap();
        let numbers = (probe.initial_delay_seconds, probe.timeout_seconds, probe.period_seconds);
        assert_eq!(numbers, (0, 1, 3));
        assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
        assert_eq!(container.termination_message_path, "/dev/termination-log", "P12");
        assert_eq!(container.termination_message_policy, Some(TerminationMessagePolicy::File), "P12");
    }

    #[test]
    fn m2_m3_generated_labels_and_selector() {
        let mut job = Job::default();
        job.metadata.name = "x".to_owned();
        generate_labels(&mut job, JobUid(7));
        assert_eq!(job.spec.template.labels.len(), 4);
        assert_eq!(job.spec.template.labels["job-name"], "x");
        assert_eq!(job.metadata.labels, job.spec.template.labels);
        let selector = job.spec.selector.unwrap();
        assert_eq!(selector.match_labels["batch.kubernetes.io/controller-uid"], JobUid(7).to_string());
    }
}
