//! The history of a Job: every decision about it, in order.
//!
//! Owns: decisions that no other row tells of (what was changed, suspended, counted, delayed, stopped, restarted), their
//! bounds and words; telling them together with those that can be read off the Job and its Pods. Does not own: when something
//! is decided.
//!
//! A Job whose life goes as planned has no row here, and its Pods cost nothing: creation, binding, start and success are in
//! the Pods' own rows. What is out of the ordinary is written to one row per Job, which goes with the Job.
//!
//! Invariants: nothing is decided by it; it is bounded per Job and in memory as a whole (R15), and what was forgotten is
//! counted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use stint_api::{Job, JobConditionType, JobUid, PodPhase, Timestamp, duration};

use crate::events::cut;
use crate::limits::{DECISION_MESSAGE_BYTES_MAX, DECISIONS_ALIKE_MAX, DECISIONS_MAX, DECISIONS_PER_JOB_MAX};
use crate::node_lifecycle::EVICTION;
use crate::record::{
    DecisionRecord, HistoryRecord, JobRecord, JobSpecRecord, PodRecord, StopReason, TemplateRecord,
};
use crate::row::{Row, RowChangeKind, RowKey};
use crate::state::{State, finish_time};

/// The written part of an unfinished Job's history.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobHistory {
    pub(crate) decisions: VecDeque<DecisionRecord>,
    /// True while it differs from the row.
    dirty: bool,
    /// There is a row.
    is_stored: bool,
}

/// Something that was decided about a Job or one of its Pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// One CamelCase word.
    pub reason: String,
    /// What and why, for people.
    pub message: String,
    /// Name of the Pod that it is about; empty: the Job, or several.
    pub pod: String,
    /// How many of the kind at once.
    pub count: u32,
}

/// Writing.
impl State {
    /// Writes a decision about an unfinished Job down. `pod` is the Pod that it is about, or empty.
    pub(crate) fn decided(&mut self, uid: JobUid, reason: &str, pod: &str, message: String) {
        let at = self.meta.time;
        let is_full = self.n_decisions >= DECISIONS_MAX;
        let Some(job) = self.job_mut(uid) else { return };
        job.record.status.decisions = job.record.status.decisions.saturating_add(1);
        job.history.dirty = true;
        let known = &mut job.history.decisions;
        let alike = known.iter().rev().take_while(|one| one.at == at).filter(|one| one.reason == reason);
        if alike.count() >= DECISIONS_ALIKE_MAX
            && let Some(last) = known.iter_mut().rev().find(|one| one.reason == reason)
        {
            last.count = last.count.saturating_add(1);
            return;
        }
        if is_full || known.len() >= DECISIONS_PER_JOB_MAX {
            if known.pop_front().is_none() {
                return;
            }
            self.n_decisions = self.n_decisions.saturating_sub(1);
        }
        let message = cut(message, DECISION_MESSAGE_BYTES_MAX);
        let (reason, pod) = (reason.to_owned(), pod.to_owned());
        if let Some(job) = self.jobs.get_mut(&uid) {
            job.history.decisions.push_back(DecisionRecord { at, reason, message, pod, count: 1 });
            self.n_decisions += 1;
        }
    }

    /// The counted end of a Pod: what it means to its Job.
    pub(crate) fn tell_failure(&mut self, pod: &PodRecord, how: String, node_lost: bool) {
        let Some(job) = self.jobs.get(&pod.job) else { return };
        let (spec, status) = (&job.record.spec, &job.record.status);
        let (failed, limit) = (status.failed, spec.backoff_limit);
        let mut message = match failed > limit {
            true => format!("{how}; failure {failed}, more than the backoffLimit of {limit}"),
            false => format!("{how}; failure {failed} with a backoffLimit of {limit}"),
        };
        match status.backoff_until {
            _ if node_lost => message.push_str(", which delays nothing: the node failed, not the program"),
            Some(until) if failed <= limit => {
                let delay = delay_text(until.since_ms(self.meta.time));
                let failures = status.consecutive_failures;
                message.push_str(&format!(": no new pod for {delay}, after {failures} in a row"));
            }
            _ => {}
        }
        self.decided(pod.job, if node_lost { "PodLost" } else { "PodFailed" }, &pod.name, message);
    }

