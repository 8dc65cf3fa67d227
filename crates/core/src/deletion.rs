//! Deletion of Jobs and Pods (D1, J120, J121).
//!
//! Owns: what goes at once, what follows in chunks, when the last trace of a Job is gone. Does not own: how Pods stop.
//!
//! A Job's deletion marks its template's row (`leftover`): what becomes of the Pods, and how far their rows have been
//! looked at. Unfinished Pods are told to stop and go when they end; rows of ended Pods are read and deleted in chunks
//! (decision 5), one in the command itself, the others over `Tick` and `Continue`; the template goes last.
//!
//! Invariants: a Job is never deleted by its TTL unless it is finished and the TTL has passed (R12); the cursor is in a
//! row, so that every server reads the same chunk.

use std::ops::Bound;
use std::sync::Arc;

use stint_api::{JobUid, Revision};

use crate::command::{DeleteJob, DeletePod, DeletePropagation};
use crate::events::EventObject;
use crate::limits::{
    DELETIONS_PER_COMMAND_MAX, GRACE_SECONDS_MAX, PODS_DELETED_PER_ENTRY_MAX, PODS_STOPPED_PER_ENTRY_MAX,
};
use crate::record::{JobRecord, LeftoverRecord, PodRecord, StopReason, TemplateRecord};
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::row::{PodKey, Row, RowChangeKind, RowKey, RowRange, RowsNeeded, RowsRead, StoredRow};
use crate::state::{PodGroup, State, ttl_due};

/// One Job whose deletion can be brought further by reading rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeletionUnit {
    uid: JobUid,
    /// Pods created before it have been looked at.
    from: Revision,
    limit: usize,
}

/// What was read for a unit.
#[derive(Debug, Default)]
struct UnitRows<'a> {
    job: Option<&'a Arc<JobRecord>>,
    template: Option<&'a Arc<TemplateRecord>>,
    pods: Vec<&'a Arc<PodRecord>>,
}

/// Reading.
impl State {
    /// The Jobs that `Tick` or `Continue` can bring further, with their chunks.
    pub(crate) fn deletion_units(&self) -> Vec<DeletionUnit> {
        let budget = PODS_DELETED_PER_ENTRY_MAX.saturating_sub(self.entry.n_deleted_rows);
        if budget == 0 {
            return Vec::new();
        }
        let expired = self.ttl_queue.iter().take_while(|(due, _)| *due <= self.meta.time);
        let uids = self.deletion_backlog.iter().copied().chain(expired.map(|(_, uid)| *uid));
        let uids: Vec<JobUid> = uids.take(DELETIONS_PER_COMMAND_MAX).collect();
        let limit = (budget / uids.len().max(1)).max(1);
        uids.into_iter().map(|uid| self.deletion_unit(uid, limit)).collect()
    }

    fn deletion_unit(&self, uid: JobUid, limit: usize) -> DeletionUnit {
        let leftover = self.groups.get(&uid).and_then(|group| group.template.leftover.as_ref());
        DeletionUnit { uid, from: leftover.map_or(Revision(0), |leftover| leftover.scanned_below), limit }
    }

    /// The one unit of a Job that is deleted now.
    pub(crate) fn deletion_unit_of(&self, uid: JobUid) -> DeletionUnit {
        let budget = PODS_DELETED_PER_ENTRY_MAX.saturating_sub(self.entry.n_deleted_rows);
        self.deletion_unit(uid, budget)
    }

    pub(crate) fn carry_deletions_on(&mut self, rows: &RowsRead) {
        for (place, unit) in self.deletion_units().into_iter().enumerate() {
            let read = UnitRows::of(rows, place);
            if !self.groups.contains_key(&unit.uid) && !self.begin_ttl_deletion(&unit, &read) {
                continue;
            }
            self.delete_chunk(&unit, &read);
        }
    }

    /// J121: a finished Job whose TTL has passed begins to go, as by a foreground deletion.
    fn begin_ttl_deletion(&mut self, unit: &DeletionUnit, read: &UnitRows<'_>) -> bool {
        let (Some(job), Some(template)) = (read.job, read.template) else { return false };
        if ttl_due(job).is_none_or(|due| due > self.meta.time) {
            return false;
        }
        self.mark_finished_job_deleting(job);
        self.begin_deletion(unit.uid, Arc::clone(template), DeletePropagation::Foreground, job);
        true
    }
}

