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

mod told;
mod words;

use std::collections::VecDeque;
use std::sync::Arc;

use stint_api::{JobUid, Timestamp};

use crate::events::cut;
use crate::limits::{DECISION_MESSAGE_BYTES_MAX, DECISIONS_ALIKE_MAX, DECISIONS_MAX, DECISIONS_PER_JOB_MAX};
use crate::record::{DecisionRecord, HistoryRecord, JobRecord, PodRecord};
use crate::row::{Row, RowChangeKind, RowKey};
use crate::state::State;

pub use told::of_job;
pub(crate) use words::{changes, deleted, stopped, suspension};

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
    /// Who decided or observed it, for people.
    pub by: String,
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
                let delay = words::delay(until.since_ms(self.meta.time));
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
        let mut message = format!("{what} after {}", words::delay(delay_ms));
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
        words::how_it_ended(pod, &names)
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
