//! What one Pod's machine does, told by lists of effects (P6–P8, A9).

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stint_lease::BootInstant;
use stint_proto::v1;

use super::{Hook, ImageProblem, PodEffect, PodEvent, PodFact, PodMachine, RunEnd};
use crate::pod::plan::{ContainerPlan, PodPlan, ProbeKind, ProbePlan};

const GRACE: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> BootInstant {
    BootInstant(Duration::from_secs(seconds))
}

fn container(name: &str) -> ContainerPlan {
    ContainerPlan { name: name.to_owned(), ..ContainerPlan::default() }
}

fn probe(period: u64, failure_threshold: u32) -> Option<ProbePlan> {
    Some(ProbePlan {
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(period),
        success_threshold: 1,
        failure_threshold,
        grace: None,
    })
}

fn machine(containers: Vec<ContainerPlan>) -> PodMachine {
    PodMachine::new(PodPlan { containers, grace: GRACE })
}

/// A machine whose containers all run.
fn running(containers: Vec<ContainerPlan>) -> PodMachine {
    let count = containers.len();
    let mut machine = machine(containers);
    machine.handle(begin(0), at(0));
    machine.handle(PodEvent::Opened, at(0));
    machine.handle(PodEvent::Started { container: 0, run: 0 }, at(0));
    for index in 1..count {
        machine.handle(begin(index), at(0));
        machine.handle(PodEvent::Started { container: index, run: 0 }, at(0));
    }
    machine
}

fn begin(container: usize) -> PodEvent {
    PodEvent::Begin { container, run: 0 }
}

fn stop(seconds: u64) -> PodEvent {
    PodEvent::Stop { grace: Duration::from_secs(seconds) }
}

fn exited(container: usize) -> PodEvent {
    let termination = v1::ContainerStateTerminated { exit_code: 143, ..Default::default() };
    PodEvent::Ended { container, run: 0, end: RunEnd::Exited(termination) }
}

fn told_end(container: usize, message: &str) -> PodEffect {
    let termination =
        v1::ContainerStateTerminated { exit_code: 143, message: message.to_owned(), ..Default::default() };
    PodEffect::Tell(PodFact::Ended { container, run: 0, end: RunEnd::Exited(termination) })
}

fn told_not_started(container: usize) -> PodEffect {
    PodEffect::Tell(PodFact::Ended { container, run: 0, end: RunEnd::NotStarted })
}

fn told_running(container: usize, started: bool, ready: bool) -> PodEffect {
    PodEffect::Tell(PodFact::Running { container, run: 0, started, ready })
}

fn told_readiness(started: bool, ready: bool) -> PodEffect {
    PodEffect::Tell(PodFact::Readiness { container: 0, run: 0, started, ready })
}

fn told_waiting(reason: &str, message: &str) -> PodEffect {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    PodEffect::Tell(PodFact::Waiting { container: 0, run: 0, reason, message })
}

fn terminate(container: usize) -> PodEffect {
    PodEffect::Terminate { container, run: 0 }
}

fn kill(container: usize) -> PodEffect {
    PodEffect::Kill { container, run: 0 }
}

fn start(container: usize) -> PodEffect {
    PodEffect::Start { container, run: 0 }
}

fn hook(container: usize, hook: Hook) -> PodEffect {
    PodEffect::Hook { container, run: 0, hook }
}

fn hook_done(container: usize, hook: Hook, result: Result<(), &str>) -> PodEvent {
    PodEvent::HookDone { container, run: 0, hook, result: result.map_err(str::to_owned) }
}

fn make(kind: ProbeKind) -> PodEffect {
    PodEffect::Probe { container: 0, run: 0, kind }
}

fn probed(kind: ProbeKind, passed: bool) -> PodEvent {
    let result = if passed { Ok(()) } else { Err("exit code 1".to_owned()) };
    PodEvent::Probed { container: 0, run: 0, kind, result }
}

