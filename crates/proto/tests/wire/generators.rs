//! Generators of any object that the API types can express, as far as it is in its canonical form: a text that is one of
//! the known words is never in `Other`.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use stint_api::*;

use crate::template_generators::{pod_spec, pod_template};

pub fn job() -> impl Strategy<Value = Job> {
    (object_meta(), job_spec(), job_status()).prop_map(|(metadata, spec, status)| Job {
        metadata,
        spec,
        status,
    })
}

pub fn pod() -> impl Strategy<Value = Pod> {
    (
        object_meta(),
        pod_spec(),
        option::of(text()),
        option::of(any::<u32>()),
        option::of(any::<u64>()),
        pod_status(),
    )
        .prop_map(|(metadata, spec, node_name, index, revision, status)| Pod {
            metadata,
            spec,
            node_name,
            completion_index: index.map(CompletionIndex),
            binding_revision: revision.map(Revision),
            status,
        })
}

pub fn node() -> impl Strategy<Value = Node> {
    (
        object_meta(),
        any::<bool>(),
        (node_capacity(), node_capacity()),
        vec(node_condition(), 0..3),
        (text(), text(), text()),
        any::<u64>(),
        (vec(text(), 0..3), vec(text(), 0..3), node_info()),
    )
        .prop_map(|(metadata, unschedulable, amounts, conditions, texts, incarnation, offers)| Node {
            metadata,
            unschedulable,
            capacity: amounts.0,
            requested: amounts.1,
            conditions,
            node_uid: texts.0,
            boot_id: texts.1,
            incarnation: Incarnation(incarnation),
            runtimes: offers.0,
            agent_version: texts.2,
            features: offers.1,
            info: offers.2,
        })
}

fn node_info() -> impl Strategy<Value = NodeInfo> {
    (text(), text(), text(), text(), vec(text(), 0..3)).prop_map(
        |(kernel_version, os_image, operating_system, architecture, addresses)| NodeInfo {
            kernel_version,
            os_image,
            operating_system,
            architecture,
            addresses,
        },
    )
}

pub fn event() -> impl Strategy<Value = Event> {
    (
        object_meta(),
        (text(), text(), text(), text()),
        prop_oneof![Just(EventType::Normal), Just(EventType::Warning)],
        (text(), text(), text()),
        any::<u32>(),
        (moment(), moment()),
    )
        .prop_map(|(metadata, regarding, event_type, texts, count, times)| Event {
            metadata,
            regarding: ObjectReference {
                kind: regarding.0,
                namespace: regarding.1,
                name: regarding.2,
                uid: regarding.3,
            },
            event_type,
            reason: texts.0,
            message: texts.1,
            source: texts.2,
            count,
            first_timestamp: times.0,
            last_timestamp: times.1,
        })
}

pub fn config_map() -> impl Strategy<Value = ConfigMap> {
    (object_meta(), string_map(), btree_map(text(), vec(any::<u8>(), 0..10), 0..3), option::of(any::<bool>()))
        .prop_map(|(metadata, data, binary_data, immutable)| ConfigMap {
            metadata,
            data,
            binary_data,
            immutable,
        })
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z0-9.-]{1,20}", "\\PC{0,20}"]
}

fn moment() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (0..4_000_000_000_000_i64).prop_map(Timestamp),
        any::<i64>().prop_map(Timestamp),
        prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(-1)].prop_map(Timestamp),
    ]
}

pub(crate) fn string_map() -> impl Strategy<Value = StringMap> {
    btree_map(text(), text(), 0..4)
}

fn object_meta() -> impl Strategy<Value = ObjectMeta> {
    (
        (text(), text(), text(), text()),
        (string_map(), string_map()),
        (any::<u64>(), any::<i64>()),
        (option::of(moment()), option::of(moment()), option::of(any::<i64>())),
        vec(owner_reference(), 0..3),
    )
        .prop_map(|(texts, maps, numbers, times, owner_references)| ObjectMeta {
            name: texts.0,
            generate_name: texts.1,
            namespace: texts.2,
            uid: texts.3,
            labels: maps.0,
            annotations: maps.1,
            resource_version: Revision(numbers.0),
            generation: numbers.1,
            creation_timestamp: times.0,
            deletion_timestamp: times.1,
            deletion_grace_period_seconds: times.2,
            owner_references,
        })
}

fn owner_reference() -> impl Strategy<Value = OwnerReference> {
    ((text(), text(), text(), text()), any::<bool>(), any::<bool>()).prop_map(
        |(texts, controller, block_owner_deletion)| OwnerReference {
            api_version: texts.0,
            kind: texts.1,
            name: texts.2,
            uid: texts.3,
            controller,
            block_owner_deletion,
        },
    )
}

fn condition_status() -> impl Strategy<Value = ConditionStatus> {
    prop_oneof![Just(ConditionStatus::True), Just(ConditionStatus::False), Just(ConditionStatus::Unknown)]
}

