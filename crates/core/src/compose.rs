//! The objects that readers see, composed of records (decision 4).
//!
//! Owns: what a Job, Pod, Node or Event looks like from outside: generated labels, environment, conditions. Does not own:
//! any decision. Pure functions of their arguments.

use stint_api::{
    CompletionMode, ConditionStatus, ConfigMap, ContainerState, ContainerStatus, EnvVar, Event, Incarnation,
    Job, JobSpec, JobStatus, LabelSelector, Node, NodeCapacity, NodeCondition, ObjectMeta, OwnerReference,
    Pod, PodCondition, PodPhase, PodReplacementPolicy, PodSpec, PodStatus, Revision, StringMap, Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::node_lifecycle::EVICTION;
use crate::record::{
    ConfigMapRecord, EventRecord, JobRecord, JobSpecRecord, NodeRecord, PodRecord, StopReason, TemplateRecord,
};

/// Label and annotation of a Pod of an Indexed Job (J31).
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Label by which a Job selects its Pods (M2).
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// A Job as readers see it.
pub fn job(record: &JobRecord, template: &TemplateRecord, revision: Revision) -> Job {
    Job {
        metadata: ObjectMeta {
            uid: record.uid.to_string(),
            resource_version: revision,
            ..record.metadata.clone()
        },
        spec: job_spec(record, template),
        status: job_status(record),
    }
}

fn job_spec(record: &JobRecord, template: &TemplateRecord) -> JobSpec {
    let spec: &JobSpecRecord = &record.spec;
    let selected = StringMap::from([(CONTROLLER_UID.to_owned(), record.uid.to_string())]);
    JobSpec {
        parallelism: Some(signed(spec.parallelism)),
        completions: spec.completions.map(signed),
        active_deadline_seconds: spec
            .active_deadline_seconds
            .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
        backoff_limit: Some(signed(spec.backoff_limit)),
        selector: Some(LabelSelector { match_labels: selected, match_expressions: Vec::new() }),
        manual_selector: spec.manual_selector,
        template: template.template.clone(),
        ttl_seconds_after_finished: spec.ttl_seconds_after_finished.map(signed),
        completion_mode: Some(if spec.indexed {
            CompletionMode::Indexed
        } else {
            CompletionMode::NonIndexed
        }),
        suspend: Some(spec.suspend),
        pod_replacement_policy: Some(if spec.replace_terminating {
            PodReplacementPolicy::TerminatingOrFailed
        } else {
            PodReplacementPolicy::Failed
        }),
        managed_by: spec.managed_by.clone(),
        backoff_base_ms: Some(spec.backoff_base_ms),
        backoff_cap_ms: Some(spec.backoff_cap_ms),
    }
}

fn job_status(record: &JobRecord) -> JobStatus {
    let status = &record.status;
    JobStatus {
        conditions: status.conditions.clone(),
        start_time: status.start_time,
        completion_time: status.completion_time,
        active: signed(status.active),
        ready: Some(signed(status.ready)),
        terminating: Some(signed(status.terminating)),
        succeeded: signed(status.succeeded),
        failed: signed(status.failed),
        completed_indexes: record.spec.indexed.then(|| status.completed_indexes.clone()),
    }
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A Pod as readers and its agent see it: template, labels of J41, environment of J31 and D11.
pub fn pod(record: &PodRecord, template: &TemplateRecord, revision: Revision) -> Pod {
    Pod {
        metadata: pod_metadata(record, template, revision),
        spec: pod_spec(record, &template.template.spec),
        node_name: record.node.as_ref().map(ToString::to_string),
        completion_index: record.index,
        binding_revision: (record.binding_revision != Revision(0)).then_some(record.binding_revision),
        status: pod_status(record, &template.template.spec),
    }
}

fn pod_metadata(record: &PodRecord, template: &TemplateRecord, revision: Revision) -> ObjectMeta {
    let mut labels = template.template.labels.clone();
    let mut annotations = template.template.annotations.clone();
    let mut generate_name = format!("{}-", template.job_name);
    if let Some(index) = record.index {
        labels.insert(COMPLETION_INDEX.to_owned(), index.to_string());
        annotations.insert(COMPLETION_INDEX.to_owned(), index.to_string());
        generate_name = format!("{}-{index}-", template.job_name);
    }
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: template.job_name.clone(),
        uid: record.job.to_string(),
        controller: true,
        block_owner_deletion: true,
    };
    // A Pod that was stopped because its Job failed stays (D5): once it has ended nothing deletes it any more.
    let stays = record.phase.is_terminal() && record.stop_reason == Some(StopReason::JobFailed);
    let deletion_timestamp = record.deletion_at.filter(|_| !stays);
    ObjectMeta {
        name: record.name.clone(),
        generate_name,
        namespace: template.namespace.clone(),
        uid: record.uid.to_string(),
        labels,
        annotations,
        resource_version: revision,
        generation: 1,
        creation_timestamp: Some(record.created_at),
        deletion_timestamp,
        deletion_grace_period_seconds: deletion_timestamp.map(|_| i64::from(record.deletion_grace_seconds)),
        owner_references: if template.owned { vec![owner] } else { Vec::new() },
    }
}

fn pod_spec(record: &PodRecord, template: &PodSpec) -> PodSpec {
    let mut spec = template.clone();
    let mut added = Vec::new();
    if let Some(index) = record.index {
        added.push(EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value: index.to_string(),
            value_from: None,
        });
    }
    if record.binding_revision != Revision(0) {
        let value = record.binding_revision.to_string();
        added.push(EnvVar { name: "STINT_FENCING_TOKEN".to_owned(), value, value_from: None });
    }
    for container in &mut spec.containers {
        for variable in &added {
            let defined = container.env.iter().any(|other| other.name == variable.name);
            // The token is of use only if nobody can replace it.
            if variable.name == "STINT_FENCING_TOKEN" {
                container.env.retain(|other| other.name != variable.name);
            } else if defined {
                continue;
            }
            container.env.push(variable.clone());
        }
    }
    spec
}

