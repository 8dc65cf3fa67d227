//! Pods in memory and their rows: creation, change, stop, end.
//!
//! Owns: the one way in which a Pod's record changes, so that every count that derives from Pods (those of its Job, its
//! node, its class, its index) changes with it; which end counts for what (J12–J17, J91). Does not own: why a Pod is
//! created, stopped or ended.
//!
//! Invariants: a Pod uid is counted at most once, as succeeded or as failed (R4); a Pod that has ended leaves memory.
//!
//! | stopped because | exit 0 | otherwise | its row |
//! |---|---|---|---|
//! | not stopped | succeeded | failed | stays (J95) |
//! | `Deleted` (J17) | succeeded; in mode TerminatingOrFailed it was counted failed when it was deleted (J14) | failed | goes (P6) |
//! | `JobFailed` (J91) | failed | failed | stays (D5) |
//! | `ScaleDown`, `Suspend`, `JobSucceeded` (J16) | not counted | not counted | goes |
//! | `JobDeleted` | nobody counts | nobody counts | goes |
//!
//! Once a Job has decided to fail, every end counts as a failure (J91); once it is being deleted, every row goes (D1).

use std::sync::Arc;

use stint_api::{ContainerTermination, JobUid, NodeName, PodPhase, PodUid, Revision};

use crate::apply::Ended;
use crate::backoff;
use crate::command::DeletePropagation;
use crate::history;
use crate::progress;
use crate::record::{ContainerRunState, PodRecord, StopReason};
use crate::row::{PodKey, Row, RowChangeKind, RowKey};
use crate::state::{PodGroup, PodState, State, is_running};

/// P3: exit code of a run of which nobody knows how it ended.
const EXIT_CODE_UNKNOWN: i32 = 137;

/// How a Pod ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodEnd {
    /// The record as it is at the end, if that is not what is in memory.
    pub(crate) record: Option<PodRecord>,
    pub(crate) succeeded: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) disruption_reason: &'static str,
    /// D2: the host failed, not the program.
    pub(crate) node_lost: bool,
}

/// What a Pod's end means to its Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure,
    Nothing,
}

/// What a Pod adds to the counts of its Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    terminating: bool,
    ready: bool,
    restarts: u64,
}

impl Share {
    fn of(record: &PodRecord) -> Share {
        let terminating = record.stop_reason.is_some();
        Share { terminating, ready: !terminating && record.ready, restarts: progress::restarts(record) }
    }
}

/// Key of a Pod's row.
pub(crate) fn pod_key(record: &PodRecord) -> PodKey {
    PodKey { job: record.job, created_revision: record.created_revision }
}

/// P3: how a run ended that began, and whose end nobody has seen.
fn end_unknown() -> ContainerTermination {
    ContainerTermination {
        exit_code: EXIT_CODE_UNKNOWN,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "how it ended is not known".to_owned(),
        ..ContainerTermination::default()
    }
}

/// Memory.
impl State {
    /// Takes an unfinished Pod into memory. Its group must be there.
    pub(crate) fn insert_pod(&mut self, record: Arc<PodRecord>, revision: Revision) {
        self.add_share(&record, Share::of(&record));
        self.n_running_pods += usize::from(is_running(&record));
        if let Some(group) = self.groups.get_mut(&record.job) {
            group.pods.insert(record.created_revision, record.uid);
            self.pod_names.insert(&group.template.namespace, &record.name, record.uid);
        }
        self.place(&record);
        self.pods.insert(record.uid, PodState { record, revision });
    }

    /// Removes an unfinished Pod from memory.
    fn take_pod(&mut self, uid: PodUid) -> Option<Arc<PodRecord>> {
        let record = self.pods.remove(&uid)?.record;
        self.old_cluster.pods.remove(&uid);
        self.subtract_share(&record, Share::of(&record));
        self.n_running_pods = self.n_running_pods.saturating_sub(usize::from(is_running(&record)));
        if let Some(group) = self.groups.get_mut(&record.job) {
            group.pods.remove(&record.created_revision);
            self.pod_names.remove(&group.template.namespace, &record.name, uid);
        }
        self.unplace(&record);
        Some(record)
    }

