//! The objects that readers see, composed of records (decision 4).
//!
//! Owns: what a Job, Pod, Node or Event looks like from outside: generated labels, environment, conditions. Does not own:
//! any decision. Pure functions of their arguments.

use stint_api::{
    CompletionMode, ConditionStatus, ConfigMap, Container, ContainerState, ContainerStatus,
    ContainerTermination, EnvVar, Event, Incarnation, Job, JobSpec, JobStatus, LabelSelector, Node,
    NodeCapacity, NodeCondition, ObjectMeta, OwnerReference, Pod, PodCondition, PodPhase,
    PodReplacementPolicy, PodSpec, PodStatus, RestartPolicy, Revision, StringMap, Timestamp,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::node_lifecycle::EVICTION;
use crate::record::{
    ConfigMapRecord, ContainerRecord, ContainerRunState, EventRecord, JobRecord, JobSpecRecord, NodeRecord,
    PodRecord, StopReason, TemplateRecord,
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
    if !record.runtime.is_empty() {
        spec.runtime_class_name = Some(record.runtime.clone());
    }
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
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
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
    let not_begun = ContainerRecord::default();
    let n_init = template.init_containers.len();
    let status = |place: usize, container: &Container| {
        let known = record.containers.get(place).unwrap_or(&not_begun);
        container_status(record, container, known, place < n_init)
    };
    let mut pod = PodStatus {
        phase: record.phase,
        conditions: pod_conditions(record, template),
        reason: record.reason.clone(),
        message: record.message.clone(),
        start_time: record.bound_at,
        ..PodStatus::default()
    };
    if record.node.is_some() {
        let host_ip = Some(&record.host_ip).filter(|address| !address.is_empty());
        pod.host_ip = host_ip.cloned();
        pod.pod_ips = match &record.pod_ips[..] {
            // Without a network of its own it has its host's.
            [] if record.started_at.is_some() => host_ip.into_iter().cloned().collect(),
            own => own.to_vec(),
        };
        let all = template.init_containers.iter().chain(&template.containers).enumerate();
        let mut statuses: Vec<ContainerStatus> =
            all.map(|(place, container)| status(place, container)).collect();
        pod.container_statuses = statuses.split_off(n_init);
        pod.init_container_statuses = statuses;
    }
    pod
}

fn container_status(
    record: &PodRecord,
    container: &Container,
    known: &ContainerRecord,
    is_init: bool,
) -> ContainerStatus {
    let is_sidecar = is_init && container.restart_policy == Some(RestartPolicy::Always);
    let (started, ready) = match known.state {
        ContainerRunState::Running { started, ready, .. } => (started, ready),
        // An init container that has done its work is what the Pod needs it to be.
        _ => (false, is_init && !is_sidecar && known.has_succeeded()),
    };
    ContainerStatus {
        name: container.name.clone(),
        state: container_state(record, known, is_init),
        last_state: last_container_state(record, known),
        ready,
        started: Some(started),
        restart_count: known.restart_count,
        image: container.image.clone(),
        image_id: known.image_id.clone(),
        container_id: known.container_id.clone(),
    }
}

/// True while what would be the container's next run waits for a back-off, or for its turn.
fn waits_for_restart(record: &PodRecord, known: &ContainerRecord) -> bool {
    let waits = matches!(known.state, ContainerRunState::Waiting { .. } | ContainerRunState::Blocked);
    !record.phase.is_terminal() && waits && known.restart_count > 0
}

fn container_state(record: &PodRecord, known: &ContainerRecord, is_init: bool) -> ContainerState {
    let is_over = record.phase.is_terminal();
    match &known.state {
        ContainerRunState::Running { started_at, .. } => {
            return ContainerState::Running { started_at: Some(*started_at) };
        }
        // P2: one that never began waits, if in vain; nobody knows better than its agent why.
        ContainerRunState::Waiting { reason, message }
            if !reason.is_empty() && (!is_over || known.termination.is_none()) =>
        {
            return waiting(reason, message);
        }
        ContainerRunState::Waiting { .. } if waits_for_restart(record, known) => {
            return waiting("CrashLoopBackOff", "back-off restarting failed container");
        }
        // P10: it begins anew once the init containers before it have.
        ContainerRunState::Blocked if !is_over => return waiting("PodInitializing", ""),
        _ => {}
    }
    match (&known.termination, &known.state) {
        (Some(termination), _) => ContainerState::Terminated(ContainerTermination::clone(termination)),
        // P2: it waits, or waited in vain, for the init containers before it.
        (None, ContainerRunState::Blocked) => waiting("PodInitializing", ""),
        (None, _) if is_init => waiting("PodInitializing", ""),
        (None, _) => waiting("ContainerCreating", ""),
    }
}

/// P2: how the run before the one that the container's state tells of ended.
fn last_container_state(record: &PodRecord, known: &ContainerRecord) -> Option<ContainerState> {
    let tells_of_another = known.is_running() || waits_for_restart(record, known);
    let before = if tells_of_another { &known.termination } else { &known.previous_termination };
    Some(ContainerState::Terminated(before.as_deref()?.clone()))
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message: message.to_owned() }
}

fn pod_conditions(record: &PodRecord, template: &PodSpec) -> Vec<PodCondition> {
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
        add("PodScheduled", true, record.bound_at, "", "");
        let initialized = template.init_containers.is_empty() || record.initialized_at.is_some();
        if initialized {
            add("Initialized", true, record.initialized_at.or(record.bound_at), "", "");
        } else {
            let message = named(record, template, "containers with incomplete status", true);
            add("Initialized", false, record.bound_at, "ContainersNotInitialized", &message);
        }
        let (not_ready, message) = match record.phase {
            _ if record.ready => ("", String::new()),
            PodPhase::Succeeded => ("PodCompleted", String::new()),
            PodPhase::Failed => ("PodFailed", String::new()),
            _ => ("ContainersNotReady", named(record, template, "containers with unready status", false)),
        };
        let at = record.ready_changed_at.or(record.finished_at).or(record.bound_at);
        add("ContainersReady", record.ready, at, not_ready, &message);
        add("Ready", record.ready, at, not_ready, &message);
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

/// The init containers that have not done their work, or the containers that are not ready, in Kubernetes' words.
fn named(record: &PodRecord, template: &PodSpec, what: &str, of_init: bool) -> String {
    let n_init = template.init_containers.len();
    let not_begun = ContainerRecord::default();
    let all = template.init_containers.iter().chain(&template.containers).enumerate();
    let names = all.filter(|(place, container)| {
        let known = record.containers.get(*place).unwrap_or(&not_begun);
        let is_init = *place < n_init;
        let stays = !is_init || container.restart_policy == Some(RestartPolicy::Always);
        match of_init {
            true => is_init && !if stays { known.has_started } else { known.has_succeeded() },
            false => stays && !matches!(known.state, ContainerRunState::Running { ready: true, .. }),
        }
    });
    let names: Vec<&str> = names.map(|(_, container)| container.name.as_str()).collect();
    format!("{what}: [{}]", names.join(" "))
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
        features: record.features.clone(),
        info: record.info.clone(),
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
