//! Pods: what orders, desired sets and the ends of runs lead to (A8–A12, A14).

use std::path::PathBuf;
use std::time::Duration;
use stint_api::{Incarnation, PodUid, Revision};
use stint_lease::{DesiredAction, DesiredPod, HeldEffect, LeaseState};
use stint_proto::v1;
use stint_runtime::{ContainerId, ContainerSpec, PodSandboxSpec};

use super::registration::REFUSED_PAUSE;
use super::{Internal, PodState, Worker, now};
use crate::containers::{Run, RunEnd, RunEvent, shortened};
use crate::journal::{Change, bytes_of, number_of};
use crate::limits;

/// Longest wait before a run starts; a longer one is a defect of the server.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// Pods of one desired set: those that a node may hold, and as many that are stopped or ended and not told.
const SET_PODS_MAX: usize = 4 * limits::PODS_HELD_MAX;

impl Worker {
    pub(super) fn desired_set(&mut self, set: v1::DesiredSet) {
        if !matches!(self.lease.state(), LeaseState::Held { .. }) {
            return;
        }
        let revision = Worker::revision_of_set(&set);
        for pod in &set.gone_pods {
            self.delete_logs(PodUid(number_of(pod)));
        }
        let mut desired = Vec::with_capacity(set.pods.len());
        for pod in set.pods {
            desired.extend(self.read_desired(pod));
        }
        let Some(session) = &mut self.session else { return };
        session.set_parts.extend(desired);
        if session.set_parts.len() > SET_PODS_MAX {
            self.close_session("the server wants more pods to be held than a node may have", REFUSED_PAUSE);
            return;
        }
        if set.more {
            return;
        }
        let pods = std::mem::take(&mut session.set_parts);
        let effects = self.held.desired_set(revision, &pods);
        self.carry_out(effects);
        // What was read of Pods that are not held after all, as of a set that is too old.
        self.pods.retain(|pod, state| self.held.contains(*pod) || state.run.is_some());
    }

