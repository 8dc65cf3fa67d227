//! For tests of this crate and of crate `raft`: an in-memory row store, and the invariants that hold after every entry.
//!
//! Owns: [`Rows`], [`Harness`], [`check_invariants`]. Does not own: any rule; it panics where an invariant is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{ClusterId, JobUid, NodeCapacity, PodUid, Revision, Timestamp};

use crate::apply::Ended;
use crate::command::{Command, ContainerRun, Entry, EntryPosition};
use crate::controller::Plan;
use crate::order::Order;
use crate::progress;
use crate::record::{ContainerRecord, JobRecord, PodRecord, StopReason, TemplateRecord};
use crate::reply::Reply;
use crate::row::{Row, RowChange, RowChangeKind, RowKey, RowsNeeded, RowsRead, StoredRow};
use crate::state::{IndexUse, State, is_finished};
use crate::traits::ContainerTraits;

/// All rows, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The rows.
    pub map: BTreeMap<RowKey, StoredRow>,
}

impl Rows {
    /// Reads what a command needs.
    pub fn read(&self, needed: &RowsNeeded) -> RowsRead {
        let keys = needed.keys.iter().map(|key| self.map.get(key).cloned()).collect();
        let range = |range: &crate::row::RowRange| {
            let rows = self.map.range((range.from.clone(), range.to.clone()));
            rows.take(range.limit).map(|(key, row)| (key.clone(), row.clone())).collect()
        };
        RowsRead { keys, ranges: needed.ranges.iter().map(range).collect() }
    }

    /// Writes one change; panics if it does not fit what is there.
    pub fn write(&mut self, change: &RowChange) {
        let there = self.map.contains_key(&change.key);
        match &change.kind {
            RowChangeKind::Added(row) => {
                assert!(!there, "row added twice: {:?}", change.key);
                self.put(change, row);
            }
            RowChangeKind::Modified(row) => {
                assert!(
                    there || change.key == RowKey::Meta,
                    "row modified that is not there: {:?}",
                    change.key
                );
                self.put(change, row);
            }
            RowChangeKind::Deleted(_) => {
                assert!(there, "row deleted that is not there: {:?}", change.key);
                self.map.remove(&change.key);
            }
        }
    }

    fn put(&mut self, change: &RowChange, row: &Row) {
        self.map.insert(change.key.clone(), StoredRow { revision: change.revision, row: row.clone() });
    }

    /// A state loaded from the rows.
    pub fn load(&self) -> State {
        State::load(self.map.iter().map(|(key, row)| (key.clone(), row.clone())))
            .expect("rows of a state load")
    }

    /// All Jobs, by uid.
    pub fn jobs(&self) -> Vec<(Revision, Arc<JobRecord>)> {
        self.collect(|row| match row {
            Row::Job(job) => Some(Arc::clone(job)),
            _ => None,
        })
    }

    /// All Pods, by Job and creation.
    pub fn pods(&self) -> Vec<(Revision, Arc<PodRecord>)> {
        self.collect(|row| match row {
            Row::Pod(pod) => Some(Arc::clone(pod)),
            _ => None,
        })
    }

    /// The template of a Job.
    pub fn template(&self, job: JobUid) -> Option<Arc<TemplateRecord>> {
        match &self.map.get(&RowKey::Template(job))?.row {
            Row::Template(template) => Some(Arc::clone(template)),
            _ => None,
        }
    }

    fn collect<T>(&self, pick: impl Fn(&Row) -> Option<T>) -> Vec<(Revision, T)> {
        self.map.values().filter_map(|stored| Some((stored.revision, pick(&stored.row)?))).collect()
    }
}

