//! The state in memory: unfinished work, nodes, timers, and of finished Jobs only what names and TTLs need (decision 5).
//!
//! Owns: the tables, loading them from rows, what is asked of them from outside. Does not own: decisions (the other
//! modules add them to `State`), the changes of Pods' rows (module `pods`).
//!
//! Invariants: everything in memory derives from rows, so that `load(rows)` equals the state that wrote them, by
//! [`State::hash`]; what is only a cache of something derivable is left out of the hash and may differ from server to
//! server, so no decision depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{
    IndexSet, JobConditionType, JobUid, NodeCapacity, NodeName, NodeOffer, PodPhase, PodUid, Revision,
    Timestamp,
};

use crate::apply::Ended;
use crate::command::{ClusterSettings, DeletePropagation, EntryPosition};
use crate::config_maps::ConfigMapTable;
use crate::draw::Draw;
use crate::error::CoreError;
use crate::events::EventTable;
use crate::history::JobHistory;
use crate::idempotency::TombstoneTable;
use crate::log_tails::LogTailTable;
use crate::names::NameIndex;
use crate::order::{DesiredAction, DesiredPod, Order};
use crate::progress;
use crate::record::{JobRecord, MetaRecord, NodeRecord, PodRecord, StopReason, TemplateRecord};
use crate::restore::OldCluster;
use crate::row::{Row, RowChange, RowChangeKind, RowKey, StoredRow};
use crate::scheduler::Scheduler;
use crate::timers::JobTimers;
use crate::traits::PodTraits;

/// The replicated state machine. See the crate's introduction and `begin_entry`, `apply`, `finish_entry`.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) meta: MetaRecord,
    pub(crate) nodes: BTreeMap<NodeName, NodeState>,
    /// Unfinished Jobs.
    pub(crate) jobs: BTreeMap<JobUid, ActiveJob>,
    /// Finished Jobs.
    pub(crate) finished: BTreeMap<JobUid, FinishedJob>,
    /// All Jobs.
    pub(crate) job_names: NameIndex<JobUid>,
    /// For each unfinished Job and each Job being or having been deleted whose Pods are not all gone.
    pub(crate) groups: BTreeMap<JobUid, PodGroup>,
    /// Namespace, name and uid of the Jobs in `groups` whose deletion has begun.
    pub(crate) leftover_names: BTreeSet<(String, String, JobUid)>,
    /// Unfinished Pods.
    pub(crate) pods: BTreeMap<PodUid, PodState>,
    pub(crate) pod_names: NameIndex<PodUid>,
    /// Unfinished Pods whose phase is Running.
    pub(crate) n_running_pods: usize,
    pub(crate) events: EventTable,
    pub(crate) tombstones: TombstoneTable,
    pub(crate) config_maps: ConfigMapTable,
    pub(crate) log_tails: LogTailTable,
    /// Decisions in the histories of unfinished Jobs.
    pub(crate) n_decisions: usize,
    pub(crate) timers: JobTimers,
    /// Finished Jobs by when their TTL ends (J121).
    pub(crate) ttl_queue: BTreeSet<(Timestamp, JobUid)>,
    /// Jobs that want more Pods than the last entry could create.
    pub(crate) create_backlog: BTreeSet<JobUid>,
    /// Jobs that want fewer Pods than the last entry could stop.
    pub(crate) remove_backlog: BTreeSet<JobUid>,
    /// Jobs being deleted some of whose unfinished Pods are not yet being stopped for it.
    pub(crate) stop_backlog: BTreeSet<JobUid>,
    /// Jobs being deleted that `Continue` can bring further.
    pub(crate) deletion_backlog: BTreeSet<JobUid>,
    /// Nodes that are lost and still have Pods.
    pub(crate) lost_nodes: BTreeSet<NodeName>,
    pub(crate) old_cluster: OldCluster,
    pub(crate) scheduler: Scheduler,
    pub(crate) entry: EntryScratch,
}

/// A node in memory.
#[derive(Debug, Clone)]
pub(crate) struct NodeState {
    pub(crate) record: Arc<NodeRecord>,
    pub(crate) revision: Revision,
    /// Unfinished Pods bound to it.
    pub(crate) pods: BTreeSet<PodUid>,
    /// What they have requested.
    pub(crate) requested: NodeCapacity,
    /// What its record says of the Pods that it takes.
    pub(crate) offer: NodeOffer,
}