    pub(super) fn order(&mut self, order: v1::Order) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        if let Some(session) = &mut self.session {
            session.orders_taken += 1;
            if session.orders_taken >= limits::ORDER_CREDITS / 2 {
                let orders = std::mem::take(&mut session.orders_taken);
                self.send(v1::agent_message::Message::OrderCredits(v1::OrderCredits { orders }));
            }
        }
        if Incarnation(order.incarnation) != incarnation {
            return;
        }
        let Some(desired) = order.pod.and_then(|pod| self.read_desired(pod)) else { return };
        let effects = self.held.order(&desired);
        if effects.is_empty() && !self.held.contains(desired.pod) {
            self.forget_what_never_ran(desired.pod);
        }
        self.carry_out(effects);
    }

    /// Keeps what is to be run, and gives what the rules need. Nothing for a Pod of which it isn't known what to run, as it was
    /// forgotten since the question: it is not held then, and the next set says it.
    fn read_desired(&mut self, desired: v1::DesiredPod) -> Option<DesiredPod> {
        let pod = PodUid(number_of(&desired.pod_uid));
        let action = match desired.action? {
            v1::desired_pod::Action::Run(run) => {
                if let Some(to_run) = run.pod
                    && (self.pods.len() < limits::PODS_HELD_MAX || self.pods.contains_key(&pod))
                {
                    let state = self.pods.entry(pod).or_insert_with(PodState::new);
                    state.to_run.get_or_insert(to_run);
                }
                self.pods.get(&pod)?.to_run.as_ref()?;
                let container = run.containers.first();
                let delay = Duration::from_millis(container.map_or(0, |container| container.delay_ms));
                DesiredAction::Run {
                    restart_count: container.map_or(0, |container| container.restart_count),
                    delay: delay.min(DELAY_MAX),
                }
            }
            v1::desired_pod::Action::Stop(stop) => {
                DesiredAction::Stop { grace: Duration::from_millis(stop.grace_ms).min(DELAY_MAX) }
            }
        };
        Some(DesiredPod { pod, binding_revision: Revision(desired.binding_revision), action })
    }

    fn carry_out(&mut self, effects: Vec<HeldEffect>) {
        for effect in effects {
            match effect {
                HeldEffect::Begin { pod, restart_count, delay } => {
                    self.begin_after(pod, restart_count, delay)
                }
                HeldEffect::Stop { pod, grace } => self.stop_run(pod, grace),
                HeldEffect::ReportNotStarted { pod } => {
                    let kind = v1::pod_report::Kind::NotStarted(v1::NotStarted::default());
                    // The end of a run before it says more, and goes first: it is what must survive a restart.
                    if self.memory.unacknowledged.contains_key(&pod) {
                        self.report(pod, kind);
                    } else {
                        self.report_end(pod, kind);
                    }
                }
                HeldEffect::Forget { pod } => self.forget_what_never_ran(pod),
            }
        }
    }

    fn begin_after(&mut self, pod: PodUid, restart_count: u32, delay: Duration) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        if delay.is_zero() {
            self.begin_due(pod, restart_count, incarnation);
            return;
        }
        let internal = self.internal.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // The agent may have stopped.
            drop(internal.send(Internal::BeginDue { pod, restart_count, incarnation }));
        });
    }

    pub(super) fn begin_due(&mut self, pod: PodUid, restart_count: u32, incarnation: Incarnation) {
        let is_known = self.pods.get(&pod).is_some_and(|state| state.to_run.is_some());
        let may_start = self.lease.may_start(incarnation, now()) && !self.is_stopping;
        if !is_known || !may_start || !self.held.begin(pod, restart_count) {
            return;
        }
        if let Some(state) = self.pods.get_mut(&pod) {
            state.start_cancelled = false;
        }
        let then = Internal::StartDurable { pod, restart_count, incarnation };
        // If it was written before, this waits until that is durable.
        let is_written = self.memory.is_started(pod);
        let changes = if is_written { Vec::new() } else { vec![Change::Started(bytes_of(pod.0))] };
        self.remember_durably(changes, then);
    }

    pub(super) fn start_durable(&mut self, pod: PodUid, restart_count: u32, incarnation: Incarnation) {
        // A9: once more, before the start; whoever executes the program looks a last time.
        let may_start = self.lease.may_start(incarnation, now()) && !self.is_stopping;
        let LeaseState::Held { deadline, .. } = self.lease.state() else { return };
        let Some(state) = self.pods.get_mut(&pod) else { return };
        let is_begun = self.held.is_running(pod) && self.held.begun_run(pod) == Some(restart_count);
        if !may_start || !is_begun || state.run.is_some() {
            return;
        }
        if std::mem::take(&mut state.start_cancelled) {
            let follows = self.held.run_ended(pod, restart_count);
            let kind = v1::pod_report::Kind::NotStarted(v1::NotStarted::default());
            self.report_end(pod, kind);
            self.carry_out(follows);
            return;
        }
        let Some(to_run) = &state.to_run else { return };
        let spec = match container_spec(to_run, restart_count) {
            Ok(spec) => ContainerSpec { start_before: Some(deadline.0), ..spec },
            Err(problem) => {
                let termination = v1::ContainerStateTerminated {
                    exit_code: 128,
                    reason: "StartError".to_owned(),
                    message: shortened(&problem),
                    ..v1::ContainerStateTerminated::default()
                };
                let event = RunEvent::Ended { pod, restart_count, end: RunEnd::StartFailed(termination) };
                state.run = None;
                self.run_event(event);
                return;
            }
        };
        tracing::debug!(node = %self.config.name, pod.uid = %pod, restart_count, "starting");
        let sandbox = sandbox_spec(pod, to_run, self.leftovers.pod_folder(pod));
        let run = Run::begin(self.runtime.clone(), pod, sandbox, spec, self.runs.0.clone());
        state.run = Some((restart_count, run));
    }

    fn stop_run(&mut self, pod: PodUid, grace: Duration) {
        let Some(state) = self.pods.get_mut(&pod) else { return };
        match &state.run {
            Some((_, run)) if grace.is_zero() => run.kill(),
            Some((_, run)) => run.stop(grace),
            // Begun, and on its way through the journal.
            None => state.start_cancelled = true,
        }
    }

    /// Asks every run to end, with the grace of its Pod.
    pub(super) fn stop_all(&mut self) {
        for state in self.pods.values_mut() {
            let grace_ms = state.to_run.as_ref().map_or(0, |to_run| to_run.termination_grace_period_ms);
            if let Some((_, run)) = &state.run {
                run.stop(Duration::from_millis(grace_ms).min(limits::STOP_GRACE_MAX));
            }
        }
    }

    /// Kills every run now, without grace.
    pub(super) fn kill_all(&mut self, lease_expired: bool) {
        for state in self.pods.values_mut() {
            state.lease_expired |= lease_expired;
            state.start_cancelled = true;
            if let Some((_, run)) = &state.run {
                run.kill();
            }
        }
    }

    pub(super) fn run_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Started { pod, restart_count, started_at } => {
                let running = v1::ContainerRunning {
                    container: self.container_name(pod),
                    restart_count,
                    started_at: Some(crate::containers::wire_time(started_at)),
                    ..v1::ContainerRunning::default()
                };
                self.report(pod, v1::pod_report::Kind::Running(running));
            }
            RunEvent::Ended { pod, restart_count, end } => {
                let Some(state) = self.pods.get_mut(&pod) else { return };
                if state.run.as_ref().is_some_and(|(run, _)| *run == restart_count) {
                    state.run = None;
                }
                let lease_expired = state.lease_expired;
                let exited = |termination| v1::ContainerExited {
                    container: state.container_name().to_owned(),
                    restart_count,
                    termination: Some(termination),
                };
                use v1::pod_report::Kind;
                let (succeeded, kind) = match end {
                    RunEnd::TooLate => return self.start_again(pod, restart_count),
                    // What ended well before it was killed has ended well; the servers say if that came too late (A11).
                    RunEnd::Exited(termination) if termination.exit_code == 0 => {
                        (true, Kind::Exited(exited(termination)))
                    }
                    RunEnd::Exited(termination) | RunEnd::StartFailed(termination) if lease_expired => {
                        (false, Kind::LeaseExpired(exited(termination)))
                    }
                    RunEnd::Exited(termination) => (false, Kind::Exited(exited(termination))),
                    RunEnd::StartFailed(termination) => (false, Kind::StartFailed(exited(termination))),
                };
                // When the agent stops, the others are lost with its registration: what killed them was not the Job's.
                if succeeded || !self.is_stopping {
                    self.report_end(pod, kind);
                }
                let follows = self.held.run_ended(pod, restart_count);
                self.carry_out(follows);
                if !self.held.contains(pod) {
                    self.forget_what_never_ran(pod);
                }
            }
        }
    }

    /// The run could not be started under the lease as it was known then. Under a later one it can.
    fn start_again(&mut self, pod: PodUid, restart_count: u32) {
        if let LeaseState::Held { incarnation, .. } = self.lease.state() {
            self.start_durable(pod, restart_count, incarnation);
        }
    }

    /// A report that must survive a restart.
    fn report_end(&mut self, pod: PodUid, kind: v1::pod_report::Kind) {
        let report = v1::PodReport { pod_uid: bytes_of(pod.0).into(), kind: Some(kind) };
        self.outbox.push(report.clone());
        self.remember(vec![Change::Ended(report)]);
    }

    fn report(&mut self, pod: PodUid, kind: v1::pod_report::Kind) {
        self.outbox.push(v1::PodReport { pod_uid: bytes_of(pod.0).into(), kind: Some(kind) });
    }

    /// The servers hold no unfinished Pod of this uid: unless it still has to end, nothing of it is needed any more but its
    /// log.
    fn forget_what_never_ran(&mut self, pod: PodUid) {
        let has_run = self.pods.get(&pod).is_some_and(|state| state.run.is_some());
        if !has_run && self.pods.remove(&pod).is_some() && self.memory.started.contains(&pod) {
            self.leftovers.pod_ended(pod);
        }
    }

    /// The Pod was deleted: so are its logs and its folder.
    fn delete_logs(&mut self, pod: PodUid) {
        if self.pods.contains_key(&pod) || !self.memory.started.contains(&pod) {
            return;
        }
        self.remember(vec![Change::Forgotten(bytes_of(pod.0))]);
        self.leftovers.pod_deleted(pod);
    }

    fn container_name(&self, pod: PodUid) -> String {
        self.pods.get(&pod).map(|state| state.container_name().to_owned()).unwrap_or_default()
    }
}