/// The runs of a Pod's containers whose end has not been heard of, in the order of the template.
pub fn outstanding_runs(state: &State, pod: &PodRecord) -> Vec<ContainerRun> {
    let Some(group) = state.groups.get(&pod.job) else { return Vec::new() };
    let containers = pod.containers.iter().zip(group.traits.containers.iter());
    let outstanding = containers.filter(|(container, _)| container.is_outstanding());
    let run = |(container, traits): (&ContainerRecord, &ContainerTraits)| ContainerRun {
        container: traits.name.to_string(),
        restart_count: container.restart_count,
    };
    outstanding.map(run).collect()
}

/// What one entry did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// One per command.
    pub replies: Vec<Reply>,
    /// All row changes, in order.
    pub changes: Vec<RowChange>,
    /// All orders, in order.
    pub orders: Vec<Order>,
    /// All ends, in order.
    pub ends: Vec<Ended>,
}

/// A state with its rows, fed entry by entry.
#[derive(Debug, Clone, Default)]
pub struct Harness {
    /// The state machine.
    pub state: State,
    /// What it has written.
    pub rows: Rows,
    /// Index of the last entry.
    pub log_index: u64,
    /// Term of the entries.
    pub term: u64,
}

impl Harness {
    /// An empty cluster in term 1.
    pub fn new() -> Harness {
        Harness { term: 1, ..Harness::default() }
    }

    /// Applies one entry without checking anything; writes its rows.
    pub fn apply_unchecked(&mut self, entry: &Entry) -> Outcome {
        self.log_index += 1;
        let position = EntryPosition { log_index: self.log_index, term: self.term };
        self.state.begin_entry(position, entry.time, entry.seed);
        let mut outcome = Outcome::default();
        for command in &entry.commands {
            let read = self.rows.read(&self.state.keys_needed(command));
            let applied = self.state.apply(command, &read);
            for change in &applied.changes {
                self.rows.write(change);
            }
            outcome.replies.push(applied.reply);
            outcome.changes.extend(applied.changes);
            outcome.orders.extend(applied.orders);
        }
        let finished = self.state.finish_entry();
        for change in &finished.changes {
            self.rows.write(change);
        }
        outcome.changes.extend(finished.changes);
        outcome.orders.extend(finished.orders);
        outcome.ends = finished.ends;
        outcome
    }

    /// Applies one entry and checks every invariant afterwards.
    pub fn apply_entry(&mut self, entry: &Entry) -> Outcome {
        let before = self.rows.clone();
        let last_revision = self.state.revision();
        let outcome = self.apply_unchecked(entry);
        check_revisions(&outcome.changes, last_revision, self.state.revision());
        check_monotone(&before, &self.rows);
        check_ends(&outcome.ends, &before, &self.rows);
        check_invariants(&self.state, &self.rows);
        outcome
    }

    /// Makes a new cluster of the rows: what a restore does.
    pub fn restore(&mut self, cluster_id: ClusterId) {
        let meta = self.state.meta().restored(cluster_id, 1).expect("the cluster was initialized");
        let row = StoredRow { revision: Revision(0), row: Row::Meta(Arc::new(meta)) };
        self.rows.map.insert(RowKey::Meta, row);
        self.state = self.rows.load();
    }

    /// Applies an entry of one command.
    pub fn apply_command(&mut self, time: Timestamp, seed: u64, command: Command) -> Outcome {
        self.apply_entry(&Entry { time, seed, commands: vec![command] })
    }
}

/// Revisions of row changes rise strictly, and the state's is that of the last (decision 6).
fn check_revisions(changes: &[RowChange], before: Revision, after: Revision) {
    let mut last = before;
    let mut added: BTreeSet<Revision> = BTreeSet::new();
    for change in changes {
        if change.revision == Revision(0) {
            continue;
        }
        assert!(change.revision > last, "revision {} after {last}", change.revision);
        assert!(added.insert(change.revision));
        last = change.revision;
    }
    assert_eq!(last, after, "the state's revision is that of the last change");
}