impl NodeState {
    /// Without Pods.
    pub(crate) fn new(record: Arc<NodeRecord>, revision: Revision) -> NodeState {
        NodeState {
            offer: NodeOffer::of_words(&record.features),
            record,
            revision,
            pods: BTreeSet::new(),
            requested: NodeCapacity::default(),
        }
    }
}

/// An unfinished Job in memory.
#[derive(Debug, Clone)]
pub(crate) struct ActiveJob {
    /// `completed_indexes` is brought up to date when the row is written.
    pub(crate) record: JobRecord,
    pub(crate) revision: Revision,
    pub(crate) completed: IndexSet,
    /// Restarts in place of its unfinished Pods (J61).
    pub(crate) restart_sum: u64,
    /// A cache: every index below is completed or in use.
    pub(crate) index_cursor: u32,
    /// True while the record differs from the row.
    pub(crate) dirty: bool,
    pub(crate) history: JobHistory,
}

/// What memory keeps of a finished Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinishedJob {
    pub(crate) revision: Revision,
    pub(crate) ttl_due: Option<Timestamp>,
}

/// The unfinished Pods of one Job, alive or deleted, and what they have in common.
#[derive(Debug, Clone)]
pub(crate) struct PodGroup {
    pub(crate) template: Arc<TemplateRecord>,
    pub(crate) traits: Arc<PodTraits>,
    /// By creation.
    pub(crate) pods: BTreeMap<Revision, PodUid>,
    /// Unfinished Pods per completion index.
    pub(crate) indexes: BTreeMap<u32, IndexUse>,
}

/// How many unfinished Pods work on one completion index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexUse {
    pub(crate) active: u32,
    pub(crate) terminating: u32,
}

/// An unfinished Pod in memory.
#[derive(Debug, Clone)]
pub(crate) struct PodState {
    pub(crate) record: Arc<PodRecord>,
    pub(crate) revision: Revision,
}

/// What lives from `begin_entry` to `finish_entry` only; empty between entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntryScratch {
    pub(crate) term: u64,
    pub(crate) draw: Draw,
    pub(crate) changes: Vec<RowChange>,
    pub(crate) orders: Vec<Order>,
    pub(crate) ends: Vec<Ended>,
    /// Jobs to be synced at the end of the entry.
    pub(crate) touched: BTreeSet<JobUid>,
    /// A node has come, gone, or been cordoned: reasons why Pods can't be placed may have changed.
    pub(crate) nodes_changed: bool,
    /// Pods created by this entry, with the place of their row change.
    pub(crate) created: BTreeMap<PodUid, usize>,
    pub(crate) n_created: usize,
    pub(crate) n_stopped: usize,
    pub(crate) n_deleted_rows: usize,
}

/// How much there is of everything; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCounts {
    /// Jobs, finished ones included.
    pub jobs: usize,
    /// Jobs that are neither Complete nor Failed.
    pub unfinished_jobs: usize,
    /// Unfinished Pods that have not started.
    pub pods_pending: usize,
    /// Unfinished Pods that have started.
    pub pods_running: usize,
    /// Pods that no node has been found for.
    pub pods_unbound: usize,
    /// Nodes.
    pub nodes: usize,
    /// Nodes with a live lease.
    pub nodes_live: usize,
    /// Events.
    pub events: usize,
}

impl State {
    /// An empty state: nothing was ever applied.
    pub fn new() -> State {
        State::default()
    }

    /// Loads a state from all its rows, in key order. Rows of ended Pods are skipped, and of finished Jobs little is kept.
    pub fn load(rows: impl IntoIterator<Item = (RowKey, StoredRow)>) -> Result<State, CoreError> {
        let mut state = State::new();
        for (key, stored) in rows {
            state.load_row(key, stored)?;
        }
        if let Some(uid) = state.jobs.keys().find(|uid| !state.groups.contains_key(uid)) {
            return Err(CoreError::Dangling { key: Box::new(RowKey::Job(*uid)), missing: "its template" });
        }
        state.derive_after_load();
        Ok(state)
    }

