//! One Pod between a server and an agent, as a state machine that the checker explores.
//!
//! Owns: what the servers hold of the Pod, messages in flight, the processes, the faults, the promises. Does not own: what the
//! agent does about a message, which is the real machine's.

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Model, Property};
use stint_api::{PodUid, Revision};
use stint_lease::{DesiredAction, DesiredPod, DesiredRun, HeldEffect, HeldPods};

pub const R6: &str = "R6: nothing runs of a pod that the servers hold for ended";
pub const A8_WANTED: &str = "A8: nothing that is wanted is stopped";
pub const A14_ONCE: &str = "A14: a run begins once, after the one before has ended";
pub const A9_ANSWERED: &str = "A9: a stop is answered";
pub const RESTARTED: &str = "a pod is restarted in place";
pub const STOPPED: &str = "a running pod is stopped";
pub const NOT_STARTED: &str = "a stop overtakes its order";
pub const ENDED: &str = "a pod ends by itself";
pub const CALLED_OFF: &str = "a run is called off while its pod goes on";
pub const BEGUN_ANEW: &str = "all containers of a pod begin anew";
pub const ADOPTED: &str = "an agent takes over what an earlier one has begun";
pub const OLD_SET: &str = "a set older than one seen arrives";
pub const LATE_ORDER: &str = "an order arrives of a pod that was forgotten";

const POD: PodUid = PodUid(1);
/// The containers of the Pod. The second may begin once the servers have heard that the first runs.
const CONTAINERS: [&str; 2] = ["first", "second"];

/// One deliberate fault, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The protocol as it is.
    None,
    /// A9 broken: a stop of an unknown Pod is answered and forgotten.
    NoTombstone,
    /// A9 broken: any set takes a tombstone away, also one that was put together before the stop.
    TombstoneGoesWithAnySet,
    /// A8 broken: a set older than one seen is taken for a newer.
    OlderSetActs,
    /// A8 broken: what is absent from a set is stopped although it was bound after the set was put together.
    AbsentStoppedThoughBoundLater,
    /// A9 broken: an order of a Pod that a set has dropped begins it again.
    OrderOfDroppedPodActs,
    /// A14 broken: a begin that was scheduled is carried out whatever has happened since.
    NothingAskedBeforeBegin,
    /// A9 broken: a Pod that is stopped while it waits for a restart in place is not answered for.
    StopBetweenRunsUnanswered,
    /// A14 broken: an order acts although its restart count is not higher.
    AnyRestartCountActs,
    /// A9 broken: of a Pod of two containers, nothing is said after the end of what ran when it was to stop.
    LastEndUnanswered,
    /// A9 broken: of a run that is called off before it began, nothing is said.
    CallOffUnanswered,
    /// A9 broken: a run that was called off, and answered for, is begun all the same.
    CallOffForgotten,
    /// A14 broken: an agent does not know what an earlier one has begun.
    NothingAdopted,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    pub mutant: Mutant,
    pub shape: Shape,
}

/// What the Pod is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One container that is restarted twice at most.
    Single,
    /// Two containers, the first restarted once at most.
    Pair,
    /// P7: the first is a sidecar, restarted once at most, and stopped when the second has ended.
    Sidecar,
    /// P10: when the second ends for the first time, all containers begin anew.
    Anew,
}

impl Shape {
    /// Restarts in place that the servers allow.
    fn restarts_max(self, container: usize) -> u32 {
        match (self, container) {
            (Shape::Single, _) => 2,
            (Shape::Pair | Shape::Sidecar, 0) => 1,
            (Shape::Pair | Shape::Sidecar | Shape::Anew, _) => 0,
        }
    }

    /// True if the agent may be restarted, once, while processes go on.
    fn restarts_agent(self) -> bool {
        // Of the others there would be too many states.
        matches!(self, Shape::Single | Shape::Sidecar)
    }
}

/// A run of a container.
type Run = (usize, u32);

/// What the servers want of the Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wanted {
    /// The run of each container that may run, and whether it is to stop.
    Run([Option<(u32, bool)>; 2]),
    Stop,
}

/// What the servers hold of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// It is not its turn; this run will be the next.
    Blocked(u32),
    /// This run is wanted, or was when the Pod was to be stopped.
    Wanted(u32),
    /// It does not run any more.
    Ended,
}

