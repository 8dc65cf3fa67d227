//! Records: the state machine's objects as they are stored, one row each (decision 4).
//!
//! Owns: their fields. Does not own: their encoding (crate `raft`), the objects that readers see (module `compose`).
//!
//! Invariant: a record holds everything that the state in memory must know of its object, so that the state loaded from
//! rows equals the state in memory.

use std::sync::Arc;
use stint_api::{
    CompletionIndex, ConfigMap, ConfigMapUid, ContainerTermination, EventType, Incarnation, JobCondition,
    JobUid, NodeCapacity, NodeCondition, NodeInfo, NodeName, NodeUid, ObjectMeta, ObjectReference, PodPhase,
    PodTemplateSpec, PodUid, Revision, StringMap, Timestamp,
};

use crate::command::{ClusterSettings, DeletePropagation};

/// What is true of the whole state; one row, written with every batch that changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetaRecord {
    /// Version of the logic of `apply`; 0 until the first release (decision 1).
    pub machine_version: u32,
    /// State time: never goes backwards.
    pub time: Timestamp,
    /// Revision of the last row change.
    pub revision: Revision,
    /// Log index of the last applied entry that had commands.
    pub applied_log_index: u64,
    /// Highest member id ever reserved (decision 13).
    pub highest_member_id: u64,
    /// None until the cluster is initialized.
    pub settings: Option<ClusterSettings>,
    /// Rows of Pods that have ended (J122).
    pub n_ended_pods: u64,
    /// Revision with which the cluster began, if it was restored from a snapshot: whatever has a lower one is of the cluster
    /// before. 0: it was not.
    pub restored_at: Revision,
}

/// A ConfigMap with its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapRecord {
    /// Identity.
    pub uid: ConfigMapUid,
    /// The object; `uid` text and `resource_version` are composed.
    pub map: ConfigMap,
}

/// The last output of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTailRecord {
    /// Higher for what was written later; unique.
    pub age: u64,
    /// Where in the log the first entry stands.
    pub first_offset: u64,
    /// The run has ended, and nothing comes after this.
    pub is_last: bool,
    /// Entries, as the agent has compressed them.
    pub entries: Vec<u8>,
}

/// A Job without its template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Key of the row.
    pub uid: JobUid,
    /// Name, labels, times, generation; `uid` text and `resource_version` are composed.
    pub metadata: ObjectMeta,
    /// Idempotency key of its creation; may be empty.
    pub request_id: String,
    /// The spec's numbers and switches, defaulted.
    pub spec: JobSpecRecord,
    /// What has been counted and decided.
    pub status: JobStatusRecord,
}

/// The parts of a defaulted spec that decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpecRecord {
    /// 0 or more.
    pub parallelism: u32,
    /// None: a work queue (J20).
    pub completions: Option<u32>,
    /// Seconds.
    pub active_deadline_seconds: Option<u64>,
    /// J60.
    pub backoff_limit: u32,
    /// J121.
    pub ttl_seconds_after_finished: Option<u32>,
    /// J30, J31.
    pub indexed: bool,
    /// J100.
    pub suspend: bool,
    /// D3: true for `TerminatingOrFailed`.
    pub replace_terminating: bool,
    /// D4, milliseconds.
    pub backoff_base_ms: u64,
    /// D4, milliseconds.
    pub backoff_cap_ms: u64,
    /// `managedBy` as given.
    pub managed_by: Option<String>,
    /// `manualSelector` as given.
    pub manual_selector: Option<bool>,
}

/// What has been counted and decided about a Job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobStatusRecord {
    /// In the order in which they came true.
    pub conditions: Vec<JobCondition>,
    /// J101, J102.
    pub start_time: Option<Timestamp>,
    /// J92.
    pub completion_time: Option<Timestamp>,
    /// J11.
    pub active: u32,
    /// Active Pods that are ready.
    pub ready: u32,
    /// Unfinished Pods that are being deleted.
    pub terminating: u32,
    /// J15; for an Indexed Job the size of `completed_indexes`.
    pub succeeded: u32,
    /// J15.
    pub failed: u32,
    /// Indexed only; in the text form of `IndexSet`.
    pub completed_indexes: String,
    /// J51: failures after the last success (a NodeLost failure is not one, D2).
    pub consecutive_failures: u32,
    /// J50: no Pod of the Job is created before this.
    pub backoff_until: Option<Timestamp>,
    /// Foreground deletion has been asked for (J120).
    pub deleting: bool,
    /// Where the next Pod's name suffix stands in the cycle of all suffixes; makes names unique within a Job (J40).
    pub next_pod_slot: u32,
    /// The node lost last (D2).
    pub avoid_node: Option<NodeName>,
    /// How many Pods are still to be created that should avoid `avoid_node`, one per Pod that was lost.
    pub avoid_pods: u32,
    /// Decisions written down in the Job's history, those that are forgotten included; 0: it has no such row.
    pub decisions: u32,
}

