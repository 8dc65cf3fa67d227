//! Creation and update of Jobs.
//!
//! Owns: idempotent creation (decision 10), preconditions, which records a Job becomes. Does not own: defaulting and the
//! validation of a new Job, which happen before the log (crate `api`); what the controller makes of it.
//!
//! Invariant: whatever a command holds, the records made of it are in range: the edge checks for people, this module for
//! safety.

use std::sync::Arc;

use stint_api::{
    CompletionMode, Job, JobSpec, JobUid, ObjectMeta, PodReplacementPolicy, RestartPolicy, Revision,
    defaulting, invalid_message, validation,
};

use crate::command::{CreateJob, UpdateJob};
use crate::compose;
use crate::deletion::{check_preconditions, job_not_found};
use crate::history;
use crate::limits::{
    BACKOFF_BASE_DEFAULT_MS, BACKOFF_CAP_DEFAULT_MS, JOBS_MAX, OTHER_NAMES_MAX, REQUEST_ID_BYTES_MAX,
};
use crate::names::SLOTS;
use crate::record::{JobRecord, JobSpecRecord, JobStatusRecord, TemplateRecord};
use crate::reply::{CreateOutcome, Rejection, RejectionReason, Reply};
use crate::row::{Row, RowChangeKind, RowKey, RowsRead};
use crate::state::{ActiveJob, PodGroup, State};
use crate::traits::PodTraits;

/// Creation.
impl State {
    pub(crate) fn create_job(&mut self, command: &CreateJob, rows: &RowsRead) -> Reply {
        let metadata = &command.job.metadata;
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        if let Some(rejection) = refuse_creation(command) {
            return Reply::Rejected(rejection);
        }
        if let Some(reply) = self.created_before(command, rows) {
            return reply;
        }
        if self.job_names.get(namespace, name).is_some() {
            let message = format!("job {name} already exists: delete it first or choose another name");
            return Reply::Rejected(Rejection::new(RejectionReason::AlreadyExists, message));
        }
        if self.knows_job_uid(command.uid) {
            let message = format!("uid {} of job {name} is in use: draw another one", command.uid);
            return Reply::Rejected(Rejection::new(RejectionReason::Conflict, message));
        }
        // Orphaned Pods keep their template in memory.
        if self.jobs.len() + self.finished.len() + self.leftover_names.len() >= JOBS_MAX {
            let message = format!(
                "the cluster has {JOBS_MAX} jobs, its limit: delete finished ones or set ttlSecondsAfterFinished"
            );
            return Reply::Rejected(Rejection::new(RejectionReason::LimitExceeded, message));
        }
        let (name, revision) = (name.to_owned(), self.add_job(command));
        Reply::JobCreated { name, uid: command.uid, revision, outcome: CreateOutcome::Created }
    }

    /// The Jobs that have a name of this create and whose request id is only on disk.
    pub(crate) fn finished_jobs_of_names(&self, command: &CreateJob) -> Vec<RowKey> {
        let namespace = &command.job.metadata.namespace;
        let existing = names_of(command).filter_map(|name| self.job_names.get(namespace, name));
        existing.filter(|uid| self.finished.contains_key(uid)).map(RowKey::Job).collect()
    }

    /// Decision 10: what the same request has made, under whichever of its names. A name that was taken then may be free now.
    fn created_before(&self, command: &CreateJob, rows: &RowsRead) -> Option<Reply> {
        let (namespace, request_id) = (&command.job.metadata.namespace, &command.request_id);
        if request_id.is_empty() {
            return None;
        }
        // In the order of `finished_jobs_of_names`.
        let mut finished = rows.keys.iter();
        for name in names_of(command) {
            if let Some(uid) = self.deleted_by_request(namespace, name, request_id) {
                let (revision, outcome) = (self.meta.revision, CreateOutcome::AlreadyDeleted);
                return Some(Reply::JobCreated { name: name.clone(), uid, revision, outcome });
            }
            let Some(uid) = self.job_names.get(namespace, name) else { continue };
            let made_by = match self.jobs.get(&uid) {
                Some(job) => Some(&job.record.request_id),
                None if self.finished.contains_key(&uid) => {
                    match finished.next().and_then(Option::as_ref).map(|stored| &stored.row) {
                        Some(Row::Job(job)) => Some(&job.request_id),
                        _ => None,
                    }
                }
                None => None,
            };
            if made_by == Some(request_id) {
                let (revision, outcome) = (self.job_revision(uid), CreateOutcome::AlreadyExisted);
                return Some(Reply::JobCreated { name: name.clone(), uid, revision, outcome });
            }
        }
        None
    }

    fn knows_job_uid(&self, uid: JobUid) -> bool {
        self.jobs.contains_key(&uid) || self.finished.contains_key(&uid) || self.groups.contains_key(&uid)
    }