/// What the servers hold of the Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    Unbound,
    Bound { binding: u64, containers: [Container; 2], stop: Stop },
    Ended,
}

/// What of the Pod is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    Nothing,
    /// P7: its sidecar, as the rest is over.
    Sidecar,
    /// P10: all containers, to begin anew.
    ToBeginAnew,
    /// All of it, for good.
    All,
}

/// An order in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    binding: u64,
    wanted: Wanted,
}

/// A report in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Report {
    Running(Run),
    Exited(Run),
    /// A run; none: nothing of the Pod runs or is going to.
    NotStarted(Option<Run>),
}

/// A state of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    revision: u64,
    held: Held,
    agent: HeldPods,
    /// The newest set that the agent has acted on.
    last_set: u64,
    /// Begins that wait for their delay.
    begins: BTreeSet<Run>,
    /// Runs of which a process exists.
    running: BTreeSet<Run>,
    /// Processes that are to be killed.
    is_being_killed: BTreeSet<Run>,
    /// Runs that were begun.
    begun: BTreeSet<Run>,
    orders: BTreeSet<Order>,
    /// Desired sets, by their revision.
    sets: BTreeSet<(u64, Option<Order>)>,
    reports: BTreeSet<Report>,
    /// The agent was told to stop the Pod.
    has_heard_of_stop: bool,
    /// Runs that the agent was told to stop while the Pod goes on.
    called_off: BTreeSet<Run>,
    /// The agent was restarted.
    is_second_agent: bool,
    /// Promises that were broken, and things that happened.
    seen: BTreeSet<&'static str>,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Bind,
    /// A user deletes the Pod, or its Job is suspended.
    Stop,
    /// The leader puts a desired set together.
    PutSetTogether,
    DeliverOrder(Order),
    DeliverSet(u64, Option<Order>),
    /// The delay before a run is over.
    Begin(Run),
    /// A process ends, by itself or because it was killed.
    End(Run),
    DeliverReport(Report),
    /// The agent's process is replaced by another, which registers. What was in flight to the first is lost.
    RestartAgent,
}

impl State {
    fn order_what_is_wanted(&mut self) {
        self.orders.extend(self.desired());
    }

    fn desired(&self) -> Option<Order> {
        match self.held {
            Held::Bound { binding, stop: Stop::All, .. } => Some(Order { binding, wanted: Wanted::Stop }),
            Held::Bound { binding, containers, stop } => {
                let wanted = containers.map(|container| match container {
                    Container::Wanted(run) => Some((run, stop != Stop::Nothing)),
                    Container::Blocked(_) | Container::Ended => None,
                });
                Some(Order { binding, wanted: Wanted::Run(wanted) })
            }
            Held::Unbound | Held::Ended => None,
        }
    }

    fn carry_out(&mut self, effects: Vec<HeldEffect>, mutant: Mutant) {
        for effect in effects {
            match effect {
                HeldEffect::Begin { container, restart_count, .. } => {
                    self.begins.insert((place_of(&container), restart_count));
                }
                HeldEffect::Stop { .. } => self.stop(),
                HeldEffect::StopContainer { container, restart_count, .. } => {
                    self.stop_container((place_of(&container), restart_count));
                }
                HeldEffect::ReportNotStarted { run: Some(_), .. } if mutant == Mutant::CallOffUnanswered => {}
                HeldEffect::ReportNotStarted { .. }
                    if mutant == Mutant::StopBetweenRunsUnanswered && !self.begun.is_empty() => {}
                HeldEffect::ReportNotStarted { .. }
                    if mutant == Mutant::LastEndUnanswered && !self.is_being_killed.is_empty() => {}
                HeldEffect::ReportNotStarted { run, .. } => {
                    self.seen.insert(NOT_STARTED);
                    let run = run.map(|(container, restart_count)| (place_of(&container), restart_count));
                    self.reports.insert(Report::NotStarted(run));
                }
                HeldEffect::Forget { .. } => {}
            }
        }
    }

    fn stop(&mut self) {
        if matches!(self.held, Held::Bound { stop, .. } if stop != Stop::All) {
            self.seen.insert(A8_WANTED);
        }
        self.seen.insert(STOPPED);
        self.is_being_killed.extend(self.running.iter().copied());
    }

