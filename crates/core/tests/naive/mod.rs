//! A naive reference: what the rules say, written down as simply as possible.
//!
//! Every Job is looked at after every entry, every count is counted anew from a plain list of Pods, every timer is a
//! comparison. Nothing is kept up to date, cached, queued, indexed or left for later, and nothing but types is shared with
//! the crate: where the two differ, one of them has misread a rule. Work per entry is not bounded, so that logs for it must
//! stay below the limits per entry.
//!
//! Two things are taken from the real rows, because the rules leave them open: uids of new Pods, and which of several equally
//! good nodes a Pod is bound to. Whether an update is valid by itself is the business of `stint-api`.

mod compare;
mod config_maps;
mod containers;
mod jobs;
mod log_tails;
mod nodes;
mod pods;

use std::collections::BTreeMap;

use stint_api::{CompletionMode, IndexSet, Job as ApiJob, JobUid, PodReplacementPolicy, PodUid, Revision};
use stint_core::testing::Rows;
use stint_core::{Command, CreateJob, CreateOutcome, DeleteJob, DeletePropagation, Entry, UpdateJob};
use stint_core::{RejectionReason, Reply};

use config_maps::ConfigMap;
use containers::{Shape, most_cpu_millis};
use nodes::Node;
use pods::{Pod, Stop};

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Naive {
    time: i64,
    term: u64,
    /// Jobs by uid, finished ones too.
    jobs: BTreeMap<JobUid, Job>,
    /// What Pods are made of; of every Job that ever was.
    templates: BTreeMap<JobUid, Template>,
    /// Every Pod that is stored, by creation.
    pods: Vec<Pod>,
    nodes: BTreeMap<String, Node>,
    /// (name, request id) of deleted Jobs → when it is forgotten.
    tombstones: BTreeMap<(String, String), i64>,
    config_maps: BTreeMap<String, ConfigMap>,
    log_tails: BTreeMap<stint_core::LogTailKey, log_tails::Kept>,
    /// D11: the last binding of each index.
    fences: BTreeMap<(JobUid, u32), Revision>,
    pack: bool,
    default_runtime: String,
    /// The cluster is another one since the last entry.
    restored: bool,
}

/// A Job.
#[derive(Debug, Clone)]
pub struct Job {
    name: String,
    request_id: String,
    spec: Spec,
    generation: i64,
    start: Option<i64>,
    /// Type, whether it holds, since when, reason.
    conditions: Vec<(&'static str, bool, i64, &'static str)>,
    /// Indexed only.
    completed: Vec<u32>,
    /// Successes of a NonIndexed Job.
    successes: u32,
    failed: u32,
    /// J51: failures since the last success.
    failures_in_a_row: u32,
    backoff_until: Option<i64>,
    /// D2: the node lost last, and how many replacements should avoid it.
    avoid: Option<(String, u32)>,
    /// Foreground deletion.
    deleting: bool,
}

/// The numbers of a spec.
#[derive(Debug, Clone, PartialEq)]
struct Spec {
    parallelism: u32,
    completions: Option<u32>,
    deadline_ms: Option<i64>,
    backoff_limit: u32,
    ttl_ms: Option<i64>,
    indexed: bool,
    suspend: bool,
    replace_terminating: bool,
    base_ms: u64,
    cap_ms: u64,
}

/// What Pods of a Job have in common.
#[derive(Debug, Clone, PartialEq)]
struct Template {
    job_name: String,
    on_failure: bool,
    shapes: Vec<Shape>,
    grace_ms: i64,
    cpu_millis: i128,
    priority: i32,
    selector: BTreeMap<String, String>,
    /// The Job was deleted, or is being deleted, together with its Pods.
    goes_with_pods: bool,
}

impl Spec {
    fn of(job: &ApiJob) -> Spec {
        let spec = &job.spec;
        let count = |value: i32| value.max(0) as u32;
        Spec {
            parallelism: count(spec.parallelism.unwrap()),
            completions: spec.completions.map(count),
            deadline_ms: spec.active_deadline_seconds.map(|seconds| seconds.max(0).saturating_mul(1000)),
            backoff_limit: count(spec.backoff_limit.unwrap()),
            ttl_ms: spec.ttl_seconds_after_finished.map(|seconds| i64::from(count(seconds)) * 1000),
            indexed: spec.completion_mode == Some(CompletionMode::Indexed),
            suspend: spec.suspend.unwrap(),
            replace_terminating: spec.pod_replacement_policy
                == Some(PodReplacementPolicy::TerminatingOrFailed),
            base_ms: spec.backoff_base_ms.unwrap(),
            cap_ms: spec.backoff_cap_ms.unwrap(),
        }
    }
}