#[test]
fn containers_start_in_one_sandbox_which_is_tried_again() {
    let mut machine = machine(vec![container("a"), container("b")]);
    assert_eq!(machine.handle(begin(0), at(0)), [PodEffect::Open]);
    assert_eq!(machine.handle(begin(1), at(0)), []);
    assert_eq!(machine.handle(begin(1), at(0)), [], "said twice");
    let failed = PodEvent::OpenFailed { message: "no room".to_owned() };
    let told = |container, reason: &str, message: &str| {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        PodEffect::Tell(PodFact::Waiting { container, run: 0, reason, message })
    };
    let waits = [told(0, "ContainerCreating", "no room"), told(1, "ContainerCreating", "no room")];
    assert_eq!(machine.handle(failed, at(0)), waits);
    assert_eq!(machine.next_wakeup(), Some(at(1)));
    assert_eq!(machine.handle(PodEvent::Tick, at(1)), [PodEffect::Open]);
    assert_eq!(machine.handle(PodEvent::Opened, at(1)), [start(0), start(1)]);
    let started = PodEvent::Started { container: 0, run: 0 };
    assert_eq!(machine.handle(started, at(2)), [told_running(0, true, true)]);
    assert_eq!(machine.handle(exited(0), at(3)), [told_end(0, "")]);
    assert_eq!(machine.handle(exited(0), at(3)), [], "an end is told once");
    // A further run, in the same sandbox.
    let again = PodEvent::Begin { container: 0, run: 1 };
    assert_eq!(machine.handle(again, at(4)), [PodEffect::Start { container: 0, run: 1 }]);
    assert!(!machine.is_idle());
}

#[test]
fn an_image_that_is_not_there_is_tried_again_after_10_s_then_20() {
    let mut machine = machine(vec![ContainerPlan { needs_image: true, ..container("a") }]);
    machine.handle(begin(0), at(0));
    let prepare = [PodEffect::Prepare { container: 0, run: 0 }];
    assert_eq!(machine.handle(PodEvent::Opened, at(0)), prepare);
    let failed = |reason: &str| PodEvent::Prepared {
        container: 0,
        run: 0,
        result: Err(ImageProblem { reason: reason.to_owned(), message: "no such image".to_owned() }),
    };
    let why = [told_waiting("ErrImagePull", "no such image")];
    assert_eq!(machine.handle(failed("ErrImagePull"), at(1)), why);
    assert_eq!(machine.next_wakeup(), Some(at(6)));
    let backs_off = [told_waiting("ImagePullBackOff", "waits 10 s after no such image")];
    assert_eq!(machine.handle(PodEvent::Tick, at(6)), backs_off);
    assert_eq!(machine.handle(PodEvent::Tick, at(10)), []);
    assert_eq!(machine.handle(PodEvent::Tick, at(11)), prepare);
    machine.handle(failed("ErrImagePull"), at(12));
    machine.handle(PodEvent::Tick, at(17));
    assert_eq!(machine.handle(PodEvent::Tick, at(31)), []);
    assert_eq!(machine.handle(PodEvent::Tick, at(32)), prepare);
    // What no wait will mend says so all the time.
    let never = [told_waiting("InvalidImageName", "no such image")];
    assert_eq!(machine.handle(failed("InvalidImageName"), at(33)), never);
    assert_eq!(machine.next_wakeup(), Some(at(73)));
    assert_eq!(machine.handle(stop(30), at(40)), [told_not_started(0)]);
    assert!(machine.is_idle());
    assert_eq!(machine.handle(begin(0), at(41)), [told_not_started(0)], "after a stop");
}

#[test]
fn what_cannot_be_created_as_written_waits_until_it_is_stopped() {
    let error = "configmap \"c\" not found";
    let mut machine = machine(vec![ContainerPlan { config_error: error.to_owned(), ..container("a") }]);
    assert_eq!(machine.handle(begin(0), at(0)), [told_waiting("CreateContainerConfigError", error)]);
    assert_eq!((machine.next_wakeup(), machine.is_idle()), (None, false));
    assert_eq!(machine.handle(PodEvent::Kill, at(1)), [told_not_started(0)]);
}