    fn stop_container(&mut self, run: Run) {
        let wanted = Container::Wanted(run.1);
        if matches!(self.held, Held::Bound { containers, stop: Stop::Nothing, .. } if containers[run.0] == wanted)
        {
            self.seen.insert(A8_WANTED);
        }
        self.seen.insert(CALLED_OFF);
        self.is_being_killed.extend(self.running.get(&run));
    }

    fn hear(&mut self, order: Order) {
        self.has_heard_of_stop |= order.wanted == Wanted::Stop;
        if let Wanted::Run(runs) = order.wanted {
            let called_off = |(place, run): (usize, Option<(u32, bool)>)| match run {
                Some((run, true)) => Some((place, run)),
                _ => None,
            };
            self.called_off.extend(runs.into_iter().enumerate().filter_map(called_off));
        }
    }

    /// A2, A13: processes go on, and the new agent knows from the journal what was begun.
    fn restart_agent(&mut self, mutant: Mutant) {
        self.is_second_agent = true;
        self.agent.clear();
        self.last_set = 0;
        self.begins.clear();
        self.is_being_killed.clear();
        self.orders.clear();
        self.sets.clear();
        self.has_heard_of_stop = false;
        self.called_off.clear();
        for &(container, run) in self.begun.iter().filter(|_| mutant != Mutant::NothingAdopted) {
            let is_running = self.running.contains(&(container, run));
            self.agent.adopt(POD, Revision(0), CONTAINERS[container], run, is_running);
            if is_running {
                self.seen.insert(ADOPTED);
            }
        }
        self.revision += 1;
        // What was bound and never began is bound anew, or is at its end.
        match self.held {
            Held::Bound { stop: Stop::All, .. } if self.begun.is_empty() => self.held = Held::Ended,
            Held::Bound { .. } if self.begun.is_empty() => self.bind(),
            _ => {}
        }
    }

    fn bind(&mut self) {
        self.revision += 1;
        let containers = [Container::Wanted(0), Container::Blocked(0)];
        self.held = Held::Bound { binding: self.revision, containers, stop: Stop::Nothing };
        self.order_what_is_wanted();
    }

    fn deliver_order(&mut self, order: Order, shape: Shape, mutant: Mutant) {
        self.hear(order);
        let mut desired = desired_pod(order, shape);
        let is_known = self.agent.contains(POD);
        if !is_known && order.binding <= self.last_set {
            self.seen.insert(LATE_ORDER);
            if mutant == Mutant::OrderOfDroppedPodActs {
                desired.binding_revision = Revision(self.last_set + 1);
            }
        }
        match (mutant, order.wanted) {
            (Mutant::NoTombstone, Wanted::Stop) if !is_known => {
                self.reports.insert(Report::NotStarted(None));
            }
            (Mutant::AnyRestartCountActs, Wanted::Run([Some((run, _)), _])) if is_known => {
                self.start((0, run));
            }
            (Mutant::CallOffForgotten, Wanted::Run(_)) => {
                let before = self.agent.clone();
                let effects = self.agent.order(&desired);
                let is_answered =
                    |effect: &HeldEffect| matches!(effect, HeldEffect::ReportNotStarted { run: Some(_), .. });
                if effects.iter().any(is_answered) {
                    self.agent = before;
                }
                self.carry_out(effects, mutant);
            }
            _ => {
                let effects = self.agent.order(&desired);
                self.carry_out(effects, mutant);
            }
        }
    }

    fn deliver_set(&mut self, revision: u64, desired: Option<Order>, shape: Shape, mutant: Mutant) {
        if revision < self.last_set {
            self.seen.insert(OLD_SET);
        }
        desired.iter().for_each(|desired| self.hear(*desired));
        let is_absent = desired.is_none() && self.agent.contains(POD);
        let pods: Vec<DesiredPod> = desired.into_iter().map(|order| desired_pod(order, shape)).collect();
        let taken_for = match mutant {
            Mutant::OlderSetActs => revision.max(self.last_set),
            _ => revision,
        };
        if mutant == Mutant::TombstoneGoesWithAnySet && !self.agent.contains(POD) {
            self.agent.clear();
        }
        let effects = self.agent.desired_set(Revision(taken_for), &pods);
        self.last_set = self.last_set.max(revision);
        self.carry_out(effects, mutant);
        if mutant == Mutant::AbsentStoppedThoughBoundLater && is_absent && !self.running.is_empty() {
            self.stop();
        }
    }

