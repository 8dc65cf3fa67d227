//! The job controller: from counts to decisions, from decisions to Pods.
//!
//! Owns: the sync of a Job at the end of each entry that touched it: `decide` (conditions, J64 order), `plan` (what Pods
//! are wanted, J20–J28), and carrying the plan out as far as one entry may (decision 3); the terminal protocol
//! (J90–J95). Does not own: the counts (module `pods`), which node a Pod goes to (module `scheduler`).
//!
//! Invariants: `plan` is a function of rows alone, so that after every entry the Jobs in the backlog are just those whose
//! plan is not idle; a decision to fail or to succeed is taken once and never undone (R3, J93).

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use stint_api::{
    CompletionIndex, ConditionStatus, JobCondition, JobConditionType, JobUid, PodPhase, PodUid, Revision,
};

use crate::apply::Ended;
use crate::events::{JOB_CONTROLLER, Occurrence};
use crate::history;
use crate::limits::{
    NAME_ATTEMPTS_MAX, PODS_CREATED_PER_ENTRY_MAX, PODS_CREATED_PER_JOB_AND_ENTRY_MAX,
    PODS_STOPPED_PER_ENTRY_MAX, PODS_UNFINISHED_MAX,
};
use crate::names::{SLOTS, pod_name};
use crate::progress;
use crate::record::{PodRecord, StopReason};
use crate::state::{ActiveJob, FinishedJob, PodGroup, State, ttl_due};
use crate::timers::deadline;

/// What a Job wants to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing, until something happens.
    Idle,
    /// So many active Pods are too many.
    Remove { pods: u32, reason: StopReason },
    /// So many Pods are missing.
    Create { pods: u32 },
    /// No Pod is left and the end is decided: write the terminal condition (J90).
    Finish,
}

/// J62.
const BACKOFF_LIMIT_EXCEEDED: (&str, &str) =
    ("BackoffLimitExceeded", "Job has reached the specified backoff limit");
/// J63.
const DEADLINE_EXCEEDED: (&str, &str) = ("DeadlineExceeded", "Job was active longer than specified deadline");
/// J83.
const COMPLETIONS_REACHED: (&str, &str) = ("CompletionsReached", "Reached expected number of succeeded pods");

impl State {
    /// Syncs the Jobs that this entry touched, then those that earlier entries left work for, as far as one entry may.
    pub(crate) fn sync_jobs(&mut self) {
        let mut synced = std::mem::take(&mut self.entry.touched);
        for uid in &synced {
            self.sync_job(*uid);
        }
        // Each round stops or creates a Pod at least, so that a long backlog does not make an entry long.
        let mut last = None;
        while self.entry.n_stopped < PODS_STOPPED_PER_ENTRY_MAX {
            let Some(uid) = next_in(&self.remove_backlog, last, &synced) else { break };
            self.sync_job(uid);
            synced.insert(uid);
            last = Some(uid);
        }
        last = None;
        while self.entry.n_created < PODS_CREATED_PER_ENTRY_MAX && self.pods.len() < PODS_UNFINISHED_MAX {
            let Some(uid) = next_in(&self.create_backlog, last, &synced) else { break };
            self.sync_job(uid);
            synced.insert(uid);
            last = Some(uid);
        }
    }

    /// Enters a Job where it waits for the next entry, by what it plans.
    pub(crate) fn refresh_sync_backlog(&mut self, uid: JobUid) {
        let plan = self.plan(uid);
        if matches!(plan, Plan::Create { .. }) {
            self.create_backlog.insert(uid);
        } else {
            self.create_backlog.remove(&uid);
        }
        if matches!(plan, Plan::Remove { .. } | Plan::Finish) {
            self.remove_backlog.insert(uid);
        } else {
            self.remove_backlog.remove(&uid);
        }
    }

    fn sync_job(&mut self, uid: JobUid) {
        let mut n_created = 0;
        loop {
            self.decide(uid);
            let progress = match self.plan(uid) {
                Plan::Idle => false,
                Plan::Remove { pods, reason } => self.remove_pods(uid, pods, reason),
                Plan::Create { pods } => {
                    let allowed = PODS_CREATED_PER_JOB_AND_ENTRY_MAX - n_created;
                    let created = self.create_pods(uid, pods, allowed);
                    n_created += created;
                    created > 0
                }
                Plan::Finish => {
                    self.finish_job(uid);
                    false
                }
            };
            if !progress {
                break;
            }
        }
        self.refresh_sync_backlog(uid);
        self.rearm_job_timers(uid);
        self.write_job(uid);
    }

