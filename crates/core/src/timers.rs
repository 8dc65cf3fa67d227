//! Due times of Jobs: the end of a back-off (J50), the active deadline (J63).
//!
//! Owns: the queue and its arming. Does not own: TTLs, events and tombstones, which have queues of their own.
//!
//! Invariant: an unfinished Job's timers are those that [`wanted`] derives from its record.

use std::collections::BTreeSet;

use stint_api::{JobUid, Timestamp};

use crate::limits::TIMERS_PER_ENTRY_MAX;
use crate::record::JobRecord;
use crate::state::State;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobTimer {
    Backoff,
    Deadline,
}

/// The queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobTimers {
    queue: BTreeSet<(Timestamp, JobUid, JobTimer)>,
    armed: BTreeSet<(JobUid, JobTimer, Timestamp)>,
}

impl JobTimers {
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _, _)| *due)
    }

    pub(crate) fn queue(&self) -> &BTreeSet<(Timestamp, JobUid, JobTimer)> {
        &self.queue
    }

    /// Arms the timer of this kind anew, or disarms it.
    pub(crate) fn set(&mut self, job: JobUid, timer: JobTimer, due: Option<Timestamp>) {
        let range = (job, timer, Timestamp(i64::MIN))..=(job, timer, Timestamp(i64::MAX));
        let old = self.armed.range(range).next().copied();
        if old.map(|(_, _, due)| due) == due {
            return;
        }
        if let Some((job, timer, due)) = old {
            self.armed.remove(&(job, timer, due));
            self.queue.remove(&(due, job, timer));
        }
        if let Some(due) = due {
            self.armed.insert((job, timer, due));
            self.queue.insert((due, job, timer));
        }
    }

    fn pop_due(&mut self, time: Timestamp) -> Option<(JobUid, JobTimer)> {
        let (due, job, timer) = *self.queue.first()?;
        if due > time {
            return None;
        }
        self.queue.remove(&(due, job, timer));
        self.armed.remove(&(job, timer, due));
        Some((job, timer))
    }
}

/// When the end of the Job's back-off and its deadline are due.
fn wanted(record: &JobRecord, heading_for_an_end: bool) -> (Option<Timestamp>, Option<Timestamp>) {
    if heading_for_an_end || record.status.deleting {
        return (None, None);
    }
    (record.status.backoff_until, deadline(record))
}

/// J63: when the Job has been active too long; none while it is suspended (J103).
pub(crate) fn deadline(record: &JobRecord) -> Option<Timestamp> {
    let seconds = record.spec.active_deadline_seconds.filter(|_| !record.spec.suspend)?;
    let duration_ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    Some(record.status.start_time?.plus_ms(duration_ms))
}

impl State {
    /// The earliest moment at which something is due: propose `Tick` then.
    pub fn next_due(&self) -> Option<Timestamp> {
        let ttl = self.ttl_queue.first().map(|(due, _)| *due);
        let dues = [self.timers.next_due(), ttl, self.events.next_due(), self.tombstones.next_due()];
        dues.into_iter().flatten().min()
    }

    /// Makes the timers of a Job those that its record asks for.
    pub(crate) fn rearm_job_timers(&mut self, uid: JobUid) {
        let (backoff, deadline) = match self.jobs.get(&uid) {
            Some(job) => wanted(&job.record, job.target().is_some()),
            None => (None, None),
        };
        self.timers.set(uid, JobTimer::Backoff, backoff);
        self.timers.set(uid, JobTimer::Deadline, deadline);
    }

    /// Fires what is due, as far as one entry may: the Jobs are synced afterwards.
    pub(crate) fn fire_timers(&mut self) {
        for _ in 0..TIMERS_PER_ENTRY_MAX {
            let Some((uid, timer)) = self.timers.pop_due(self.meta.time) else { break };
            match timer {
                JobTimer::Backoff => {
                    let time = self.meta.time;
                    // J6: in the entry that begins its deletion the timer is still there.
                    let decides = self.jobs.get(&uid).is_some_and(|job| !job.record.status.deleting);
                    if let Some(job) = self.job_mut(uid).filter(|_| decides) {
                        // A failure in this very entry may have begun a new delay: that one is not over.
                        let until = &mut job.record.status.backoff_until;
                        *until = until.filter(|until| *until > time);
                    }
                }
                // The sync compares the deadline itself, so that rules keep their order (J64).
                JobTimer::Deadline => {
                    self.entry.touched.insert(uid);
                }
            }
        }
        self.expire_events();
        self.expire_tombstones();
    }
}