#[test]
fn p6_hooks_signal_and_kill_share_one_grace() {
    let mut machine = running(vec![ContainerPlan { pre_stop: true, ..container("a") }]);
    assert_eq!(machine.handle(stop(30), at(10)), [hook(0, Hook::PreStop)]);
    assert_eq!(machine.handle(hook_done(0, Hook::PreStop, Ok(())), at(25)), [terminate(0)]);
    assert_eq!(machine.handle(PodEvent::Tick, at(39)), []);
    assert_eq!(machine.next_wakeup(), Some(at(40)));
    assert_eq!(machine.handle(PodEvent::Tick, at(40)), [kill(0)]);
    assert_eq!(machine.handle(exited(0), at(41)), [told_end(0, "")]);
    assert_eq!((machine.next_wakeup(), machine.is_idle()), (None, true));
}

#[test]
fn p6_a_hook_that_uses_up_the_grace_leaves_two_seconds_and_a_failed_one_stops_nothing() {
    let mut machine = running(vec![ContainerPlan { pre_stop: true, ..container("a") }]);
    machine.handle(stop(30), at(10));
    assert_eq!(machine.handle(PodEvent::Tick, at(40)), [terminate(0)]);
    assert_eq!(machine.handle(hook_done(0, Hook::PreStop, Ok(())), at(41)), [], "too late");
    assert_eq!(machine.handle(PodEvent::Tick, at(42)), [kill(0)]);
    let mut machine = running(vec![ContainerPlan { pre_stop: true, ..container("a") }]);
    machine.handle(stop(30), at(10));
    assert_eq!(machine.handle(hook_done(0, Hook::PreStop, Err("exit code 1")), at(11)), [terminate(0)]);
}

#[test]
fn p6_a_stop_can_only_become_stricter_and_without_grace_it_kills() {
    let mut machine = running(vec![container("a")]);
    assert_eq!(machine.handle(stop(30), at(0)), [terminate(0)]);
    assert_eq!(machine.handle(stop(300), at(1)), []);
    assert_eq!(machine.next_wakeup(), Some(at(30)));
    assert_eq!(machine.handle(stop(5), at(2)), []);
    assert_eq!(machine.next_wakeup(), Some(at(7)));
    assert_eq!(machine.handle(stop(0), at(3)), [kill(0)]);
    assert_eq!(machine.handle(PodEvent::Kill, at(3)), [], "killed once");
}

#[test]
fn p7_sidecars_are_stopped_last_in_reverse_order_within_the_one_grace() {
    let sidecar = |name| ContainerPlan { is_sidecar: true, ..container(name) };
    let mut machine = running(vec![sidecar("s1"), sidecar("s2"), container("a"), container("b")]);
    assert_eq!(machine.handle(stop(30), at(0)), [terminate(2), terminate(3)]);
    assert_eq!(machine.handle(exited(3), at(1)), [told_end(3, "")]);
    assert_eq!(machine.handle(exited(2), at(2)), [told_end(2, ""), terminate(1)]);
    assert_eq!(machine.handle(exited(1), at(3)), [told_end(1, ""), terminate(0)]);
    assert_eq!(machine.next_wakeup(), Some(at(30)));
    assert_eq!(machine.handle(PodEvent::Tick, at(30)), [kill(0)]);
    // One that holds the others up.
    let mut machine = running(vec![sidecar("s1"), sidecar("s2"), container("a")]);
    machine.handle(stop(30), at(0));
    assert_eq!(machine.handle(PodEvent::Tick, at(30)), [terminate(0), terminate(1), kill(2)]);
    assert_eq!(machine.handle(PodEvent::Tick, at(32)), [kill(0), kill(1)]);
}