impl Template {
    fn of(job: &ApiJob) -> Template {
        let pod = &job.spec.template.spec;
        let shapes = Shape::all_of(pod);
        Template {
            job_name: job.metadata.name.clone(),
            on_failure: pod.restart_policy.as_ref().is_some_and(|policy| policy.as_str() == "OnFailure"),
            grace_ms: pod.termination_grace_period_seconds.unwrap() * 1000,
            cpu_millis: most_cpu_millis(&shapes),
            shapes,
            priority: pod.priority.unwrap(),
            selector: pod.node_selector.clone(),
            goes_with_pods: false,
        }
    }
}

impl Naive {
    pub fn new() -> Naive {
        Naive::default()
    }

    /// One entry, with what was answered to its commands and the rows as they are after it.
    pub fn entry(&mut self, entry: &Entry, term: u64, replies: &[Reply], rows: &Rows) {
        self.time = self.time.max(entry.time.0);
        self.term = term;
        for (command, reply) in entry.commands.iter().zip(replies) {
            self.command(command, reply, rows);
        }
        if std::mem::take(&mut self.restored) {
            self.end_what_was_before();
        }
        self.lose_pods_of_lost_nodes();
        for job in self.jobs.values_mut() {
            // J50: the delay is over.
            if job.backoff_until.is_some_and(|until| until <= self.time) && !job.deleting {
                job.backoff_until = None;
            }
        }
        self.tombstones.retain(|_, until| *until > self.time);
        let uids: Vec<JobUid> = self.jobs.keys().copied().collect();
        for uid in uids {
            self.sync(uid);
        }
        self.meet_new_pods(rows);
        self.check_bindings(rows);
    }

    /// Decision 6: from now on it is another cluster, restored from the rows of this one.
    pub fn restore(&mut self) {
        self.restored = true;
    }

    /// What was unfinished in the cluster before ends and counts for nothing; its nodes are gone.
    fn end_what_was_before(&mut self) {
        for place in 0..self.pods.len() {
            if self.pods[place].end.is_none() {
                self.pods[place].counted = true;
                self.end(place, false, "Restored");
            }
        }
        self.sweep();
        self.nodes.clear();
    }

    fn command(&mut self, command: &Command, reply: &Reply, rows: &Rows) {
        match command {
            Command::CreateJob(create) => self.create(create, reply),
            Command::UpdateJob(update) => self.update(update, reply),
            Command::DeleteJob(delete) => self.delete(delete, reply),
            Command::DeletePod(delete) => self.delete_pod(delete, reply, rows),
            Command::RegisterNode(register) => self.register(register, reply),
            Command::ReportPods(report) => self.report(report, reply),
            Command::ReportNodeConditions(report) => self.report_conditions(report, reply),
            Command::ExpireNode(expire) => self.expire(expire, reply),
            Command::CordonNode { node, unschedulable } => {
                self.cordon(node.as_str(), *unschedulable, reply);
            }
            Command::DrainNode { node } => self.drain(node.as_str(), reply),
            Command::DeleteNode { node } => self.delete_node(node.as_str(), reply),
            Command::Tick | Command::Continue => self.tick(),
            Command::SetClusterSettings(settings) => {
                self.pack = settings.placement_policy == stint_core::PlacementPolicy::Pack;
                self.default_runtime.clone_from(&settings.default_runtime);
            }
            Command::ChangeClusterSettings(change) => {
                self.pack |= change.placement_policy == Some(stint_core::PlacementPolicy::Pack);
                if let Some(runtime) = &change.default_runtime {
                    self.default_runtime.clone_from(runtime);
                }
            }
            Command::ReserveMemberId => {}
            Command::CreateConfigMap(create) => self.create_config_map(create, reply),
            Command::UpdateConfigMap(update) => self.update_config_map(update, reply),
            Command::DeleteConfigMap(delete) => self.delete_config_map(delete, reply),
            Command::StoreLogTails(store) => self.store_log_tails(store, reply),
        }
    }

