//! What the worker tells of itself when it is asked.

use stint_api::{DISK_PRESSURE, MEMORY_PRESSURE, PodUid};
use stint_lease::LeaseState;
use stint_proto::v1;

use super::{PodState, Worker, now};
use crate::metrics::{AgentFigures, WorkerFacts};
use crate::pod::RunEnd;

/// Conditions that are told whether they hold or not; others only while the node says them.
const PRESSURES: [&str; 2] = [DISK_PRESSURE, MEMORY_PRESSURE];

impl Worker {
    /// Asks this worker, from wherever.
    pub(super) fn figures(&self) -> AgentFigures {
        AgentFigures::new(self.questions.0.clone(), &self.counters, &self.config.data_dir)
    }

    pub(super) fn facts(&self) -> WorkerFacts {
        let mut facts = WorkerFacts {
            closing: self.closing.len(),
            lease_left: match self.lease.state() {
                LeaseState::Held { deadline, .. } => Some(deadline.since(now())),
                LeaseState::Lost { .. } | LeaseState::Unregistered => None,
            },
            has_session: self.is_established(),
            reports_waiting: self.outbox.len(),
            ..WorkerFacts::default()
        };
        // Each is there from the beginning on, at 0.
        for runtime in self.surroundings.runtimes.iter() {
            for phase in ["Pending", "Running", "Ended"] {
                facts.pods.insert((phase, runtime.name()), 0);
            }
        }
        for (pod, state) in &self.pods {
            let Some(template) = state.template.as_deref() else { continue };
            let Some(runtime) = self.surroundings.runtime_of(template) else { continue };
            let journaled = self.memory.started.get(pod).map(|started| &started.runs);
            let has_ended =
                journaled.is_some_and(|runs| !runs.is_empty() && runs.values().all(|run| run.has_ended));
            *facts.pods.entry((phase_of(state, has_ended), runtime.name())).or_default() += 1;
        }
        for condition in PRESSURES {
            facts.conditions.insert(condition.to_owned(), false);
        }
        for condition in self.conditions.borrow().iter() {
            let holds = condition.status() == v1::ConditionStatus::True;
            facts.conditions.insert(condition.r#type.clone(), holds);
        }
        facts
    }

    /// A container of a Pod runs.
    pub(super) fn count_running(&mut self, pod: PodUid, container: &str) {
        let state = self.pods.get_mut(&pod);
        if let Some(begun_at) = state.and_then(|state| state.starting.remove(container)) {
            self.counters.start_seconds.observe(now().since(begun_at).as_secs_f64());
        }
    }

    /// A run of a Pod has ended.
    pub(super) fn count_end(&mut self, pod: PodUid, end: &RunEnd, lease_expired: bool) {
        let outcome = match end {
            RunEnd::Exited(termination) if termination.exit_code == 0 => "Succeeded",
            RunEnd::Fenced(_) => "LeaseExpired",
            _ if lease_expired => "LeaseExpired",
            RunEnd::Exited(_) => "Failed",
            RunEnd::StartFailed(_) => "StartFailed",
            RunEnd::NotStarted => "NotStarted",
        };
        tracing::debug!(node = %self.config.name, pod.uid = %pod, outcome, "a run has ended");
        self.counters.run_ended(outcome);
    }
}

/// `has_ended`: all runs that were begun so far.
fn phase_of(state: &PodState, has_ended: bool) -> &'static str {
    match state.has_runs() {
        // Others of its containers may begin, or begin anew, meanwhile.
        true if state.live.len() > state.starting.len() => "Running",
        true => "Pending",
        // It is held until the servers say otherwise, or that a container runs again.
        false if has_ended => "Ended",
        false => "Pending",
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunKey;
    use super::*;

    #[test]
    fn a_pod_runs_while_one_of_its_containers_does() {
        let mut state = PodState::default();
        let begin = |state: &mut PodState, container: &str, restart_count| {
            state.live.insert(container.to_owned(), restart_count);
            state.starting.insert(container.to_owned(), now());
        };
        assert_eq!(phase_of(&state, false), "Pending");
        begin(&mut state, "app", 0);
        begin(&mut state, "side", 0);
        assert_eq!(phase_of(&state, false), "Pending");
        state.starting.remove("app");
        assert_eq!(phase_of(&state, false), "Running", "whether the other one runs or not");
        state.starting.remove("side");
        let side = |restart_count| RunKey { container: "side".to_owned(), restart_count };
        state.remove_run(&side(0));
        begin(&mut state, "side", 1);
        assert_eq!(phase_of(&state, false), "Running", "also while the other one begins anew");
        state.remove_run(&side(0));
        assert_eq!(state.live.len(), 2, "it is another run");
        state.remove_run(&RunKey { container: "app".to_owned(), restart_count: 0 });
        assert_eq!(phase_of(&state, false), "Pending");
        state.remove_run(&side(1));
        assert_eq!((phase_of(&state, true), state.starting.len()), ("Ended", 0));
    }
}