/// Each Pod and Job that ends is told of once, by the entry that ends it.
fn check_ends(ends: &[Ended], before: &Rows, after: &Rows) {
    let unfinished = |rows: &Rows| -> BTreeSet<PodUid> {
        let pods = rows.pods().into_iter().filter(|(_, pod)| !pod.phase.is_terminal());
        pods.map(|(_, pod)| pod.uid).collect()
    };
    let finished = |rows: &Rows| -> BTreeSet<JobUid> {
        rows.jobs().into_iter().filter(|(_, job)| is_finished(job)).map(|(_, job)| job.uid).collect()
    };
    let (mut pods, mut jobs) = (BTreeSet::new(), BTreeSet::new());
    for end in ends {
        match end {
            Ended::Pod(pod) => assert!(pods.insert(pod.uid) && pod.phase.is_terminal(), "{pod:?}"),
            Ended::Job { record, .. } => assert!(jobs.insert(record.uid), "{record:?} has finished twice"),
        }
    }
    let ended: BTreeSet<PodUid> = unfinished(before).difference(&unfinished(after)).copied().collect();
    assert_eq!(pods, ended);
    let become_finished: BTreeSet<JobUid> = finished(after).difference(&finished(before)).copied().collect();
    assert_eq!(jobs, become_finished);
}

/// R3, R4, J93: what a Job has counted and decided is never taken back.
fn check_monotone(before: &Rows, after: &Rows) {
    for (_, old) in before.jobs() {
        let Some(Row::Job(new)) = after.map.get(&RowKey::Job(old.uid)).map(|stored| &stored.row) else {
            continue;
        };
        assert!(new.status.failed >= old.status.failed, "failed shrinks: {old:?} {new:?}");
        let elastic = new.spec.indexed && new.spec.completions < old.spec.completions;
        assert!(
            elastic || new.status.succeeded >= old.status.succeeded,
            "succeeded shrinks: {old:?} {new:?}"
        );
        for condition in &old.status.conditions {
            if condition.condition_type != stint_api::JobConditionType::Suspended {
                assert!(new.status.conditions.contains(condition), "{condition:?} was taken back");
            }
        }
        if is_finished(&old) {
            assert_eq!(old.status.conditions, new.status.conditions);
            assert_eq!(
                (old.status.succeeded, old.status.failed, &old.status.completed_indexes),
                (new.status.succeeded, new.status.failed, &new.status.completed_indexes),
                "a finished Job counts on"
            );
        }
    }
    for (_, old) in before.pods() {
        let key = RowKey::Pod(crate::pods::pod_key(&old));
        let Some(Row::Pod(new)) = after.map.get(&key).map(|stored| &stored.row) else { continue };
        assert!(!old.phase.is_terminal() || old == *new, "an ended Pod changes: {old:?} {new:?}");
        assert!(!old.counted || new.counted);
    }
}

/// Everything that must hold after every entry.
pub fn check_invariants(state: &State, rows: &Rows) {
    check_loaded_state(state, rows);
    check_jobs(state, rows);
    check_nodes(state);
    check_index_rows(rows);
    let ended = rows.pods().into_iter().filter(|(_, pod)| pod.phase.is_terminal()).count();
    assert_eq!(state.meta.n_ended_pods, ended as u64, "J122: rows of Pods that have ended");
}

/// Decision 5: the state loaded from rows equals the state in memory.
fn check_loaded_state(state: &State, rows: &Rows) {
    let loaded = rows.load();
    if loaded.hash() != state.hash() {
        let (mut kept, mut read) = (String::new(), String::new());
        state.describe(&mut kept).expect("a String takes everything");
        loaded.describe(&mut read).expect("a String takes everything");
        for (kept, read) in kept.lines().zip(read.lines()) {
            assert_eq!(kept, read, "in memory, and loaded from rows");
        }
        panic!("the state loaded from rows differs in length");
    }
}

