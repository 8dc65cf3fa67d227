//! What hooks and probes lead to (P8).
//!
//! Owns: what their results mean for a container. Does not own: making them.

use stint_lease::BootInstant;

use super::PodMachine;
use super::containers::{Phase, Stage, Stopping};
use super::events::{Hook, Index, PodEffect};
use crate::pod::plan::ProbeKind;

impl PodMachine {
    pub(super) fn hook_done(
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

    pub(super) fn probed(
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
}