pub(crate) fn rows_of_units(units: &[DeletionUnit]) -> RowsNeeded {
    let mut needed = RowsNeeded::default();
    for unit in units {
        needed.keys.push(RowKey::Job(unit.uid));
        needed.keys.push(RowKey::Template(unit.uid));
        let key = |revision| RowKey::Pod(PodKey { job: unit.uid, created_revision: revision });
        needed.ranges.push(RowRange {
            from: Bound::Included(key(unit.from)),
            to: Bound::Included(key(Revision(u64::MAX))),
            limit: unit.limit,
        });
    }
    needed
}

impl<'a> UnitRows<'a> {
    /// The rows of the unit at this place.
    fn of(rows: &'a RowsRead, place: usize) -> UnitRows<'a> {
        let key = |number: usize| rows.keys.get(number).and_then(Option::as_ref).map(|stored| &stored.row);
        let mut read = UnitRows::default();
        if let Some(Row::Job(job)) = key(2 * place) {
            read.job = Some(job);
        }
        if let Some(Row::Template(template)) = key(2 * place + 1) {
            read.template = Some(template);
        }
        if let Some(range) = rows.ranges.get(place) {
            read.pods.extend(range.iter().filter_map(|(_, stored)| match &stored.row {
                Row::Pod(pod) => Some(pod),
                _ => None,
            }));
        }
        read
    }
}

/// Deletion of a Job.
impl State {
    pub(crate) fn delete_job(&mut self, command: &DeleteJob, rows: &RowsRead) -> Reply {
        let Some(uid) = self.job_names.get(&command.namespace, &command.name) else {
            return job_not_found(&command.namespace, &command.name);
        };
        let revision = self.job_revision(uid);
        if let Some(rejection) =
            check_preconditions(&command.name, uid, revision, command.uid, command.resource_version)
        {
            return Reply::Rejected(rejection);
        }
        let read = UnitRows::of(rows, 0);
        let unit = self.deletion_unit_of(uid);
        let job = match self.jobs.get(&uid) {
            Some(job) => job.record.clone(),
            None => match read.job {
                Some(job) => JobRecord::clone(job),
                None => return job_not_found(&command.namespace, &command.name),
            },
        };
        let template = self.groups.get(&uid).map(|group| &group.template).or(read.template).cloned();
        let Some(template) = template else { return job_not_found(&command.namespace, &command.name) };
        let mut propagation = command.propagation;
        if job.status.deleting {
            // Its Pods are going already: what can still be chosen is that the Job does not wait for them.
            if propagation == DeletePropagation::Foreground {
                return self.done();
            }
            propagation = DeletePropagation::Background;
        }
        match propagation {
            DeletePropagation::Foreground => self.mark_deleting(uid, &job),
            DeletePropagation::Background | DeletePropagation::Orphan => self.remove_job(&job),
        }
        self.begin_deletion(uid, template, propagation, &job);
        self.stop_pods_of_deleted(uid);
        self.delete_chunk(&unit, &read);
        self.done()
    }

    /// The revision of a Job's row.
    pub(crate) fn job_revision(&self, uid: JobUid) -> Revision {
        let unfinished = self.jobs.get(&uid).map(|job| job.revision);
        unfinished.or_else(|| self.finished.get(&uid).map(|job| job.revision)).unwrap_or_default()
    }

    fn mark_deleting(&mut self, uid: JobUid, record: &JobRecord) {
        let time = self.meta.time;
        match self.job_mut(uid) {
            Some(job) => {
                job.record.status.deleting = true;
                job.record.metadata.deletion_timestamp = Some(time);
                self.write_job(uid);
            }
            None => self.mark_finished_job_deleting(record),
        }
    }

    fn mark_finished_job_deleting(&mut self, record: &JobRecord) {
        let mut record = record.clone();
        record.status.deleting = true;
        record.metadata.deletion_timestamp = Some(self.meta.time);
        self.write_finished_job(record);
    }