    fn add_job(&mut self, command: &CreateJob) -> Revision {
        let uid = command.uid;
        let metadata = ObjectMeta {
            uid: String::new(),
            resource_version: Revision(0),
            generation: 1,
            creation_timestamp: Some(self.meta.time),
            deletion_timestamp: None,
            deletion_grace_period_seconds: None,
            ..command.job.metadata.clone()
        };
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let spec = spec_record(&command.job.spec);
        let template = Arc::new(TemplateRecord {
            job: uid,
            namespace: namespace.clone(),
            job_name: name.clone(),
            owned: true,
            indexed: spec.indexed,
            template: command.job.spec.template.clone(),
            leftover: None,
        });
        let status =
            JobStatusRecord { next_pod_slot: self.first_pod_slot(&namespace, &name), ..Default::default() };
        let record = JobRecord { uid, metadata, request_id: command.request_id.clone(), spec, status };
        let revision = self.next_revision();
        let row = Row::Job(Arc::new(record.clone()));
        self.push(RowKey::Job(uid), revision, RowChangeKind::Added(row));
        let row = Row::Template(Arc::clone(&template));
        self.push_plain(RowKey::Template(uid), RowChangeKind::Added(row));
        self.job_names.insert(&namespace, &name, uid);
        self.push_plain(RowKey::JobName { namespace, name }, RowChangeKind::Added(Row::JobName(uid)));
        self.groups.insert(uid, PodGroup::new(template));
        self.jobs.insert(uid, ActiveJob::new(record, revision));
        self.entry.touched.insert(uid);
        revision
    }

    /// J40: Pods of an earlier Job of this name may still be there: their names are not used again.
    fn first_pod_slot(&mut self, namespace: &str, name: &str) -> u32 {
        let from = (namespace.to_owned(), name.to_owned(), JobUid(0));
        let to = (namespace.to_owned(), name.to_owned(), JobUid(u128::MAX));
        let leftovers = self.leftover_names.range(from..=to);
        let next = leftovers.filter_map(|(_, _, uid)| {
            self.groups.get(uid)?.template.leftover.as_ref().map(|leftover| leftover.next_pod_slot)
        });
        match next.max() {
            Some(slot) => slot,
            None => u32::try_from(self.entry.draw.bits() % u64::from(SLOTS)).unwrap_or(0),
        }
    }
}

/// Under which a create looks for what its request has made before; the first is the one that the Job gets.
fn names_of(command: &CreateJob) -> impl Iterator<Item = &String> {
    std::iter::once(&command.job.metadata.name).chain(&command.other_names)
}

/// What can't become records.
fn refuse_creation(command: &CreateJob) -> Option<Rejection> {
    let metadata = &command.job.metadata;
    let invalid = |path: &str, message: &str| {
        let mut rejection = Rejection::new(
            RejectionReason::Invalid,
            format!("job {:?} is not valid: {path}: {message}", metadata.name),
        );
        rejection.field_violations.push((path.to_owned(), message.to_owned()));
        Some(rejection)
    };
    if metadata.name.is_empty() {
        return invalid("metadata.name", "name or generateName is required");
    }
    if metadata.namespace.is_empty() {
        return invalid("metadata.namespace", "Required value");
    }
    if command.request_id.len() > REQUEST_ID_BYTES_MAX {
        return invalid("request_id", "longer than 256 bytes: use a UUID");
    }
    if command.other_names.len() > OTHER_NAMES_MAX {
        return invalid("other_names", "more than 7 further names");
    }
    if command.job.spec.template.spec.containers.is_empty() {
        return invalid("spec.template.spec.containers", "Required value");
    }
    if !matches!(
        command.job.spec.template.spec.restart_policy,
        Some(RestartPolicy::Never | RestartPolicy::OnFailure)
    ) {
        return invalid(
            "spec.template.spec.restartPolicy",
            "Required value: valid values: \"OnFailure\", \"Never\"",
        );
    }
    let indexed = command.job.spec.completion_mode == Some(CompletionMode::Indexed);
    if indexed && command.job.spec.completions.is_none() {
        return invalid("spec.completions", "Required value: when completion mode is Indexed");
    }
    None
}

/// What decisions need of a spec: values out of range count as the nearest one in range.
pub(crate) fn spec_record(spec: &JobSpec) -> JobSpecRecord {
    let count = |value: i32| u32::try_from(value.max(0)).unwrap_or(0);
    let completions = match (spec.completions, spec.parallelism) {
        (None, None) => Some(1),
        (completions, _) => completions,
    };
    JobSpecRecord {
        parallelism: count(spec.parallelism.unwrap_or(1)),
        completions: completions.map(count),
        active_deadline_seconds: spec
            .active_deadline_seconds
            .map(|seconds| u64::try_from(seconds.max(0)).unwrap_or(0)),
        backoff_limit: count(spec.backoff_limit.unwrap_or(6)),
        ttl_seconds_after_finished: spec.ttl_seconds_after_finished.map(count),
        indexed: spec.completion_mode == Some(CompletionMode::Indexed),
        suspend: spec.suspend.unwrap_or(false),
        replace_terminating: spec.pod_replacement_policy == Some(PodReplacementPolicy::TerminatingOrFailed),
        backoff_base_ms: spec.backoff_base_ms.unwrap_or(BACKOFF_BASE_DEFAULT_MS),
        backoff_cap_ms: spec.backoff_cap_ms.unwrap_or(BACKOFF_CAP_DEFAULT_MS),
        managed_by: spec.managed_by.clone(),
        manual_selector: spec.manual_selector,
    }
}