    /// A restart in place (P9, P10, J61).
    pub(crate) fn tell_restart(&mut self, pod: &PodRecord, what: &str, delay_ms: i64) {
        let Some(job) = self.jobs.get(&pod.job) else { return };
        let on_failure = self.groups.get(&pod.job).is_some_and(|group| group.traits.on_failure);
        let mut message = format!("{what} after {}", delay_text(delay_ms));
        if on_failure {
            let (restarts, limit) = (job.restart_sum, job.record.spec.backoff_limit);
            message
                .push_str(&format!("; restarts of running pods: {restarts}, with a backoffLimit of {limit}"));
        }
        self.decided(pod.job, "ContainerRestarts", &pod.name, message);
    }

    /// How an ended Pod ended, in words.
    pub(crate) fn how_it_ended(&self, pod: &PodRecord) -> String {
        let traits = self.groups.get(&pod.job).map(|group| &group.traits.containers);
        let names: Vec<&str> =
            traits.map(|all| all.iter().map(|one| &*one.name).collect()).unwrap_or_default();
        how_it_ended(pod, &names)
    }

    /// Writes the row of a Job's history if it differs from the last one written.
    pub(crate) fn write_history(&mut self, uid: JobUid) {
        let Some(job) = self.jobs.get_mut(&uid).filter(|job| job.history.dirty) else { return };
        let history = &mut job.history;
        history.dirty = false;
        let was_stored = std::mem::replace(&mut history.is_stored, true);
        let record = HistoryRecord { decisions: history.decisions.iter().cloned().collect() };
        let row = Row::History(Arc::new(record));
        let kind = if was_stored { RowChangeKind::Modified(row) } else { RowChangeKind::Added(row) };
        self.push_plain(RowKey::History(uid), kind);
    }

    /// The Job has finished: its history stays as a row, and leaves memory.
    pub(crate) fn forget_history(&mut self, uid: JobUid) {
        let Some(job) = self.jobs.get_mut(&uid) else { return };
        let history = std::mem::take(&mut job.history);
        self.n_decisions = self.n_decisions.saturating_sub(history.decisions.len());
    }

    /// The Job's row goes: so does this one, if there is one.
    pub(crate) fn delete_history(&mut self, job: &JobRecord) {
        let is_stored = match self.jobs.get(&job.uid) {
            Some(unfinished) => unfinished.history.is_stored,
            None => job.status.decisions > 0,
        };
        self.forget_history(job.uid);
        if is_stored {
            let row = Row::History(Arc::new(HistoryRecord::default()));
            self.push_plain(RowKey::History(job.uid), RowChangeKind::Deleted(row));
        }
    }

    pub(crate) fn load_history(&mut self, uid: JobUid, record: &HistoryRecord) {
        let Some(job) = self.jobs.get_mut(&uid) else { return };
        job.history.decisions = record.decisions.iter().cloned().collect();
        job.history.is_stored = true;
        self.n_decisions += record.decisions.len();
    }
}

/// Everything that was decided about a Job, the oldest first: what was written down, and what its row and its Pods' rows tell.
/// `pods` may be fewer than there are.
pub fn of_job(
    job: &JobRecord,
    template: &TemplateRecord,
    written: &[DecisionRecord],
    pods: &[Arc<PodRecord>],
) -> Vec<Decision> {
    let mut told: Vec<Decision> = written
        .iter()
        .map(|one| Decision {
            at: one.at,
            reason: one.reason.clone(),
            message: one.message.clone(),
            pod: one.pod.clone(),
            count: one.count,
        })
        .collect();
    let resumed: BTreeSet<Timestamp> =
        written.iter().filter(|one| one.reason == "Resumed").map(|one| one.at).collect();
    told_by_job(&mut told, job, &resumed);
    let failures = || written.iter().filter(|one| matches!(one.reason.as_str(), "PodFailed" | "PodLost"));
    let names_told: BTreeSet<&str> = failures().map(|one| one.pod.as_str()).collect();
    // Several of one moment, of which the last stands for those that follow.
    let moments_told: BTreeSet<Timestamp> =
        failures().filter(|one| one.count > 1).map(|one| one.at).collect();
    let is_told = |pod: &PodRecord| {
        names_told.contains(pod.name.as_str()) || pod.finished_at.is_some_and(|at| moments_told.contains(&at))
    };
    let spec = &template.template.spec;
    let names: Vec<&str> =
        spec.init_containers.iter().chain(&spec.containers).map(|one| one.name.as_str()).collect();
    for pod in pods {
        told_by_pod(&mut told, pod, &names, is_told(pod));
    }
    told.sort_by_key(|one| (one.at, rank(&one.reason)));
    told
}