    /// Writes the row of a finished Job and keeps of it what memory needs.
    pub(crate) fn write_finished_job(&mut self, record: JobRecord) {
        let uid = record.uid;
        let revision = self.next_revision();
        let due = ttl_due(&record);
        if let Some(finished) = self.finished.get_mut(&uid) {
            let old = std::mem::replace(&mut finished.ttl_due, due);
            finished.revision = revision;
            if let Some(old) = old {
                self.ttl_queue.remove(&(old, uid));
            }
            self.ttl_queue.extend(due.map(|due| (due, uid)));
        }
        self.push(RowKey::Job(uid), revision, RowChangeKind::Modified(Row::Job(Arc::new(record))));
    }

    /// Removes a Job's row, its name, its events; remembers its request.
    fn remove_job(&mut self, job: &JobRecord) {
        let uid = job.uid;
        self.remember_request(job);
        self.delete_events_of(&EventObject::Job(uid));
        let revision = self.next_revision();
        self.push(RowKey::Job(uid), revision, RowChangeKind::Deleted(Row::Job(Arc::new(job.clone()))));
        let (namespace, name) = (job.metadata.namespace.clone(), job.metadata.name.clone());
        self.delete_history(job);
        self.job_names.remove(&namespace, &name, uid);
        self.push_plain(RowKey::JobName { namespace, name }, RowChangeKind::Deleted(Row::JobName(uid)));
        self.jobs.remove(&uid);
        if let Some(finished) = self.finished.remove(&uid)
            && let Some(due) = finished.ttl_due
        {
            self.ttl_queue.remove(&(due, uid));
        }
        self.refresh_sync_backlog(uid);
        self.rearm_job_timers(uid);
    }

    /// Marks the template's row, so that what is left of the Job is known from rows alone.
    fn begin_deletion(
        &mut self,
        uid: JobUid,
        template: Arc<TemplateRecord>,
        propagation: DeletePropagation,
        job: &JobRecord,
    ) {
        let scanned_below = template.leftover.as_ref().map_or(Revision(0), |leftover| leftover.scanned_below);
        let marked = TemplateRecord {
            owned: propagation != DeletePropagation::Orphan,
            leftover: Some(LeftoverRecord {
                propagation,
                scanning: true,
                scanned_below,
                next_pod_slot: job.status.next_pod_slot,
            }),
            ..TemplateRecord::clone(&template)
        };
        self.leftover_names.insert((marked.namespace.clone(), marked.job_name.clone(), uid));
        self.put_template(uid, marked);
        self.refresh_stop_backlog(uid);
        self.refresh_deletion_backlog(uid);
    }

    /// Writes a template's row and keeps it in memory with the Job's Pods. Their requests must not have changed.
    pub(crate) fn put_template(&mut self, uid: JobUid, template: TemplateRecord) {
        let template = Arc::new(template);
        match self.groups.get_mut(&uid) {
            Some(group) => group.template = Arc::clone(&template),
            None => {
                self.groups.insert(uid, PodGroup::new(Arc::clone(&template)));
            }
        }
        self.push_plain(RowKey::Template(uid), RowChangeKind::Modified(Row::Template(template)));
    }

    /// Deletes the rows of ended Pods that were read, and the last traces if none is left.
    fn delete_chunk(&mut self, unit: &DeletionUnit, read: &UnitRows<'_>) {
        let uid = unit.uid;
        let Some(template) = self.groups.get(&uid).map(|group| Arc::clone(&group.template)) else { return };
        let Some(mut leftover) = template.leftover.clone() else { return };
        let has_pods = self.groups.get(&uid).is_some_and(|group| !group.pods.is_empty());
        if leftover.propagation == DeletePropagation::Orphan {
            if !has_pods && read.pods.is_empty() && unit.limit > 0 {
                self.forget_leftover(uid, &template, None);
            } else {
                leftover.scanning = unit.limit == 0;
                self.put_leftover(uid, &template, leftover);
            }
            return;
        }
        for pod in &read.pods {
            if pod.phase.is_terminal() {
                let key = PodKey { job: uid, created_revision: pod.created_revision };
                self.delete_ended_pod_rows(&template.namespace, key, pod);
            }
            leftover.scanned_below = Revision(pod.created_revision.0.saturating_add(1));
        }
        self.entry.n_deleted_rows += read.pods.len();
        leftover.scanning = read.pods.len() >= unit.limit;
        if leftover.scanning || has_pods {
            self.put_leftover(uid, &template, leftover);
            return;
        }
        let waiting_job = self.jobs.get(&uid).map(|job| job.record.clone());
        let waiting_job = waiting_job.or_else(|| read.job.map(|job| JobRecord::clone(job)));
        let waiting_job = waiting_job.filter(|_| leftover.propagation == DeletePropagation::Foreground);
        self.forget_leftover(uid, &template, waiting_job.as_ref());
    }