    /// Changes an unfinished Pod: writes its row and moves every count that depends on it.
    pub(crate) fn change_pod(
        &mut self,
        uid: PodUid,
        change: impl FnOnce(&mut PodRecord),
    ) -> Option<Arc<PodRecord>> {
        self.change_pod_at(uid, |record, _| change(record))
    }

    /// The same for a change that needs to know its own revision.
    pub(crate) fn change_pod_at(
        &mut self,
        uid: PodUid,
        change: impl FnOnce(&mut PodRecord, Revision),
    ) -> Option<Arc<PodRecord>> {
        let old = Arc::clone(&self.pods.get(&uid)?.record);
        let mut record = PodRecord::clone(&old);
        // A Pod that this very entry created has no row yet: its creation is written with the change.
        let created = self.entry.created.get(&uid).copied();
        let revision = if created.is_some() { old.created_revision } else { self.next_revision() };
        change(&mut record, revision);
        let new = Arc::new(record);
        let (before, after) = (Share::of(&old), Share::of(&new));
        if before != after {
            self.subtract_share(&old, before);
            self.add_share(&new, after);
        }
        if before.terminating != after.terminating {
            self.look_at_index_again(&new);
        }
        self.n_running_pods = self.n_running_pods.saturating_sub(usize::from(is_running(&old)));
        self.n_running_pods += usize::from(is_running(&new));
        if old.node != new.node {
            self.unplace(&old);
            self.place(&new);
        }
        let row = Row::Pod(Arc::clone(&new));
        match created.and_then(|place| self.entry.changes.get_mut(place)) {
            Some(added) => added.kind = RowChangeKind::Added(row),
            None => self.push(RowKey::Pod(pod_key(&new)), revision, RowChangeKind::Modified(row)),
        }
        self.pods.insert(uid, PodState { record: Arc::clone(&new), revision });
        Some(new)
    }

    fn add_share(&mut self, record: &PodRecord, share: Share) {
        if let Some(job) = self.job_mut(record.job) {
            let status = &mut job.record.status;
            status.active += u32::from(!share.terminating);
            status.terminating += u32::from(share.terminating);
            status.ready += u32::from(share.ready);
            job.restart_sum = job.restart_sum.saturating_add(share.restarts);
        }
        if let (Some(index), Some(group)) = (record.index, self.groups.get_mut(&record.job)) {
            let in_use = group.indexes.entry(index.0).or_default();
            in_use.active += u32::from(!share.terminating);
            in_use.terminating += u32::from(share.terminating);
        }
    }

    fn subtract_share(&mut self, record: &PodRecord, share: Share) {
        if let Some(job) = self.job_mut(record.job) {
            let status = &mut job.record.status;
            status.active = status.active.saturating_sub(u32::from(!share.terminating));
            status.terminating = status.terminating.saturating_sub(u32::from(share.terminating));
            status.ready = status.ready.saturating_sub(u32::from(share.ready));
            job.restart_sum = job.restart_sum.saturating_sub(share.restarts);
        }
        if let (Some(index), Some(group)) = (record.index, self.groups.get_mut(&record.job))
            && let Some(in_use) = group.indexes.get_mut(&index.0)
        {
            in_use.active = in_use.active.saturating_sub(u32::from(!share.terminating));
            in_use.terminating = in_use.terminating.saturating_sub(u32::from(share.terminating));
            if in_use.active == 0 && in_use.terminating == 0 {
                group.indexes.remove(&index.0);
            }
        }
    }

    /// Enters a Pod at its node, or among those that wait for one.
    pub(crate) fn place(&mut self, record: &PodRecord) {
        let Some(group) = self.groups.get(&record.job) else { return };
        let requests = group.traits.class.requests;
        match &record.node {
            None => self.scheduler.add_pending(&group.traits.class, record.created_revision, record.uid),
            Some(name) => {
                let Some(node) = self.nodes.get_mut(name) else { return };
                node.pods.insert(record.uid);
                node.requested.cpu_millis = node.requested.cpu_millis.saturating_add(requests.cpu_millis);
                node.requested.memory_bytes =
                    node.requested.memory_bytes.saturating_add(requests.memory_bytes);
                node.requested.pods = node.requested.pods.saturating_add(requests.pods);
                self.scheduler.index_node(name, self.nodes.get(name), self.meta.settings.as_ref());
            }
        }
    }