impl PodState {
    fn new() -> PodState {
        PodState { to_run: None, run: None, start_cancelled: false, lease_expired: false }
    }
}

fn sandbox_spec(pod: PodUid, to_run: &v1::PodToRun, folder: PathBuf) -> PodSandboxSpec {
    PodSandboxSpec {
        namespace: to_run.namespace.clone(),
        name: to_run.name.clone(),
        ..PodSandboxSpec::new(&pod.to_string(), folder)
    }
}

fn container_spec(to_run: &v1::PodToRun, restart_count: u32) -> Result<ContainerSpec, String> {
    let containers = to_run.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let [container] = containers else {
        return Err(format!("pod {}: one container can be run, it has {}", to_run.name, containers.len()));
    };
    let uid = PodUid(number_of(&to_run.uid)).to_string();
    let id = ContainerId::new(&uid, &container.name, restart_count).map_err(|error| error.to_string())?;
    let mut env: Vec<(String, String)> =
        container.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    if !env.iter().any(|(name, _)| name == "HOSTNAME") {
        env.insert(0, ("HOSTNAME".to_owned(), to_run.name.clone()));
    }
    let working_directory =
        (!container.working_dir.is_empty()).then(|| PathBuf::from(&container.working_dir));
    Ok(ContainerSpec {
        command: container.command.clone(),
        args: container.args.clone(),
        env,
        working_directory,
        ..ContainerSpec::new(id)
    })
}