    /// Takes the decisions that the counts call for; the first that applies wins (J64).
    fn decide(&mut self, uid: JobUid) {
        let time = self.meta.time;
        let Some(job) = self.jobs.get(&uid) else { return };
        // J6: a Job that is being deleted decides nothing more.
        if job.record.status.deleting || job.target().is_some() {
            return;
        }
        if !job.record.spec.suspend
            && job.record.status.start_time.is_none()
            && let Some(job) = self.job_mut(uid)
        {
            job.record.status.start_time = Some(time);
        }
        let Some(job) = self.jobs.get(&uid) else { return };
        let on_failure = self.groups.get(&uid).is_some_and(|group| group.traits.on_failure);
        if job.record.status.failed > job.record.spec.backoff_limit
            || (on_failure && restarts_exhausted(job.restart_sum, job.record.spec.backoff_limit))
        {
            self.set_target(uid, JobConditionType::FailureTarget, BACKOFF_LIMIT_EXCEEDED);
        } else if deadline(&job.record).is_some_and(|due| due <= time) {
            self.set_target(uid, JobConditionType::FailureTarget, DEADLINE_EXCEEDED);
        } else if is_complete(job) {
            self.set_target(uid, JobConditionType::SuccessCriteriaMet, COMPLETIONS_REACHED);
        } else {
            self.decide_suspension(uid);
        }
    }