    pub(crate) fn unplace(&mut self, record: &PodRecord) {
        let Some(group) = self.groups.get(&record.job) else { return };
        let requests = group.traits.class.requests;
        match &record.node {
            None => self.scheduler.remove_pending(&group.traits.class, record.created_revision),
            Some(name) => {
                let Some(node) = self.nodes.get_mut(name) else { return };
                node.pods.remove(&record.uid);
                node.requested.cpu_millis = node.requested.cpu_millis.saturating_sub(requests.cpu_millis);
                node.requested.memory_bytes =
                    node.requested.memory_bytes.saturating_sub(requests.memory_bytes);
                node.requested.pods = node.requested.pods.saturating_sub(requests.pods);
                if node.pods.is_empty() {
                    self.lost_nodes.remove(name);
                }
                self.scheduler.node_grew(name);
                self.scheduler.index_node(name, self.nodes.get(name), self.meta.settings.as_ref());
            }
        }
    }
}

/// Life.
impl State {
    /// Writes the row of a new Pod and takes it into memory. `record.created_revision` is set here.
    pub(crate) fn add_pod(&mut self, mut record: PodRecord, namespace: &str) {
        let revision = self.next_revision();
        record.created_revision = revision;
        let record = Arc::new(record);
        let key = pod_key(&record);
        self.entry.created.insert(record.uid, self.entry.changes.len());
        self.push(RowKey::Pod(key), revision, RowChangeKind::Added(Row::Pod(Arc::clone(&record))));
        let name = RowKey::PodName { namespace: namespace.to_owned(), name: record.name.clone() };
        self.push_plain(name, RowChangeKind::Added(Row::PodName(key)));
        self.insert_pod(record, revision);
    }

    /// Begins to stop an unfinished Pod: one that is bound gets its grace, one that is not ends at once.
    pub(crate) fn stop_pod(
        &mut self,
        uid: PodUid,
        reason: StopReason,
        grace_seconds: Option<u32>,
        disruption: &str,
    ) {
        let Some(pod) = self.pods.get(&uid) else { return };
        let pod = Arc::clone(&pod.record);
        let default_grace = self.groups.get(&pod.job).map_or(0, |group| group.traits.grace_seconds);
        let grace = grace_seconds.unwrap_or(default_grace);
        let grace_end = self.meta.time.plus_ms(i64::from(grace).saturating_mul(1000));
        // A second stop never gives more time than the first, nor does one of a Pod whose sidecars are being stopped (P7).
        let earlier = [pod.deletion_at, pod.sidecars_until].into_iter().flatten();
        let deletion_at = earlier.fold(grace_end, stint_api::Timestamp::min);
        let counted_now = reason == StopReason::Deleted && !pod.counted && self.counts_terminating(pod.job);
        if pod.node.is_some() && pod.stop_reason == Some(reason) && pod.deletion_at == Some(deletion_at) {
            return;
        }
        let changed = self.change_pod(uid, |record| {
            if record.deletion_at != Some(deletion_at) {
                record.deletion_at = Some(deletion_at);
                record.deletion_grace_seconds = grace;
            }
            record.stop_reason = Some(reason);
            record.counted |= counted_now;
            if record.disruption_reason.is_empty() {
                record.disruption_reason = disruption.to_owned();
            }
        });
        if reason == StopReason::Deleted && pod.stop_reason.is_none() {
            self.decided(pod.job, "PodDeleted", &pod.name, history::deleted(&pod, disruption, counted_now));
        }
        if counted_now {
            self.count_failure(pod.job, None);
            self.tell_failure(&pod, "it was deleted".to_owned(), false);
        }
        match changed {
            Some(changed) if changed.node.is_some() => self.order(&changed),
            _ => self.end_pod(uid, PodEnd::default()),
        }
    }