    /// Begins an entry. State time goes forward only: an earlier `time` counts as the last one.
    pub fn begin_entry(&mut self, position: EntryPosition, time: Timestamp, seed: u64) {
        self.meta.time = self.meta.time.max(time);
        self.meta.applied_log_index = position.log_index;
        self.entry = EntryScratch {
            term: position.term,
            draw: Draw::new(seed, position.log_index),
            ..EntryScratch::default()
        };
    }

    /// Time of the last entry: all decisions are taken at it.
    pub fn time(&self) -> Timestamp {
        self.meta.time
    }

    /// Revision of the last row change.
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// What is true of the whole state.
    pub fn meta(&self) -> &MetaRecord {
        &self.meta
    }

    /// The cluster's settings; none before it is initialized.
    pub fn settings(&self) -> Option<&ClusterSettings> {
        self.meta.settings.as_ref()
    }

    /// A node.
    pub fn node(&self, name: &NodeName) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(name).map(|node| &node.record)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.nodes.values().map(|node| &node.record)
    }

    /// What the unfinished Pods bound to a node have requested.
    pub fn requested_on(&self, name: &NodeName) -> NodeCapacity {
        self.nodes.get(name).map(|node| node.requested).unwrap_or_default()
    }

    /// A8: everything unfinished that is bound to a node, with delays and grace counted from [`State::time`].
    /// Empty for a node whose lease has expired: it must hold nothing.
    pub fn desired_pods(&self, name: &NodeName) -> Vec<DesiredPod> {
        let Some(node) = self.nodes.get(name).filter(|node| node.record.live) else { return Vec::new() };
        let pods = node.pods.iter().filter_map(|uid| self.pods.get(uid));
        pods.map(|pod| self.desired(&pod.record)).collect()
    }

    /// An unfinished Pod.
    pub fn pod(&self, uid: &PodUid) -> Option<&Arc<PodRecord>> {
        self.pods.get(uid).map(|pod| &pod.record)
    }

    /// The template of an unfinished Job, or of a Job with unfinished Pods.
    pub fn template(&self, job: &JobUid) -> Option<&Arc<TemplateRecord>> {
        self.groups.get(job).map(|group| &group.template)
    }

    /// The uid of a Job, finished or not.
    pub fn job_uid_by_name(&self, namespace: &str, name: &str) -> Option<JobUid> {
        self.job_names.get(namespace, name)
    }

    /// How much there is of everything.
    pub fn counts(&self) -> StateCounts {
        StateCounts {
            jobs: self.jobs.len() + self.finished.len(),
            unfinished_jobs: self.jobs.len(),
            pods_pending: self.pods.len().saturating_sub(self.n_running_pods),
            pods_running: self.n_running_pods,
            pods_unbound: self.scheduler.n_pending,
            nodes: self.nodes.len(),
            nodes_live: self.nodes.values().filter(|node| node.record.live).count(),
            events: self.events.len(),
        }
    }

    /// What an agent should hold of a Pod now.
    pub(crate) fn desired(&self, pod: &PodRecord) -> DesiredPod {
        let remaining_ms = |due: Option<Timestamp>| {
            due.map_or(0, |due| u64::try_from(due.since_ms(self.meta.time)).unwrap_or(0))
        };
        let action = if pod.stop_reason.is_some() {
            DesiredAction::Stop { grace_ms: remaining_ms(pod.deletion_at) }
        } else {
            let traits = self.groups.get(&pod.job).map(|group| &group.traits);
            let containers = traits.map(|traits| progress::desired(pod, traits, self.meta.time));
            DesiredAction::Run { containers: containers.unwrap_or_default() }
        };
        DesiredPod { pod: pod.uid, binding_revision: pod.binding_revision, action }
    }

    /// Sends the agent of a bound Pod what it should hold of it: a speed-up only (A8).
    pub(crate) fn order(&mut self, pod: &PodRecord) {
        let Some(name) = &pod.node else { return };
        let Some(node) = self.nodes.get(name).filter(|node| node.record.live) else { return };
        let incarnation = node.record.incarnation;
        let desired = self.desired(pod);
        self.entry.orders.push(Order { node: name.clone(), incarnation, desired });
    }

    /// The revision of the next row change.
    pub(crate) fn next_revision(&mut self) -> Revision {
        self.meta.revision = Revision(self.meta.revision.0.saturating_add(1));
        self.meta.revision
    }

    pub(crate) fn push(&mut self, key: RowKey, revision: Revision, kind: RowChangeKind) {
        self.entry.changes.push(RowChange { key, revision, kind });
    }

    /// A change of a row that carries no revision.
    pub(crate) fn push_plain(&mut self, key: RowKey, kind: RowChangeKind) {
        self.push(key, Revision(0), kind);
    }

    /// An unfinished Job, to be changed: it will be synced and its row written at the end of the entry.
    pub(crate) fn job_mut(&mut self, uid: JobUid) -> Option<&mut ActiveJob> {
        let job = self.jobs.get_mut(&uid)?;
        job.dirty = true;
        self.entry.touched.insert(uid);
        Some(job)
    }

    /// Writes a Job's row if it differs from the last one written.
    pub(crate) fn write_job(&mut self, uid: JobUid) {
        let Some(job) = self.jobs.get(&uid) else { return };
        if !job.dirty {
            return;
        }
        let revision = self.next_revision();
        let Some(job) = self.jobs.get_mut(&uid) else { return };
        if job.record.spec.indexed {
            job.record.status.completed_indexes = job.completed.to_string();
        }
        job.dirty = false;
        job.revision = revision;
        let record = Arc::new(job.record.clone());
        self.push(RowKey::Job(uid), revision, RowChangeKind::Modified(Row::Job(record)));
        self.write_history(uid);
    }
}