#[test]
fn a_stop_while_a_container_is_being_started_comes_to_it_afterwards() {
    let mut machine = machine(vec![container("a")]);
    machine.handle(begin(0), at(0));
    machine.handle(PodEvent::Opened, at(0));
    assert_eq!(machine.handle(stop(30), at(1)), []);
    let started = PodEvent::Started { container: 0, run: 0 };
    assert_eq!(machine.handle(started, at(2)), [told_running(0, true, true), terminate(0)]);
    assert_eq!(machine.handle(PodEvent::Tick, at(31)), [kill(0)]);
}

#[test]
fn a9_a_start_that_came_too_late_is_made_again_unless_it_is_not_wanted_any_more() {
    let mut one = machine(vec![container("a")]);
    one.handle(begin(0), at(0));
    one.handle(PodEvent::Opened, at(0));
    let too_late = PodEvent::TooLate { container: 0, run: 0 };
    assert_eq!(one.handle(too_late.clone(), at(1)), [start(0)]);
    assert_eq!(one.handle(PodEvent::Kill, at(1)), [kill(0)]);
    assert_eq!(one.handle(too_late, at(1)), [told_not_started(0)]);
}

#[test]
fn a_hook_after_the_start_holds_probes_up_and_its_failure_stops_the_container() {
    let plan = ContainerPlan { post_start: true, probes: [None, None, probe(10, 3)], ..container("a") };
    let mut one = machine(vec![plan.clone()]);
    one.handle(begin(0), at(0));
    one.handle(PodEvent::Opened, at(0));
    let started = PodEvent::Started { container: 0, run: 0 };
    let told = [hook(0, Hook::PostStart), told_running(0, false, false)];
    assert_eq!(one.handle(started.clone(), at(1)), told);
    assert_eq!(one.handle(PodEvent::Tick, at(5)), []);
    let done = [told_readiness(true, false), make(ProbeKind::Readiness)];
    assert_eq!(one.handle(hook_done(0, Hook::PostStart, Ok(())), at(6)), done);
    let mut one = machine(vec![plan]);
    one.handle(begin(0), at(0));
    one.handle(PodEvent::Opened, at(0));
    one.handle(started, at(1));
    let failed = hook_done(0, Hook::PostStart, Err("exit code 9"));
    assert_eq!(one.handle(failed, at(2)), [terminate(0)]);
    assert_eq!(one.next_wakeup(), Some(at(32)), "the Pod's grace");
    assert_eq!(one.handle(exited(0), at(3)), [told_end(0, "postStart hook failed: exit code 9")]);
}

#[test]
fn the_startup_probe_gates_the_others_and_each_does_its_own() {
    let probes = [probe(10, 3), probe(10, 2), probe(5, 1)];
    let mut machine = running(vec![ContainerPlan { probes, ..container("a") }]);
    // Made at the start already.
    assert_eq!(machine.handle(probed(ProbeKind::Startup, false), at(1)), []);
    assert_eq!(machine.next_wakeup(), Some(at(10)));
    assert_eq!(machine.handle(PodEvent::Tick, at(10)), [make(ProbeKind::Startup)]);
    let started = [told_readiness(true, false), make(ProbeKind::Readiness)];
    assert_eq!(machine.handle(probed(ProbeKind::Startup, true), at(11)), started);
    assert_eq!(machine.handle(probed(ProbeKind::Readiness, true), at(12)), [told_readiness(true, true)]);
    assert_eq!(machine.next_wakeup(), Some(at(16)));
    assert_eq!(machine.handle(PodEvent::Tick, at(16)), [make(ProbeKind::Readiness)]);
    assert_eq!(machine.handle(probed(ProbeKind::Readiness, false), at(16)), [told_readiness(true, false)]);
    assert_eq!(machine.handle(PodEvent::Tick, at(20)), [make(ProbeKind::Liveness)]);
    assert_eq!(machine.handle(probed(ProbeKind::Liveness, false), at(20)), []);
    let both = [make(ProbeKind::Liveness), make(ProbeKind::Readiness)];
    assert_eq!(machine.handle(PodEvent::Tick, at(30)), both);
    assert_eq!(machine.handle(probed(ProbeKind::Liveness, false), at(30)), [terminate(0)]);
    assert_eq!(machine.handle(probed(ProbeKind::Readiness, true), at(30)), [], "it is being stopped");
    assert_eq!(machine.next_wakeup(), Some(at(60)));
    assert_eq!(machine.handle(exited(0), at(31)), [told_end(0, "liveness probe failed: exit code 1")]);
}