fn pod_status(record: &PodRecord, template: &PodSpec) -> PodStatus {
    let statuses = template.containers.iter().map(|container| ContainerStatus {
        name: container.name.clone(),
        state: container_state(record),
        last_state: last_container_state(record),
        ready: record.container_running,
        restart_count: record.restart_count,
        image: container.image.clone(),
        ..ContainerStatus::default()
    });
    let container_statuses = if record.node.is_some() { statuses.collect() } else { Vec::new() };
    PodStatus {
        phase: record.phase,
        conditions: pod_conditions(record),
        reason: record.reason.clone(),
        message: record.message.clone(),
        start_time: record.bound_at,
        container_statuses,
        ..PodStatus::default()
    }
}

/// True while the container, or what would be its next run, waits for a back-off.
fn waits_for_restart(record: &PodRecord) -> bool {
    !record.phase.is_terminal() && !record.container_running && record.restart_count > 0
}

fn container_state(record: &PodRecord) -> ContainerState {
    if record.container_running {
        return ContainerState::Running { started_at: record.container_started_at };
    }
    if waits_for_restart(record) {
        return waiting("CrashLoopBackOff", "back-off restarting failed container");
    }
    match &record.termination {
        Some(termination) => ContainerState::Terminated(termination.clone()),
        None if record.phase.is_terminal() => waiting("ContainerStatusUnknown", "how it ended is not known"),
        None => waiting("ContainerCreating", ""),
    }
}

fn last_container_state(record: &PodRecord) -> Option<ContainerState> {
    let ran_before = record.container_running || waits_for_restart(record);
    record.termination.clone().filter(|_| ran_before).map(ContainerState::Terminated)
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message: message.to_owned() }
}

