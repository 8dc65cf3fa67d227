//! Messages that are no object: refused with the path of the field, never a panic.

use proptest::prelude::*;
use prost::Message;
use prost_types::{Duration, Timestamp};
use std::collections::BTreeMap;
use stint_api as api;
use stint_proto::v1;

use crate::generators;

/// Damages the encoding of a message, converts what can still be decoded, and converts that back and forth again.
fn convert_damaged<Object, Wire>(object: Object, damage: &[(usize, u8)])
where
    Object: Clone + PartialEq + std::fmt::Debug + TryFrom<Wire>,
    Object::Error: std::fmt::Debug,
    Wire: Message + Default + From<Object>,
{
    let mut bytes = Wire::from(object).encode_to_vec();
    for (position, value) in damage {
        let length = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(position % length) {
            *byte = *value;
        }
    }
    let Ok(wire) = Wire::decode(bytes.as_slice()) else {
        return;
    };
    if let Ok(object) = Object::try_from(wire) {
        let again = Object::try_from(Wire::from(object.clone())).expect("what was accepted once is accepted");
        assert_eq!(again, object);
    }
}

fn damage() -> impl Strategy<Value = Vec<(usize, u8)>> {
    proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)
}

proptest! {
    #[test]
    fn damaged_jobs_do_no_harm(job in generators::job(), damage in damage()) {
        convert_damaged::<_, v1::Job>(job, &damage);
    }

    #[test]
    fn damaged_pods_do_no_harm(pod in generators::pod(), damage in damage()) {
        convert_damaged::<_, v1::Pod>(pod, &damage);
    }

    #[test]
    fn damaged_nodes_do_no_harm(node in generators::node(), damage in damage()) {
        convert_damaged::<_, v1::Node>(node, &damage);
    }

    #[test]
    fn damaged_events_do_no_harm(event in generators::event(), damage in damage()) {
        convert_damaged::<_, v1::Event>(event, &damage);
    }
}

#[test]
fn errors_in_a_job_name_the_field() {
    let error = |change: fn(&mut v1::Job)| {
        let mut job = v1::Job::from(api::Job::default());
        change(&mut job);
        api::Job::try_from(job).unwrap_err().to_string()
    };
    fn spec(job: &mut v1::Job) -> &mut v1::JobSpec {
        job.spec.get_or_insert_default()
    }

    assert_eq!(
        error(|job| {
            let requests = BTreeMap::from([("cpu".to_owned(), "many".to_owned())]);
            let resources = Some(v1::ResourceRequirements { requests, ..Default::default() });
            let container = v1::Container { resources, ..Default::default() };
            let template = spec(job).template.get_or_insert_default();
            template.spec.get_or_insert_default().containers = vec![v1::Container::default(), container];
        }),
        "spec.template.spec.containers[1].resources.requests[cpu]: Invalid value: \"many\": quantities must match the \
         regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
    assert_eq!(
        error(|job| {
            let requirement = v1::LabelSelectorRequirement { operator: "Like".into(), ..Default::default() };
            spec(job).selector =
                Some(v1::LabelSelector { match_expressions: vec![requirement], ..Default::default() });
        }),
        "spec.selector.matchExpressions[0].operator: Unsupported value: \"Like\": supported values: \"In\", \"NotIn\", \
         \"Exists\", \"DoesNotExist\""
    );
    assert_eq!(
        error(|job| spec(job).backoff_base = Some(Duration { seconds: -1, nanos: 0 })),
        "spec.backoffBase: Invalid value: \"-1s 0ns\": must be greater than or equal to 0"
    );
    assert_eq!(
        error(|job| {
            job.metadata.get_or_insert_default().creation_timestamp =
                Some(Timestamp { seconds: 0, nanos: -5 });
        }),
        "metadata.creationTimestamp: Invalid value: \"0s -5ns\": nanos must be between 0 and 999,999,999"
    );
    assert_eq!(
        error(|job| {
            let condition = v1::JobCondition { r#type: "Complete".into(), ..Default::default() };
            job.status.get_or_insert_default().conditions = vec![condition];
        }),
        "status.conditions[0].lastTransitionTime: Required value"
    );
}

#[test]
fn v7_v17_v20_unknown_words_reach_validation() {
    let mut job = v1::Job::default();
    let spec = job.spec.get_or_insert_default();
    spec.completion_mode = Some("indexed".into());
    spec.pod_replacement_policy = Some(String::new());
    spec.template.get_or_insert_default().spec.get_or_insert_default().restart_policy =
        Some("Sometimes".into());
    let spec = api::Job::try_from(job).unwrap().spec;
    assert_eq!(spec.completion_mode, Some(api::CompletionMode::Other("indexed".into())));
    assert_eq!(spec.pod_replacement_policy, Some(api::PodReplacementPolicy::Other(String::new())));
    assert_eq!(spec.template.spec.restart_policy, Some(api::RestartPolicy::Other("Sometimes".into())));
}

#[test]
fn an_empty_job_is_left_to_validation() {
    assert_eq!(api::Job::try_from(v1::Job::default()), Ok(api::Job::default()));
}

#[test]
fn errors_in_a_pod_name_the_field() {
    let error = api::Pod::try_from(v1::Pod::default()).unwrap_err();
    assert_eq!(error.field(), "status.phase");

    let status = v1::PodStatus {
        phase: v1::PodPhase::Running.into(),
        container_statuses: vec![v1::ContainerStatus::default()],
        ..Default::default()
    };
    let pod = v1::Pod { status: Some(status), ..Default::default() };
    let error = api::Pod::try_from(pod).unwrap_err();
    assert_eq!(error.to_string(), "status.containerStatuses[0].state: Required value");
}

#[test]
fn errors_in_nodes_and_events_name_the_field() {
    let conditions = vec![v1::NodeCondition { status: 77, ..Default::default() }];
    let status = Some(v1::NodeStatus { conditions, ..Default::default() });
    let error = api::Node::try_from(v1::Node { status, ..Default::default() }).unwrap_err();
    assert_eq!(error.field(), "status.conditions[0].status");

    let event = v1::Event { r#type: v1::EventType::Normal.into(), ..Default::default() };
    assert_eq!(api::Event::try_from(event.clone()).unwrap_err().field(), "regarding");
    let event = v1::Event { regarding: Some(v1::ObjectReference::default()), ..event };
    assert_eq!(api::Event::try_from(event).unwrap_err().field(), "firstTimestamp");
    assert_eq!(api::Event::try_from(v1::Event::default()).unwrap_err().field(), "type");
}
