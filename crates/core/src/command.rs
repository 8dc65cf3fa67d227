//! What the log holds: what people asked for and what agents observed.
//!
//! Owns: the commands and the entry that carries them. Does not own: their encoding (crate `raft`), their effects.

use stint_api::{
    ClusterId, ConfigMap, ConfigMapUid, ContainerTermination, EventType, Incarnation, Job, JobUid, MemberId,
    NodeCapacity, NodeCondition, NodeInfo, NodeName, NodeUid, PodUid, Revision, StringMap, Timestamp,
};

use crate::row::PodKey;

/// One log entry: commands applied one after the other at one moment of the cluster's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The leader's time; state time never goes backwards even if this does (decision 2).
    pub time: Timestamp,
    /// Random, drawn by the proposer: uids and name suffixes of what this entry creates derive from it.
    pub seed: u64,
    /// At most [`crate::limits`]' number of them.
    pub commands: Vec<Command>,
}

/// Where an entry stands in the log; known when it is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPosition {
    /// Raft log index.
    pub log_index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
}

/// Something to decide about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Creates a Job that was defaulted and validated at the edge.
    CreateJob(Box<CreateJob>),
    /// Replaces a Job's spec, labels and annotations.
    UpdateJob(Box<UpdateJob>),
    /// Deletes a Job.
    DeleteJob(DeleteJob),
    /// Deletes one Pod (J17: counts as a failure of its Job if it had not ended).
    DeletePod(DeletePod),
    /// A2: an agent registers.
    RegisterNode(Box<RegisterNode>),
    /// A10: what an agent observed about its Pods.
    ReportPods(ReportPods),
    /// What an agent says of its node, when that has changed.
    ReportNodeConditions(ReportNodeConditions),
    /// A6: a node's lease has expired.
    ExpireNode(ExpireNode),
    /// Sets or clears a node's cordon.
    CordonNode {
        /// Which node.
        node: NodeName,
        /// True: no new Pod is bound to it.
        unschedulable: bool,
    },
    /// Cordons a node and deletes its Pods with their grace (DisruptionTarget, reason EvictionByEvictionAPI).
    DrainNode {
        /// Which node.
        node: NodeName,
    },
    /// Removes a node that has no live lease.
    DeleteNode {
        /// Which node.
        node: NodeName,
    },
    /// Fires the timers that are due at the entry's time.
    Tick,
    /// Goes on with work that did not fit into earlier entries.
    Continue,
    /// Decision 13: takes the next never-used member id.
    ReserveMemberId,
    /// Sets what holds for the whole cluster; the first is proposed when the cluster is initialized.
    SetClusterSettings(ClusterSettings),
    /// Changes some of them; takes effect at once.
    ChangeClusterSettings(ClusterSettingsChange),
    /// Creates a ConfigMap that was validated at the edge.
    CreateConfigMap(Box<CreateConfigMap>),
    /// Replaces a ConfigMap's contents, labels and annotations.
    UpdateConfigMap(Box<UpdateConfigMap>),
    /// Deletes a ConfigMap. Pods that were started with it keep what they got.
    DeleteConfigMap(DeleteConfigMap),
    /// The last output of containers, as their agent has sent it.
    StoreLogTails(StoreLogTails),
}

/// See [`Command::CreateJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateJob {
    /// Defaulted and validated; generated labels (M2) are there; `metadata.name` is final.
    pub job: Job,
    /// Drawn by the proposer.
    pub uid: JobUid,
    /// Idempotency key (decision 10); empty: none.
    pub request_id: String,
    /// Names under which the same request may have made its Job before, where the name was made by a server: it is the one
    /// that is meant, also if `metadata.name` is free by now. At most [`crate::limits::OTHER_NAMES_MAX`].
    pub other_names: Vec<String>,
}

/// See [`Command::UpdateJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateJob {
    /// The whole new object, defaulted and validated; status is ignored.
    pub job: Job,
    /// If set, the Job must have this uid.
    pub uid: Option<JobUid>,
    /// If set, the Job must be at this revision.
    pub resource_version: Option<Revision>,
}

/// See [`Command::DeleteJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteJob {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// If set, the Job must have this uid.
    pub uid: Option<JobUid>,
    /// If set, the Job must be at this revision.
    pub resource_version: Option<Revision>,
    /// What becomes of its Pods.
    pub propagation: DeletePropagation,
}

/// What becomes of a deleted Job's Pods (D1, J120).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletePropagation {
    /// The Job is gone at once, its Pods are stopped and deleted.
    Background,
    /// The Job stays, marked as being deleted, until its Pods are gone.
    Foreground,
    /// The Pods run on without an owner.
    Orphan,
}

