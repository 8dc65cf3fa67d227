//! The course of a Pod's containers: whose turn it is, what starts again, when the Pod is over (P1, P7–P10).
//!
//! Owns: pure functions of a Pod's record and its template's traits. Does not own: reports (module `pod_reports`), how Pods
//! are stopped and counted (module `pods`), limits of the Job (J61).
//!
//! Init containers run one after another, to their success; a sidecar lets the next one begin once it has started. Then all
//! other containers run at once. When those are over, or an init container has failed for good, the sidecars are stopped one
//! after another, the last first, and the Pod is over with the last of them.
//!
//! Invariants: a container that is [`ContainerRunState::Blocked`] or `Ended` was never ordered, or is known to run no more:
//! so a Pod without an outstanding container holds nothing on its node; a run that has ended is never wanted again.

use stint_api::{ContainerTermination, PodPhase, RestartRuleAction, Timestamp};

use crate::limits;
use crate::order::DesiredContainer;
use crate::record::{ContainerRecord, ContainerRunState, PodRecord};
use crate::traits::{ContainerTraits, PodTraits, Restarts, Role};

/// What follows the end of a run, as far as its container decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It stays ended.
    Stay,
    /// It is started again in place (P9).
    Restart,
    /// All containers are, from the first on (P10).
    RestartAll,
}

impl ContainerTraits {
    /// P9, P10: rules first, then the policy.
    pub(crate) fn after(&self, exit_code: i32) -> Next {
        let matches = |rule: &&stint_api::ContainerRestartRule| {
            rule.exit_codes.as_ref().is_some_and(|codes| codes.matches(exit_code))
        };
        match self.rules.iter().find(matches).map(|rule| &rule.action) {
            Some(RestartRuleAction::Restart) => return Next::Restart,
            Some(RestartRuleAction::RestartAllContainers) => return Next::RestartAll,
            Some(RestartRuleAction::Other(_)) | None => {}
        }
        match (self.restarts, self.role) {
            // An init container that has succeeded has done its work.
            (Restarts::Always, Role::Init) | (Restarts::OnFailure, _) if exit_code == 0 => Next::Stay,
            (Restarts::Never, _) => Next::Stay,
            (Restarts::Always | Restarts::OnFailure, _) => Next::Restart,
        }
    }
}

impl ContainerRecord {
    /// It may run, for all that is known: its end has to be heard of before its Pod is over.
    pub(crate) fn is_outstanding(&self) -> bool {
        matches!(self.state, ContainerRunState::Waiting { .. } | ContainerRunState::Running { .. })
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, ContainerRunState::Running { .. })
    }

    /// Its last run has ended with 0, and no further one is wanted.
    pub(crate) fn has_succeeded(&self) -> bool {
        let ended_well = self.termination.as_ref().is_some_and(|termination| termination.exit_code == 0);
        self.state == ContainerRunState::Ended && ended_well
    }

    /// The run that it stands at was ordered: it has used up its number.
    fn was_wanted(&self) -> bool {
        self.state != ContainerRunState::Blocked
    }

    /// P7, P8: those after it in the order need not wait for it.
    fn lets_pass(&self, role: Role) -> bool {
        match role {
            Role::Init => self.has_succeeded(),
            Role::Sidecar | Role::App => self.has_started,
        }
    }

    fn wait(&mut self) {
        self.state = ContainerRunState::Waiting { reason: String::new(), message: String::new() };
    }
}

/// The containers of a Pod that was just bound.
pub(crate) fn bind(pod: &mut PodRecord, traits: &PodTraits) {
    pod.containers = vec![ContainerRecord::default(); traits.containers.len()];
    advance(pod, traits);
}

/// Lets those containers run whose turn has come. True if there were any.
pub(crate) fn advance(pod: &mut PodRecord, traits: &PodTraits) -> bool {
    let mut opened = false;
    let mut inits = 0;
    for (container, traits) in pod.containers.iter_mut().zip(traits.containers.iter()) {
        if traits.role == Role::App {
            break;
        }
        inits += 1;
        if container.state == ContainerRunState::Blocked {
            container.wait();
            opened = true;
        }
        if !container.lets_pass(traits.role) {
            return opened;
        }
    }
    for container in pod.containers.iter_mut().skip(inits) {
        if container.state == ContainerRunState::Blocked {
            container.wait();
            opened = true;
        }
    }
    opened
}

/// The container at this place runs no more, and no further run of it is wanted.
pub(crate) fn settle(pod: &mut PodRecord, place: usize, termination: Option<ContainerTermination>) {
    let Some(container) = pod.containers.get_mut(place) else { return };
    container.state = ContainerRunState::Ended;
    container.restart_at = None;
    if let Some(termination) = termination {
        container.previous_termination = container.termination.replace(Box::new(termination));
    }
}

/// A further run of the container at this place is wanted, not before `restart_at`.
pub(crate) fn restart(pod: &mut PodRecord, place: usize, restart_at: Timestamp) {
    let Some(container) = pod.containers.get_mut(place) else { return };
    container.wait();
    container.restart_at = Some(restart_at);
    container.restart_count = container.restart_count.saturating_add(1);
}