    fn job_by_name(&self, name: &str) -> Option<JobUid> {
        self.jobs.iter().find(|(_, job)| job.name == name).map(|(uid, _)| *uid)
    }

    /// Decision 10.
    fn create(&mut self, create: &CreateJob, reply: &Reply) {
        let name = &create.job.metadata.name;
        if create.job.spec.completion_mode == Some(CompletionMode::Indexed)
            && create.job.spec.completions.is_none()
        {
            return refused(reply, RejectionReason::Invalid);
        }
        // What the same request has made before, under any of its names.
        for name in std::iter::once(name).chain(&create.other_names) {
            if self.tombstones.contains_key(&(name.clone(), create.request_id.clone())) {
                return created(reply, CreateOutcome::AlreadyDeleted);
            }
            let made =
                self.job_by_name(name).is_some_and(|uid| self.jobs[&uid].request_id == create.request_id);
            if made && !create.request_id.is_empty() {
                return created(reply, CreateOutcome::AlreadyExisted);
            }
        }
        if self.job_by_name(name).is_some() {
            return refused(reply, RejectionReason::AlreadyExists);
        }
        let in_use = self.jobs.contains_key(&create.uid) || self.pods.iter().any(|pod| pod.job == create.uid);
        if in_use {
            return refused(reply, RejectionReason::Conflict);
        }
        // The last rows of a deleted Job may not be looked at yet.
        if let Reply::Rejected(rejection) = reply {
            assert_eq!(rejection.reason, RejectionReason::Conflict);
            assert!(self.templates.contains_key(&create.uid));
            return;
        }
        created(reply, CreateOutcome::Created);
        self.templates.insert(create.uid, Template::of(&create.job));
        let job = Job {
            name: name.clone(),
            request_id: create.request_id.clone(),
            spec: Spec::of(&create.job),
            generation: 1,
            start: None,
            conditions: Vec::new(),
            completed: Vec::new(),
            successes: 0,
            failed: 0,
            failures_in_a_row: 0,
            backoff_until: None,
            avoid: None,
            deleting: false,
        };
        self.jobs.insert(create.uid, job);
    }

    /// 1.3, 1.4.
    fn update(&mut self, update: &UpdateJob, reply: &Reply) {
        let Some(uid) = self.job_by_name(&update.job.metadata.name) else {
            return refused(reply, RejectionReason::NotFound);
        };
        if let Reply::Rejected(rejection) = reply {
            let is_stale = update.resource_version.is_some();
            let stale = RejectionReason::Conflict;
            assert!(rejection.reason == RejectionReason::Invalid || (is_stale && rejection.reason == stale));
            return;
        }
        let may_move = self.may_change_template(uid);
        let job = self.jobs.get_mut(&uid).unwrap();
        let (old, new) = (job.spec.clone(), Spec::of(&update.job));
        assert_eq!(old.indexed, new.indexed, "1.3");
        assert!(
            old.completions == new.completions || (new.indexed && new.completions == Some(new.parallelism)),
            "1.3, J29: {old:?} {new:?}"
        );
        let old_template = &self.templates[&uid];
        let template = Template { goes_with_pods: old_template.goes_with_pods, ..Template::of(&update.job) };
        assert!(template == *old_template || may_move, "1.4: {old_template:?} {template:?}");
        if old != new || template != *old_template {
            job.generation += 1;
        }
        job.spec = new;
        if !is_finished(job)
            && let Some(end) = job.spec.completions
        {
            job.completed.retain(|index| *index < end);
        }
        self.templates.insert(uid, template);
    }

    /// 1.4: it was suspended, and nothing is active.
    fn may_change_template(&self, uid: JobUid) -> bool {
        let job = &self.jobs[&uid];
        let is_told = job.conditions.iter().any(|(kind, holds, ..)| *kind == "Suspended" && *holds);
        job.spec.suspend && (job.start.is_none() || is_told) && self.active(uid).is_empty()
    }