fn pod_conditions(record: &PodRecord) -> Vec<PodCondition> {
    let mut conditions = Vec::new();
    let mut add = |condition_type: &str, holds: bool, at: Option<Timestamp>, reason: &str, message: &str| {
        conditions.push(PodCondition {
            condition_type: condition_type.to_owned(),
            status: if holds { ConditionStatus::True } else { ConditionStatus::False },
            last_transition_time: at,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    };
    if !record.disruption_reason.is_empty() {
        let at = record.finished_at.or(record.deletion_at);
        let message = match record.disruption_reason.as_str() {
            // P13.
            EVICTION if record.message.is_empty() => "Eviction API: evicting",
            _ => &record.message,
        };
        add("DisruptionTarget", true, at, &record.disruption_reason, message);
    }
    if record.node.is_some() {
        let ready = record.container_running;
        let not_ready = match record.phase {
            PodPhase::Succeeded => "PodCompleted",
            PodPhase::Failed => "PodFailed",
            _ if ready => "",
            _ => "ContainersNotReady",
        };
        let at = record.finished_at.or(record.container_running_at).or(record.bound_at);
        add("PodScheduled", true, record.bound_at, "", "");
        add("Initialized", true, record.bound_at, "", "");
        add("ContainersReady", ready, at, not_ready, "");
        add("Ready", ready, at, not_ready, "");
    } else {
        let (reason, message) = match record.unschedulable_message.as_str() {
            "" => ("", ""),
            message => ("Unschedulable", message),
        };
        add("PodScheduled", false, Some(record.created_at), reason, message);
    }
    conditions
}

/// A ConfigMap as readers see it.
pub fn config_map(record: &ConfigMapRecord, revision: Revision) -> ConfigMap {
    let metadata =
        ObjectMeta { uid: record.uid.to_string(), resource_version: revision, ..record.map.metadata.clone() };
    ConfigMap { metadata, ..record.map.clone() }
}

/// A Node as readers see it; `requested` comes from `State::requested_on`.
pub fn node(record: &NodeRecord, requested: NodeCapacity, revision: Revision) -> Node {
    let (status, reason, message) = if record.live {
        (ConditionStatus::True, "AgentReady", "the agent holds a live lease")
    } else {
        (ConditionStatus::Unknown, "NodeLost", "the agent's lease has expired")
    };
    let mut conditions = vec![NodeCondition {
        condition_type: "Ready".to_owned(),
        status,
        last_transition_time: Some(record.live_changed_at),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }];
    conditions.extend(record.conditions.iter().filter(|other| other.condition_type != "Ready").cloned());
    Node {
        metadata: ObjectMeta {
            name: record.name.to_string(),
            uid: record.node_uid.to_string(),
            labels: record.labels.clone(),
            resource_version: revision,
            creation_timestamp: Some(record.created_at),
            ..ObjectMeta::default()
        },
        unschedulable: record.unschedulable,
        capacity: record.capacity,
        requested,
        conditions,
        node_uid: record.node_uid.to_string(),
        boot_id: record.boot_id.clone(),
        incarnation: if record.live { record.incarnation } else { Incarnation(0) },
        runtimes: record.runtimes.clone(),
        agent_version: record.agent_version.clone(),
    }
}

/// An Event as readers see it.
pub fn event(record: &EventRecord, revision: Revision) -> Event {
    let regarding = &record.regarding;
    let key = format!("{}/{}/{}", regarding.kind, regarding.uid, record.reason);
    Event {
        metadata: ObjectMeta {
            name: format!("{}.{:016x}", regarding.name, xxh3_64(key.as_bytes())),
            namespace: regarding.namespace.clone(),
            resource_version: revision,
            creation_timestamp: Some(record.first_at),
            ..ObjectMeta::default()
        },
        regarding: regarding.clone(),
        event_type: record.event_type,
        reason: record.reason.clone(),
        message: record.message.clone(),
        source: record.source.clone(),
        count: record.count,
        first_timestamp: record.first_at,
        last_timestamp: record.last_at,
    }
}