    fn put_leftover(&mut self, uid: JobUid, template: &TemplateRecord, leftover: LeftoverRecord) {
        if template.leftover.as_ref() != Some(&leftover) {
            self.put_template(uid, TemplateRecord { leftover: Some(leftover), ..template.clone() });
        }
        self.refresh_deletion_backlog(uid);
    }

    /// The last Pod is gone: the template goes, and the Job that waited for it (J120 Foreground).
    fn forget_leftover(&mut self, uid: JobUid, template: &Arc<TemplateRecord>, job: Option<&JobRecord>) {
        if let Some(job) = job {
            self.remove_job(job);
        }
        let row = Row::Template(Arc::clone(template));
        self.push_plain(RowKey::Template(uid), RowChangeKind::Deleted(row));
        self.leftover_names.remove(&(template.namespace.clone(), template.job_name.clone(), uid));
        self.groups.remove(&uid);
        self.stop_backlog.remove(&uid);
        self.deletion_backlog.remove(&uid);
    }

    /// Tells the unfinished Pods of deleted Jobs to stop, as many as one entry may.
    pub(crate) fn stop_pods_of_deleted_jobs(&mut self) {
        // Each round stops a Pod at least, or finds that none is left to be stopped.
        while self.entry.n_stopped < PODS_STOPPED_PER_ENTRY_MAX {
            let Some(uid) = self.stop_backlog.first().copied() else { break };
            self.stop_pods_of_deleted(uid);
        }
    }

    fn stop_pods_of_deleted(&mut self, uid: JobUid) {
        let allowed = PODS_STOPPED_PER_ENTRY_MAX.saturating_sub(self.entry.n_stopped);
        let Some(group) = self.groups.get(&uid).filter(|group| group.takes_pods_along()) else {
            self.stop_backlog.remove(&uid);
            return;
        };
        let unstopped = |pod: &&stint_api::PodUid| {
            self.pods.get(*pod).is_some_and(|pod| pod.record.stop_reason != Some(StopReason::JobDeleted))
        };
        let pods: Vec<stint_api::PodUid> =
            group.pods.values().filter(unstopped).take(allowed).copied().collect();
        self.entry.n_stopped += pods.len();
        for pod in pods {
            self.stop_pod(pod, StopReason::JobDeleted, None, "");
        }
        self.refresh_stop_backlog(uid);
    }

    /// Jobs whose deletion can go on: rows are left to look at, or no Pod is left.
    pub(crate) fn refresh_deletion_backlog(&mut self, uid: JobUid) {
        let goes_on = self.groups.get(&uid).is_some_and(|group| {
            group.template.leftover.as_ref().is_some_and(|leftover| {
                leftover.scanning
                    || (leftover.propagation != DeletePropagation::Orphan && group.pods.is_empty())
            })
        });
        if goes_on {
            self.deletion_backlog.insert(uid);
        } else {
            self.deletion_backlog.remove(&uid);
        }
    }

