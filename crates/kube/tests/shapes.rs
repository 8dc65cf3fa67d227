//! What is written is what Kubernetes' own types read, and a Job survives being written and read.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use k8s_openapi::api::batch::v1::Job as KubernetesJob;
use k8s_openapi::api::core::v1::{Event as KubernetesEvent, Node as KubernetesNode, Pod as KubernetesPod};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use stint_api::{
    CompletionIndex, ConditionStatus, Container, ContainerState, ContainerStatus, ContainerTermination,
    EnvVar, Event, EventType, HostAlias, ImagePullPolicy, Incarnation, Job, JobCondition, JobConditionType,
    JobSpec, JobStatus, LabelOperator, LabelRequirement, LabelSelector, Node, NodeCapacity, NodeCondition,
    NodeInfo, ObjectMeta, ObjectReference, OwnerReference, Pod, PodCondition, PodPhase, PodSpec, PodStatus,
    PodTemplateSpec, Quantity, RestartPolicy, Revision, StringMap, Timestamp,
};
use stint_kube::{
    event_to_json, job_from_json, job_to_json, list_to_json, node_to_json, pod_to_json, read_manifest,
    to_yaml,
};

const NOON: Timestamp = Timestamp(1_769_860_800_123);
const NOON_TEXT: &str = "2026-01-31T12:00:00Z";

fn container() -> Container {
    Container {
        name: "main".to_owned(),
        image: "perl:5.34".to_owned(),
        command: vec!["perl".to_owned()],
        args: vec!["-v".to_owned()],
        env: vec![
            EnvVar { name: "A".to_owned(), value: "1".to_owned(), value_from: None },
            EnvVar { name: "EMPTY".to_owned(), ..EnvVar::default() },
        ],
        working_dir: "/tmp".to_owned(),
        requests: [("cpu".to_owned(), Quantity::parse("500m").unwrap())].into(),
        limits: [("memory".to_owned(), Quantity::parse("1Gi").unwrap())].into(),
        image_pull_policy: Some(ImagePullPolicy::Always),
        ..Container::default()
    }
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: "pi-abcde".to_owned(),
        generate_name: "pi-".to_owned(),
        namespace: "default".to_owned(),
        uid: "01234567-89ab-cdef-0011-223344556677".to_owned(),
        labels: [("job-name".to_owned(), "pi".to_owned())].into(),
        annotations: [("note".to_owned(), "yes".to_owned())].into(),
        resource_version: Revision(42),
        generation: 1,
        creation_timestamp: Some(NOON),
        deletion_timestamp: Some(NOON),
        deletion_grace_period_seconds: Some(30),
        owner_references: vec![OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: "pi".to_owned(),
            uid: "u".to_owned(),
            controller: true,
            block_owner_deletion: true,
        }],
    }
}

fn spec() -> PodSpec {
    PodSpec {
        containers: vec![container()],
        restart_policy: Some(RestartPolicy::OnFailure),
        termination_grace_period_seconds: Some(30),
        node_selector: [("disk".to_owned(), "ssd".to_owned())].into(),
        priority: Some(0),
        host_aliases: vec![HostAlias { ip: "192.0.2.2".to_owned(), hostnames: vec!["other".to_owned()] }],
        kept_fields: [("dnsPolicy".to_owned(), "\"Default\"".to_owned())].into(),
        ..PodSpec::default()
    }
}

/// Reads JSON as one of Kubernetes' types, writes it again, and finds that nothing was lost.
fn check<T: serde::de::DeserializeOwned + serde::Serialize>(value: &Value) -> T {
    let read: T = serde_json::from_value(value.clone()).unwrap();
    let again = serde_json::to_value(&read).unwrap();
    let mut expected = value.clone();
    drop_nulls(&mut expected);
    assert_eq!(again, expected);
    read
}