#[test]
fn p4_a_pod_that_cannot_be_here_is_said_to_have_failed_once_nothing_is_left() {
    let mut machine = running(vec![container("a"), container("b")]);
    let (reason, message) = ("Evicted".to_owned(), "uses too much".to_owned());
    let fail = PodEvent::Fail { reason: reason.clone(), message: message.clone() };
    assert_eq!(machine.handle(fail.clone(), at(1)), [kill(0), kill(1)]);
    assert_eq!(machine.handle(fail, at(1)), []);
    assert_eq!(machine.handle(exited(0), at(2)), [told_end(0, "")]);
    let failed = PodEffect::Tell(PodFact::Failed { reason, message });
    assert_eq!(machine.handle(exited(1), at(2)), [told_end(1, ""), failed]);
    assert_eq!(machine.handle(PodEvent::Tick, at(3)), []);
}

#[test]
fn what_an_earlier_agent_left_is_probed_and_stopped_as_any_other() {
    let plan = ContainerPlan { post_start: true, probes: [None, probe(10, 1), None], ..container("a") };
    let pod = PodPlan { containers: vec![plan, container("b")], grace: GRACE };
    let mut machine = PodMachine::adopted(pod, &[(0, 3)], at(100));
    assert_eq!(
        machine.handle(PodEvent::Tick, at(100)),
        [PodEffect::Probe { container: 0, run: 3, kind: ProbeKind::Liveness }]
    );
    assert_eq!(machine.handle(begin(1), at(101)), [start(1)], "in the sandbox that is there");
    let told = [PodEffect::Terminate { container: 0, run: 3 }];
    assert_eq!(machine.handle(stop(10), at(102)), told);
}

/// What a driver would answer, at random and in any order.
#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Stop(u64),
    StopContainer(usize, u64),
    Kill,
    Fail,
    Pass(u64),
    /// One of the answers that are due.
    Answer(prop::sample::Index, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..4).prop_map(Step::Begin),
        1 => (0_u64..40).prop_map(Step::Stop),
        1 => ((0_usize..4), (0_u64..40)).prop_map(|(index, grace)| Step::StopContainer(index, grace)),
        1 => Just(Step::Kill),
        1 => Just(Step::Fail),
        6 => (0_u64..30).prop_map(Step::Pass),
        20 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(which, how)| Step::Answer(which, how)),
    ];
    prop::collection::vec(step, 1..150)
}

/// The world around a machine: what it has asked for and was not answered yet.
#[derive(Default)]
struct World {
    due: Vec<PodEffect>,
    /// Processes that exist, or may come to exist.
    alive: BTreeMap<usize, u32>,
    killed: BTreeSet<(usize, u32)>,
    begun: BTreeSet<(usize, u32)>,
    ended: BTreeSet<(usize, u32)>,
    is_over: bool,
}