impl ActiveJob {
    pub(crate) fn new(record: JobRecord, revision: Revision) -> ActiveJob {
        ActiveJob {
            record,
            revision,
            completed: IndexSet::new(),
            restart_sum: 0,
            index_cursor: 0,
            dirty: false,
            history: JobHistory::default(),
        }
    }

    /// The interim condition that the Job is heading for, if any (J90): true for failure.
    pub(crate) fn target(&self) -> Option<bool> {
        self.record.status.conditions.iter().find_map(|condition| match condition.condition_type {
            JobConditionType::FailureTarget => Some(true),
            JobConditionType::SuccessCriteriaMet => Some(false),
            _ => None,
        })
    }
}

impl PodGroup {
    pub(crate) fn new(template: Arc<TemplateRecord>) -> PodGroup {
        let traits = Arc::new(PodTraits::of(&template.template.spec));
        PodGroup { template, traits, pods: BTreeMap::new(), indexes: BTreeMap::new() }
    }

    /// True if the Job was deleted, or is being deleted, together with its Pods.
    pub(crate) fn takes_pods_along(&self) -> bool {
        let leftover = self.template.leftover.as_ref();
        leftover.is_some_and(|leftover| leftover.propagation != DeletePropagation::Orphan)
    }
}

impl JobRecord {
    /// True once the Job is Complete or Failed.
    pub fn is_finished(&self) -> bool {
        is_finished(self)
    }
}

/// True for a Job that is Complete or Failed.
pub(crate) fn is_finished(record: &JobRecord) -> bool {
    finish_time(record).is_some()
}

/// When a Job became Complete or Failed.
pub(crate) fn finish_time(record: &JobRecord) -> Option<Timestamp> {
    let terminal = |condition: &&stint_api::JobCondition| {
        matches!(condition.condition_type, JobConditionType::Complete | JobConditionType::Failed)
    };
    record.status.conditions.iter().find(terminal).map(|condition| condition.last_transition_time)
}

/// J121: when a finished Job's TTL ends; none for one that is already being deleted.
pub(crate) fn ttl_due(record: &JobRecord) -> Option<Timestamp> {
    let ttl_seconds = record.spec.ttl_seconds_after_finished.filter(|_| !record.status.deleting)?;
    Some(finish_time(record)?.plus_ms(i64::from(ttl_seconds) * 1000))
}