/// The order of what happens in one moment: a Pod's end first, then what the Job makes of it, then new Pods.
fn rank(reason: &str) -> u8 {
    match reason {
        "Created" => 0,
        "Updated" => 1,
        "Suspended" | "Resumed" => 2,
        // Before the end of the same Pod, which may be told of in the same report.
        "Started" | "PodStarted" => 3,
        "FailureTarget" | "SuccessCriteriaMet" => 5,
        "PodsStopped" => 6,
        "Complete" | "Failed" => 7,
        "DeletionBegan" => 8,
        "PodCreated" => 9,
        "PodBound" => 10,
        _ => 4,
    }
}

fn told_by_job(told: &mut Vec<Decision>, job: &JobRecord, resumed: &BTreeSet<Timestamp>) {
    let mut add = |at: Timestamp, reason: &str, message: String| {
        told.push(Decision { at, reason: reason.to_owned(), message, pod: String::new(), count: 1 });
    };
    let created = job.metadata.creation_timestamp;
    if let Some(at) = created {
        let request = match job.request_id.as_str() {
            "" => String::new(),
            id => format!(" by request {id}"),
        };
        let (spec, count) =
            (&job.spec, |count: Option<u32>| count.map_or("any".to_owned(), |count| count.to_string()));
        let shape = format!(
            "submitted{request}: parallelism {}, completions {}, backoffLimit {}",
            spec.parallelism,
            count(spec.completions),
            spec.backoff_limit
        );
        add(
            at,
            "Created",
            if job.metadata.generation > 1 { format!("{shape}, as it is now") } else { shape },
        );
    }
    let status = &job.status;
    // A job that was resumed has it told already.
    if let Some(at) = status.start_time.filter(|at| Some(*at) != created && !resumed.contains(at)) {
        add(at, "Started", "pods may be created from here on, and activeDeadlineSeconds counts".to_owned());
    }
    for condition in &status.conditions {
        if condition.condition_type != JobConditionType::Suspended {
            let message = format!("{}: {}", condition.reason, condition.message);
            add(condition.last_transition_time, condition.condition_type.as_str(), message);
        }
    }
    if let Some(at) = job.metadata.deletion_timestamp {
        let ttl = job.spec.ttl_seconds_after_finished;
        let expired = ttl
            .zip(finish_time(job))
            .filter(|(ttl, finished)| at >= finished.plus_ms(i64::from(*ttl) * 1000));
        let message = match expired {
            Some((ttl, _)) => format!("its ttlSecondsAfterFinished, {ttl} s, is over: it goes with its pods"),
            None => "it was deleted, and stays until its pods are gone".to_owned(),
        };
        add(at, "DeletionBegan", message);
    }
}

fn told_by_pod(told: &mut Vec<Decision>, pod: &PodRecord, names: &[&str], is_failure_told: bool) {
    let mut add = |at: Timestamp, reason: &str, message: String| {
        let message = cut(message, DECISION_MESSAGE_BYTES_MAX);
        told.push(Decision { at, reason: reason.to_owned(), message, pod: pod.name.clone(), count: 1 });
    };
    let mut created = match pod.index {
        Some(index) => format!("for index {index}"),
        None => "as one is missing".to_owned(),
    };
    if let Some(node) = &pod.avoid_node {
        created.push_str(&format!("; it avoids node {node}, if another fits"));
    }
    add(pod.created_at, "PodCreated", created);
    if let (Some(at), Some(node)) = (pod.bound_at, &pod.node) {
        let runtime = match pod.runtime.as_str() {
            "" => String::new(),
            runtime => format!(", runtime {runtime}"),
        };
        add(at, "PodBound", format!("to node {node}{runtime}"));
    }
    if let Some(at) = pod.started_at {
        let node = pod.node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        add(at, "PodStarted", format!("its containers run{node}"));
    }
    let Some(at) = pod.finished_at else { return };
    match pod.phase {
        PodPhase::Succeeded if pod.stop_reason.is_none() => {
            add(at, "PodSucceeded", "counted as a success".to_owned());
        }
        _ if is_failure_told => {}
        _ => {
            let counts = match pod.stop_reason {
                None | Some(StopReason::Deleted | StopReason::JobFailed) => "counted as a failure",
                Some(_) => "not counted",
            };
            add(at, "PodEnded", format!("{}; {counts}", how_it_ended(pod, names)));
        }
    }
}