    /// J100–J104.
    fn decide_suspension(&mut self, uid: JobUid) {
        let time = self.meta.time;
        let Some(job) = self.jobs.get(&uid) else { return };
        let suspend = job.record.spec.suspend;
        let known = condition(job, JobConditionType::Suspended).map(|condition| condition.status);
        let holds = known == Some(ConditionStatus::True);
        if suspend == holds {
            return;
        }
        let Some(job) = self.job_mut(uid) else { return };
        let (status, reason, message) = if suspend {
            job.record.status.start_time = None;
            (ConditionStatus::True, "JobSuspended", "Job suspended")
        } else {
            job.record.status.start_time = Some(time);
            (ConditionStatus::False, "JobResumed", "Job resumed")
        };
        job.record.status.conditions.retain(|other| other.condition_type != JobConditionType::Suspended);
        job.record.status.conditions.push(JobCondition {
            condition_type: JobConditionType::Suspended,
            status,
            last_probe_time: time,
            last_transition_time: time,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
        let event = if suspend { "Suspended" } else { "Resumed" };
        let record = job.record.clone();
        self.decided(uid, event, "", history::suspension(suspend, &record));
        self.job_event(&record, Occurrence::normal(JOB_CONTROLLER, event, message.to_owned()));
    }

    /// J61: the Job has restarted its containers too often.
    pub(crate) fn fail_for_restarts(&mut self, uid: JobUid) {
        if self.jobs.get(&uid).is_some_and(|job| job.target().is_none()) {
            self.set_target(uid, JobConditionType::FailureTarget, BACKOFF_LIMIT_EXCEEDED);
        }
    }

    /// J90: the interim condition; from here on no Pod is created.
    fn set_target(&mut self, uid: JobUid, condition_type: JobConditionType, (reason, message): (&str, &str)) {
        let time = self.meta.time;
        let Some(job) = self.job_mut(uid) else { return };
        job.record.status.backoff_until = None;
        job.record.status.conditions.push(JobCondition {
            condition_type,
            status: ConditionStatus::True,
            last_probe_time: time,
            last_transition_time: time,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    /// What the Job wants, by its rows.
    pub(crate) fn plan(&self, uid: JobUid) -> Plan {
        let (Some(job), Some(group)) = (self.jobs.get(&uid), self.groups.get(&uid)) else {
            return Plan::Idle;
        };
        let status = &job.record.status;
        if status.deleting {
            return Plan::Idle;
        }
        if let Some(failure) = job.target() {
            let reason = if failure { StopReason::JobFailed } else { StopReason::JobSucceeded };
            return match (status.active, status.terminating) {
                (0, 0) => Plan::Finish,
                (0, _) => Plan::Idle,
                (active, _) => Plan::Remove { pods: active, reason },
            };
        }
        let wanted = wanted_active(job);
        let surplus = status.active.saturating_sub(wanted);
        // J28: Pods of indexes that are not wanted any more go in any case.
        let stray = job.record.spec.completions.filter(|_| job.record.spec.indexed);
        let strays: u32 = stray.map_or(0, |completions| {
            group.indexes.range(completions..).map(|(_, in_use)| in_use.active).sum()
        });
        if surplus.max(strays) > 0 {
            return Plan::Remove { pods: surplus.max(strays), reason: removal_reason(job) };
        }
        if job.record.spec.suspend || status.backoff_until.is_some() {
            return Plan::Idle;
        }
        // J27, D3: unless asked otherwise, a replacement waits until the old Pod is certainly dead.
        let blocking = if job.record.spec.replace_terminating { 0 } else { status.terminating };
        match wanted.saturating_sub(status.active).saturating_sub(blocking) {
            0 => Plan::Idle,
            pods => Plan::Create { pods },
        }
    }

    /// Stops active Pods in the order of J28. False if this entry may stop no more.
    fn remove_pods(&mut self, uid: JobUid, pods: u32, reason: StopReason) -> bool {
        let allowed = PODS_STOPPED_PER_ENTRY_MAX.saturating_sub(self.entry.n_stopped);
        let count = allowed.min(pods as usize);
        if count == 0 {
            return false;
        }
        let victims = self.removal_order(uid, count);
        self.entry.n_stopped += victims.len();
        let last = victims.last().and_then(|uid| self.pods.get(uid)).map(|pod| pod.record.name.clone());
        let (Some(job), Some(last)) = (self.jobs.get(&uid), last) else { return false };
        let record = job.record.clone();
        let (pod, stopped) = (if victims.len() == 1 { last.as_str() } else { "" }, victims.len());
        self.decided(uid, "PodsStopped", pod, history::stopped(reason, stopped));
        for victim in &victims {
            self.stop_pod(*victim, reason, None, "");
        }
        let mut occurrence =
            Occurrence::normal(JOB_CONTROLLER, "SuccessfulDelete", format!("Deleted pod: {last}"));
        occurrence.count = u32::try_from(victims.len()).unwrap_or(u32::MAX);
        self.job_event(&record, occurrence);
        true
    }

    /// The first `count` active Pods to go: of unwanted indexes, unassigned, Pending, not ready, ready for a shorter
    /// time, restarted more often, newer (J28).
    fn removal_order(&self, uid: JobUid, count: usize) -> Vec<PodUid> {
        let (Some(job), Some(group)) = (self.jobs.get(&uid), self.groups.get(&uid)) else {
            return Vec::new();
        };
        let completions = job.record.spec.completions.filter(|_| job.record.spec.indexed);
        let mut order: Vec<(RemovalKey, PodUid)> = group
            .pods
            .values()
            .filter_map(|uid| self.pods.get(uid))
            .filter(|pod| pod.record.stop_reason.is_none())
            .map(|pod| (removal_key(&pod.record, completions), pod.record.uid))
            .collect();
        if count < order.len() {
            order.select_nth_unstable(count);
            order.truncate(count);
        }
        order.sort_unstable();
        order.into_iter().map(|(_, uid)| uid).collect()
    }

    /// Creates missing Pods, at most `allowed`. Returns how many.
    fn create_pods(&mut self, uid: JobUid, wanted: u32, allowed: usize) -> usize {
        let room = PODS_UNFINISHED_MAX.saturating_sub(self.pods.len());
        let left = PODS_CREATED_PER_ENTRY_MAX.saturating_sub(self.entry.n_created);
        let count = allowed.min(left).min(room).min(wanted as usize);
        let (Some(job), Some(group)) = (self.jobs.get_mut(&uid), self.groups.get(&uid)) else { return 0 };
        let indexes: Vec<Option<CompletionIndex>> = if job.record.spec.indexed {
            free_indexes(job, group, count).into_iter().map(|index| Some(CompletionIndex(index))).collect()
        } else {
            vec![None; count]
        };
        let count = indexes.len();
        let (namespace, job_name) = (group.template.namespace.clone(), group.template.job_name.clone());
        let mut last = String::new();
        for index in indexes {
            last = self.create_pod(uid, index, &namespace, &job_name);
        }
        self.entry.n_created += count;
        if count > 0
            && let Some(job) = self.jobs.get(&uid)
        {
            let record = job.record.clone();
            let mut occurrence =
                Occurrence::normal(JOB_CONTROLLER, "SuccessfulCreate", format!("Created pod: {last}"));
            occurrence.count = u32::try_from(count).unwrap_or(u32::MAX);
            self.job_event(&record, occurrence);
        }
        count
    }

    /// Creates one Pod and returns its name.
    fn create_pod(
        &mut self,
        job: JobUid,
        index: Option<CompletionIndex>,
        namespace: &str,
        job_name: &str,
    ) -> String {
        let pod_uid = self.draw_pod_uid();
        let slot = self.jobs.get(&job).map_or(0, |job| job.record.status.next_pod_slot);
        let number = index.map(|index| index.0);
        let mut used = 0;
        let mut name = pod_name(job_name, number, slot);
        while self.pod_names.get(namespace, &name).is_some() && used < NAME_ATTEMPTS_MAX {
            used += 1;
            name = pod_name(job_name, number, slot.wrapping_add(used) % SLOTS);
        }
        let mut avoid_node = None;
        if let Some(job) = self.job_mut(job) {
            let status = &mut job.record.status;
            status.next_pod_slot = slot.wrapping_add(used).wrapping_add(1) % SLOTS;
            if status.avoid_pods > 0 {
                status.avoid_pods -= 1;
                avoid_node.clone_from(&status.avoid_node);
            }
            if status.avoid_pods == 0 {
                status.avoid_node = None;
            }
        }
        let record = PodRecord {
            name: name.clone(),
            index,
            avoid_node,
            created_at: self.meta.time,
            ..new_pod(pod_uid, job)
        };
        self.add_pod(record, namespace);
        name
    }

    fn draw_pod_uid(&mut self) -> PodUid {
        let mut uid = self.entry.draw.pod_uid();
        while self.pods.contains_key(&uid) {
            uid = self.entry.draw.pod_uid();
        }
        uid
    }

    /// J90, J92: no Pod is left: the terminal condition, with reason and message of the interim one.
    fn finish_job(&mut self, uid: JobUid) {
        let time = self.meta.time;
        let Some(job) = self.job_mut(uid) else { return };
        let failed = job.target() == Some(true);
        let (target_type, condition_type) = if failed {
            (JobConditionType::FailureTarget, JobConditionType::Failed)
        } else {
            (JobConditionType::SuccessCriteriaMet, JobConditionType::Complete)
        };
        let Some(target) = condition(job, target_type).cloned() else { return };
        let status = &mut job.record.status;
        status.conditions.push(JobCondition {
            condition_type,
            last_probe_time: time,
            last_transition_time: time,
            ..target.clone()
        });
        if !failed {
            status.completion_time = Some(time);
        }
        status.avoid_node = None;
        status.avoid_pods = 0;
        let too_many = job.record.spec.completions.is_some_and(|wanted| job.record.status.succeeded > wanted);
        let record = Arc::new(job.record.clone());
        self.entry.ends.push(Ended::Job { record: record.clone(), condition: condition_type });
        self.write_job(uid);
        let revision = self.jobs.get(&uid).map_or(Revision(0), |job| job.revision);
        self.forget_history(uid);
        self.jobs.remove(&uid);
        self.groups.remove(&uid);
        let due = ttl_due(&record);
        self.ttl_queue.extend(due.map(|due| (due, uid)));
        self.finished.insert(uid, FinishedJob { revision, ttl_due: due });
        let end = if failed {
            Occurrence::warning(JOB_CONTROLLER, &target.reason, target.message.clone())
        } else {
            Occurrence::normal(JOB_CONTROLLER, "Completed", "Job completed".to_owned())
        };
        self.job_event(&record, end);
        if too_many {
            let message = "Too many succeeded pods running after completion count reached".to_owned();
            self.job_event(&record, Occurrence::warning(JOB_CONTROLLER, "TooManySucceededPods", message));
        }
    }
}

/// J61: so many restarts of running Pods are too many.
pub(crate) fn restarts_exhausted(restarts: u64, backoff_limit: u32) -> bool {
    restarts > 0 && restarts >= u64::from(backoff_limit)
}

/// J23, J94.
fn is_complete(job: &ActiveJob) -> bool {
    let status = &job.record.status;
    status.active == 0
        && match job.record.spec.completions {
            Some(completions) => status.succeeded >= completions,
            None => status.succeeded > 0,
        }
}

/// J20–J22, J101: how many Pods should be active.
pub(crate) fn wanted_active(job: &ActiveJob) -> u32 {
    let (spec, status) = (&job.record.spec, &job.record.status);
    if spec.suspend {
        return 0;
    }
    match spec.completions {
        Some(completions) => spec.parallelism.min(completions.saturating_sub(status.succeeded)),
        None if status.succeeded > 0 => status.active,
        None => spec.parallelism,
    }
}

fn removal_reason(job: &ActiveJob) -> StopReason {
    let (spec, status) = (&job.record.spec, &job.record.status);
    if spec.completions.is_some_and(|completions| status.succeeded >= completions) {
        StopReason::JobSucceeded
    } else if spec.suspend {
        StopReason::Suspend
    } else {
        StopReason::ScaleDown
    }
}

/// J30: the lowest indexes that have neither succeeded nor a Pod.
fn free_indexes(job: &mut ActiveJob, group: &PodGroup, count: usize) -> Vec<u32> {
    let completions = job.record.spec.completions.unwrap_or(0);
    let replace_terminating = job.record.spec.replace_terminating;
    let mut found = Vec::with_capacity(count);
    // Both sequences ascend, and runs of completed indexes are skipped as a whole.
    let mut in_use = group.indexes.range(job.index_cursor..).peekable();
    for index in job.completed.absent(job.index_cursor).take_while(|index| *index < completions) {
        if found.len() == count {
            break;
        }
        while in_use.next_if(|(used, _)| **used < index).is_some() {}
        let taken = in_use
            .next_if(|(used, _)| **used == index)
            .is_some_and(|(_, in_use)| in_use.active > 0 || !replace_terminating);
        if !taken {
            found.push(index);
        }
    }
    // The indexes found get their Pods now; all others below are completed or in use.
    if let Some(last) = found.last() {
        job.index_cursor = last.saturating_add(1);
    }
    found
}

/// The first Job after `last` that was not synced yet.
fn next_in(backlog: &BTreeSet<JobUid>, last: Option<JobUid>, synced: &BTreeSet<JobUid>) -> Option<JobUid> {
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    backlog.range((from, Bound::Unbounded)).find(|uid| !synced.contains(uid)).copied()
}

pub(crate) fn condition(job: &ActiveJob, condition_type: JobConditionType) -> Option<&JobCondition> {
    job.record.status.conditions.iter().find(|condition| condition.condition_type == condition_type)
}

/// Sorts Pods in the order of their removal.
type RemovalKey =
    (Reverse<bool>, bool, bool, bool, Reverse<Option<stint_api::Timestamp>>, Reverse<u32>, Reverse<Revision>);

fn removal_key(pod: &PodRecord, completions: Option<u32>) -> RemovalKey {
    let stray = matches!((pod.index, completions), (Some(index), Some(end)) if index.0 >= end);
    (
        Reverse(stray),
        pod.node.is_some(),
        pod.phase != PodPhase::Pending,
        pod.ready,
        Reverse(pod.ready_changed_at.filter(|_| pod.ready)),
        Reverse(progress::most_restarts(pod)),
        Reverse(pod.created_revision),
    )
}

/// A Pod of which nothing is known yet.
pub(crate) fn new_pod(uid: PodUid, job: JobUid) -> PodRecord {
    PodRecord {
        uid,
        job,
        created_revision: Revision(0),
        name: String::new(),
        index: None,
        created_at: stint_api::Timestamp(0),
        phase: PodPhase::Pending,
        node: None,
        binding_revision: Revision(0),
        bound_at: None,
        started_at: None,
        finished_at: None,
        deletion_at: None,
        deletion_grace_seconds: 0,
        stop_reason: None,
        counted: false,
        containers: Vec::new(),
        initialized_at: None,
        ready: false,
        ready_changed_at: None,
        sidecars_until: None,
        restarting_all: false,
        reason: String::new(),
        message: String::new(),
        disruption_reason: String::new(),
        unschedulable_message: String::new(),
        avoid_node: None,
        runtime: String::new(),
        host_ip: String::new(),
        pod_ips: Vec::new(),
    }
}
