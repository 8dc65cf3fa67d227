//! What an agent holds, and what it does about orders and desired sets (A8, A9, A14).
//!
//! Owns: which Pods are held, which run of each was begun, tombstones, which set was seen last. Does not own: processes,
//! the journal, reports.
//!
//! Invariants: a run of a Pod is begun at most once; a Pod that was stopped before it was known is not started by a late
//! order; a set older than one seen changes nothing; what is absent from a set is stopped only if it was bound at or before
//! the set's revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stint_api::{PodUid, Revision};

use crate::limits;

/// What the servers want the agent to hold of one Pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DesiredPod {
    /// Which Pod.
    pub pod: PodUid,
    /// Revision of its binding.
    pub binding_revision: Revision,
    /// Whether it should run.
    pub action: DesiredAction,
}

/// See [`DesiredPod`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DesiredAction {
    /// Run it.
    Run {
        /// Which run: 0, then 1 for the first restart in place.
        restart_count: u32,
        /// From receipt, before that run may start.
        delay: Duration,
    },
    /// Stop it.
    Stop {
        /// From receipt, between SIGTERM and SIGKILL.
        grace: Duration,
    },
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldEffect {
    /// Begin this run after the delay; ask [`HeldPods::begin`] right before.
    Begin {
        /// Which Pod.
        pod: PodUid,
        /// Which run.
        restart_count: u32,
        /// How long to wait.
        delay: Duration,
    },
    /// Stop the run that was begun.
    Stop {
        /// Which Pod.
        pod: PodUid,
        /// Between SIGTERM and SIGKILL; zero: at once.
        grace: Duration,
    },
    /// Report that the run that is wanted was never begun, and is not going to be (A9). The end of a run before it must have been
    /// reported before.
    ReportNotStarted {
        /// Which Pod.
        pod: PodUid,
    },
    /// The servers hold no unfinished Pod of this uid any more: only its logs are kept.
    Forget {
        /// Which Pod.
        pod: PodUid,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Held {
    binding_revision: Revision,
    /// The run that is wanted.
    wanted_run: u32,
    /// The highest run that was begun.
    begun_run: Option<u32>,
    /// A run goes on.
    is_running: bool,
    /// A stop was ordered: no further run is begun.
    is_stopping: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct HeldPods {
    held: BTreeMap<PodUid, Held>,
    /// Stopped before they were known, with the revision of the binding that was stopped. Kept until a set as new as that
    /// binding has them no more: one that still wants them run was put together before they were stopped.
    tombstones: BTreeMap<PodUid, Revision>,
    last_set: Revision,
    /// Where the next question about ended Pods begins (A8).
    ended_cursor: PodUid,
}

impl HeldPods {
    /// Uids of all Pods held: those that run, wait to run, or wait for a decision.
    pub fn uids(&self) -> impl Iterator<Item = PodUid> + '_ {
        self.held.keys().copied()
    }

    /// True if the Pod is held.
    pub fn contains(&self, pod: PodUid) -> bool {
        self.held.contains_key(&pod)
    }

    /// True if a run of the Pod goes on.
    pub fn is_running(&self, pod: PodUid) -> bool {
        self.held.get(&pod).is_some_and(|held| held.is_running)
    }

    /// The highest run that was begun.
    pub fn begun_run(&self, pod: PodUid) -> Option<u32> {
        self.held.get(&pod)?.begun_run
    }

    /// A new registration or a new cluster: nothing is held, sets begin anew.
    pub fn clear(&mut self) {
        *self = HeldPods { ended_cursor: self.ended_cursor, ..HeldPods::default() };
    }

    /// A8: everything that the agent should hold, as of a revision. Parts must have been put together.
    pub fn desired_set(&mut self, revision: Revision, pods: &[DesiredPod]) -> Vec<HeldEffect> {
        if revision < self.last_set {
            return Vec::new();
        }
        self.last_set = revision;
        let mut effects = Vec::new();
        let wanted: BTreeSet<PodUid> = pods.iter().map(|desired| desired.pod).collect();
        self.tombstones.retain(|pod, binding| wanted.contains(pod) || *binding > revision);
        let absent: Vec<PodUid> = self
            .held
            .iter()
            .filter(|(pod, held)| !wanted.contains(pod) && held.binding_revision <= revision)
            .map(|(pod, _)| *pod)
            .collect();
        for pod in absent {
            if let Some(held) = self.held.remove(&pod)
                && held.is_running
            {
                effects.push(HeldEffect::Stop { pod, grace: Duration::ZERO });
            }
            effects.push(HeldEffect::Forget { pod });
        }
        for desired in pods {
            let is_run = matches!(desired.action, DesiredAction::Run { .. });
            if !(is_run && self.is_buried(desired)) {
                self.take(desired, &mut effects);
            }
        }
        effects
    }

    /// A9: a change of the desired set, ahead of it. The caller has checked that it is for the present incarnation.
    pub fn order(&mut self, desired: &DesiredPod) -> Vec<HeldEffect> {
        let mut effects = Vec::new();
        let is_late = !self.held.contains_key(&desired.pod) && desired.binding_revision <= self.last_set;
        if !is_late && !self.is_buried(desired) {
            self.take(desired, &mut effects);
        }
        effects
    }

    /// The run's delay is over. True if it is still to be begun; from then on it counts as begun.
    pub fn begin(&mut self, pod: PodUid, restart_count: u32) -> bool {
        let Some(held) = self.held.get_mut(&pod) else { return false };
        let is_due = held.wanted_run == restart_count
            && held.begun_run.is_none_or(|begun| begun < restart_count)
            && !held.is_running
            && !held.is_stopping;
        if is_due {
            held.begun_run = Some(restart_count);
            held.is_running = true;
        }
        is_due
    }

    /// A run has ended. The Pod stays held until the servers have decided what follows. If a further run was ordered
    /// meanwhile, it begins.
    pub fn run_ended(&mut self, pod: PodUid, restart_count: u32) -> Vec<HeldEffect> {
        let Some(held) = self.held.get_mut(&pod) else { return Vec::new() };
        if held.begun_run != Some(restart_count) {
            return Vec::new();
        }
        held.is_running = false;
        if held.wanted_run > restart_count && !held.is_stopping {
            let restart_count = held.wanted_run;
            return vec![HeldEffect::Begin { pod, restart_count, delay: Duration::ZERO }];
        }
        Vec::new()
    }

    /// The next part, at most 1,000, of the ended Pods to ask about; goes round all of them (A8).
    pub fn ended_to_ask(&mut self, ended: &BTreeSet<PodUid>) -> Vec<PodUid> {
        let after = ended.range((std::ops::Bound::Excluded(self.ended_cursor), std::ops::Bound::Unbounded));
        let before = ended.range(..=self.ended_cursor);
        let asked: Vec<PodUid> = after.chain(before).take(limits::ENDED_ASKED_MAX).copied().collect();
        if let Some(last) = asked.last() {
            self.ended_cursor = *last;
        }
        asked
    }

    /// True if this binding, or a later one, was answered with `not started`.
    fn is_buried(&self, desired: &DesiredPod) -> bool {
        self.tombstones.get(&desired.pod).is_some_and(|stopped| desired.binding_revision <= *stopped)
    }

    fn take(&mut self, desired: &DesiredPod, effects: &mut Vec<HeldEffect>) {
        let pod = desired.pod;
        match (&desired.action, self.held.get_mut(&pod)) {
            (DesiredAction::Run { restart_count, delay }, None) => {
                let held = Held {
                    binding_revision: desired.binding_revision,
                    wanted_run: *restart_count,
                    begun_run: None,
                    is_running: false,
                    is_stopping: false,
                };
                self.held.insert(pod, held);
                effects.push(HeldEffect::Begin { pod, restart_count: *restart_count, delay: *delay });
            }
            (DesiredAction::Run { restart_count, delay }, Some(held)) => {
                if *restart_count > held.wanted_run && !held.is_stopping {
                    held.wanted_run = *restart_count;
                    if !held.is_running {
                        effects.push(HeldEffect::Begin { pod, restart_count: *restart_count, delay: *delay });
                    }
                }
            }
            (DesiredAction::Stop { .. }, None) => {
                // Without room nothing is said either: unburied, it could still be started. A later set asks again.
                if self.tombstones.len() < limits::TOMBSTONES_MAX || self.tombstones.contains_key(&pod) {
                    self.tombstones.insert(pod, desired.binding_revision);
                    effects.push(HeldEffect::ReportNotStarted { pod });
                }
            }
            (DesiredAction::Stop { grace }, Some(held)) => {
                if held.is_running {
                    // Said again with less grace: the driver keeps the stricter of both.
                    effects.push(HeldEffect::Stop { pod, grace: *grace });
                } else if !held.is_stopping {
                    // Also between two runs: the servers may have counted the end of the last and wait for a further one,
                    // which is never begun. If they have not, that end is reported before this and ends the Pod.
                    effects.push(HeldEffect::ReportNotStarted { pod });
                }
                held.is_stopping = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: PodUid = PodUid(1);

    fn run(restart_count: u32) -> DesiredAction {
        DesiredAction::Run { restart_count, delay: Duration::ZERO }
    }

    fn stop() -> DesiredAction {
        DesiredAction::Stop { grace: Duration::from_secs(30) }
    }

    fn desired(binding: u64, action: DesiredAction) -> DesiredPod {
        DesiredPod { pod: POD, binding_revision: Revision(binding), action }
    }

    fn begin(restart_count: u32) -> HeldEffect {
        HeldEffect::Begin { pod: POD, restart_count, delay: Duration::ZERO }
    }

    #[test]
    fn a9_an_order_is_idempotent_and_a_run_begins_once() {
        let mut held = HeldPods::default();
        assert_eq!(held.order(&desired(10, run(0))), [begin(0)]);
        assert_eq!(held.order(&desired(10, run(0))), []);
        assert!(held.begin(POD, 0));
        assert!(!held.begin(POD, 0));
        assert_eq!(held.desired_set(Revision(12), &[desired(10, run(0))]), []);
        assert_eq!(held.run_ended(POD, 0), []);
        assert_eq!(held.desired_set(Revision(13), &[desired(10, run(0))]), [], "computed before the report");
        assert!(!held.begin(POD, 0));
    }

    #[test]
    fn a14_only_a_higher_restart_count_acts() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert!(held.begin(POD, 0));
        held.run_ended(POD, 0);
        assert_eq!(held.order(&desired(10, run(1))), [begin(1)]);
        assert!(held.begin(POD, 1));
        assert_eq!(held.order(&desired(10, run(2))), [], "waits for the end of the run before");
        assert_eq!(held.run_ended(POD, 1), [begin(2)]);
        assert_eq!(held.run_ended(POD, 0), [], "an old end is nothing");
    }

    #[test]
    fn a8_what_is_absent_is_stopped_only_if_it_was_bound_before_the_set() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert!(held.begin(POD, 0));
        assert_eq!(held.desired_set(Revision(9), &[]), [], "bound after the set");
        let gone = [HeldEffect::Stop { pod: POD, grace: Duration::ZERO }, HeldEffect::Forget { pod: POD }];
        assert_eq!(held.desired_set(Revision(10), &[]), gone);
        assert_eq!(held.order(&desired(10, run(0))), [], "a late order of a Pod that a set has dropped");
    }

    #[test]
    fn a8_an_older_set_changes_nothing() {
        let mut held = HeldPods::default();
        assert_eq!(held.desired_set(Revision(20), &[desired(10, run(0))]), [begin(0)]);
        assert_eq!(held.desired_set(Revision(19), &[]), []);
        assert!(held.contains(POD));
    }

    #[test]
    fn a9_a_stop_of_an_unknown_pod_leaves_a_tombstone_until_a_set_has_it_no_more() {
        let not_started = [HeldEffect::ReportNotStarted { pod: POD }];
        let mut held = HeldPods::default();
        assert_eq!(held.order(&desired(10, stop())), not_started);
        assert_eq!(held.order(&desired(10, stop())), [], "answered once");
        assert_eq!(held.order(&desired(10, run(0))), [], "the order was overtaken by its stop");
        assert_eq!(held.desired_set(Revision(9), &[]), []);
        assert_eq!(held.order(&desired(10, run(0))), [], "the set is older than the binding");
        assert_eq!(
            held.desired_set(Revision(12), &[desired(10, run(0))]),
            [],
            "put together before the stop"
        );
        assert_eq!(held.order(&desired(10, run(0))), []);
        assert_eq!(held.desired_set(Revision(13), &[desired(10, stop())]), not_started, "asked again");
        assert_eq!(held.desired_set(Revision(14), &[]), []);
        assert_eq!(held.order(&desired(10, run(0))), [], "late");
        assert_eq!(held.order(&desired(15, run(0))), [begin(0)], "bound anew");
    }

    #[test]
    fn a9_without_room_for_a_tombstone_a_stop_waits_for_a_set() {
        let mut held = HeldPods::default();
        for uid in 1..=limits::TOMBSTONES_MAX as u128 {
            let stopped = DesiredPod { pod: PodUid(uid + 1), ..desired(10, stop()) };
            assert_eq!(held.order(&stopped), [HeldEffect::ReportNotStarted { pod: stopped.pod }]);
        }
        assert_eq!(held.order(&desired(10, stop())), [], "no room, no answer");
        let not_started = [HeldEffect::ReportNotStarted { pod: POD }];
        assert_eq!(held.desired_set(Revision(11), &[desired(10, stop())]), not_started);
    }

    #[test]
    fn a_stop_before_the_begin_prevents_it() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert_eq!(held.order(&desired(10, stop())), [HeldEffect::ReportNotStarted { pod: POD }]);
        assert_eq!(held.order(&desired(10, stop())), [], "reported once");
        assert!(!held.begin(POD, 0));
    }

    #[test]
    fn a_stop_between_two_runs_is_answered() {
        let not_started = [HeldEffect::ReportNotStarted { pod: POD }];
        for is_restart_known in [true, false] {
            let mut held = HeldPods::default();
            held.order(&desired(10, run(0)));
            assert!(held.begin(POD, 0));
            held.run_ended(POD, 0);
            if is_restart_known {
                assert_eq!(held.order(&desired(10, run(1))), [begin(1)]);
            }
            assert_eq!(held.order(&desired(10, stop())), not_started);
            assert_eq!(held.desired_set(Revision(12), &[desired(10, stop())]), [], "reported once");
            assert!(!held.begin(POD, 1));
        }
    }

    #[test]
    fn a_stop_while_running_prevents_further_runs() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert!(held.begin(POD, 0));
        assert_eq!(
            held.order(&desired(10, stop())),
            [HeldEffect::Stop { pod: POD, grace: Duration::from_secs(30) }]
        );
        assert_eq!(held.order(&desired(10, run(1))), []);
        assert_eq!(held.run_ended(POD, 0), []);
    }

    #[test]
    fn a8_questions_about_ended_pods_go_round_all_of_them() {
        let mut held = HeldPods::default();
        let ended: BTreeSet<PodUid> = (1..=2_500).map(PodUid).collect();
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            let part = held.ended_to_ask(&ended);
            assert_eq!(part.len(), limits::ENDED_ASKED_MAX);
            asked.extend(part);
        }
        assert_eq!(asked, ended);
        assert_eq!(held.ended_to_ask(&BTreeSet::new()), []);
    }
}