fn how_it_ended(pod: &PodRecord, names: &[&str]) -> String {
    if !pod.reason.is_empty() {
        return match pod.message.as_str() {
            "" => pod.reason.clone(),
            message => format!("{}: {message}", pod.reason),
        };
    }
    let ends =
        pod.containers.iter().enumerate().filter_map(|(place, one)| Some((place, one.termination.as_ref()?)));
    match ends.into_iter().find(|(_, end)| end.exit_code != 0) {
        Some((place, end)) => {
            let name = names.get(place).copied().unwrap_or("?");
            let reason = match end.reason.as_str() {
                "" | "Error" => String::new(),
                reason => format!(" ({reason})"),
            };
            format!("container {name} ended with {}{reason}", end.exit_code)
        }
        None if pod.node.is_none() => "it had no node yet".to_owned(),
        None => "it was stopped".to_owned(),
    }
}

/// What was changed about a Job. `spec` is the new one, `new` the whole.
pub(crate) fn changes(old: &JobRecord, spec: &JobSpecRecord, new: &Job, template_changed: bool) -> String {
    let mut changes = Vec::new();
    let mut differ = |name: &str, before: String, after: String| {
        if before != after {
            changes.push(format!("{name}: {before} → {after}"));
        }
    };
    let number = |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
    let was = &old.spec;
    differ("parallelism", was.parallelism.to_string(), spec.parallelism.to_string());
    differ("completions", number(was.completions.map(u64::from)), number(spec.completions.map(u64::from)));
    differ("backoffLimit", was.backoff_limit.to_string(), spec.backoff_limit.to_string());
    differ("suspend", was.suspend.to_string(), spec.suspend.to_string());
    differ(
        "activeDeadlineSeconds",
        number(was.active_deadline_seconds),
        number(spec.active_deadline_seconds),
    );
    differ(
        "ttlSecondsAfterFinished",
        number(was.ttl_seconds_after_finished.map(u64::from)),
        number(spec.ttl_seconds_after_finished.map(u64::from)),
    );
    let policy =
        |replace_terminating| if replace_terminating { "TerminatingOrFailed" } else { "Failed" }.to_owned();
    differ("podReplacementPolicy", policy(was.replace_terminating), policy(spec.replace_terminating));
    let delays = |spec: &JobSpecRecord| format!("{} ms to {} ms", spec.backoff_base_ms, spec.backoff_cap_ms);
    differ("back-off", delays(was), delays(spec));
    let others = [
        (template_changed, "template"),
        (old.metadata.labels != new.metadata.labels, "labels"),
        (old.metadata.annotations != new.metadata.annotations, "annotations"),
        (old.metadata.owner_references != new.metadata.owner_references, "ownerReferences"),
    ];
    changes.extend(
        others.into_iter().filter(|(changed, _)| *changed).map(|(_, name)| format!("{name} changed")),
    );
    changes.join(", ")
}

pub(crate) fn suspension(suspend: bool, job: &JobRecord) -> String {
    match suspend {
        true => format!("no pod is created, and those that are active are stopped: {}", job.status.active),
        false => "pods are created again, and activeDeadlineSeconds counts from here on".to_owned(),
    }
}

pub(crate) fn stopped(reason: StopReason, pods: usize) -> String {
    let (why, counts) = match reason {
        StopReason::ScaleDown => ("more are active than are wanted", "does not count"),
        StopReason::Suspend => ("the job is suspended", "does not count"),
        StopReason::JobFailed => ("the job has failed", "counts as a failure"),
        StopReason::JobSucceeded => ("the job has what it wants", "does not count"),
        StopReason::Deleted => ("they were deleted", "counts"),
        StopReason::JobDeleted => ("the job was deleted", "does not count"),
    };
    let of_pods = if pods == 1 { "its end" } else { "their end" };
    let n_pods = if pods == 1 { "1 pod is".to_owned() } else { format!("{pods} pods are") };
    format!("{n_pods} stopped, as {why}: {of_pods} {counts}")
}

