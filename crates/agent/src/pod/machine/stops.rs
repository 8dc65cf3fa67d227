//! How runs are ended: one grace for the whole Pod, sidecars last (P6, P7).
//!
//! Owns: the order of stops. Does not own: what has ended by itself.

use std::time::Duration;
use stint_lease::BootInstant;

use super::PodMachine;
use super::containers::{Phase, Stage, Stopping};
use super::events::{Hook, Index, PodEffect, PodFact, RunEnd};
use crate::limits;

impl PodMachine {
    /// No further run is begun.
    pub(super) fn is_over(&self) -> bool {
        self.stop_at.is_some() || self.is_killed
    }

    pub(super) fn kill(&mut self, effects: &mut Vec<PodEffect>) {
        self.is_killed = true;
        for (index, container) in self.containers.iter_mut().enumerate() {
            container.kill(index, effects);
        }
    }

    /// Stops one container; a stop that is under way can only become stricter.
    pub(super) fn stop_container(
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

    /// P6, P7: first the others, then the sidecars from the last to the first, all within the one grace; whose turn has not
    /// come when it is over has a last moment of its own.
    pub(super) fn advance_stop(&mut self, now: BootInstant, effects: &mut Vec<PodEffect>) {
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
    pub(super) fn has_unstopped(&self) -> bool {
        !self.is_killed && (0..self.containers.len()).any(|index| self.is_unstopped(index))
    }

    pub(super) fn is_unstopped(&self, index: Index) -> bool {
        match &self.containers[index].phase {
            Phase::Live(live) => live.stop.is_none(),
            Phase::Starting { stop_at, .. } => stop_at.is_none(),
            Phase::Idle | Phase::Waiting { .. } => false,
        }
    }
}