impl World {
    fn take(&mut self, effects: Vec<PodEffect>) {
        for effect in effects {
            match &effect {
                PodEffect::Start { container, run } => {
                    assert!(!self.is_over, "a start after the stop");
                    let known = self.alive.insert(*container, *run);
                    assert!(known.is_none_or(|known| known == *run), "two runs of one container");
                }
                PodEffect::Kill { container, run } => {
                    assert_eq!(self.alive.get(container), Some(run), "kills what is not there");
                    assert!(self.killed.insert((*container, *run)), "killed twice");
                }
                PodEffect::Tell(PodFact::Ended { container, run, .. }) => {
                    assert!(self.begun.contains(&(*container, *run)), "an end without a begin");
                    assert!(self.ended.insert((*container, *run)), "two ends");
                    assert!(!self.alive.contains_key(container), "an end while it runs");
                    continue;
                }
                PodEffect::Tell(PodFact::Failed { .. }) => {
                    assert!(self.alive.is_empty() && self.begun == self.ended, "something is left");
                    continue;
                }
                PodEffect::Tell(_) => continue,
                _ => {}
            }
            self.due.push(effect);
        }
    }

    fn answer(&mut self, which: usize, how: u8) -> Option<PodEvent> {
        let effect = self.due.remove(which);
        let result = || if how.is_multiple_of(3) { Err("no".to_owned()) } else { Ok(()) };
        Some(match effect {
            PodEffect::Open if how.is_multiple_of(3) => PodEvent::OpenFailed { message: "no".to_owned() },
            PodEffect::Open => PodEvent::Opened,
            PodEffect::Prepare { container, run } => PodEvent::Prepared {
                container,
                run,
                result: result()
                    .map_err(|message| ImageProblem { reason: "ErrImagePull".to_owned(), message }),
            },
            PodEffect::Start { container, run } => match how % 5 {
                _ if self.alive.get(&container) != Some(&run) => return None,
                0 => {
                    self.alive.remove(&container);
                    let end = RunEnd::StartFailed(v1::ContainerStateTerminated::default());
                    PodEvent::Ended { container, run, end }
                }
                1 => {
                    self.alive.remove(&container);
                    PodEvent::TooLate { container, run }
                }
                2 => {
                    self.alive.remove(&container);
                    PodEvent::StartDelayed { container, run, message: "no memory".to_owned() }
                }
                // Ends when it is asked to, or by itself.
                _ => {
                    self.due.push(PodEffect::Terminate { container, run });
                    PodEvent::Started { container, run }
                }
            },
            PodEffect::Hook { container, run, hook } => {
                PodEvent::HookDone { container, run, hook, result: result() }
            }
            PodEffect::Probe { container, run, kind } => {
                PodEvent::Probed { container, run, kind, result: result() }
            }
            PodEffect::Terminate { container, run } | PodEffect::Kill { container, run } => {
                if self.alive.get(&container) != Some(&run) {
                    return None;
                }
                self.alive.remove(&container);
                let end = RunEnd::Exited(v1::ContainerStateTerminated::default());
                PodEvent::Ended { container, run, end }
            }
            PodEffect::Tell(_) => return None,
        })
    }
}

