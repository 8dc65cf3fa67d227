//! What the worker tells of itself when it is asked.

use stint_api::{DISK_PRESSURE, MEMORY_PRESSURE, PodUid};
use stint_lease::LeaseState;
use stint_proto::v1;

use super::{Worker, now};
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
            let phase = match state.has_runs() {
                true if self.begun_at.contains_key(pod) => "Pending",
                true => "Running",
                // It is held until the servers say otherwise, or that a container runs again.
                false if has_ended => "Ended",
                false => "Pending",
            };
            *facts.pods.entry((phase, runtime.name())).or_default() += 1;
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

    /// A run of a Pod is handed over to its runtime.
    pub(super) fn count_start(&mut self, pod: PodUid) {
        self.counters.starts.inc();
        self.begun_at.insert(pod, now());
    }

    /// A container of a Pod runs.
    pub(super) fn count_running(&mut self, pod: PodUid) {
        if let Some(begun_at) = self.begun_at.remove(&pod) {
            self.counters.start_seconds.observe(now().since(begun_at).as_secs_f64());
        }
    }

    /// A run of a Pod has ended.
    pub(super) fn count_end(&mut self, pod: PodUid, end: &RunEnd, lease_expired: bool) {
        self.begun_at.remove(&pod);
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