/// Loading.
impl State {
    fn load_row(&mut self, key: RowKey, stored: StoredRow) -> Result<(), CoreError> {
        let revision = stored.revision;
        match (&key, stored.row) {
            (RowKey::Meta, Row::Meta(meta)) => self.meta = MetaRecord::clone(&meta),
            (RowKey::Node(name), Row::Node(record)) => {
                self.nodes.insert(name.clone(), NodeState::new(record, revision));
            }
            (RowKey::Job(uid), Row::Job(record)) => self.load_job(*uid, &record, revision, &key)?,
            (RowKey::Template(uid), Row::Template(template)) => {
                if self.jobs.contains_key(uid) || template.leftover.is_some() {
                    if template.leftover.is_some() {
                        self.leftover_names.insert((
                            template.namespace.clone(),
                            template.job_name.clone(),
                            *uid,
                        ));
                    }
                    self.groups.insert(*uid, PodGroup::new(template));
                }
            }
            (RowKey::Pod(_), Row::Pod(record)) => {
                if !record.phase.is_terminal() {
                    let missing = if !self.groups.contains_key(&record.job) {
                        Some("the Job's template")
                    } else if record.node.as_ref().is_some_and(|node| !self.nodes.contains_key(node)) {
                        Some("its node")
                    } else {
                        None
                    };
                    if let Some(missing) = missing {
                        return Err(CoreError::Dangling { key: Box::new(key), missing });
                    }
                    self.insert_pod(record, revision);
                }
            }
            (RowKey::Event { .. }, Row::Event(record)) => {
                let retention_ms = self.event_retention_ms();
                self.events
                    .load(record, revision, retention_ms)
                    .ok_or(CoreError::Unreadable { key: Box::new(key), field: "object" })?;
            }
            (RowKey::Tombstone { .. }, Row::Tombstone(record)) => self.tombstones.insert(record),
            (RowKey::ConfigMap { .. }, Row::ConfigMap(record)) => self.config_maps.load(&record, revision),
            (RowKey::LogTail(key), Row::LogTail(record)) => self.log_tails.load(*key, &record),
            (RowKey::History(uid), Row::History(record)) => self.load_history(*uid, &record),
            (RowKey::JobName { .. }, Row::JobName(_)) | (RowKey::PodName { .. }, Row::PodName(_)) => {}
            _ => return Err(CoreError::WrongKind { key: Box::new(key) }),
        }
        Ok(())
    }

    fn load_job(
        &mut self,
        uid: JobUid,
        record: &Arc<JobRecord>,
        revision: Revision,
        key: &RowKey,
    ) -> Result<(), CoreError> {
        self.job_names.insert(&record.metadata.namespace, &record.metadata.name, uid);
        if is_finished(record) {
            let ttl_due = ttl_due(record);
            self.finished.insert(uid, FinishedJob { revision, ttl_due });
            self.ttl_queue.extend(ttl_due.map(|due| (due, uid)));
            return Ok(());
        }
        let mut job = ActiveJob::new(JobRecord::clone(record), revision);
        job.completed = IndexSet::parse(&record.status.completed_indexes, u32::MAX).map_err(|_| {
            CoreError::Unreadable { key: Box::new(key.clone()), field: "set of completed indexes" }
        })?;
        // Counted anew from the Pods that follow.
        job.record.status.active = 0;
        job.record.status.ready = 0;
        job.record.status.terminating = 0;
        self.jobs.insert(uid, job);
        Ok(())
    }

    fn derive_after_load(&mut self) {
        self.entry = EntryScratch::default();
        for job in self.jobs.values_mut() {
            job.dirty = false;
        }
        let uids: Vec<JobUid> = self.jobs.keys().copied().collect();
        for uid in uids {
            self.rearm_job_timers(uid);
            self.refresh_sync_backlog(uid);
        }
        let leftovers: Vec<JobUid> = self.leftover_names.iter().map(|(_, _, uid)| *uid).collect();
        for uid in leftovers {
            self.refresh_stop_backlog(uid);
            self.refresh_deletion_backlog(uid);
        }
        let names: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for name in names {
            self.node_changed(&name);
        }
        self.find_old_cluster();
        // Whether the last pass was cut short is not in the rows: look once more.
        self.scheduler.unfinished = self.scheduler.n_pending > 0;
    }

    pub(crate) fn refresh_stop_backlog(&mut self, uid: JobUid) {
        let unstopped = self.groups.get(&uid).is_some_and(|group| {
            group.takes_pods_along()
                && group.pods.values().any(|pod| {
                    let pod = self.pods.get(pod);
                    pod.is_some_and(|pod| pod.record.stop_reason != Some(StopReason::JobDeleted))
                })
        });
        if unstopped {
            self.stop_backlog.insert(uid);
        } else {
            self.stop_backlog.remove(&uid);
        }
    }
}

/// True for a Pod that counts as running in [`StateCounts`].
pub(crate) fn is_running(record: &PodRecord) -> bool {
    record.phase == PodPhase::Running
}
