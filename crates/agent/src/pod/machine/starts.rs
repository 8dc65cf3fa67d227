//! How runs begin: sandbox, image, program, and the end of what was begun.
//!
//! Owns: back-off of what could not be made yet. Does not own: stops, hooks, probes.

use std::time::Duration;
use stint_lease::BootInstant;

use super::containers::{Container, Live, Phase, Stage, Stopping, Wait, waiting};
use super::events::{Hook, ImageProblem, Index, PodEffect, PodFact, RunEnd};
use super::{PodMachine, Sandbox};
use crate::limits;

/// Kubernetes' word for a container that refers to what is not there.
const CONFIG_ERROR: &str = "CreateContainerConfigError";

impl PodMachine {
    pub(super) fn begin(&mut self, index: Index, run: u32, effects: &mut Vec<PodEffect>) {
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
                    container.phase = Phase::Waiting { run, wait: Wait::Reference };
                    effects.push(waiting(index, run, CONFIG_ERROR, error));
                }
            }
            _ => effects.push(ended(RunEnd::NotStarted)),
        }
    }

    pub(super) fn open_failed(&mut self, message: &str, now: BootInstant, effects: &mut Vec<PodEffect>) {
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

    pub(super) fn prepared(
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

    pub(super) fn started(&mut self, index: Index, run: u32, now: BootInstant, effects: &mut Vec<PodEffect>) {
        let Some(Phase::Starting { run: starting, stop_at, is_killed }) = self.phase(index) else { return };
        let (starting, stop_at, is_killed) = (*starting, *stop_at, *is_killed);
        if starting != run {
            return;
        }
        self.containers[index].failures = 0;
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

    pub(super) fn ended(&mut self, index: Index, run: u32, mut end: RunEnd, effects: &mut Vec<PodEffect>) {
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

    pub(super) fn start_delayed(
        &mut self,
        index: Index,
        run: u32,
        message: String,
        now: BootInstant,
        effects: &mut Vec<PodEffect>,
    ) {
        let is_over = self.is_over();
        let Some(container) = self.containers.get_mut(index) else { return };
        let Phase::Starting { run: known, stop_at, is_killed } = &container.phase else { return };
        if *known != run {
            return;
        }
        if is_over || *is_killed || stop_at.is_some() {
            container.phase = Phase::Idle;
            let end = RunEnd::NotStarted;
            effects.push(PodEffect::Tell(PodFact::Ended { container: index, run, end }));
            return;
        }
        let pause = back_off(limits::START_BACK_OFF_MIN, container.failures).min(limits::START_BACK_OFF_MAX);
        container.failures = container.failures.saturating_add(1);
        let wait = Wait::Pause { until: now.plus(pause), said_at: None, message: String::new() };
        container.phase = Phase::Waiting { run, wait };
        effects.push(waiting(index, run, "CreateContainerError", message));
    }

    /// What a container refers to may be there by now.
    pub(super) fn renewed(&mut self, config_errors: Vec<String>, effects: &mut Vec<PodEffect>) {
        let all = self.containers.iter_mut().zip(&mut self.plan.containers).zip(config_errors);
        for (index, ((container, plan), error)) in all.enumerate() {
            if plan.config_error == error {
                continue;
            }
            plan.config_error.clone_from(&error);
            if let Phase::Waiting { run, wait: wait @ Wait::Reference } = &mut container.phase {
                if error.is_empty() {
                    *wait = Wait::Sandbox;
                } else {
                    effects.push(waiting(index, *run, CONFIG_ERROR, error));
                }
            }
        }
    }

    /// The lease has been renewed since, or everything is about to be killed.
    pub(super) fn too_late(&mut self, index: Index, run: u32, effects: &mut Vec<PodEffect>) {
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

    pub(super) fn advance_starts(&mut self, effects: &mut Vec<PodEffect>, now: BootInstant) {
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

/// Twice as long after each failure, up to a limit.
pub(super) fn back_off(least: Duration, failures: u32) -> Duration {
    least.saturating_mul(1 << failures.min(16)).min(limits::BACK_OFF_MAX)
}
