//! One Pod on this node: state × event → effects.
//!
//! Owns: the order of what is done for its containers (sandbox, image, start, hooks, probes, stops), back-off of images, one
//! grace for the whole Pod, the end of each run. Does not own: which runs are wanted (the servers, A14), whether the lease
//! allows a start (A9), processes, the wire.
//!
//! Invariants: a run that was begun gives exactly one [`PodFact::Ended`]; after a stop or a kill no run of it is started; a
//! container is started only when nothing of an earlier run of it is left.

use std::time::Duration;
use stint_lease::BootInstant;
use stint_proto::v1;

use super::plan::{ContainerPlan, PodPlan, ProbeKind};
use super::probes::ProbeState;
use crate::limits;

/// Place of a container in [`PodPlan::containers`].
pub type Index = usize;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum PodEvent {
    /// This run is wanted now, and is in the journal.
    Begin {
        /// Which container.
        container: Index,
        /// Which run of it.
        run: u32,
    },
    /// One container is to stop.
    StopContainer {
        /// Which.
        container: Index,
        /// From now.
        grace: Duration,
    },
    /// All are to stop, within one grace. Said again, it can only come sooner.
    Stop {
        /// From now.
        grace: Duration,
    },
    /// All are to end without grace, and no further run is begun.
    Kill,
    /// The Pod can't be here: all are to end without grace, and that is the Pod's end.
    Fail {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
    /// What the containers share is there.
    Opened,
    /// It could not be made this time.
    OpenFailed {
        /// For people.
        message: String,
    },
    /// The container's image is there, or not.
    Prepared {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Why not.
        result: Result<(), ImageProblem>,
    },
    /// Its program runs.
    Started {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Nothing of it is left.
    Ended {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// How.
        end: RunEnd,
    },
    /// The start came too late for the lease as it was known then; nothing of it ran.
    TooLate {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// A hook is done.
    HookDone {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which hook.
        hook: Hook,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// A probe is done.
    Probed {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which probe.
        kind: ProbeKind,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// Time has passed.
    Tick,
}

/// Why an image is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageProblem {
    /// Kubernetes' word, such as `ErrImagePull`.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What a container does at a turn of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Right after the start.
    PostStart,
    /// Right before the stop.
    PreStop,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// It ran.
    Exited(v1::ContainerStateTerminated),
    /// It was killed because the lease ran out, by whoever kills then (A12).
    Fenced(v1::ContainerStateTerminated),
    /// It could not be started.
    StartFailed(v1::ContainerStateTerminated),
    /// A stop came first: nothing of this run ever was.
    NotStarted,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum PodEffect {
    /// Make what the containers share.
    Open,
    /// Fetch what the container needs; answered by [`PodEvent::Prepared`].
    Prepare {
        /// Which container.
        container: Index,
        /// For which run.
        run: u32,
    },
    /// Start it, if the lease allows; answered by [`PodEvent::Started`], [`PodEvent::Ended`] or [`PodEvent::TooLate`].
    Start {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Carry a hook out; answered by [`PodEvent::HookDone`].
    Hook {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which hook.
        hook: Hook,
    },
    /// Make a probe; answered by [`PodEvent::Probed`].
    Probe {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Send it its stop signal.
    Terminate {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Kill everything of it, also while it is being started.
    Kill {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Say something about the Pod.
    Tell(PodFact),
}

/// Something that others want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum PodFact {
    /// The run waits for something; not an end.
    Waiting {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Kubernetes' word.
        reason: String,
        /// For people.
        message: String,
    },
    /// Its program runs.
    Running {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// No startup probe and no hook has yet to pass.
        started: bool,
        /// No readiness probe has yet to pass either.
        ready: bool,
    },
    /// That has changed.
    Readiness {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// It counts as started.
        started: bool,
        /// It is ready.
        ready: bool,
    },
    /// Nothing of the run is left.
    Ended {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// How.
        end: RunEnd,
    },
    /// The Pod can't be here, and nothing of it is left.
    Failed {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct PodMachine {
    plan: PodPlan,
    sandbox: Sandbox,
    containers: Vec<Container>,
    /// When everything must have ended.
    stop_at: Option<BootInstant>,
    is_killed: bool,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sandbox {
    Closed,
    Opening,
    Retry { at: BootInstant },
    Open,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    message: String,
    is_told: bool,
}

#[derive(Debug)]
struct Container {
    phase: Phase,
    /// Failures in a row to fetch its image, or for the first of all to make the sandbox.
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Waiting { run: u32, wait: Wait },
    Starting { run: u32, stop_at: Option<BootInstant>, is_killed: bool },
    Live(Box<Live>),
}

#[derive(Debug)]
enum Wait {
    /// For the sandbox.
    Sandbox,
    /// For its image.
    Image,
    /// For another try, and when to say that it waits for that.
    Pause { until: BootInstant, said_at: Option<BootInstant>, message: String },
    /// It can't be made as it was written.
    Forever,
}

#[derive(Debug)]
struct Live {
    run: u32,
    is_post_start_done: bool,
    probes: [Option<ProbeState>; 3],
    started: bool,
    ready: bool,
    stop: Option<Stopping>,
    /// Why the agent stops it, for people.
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stopping {
    stage: Stage,
    kill_at: BootInstant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    PreStop,
    Terminated,
    Killed,
}

impl PodMachine {
    /// A Pod of which nothing was begun.
    pub fn new(plan: PodPlan) -> PodMachine {
        let containers =
            plan.containers.iter().map(|_| Container { phase: Phase::Idle, failures: 0 }).collect();
        PodMachine {
            plan,
            sandbox: Sandbox::Closed,
            containers,
            stop_at: None,
            is_killed: false,
            failure: None,
        }
    }

    /// What an earlier agent has left running: its sandbox, and the runs that go on in it. What their hooks and probes had come
    /// to is not known: hooks count as done, probes begin anew.
    pub fn adopted(plan: PodPlan, runs: &[(Index, u32)], now: BootInstant) -> PodMachine {
        let mut machine = PodMachine { sandbox: Sandbox::Open, ..PodMachine::new(plan) };
        for (index, run) in runs {
            let Some(plan) = machine.plan.containers.get(*index) else { continue };
            let mut live = Live::new(plan, *run);
            live.is_post_start_done = true;
            live.begin_probes(plan, now);
            machine.containers[*index].phase = Phase::Live(Box::new(live));
        }
        machine
    }

    /// True if no run goes on and none is on its way.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.containers.iter().all(|container| matches!(container.phase, Phase::Idle))
    }

    /// When it wants to be asked again at the latest.
    pub fn next_wakeup(&self) -> Option<BootInstant> {
        let retry = match self.sandbox {
            Sandbox::Retry { at } => Some(at),
            _ => None,
        };
        let containers = self.containers.iter().flat_map(|container| match &container.phase {
            Phase::Idle => Vec::new(),
            Phase::Waiting { wait: Wait::Pause { until, said_at, .. }, .. } => {
                [Some(*until), *said_at].into_iter().flatten().collect()
            }
            Phase::Waiting { .. } => Vec::new(),
            Phase::Starting { stop_at, is_killed, .. } => {
                stop_at.filter(|_| !is_killed).into_iter().collect()
            }
            Phase::Live(live) => live.wakeups().collect(),
        });
        let sidecars = self.stop_at.filter(|_| self.has_unstopped());
        retry.into_iter().chain(containers).chain(sidecars).min()
    }

    /// Takes one event.
    pub fn handle(&mut self, event: PodEvent, now: BootInstant) -> Vec<PodEffect> {
        let mut effects = Vec::new();
        match event {
            PodEvent::Begin { container, run } => self.begin(container, run, &mut effects),
            PodEvent::StopContainer { container, grace } => {
                self.stop_container(container, now, grace, "", &mut effects);
            }
            PodEvent::Stop { grace } if grace.is_zero() => self.kill(&mut effects),
            PodEvent::Stop { grace } => {
                let stop_at = now.plus(grace);
                self.stop_at = Some(self.stop_at.map_or(stop_at, |known| known.min(stop_at)));
                // Those that are being stopped already; the others in their turn.
                for index in 0..self.containers.len() {
                    if !self.is_unstopped(index) {
                        self.stop_container(index, now, grace, "", &mut effects);
                    }
                }
            }
            PodEvent::Kill => self.kill(&mut effects),
            PodEvent::Fail { reason, message } => {
                self.failure.get_or_insert(Failure { reason, message, is_told: false });
                self.kill(&mut effects);
            }
            PodEvent::Opened => self.sandbox = Sandbox::Open,
            PodEvent::OpenFailed { message } => self.open_failed(&message, now, &mut effects),
            PodEvent::Prepared { container, run, result } => {
                self.prepared(container, run, result, now, &mut effects);
            }
            PodEvent::Started { container, run } => self.started(container, run, now, &mut effects),
            PodEvent::Ended { container, run, end } => self.ended(container, run, end, &mut effects),
            PodEvent::TooLate { container, run } => self.too_late(container, run, &mut effects),
            PodEvent::HookDone { container, run, hook, result } => {
                self.hook_done(container, run, hook, result, now, &mut effects);
            }
            PodEvent::Probed { container, run, kind, result } => {
                self.probed(container, run, kind, result, now, &mut effects);
            }
            PodEvent::Tick => {}
        }
        self.advance(now, &mut effects);
        effects
    }

    fn begin(&mut self, index: Index, run: u32, effects: &mut Vec<PodEffect>) {
        let ended = |end| PodEffect::Tell(PodFact::Ended { container: index, run, end });
        let is_over = self.is_over();
        let Some(container) = self.containers.get_mut(index) else {
            effects.push(ended(RunEnd::NotStarted));
            return;
        };
        match &container.phase {
            // Said twice.
            Phase::Waiting { run: known, .. } | Phase::Starting { run: known, .. } if *known == run => {}
            Phase::Live(live) if live.run == run => {}
            Phase::Idle if !is_over => {
                container.phase = Phase::Waiting { run, wait: Wait::Sandbox };
                let error = self.plan.containers[index].config_error.clone();
                if !error.is_empty() {
                    container.phase = Phase::Waiting { run, wait: Wait::Forever };
                    effects.push(waiting(index, run, "CreateContainerConfigError", error));
                }
            }
            _ => effects.push(ended(RunEnd::NotStarted)),
        }
    }

    /// No further run is begun.
    fn is_over(&self) -> bool {
        self.stop_at.is_some() || self.is_killed
    }

    fn kill(&mut self, effects: &mut Vec<PodEffect>) {
        self.is_killed = true;
        for (index, container) in self.containers.iter_mut().enumerate() {
            container.kill(index, effects);
        }
    }

    fn open_failed(&mut self, message: &str, now: BootInstant, effects: &mut Vec<PodEffect>) {
        let failures = self.containers.iter().map(|container| container.failures).max().unwrap_or(0);
        let pause = back_off(limits::SANDBOX_BACK_OFF_MIN, failures);
        self.sandbox = Sandbox::Retry { at: now.plus(pause) };
        for (index, container) in self.containers.iter_mut().enumerate() {
            if let Phase::Waiting { run, wait: Wait::Sandbox } = container.phase {
                container.failures = failures.saturating_add(1);
                effects.push(waiting(index, run, "ContainerCreating", message.to_owned()));
            }
        }
    }

    fn prepared(
        &mut self,
        index: Index,
        run: u32,
        result: Result<(), ImageProblem>,
        now: BootInstant,
        effects: &mut Vec<PodEffect>,
    ) {
        let Some(container) = self.containers.get_mut(index) else { return };
        let Phase::Waiting { run: waits, wait: wait @ Wait::Image } = &mut container.phase else { return };
        if *waits != run {
            return;
        }
        match result {
            Ok(()) => {
                container.failures = 0;
                container.phase = Phase::Starting { run, stop_at: None, is_killed: false };
                effects.push(PodEffect::Start { container: index, run });
            }
            Err(ImageProblem { reason, message }) => {
                let pause = back_off(limits::IMAGE_BACK_OFF_MIN, container.failures);
                container.failures = container.failures.saturating_add(1);
                let is_pull = reason == "ErrImagePull";
                *wait = Wait::Pause {
                    until: now.plus(pause),
                    said_at: is_pull.then(|| now.plus(limits::IMAGE_PROBLEM_SHOWN)),
                    message: format!("waits {} s after {message}", pause.as_secs()),
                };
                effects.push(waiting(index, run, &reason, message));
            }
        }
    }

    fn started(&mut self, index: Index, run: u32, now: BootInstant, effects: &mut Vec<PodEffect>) {
        let Some(Phase::Starting { run: starting, stop_at, is_killed }) = self.phase(index) else { return };
        let (starting, stop_at, is_killed) = (*starting, *stop_at, *is_killed);
        if starting != run {
            return;
        }
        let plan = &self.plan.containers[index];
        let mut live = Live::new(plan, run);
        if live.is_post_start_done {
            live.begin_probes(plan, now);
        } else {
            effects.push(PodEffect::Hook { container: index, run, hook: Hook::PostStart });
        }
        let (started, ready) = (live.started, live.ready);
        effects.push(PodEffect::Tell(PodFact::Running { container: index, run, started, ready }));
        if is_killed {
            live.stop = Some(Stopping { stage: Stage::Killed, kill_at: now });
        }
        self.containers[index].phase = Phase::Live(Box::new(live));
        if let Some(stop_at) = stop_at {
            self.stop_container(index, now, stop_at.since(now), "", effects);
        }
    }

    fn ended(&mut self, index: Index, run: u32, mut end: RunEnd, effects: &mut Vec<PodEffect>) {
        let known = match self.phase(index) {
            Some(Phase::Starting { run: known, .. }) => *known,
            Some(Phase::Live(live)) => {
                if let RunEnd::Exited(termination) = &mut end
                    && termination.message.is_empty()
                {
                    termination.message.clone_from(&live.message);
                }
                live.run
            }
            _ => return,
        };
        if known == run {
            self.containers[index].phase = Phase::Idle;
            effects.push(PodEffect::Tell(PodFact::Ended { container: index, run, end }));
        }
    }

    /// The lease has been renewed since, or everything is about to be killed.
    fn too_late(&mut self, index: Index, run: u32, effects: &mut Vec<PodEffect>) {
        let Some(Phase::Starting { run: known, stop_at, .. }) = self.phase(index) else { return };
        if *known != run {
            return;
        }
        if self.is_over() || stop_at.is_some() {
            self.containers[index].phase = Phase::Idle;
            let end = RunEnd::NotStarted;
            effects.push(PodEffect::Tell(PodFact::Ended { container: index, run, end }));
        } else {
            effects.push(PodEffect::Start { container: index, run });
        }
    }

    fn hook_done(
        &mut self,
        index: Index,
        run: u32,
        hook: Hook,
        result: Result<(), String>,
        now: BootInstant,
        effects: &mut Vec<PodEffect>,
    ) {
        let Some(Phase::Live(live)) = self.containers.get_mut(index).map(|container| &mut container.phase)
        else {
            return;
        };
        if live.run != run {
            return;
        }
        match (hook, result) {
            (Hook::PreStop, _) => {
                // Failed or not, the stop goes on (as in Kubernetes).
                if let Some(stop @ Stopping { stage: Stage::PreStop, .. }) = &mut live.stop {
                    stop.stage = Stage::Terminated;
                    effects.push(PodEffect::Terminate { container: index, run });
                }
            }
            (Hook::PostStart, Ok(())) => {
                if live.is_post_start_done || live.stop.is_some() {
                    return;
                }
                live.is_post_start_done = true;
                live.begin_probes(&self.plan.containers[index], now);
                if live.started {
                    effects.push(live.readiness(index));
                }
            }
            (Hook::PostStart, Err(problem)) => {
                let grace = self.plan.grace;
                self.stop_container(index, now, grace, &format!("postStart hook failed: {problem}"), effects);
            }
        }
    }

    fn probed(
        &mut self,
        index: Index,
        run: u32,
        kind: ProbeKind,
        result: Result<(), String>,
        now: BootInstant,
        effects: &mut Vec<PodEffect>,
    ) {
        let Some(Phase::Live(live)) = self.containers.get_mut(index).map(|container| &mut container.phase)
        else {
            return;
        };
        if live.run != run || live.stop.is_some() {
            return;
        }
        let Some(probe) = &mut live.probes[kind as usize] else { return };
        let Some(holds) = probe.ended(result.is_ok()) else { return };
        let grace = probe.plan().grace;
        match (kind, holds) {
            (ProbeKind::Startup, true) => {
                live.started = true;
                match &mut live.probes[ProbeKind::Readiness as usize] {
                    Some(readiness) => readiness.hasten(now),
                    None => live.ready = true,
                }
                if let Some(liveness) = &mut live.probes[ProbeKind::Liveness as usize] {
                    liveness.skip_to(now);
                }
                effects.push(live.readiness(index));
            }
            (ProbeKind::Readiness, holds) => {
                if live.ready != holds {
                    live.ready = holds;
                    effects.push(live.readiness(index));
                }
            }
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                let problem = result.err().unwrap_or_default();
                let message = format!("{} probe failed: {problem}", kind.as_str());
                let grace = grace.unwrap_or(self.plan.grace);
                self.stop_container(index, now, grace, &message, effects);
            }
        }
    }

    fn phase(&self, index: Index) -> Option<&Phase> {
        self.containers.get(index).map(|container| &container.phase)
    }

    /// Stops one container; a stop that is under way can only become stricter.
    fn stop_container(
        &mut self,
        index: Index,
        now: BootInstant,
        grace: Duration,
        message: &str,
        effects: &mut Vec<PodEffect>,
    ) {
        let Some(container) = self.containers.get_mut(index) else { return };
        let kill_at = now.plus(grace);
        match &mut container.phase {
            Phase::Idle => {}
            Phase::Waiting { run, .. } => {
                let run = *run;
                container.phase = Phase::Idle;
                let end = RunEnd::NotStarted;
                effects.push(PodEffect::Tell(PodFact::Ended { container: index, run, end }));
            }
            Phase::Starting { stop_at, .. } => {
                *stop_at = Some(stop_at.map_or(kill_at, |known| known.min(kill_at)));
            }
            Phase::Live(live) => {
                if live.message.is_empty() {
                    message.clone_into(&mut live.message);
                }
                let run = live.run;
                match &mut live.stop {
                    Some(stop) => stop.kill_at = stop.kill_at.min(kill_at),
                    None => {
                        let has_hook = self.plan.containers[index].pre_stop && !grace.is_zero();
                        let (stage, effect) = match has_hook {
                            true => {
                                let hook = Hook::PreStop;
                                (Stage::PreStop, PodEffect::Hook { container: index, run, hook })
                            }
                            false => (Stage::Terminated, PodEffect::Terminate { container: index, run }),
                        };
                        live.stop = Some(Stopping { stage, kill_at });
                        effects.push(effect);
                    }
                }
            }
        }
    }

    /// What has become due or possible.
    fn advance(&mut self, now: BootInstant, effects: &mut Vec<PodEffect>) {
        self.advance_stop(now, effects);
        for (index, container) in self.containers.iter_mut().enumerate() {
            container.advance(index, now, effects);
        }
        self.advance_starts(effects, now);
        if let Some(failure) = &mut self.failure
            && !failure.is_told
            && self.containers.iter().all(|container| matches!(container.phase, Phase::Idle))
        {
            failure.is_told = true;
            let (reason, message) = (failure.reason.clone(), failure.message.clone());
            effects.push(PodEffect::Tell(PodFact::Failed { reason, message }));
        }
    }

    /// P6, P7: first the others, then the sidecars from the last to the first, all within the one grace; whose turn has not
    /// come when it is over has a last moment of its own.
    fn advance_stop(&mut self, now: BootInstant, effects: &mut Vec<PodEffect>) {
        let Some(stop_at) = self.stop_at.filter(|_| !self.is_killed) else { return };
        let grace = stop_at.since(now);
        let mut has_others = false;
        for index in 0..self.containers.len() {
            let is_sidecar = self.plan.containers[index].is_sidecar;
            if !is_sidecar && self.is_unstopped(index) {
                self.stop_container(index, now, grace, "", effects);
            }
            has_others |= !is_sidecar && !matches!(self.containers[index].phase, Phase::Idle);
        }
        if grace.is_zero() {
            for index in 0..self.containers.len() {
                if self.is_unstopped(index) {
                    self.stop_container(index, now, limits::LAST_GRACE, "", effects);
                }
            }
        } else if !has_others {
            let last = (0..self.containers.len())
                .rev()
                .find(|index| !matches!(self.containers[*index].phase, Phase::Idle));
            if let Some(index) = last.filter(|index| self.is_unstopped(*index)) {
                self.stop_container(index, now, grace, "", effects);
            }
        }
    }

    /// A stop of the Pod has not come to every container yet.
    fn has_unstopped(&self) -> bool {
        !self.is_killed && (0..self.containers.len()).any(|index| self.is_unstopped(index))
    }

    fn is_unstopped(&self, index: Index) -> bool {
        match &self.containers[index].phase {
            Phase::Live(live) => live.stop.is_none(),
            Phase::Starting { stop_at, .. } => stop_at.is_none(),
            Phase::Idle | Phase::Waiting { .. } => false,
        }
    }

    fn advance_starts(&mut self, effects: &mut Vec<PodEffect>, now: BootInstant) {
        let waits =
            |container: &Container| matches!(container.phase, Phase::Waiting { wait: Wait::Sandbox, .. });
        if !self.containers.iter().any(waits) {
            return;
        }
        let is_due = match self.sandbox {
            Sandbox::Closed => true,
            Sandbox::Retry { at } => at <= now,
            Sandbox::Opening => false,
            Sandbox::Open => {
                for (index, container) in self.containers.iter_mut().enumerate() {
                    let Phase::Waiting { run, wait: wait @ Wait::Sandbox } = &mut container.phase else {
                        continue;
                    };
                    let run = *run;
                    if self.plan.containers[index].needs_image {
                        *wait = Wait::Image;
                        effects.push(PodEffect::Prepare { container: index, run });
                    } else {
                        container.failures = 0;
                        container.phase = Phase::Starting { run, stop_at: None, is_killed: false };
                        effects.push(PodEffect::Start { container: index, run });
                    }
                }
                false
            }
        };
        if is_due {
            self.sandbox = Sandbox::Opening;
            effects.push(PodEffect::Open);
        }
    }
}

impl Container {
    fn kill(&mut self, index: Index, effects: &mut Vec<PodEffect>) {
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Waiting { run, .. } => {
                let run = *run;
                self.phase = Phase::Idle;
                let end = RunEnd::NotStarted;
                effects.push(PodEffect::Tell(PodFact::Ended { container: index, run, end }));
            }
            Phase::Starting { run, is_killed, .. } => {
                if !std::mem::replace(is_killed, true) {
                    effects.push(PodEffect::Kill { container: index, run: *run });
                }
            }
            Phase::Live(live) => {
                let is_killed = live.stop.is_some_and(|stop| stop.stage == Stage::Killed);
                if !is_killed {
                    // The moment does not matter any more.
                    let kill_at = BootInstant::default();
                    live.stop = Some(Stopping { stage: Stage::Killed, kill_at });
                    effects.push(PodEffect::Kill { container: index, run: live.run });
                }
            }
        }
    }

    fn advance(&mut self, index: Index, now: BootInstant, effects: &mut Vec<PodEffect>) {
        match &mut self.phase {
            Phase::Waiting { run, wait: wait @ Wait::Pause { .. } } => {
                let Wait::Pause { until, said_at, message } = wait else { return };
                if *until <= now {
                    *wait = Wait::Image;
                    effects.push(PodEffect::Prepare { container: index, run: *run });
                } else if said_at.is_some_and(|at| at <= now) {
                    *said_at = None;
                    effects.push(waiting(index, *run, "ImagePullBackOff", message.clone()));
                }
            }
            Phase::Starting { stop_at: Some(stop_at), .. } if *stop_at <= now => self.kill(index, effects),
            Phase::Live(live) => {
                if let Some(stop) = &mut live.stop {
                    match stop.stage {
                        Stage::PreStop if stop.kill_at <= now => {
                            // P6: what its hook has used up is given back once.
                            stop.stage = Stage::Terminated;
                            stop.kill_at = now.plus(limits::LAST_GRACE);
                            effects.push(PodEffect::Terminate { container: index, run: live.run });
                        }
                        Stage::Terminated if stop.kill_at <= now => self.kill(index, effects),
                        Stage::PreStop | Stage::Terminated | Stage::Killed => {}
                    }
                } else {
                    live.advance_probes(index, now, effects);
                }
            }
            Phase::Idle | Phase::Waiting { .. } | Phase::Starting { .. } => {}
        }
    }
}

impl Live {
    fn new(plan: &ContainerPlan, run: u32) -> Live {
        Live {
            run,
            is_post_start_done: !plan.post_start,
            probes: [None, None, None],
            started: false,
            ready: false,
            stop: None,
            message: String::new(),
        }
    }

    /// It is up, as far as hooks are concerned.
    fn begin_probes(&mut self, plan: &ContainerPlan, now: BootInstant) {
        self.probes = plan.probes.map(|probe| probe.map(|probe| ProbeState::new(probe, now)));
        self.started = plan.probe(ProbeKind::Startup).is_none();
        self.ready = self.started && plan.probe(ProbeKind::Readiness).is_none();
    }

    fn readiness(&self, index: Index) -> PodEffect {
        let (started, ready) = (self.started, self.ready);
        PodEffect::Tell(PodFact::Readiness { container: index, run: self.run, started, ready })
    }

    /// The probes that are to be made now: until it is started only the one that says so, and then not that any more.
    fn active(&self) -> impl Iterator<Item = ProbeKind> + use<> {
        let started = self.started;
        ProbeKind::ALL.into_iter().filter(move |kind| (*kind == ProbeKind::Startup) != started)
    }

    fn advance_probes(&mut self, index: Index, now: BootInstant, effects: &mut Vec<PodEffect>) {
        for kind in self.active() {
            if let Some(probe) = &mut self.probes[kind as usize]
                && probe.begin(now)
            {
                effects.push(PodEffect::Probe { container: index, run: self.run, kind });
            }
        }
    }

    fn wakeups(&self) -> impl Iterator<Item = BootInstant> + '_ {
        let stop = self.stop.filter(|stop| stop.stage != Stage::Killed).map(|stop| stop.kill_at);
        let probes = self.active().filter_map(|kind| self.probes[kind as usize].as_ref()?.due_at());
        stop.into_iter().chain(probes.filter(|_| self.stop.is_none()))
    }
}

fn waiting(container: Index, run: u32, reason: &str, message: String) -> PodEffect {
    PodEffect::Tell(PodFact::Waiting { container, run, reason: reason.to_owned(), message })
}

/// Twice as long after each failure, up to a limit.
fn back_off(least: Duration, failures: u32) -> Duration {
    least.saturating_mul(1 << failures.min(16)).min(limits::BACK_OFF_MAX)
}