/// Kubernetes writes some fields as null that its types leave out.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[test]
fn a_job_is_a_kubernetes_job() {
    let condition = |condition_type| JobCondition {
        condition_type,
        status: ConditionStatus::True,
        last_probe_time: NOON,
        last_transition_time: NOON,
        reason: "CompletionsReached".to_owned(),
        message: "Reached expected number of succeeded pods".to_owned(),
    };
    let job = Job {
        metadata: metadata(),
        spec: JobSpec {
            parallelism: Some(2),
            completions: Some(3),
            backoff_limit: Some(6),
            completion_mode: Some("Indexed".into()),
            pod_replacement_policy: Some("Failed".into()),
            suspend: Some(false),
            selector: Some(LabelSelector {
                match_labels: [("batch.kubernetes.io/controller-uid".to_owned(), "u".to_owned())].into(),
                match_expressions: vec![LabelRequirement {
                    key: "a".to_owned(),
                    operator: LabelOperator::Exists,
                    values: Vec::new(),
                }],
            }),
            template: PodTemplateSpec {
                labels: metadata().labels,
                annotations: StringMap::new(),
                spec: spec(),
            },
            backoff_base_ms: Some(10_000),
            backoff_cap_ms: Some(90_000),
            ..JobSpec::default()
        },
        status: JobStatus {
            conditions: vec![
                condition(JobConditionType::SuccessCriteriaMet),
                condition(JobConditionType::Complete),
            ],
            start_time: Some(NOON),
            completion_time: Some(NOON),
            active: 0,
            ready: Some(0),
            terminating: Some(0),
            succeeded: 3,
            failed: 0,
            completed_indexes: Some("0-2".to_owned()),
        },
    };
    let value = job_to_json(&job);
    check::<KubernetesJob>(&value);
    assert_eq!(
        value["metadata"]["annotations"]["stint.dev/backoff-cap"], "1m30s",
        "D4: shown where it is not the default"
    );
    assert_eq!(
        value["metadata"]["annotations"].get("stint.dev/backoff-base"),
        None,
        "D4: the default is not shown"
    );
    assert_eq!(value["metadata"]["resourceVersion"], "42");
    assert_eq!(value["metadata"]["creationTimestamp"], NOON_TEXT);
    assert_eq!(value["status"]["succeeded"], 3);
    assert_eq!(value["status"].get("active"), None, "counts of zero are left out");
    assert_eq!((&value["status"]["ready"], &value["status"]["terminating"]), (&json!(0), &json!(0)));
    assert_eq!(value["status"]["conditions"][1]["type"], "Complete");
    assert_eq!(value["status"]["completedIndexes"], "0-2");
    assert_eq!(value["spec"]["template"]["spec"]["dnsPolicy"], "Default");
    assert_eq!(value["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"], "500m");
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["apiVersion", "kind", "metadata", "spec", "status"]);
}

#[test]
fn an_annotated_back_off_that_was_changed_is_shown_as_it_is() {
    let mut job = Job::default();
    job.metadata.annotations = [("stint.dev/backoff-base".to_owned(), "1s".to_owned())].into();
    for (base, shown) in [(1_000, "1s"), (2_000, "2s"), (10_000, "10s")] {
        job.spec.backoff_base_ms = Some(base);
        assert_eq!(job_to_json(&job)["metadata"]["annotations"]["stint.dev/backoff-base"], shown);
        let mut read = job_from_json(&job_to_json(&job)).unwrap();
        stint_api::set_defaults(&mut read);
        assert_eq!(read.spec.backoff_base_ms, Some(base));
    }
}