/// What was decided about a Job and can't be seen from its other rows (module `history`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryRecord {
    /// The oldest first.
    pub decisions: Vec<DecisionRecord>,
}

/// One decision, or several alike of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRecord {
    /// When it was taken.
    pub at: Timestamp,
    /// One CamelCase word.
    pub reason: String,
    /// What and why, for people.
    pub message: String,
    /// Name of the Pod that it is about; empty: the Job, or several.
    pub pod: String,
    /// How many of the kind.
    pub count: u32,
}

/// What a Job's Pods are made from; lives as long as the Job or one of its Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRecord {
    /// Key of the row.
    pub job: JobUid,
    /// Namespace of the Job and its Pods.
    pub namespace: String,
    /// Name of the Job.
    pub job_name: String,
    /// True while Pods have the Job as their owner; false once it was deleted with Orphan.
    pub owned: bool,
    /// The Job is Indexed.
    pub indexed: bool,
    /// The template, generated labels included.
    pub template: PodTemplateSpec,
    /// Set once deletion of the Job has begun: what is left to do about its Pods.
    pub leftover: Option<LeftoverRecord>,
}

/// How far the deletion of a Job's Pods has come (J120).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftoverRecord {
    /// What becomes of the Pods.
    pub propagation: DeletePropagation,
    /// True while rows of the Job's Pods are to be looked at.
    pub scanning: bool,
    /// Rows of Pods created before this revision have been looked at.
    pub scanned_below: Revision,
    /// See [`JobStatusRecord::next_pod_slot`]: a new Job of the same name goes on from here.
    pub next_pod_slot: u32,
}

/// One Pod (decision 4): what differs from its template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// Its identity.
    pub uid: PodUid,
    /// Its Job, also after that is gone.
    pub job: JobUid,
    /// Revision at which it was created; with `job` the key of the row.
    pub created_revision: Revision,
    /// Name.
    pub name: String,
    /// J31.
    pub index: Option<CompletionIndex>,
    /// When it was created.
    pub created_at: Timestamp,
    /// P1.
    pub phase: PodPhase,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// Revision of the binding; 0: unbound.
    pub binding_revision: Revision,
    /// When it was bound.
    pub bound_at: Option<Timestamp>,
    /// When the core first learned that it runs.
    pub started_at: Option<Timestamp>,
    /// When it became Succeeded or Failed, in the cluster's time.
    pub finished_at: Option<Timestamp>,
    /// Deletion was asked for: when its grace ends.
    pub deletion_at: Option<Timestamp>,
    /// The grace given with the deletion, in seconds.
    pub deletion_grace_seconds: u32,
    /// Why it was or will be stopped; decides whether it counts (J16, J17).
    pub stop_reason: Option<StopReason>,
    /// True once its end was counted, or decided never to be.
    pub counted: bool,
    /// Its containers, in the order of the template, init containers first; empty while it is not bound.
    pub containers: Vec<ContainerRecord>,
    /// When the last init container had done its work; none: not yet, or there are none.
    pub initialized_at: Option<Timestamp>,
    /// All its containers are ready (condition Ready).
    pub ready: bool,
    /// When that changed last; none: never.
    pub ready_changed_at: Option<Timestamp>,
    /// P7: what the sidecars were there for is over; when the grace of their stop ends.
    pub sidecars_until: Option<Timestamp>,
    /// P10: all containers are being stopped, to be started again from the first one on.
    pub restarting_all: bool,
    /// Reason of a Pod that failed as a whole, such as `NodeLost`.
    pub reason: String,
    /// Message of a Pod that failed as a whole.
    pub message: String,
    /// Reason of condition DisruptionTarget=True; empty: none.
    pub disruption_reason: String,
    /// Why it can't be placed; empty once bound (condition PodScheduled=False, reason Unschedulable).
    pub unschedulable_message: String,
    /// A lost node that the scheduler should avoid if another fits (D2).
    pub avoid_node: Option<NodeName>,
    /// What runs it there: chosen when it was bound; empty: not bound, or the node offers none.
    pub runtime: String,
    /// Address of the node when it was bound; empty: not known. For display only.
    pub host_ip: String,
    /// Addresses of its own; empty: it has the node's, or none yet. For display only.
    pub pod_ips: Vec<String>,
}