fn check_jobs(state: &State, rows: &Rows) {
    for (uid, job) in &state.jobs {
        let Some(StoredRow { row: Row::Job(row), revision }) = rows.map.get(&RowKey::Job(*uid)) else {
            panic!("no row of job {uid}");
        };
        assert_eq!((row.as_ref(), *revision), (&job.record, job.revision), "the row is the record");
        let written = match rows.map.get(&RowKey::History(*uid)).map(|stored| &stored.row) {
            Some(Row::History(history)) => history.decisions.clone(),
            _ => Vec::new(),
        };
        assert!(job.history.decisions.iter().eq(&written), "the history of {uid} is its row");
        let group = state.groups.get(uid).expect("an unfinished Job has a group");
        let pods: Vec<&Arc<PodRecord>> =
            group.pods.values().map(|uid| state.pod(uid).expect("its Pods are in memory")).collect();
        check_counts(&job.record, &pods, &group.indexes);
        assert_eq!(job.restart_sum, pods.iter().map(|pod| progress::restarts(pod)).sum::<u64>());
        let plan = state.plan(*uid);
        assert_eq!(
            (matches!(plan, Plan::Create { .. }), matches!(plan, Plan::Remove { .. })),
            (state.create_backlog.contains(uid), state.remove_backlog.contains(uid)),
            "what is planned is backlog: {plan:?}"
        );
        assert_ne!(plan, Plan::Finish, "a Job whose last Pod is gone has ended");
    }
    for (_, job) in rows.jobs() {
        assert_eq!(is_finished(&job), state.finished.contains_key(&job.uid));
        assert_eq!(!is_finished(&job), state.jobs.contains_key(&job.uid));
        check_result(&job, rows);
    }
    for pod in state.pods.values() {
        // A bound Pod waits for something, one that is not bound has nothing.
        assert_eq!(pod.record.node.is_some(), progress::is_outstanding(&pod.record), "{:?}", pod.record);
    }
    let grouped: usize = state.groups.values().map(|group| group.pods.len()).sum();
    assert_eq!(grouped, state.pods.len());
    let waiting: usize = state.scheduler.classes.values().map(|class| class.pods.len()).sum();
    assert_eq!(waiting, state.scheduler.n_pending);
    assert_eq!(waiting, state.pods.values().filter(|pod| pod.record.node.is_none()).count());
}

fn check_counts(job: &JobRecord, pods: &[&Arc<PodRecord>], indexes: &BTreeMap<u32, IndexUse>) {
    let active = pods.iter().filter(|pod| pod.stop_reason.is_none());
    let n_active = active.clone().count() as u32;
    let ready = active.clone().filter(|pod| pod.ready).count() as u32;
    let status = &job.status;
    assert_eq!(
        (status.active, status.ready, status.terminating),
        (n_active, ready, pods.len() as u32 - n_active),
        "counts of {}",
        job.metadata.name
    );
    if job.metadata.generation == 1 {
        // J21, J27: parallelism was never another.
        let at_once = if job.spec.replace_terminating { n_active } else { pods.len() as u32 };
        assert!(at_once <= job.spec.parallelism, "{at_once} Pods of {}", job.metadata.name);
    }
    let mut seen = BTreeSet::new();
    for pod in pods {
        let Some(index) = pod.index else { continue };
        assert!(job.spec.indexed);
        // D3: also a Pod that is still stopping keeps its index; an update may have changed the policy since.
        let in_use = indexes.get(&index.0).copied().unwrap_or_default();
        if !job.spec.replace_terminating && job.metadata.generation == 1 {
            assert_eq!(in_use.active + in_use.terminating, 1, "index {index} has two Pods");
        }
        assert!(in_use.active <= 1, "index {index} is active twice");
        if pod.stop_reason.is_none() {
            assert!(seen.insert(index), "index {index} is active twice");
        }
    }
}