    /// A row of an orphaned Pod is gone: `Continue` looks whether it was the last.
    pub(crate) fn rescan_orphans(&mut self, uid: JobUid) {
        let Some(template) = self.groups.get(&uid).map(|group| Arc::clone(&group.template)) else { return };
        let Some(mut leftover) = template.leftover.clone() else { return };
        leftover.scanning = true;
        self.put_leftover(uid, &template, leftover);
    }
}

/// Deletion of one Pod.
impl State {
    pub(crate) fn delete_pod(&mut self, command: &DeletePod, rows: &RowsRead) -> Reply {
        let Some(uid) = self.pod_names.get(&command.namespace, &command.name) else {
            return self.delete_ended_pod(command, rows);
        };
        let Some(pod) = self.pods.get(&uid).map(|pod| Arc::clone(&pod.record)) else {
            return pod_not_found(command);
        };
        if command.uid.is_some_and(|wanted| wanted != uid) {
            return pod_conflict(command, &pod);
        }
        let grace = command.grace_period_seconds.map(|seconds| seconds.min(GRACE_SECONDS_MAX));
        // What the controller stops never counts (J16), whoever else wants it gone too: only the grace may shrink.
        let reason = match pod.stop_reason {
            None | Some(StopReason::JobFailed) => StopReason::Deleted,
            Some(reason) => reason,
        };
        // Without a grace of its own a second deletion changes nothing.
        if pod.stop_reason != Some(reason) || grace.is_some() {
            self.stop_pod(uid, reason, grace, "");
        }
        self.done()
    }

    /// Deletes the rows of a Pod that has ended and was kept.
    fn delete_ended_pod_rows(&mut self, namespace: &str, key: PodKey, pod: &Arc<PodRecord>) {
        self.meta.n_ended_pods = self.meta.n_ended_pods.saturating_sub(1);
        self.delete_pod_rows_in(namespace, key, Arc::clone(pod));
    }

    fn delete_ended_pod(&mut self, command: &DeletePod, rows: &RowsRead) -> Reply {
        let row = rows.keys.first().and_then(Option::as_ref).map(|stored: &StoredRow| &stored.row);
        let template = rows.keys.get(1).and_then(Option::as_ref).map(|stored| &stored.row);
        let (Some(Row::Pod(pod)), Some(Row::Template(template))) = (row, template) else {
            return pod_not_found(command);
        };
        if pod.name != command.name || template.namespace != command.namespace || !pod.phase.is_terminal() {
            return pod_not_found(command);
        }
        if command.uid.is_some_and(|wanted| wanted != pod.uid) {
            return pod_conflict(command, pod);
        }
        let key = PodKey { job: pod.job, created_revision: pod.created_revision };
        self.delete_ended_pod_rows(&template.namespace, key, pod);
        let orphan = template.leftover.as_ref();
        if orphan.is_some_and(|leftover| leftover.propagation == DeletePropagation::Orphan) {
            self.rescan_orphans(pod.job);
        }
        self.done()
    }
}

pub(crate) fn rows_of_pod_deletion(key: PodKey) -> RowsNeeded {
    RowsNeeded { keys: vec![RowKey::Pod(key), RowKey::Template(key.job)], ranges: Vec::new() }
}

/// A uid or resourceVersion that the request insists on and the Job does not have.
pub(crate) fn check_preconditions(
    name: &str,
    uid: JobUid,
    revision: Revision,
    wanted_uid: Option<JobUid>,
    wanted_revision: Option<Revision>,
) -> Option<Rejection> {
    if let Some(wanted) = wanted_uid.filter(|wanted| *wanted != uid) {
        let message = format!("job {name} has uid {uid}, not {wanted}: it was created anew; read it again");
        return Some(Rejection::new(RejectionReason::Conflict, message));
    }
    if let Some(wanted) = wanted_revision.filter(|wanted| *wanted != revision) {
        let message = format!(
            "job {name} is at resourceVersion {revision}, not {wanted}: read it again and repeat the change"
        );
        return Some(Rejection::new(RejectionReason::Conflict, message));
    }
    None
}

pub(crate) fn job_not_found(namespace: &str, name: &str) -> Reply {
    let message = format!("job {name} not found in namespace {namespace}");
    Reply::Rejected(Rejection::new(RejectionReason::NotFound, message))
}

fn pod_not_found(command: &DeletePod) -> Reply {
    let message = format!("pod {} not found in namespace {}", command.name, command.namespace);
    Reply::Rejected(Rejection::new(RejectionReason::NotFound, message))
}

fn pod_conflict(command: &DeletePod, pod: &PodRecord) -> Reply {
    let message = format!("pod {} has uid {}, not the one given: read it again", command.name, pod.uid);
    Reply::Rejected(Rejection::new(RejectionReason::Conflict, message))
}