    fn begin(&mut self, run: Run, mutant: Mutant) {
        if self.agent.begin(POD, CONTAINERS[run.0], run.1) || mutant == Mutant::NothingAskedBeforeBegin {
            self.start(run);
        }
    }

    fn start(&mut self, run: Run) {
        let goes_on = self.running.iter().any(|(container, _)| *container == run.0);
        if goes_on || !self.begun.insert(run) {
            self.seen.insert(A14_ONCE);
        }
        self.running.insert(run);
        if run.0 == 0 {
            self.reports.insert(Report::Running(run));
        }
    }

    fn end(&mut self, run: Run, mutant: Mutant) {
        self.running.remove(&run);
        if !self.is_being_killed.contains(&run) {
            self.seen.insert(ENDED);
        }
        self.reports.insert(Report::Exited(run));
        let effects = self.agent.run_ended(POD, CONTAINERS[run.0], run.1);
        self.carry_out(effects, mutant);
        self.is_being_killed.remove(&run);
    }

    /// A10: what a report of a container's present run says is counted once; anything else is ignored.
    fn count(&mut self, report: Report, shape: Shape) {
        let Held::Bound { binding, mut containers, mut stop } = self.held else { return };
        match report {
            Report::Running((first, run)) => {
                let Container::Blocked(next) = containers[1] else { return };
                let is_present = containers[first] == Container::Wanted(run);
                if shape == Shape::Single || stop != Stop::Nothing || !is_present {
                    return;
                }
                containers[1] = Container::Wanted(next);
            }
            Report::Exited((container, run)) => {
                if containers[container] != Container::Wanted(run) {
                    return;
                }
                let is_restarted = stop == Stop::Nothing && run < shape.restarts_max(container);
                containers[container] = match is_restarted {
                    true => Container::Wanted(run + 1),
                    false => Container::Ended,
                };
                if is_restarted {
                    self.seen.insert(RESTARTED);
                }
                if shape == Shape::Anew && stop == Stop::Nothing && (container, run) == (1, 0) {
                    stop = Stop::ToBeginAnew;
                }
            }
            // Only a stop makes an agent say so.
            Report::NotStarted(None) if stop != Stop::All => return,
            Report::NotStarted(None) => containers = [Container::Ended; 2],
            Report::NotStarted(Some((container, run))) => {
                if containers[container] != Container::Wanted(run) || stop == Stop::Nothing {
                    return;
                }
                containers[container] = Container::Ended;
            }
        }
        self.revision += 1;
        let mut is_over = containers.iter().all(|container| !matches!(container, Container::Wanted(_)));
        if shape == Shape::Sidecar && stop == Stop::Nothing && containers[1] == Container::Ended {
            stop = Stop::Sidecar;
        }
        if is_over && stop == Stop::ToBeginAnew {
            self.seen.insert(BEGUN_ANEW);
            (containers, stop, is_over) =
                ([Container::Wanted(1), Container::Blocked(1)], Stop::Nothing, false);
        }
        self.held = match is_over {
            true => Held::Ended,
            false => Held::Bound { binding, containers, stop },
        };
        if stop != Stop::All {
            self.order_what_is_wanted();
        }
    }

    /// True unless the agent has heard that something is to stop, nothing of that runs, and still no reports are on their
    /// way that say so.
    fn is_stop_answered(&self) -> bool {
        let Held::Bound { containers, stop, .. } = self.held else { return true };
        let is_reported = |(place, container): (usize, &Container)| match container {
            Container::Wanted(run) => self.reports.contains(&Report::Exited((place, *run))),
            Container::Blocked(_) | Container::Ended => true,
        };
        if stop == Stop::All {
            return !self.has_heard_of_stop
                || !self.running.is_empty()
                || self.reports.contains(&Report::NotStarted(None))
                || containers.iter().enumerate().all(is_reported);
        }
        self.called_off.iter().all(|run| {
            containers[run.0] != Container::Wanted(run.1)
                || self.running.iter().any(|(container, _)| *container == run.0)
                || self.reports.contains(&Report::Exited(*run))
                || self.reports.contains(&Report::NotStarted(Some(*run)))
        })
    }
}

fn place_of(container: &str) -> usize {
    usize::from(container == CONTAINERS[1])
}