/// Of a Pod that somebody, or a drain, deletes.
pub(crate) fn deleted(pod: &PodRecord, disruption: &str, is_counted_now: bool) -> String {
    let by = match &pod.node {
        Some(node) if disruption == EVICTION => format!("node {node} is drained"),
        _ => "somebody deleted it".to_owned(),
    };
    let counts = if is_counted_now { "counts as a failure at once" } else { "counts by how it ends" };
    format!("{by}: it is stopped, and {counts}")
}

fn delay_text(delay_ms: i64) -> String {
    duration::format_ms(u64::try_from(delay_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::EntryPosition;
    use crate::job_commands::spec_record;
    use crate::record::JobStatusRecord;
    use crate::state::ActiveJob;
    use stint_api::{JobSpec, ObjectMeta, Revision};

    const UID: JobUid = JobUid(1);

    fn state() -> State {
        let record = JobRecord {
            uid: UID,
            metadata: ObjectMeta::default(),
            request_id: String::new(),
            spec: spec_record(&JobSpec::default()),
            status: JobStatusRecord::default(),
        };
        let mut state = State::new();
        state.jobs.insert(UID, ActiveJob::new(record, Revision(1)));
        state
    }

    fn decide(state: &mut State, moment: i64, reason: &str) {
        state.begin_entry(EntryPosition { log_index: 1, term: 1 }, Timestamp(moment), 0);
        state.decided(UID, reason, "", "x".repeat(10_000));
    }

    fn written(state: &State) -> Vec<(i64, String, u32)> {
        let decisions = state.jobs[&UID].history.decisions.iter();
        decisions.map(|one| (one.at.0, one.reason.clone(), one.count)).collect()
    }

    #[test]
    fn r15_a_history_is_bounded_and_counts_what_it_forgets() {
        let mut state = state();
        let beyond = 7;
        for moment in 0..DECISIONS_PER_JOB_MAX + beyond {
            decide(&mut state, moment as i64, "Updated");
        }
        let kept = written(&state);
        assert_eq!((kept.len(), kept[0].0), (DECISIONS_PER_JOB_MAX, beyond as i64), "the oldest went");
        assert_eq!(state.jobs[&UID].record.status.decisions as usize, DECISIONS_PER_JOB_MAX + beyond);
        assert_eq!(state.n_decisions, DECISIONS_PER_JOB_MAX);
        let longest = state.jobs[&UID].history.decisions.iter().map(|one| one.message.len()).max();
        assert_eq!(longest, Some(DECISION_MESSAGE_BYTES_MAX));
    }

    #[test]
    fn r15_beyond_the_bound_of_all_jobs_a_new_decision_takes_the_place_of_the_oldest() {
        let mut state = state();
        decide(&mut state, 1, "Updated");
        state.n_decisions = DECISIONS_MAX;
        decide(&mut state, 2, "Suspended");
        assert_eq!(written(&state), [(2, "Suspended".to_owned(), 1)]);
        assert_eq!(state.n_decisions, DECISIONS_MAX);
        state.forget_history(UID);
        state.n_decisions = DECISIONS_MAX;
        decide(&mut state, 3, "Resumed");
        assert!(written(&state).is_empty(), "it is counted only");
        assert_eq!(state.jobs[&UID].record.status.decisions, 3);
    }

    #[test]
    fn r15_many_alike_of_one_moment_are_counted_together() {
        let mut state = state();
        for _ in 0..DECISIONS_ALIKE_MAX + 5 {
            decide(&mut state, 1, "PodFailed");
        }
        decide(&mut state, 1, "Updated");
        decide(&mut state, 1, "PodFailed");
        decide(&mut state, 2, "PodFailed");
        let kept = written(&state);
        assert_eq!(kept.len(), DECISIONS_ALIKE_MAX + 2);
        assert_eq!(kept[DECISIONS_ALIKE_MAX - 1], (1, "PodFailed".to_owned(), 7));
        assert_eq!(
            kept[DECISIONS_ALIKE_MAX..],
            [(1, "Updated".to_owned(), 1), (2, "PodFailed".to_owned(), 1)]
        );
    }
}