/// P10: every container that was wanted is wanted once more, from the first on, not before `restart_at`. One whose turn had
/// not come since it was to begin anew still has that run before it. None must be outstanding.
pub(crate) fn restart_all(pod: &mut PodRecord, traits: &PodTraits, restart_at: Timestamp) {
    pod.restarting_all = false;
    pod.initialized_at = None;
    for container in pod.containers.iter_mut().filter(|container| container.was_wanted()) {
        container.state = ContainerRunState::Blocked;
        container.restart_count = container.restart_count.saturating_add(1);
        container.restart_at = Some(restart_at);
        container.has_started = false;
    }
    advance(pod, traits);
}

/// How many restarts [`restart_all`] would add (J61).
pub(crate) fn restarts_of_all(pod: &PodRecord) -> u64 {
    pod.containers.iter().filter(|container| container.was_wanted()).count() as u64
}

/// Restarts in place of all containers (J61).
pub(crate) fn restarts(pod: &PodRecord) -> u64 {
    pod.containers.iter().map(|container| u64::from(container.restart_count)).sum()
}

/// Restarts of the container that was restarted most (J28).
pub(crate) fn most_restarts(pod: &PodRecord) -> u32 {
    pod.containers.iter().map(|container| container.restart_count).max().unwrap_or(0)
}

/// True while something may run on the node.
pub(crate) fn is_outstanding(pod: &PodRecord) -> bool {
    pod.containers.iter().any(ContainerRecord::is_outstanding)
}

/// P1, P7: what the Pod was there for is over: an init container has failed for good, or all containers but sidecars have
/// ended. Whether it has succeeded.
pub(crate) fn main_over(pod: &PodRecord, traits: &PodTraits) -> Option<bool> {
    let mut succeeded = true;
    let mut ended = true;
    for (container, traits) in pod.containers.iter().zip(traits.containers.iter()) {
        let has_ended = container.state == ContainerRunState::Ended;
        match traits.role {
            Role::Init if has_ended && !container.has_succeeded() => return Some(false),
            Role::Init | Role::App => {
                ended &= has_ended;
                succeeded &= container.has_succeeded();
            }
            Role::Sidecar => {}
        }
    }
    ended.then_some(succeeded)
}

/// Whether a Pod that ends now has succeeded: all that it was there for has, and it did not fail as a whole (D5).
pub(crate) fn has_succeeded(pod: &PodRecord, traits: &PodTraits) -> bool {
    pod.reason.is_empty() && main_over(pod, traits) == Some(true)
}

/// Brings the Pod's own phase, readiness and what is known of its init containers up to its containers' states.
pub(crate) fn refresh(pod: &mut PodRecord, traits: &PodTraits, time: Timestamp) {
    let mut ready = !pod.containers.is_empty();
    let (mut has_init, mut is_initialized) = (false, true);
    for (container, traits) in pod.containers.iter().zip(traits.containers.iter()) {
        let is_ready = matches!(container.state, ContainerRunState::Running { ready: true, .. });
        ready &= traits.role == Role::Init || is_ready;
        // P1: until the init containers have done their work, the Pod is Pending.
        let has_run = container.is_running() || container.termination.is_some();
        if has_run {
            pod.started_at.get_or_insert(time);
        }
        if traits.role == Role::App && has_run && pod.phase == PodPhase::Pending {
            pod.phase = PodPhase::Running;
        }
        if traits.role != Role::App {
            has_init = true;
            is_initialized &= container.lets_pass(traits.role);
        }
    }
    if has_init && is_initialized {
        pod.initialized_at.get_or_insert(time);
    }
    if ready != pod.ready {
        pod.ready = ready;
        pod.ready_changed_at = Some(time);
    }
}

/// What the agent should hold of each container, with delays and grace counted from `time`.
pub(crate) fn desired(pod: &PodRecord, traits: &PodTraits, time: Timestamp) -> Vec<DesiredContainer> {
    let remaining_ms = |due: Timestamp| u64::try_from(due.since_ms(time)).unwrap_or(0);
    // P7: one that ignores its signal must not take the signal of those whose turn comes after it.
    let least_grace_ms = limits::LAST_GRACE_MS.min(u64::from(traits.grace_seconds) * 1000);
    let last = pod.containers.iter().rposition(ContainerRecord::is_outstanding);
    let all = pod.containers.iter().zip(traits.containers.iter()).enumerate();
    all.filter(|(_, (container, _))| container.is_outstanding())
        .map(|(place, (container, traits))| DesiredContainer {
            name: traits.name.clone(),
            restart_count: container.restart_count,
            delay_ms: container.restart_at.map_or(0, remaining_ms),
            stop_grace_ms: match pod.sidecars_until {
                _ if pod.restarting_all => Some(0),
                Some(until) if Some(place) == last => Some(remaining_ms(until).max(least_grace_ms)),
                _ => None,
            },
        })
        .collect()
}