fn desired_pod(order: Order, shape: Shape) -> DesiredPod {
    let action = match order.wanted {
        Wanted::Run(runs) => {
            let named = CONTAINERS.iter().zip(runs);
            let desired = named.filter_map(|(name, run)| {
                let (restart_count, is_to_stop) = run?;
                Some(DesiredRun {
                    container: (*name).to_owned(),
                    restart_count,
                    delay: Duration::ZERO,
                    stop: is_to_stop.then_some(Duration::ZERO),
                })
            });
            DesiredAction::Run { containers: desired.collect(), is_single: shape == Shape::Single }
        }
        Wanted::Stop => DesiredAction::Stop { grace: Duration::ZERO },
    };
    DesiredPod { pod: POD, binding_revision: Revision(order.binding), action }
}

impl Model for Orders {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            revision: 1,
            held: Held::Unbound,
            agent: HeldPods::default(),
            last_set: 0,
            begins: BTreeSet::new(),
            running: BTreeSet::new(),
            is_being_killed: BTreeSet::new(),
            begun: BTreeSet::new(),
            orders: BTreeSet::new(),
            sets: BTreeSet::new(),
            reports: BTreeSet::new(),
            has_heard_of_stop: false,
            called_off: BTreeSet::new(),
            is_second_agent: false,
            seen: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.held {
            Held::Unbound => actions.push(Action::Bind),
            Held::Bound { stop: Stop::All, .. } | Held::Ended => {}
            Held::Bound { .. } => actions.push(Action::Stop),
        }
        if self.shape.restarts_agent() && !state.is_second_agent && state.held != Held::Unbound {
            actions.push(Action::RestartAgent);
        }
        actions.push(Action::PutSetTogether);
        actions.extend(state.orders.iter().map(|order| Action::DeliverOrder(*order)));
        actions.extend(state.sets.iter().map(|(revision, desired)| Action::DeliverSet(*revision, *desired)));
        actions.extend(state.begins.iter().map(|run| Action::Begin(*run)));
        actions.extend(state.running.iter().map(|run| Action::End(*run)));
        actions.extend(state.reports.iter().map(|report| Action::DeliverReport(*report)));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Bind => state.bind(),
            Action::Stop => {
                let Held::Bound { binding, containers, .. } = state.held else { return None };
                state.revision += 1;
                state.held = Held::Bound { binding, containers, stop: Stop::All };
                state.order_what_is_wanted();
            }
            Action::PutSetTogether => drop(state.sets.insert((state.revision, state.desired()))),
            Action::DeliverOrder(order) => state.deliver_order(order, self.shape, self.mutant),
            Action::DeliverSet(revision, desired) => {
                state.deliver_set(revision, desired, self.shape, self.mutant)
            }
            Action::Begin(run) => {
                state.begins.remove(&run);
                state.begin(run, self.mutant);
            }
            Action::End(run) => state.end(run, self.mutant),
            Action::DeliverReport(report) => state.count(report, self.shape),
            Action::RestartAgent => state.restart_agent(self.mutant),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Orders>> {
        vec![
            Property::always(R6, |_, state: &State| state.held != Held::Ended || state.running.is_empty()),
            Property::always(A8_WANTED, |_, state: &State| !state.seen.contains(A8_WANTED)),
            Property::always(A14_ONCE, |_, state: &State| !state.seen.contains(A14_ONCE)),
            Property::always(A9_ANSWERED, |_, state: &State| state.is_stop_answered()),
            Property::sometimes(RESTARTED, |_, state: &State| state.seen.contains(RESTARTED)),
            Property::sometimes(STOPPED, |_, state: &State| state.seen.contains(STOPPED)),
            Property::sometimes(NOT_STARTED, |_, state: &State| state.seen.contains(NOT_STARTED)),
            Property::sometimes(ENDED, |_, state: &State| state.seen.contains(ENDED)),
            Property::sometimes(OLD_SET, |_, state: &State| state.seen.contains(OLD_SET)),
            Property::sometimes(LATE_ORDER, |_, state: &State| state.seen.contains(LATE_ORDER)),
            Property::sometimes(CALLED_OFF, |_, state: &State| state.seen.contains(CALLED_OFF)),
            Property::sometimes(BEGUN_ANEW, |_, state: &State| state.seen.contains(BEGUN_ANEW)),
            Property::sometimes(ADOPTED, |_, state: &State| state.seen.contains(ADOPTED)),
        ]
    }
}
