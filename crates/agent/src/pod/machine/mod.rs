//! One Pod on this node: state × event → effects.
//!
//! Owns: the order of what is done for its containers (sandbox, image, start, hooks, probes, stops), back-off of images, one
//! grace for the whole Pod, the end of each run. Does not own: which runs are wanted (the servers, A14), whether the lease
//! allows a start (A9), processes, the wire.
//!
//! Invariants: a run that was begun gives exactly one [`PodFact::Ended`]; after a stop or a kill no run of it is started; a
//! container is started only when nothing of an earlier run of it is left.

mod checks;
mod containers;
mod events;
mod starts;
mod stops;
#[cfg(test)]
mod tests;

pub use events::{Hook, ImageProblem, Index, PodEffect, PodEvent, PodFact, RunEnd};

use containers::{Container, Live, Phase, Wait};
use stint_lease::BootInstant;

use super::plan::PodPlan;

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
            PodEvent::StartDelayed { container, run, message } => {
                self.start_delayed(container, run, message, now, &mut effects);
            }
            PodEvent::Renewed { config_errors } => self.renewed(config_errors, &mut effects),
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

    fn phase(&self, index: Index) -> Option<&Phase> {
        self.containers.get(index).map(|container| &container.phase)
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
}
