//! What is known of one container of the Pod, and what time makes due for it.
//!
//! Owns: the phases of a run, the stages of its stop. Does not own: what the other containers do.

use stint_lease::BootInstant;

use super::events::{Index, PodEffect, PodFact, RunEnd};
use crate::limits;
use crate::pod::plan::{ContainerPlan, ProbeKind};
use crate::pod::probes::ProbeState;

#[derive(Debug)]
pub(super) struct Container {
    pub phase: Phase,
    /// Failures in a row to fetch its image or to start it, or for the first of all to make the sandbox.
    pub failures: u32,
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Waiting { run: u32, wait: Wait },
    Starting { run: u32, stop_at: Option<BootInstant>, is_killed: bool },
    Live(Box<Live>),
}

#[derive(Debug)]
pub(super) enum Wait {
    /// For the sandbox.
    Sandbox,
    /// For its image.
    Image,
    /// For another try, and when to say that it waits for that.
    Pause { until: BootInstant, said_at: Option<BootInstant>, message: String },
    /// For what it refers to.
    Reference,
}

#[derive(Debug)]
pub(super) struct Live {
    pub run: u32,
    pub is_post_start_done: bool,
    pub probes: [Option<ProbeState>; 3],
    pub started: bool,
    pub ready: bool,
    pub stop: Option<Stopping>,
    /// Why the agent stops it, for people.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping {
    pub stage: Stage,
    pub kill_at: BootInstant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    PreStop,
    Terminated,
    Killed,
}

impl Container {
    pub(super) fn kill(&mut self, index: Index, effects: &mut Vec<PodEffect>) {
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

    pub(super) fn advance(&mut self, index: Index, now: BootInstant, effects: &mut Vec<PodEffect>) {
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
    pub(super) fn new(plan: &ContainerPlan, run: u32) -> Live {
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
    pub(super) fn begin_probes(&mut self, plan: &ContainerPlan, now: BootInstant) {
        self.probes = plan.probes.map(|probe| probe.map(|probe| ProbeState::new(probe, now)));
        self.started = plan.probe(ProbeKind::Startup).is_none();
        self.ready = self.started && plan.probe(ProbeKind::Readiness).is_none();
    }

    pub(super) fn readiness(&self, index: Index) -> PodEffect {
        let (started, ready) = (self.started, self.ready);
        PodEffect::Tell(PodFact::Readiness { container: index, run: self.run, started, ready })
    }

    /// The probes that are to be made now: until it is started only the one that says so, and then not that any more.
    pub(super) fn active(&self) -> impl Iterator<Item = ProbeKind> + use<> {
        let started = self.started;
        ProbeKind::ALL.into_iter().filter(move |kind| (*kind == ProbeKind::Startup) != started)
    }

    pub(super) fn advance_probes(&mut self, index: Index, now: BootInstant, effects: &mut Vec<PodEffect>) {
        for kind in self.active() {
            if let Some(probe) = &mut self.probes[kind as usize]
                && probe.begin(now)
            {
                effects.push(PodEffect::Probe { container: index, run: self.run, kind });
            }
        }
    }

    pub(super) fn wakeups(&self) -> impl Iterator<Item = BootInstant> + '_ {
        let stop = self.stop.filter(|stop| stop.stage != Stage::Killed).map(|stop| stop.kill_at);
        let probes = self.active().filter_map(|kind| self.probes[kind as usize].as_ref()?.due_at());
        stop.into_iter().chain(probes.filter(|_| self.stop.is_none()))
    }
}

pub(super) fn waiting(container: Index, run: u32, reason: &str, message: String) -> PodEffect {
    PodEffect::Tell(PodFact::Waiting { container, run, reason: reason.to_owned(), message })
}
