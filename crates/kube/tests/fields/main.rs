//! No field of Kubernetes' Job is dropped in silence (D10): what is read is written again, or is refused with its path.
//!
//! Every field that the types have is found by reading them ([`leaves`]), so that one that a newer schema brings is tried
//! too. Each is given alone, with a value that says something.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod leaves;
#[path = "../../../proto/tests/wire/template_generators.rs"]
mod template_generators;

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job as KubernetesJob;
use proptest::prelude::*;
use serde_json::{Value, json};
use stint_api::{Capabilities, Container, Job, Lifecycle, PodSecurityContext, PodSpec, SecurityContext};
use stint_kube::{job_from_json, job_to_json, read_manifest, to_yaml};

use leaves::{Leaf, leaves_of};

/// Fields that mean nothing in a request, in Kubernetes either: what the server sets, and what Pods get from their Job.
const WITHOUT_MEANING: [&str; 18] = [
    "apiVersion",
    "kind",
    "metadata.creationTimestamp",
    "metadata.deletionGracePeriodSeconds",
    "metadata.deletionTimestamp",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.selfLink",
    "status",
    "spec.template.metadata.creationTimestamp",
    "spec.template.metadata.deletionGracePeriodSeconds",
    "spec.template.metadata.deletionTimestamp",
    "spec.template.metadata.generateName",
    "spec.template.metadata.generation",
    "spec.template.metadata.managedFields",
    "spec.template.metadata.name",
    "spec.template.metadata.namespace",
    "spec.template.metadata.resourceVersion",
];
/// The same for fields whose value says what holds anyway.
const AS_BY_DEFAULT: [&str; 3] =
    ["spec.template.metadata.selfLink", "spec.template.metadata.uid", "spec.template.spec.hostUsers"];

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn d10_no_field_is_dropped_in_silence() {
    let leaves = leaves_of::<KubernetesJob>();
    assert!(leaves.len() > 600, "{} fields", leaves.len());
    let (mut n_taken, mut n_refused, mut dropped) = (0, 0, Vec::new());
    let mut unused: BTreeSet<&str> = WITHOUT_MEANING.into_iter().chain(AS_BY_DEFAULT).collect();
    for leaf in &leaves {
        let path = leaf.path();
        let without_meaning = WITHOUT_MEANING.iter().chain(&AS_BY_DEFAULT).find(|top| is_below(&path, top));
        if let Some(top) = without_meaning {
            unused.remove(top);
            continue;
        }
        match job_from_json(&document(leaf)) {
            Ok(job) if leaf.is_in(&job_to_json(&job)) => n_taken += 1,
            Ok(_) => dropped.push(path),
            Err(errors) => {
                let is_named = errors.iter().any(|error| {
                    let named = error.problem.path();
                    !named.is_empty() && (is_below(&path, named) || is_below(named, &leaf.parent()))
                });
                assert!(is_named, "{path} is refused without its path: {errors:?}");
                n_refused += 1;
            }
        }
    }
    assert!(dropped.is_empty(), "dropped in silence: {dropped:#?}");
    assert!(unused.is_empty(), "no such fields: {unused:?}");
    assert!(n_taken > 150 && n_refused > 300, "{n_taken} taken, {n_refused} refused");
}

/// A Job in which the field is given, and around it what is needed to be read.
fn document(leaf: &Leaf) -> Value {
    let mut document = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "a" },
        "spec": { "template": { "spec": { "containers": [{ "name": "main" }] } } },
    });
    leaf.put_into(&mut document);
    document
}

#[test]
fn d10_a_host_user_namespace_that_is_not_wanted_is_refused() {
    let leaves = leaves_of::<KubernetesJob>();
    let leaf = leaves.iter().find(|leaf| leaf.path() == "spec.template.spec.hostUsers").unwrap();
    let mut document = document(leaf);
    document["spec"]["template"]["spec"]["hostUsers"] = json!(false);
    let errors = job_from_json(&document).unwrap_err();
    assert_eq!(errors[0].problem.path(), "spec.template.spec.hostUsers");
}

/// What the generators of templates ask for.
mod generators {
    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use stint_api::StringMap;

    pub fn text() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), "[ -~]{1,6}", "[a-z\u{e4}\u{1f600}\n:#-]{1,6}"]
    }

    pub fn string_map() -> impl Strategy<Value = StringMap> {
        btree_map(text(), text(), 0..3)
    }
}

/// In a manifest, a text or object that says nothing is none; fields without effect have known names and JSON values.
fn as_read(mut spec: PodSpec) -> PodSpec {
    fn say<T>(field: &mut Option<T>, says: impl Fn(&T) -> bool) {
        if field.as_ref().is_some_and(|value| !says(value)) {
            *field = None;
        }
    }
    let says_text = |text: &String| !text.is_empty();
    say(&mut spec.restart_policy, |word| !word.as_str().is_empty());
    say(&mut spec.runtime_class_name, says_text);
    say(&mut spec.hostname, says_text);
    say(&mut spec.subdomain, says_text);
    if let Some(context) = &mut spec.security_context {
        say(&mut context.fs_group_change_policy, says_text);
    }
    say(&mut spec.security_context, |context| *context != PodSecurityContext::default());
    if !spec.kept_fields.is_empty() {
        spec.kept_fields = [("dnsPolicy".to_owned(), "\"Default\"".to_owned())].into();
    }
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        say(&mut container.restart_policy, |word| !word.as_str().is_empty());
        say(&mut container.image_pull_policy, |word| !word.as_str().is_empty());
        say(&mut container.termination_message_policy, |word| !word.as_str().is_empty());
        for mount in &mut container.volume_mounts {
            say(&mut mount.mount_propagation, |word| !word.as_str().is_empty());
        }
        if let Some(context) = &mut container.security_context {
            say(&mut context.capabilities, |set| *set != Capabilities::default());
        }
        say(&mut container.security_context, |context| *context != SecurityContext::default());
        if let Some(lifecycle) = &mut container.lifecycle {
            say(&mut lifecycle.stop_signal, says_text);
        }
        say(&mut container.lifecycle, |lifecycle| *lifecycle != Lifecycle::default());
        if !container.kept_fields.is_empty() {
            container.kept_fields = [("ports".to_owned(), r#"[{"containerPort":80}]"#.to_owned())].into();
        }
    }
    if spec.containers.is_empty() {
        spec.containers.push(Container::default());
    }
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_field_of_a_template_survives(template in template_generators::pod_template()) {
        let mut job = Job::default();
        job.metadata.name = "a".to_owned();
        job.spec.template.spec = as_read(template.spec);
        (job.spec.template.labels, job.spec.template.annotations) = (template.labels, template.annotations);
        let value = job_to_json(&job);
        prop_assert!(serde_json::from_value::<KubernetesJob>(value.clone()).is_ok(), "{}", value);
        let read = job_from_json(&value);
        prop_assert_eq!(read.as_ref(), Ok(&job));
        prop_assert_eq!(job_to_json(&read.unwrap()), value.clone());
        prop_assert_eq!(read_manifest(&to_yaml(&value)), Ok(vec![job]));
    }
}
