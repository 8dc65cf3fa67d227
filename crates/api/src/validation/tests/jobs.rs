//! Jobs as a whole, and what a Pod of one container had from the start.

use super::valid;
use crate::container::EnvVar;
use crate::defaulting::{BACKOFF_BASE_ANNOTATION, CONTROLLER_UID_LABELS, generate_labels};
use crate::ids::JobUid;
use crate::job::Job;
use crate::limits;
use crate::quantity::Quantity;
use crate::validation::{validate_create, validate_update, warnings};

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
            Box::new(|job| {
                job.spec.template.spec.runtime_class_name = Some("process".into());
                job.spec.template.spec.containers[0].command.clear();
            }),
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
                job.spec.template.spec.kept_fields.insert("nodeName".into(), "\"n\"".into());
            }),
            "spec.template.spec.nodeName: Forbidden: not supported",
        ),
        (
            "1.6",
            Box::new(|job| {
                let alias = crate::HostAlias { ip: "10.0.0.1 x".to_owned(), hostnames: vec!["a".to_owned()] };
                job.spec.template.spec.host_aliases = vec![alias];
            }),
            "spec.template.spec.hostAliases[0].ip: Invalid value: \"10.0.0.1 x\": must be a valid IP address",
        ),
        (
            "1.6",
            Box::new(|job| {
                let hostnames = vec!["a.b".to_owned(), "a\n10.0.0.2 b".to_owned()];
                let alias = crate::HostAlias { ip: "fd00::1".to_owned(), hostnames };
                job.spec.template.spec.host_aliases = vec![alias];
            }),
            "spec.template.spec.hostAliases[0].hostnames[1]: Invalid value",
        ),
        (
            "1.6",
            Box::new(|job| {
                let kept = &mut job.spec.template.spec.containers[0].kept_fields;
                kept.insert("volumeDevices".into(), "[]".into());
            }),
            "spec.template.spec.containers[0].volumeDevices: Forbidden: not supported",
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
        let expected = format!("spec.template.metadata.labels[{key}]: Invalid value: {stolen:?}: must be");
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
    job.spec.template.spec.kept_fields.insert("imagePullSecrets".to_owned(), "[]".to_owned());
    let warnings = warnings(&job, None);
    let of_secrets = warnings.iter().find(|one| one.contains("imagePullSecrets: kept without effect"));
    assert!(of_secrets.is_some_and(|warning| warning.contains("--registry-credentials")), "{warnings:?}");
    assert!(
        warnings
            .iter()
            .any(|one| one.contains("image \"perl:5.34\" is not pulled: a node whose runtime is process"))
    );
    assert!(warnings.iter().any(|one| one.contains("spec.template.spec.dnsPolicy: kept without effect")));
    // What is said of images depends on what will run it.
    for (class, default_runtime, is_said) in [
        (None, Some("process"), true),
        (None, Some("cri"), false),
        (Some("process"), Some("oci"), true),
        (Some("oci"), Some("process"), false),
        (Some("cri"), None, false),
    ] {
        job.spec.template.spec.runtime_class_name = class.map(str::to_owned);
        let said = crate::validation::warnings(&job, default_runtime);
        let about_images = said.iter().any(|one| one.contains("is not pulled"));
        assert_eq!(about_images, is_said, "{class:?} {default_runtime:?}: {said:?}");
    }
}
