//! What an agent holds, and what it does about orders and desired sets (A8, A9, A14).
//!
//! Owns: which Pods are held, which run of each container was begun, tombstones, which set was seen last. Does not own:
//! processes, the journal, reports, the order in which the containers of a Pod are stopped.
//!
//! Invariants: a run of a container is begun at most once, and never while another of it goes on; a Pod that was stopped
//! before it was known is not started by a late order; a set older than one seen changes nothing; what is absent from a set
//! is stopped only if it was bound at or before the set's revision; a stop is always answered, by the ends of what was begun
//! or by a report that nothing is going to be.

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
        /// The containers that may run now. What runs of others goes on.
        containers: Vec<DesiredRun>,
        /// The Pod has one container: with the end of that, everything is said of a Pod that was to stop.
        is_single: bool,
    },
    /// Stop all of it.
    Stop {
        /// From receipt, between SIGTERM and SIGKILL.
        grace: Duration,
    },
}

/// Which run of a container is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DesiredRun {
    /// Name of the container.
    pub container: String,
    /// Which run: 0, then 1 for the first restart in place.
    pub restart_count: u32,
    /// From receipt, before that run may start.
    pub delay: Duration,
    /// That run is to stop, while the Pod goes on: from receipt, between SIGTERM and SIGKILL.
    pub stop: Option<Duration>,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldEffect {
    /// Begin this run after the delay; ask [`HeldPods::begin`] right before.
    Begin {
        /// Which Pod.
        pod: PodUid,
        /// Which container.
        container: String,
        /// Which run.
        restart_count: u32,
        /// How long to wait.
        delay: Duration,
    },
    /// Stop a run that was begun, while the Pod goes on.
    StopContainer {
        /// Which Pod.
        pod: PodUid,
        /// Which container.
        container: String,
        /// Which run.
        restart_count: u32,
        /// Between SIGTERM and SIGKILL; zero: at once.
        grace: Duration,
    },
    /// Stop all runs of the Pod that were begun.
    Stop {
        /// Which Pod.
        pod: PodUid,
        /// Between SIGTERM and SIGKILL; zero: at once.
        grace: Duration,
    },
    /// Report that what is wanted was never begun, and is not going to be (A9). The ends of the runs before must have been
    /// reported before.
    ReportNotStarted {
        /// Which Pod.
        pod: PodUid,
        /// Which run of which container; none: nothing of the Pod runs or is going to.
        run: Option<(String, u32)>,
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
    containers: BTreeMap<String, HeldContainer>,
    /// A stop was ordered: no further run is begun.
    is_stopping: bool,
    is_single: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HeldContainer {
    /// The run that is wanted.
    wanted_run: u32,
    /// The highest run that was begun.
    begun_run: Option<u32>,
    /// A run goes on.
    is_running: bool,
    /// The highest run that is to stop: it is not begun any more.
    stopped_run: Option<u32>,
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

    /// True if a run of a container of the Pod goes on.
    pub fn is_running(&self, pod: PodUid) -> bool {
        self.held.get(&pod).is_some_and(Held::is_running)
    }

    /// True if a run of the container goes on.
    pub fn is_container_running(&self, pod: PodUid, container: &str) -> bool {
        self.container(pod, container).is_some_and(|container| container.is_running)
    }

    /// The highest run of the container that was begun.
    pub fn begun_run(&self, pod: PodUid, container: &str) -> Option<u32> {
        self.container(pod, container)?.begun_run
    }

    /// True if the Pod is to stop.
    pub fn is_stopping(&self, pod: PodUid) -> bool {
        self.held.get(&pod).is_some_and(|held| held.is_stopping)
    }

    fn container(&self, pod: PodUid, container: &str) -> Option<&HeldContainer> {
        self.held.get(&pod)?.containers.get(container)
    }

    /// A new registration or a new cluster: nothing is held, sets begin anew. Pods that go on are adopted afterwards.
    pub fn clear(&mut self) {
        *self = HeldPods { ended_cursor: self.ended_cursor, ..HeldPods::default() };
    }

    /// A Pod that was held before this registration. Unless one of its runs is adopted too, none was begun. The next set says
    /// what becomes of it.
    pub fn adopt_pod(&mut self, pod: PodUid, binding_revision: Revision) {
        self.held.entry(pod).or_insert_with(|| Held::new(binding_revision, false));
    }

    /// A run that was begun before this registration, by this process or by an earlier one, and goes on or has ended. The
    /// next set says what becomes of its Pod.
    pub fn adopt(
        &mut self,
        pod: PodUid,
        binding_revision: Revision,
        container: &str,
        restart_count: u32,
        is_running: bool,
    ) {
        let held = self.held.entry(pod).or_insert_with(|| Held::new(binding_revision, false));
        let known = held.containers.entry(container.to_owned()).or_insert(HeldContainer {
            wanted_run: restart_count,
            begun_run: None,
            is_running: false,
            stopped_run: None,
        });
        if known.begun_run.is_none_or(|begun| begun <= restart_count) {
            known.wanted_run = known.wanted_run.max(restart_count);
            known.begun_run = Some(restart_count);
            known.is_running = is_running;
        }
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
                && held.is_running()
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
    pub fn begin(&mut self, pod: PodUid, container: &str, restart_count: u32) -> bool {
        let Some(held) = self.held.get_mut(&pod).filter(|held| !held.is_stopping) else { return false };
        let Some(container) = held.containers.get_mut(container) else { return false };
        let is_due = container.wanted_run == restart_count
            && !container.is_called_off(restart_count)
            && container.begun_run.is_none_or(|begun| begun < restart_count)
            && !container.is_running;
        if is_due {
            container.begun_run = Some(restart_count);
            container.is_running = true;
        }
        is_due
    }

    /// A run has ended, and that was reported. The Pod stays held until the servers have decided what follows. If a further
    /// run was ordered meanwhile, it begins.
    pub fn run_ended(&mut self, pod: PodUid, container: &str, restart_count: u32) -> Vec<HeldEffect> {
        let Some(held) = self.held.get_mut(&pod) else { return Vec::new() };
        let Some(ended) = held.containers.get_mut(container) else { return Vec::new() };
        if ended.begun_run != Some(restart_count) {
            return Vec::new();
        }
        ended.is_running = false;
        if held.is_stopping {
            // The servers may have wanted more, ordered or not, before they wanted the stop.
            let is_last = !held.is_single && !held.is_running();
            return is_last.then_some(HeldEffect::ReportNotStarted { pod, run: None }).into_iter().collect();
        }
        if ended.wanted_run > restart_count {
            let (container, restart_count) = (container.to_owned(), ended.wanted_run);
            return vec![match ended.is_called_off(restart_count) {
                true => HeldEffect::ReportNotStarted { pod, run: Some((container, restart_count)) },
                false => HeldEffect::Begin { pod, container, restart_count, delay: Duration::ZERO },
            }];
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
            (DesiredAction::Run { containers, is_single }, None) => {
                let mut held = Held::new(desired.binding_revision, *is_single);
                containers.iter().for_each(|run| held.want(pod, run, effects));
                self.held.insert(pod, held);
            }
            (DesiredAction::Run { containers, is_single }, Some(held)) => {
                held.is_single = *is_single;
                if !held.is_stopping {
                    containers.iter().for_each(|run| held.want(pod, run, effects));
                }
            }
            (DesiredAction::Stop { .. }, None) => {
                // Without room nothing is said either: unburied, it could still be started. A later set asks again.
                if self.tombstones.len() < limits::TOMBSTONES_MAX || self.tombstones.contains_key(&pod) {
                    self.tombstones.insert(pod, desired.binding_revision);
                    effects.push(HeldEffect::ReportNotStarted { pod, run: None });
                }
            }
            (DesiredAction::Stop { grace }, Some(held)) => {
                if held.is_running() {
                    // Said again with less grace: the driver keeps the stricter of both.
                    effects.push(HeldEffect::Stop { pod, grace: *grace });
                } else if !held.is_stopping {
                    // Also between two runs: the servers may have counted the end of the last and wait for a further one,
                    // which is never begun. If they have not, that end is reported before this and ends the Pod.
                    effects.push(HeldEffect::ReportNotStarted { pod, run: None });
                }
                held.is_stopping = true;
            }
        }
    }
}

impl Held {
    fn new(binding_revision: Revision, is_single: bool) -> Held {
        Held { binding_revision, containers: BTreeMap::new(), is_stopping: false, is_single }
    }

    fn is_running(&self) -> bool {
        self.containers.values().any(|container| container.is_running)
    }

    fn want(&mut self, pod: PodUid, desired: &DesiredRun, effects: &mut Vec<HeldEffect>) {
        let restart_count = desired.restart_count;
        let (is_new, container) = match self.containers.get_mut(&desired.container) {
            Some(container) => (restart_count > container.wanted_run, container),
            None => {
                let unknown = HeldContainer {
                    wanted_run: restart_count,
                    begun_run: None,
                    is_running: false,
                    stopped_run: None,
                };
                (true, self.containers.entry(desired.container.clone()).or_insert(unknown))
            }
        };
        if restart_count < container.wanted_run {
            return;
        }
        container.wanted_run = restart_count;
        let name = || desired.container.clone();
        match desired.stop {
            None => {
                if is_new && !container.is_running {
                    let delay = desired.delay;
                    effects.push(HeldEffect::Begin { pod, container: name(), restart_count, delay });
                }
            }
            Some(grace) => {
                let was_called_off = container.is_called_off(restart_count);
                container.stopped_run = container.stopped_run.max(Some(restart_count));
                if container.is_running && container.begun_run == Some(restart_count) {
                    effects.push(HeldEffect::StopContainer { pod, container: name(), restart_count, grace });
                } else if !container.is_running
                    && container.begun_run != Some(restart_count)
                    && !was_called_off
                {
                    let run = Some((name(), restart_count));
                    effects.push(HeldEffect::ReportNotStarted { pod, run });
                }
            }
        }
    }
}

impl HeldContainer {
    /// True if this run is not to be begun any more.
    fn is_called_off(&self, restart_count: u32) -> bool {
        self.stopped_run.is_some_and(|stopped| restart_count <= stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: PodUid = PodUid(1);

    const MAIN: &str = "main";

    fn run(restart_count: u32) -> DesiredAction {
        DesiredAction::Run { containers: vec![run_of(MAIN, restart_count, None)], is_single: true }
    }

    fn run_of(container: &str, restart_count: u32, stop: Option<Duration>) -> DesiredRun {
        DesiredRun { container: container.to_owned(), restart_count, delay: Duration::ZERO, stop }
    }

    /// What a Pod of several containers may run.
    fn runs(containers: &[DesiredRun]) -> DesiredPod {
        desired(10, DesiredAction::Run { containers: containers.to_vec(), is_single: false })
    }

    fn stop() -> DesiredAction {
        DesiredAction::Stop { grace: Duration::from_secs(30) }
    }

    fn desired(binding: u64, action: DesiredAction) -> DesiredPod {
        DesiredPod { pod: POD, binding_revision: Revision(binding), action }
    }

    fn begin(restart_count: u32) -> HeldEffect {
        begin_of(MAIN, restart_count)
    }

    fn begin_of(container: &str, restart_count: u32) -> HeldEffect {
        HeldEffect::Begin { pod: POD, container: container.to_owned(), restart_count, delay: Duration::ZERO }
    }

    fn not_started_of(container: &str, restart_count: u32) -> HeldEffect {
        HeldEffect::ReportNotStarted { pod: POD, run: Some((container.to_owned(), restart_count)) }
    }

    #[test]
    fn a9_an_order_is_idempotent_and_a_run_begins_once() {
        let mut held = HeldPods::default();
        assert_eq!(held.order(&desired(10, run(0))), [begin(0)]);
        assert_eq!(held.order(&desired(10, run(0))), []);
        assert!(held.begin(POD, MAIN, 0));
        assert!(!held.begin(POD, MAIN, 0));
        assert_eq!(held.desired_set(Revision(12), &[desired(10, run(0))]), []);
        assert_eq!(held.run_ended(POD, MAIN, 0), []);
        assert_eq!(held.desired_set(Revision(13), &[desired(10, run(0))]), [], "computed before the report");
        assert!(!held.begin(POD, MAIN, 0));
    }

    #[test]
    fn a2_a_pod_of_which_nothing_was_begun_begins_after_the_next_set_or_is_forgotten() {
        let mut held = HeldPods::default();
        held.adopt_pod(POD, Revision(0));
        assert!(held.contains(POD) && !held.is_running(POD));
        assert_eq!(held.clone().desired_set(Revision(12), &[]), [HeldEffect::Forget { pod: POD }]);
        assert_eq!(held.desired_set(Revision(12), &[desired(10, run(3))]), [begin(3)]);
        assert!(held.begin(POD, MAIN, 3));
    }

    #[test]
    fn a14_only_a_higher_restart_count_acts() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert!(held.begin(POD, MAIN, 0));
        held.run_ended(POD, MAIN, 0);
        assert_eq!(held.order(&desired(10, run(1))), [begin(1)]);
        assert!(held.begin(POD, MAIN, 1));
        assert_eq!(held.order(&desired(10, run(2))), [], "waits for the end of the run before");
        assert_eq!(held.run_ended(POD, MAIN, 1), [begin(2)]);
        assert_eq!(held.run_ended(POD, MAIN, 0), [], "an old end is nothing");
    }

    #[test]
    fn a8_what_is_absent_is_stopped_only_if_it_was_bound_before_the_set() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert!(held.begin(POD, MAIN, 0));
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
        let not_started = [HeldEffect::ReportNotStarted { pod: POD, run: None }];
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
            assert_eq!(held.order(&stopped), [HeldEffect::ReportNotStarted { pod: stopped.pod, run: None }]);
        }
        assert_eq!(held.order(&desired(10, stop())), [], "no room, no answer");
        let not_started = [HeldEffect::ReportNotStarted { pod: POD, run: None }];
        assert_eq!(held.desired_set(Revision(11), &[desired(10, stop())]), not_started);
    }

    #[test]
    fn a_stop_before_the_begin_prevents_it() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert_eq!(held.order(&desired(10, stop())), [HeldEffect::ReportNotStarted { pod: POD, run: None }]);
        assert_eq!(held.order(&desired(10, stop())), [], "reported once");
        assert!(!held.begin(POD, MAIN, 0));
    }

    #[test]
    fn a_stop_between_two_runs_is_answered() {
        let not_started = [HeldEffect::ReportNotStarted { pod: POD, run: None }];
        for is_restart_known in [true, false] {
            let mut held = HeldPods::default();
            held.order(&desired(10, run(0)));
            assert!(held.begin(POD, MAIN, 0));
            held.run_ended(POD, MAIN, 0);
            if is_restart_known {
                assert_eq!(held.order(&desired(10, run(1))), [begin(1)]);
            }
            assert_eq!(held.order(&desired(10, stop())), not_started);
            assert_eq!(held.desired_set(Revision(12), &[desired(10, stop())]), [], "reported once");
            assert!(!held.begin(POD, MAIN, 1));
        }
    }

    #[test]
    fn a_stop_while_running_prevents_further_runs() {
        let mut held = HeldPods::default();
        held.order(&desired(10, run(0)));
        assert!(held.begin(POD, MAIN, 0));
        assert_eq!(
            held.order(&desired(10, stop())),
            [HeldEffect::Stop { pod: POD, grace: Duration::from_secs(30) }]
        );
        assert_eq!(held.order(&desired(10, run(1))), []);
        assert_eq!(held.run_ended(POD, MAIN, 0), []);
    }

    #[test]
    fn a8_containers_begin_as_they_are_named_and_go_on_when_they_are_not() {
        let mut held = HeldPods::default();
        assert_eq!(held.order(&runs(&[run_of("proxy", 0, None)])), [begin_of("proxy", 0)]);
        assert!(held.begin(POD, "proxy", 0));
        assert!(!held.begin(POD, "main", 0), "not its turn");
        let both = runs(&[run_of("proxy", 0, None), run_of("main", 0, None)]);
        assert_eq!(held.desired_set(Revision(12), std::slice::from_ref(&both)), [begin_of("main", 0)]);
        assert!(held.begin(POD, "main", 0));
        assert_eq!(held.order(&runs(&[run_of("main", 0, None)])), [], "what is not named goes on");
        assert!(held.is_container_running(POD, "proxy"));
        assert_eq!(held.run_ended(POD, "main", 0), []);
        assert_eq!((held.is_running(POD), held.begun_run(POD, "main")), (true, Some(0)));
    }

    #[test]
    fn p7_a_container_is_stopped_while_its_pod_goes_on() {
        let grace = Duration::from_secs(5);
        let mut held = HeldPods::default();
        held.order(&runs(&[run_of("proxy", 0, None)]));
        assert!(held.begin(POD, "proxy", 0));
        let stop =
            HeldEffect::StopContainer { pod: POD, container: "proxy".to_owned(), restart_count: 0, grace };
        let stopped = runs(&[run_of("proxy", 0, Some(grace))]);
        assert_eq!(held.order(&stopped), std::slice::from_ref(&stop));
        assert_eq!(held.order(&stopped), [stop], "the driver keeps the stricter of both");
        assert_eq!(held.run_ended(POD, "proxy", 0), []);
        assert_eq!(held.order(&stopped), [], "its end is being reported");
        // P10: all containers are restarted: a later run may begin.
        assert_eq!(held.order(&runs(&[run_of("proxy", 1, None)])), [begin_of("proxy", 1)]);
        assert!(held.begin(POD, "proxy", 1));
    }

    #[test]
    fn a9_a_run_that_is_called_off_before_it_began_is_answered_once() {
        let grace = Some(Duration::ZERO);
        // Unknown until now; waiting for its delay; ordered while the run before it goes on.
        let mut held = HeldPods::default();
        assert_eq!(held.order(&runs(&[run_of("proxy", 0, grace)])), [not_started_of("proxy", 0)]);
        assert_eq!(held.order(&runs(&[run_of("proxy", 0, grace)])), []);
        assert_eq!(held.order(&runs(&[run_of("proxy", 0, None)])), [], "an order that was overtaken");
        assert!(!held.begin(POD, "proxy", 0));
        assert_eq!(held.order(&runs(&[run_of("proxy", 1, None)])), [begin_of("proxy", 1)]);
        assert_eq!(held.order(&runs(&[run_of("proxy", 1, grace)])), [not_started_of("proxy", 1)]);
        assert!(!held.begin(POD, "proxy", 1));
        held.order(&runs(&[run_of("proxy", 2, None)]));
        assert!(held.begin(POD, "proxy", 2));
        assert_eq!(held.order(&runs(&[run_of("proxy", 3, grace)])), [], "the run before goes on");
        assert_eq!(held.run_ended(POD, "proxy", 2), [not_started_of("proxy", 3)]);
    }

    #[test]
    fn a9_the_end_of_the_last_container_of_a_pod_that_stops_answers_for_what_may_have_been_wanted() {
        let mut held = HeldPods::default();
        held.order(&runs(&[run_of("a", 0, None), run_of("b", 0, None)]));
        assert!(held.begin(POD, "a", 0) && held.begin(POD, "b", 0));
        held.order(&desired(10, stop()));
        assert!(held.is_stopping(POD));
        assert_eq!(held.order(&runs(&[run_of("c", 0, None)])), [], "nothing begins any more");
        assert_eq!(held.run_ended(POD, "a", 0), [], "the other one still runs");
        assert_eq!(held.run_ended(POD, "b", 0), [HeldEffect::ReportNotStarted { pod: POD, run: None }]);
        assert_eq!(held.order(&desired(10, stop())), []);
    }

    #[test]
    fn a13_runs_of_an_earlier_process_are_adopted() {
        let mut held = HeldPods::default();
        held.adopt(POD, Revision(10), MAIN, 0, false);
        held.adopt(POD, Revision(10), MAIN, 1, true);
        held.adopt(POD, Revision(10), MAIN, 0, false);
        assert!(held.is_container_running(POD, MAIN));
        assert_eq!(held.desired_set(Revision(20), &[desired(10, run(1))]), [], "it goes on");
        assert_eq!(held.run_ended(POD, MAIN, 1), []);
        assert_eq!(held.desired_set(Revision(21), &[desired(10, run(2))]), [begin(2)]);
        // One that the servers do not hold any more.
        held.clear();
        held.adopt(POD, Revision(10), MAIN, 1, true);
        let gone = [HeldEffect::Stop { pod: POD, grace: Duration::ZERO }, HeldEffect::Forget { pod: POD }];
        assert_eq!(held.desired_set(Revision(22), &[]), gone);
        // One whose last run has ended, and is to be stopped.
        held.adopt(POD, Revision(10), MAIN, 1, false);
        assert_eq!(held.order(&desired(10, stop())), [HeldEffect::ReportNotStarted { pod: POD, run: None }]);
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