/// See [`Command::CreateConfigMap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateConfigMap {
    /// Validated; name and namespace are final.
    pub map: ConfigMap,
    /// Drawn by the proposer.
    pub uid: ConfigMapUid,
}

/// See [`Command::UpdateConfigMap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateConfigMap {
    /// The whole new object.
    pub map: ConfigMap,
    /// If set, the ConfigMap must have this uid.
    pub uid: Option<ConfigMapUid>,
    /// If set, the ConfigMap must be at this revision.
    pub resource_version: Option<Revision>,
}

/// See [`Command::DeleteConfigMap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteConfigMap {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// If set, the ConfigMap must have this uid.
    pub uid: Option<ConfigMapUid>,
    /// If set, the ConfigMap must be at this revision.
    pub resource_version: Option<Revision>,
}

/// See [`Command::StoreLogTails`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLogTails {
    /// The node that sends them: Pods of others are ignored.
    pub node: NodeName,
    /// Its incarnation; what comes from another is refused.
    pub incarnation: Incarnation,
    /// At most [`crate::limits::LOG_TAILS_PER_COMMAND_MAX`]; more are ignored.
    pub tails: Vec<LogTail>,
}

/// The last output of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail {
    /// Which Pod.
    pub pod: PodUid,
    /// Where its row is, as the proposer has found it: Pods that have ended are not in memory. `apply` checks it.
    pub key: PodKey,
    /// Where the container stands in the Pod's record.
    pub container: u32,
    /// Which run of it.
    pub restart_count: u32,
    /// Where in the log the first entry stands.
    pub first_offset: u64,
    /// The run has ended, and nothing comes after this.
    pub is_last: bool,
    /// Compressed entries; at most [`crate::limits::LOG_TAIL_BYTES_MAX`].
    pub entries: Vec<u8>,
}

/// See [`Command::DeletePod`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// If set, the Pod must have this uid.
    pub uid: Option<PodUid>,
    /// Overrides the Pod's own grace.
    pub grace_period_seconds: Option<u32>,
    /// Where the Pod's row is, as the proposer read it from the index row `PodName`. Needed for a Pod that has ended,
    /// which is not in memory; `apply` checks it against the row, so that an outdated one does no harm.
    pub key: Option<PodKey>,
}

/// See [`Command::RegisterNode`] and agent-protocol rule A2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterNode {
    /// Name of the node.
    pub node: NodeName,
    /// Uid of the agent's data folder.
    pub node_uid: NodeUid,
    /// Id of the host's boot.
    pub boot_id: String,
    /// Increasing per node uid.
    pub registration_number: u64,
    /// Tells a repeated registration from a cloned folder's.
    pub nonce: u64,
    /// The incarnation that the agent last held; 0: none.
    pub previous_incarnation: Incarnation,
    /// The cluster that the agent knows; none on its first start.
    pub cluster_id: Option<ClusterId>,
    /// Terminal reports that were never acknowledged; counted first.
    pub unacknowledged_reports: Vec<PodReport>,
    /// Pods that the agent has started and can account for: something runs, or the end of each run that was begun is reported.
    pub running_pods: Vec<PodUid>,
    /// Pods that the agent has ever started and not forgotten: those that it can't account for are lost.
    pub started_pods: Vec<PodUid>,
    /// What the node offers.
    pub capacity: NodeCapacity,
    /// Labels of the node.
    pub labels: StringMap,
    /// Names of its runtimes, the default first.
    pub runtimes: Vec<String>,
    /// What the agent says of itself, such as `FencingDegraded`.
    pub conditions: Vec<NodeCondition>,
    /// Version of the agent.
    pub agent_version: String,
    /// What its policy and runtimes allow a Pod to ask for, such as `root`.
    pub features: Vec<String>,
    /// What kind of host it is.
    pub info: NodeInfo,
}

/// See [`Command::ReportPods`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportPods {
    /// The reporting node.
    pub node: NodeName,
    /// Its incarnation; reports of another are ignored.
    pub incarnation: Incarnation,
    /// In the order in which things happened.
    pub reports: Vec<PodReport>,
}

/// See [`Command::ReportNodeConditions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportNodeConditions {
    /// The reporting node.
    pub node: NodeName,
    /// Its incarnation; what comes from another is refused.
    pub incarnation: Incarnation,
    /// All that it says of itself: what is missing holds no more. When each has changed is for the core to say.
    pub conditions: Vec<NodeCondition>,
}