/// R3, R4.
fn check_result(job: &JobRecord, rows: &Rows) {
    use stint_api::JobConditionType::{Complete, Failed, FailureTarget, SuccessCriteriaMet};
    let has = |wanted| job.status.conditions.iter().any(|condition| condition.condition_type == wanted);
    assert!(!(has(Complete) && has(Failed)), "both Complete and Failed");
    assert!(!(has(FailureTarget) && has(SuccessCriteriaMet)));
    assert!(!has(Failed) || has(FailureTarget), "J90");
    assert!(!has(Complete) || has(SuccessCriteriaMet), "J90");
    assert_eq!(has(Complete), job.status.completion_time.is_some(), "J92");
    if has(Complete) || has(Failed) {
        assert_eq!((job.status.active, job.status.terminating), (0, 0), "J90: no Pod is left");
    }
    if job.spec.indexed {
        let set = stint_api::IndexSet::parse(&job.status.completed_indexes, u32::MAX).expect("own text");
        assert_eq!(set.len(), job.status.succeeded, "R4");
    }
    let _ = rows;
}

fn check_nodes(state: &State) {
    for node in state.nodes.values() {
        let mut requested = NodeCapacity::default();
        for uid in &node.pods {
            let pod = state.pod(uid).expect("bound Pods are in memory");
            assert_eq!(pod.node.as_ref(), Some(&node.record.name));
            assert!(pod.binding_revision > Revision(0));
            let group = state.groups.get(&pod.job).expect("Pods have a group");
            let class = &group.traits.class.requests;
            requested.cpu_millis = requested.cpu_millis.saturating_add(class.cpu_millis);
            requested.memory_bytes = requested.memory_bytes.saturating_add(class.memory_bytes);
            requested.pods += 1;
        }
        assert_eq!(requested, node.requested, "requested on {}", node.record.name);
        assert_eq!(state.lost_nodes.contains(&node.record.name), !node.record.live && !node.pods.is_empty());
    }
}

/// Names and rows lead to each other.
fn check_index_rows(rows: &Rows) {
    let mut n_pods = 0;
    let mut n_pod_names = 0;
    let (mut pods, mut tails) = (BTreeSet::new(), BTreeSet::new());
    for (key, stored) in &rows.map {
        match (key, &stored.row) {
            (RowKey::PodName { name, .. }, Row::PodName(pod_key)) => {
                n_pod_names += 1;
                let Some(Row::Pod(pod)) = rows.map.get(&RowKey::Pod(*pod_key)).map(|stored| &stored.row)
                else {
                    panic!("name {name} leads nowhere");
                };
                assert_eq!(&pod.name, name);
            }
            (RowKey::Pod(pod_key), Row::Pod(pod)) => {
                n_pods += 1;
                pods.insert(pod.uid);
                assert!(rows.map.contains_key(&RowKey::Template(pod_key.job)), "a Pod without its template");
                assert!(pod.phase.is_terminal() == pod.finished_at.is_some());
                assert!(!pod.phase.is_terminal() || pod.counted);
                let kept = matches!(pod.stop_reason, None | Some(StopReason::JobFailed));
                assert!(!pod.phase.is_terminal() || kept, "a deleted Pod stays: {pod:?}");
            }
            (RowKey::JobName { name, .. }, Row::JobName(uid)) => {
                let Some(Row::Job(job)) = rows.map.get(&RowKey::Job(*uid)).map(|stored| &stored.row) else {
                    panic!("name {name} leads nowhere");
                };
                assert_eq!(&job.metadata.name, name);
            }
            (RowKey::LogTail(tail), Row::LogTail(_)) => {
                tails.insert(tail.pod);
            }
            (RowKey::History(uid), Row::History(history)) => {
                assert!(rows.map.contains_key(&RowKey::Job(*uid)), "a history of no Job");
                assert!(history.decisions.len() <= crate::limits::DECISIONS_PER_JOB_MAX, "R15");
            }
            (RowKey::Job(uid), Row::Job(_)) => assert!(rows.map.contains_key(&RowKey::Template(*uid))),
            _ => {}
        }
    }
    assert_eq!(n_pods, n_pod_names);
    assert!(tails.is_subset(&pods), "a tail of a log of no Pod");
}