    /// J13, J14: in mode TerminatingOrFailed a deleted Pod is counted when its deletion begins.
    fn counts_terminating(&self, job: JobUid) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.record.spec.replace_terminating)
    }

    /// Ends an unfinished Pod: counts it, and keeps or deletes its row.
    pub(crate) fn end_pod(&mut self, uid: PodUid, end: PodEnd) {
        // A Pod never ends in the entry that created it, so its first row is not rewritten any more.
        self.entry.created.remove(&uid);
        let Some(old) = self.take_pod(uid) else { return };
        let mut pod = end.record.unwrap_or_else(|| PodRecord::clone(&old));
        pod.phase = if end.succeeded { PodPhase::Succeeded } else { PodPhase::Failed };
        pod.finished_at = Some(self.meta.time);
        for container in &mut pod.containers {
            container.restart_at = None;
            if container.is_running() {
                container.state = ContainerRunState::Ended;
                // Nobody knows how this run ended: the end of the one before would be taken for it.
                container.previous_termination = container.termination.replace(Box::new(end_unknown()));
            }
        }
        if pod.ready {
            pod.ready = false;
            pod.ready_changed_at = Some(self.meta.time);
        }
        pod.restarting_all = false;
        pod.sidecars_until = None;
        pod.unschedulable_message.clear();
        if !end.reason.is_empty() {
            pod.reason = end.reason;
            pod.message = end.message;
        }
        if !end.disruption_reason.is_empty() && pod.disruption_reason.is_empty() {
            end.disruption_reason.clone_into(&mut pod.disruption_reason);
        }
        self.count_end(&mut pod, end.succeeded, end.node_lost);
        self.look_at_index_again(&pod);
        // A Pod of a deleted Job may end before it is told to stop, and after the rows were looked at: nobody would come by
        // its row again.
        let job_is_deleted = self.groups.get(&pod.job).is_some_and(PodGroup::takes_pods_along);
        let removed = job_is_deleted || !matches!(pod.stop_reason, None | Some(StopReason::JobFailed));
        let pod = Arc::new(pod);
        self.entry.ends.push(Ended::Pod(pod.clone()));
        if removed {
            self.delete_pod_rows(pod);
        } else {
            self.meta.n_ended_pods = self.meta.n_ended_pods.saturating_add(1);
            let revision = self.next_revision();
            let key = RowKey::Pod(pod_key(&pod));
            self.push(key, revision, RowChangeKind::Modified(Row::Pod(pod)));
        }
        self.pod_left(old.job, removed);
    }

    /// Deletes the rows of a Pod that is not in memory.
    pub(crate) fn delete_pod_rows(&mut self, pod: Arc<PodRecord>) {
        let key = pod_key(&pod);
        if let Some(namespace) = self.groups.get(&pod.job).map(|group| group.template.namespace.clone()) {
            self.delete_pod_rows_in(&namespace, key, pod);
        }
    }

    /// The same for a Pod whose Job may not be in memory.
    pub(crate) fn delete_pod_rows_in(&mut self, namespace: &str, key: PodKey, pod: Arc<PodRecord>) {
        self.delete_events_of_pod(pod.uid);
        self.delete_log_tails_of(pod.uid);
        let revision = self.next_revision();
        let name = RowKey::PodName { namespace: namespace.to_owned(), name: pod.name.clone() };
        self.push(RowKey::Pod(key), revision, RowChangeKind::Deleted(Row::Pod(pod)));
        self.push_plain(name, RowChangeKind::Deleted(Row::PodName(key)));
    }

    /// The Pod's index may be free now, unless it has succeeded.
    fn look_at_index_again(&mut self, pod: &PodRecord) {
        if let (Some(index), Some(job)) = (pod.index, self.jobs.get_mut(&pod.job))
            && index.0 < job.index_cursor
            && !job.completed.contains(index.0)
        {
            job.index_cursor = index.0;
        }
    }

    fn count_end(&mut self, pod: &mut PodRecord, succeeded: bool, node_lost: bool) {
        if pod.counted {
            return;
        }
        pod.counted = true;
        let Some(job) = self.jobs.get(&pod.job) else { return };
        let reason = match (pod.stop_reason, job.target()) {
            // J91: from the decision to fail on, every end is a failure, whoever stopped the Pod.
            (None | Some(StopReason::Deleted), Some(true)) => Some(StopReason::JobFailed),
            // A Pod that ends before the Job's decision has reached it is counted as if it had.
            (None, Some(false)) => Some(StopReason::JobSucceeded),
            // J14: its replacement may be there already. It was deleted before an update chose this policy, or it would
            // be counted.
            (Some(StopReason::Deleted), None) if job.record.spec.replace_terminating => {
                Some(StopReason::JobFailed)
            }
            (reason, _) => reason,
        };
        let verdict = match reason {
            None | Some(StopReason::Deleted) if succeeded => Verdict::Success,
            None | Some(StopReason::Deleted | StopReason::JobFailed) => Verdict::Failure,
            Some(_) => Verdict::Nothing,
        };
        match verdict {
            Verdict::Success => self.count_success(pod),
            Verdict::Failure => {
                let lost_on = pod.node.clone().filter(|_| node_lost);
                self.count_failure(pod.job, lost_on.as_ref());
                let how = self.how_it_ended(pod);
                self.tell_failure(pod, how, node_lost);
            }
            Verdict::Nothing => {}
        }
    }

    /// J12, J51: a success ends the back-off.
    fn count_success(&mut self, pod: &PodRecord) {
        let Some(job) = self.job_mut(pod.job) else { return };
        if job.record.spec.indexed {
            let completions = job.record.spec.completions.unwrap_or(0);
            match pod.index {
                Some(index) if index.0 < completions => job.completed.insert(index.0),
                _ => return,
            };
            job.record.status.succeeded = job.completed.len();
            self.stop_pods_of_completed_index(pod);
        } else {
            job.record.status.succeeded = job.record.status.succeeded.saturating_add(1);
        }
        let Some(job) = self.job_mut(pod.job) else { return };
        job.record.status.consecutive_failures = 0;
        job.record.status.backoff_until = None;
    }

    /// J28, J32: an index that has succeeded needs no other Pod. There is one only if the replacement policy was changed
    /// while a Pod was stopping.
    fn stop_pods_of_completed_index(&mut self, succeeded: &PodRecord) {
        let (Some(index), Some(group)) = (succeeded.index, self.groups.get(&succeeded.job)) else { return };
        if group.indexes.get(&index.0).is_none_or(|in_use| in_use.active == 0) {
            return;
        }
        let is_duplicate = |pod: &PodRecord| pod.index == Some(index) && pod.stop_reason.is_none();
        let pods = group.pods.values().filter_map(|uid| self.pods.get(uid));
        let duplicates: Vec<PodUid> =
            pods.filter(|pod| is_duplicate(&pod.record)).map(|pod| pod.record.uid).collect();
        for uid in duplicates {
            self.stop_pod(uid, StopReason::ScaleDown, None, "");
        }
    }

    /// J15, J50, J51; D2: a Pod lost with its node counts, but neither feeds nor starts a back-off.
    fn count_failure(&mut self, uid: JobUid, lost_on: Option<&NodeName>) {
        let time = self.meta.time;
        let Some(job) = self.job_mut(uid) else { return };
        let heading_for_an_end = job.target().is_some();
        let status = &mut job.record.status;
        status.failed = status.failed.saturating_add(1);
        match lost_on {
            Some(node) => {
                status.avoid_node = Some(node.clone());
                status.avoid_pods = status.avoid_pods.saturating_add(1);
            }
            None => {
                status.consecutive_failures = status.consecutive_failures.saturating_add(1);
                let delay_ms = backoff::replacement_delay_ms(&job.record.spec, status.consecutive_failures);
                // J53: the back-off is dropped when the Job heads for its end.
                status.backoff_until = (delay_ms > 0 && !heading_for_an_end).then(|| time.plus_ms(delay_ms));
            }
        }
    }

    /// What must be looked at once a Pod has left memory.
    fn pod_left(&mut self, job: JobUid, row_deleted: bool) {
        let Some(leftover) = self.groups.get(&job).and_then(|group| group.template.leftover.as_ref()) else {
            return;
        };
        if leftover.propagation == DeletePropagation::Orphan {
            if row_deleted {
                self.rescan_orphans(job);
            }
        } else {
            self.refresh_deletion_backlog(job);
        }
    }
}