/// What happened to one Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReport {
    /// Which Pod.
    pub pod: PodUid,
    /// What happened.
    pub kind: PodReportKind,
}

/// What an agent can report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodReportKind {
    /// A container runs.
    Running {
        /// Which run of which container.
        run: ContainerRun,
        /// By the agent's clock.
        started_at: Timestamp,
        /// What its runtime calls it.
        container_id: String,
        /// Digest of its image.
        image_id: String,
        /// Addresses of its Pod, the preferred one first; empty: those of the host.
        pod_addresses: Vec<String>,
    },
    /// A container has ended by itself or after a stop; whether it starts again is the core's decision (A14).
    ContainerExited {
        /// Which run of which container.
        run: ContainerRun,
        /// How it ended.
        termination: ContainerTermination,
    },
    /// A container could never be started; a failure (StartError).
    StartFailed {
        /// Which run of which container.
        run: ContainerRun,
        /// Exit code (126, 127, 128), reason and message.
        termination: ContainerTermination,
    },
    /// A stop came before the start.
    NotStarted {
        /// The run that was never begun; none: nothing of the Pod runs, or is going to.
        run: Option<ContainerRun>,
    },
    /// A12: killed by its agent because the lease ran out.
    LeaseExpired {
        /// Which run of which container.
        run: ContainerRun,
        /// How it ended; none: nothing of it ever was.
        termination: Option<ContainerTermination>,
    },
    /// A container that may run does not run yet, for a reason that may pass.
    Waiting {
        /// Which run of which container.
        run: ContainerRun,
        /// Such as `ErrImagePull` (P2).
        reason: String,
        /// For people.
        message: String,
    },
    /// What the probes of a running container say.
    Readiness {
        /// Which run of which container.
        run: ContainerRun,
        /// Its startup probe has succeeded, or it has none.
        started: bool,
        /// Its readiness probe succeeds, or it has none.
        ready: bool,
    },
    /// Something that becomes an event; nothing is decided by it.
    Notice {
        /// Whether it is expected.
        event_type: EventType,
        /// Such as `Unhealthy`.
        reason: String,
        /// For people.
        message: String,
        /// How often; 0 counts as 1.
        count: u32,
    },
    /// The agent has ended the Pod as a whole; nothing of it is left.
    PodFailed {
        /// Such as `Evicted` (P4).
        reason: String,
        /// For people.
        message: String,
        /// How each run ended that went on until then.
        ended: Vec<(ContainerRun, ContainerTermination)>,
    },
}

/// One run of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRun {
    /// Name of the container.
    pub container: String,
    /// 0, then 1 for the first restart in place.
    pub restart_count: u32,
}

/// See [`Command::ExpireNode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpireNode {
    /// Which node.
    pub node: NodeName,
    /// The registration whose lease has expired.
    pub incarnation: Incarnation,
    /// Term of the leader that decided it; rejected if the entry's term is another.
    pub term: u64,
}

/// What holds for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Drawn when the cluster is initialized; never changes.
    pub cluster_id: ClusterId,
    /// L of the agent protocol, in milliseconds.
    pub node_lease_ms: u64,
    /// Where Pods go that fit on several nodes.
    pub placement_policy: PlacementPolicy,
    /// How long an event is kept after its last occurrence, in milliseconds.
    pub event_retention_ms: u64,
    /// Highest member id in use when the cluster was initialized.
    pub highest_member_id: MemberId,
    /// What runs Pods that name no runtime, such as `process`; empty: the first runtime of each node.
    pub default_runtime: String,
    /// J122: ended Pods that are kept; of more the oldest are deleted. 0: all are kept.
    pub ended_pods_max: u32,
}

/// See [`Command::ChangeClusterSettings`]. What is none stays as it is. The node lease is not among it: agents hold leases
/// of the old length, which a leader that counts with a shorter one would take for expired too early.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterSettingsChange {
    /// See [`ClusterSettings::placement_policy`].
    pub placement_policy: Option<PlacementPolicy>,
    /// See [`ClusterSettings::event_retention_ms`].
    pub event_retention_ms: Option<u64>,
    /// See [`ClusterSettings::default_runtime`].
    pub default_runtime: Option<String>,
    /// See [`ClusterSettings::ended_pods_max`].
    pub ended_pods_max: Option<u32>,
}

/// Where a Pod goes that fits on several nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlacementPolicy {
    /// The node with the largest free share.
    #[default]
    Spread,
    /// The node with the smallest free share that still fits.
    Pack,
}