/// One container of a Pod: what differs from its template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerRecord {
    /// What it does.
    pub state: ContainerRunState,
    /// Restarts in place (A14): the run that is wanted, or was last.
    pub restart_count: u32,
    /// While a restart waits for its back-off: when it may start.
    pub restart_at: Option<Timestamp>,
    /// P9: how often the next restart's delay is doubled; 0 again after ten healthy minutes.
    pub restart_backoff_exponent: u32,
    /// A run of it has started (P7): those after it in the order need not wait for it again.
    pub has_started: bool,
    /// How its last run ended that has ended.
    pub termination: Option<Box<ContainerTermination>>,
    /// How the run before that ended (P2).
    pub previous_termination: Option<Box<ContainerTermination>>,
    /// What its runtime calls the present or last run; for display only.
    pub container_id: String,
    /// Digest of the image that it runs; for display only.
    pub image_id: String,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContainerRunState {
    /// It is not its turn: nothing of it runs, and nothing was ordered to.
    #[default]
    Blocked,
    /// It may run, and is not known to.
    Waiting {
        /// Why, as its agent says; empty: nothing was said.
        reason: String,
        /// A sentence for people or empty.
        message: String,
    },
    /// It runs.
    Running {
        /// When the core learned of it.
        since: Timestamp,
        /// By the agent's clock.
        started_at: Timestamp,
        /// Its startup probe has succeeded, or it has none.
        started: bool,
        /// It has started and its readiness probe succeeds, or it has none.
        ready: bool,
    },
    /// It does not run any more.
    Ended,
}

/// Why the controller or a user stopped a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// Scale-down: never counts (J16).
    ScaleDown,
    /// Suspend: never counts (J16).
    Suspend,
    /// The Job has failed: counts (J91).
    JobFailed,
    /// The Job's success criteria are met: does not count.
    JobSucceeded,
    /// A user deleted the Pod or drained its node: counts (J17).
    Deleted,
    /// The Job was deleted: nobody counts any more.
    JobDeleted,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Key of the row.
    pub name: NodeName,
    /// Uid of the agent's data folder.
    pub node_uid: NodeUid,
    /// When it first registered.
    pub created_at: Timestamp,
    /// Id of the host's boot.
    pub boot_id: String,
    /// A2.
    pub registration_number: u64,
    /// A2.
    pub nonce: u64,
    /// Present or last incarnation.
    pub incarnation: Incarnation,
    /// True from registration to expiry.
    pub live: bool,
    /// When it registered or expired last.
    pub live_changed_at: Timestamp,
    /// Cordoned.
    pub unschedulable: bool,
    /// What it offers.
    pub capacity: NodeCapacity,
    /// Its labels.
    pub labels: StringMap,
    /// Names of its runtimes, the default first.
    pub runtimes: Vec<String>,
    /// What the agent says of itself.
    pub conditions: Vec<NodeCondition>,
    /// Version of the agent.
    pub agent_version: String,
    /// What its policy and runtimes allow a Pod to ask for.
    pub features: Vec<String>,
    /// What kind of host it is; for display only.
    pub info: NodeInfo,
}

/// An event, aggregated by (object, reason).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// The object it is about; with `reason` the key of the row.
    pub regarding: ObjectReference,
    /// One CamelCase word.
    pub reason: String,
    /// Normal or Warning.
    pub event_type: EventType,
    /// Component that decided.
    pub source: String,
    /// The latest message.
    pub message: String,
    /// How often.
    pub count: u32,
    /// First time.
    pub first_at: Timestamp,
    /// Last time.
    pub last_at: Timestamp,
}

/// What remains of a deleted Job that had a request id (decision 10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TombstoneRecord {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Idempotency key.
    pub request_id: String,
    /// Uid of the deleted Job.
    pub uid: JobUid,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// A shared record: row changes, watchers and the state hold the same allocation.
pub type Shared<T> = Arc<T>;