#[test]
fn a_pod_is_a_kubernetes_pod() {
    let termination = ContainerTermination {
        exit_code: 137,
        signal: 9,
        reason: "Error".to_owned(),
        message: "killed".to_owned(),
        started_at: Some(NOON),
        finished_at: Some(NOON),
    };
    let states = [
        ContainerState::Waiting { reason: "CrashLoopBackOff".to_owned(), message: "wait".to_owned() },
        ContainerState::Running { started_at: Some(NOON) },
        ContainerState::Terminated(termination.clone()),
    ];
    for state in states {
        let pod = Pod {
            metadata: metadata(),
            spec: spec(),
            node_name: Some("n1".to_owned()),
            completion_index: Some(CompletionIndex(3)),
            binding_revision: Some(Revision(7)),
            status: PodStatus {
                phase: PodPhase::Failed,
                conditions: vec![PodCondition {
                    condition_type: "DisruptionTarget".to_owned(),
                    status: ConditionStatus::True,
                    last_transition_time: Some(NOON),
                    reason: "NodeLost".to_owned(),
                    message: String::new(),
                }],
                reason: "NodeLost".to_owned(),
                message: "lost".to_owned(),
                start_time: Some(NOON),
                container_statuses: vec![ContainerStatus {
                    name: "main".to_owned(),
                    state: state.clone(),
                    last_state: Some(ContainerState::Terminated(termination.clone())),
                    ready: false,
                    restart_count: 2,
                    started: Some(true),
                    image: "perl:5.34".to_owned(),
                    image_id: "sha256:0123".to_owned(),
                    container_id: "containerd://4567".to_owned(),
                }],
                init_container_statuses: vec![ContainerStatus {
                    name: "setup".to_owned(),
                    ..ContainerStatus::default()
                }],
                host_ip: Some("192.0.2.1".to_owned()),
                pod_ips: vec!["192.0.2.2".to_owned(), "2001:db8::2".to_owned()],
            },
        };
        let value = pod_to_json(&pod);
        let read = check::<KubernetesPod>(&value);
        assert_eq!(value["metadata"]["annotations"]["stint.dev/fencing-token"], "7", "D11");
        assert_eq!(read.spec.unwrap().node_name.as_deref(), Some("n1"));
        let status = read.status.unwrap();
        assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("NodeLost")));
        assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(status.pod_ip.as_deref(), Some("192.0.2.2"));
        assert_eq!(status.pod_ips.unwrap()[1].ip, "2001:db8::2");
        assert_eq!(status.init_container_statuses.unwrap()[0].name, "setup");
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(container.container_id.as_deref(), Some("containerd://4567"));
        assert_eq!((container.image_id.as_str(), container.started), ("sha256:0123", Some(true)));
        let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((last.exit_code, last.signal, container.restart_count), (137, Some(9), 2));
        let shown = container.state.as_ref().unwrap();
        let shown = (shown.waiting.is_some(), shown.running.is_some(), shown.terminated.is_some());
        let expected = match state {
            ContainerState::Waiting { .. } => (true, false, false),
            ContainerState::Running { .. } => (false, true, false),
            ContainerState::Terminated(_) => (false, false, true),
        };
        assert_eq!(shown, expected);
    }
}

#[test]
fn a_node_is_a_kubernetes_node() {
    let node = Node {
        metadata: ObjectMeta {
            name: "n1".to_owned(),
            resource_version: Revision(3),
            ..ObjectMeta::default()
        },
        unschedulable: true,
        capacity: NodeCapacity { cpu_millis: 2500, memory_bytes: 8 << 30, pods: 110 },
        requested: NodeCapacity { cpu_millis: 1000, memory_bytes: 0, pods: 1 },
        conditions: vec![NodeCondition {
            condition_type: "Ready".to_owned(),
            status: ConditionStatus::True,
            last_transition_time: Some(NOON),
            reason: "AgentReady".to_owned(),
            message: "the agent holds a live lease".to_owned(),
        }],
        node_uid: "f".to_owned(),
        boot_id: "b".to_owned(),
        incarnation: Incarnation(9),
        runtimes: vec!["process".to_owned()],
        agent_version: "0.1.0".to_owned(),
        features: vec!["root".to_owned()],
        info: NodeInfo {
            kernel_version: "6.1.0".to_owned(),
            os_image: "Debian GNU/Linux 12".to_owned(),
            operating_system: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            addresses: vec!["192.0.2.7".to_owned()],
        },
    };
    let value = node_to_json(&node);
    let read = check::<KubernetesNode>(&value);
    assert_eq!(read.spec.unwrap().unschedulable, Some(true));
    assert_eq!(value["status"]["capacity"], json!({ "cpu": "2500m", "memory": "8388608Ki", "pods": "110" }));
    assert_eq!(value["metadata"]["annotations"]["stint.dev/incarnation"], "9");
    assert_eq!(value["metadata"]["annotations"]["stint.dev/requested-cpu"], "1");
    let info = &value["status"]["nodeInfo"];
    assert_eq!((&info["bootID"], &info["architecture"]), (&json!("b"), &json!("amd64")));
    let addresses = json!([
        { "type": "InternalIP", "address": "192.0.2.7" },
        { "type": "Hostname", "address": node.metadata.name },
    ]);
    assert_eq!(value["status"]["addresses"], addresses);
}