/// Update.
impl State {
    pub(crate) fn update_job(&mut self, command: &UpdateJob, rows: &RowsRead) -> Reply {
        let metadata = &command.job.metadata;
        let Some(uid) = self.job_names.get(&metadata.namespace, &metadata.name) else {
            return job_not_found(&metadata.namespace, &metadata.name);
        };
        let revision = self.job_revision(uid);
        if let Some(rejection) =
            check_preconditions(&metadata.name, uid, revision, command.uid, command.resource_version)
        {
            return Reply::Rejected(rejection);
        }
        let row = |place: usize| rows.keys.get(place).and_then(Option::as_ref).map(|stored| &stored.row);
        let (record, template) = match (self.jobs.get(&uid), self.groups.get(&uid), row(0), row(1)) {
            (Some(job), Some(group), _, _) => (job.record.clone(), Arc::clone(&group.template)),
            (None, _, Some(Row::Job(job)), Some(Row::Template(template))) => {
                (JobRecord::clone(job), Arc::clone(template))
            }
            _ => return job_not_found(&metadata.namespace, &metadata.name),
        };
        let old = compose::job(&record, &template, revision);
        // A manifest that is applied again need not repeat what was generated from the uid (M2).
        let mut new = command.job.clone();
        new.metadata.uid.clone_from(&old.metadata.uid);
        defaulting::set_defaults(&mut new);
        defaulting::generate_labels(&mut new, uid);
        if let Some(rejection) = refuse_update(&old, &new) {
            return Reply::Rejected(rejection);
        }
        self.change_job(record, &template, &new);
        self.done()
    }

    fn change_job(&mut self, mut record: JobRecord, template: &TemplateRecord, new: &Job) {
        let uid = record.uid;
        let spec = spec_record(&new.spec);
        let template_changed = template.template != new.spec.template;
        let spec_changed = record.spec != spec || template_changed;
        let metadata_changed = record.metadata.labels != new.metadata.labels
            || record.metadata.annotations != new.metadata.annotations
            || record.metadata.owner_references != new.metadata.owner_references;
        if !spec_changed && !metadata_changed {
            return;
        }
        let changes = history::changes(&record, &spec, new, template_changed);
        record.spec = spec;
        record.metadata.labels.clone_from(&new.metadata.labels);
        record.metadata.annotations.clone_from(&new.metadata.annotations);
        record.metadata.owner_references.clone_from(&new.metadata.owner_references);
        // M1.
        record.metadata.generation = record.metadata.generation.saturating_add(i64::from(spec_changed));
        if template_changed {
            let changed = TemplateRecord { template: new.spec.template.clone(), ..template.clone() };
            self.change_template(uid, changed);
        }
        let Some(job) = self.job_mut(uid) else {
            self.write_finished_job(record);
            return;
        };
        job.record = record;
        if job.record.spec.indexed {
            // J29: indexes beyond the new end are forgotten, and run again if the end moves up again.
            job.completed.truncate(job.record.spec.completions.unwrap_or(0));
            job.record.status.succeeded = job.completed.len();
            job.index_cursor = 0;
        }
        self.decided(uid, "Updated", "", changes);
        self.write_job(uid);
    }

    /// 1.4: the template of a suspended Job. Pods that are still stopping keep their place in all counts.
    fn change_template(&mut self, uid: JobUid, template: TemplateRecord) {
        let bound: Vec<_> = match self.groups.get(&uid) {
            Some(group) => group.pods.values().filter_map(|pod| self.pods.get(pod)).cloned().collect(),
            None => Vec::new(),
        };
        for pod in &bound {
            self.unplace(&pod.record);
        }
        if let Some(group) = self.groups.get_mut(&uid) {
            group.traits = Arc::new(PodTraits::of(&template.template.spec));
        }
        for pod in &bound {
            self.place(&pod.record);
        }
        if self.groups.contains_key(&uid) {
            self.put_template(uid, template);
        } else {
            let row = Row::Template(Arc::new(template));
            self.push_plain(RowKey::Template(uid), RowChangeKind::Modified(row));
        }
    }
}

/// 1.3 and 1.4: what may not change, and what is not valid by itself.
fn refuse_update(old: &Job, new: &Job) -> Option<Rejection> {
    let errors = validation::validate_update(old, new);
    if errors.is_empty() {
        return None;
    }
    let message = invalid_message("Job.batch", &new.metadata.name, &errors);
    let mut rejection = Rejection::new(RejectionReason::Invalid, message);
    rejection.field_violations =
        errors.into_iter().map(|error| (error.field.clone(), error.detail())).collect();
    Some(rejection)
}