fn label_selector() -> impl Strategy<Value = LabelSelector> {
    let operator = prop_oneof![
        Just(LabelOperator::In),
        Just(LabelOperator::NotIn),
        Just(LabelOperator::Exists),
        Just(LabelOperator::DoesNotExist)
    ];
    let requirement = (text(), operator, vec(text(), 0..3))
        .prop_map(|(key, operator, values)| LabelRequirement { key, operator, values });
    (string_map(), vec(requirement, 0..3))
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn job_spec() -> impl Strategy<Value = JobSpec> {
    (
        (
            option::of(any::<i32>()),
            option::of(any::<i32>()),
            option::of(any::<i32>()),
            option::of(any::<i32>()),
        ),
        option::of(any::<i64>()),
        option::of(label_selector()),
        (option::of(any::<bool>()), option::of(any::<bool>())),
        pod_template(),
        option::of(completion_mode()),
        option::of(pod_replacement_policy()),
        option::of(text()),
        (option::of(any::<u64>()), option::of(any::<u64>())),
    )
        .prop_map(
            |(numbers, deadline, selector, switches, template, mode, policy, managed_by, backoff)| JobSpec {
                parallelism: numbers.0,
                completions: numbers.1,
                active_deadline_seconds: deadline,
                backoff_limit: numbers.2,
                selector,
                manual_selector: switches.0,
                template,
                ttl_seconds_after_finished: numbers.3,
                completion_mode: mode,
                suspend: switches.1,
                pod_replacement_policy: policy,
                managed_by,
                backoff_base_ms: backoff.0,
                backoff_cap_ms: backoff.1,
            },
        )
}

fn completion_mode() -> impl Strategy<Value = CompletionMode> {
    prop_oneof![
        Just(CompletionMode::Indexed),
        Just(CompletionMode::NonIndexed),
        text().prop_map(|text| CompletionMode::from(text.as_str()))
    ]
}

fn pod_replacement_policy() -> impl Strategy<Value = PodReplacementPolicy> {
    prop_oneof![
        Just(PodReplacementPolicy::Failed),
        Just(PodReplacementPolicy::TerminatingOrFailed),
        text().prop_map(|text| PodReplacementPolicy::from(text.as_str()))
    ]
}

fn job_status() -> impl Strategy<Value = JobStatus> {
    let condition_type = prop_oneof![
        Just(JobConditionType::Suspended),
        Just(JobConditionType::SuccessCriteriaMet),
        Just(JobConditionType::Complete),
        Just(JobConditionType::FailureTarget),
        Just(JobConditionType::Failed)
    ];
    let condition = (condition_type, condition_status(), moment(), moment(), text(), text()).prop_map(
        |(condition_type, status, probe, transition, reason, message)| JobCondition {
            condition_type,
            status,
            last_probe_time: probe,
            last_transition_time: transition,
            reason,
            message,
        },
    );
    (
        vec(condition, 0..3),
        (option::of(moment()), option::of(moment())),
        (any::<i32>(), any::<i32>(), any::<i32>()),
        (option::of(any::<i32>()), option::of(any::<i32>())),
        option::of(text()),
    )
        .prop_map(|(conditions, times, counts, more, completed_indexes)| JobStatus {
            conditions,
            start_time: times.0,
            completion_time: times.1,
            active: counts.0,
            ready: more.0,
            terminating: more.1,
            succeeded: counts.1,
            failed: counts.2,
            completed_indexes,
        })
}

fn pod_status() -> impl Strategy<Value = PodStatus> {
    let phase = prop_oneof![
        Just(PodPhase::Pending),
        Just(PodPhase::Running),
        Just(PodPhase::Succeeded),
        Just(PodPhase::Failed)
    ];
    let condition = (text(), condition_status(), option::of(moment()), text(), text()).prop_map(
        |(condition_type, status, last_transition_time, reason, message)| PodCondition {
            condition_type,
            status,
            last_transition_time,
            reason,
            message,
        },
    );
    (
        phase,
        vec(condition, 0..3),
        (text(), text()),
        option::of(moment()),
        (vec(container_status(), 0..3), vec(container_status(), 0..3)),
        (option::of(text()), vec(text(), 0..3)),
    )
        .prop_map(|(phase, conditions, texts, start_time, statuses, addresses)| PodStatus {
            phase,
            conditions,
            reason: texts.0,
            message: texts.1,
            start_time,
            init_container_statuses: statuses.0,
            container_statuses: statuses.1,
            host_ip: addresses.0,
            pod_ips: addresses.1,
        })
}

fn container_status() -> impl Strategy<Value = ContainerStatus> {
    (
        (text(), text(), text(), text()),
        container_state(),
        option::of(container_state()),
        (any::<bool>(), option::of(any::<bool>())),
        any::<u32>(),
    )
        .prop_map(|(texts, state, last_state, flags, restart_count)| ContainerStatus {
            name: texts.0,
            state,
            last_state,
            ready: flags.0,
            started: flags.1,
            restart_count,
            image: texts.1,
            image_id: texts.2,
            container_id: texts.3,
        })
}

fn container_state() -> impl Strategy<Value = ContainerState> {
    let termination =
        (any::<i32>(), any::<i32>(), text(), text(), option::of(moment()), option::of(moment())).prop_map(
            |(exit_code, signal, reason, message, started_at, finished_at)| ContainerTermination {
                exit_code,
                signal,
                reason,
                message,
                started_at,
                finished_at,
            },
        );
    prop_oneof![
        (text(), text()).prop_map(|(reason, message)| ContainerState::Waiting { reason, message }),
        option::of(moment()).prop_map(|started_at| ContainerState::Running { started_at }),
        termination.prop_map(ContainerState::Terminated)
    ]
}

fn node_capacity() -> impl Strategy<Value = NodeCapacity> {
    (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(cpu_millis, memory_bytes, pods)| NodeCapacity {
        cpu_millis,
        memory_bytes,
        pods,
    })
}

fn node_condition() -> impl Strategy<Value = NodeCondition> {
    (text(), condition_status(), option::of(moment()), text(), text()).prop_map(
        |(condition_type, status, last_transition_time, reason, message)| NodeCondition {
            condition_type,
            status,
            last_transition_time,
            reason,
            message,
        },
    )
}