#[test]
fn an_event_is_a_kubernetes_event() {
    let event = Event {
        metadata: ObjectMeta {
            name: "pi.1".to_owned(),
            namespace: "default".to_owned(),
            ..ObjectMeta::default()
        },
        regarding: ObjectReference {
            kind: "Job".to_owned(),
            namespace: "default".to_owned(),
            name: "pi".to_owned(),
            uid: "u".to_owned(),
        },
        event_type: EventType::Warning,
        reason: "BackoffLimitExceeded".to_owned(),
        message: "too often".to_owned(),
        source: "job-controller".to_owned(),
        count: 3,
        first_timestamp: NOON,
        last_timestamp: NOON,
    };
    let value = event_to_json(&event);
    let read = check::<KubernetesEvent>(&value);
    assert_eq!((read.count, read.type_.as_deref()), (Some(3), Some("Warning")));
    assert_eq!(read.involved_object.api_version.as_deref(), Some("batch/v1"));
    assert_eq!(value["lastTimestamp"], NOON_TEXT);
}

#[test]
fn a_list_says_its_revision() {
    assert_eq!(list_to_json(vec![json!(1)], 7)["metadata"]["resourceVersion"], "7");
    let list = list_to_json(Vec::new(), 0);
    assert_eq!(
        list,
        json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": [] })
    );
}

/// Texts that YAML could take for something else, and any others.
fn text() -> impl Strategy<Value = String> {
    let tricky = [
        "yes",
        "no",
        "on",
        "y",
        "~",
        "null",
        "true",
        "1",
        "1.5",
        "0x10",
        "1e3",
        "-",
        "- a",
        "a: b",
        "#x",
        "a #b",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%",
        "@",
        "`",
        "'",
        "\"",
        "{a",
        "[",
        "a\nb",
        "\n",
        " a",
        "a ",
        "\ta",
        "---",
        "...",
        "2026-01-31",
        "0755",
        "1_000",
        "<<",
        "=",
        ".inf",
        "\u{85}",
        "\u{2028}",
        "\u{1f600}",
        "$(VAR)",
        "a\r\nb",
        "\u{7f}",
        "\\",
        "key:",
        "?",
        "? a",
    ];
    prop_oneof![
        prop::sample::select(tricky.to_vec()).prop_map(str::to_owned),
        "\\PC{1,20}",
        "[ -~\n\t]{1,40}",
        "[a-z]{1,8}"
    ]
}

fn strings() -> impl Strategy<Value = StringMap> {
    btree_map(text(), prop_oneof![text(), Just(String::new())], 0..4)
}

fn any_quantities() -> impl Strategy<Value = std::collections::BTreeMap<String, Quantity>> {
    let quantity = prop::sample::select(&["1", "500m", "1.5Gi", "0", "1e3"][..]);
    btree_map("(cpu|memory|x/y)", quantity.prop_map(|text| Quantity::parse(text).unwrap()), 0..3)
}