    /// D1, J120.
    fn delete(&mut self, delete: &DeleteJob, reply: &Reply) {
        let Some(uid) = self.job_by_name(&delete.name) else {
            return refused(reply, RejectionReason::NotFound);
        };
        if delete.uid.is_some_and(|wanted| wanted != uid) {
            return refused(reply, RejectionReason::Conflict);
        }
        done(reply);
        let is_deleting = self.jobs[&uid].deleting;
        match delete.propagation {
            DeletePropagation::Foreground if is_deleting => {}
            DeletePropagation::Foreground => self.delete_in_foreground(uid),
            DeletePropagation::Orphan if !is_deleting => self.forget_job(uid),
            DeletePropagation::Background | DeletePropagation::Orphan => {
                self.forget_job(uid);
                self.remove_pods_of_deleted(uid);
            }
        }
    }

    fn delete_in_foreground(&mut self, uid: JobUid) {
        self.jobs.get_mut(&uid).unwrap().deleting = true;
        self.remove_pods_of_deleted(uid);
        self.finish_foreground_deletion(uid);
    }

    fn finish_foreground_deletion(&mut self, uid: JobUid) {
        if self.jobs[&uid].deleting && self.unfinished(uid).is_empty() {
            self.forget_job(uid);
        }
    }

    /// The row and the name are gone; the request is remembered for ten minutes.
    fn forget_job(&mut self, uid: JobUid) {
        let job = self.jobs.remove(&uid).unwrap();
        if !job.request_id.is_empty() {
            self.tombstones.insert((job.name, job.request_id), self.time.saturating_add(600_000));
        }
    }

    fn remove_pods_of_deleted(&mut self, uid: JobUid) {
        self.templates.get_mut(&uid).unwrap().goes_with_pods = true;
        for place in self.unfinished(uid) {
            self.stop(place, Stop::JobDeleted, None);
        }
        self.sweep();
        self.pods.retain(|pod| pod.job != uid || pod.end.is_none());
    }

    /// J121, and foreground deletions whose last Pod is gone.
    fn tick(&mut self) {
        let uids: Vec<JobUid> = self.jobs.keys().copied().collect();
        for uid in uids {
            let job = &self.jobs[&uid];
            if job.deleting {
                self.finish_foreground_deletion(uid);
            } else if self.ttl_end(job).is_some_and(|end| end <= self.time) {
                self.delete_in_foreground(uid);
            }
        }
    }

    fn ttl_end(&self, job: &Job) -> Option<i64> {
        let finished = job.conditions.iter().find(|(kind, ..)| matches!(*kind, "Complete" | "Failed"))?;
        job.spec.ttl_ms.map(|ttl| finished.2.saturating_add(ttl))
    }

    /// Numbers of unfinished Pods of a Job, as places in the list.
    fn unfinished(&self, uid: JobUid) -> Vec<usize> {
        (0..self.pods.len()).filter(|place| self.pods[*place].is_unfinished_of(uid)).collect()
    }

    fn active(&self, uid: JobUid) -> Vec<usize> {
        self.unfinished(uid).into_iter().filter(|place| self.pods[*place].stop.is_none()).collect()
    }

    fn terminating(&self, uid: JobUid) -> Vec<usize> {
        self.unfinished(uid).into_iter().filter(|place| self.pods[*place].stop.is_some()).collect()
    }

    fn place_of(&self, uid: PodUid) -> Option<usize> {
        self.pods.iter().position(|pod| pod.uid == Some(uid))
    }
}

/// Complete or Failed.
fn is_finished(job: &Job) -> bool {
    job.conditions.iter().any(|(kind, ..)| matches!(*kind, "Complete" | "Failed"))
}

/// Some(true): it will fail; Some(false): it will complete.
fn decision(job: &Job) -> Option<bool> {
    job.conditions.iter().find_map(|(kind, ..)| match *kind {
        "FailureTarget" => Some(true),
        "SuccessCriteriaMet" => Some(false),
        _ => None,
    })
}

fn succeeded(job: &Job) -> u32 {
    if job.spec.indexed { job.completed.len() as u32 } else { job.successes }
}

fn completed_text(job: &Job) -> String {
    job.completed.iter().copied().collect::<IndexSet>().to_string()
}

fn refused(reply: &Reply, expected: RejectionReason) {
    let Reply::Rejected(rejection) = reply else { panic!("{reply:?}, expected {expected:?}") };
    assert_eq!(rejection.reason, expected, "{}", rejection.message);
}

fn done(reply: &Reply) {
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
}

fn created(reply: &Reply, expected: CreateOutcome) {
    let Reply::JobCreated { outcome, .. } = reply else { panic!("{reply:?}, expected {expected:?}") };
    assert_eq!(*outcome, expected);
}