proptest! {
    /// A9, P6: whatever happens in whatever order, nothing is started after a stop, and each run that was begun has just one
    /// end, which comes when nothing of it is left; a stop ends everything in bounded time.
    #[test]
    fn every_run_has_one_end_and_nothing_starts_after_a_stop(steps in steps()) {
        let sidecar = ContainerPlan { is_sidecar: true, pre_stop: true, ..container("s") };
        let plan = ContainerPlan {
            post_start: true,
            needs_image: true,
            probes: [probe(7, 2), probe(5, 1), probe(3, 1)],
            ..container("a")
        };
        let mut machine = machine(vec![sidecar, plan, container("b"), ContainerPlan { pre_stop: true, ..container("c") }]);
        let mut world = World::default();
        let mut now = at(0);
        let mut runs = [0_u32; 4];
        for step in steps {
            let event = match step {
                Step::Begin(container) => {
                    // The servers order a further run once they know of the end of the one before.
                    if world.begun.contains(&(container, runs[container])) {
                        if !world.ended.contains(&(container, runs[container])) {
                            continue;
                        }
                        runs[container] += 1;
                    }
                    world.begun.insert((container, runs[container]));
                    PodEvent::Begin { container, run: runs[container] }
                }
                Step::Stop(grace) => { world.is_over = true; stop(grace) }
                Step::StopContainer(container, grace) => {
                    PodEvent::StopContainer { container, grace: Duration::from_secs(grace) }
                }
                Step::Kill => { world.is_over = true; PodEvent::Kill }
                Step::Fail => {
                    world.is_over = true;
                    PodEvent::Fail { reason: "Evicted".to_owned(), message: String::new() }
                }
                Step::Pass(seconds) => { now = now.plus(Duration::from_secs(seconds)); PodEvent::Tick }
                Step::Answer(_, _) if world.due.is_empty() => continue,
                Step::Answer(which, how) => {
                    let which = which.index(world.due.len());
                    match world.answer(which, how) { Some(event) => event, None => continue }
                }
            };
            world.take(machine.handle(event, now));
        }
        // Nobody answers but to a kill; time passes.
        world.is_over = true;
        world.take(machine.handle(stop(10), now));
        for _ in 0..40 {
            now = now.plus(Duration::from_secs(1));
            world.take(machine.handle(PodEvent::Tick, now));
            let kills = world.due.iter().position(|effect| matches!(effect, PodEffect::Kill { .. }));
            if let Some(event) = kills.and_then(|which| world.answer(which, 3)) {
                world.take(machine.handle(event, now));
            }
        }
        prop_assert!(machine.is_idle(), "{machine:?}");
        prop_assert_eq!(world.begun, world.ended);
    }
}

#[test]
fn a_start_that_the_node_could_not_make_is_tried_again_and_never_counted() {
    let mut machine = machine(vec![container("a")]);
    machine.handle(begin(0), at(0));
    assert_eq!(machine.handle(PodEvent::Opened, at(0)), [start(0)]);
    let delayed =
        || PodEvent::StartDelayed { container: 0, run: 0, message: "too many open files".to_owned() };
    let why = [told_waiting("CreateContainerError", "too many open files")];
    let prepare = [PodEffect::Prepare { container: 0, run: 0 }];
    let prepared = || PodEvent::Prepared { container: 0, run: 0, result: Ok(()) };
    assert_eq!(machine.handle(delayed(), at(0)), why);
    assert_eq!(machine.next_wakeup(), Some(at(1)));
    assert_eq!(machine.handle(PodEvent::Tick, at(1)), prepare);
    assert_eq!(machine.handle(prepared(), at(1)), [start(0)]);
    assert_eq!(machine.handle(delayed(), at(1)), why);
    assert_eq!(machine.next_wakeup(), Some(at(3)), "later each time");
    assert_eq!(machine.handle(PodEvent::Tick, at(3)), prepare);
    assert_eq!(machine.handle(prepared(), at(3)), [start(0)]);
    // A stop comes first.
    assert_eq!(machine.handle(stop(30), at(3)), []);
    assert_eq!(machine.handle(delayed(), at(4)), [told_not_started(0)]);
    assert!(machine.is_idle());
}

#[test]
fn a_container_that_refers_to_what_is_not_there_begins_once_it_is() {
    let missing = ContainerPlan { config_error: "no map".to_owned(), ..container("a") };
    let mut machine = machine(vec![missing, container("b")]);
    let waits = |message: &str| [told_waiting("CreateContainerConfigError", message)];
    assert_eq!(machine.handle(begin(0), at(0)), waits("no map"));
    let renewed = |error: &str| PodEvent::Renewed { config_errors: vec![error.to_owned(), String::new()] };
    assert_eq!(machine.handle(renewed("no map"), at(1)), [], "said once");
    assert_eq!(machine.handle(renewed("no key"), at(2)), waits("no key"));
    assert_eq!(machine.handle(renewed(""), at(3)), [PodEffect::Open]);
    assert_eq!(machine.handle(PodEvent::Opened, at(3)), [start(0)]);
}