prop_compose! {
    fn any_container()(
        name in text(), image in text(), command in vec(text(), 0..3), args in vec(text(), 0..3),
        env in vec((text(), prop_oneof![text(), Just(String::new())]), 0..3), working_dir in option::of(text()),
        requests in any_quantities(), limits in any_quantities(), pulls in any::<bool>(),
    ) -> Container {
        let kept = [("ports", r#"[{"containerPort":80}]"#)];
        Container {
            name, image, command, args, requests, limits,
            env: env.into_iter().map(|(name, value)| EnvVar { name, value, value_from: None }).collect(),
            working_dir: working_dir.unwrap_or_default(),
            kept_fields: kept.iter().filter(|_| pulls).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Container::default()
        }
    }
}

prop_compose! {
    fn any_template()(
        labels in strings(), annotations in strings(), containers in vec(any_container(), 0..3),
        restart_policy in option::of(text()), grace in option::of(any::<i64>()), node_selector in strings(),
        priority in option::of(any::<i32>()), keeps in any::<bool>(),
    ) -> PodTemplateSpec {
        let kept = [("dnsPolicy", "\"ClusterFirst\""), ("enableServiceLinks", "false"), ("os", r#"{"name":"linux"}"#)];
        PodTemplateSpec { labels, annotations, spec: PodSpec {
            containers, node_selector, priority,
            restart_policy: restart_policy.as_deref().map(Into::into),
            termination_grace_period_seconds: grace,
            kept_fields: kept.iter().filter(|_| keeps).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..PodSpec::default()
        } }
    }
}

prop_compose! {
    fn any_metadata()(
        name in text(), generate_name in option::of(text()), namespace in option::of(text()), uid in option::of(text()),
        labels in strings(), annotations in strings(), revision in any::<u64>(), owned in any::<bool>(),
    ) -> ObjectMeta {
        ObjectMeta {
            name, labels, annotations,
            generate_name: generate_name.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            resource_version: Revision(revision),
            owner_references: if owned { metadata().owner_references } else { Vec::new() },
            ..ObjectMeta::default()
        }
    }
}

fn any_selector() -> impl Strategy<Value = LabelSelector> {
    let operators =
        [LabelOperator::In, LabelOperator::NotIn, LabelOperator::Exists, LabelOperator::DoesNotExist];
    let requirement = (text(), prop::sample::select(operators.to_vec()), vec(text(), 0..3));
    (strings(), vec(requirement, 0..3)).prop_map(|(match_labels, requirements)| LabelSelector {
        match_labels,
        match_expressions: requirements
            .into_iter()
            .map(|(key, operator, values)| LabelRequirement { key, operator, values })
            .collect(),
    })
}

prop_compose! {
    fn any_job()(
        metadata in any_metadata(), template in any_template(), selector in option::of(any_selector()),
        numbers in (option::of(any::<i32>()), option::of(any::<i32>()), option::of(any::<i64>()), option::of(any::<i32>()), option::of(any::<i32>())),
        mode in option::of(text()), policy in option::of(text()), managed_by in option::of(text()),
        suspend in option::of(any::<bool>()), manual in option::of(any::<bool>()),
    ) -> Job {
        let (parallelism, completions, active_deadline_seconds, backoff_limit, ttl_seconds_after_finished) = numbers;
        Job { metadata, status: JobStatus::default(), spec: JobSpec {
            parallelism, completions, active_deadline_seconds, backoff_limit, ttl_seconds_after_finished, template, selector,
            managed_by, suspend,
            manual_selector: manual,
            completion_mode: mode.as_deref().map(Into::into),
            pod_replacement_policy: policy.as_deref().map(Into::into),
            backoff_base_ms: None,
            backoff_cap_ms: None,
        } }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_job_survives_json(job in any_job()) {
        let value = job_to_json(&job);
        prop_assert!(serde_json::from_value::<KubernetesJob>(value.clone()).is_ok());
        prop_assert_eq!(job_from_json(&value), Ok(job));
    }

    #[test]
    fn a_job_survives_yaml(job in any_job()) {
        let text = to_yaml(&job_to_json(&job));
        prop_assert_eq!(read_manifest(&text), Ok(vec![job]), "{}", text);
    }

    #[test]
    fn a_job_survives_the_text_of_json(job in any_job()) {
        let value = job_to_json(&job);
        // YAML wants control characters escaped that JSON's writer leaves as they are.
        let text = serde_json::to_string_pretty(&value).unwrap().replace('\u{7f}', "\\u007f");
        prop_assert_eq!(read_manifest(&text), Ok(vec![job]), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n\t]{0,200}") {
        let _ = read_manifest(&text);
        let _ = read_manifest(&format!("apiVersion: batch/v1\nkind: Job\n{text}"));
    }
}
