//! Pods: what orders, desired sets and the ends of runs lead to (A8–A12, A14).

use std::path::PathBuf;
use std::time::Duration;
use stint_api::{Incarnation, PodUid, Revision};
use stint_lease::{DesiredAction, DesiredPod, HeldEffect, LeaseState};
use stint_proto::v1;
use stint_runtime::{ContainerId, ContainerSpec, LogLimits};

use super::{Internal, PodState, Worker, now};
use crate::containers::{Run, RunEnd, RunEvent};
use crate::journal::{Change, bytes_of, number_of};
use crate::limits;

/// Longest wait before a run starts; a longer one is a defect of the server.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

impl Worker {
    pub(super) fn desired_set(&mut self, set: v1::DesiredSet) {
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
        if set.more {
            return;
        }
        let pods = std::mem::take(&mut session.set_parts);
        let effects = self.held.desired_set(revision, &pods);
        self.carry_out(effects);
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

    /// Keeps what is to be run, and gives what the rules need.
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
                    let kind = v1::pod_report::Kind::NotStarted(v1::NotStarted {});
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
        if !is_known || !self.lease.may_start(incarnation, now()) || !self.held.begin(pod, restart_count) {
            return;
        }
        if let Some(state) = self.pods.get_mut(&pod) {
            state.start_cancelled = false;
        }
        let then = Internal::StartDurable { pod, restart_count, incarnation };
        if self.memory.started.contains(&pod) {
            self.start_durable(pod, restart_count, incarnation);
        } else {
            self.remember_durably(vec![Change::Started(bytes_of(pod.0))], then);
        }
    }

    pub(super) fn start_durable(&mut self, pod: PodUid, restart_count: u32, incarnation: Incarnation) {
        // A9: once more, at the moment of the start.
        let may_start = self.lease.may_start(incarnation, now()) && !self.is_stopping;
        let Some(state) = self.pods.get_mut(&pod) else { return };
        if !may_start || self.held.begun_run(pod) != Some(restart_count) {
            return;
        }
        if std::mem::take(&mut state.start_cancelled) {
            let follows = self.held.run_ended(pod, restart_count);
            let kind = v1::pod_report::Kind::NotStarted(v1::NotStarted {});
            self.report_end(pod, kind);
            self.carry_out(follows);
            return;
        }
        let Some(to_run) = &state.to_run else { return };
        let spec = match container_spec(
            to_run,
            restart_count,
            self.config.data_dir.join("pods").join(pod.to_string()),
        ) {
            Ok(spec) => spec,
            Err(problem) => {
                let termination = v1::ContainerStateTerminated {
                    exit_code: 128,
                    reason: "StartError".to_owned(),
                    message: problem,
                    ..v1::ContainerStateTerminated::default()
                };
                let event = RunEvent::Ended { pod, restart_count, end: RunEnd::StartFailed(termination) };
                state.run = None;
                self.run_event(event);
                return;
            }
        };
        tracing::debug!(node = %self.config.name, pod.uid = %pod, restart_count, "starting");
        let run = Run::begin(self.runtime.clone(), pod, spec, self.runs.0.clone());
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
                };
                self.report(pod, v1::pod_report::Kind::Running(running));
            }
            RunEvent::Ended { pod, restart_count, end } => {
                let Some(state) = self.pods.get_mut(&pod) else { return };
                if state.run.as_ref().is_some_and(|(run, _)| *run == restart_count) {
                    state.run = None;
                }
                let lease_expired = state.lease_expired;
                let container = self.container_name(pod);
                let exited = |termination| v1::ContainerExited {
                    container,
                    restart_count,
                    termination: Some(termination),
                };
                let kind = match end {
                    RunEnd::Exited(termination) if lease_expired => {
                        v1::pod_report::Kind::LeaseExpired(exited(termination))
                    }
                    RunEnd::Exited(termination) => v1::pod_report::Kind::Exited(exited(termination)),
                    RunEnd::StartFailed(termination) => {
                        v1::pod_report::Kind::StartFailed(exited(termination))
                    }
                };
                // When the agent stops, its Pods are lost with its registration: what killed them was not the Job's.
                if !self.is_stopping {
                    self.report_end(pod, kind);
                }
                let follows = self.held.run_ended(pod, restart_count);
                self.carry_out(follows);
                if !self.held.contains(pod) {
                    self.pods.remove(&pod);
                }
            }
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

    /// The servers hold no unfinished Pod of this uid: nothing of it is needed any more but its log.
    fn forget_what_never_ran(&mut self, pod: PodUid) {
        let has_run = self.pods.get(&pod).is_some_and(|state| state.run.is_some());
        if !has_run {
            self.pods.remove(&pod);
        }
    }

    /// The Pod was deleted: so are its logs and its folder.
    fn delete_logs(&mut self, pod: PodUid) {
        if self.pods.contains_key(&pod) || !self.memory.started.contains(&pod) {
            return;
        }
        self.remember(vec![Change::Forgotten(bytes_of(pod.0))]);
        let (store, folder) = (self.store.clone(), self.pod_folder(pod));
        tokio::spawn(async move {
            if let Err(error) = store.delete_pod(&pod.to_string()).await {
                tracing::warn!(pod.uid = %pod, %error, "the log of a deleted pod can't be removed");
            }
            let removed = tokio::fs::remove_dir_all(&folder).await;
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(pod.uid = %pod, %error, "the folder of a deleted pod can't be removed");
            }
        });
    }

    fn container_name(&self, pod: PodUid) -> String {
        let to_run = self.pods.get(&pod).and_then(|state| state.to_run.as_ref());
        to_run
            .and_then(|to_run| to_run.containers.first())
            .map(|container| container.name.clone())
            .unwrap_or_default()
    }

    /// Which log a request means. What it leaves out is taken from the Pod, or from the files of one that has ended.
    pub(super) fn log_of(&self, pod: PodUid, request: &v1::LogRequest) -> Option<ContainerId> {
        if !self.memory.started.contains(&pod) && !self.pods.contains_key(&pod) {
            return None;
        }
        let known = self.container_name(pod);
        let (file_container, file_run) = self.newest_log_file(pod).unwrap_or_default();
        let container =
            [&request.container, &known, &file_container].into_iter().find(|name| !name.is_empty());
        // A Pod without output has no file; any name reads its empty log.
        let container = container.map_or("none", String::as_str);
        let restart_count = request.restart_count.or(self.held.begun_run(pod)).unwrap_or(file_run);
        ContainerId::new(&pod.to_string(), container, restart_count).ok()
    }

    /// Container and run of the newest of a Pod's log files, which are named `container.run.offset.log`.
    fn newest_log_file(&self, pod: PodUid) -> Option<(String, u32)> {
        let folder = self.config.data_dir.join("logs").join(pod.to_string());
        let files = std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let mut parts = name.split('.');
            let (container, run) = (parts.next()?.to_owned(), parts.next()?.parse::<u32>().ok()?);
            Some((container, run))
        });
        files.max_by_key(|(_, run)| *run)
    }
}

impl PodState {
    fn new() -> PodState {
        PodState { to_run: None, run: None, start_cancelled: false, lease_expired: false }
    }
}

fn container_spec(
    to_run: &v1::PodToRun,
    restart_count: u32,
    folder: PathBuf,
) -> Result<ContainerSpec, String> {
    let [container] = &to_run.containers[..] else {
        return Err(format!(
            "pod {}: one container can be run, it has {}",
            to_run.name,
            to_run.containers.len()
        ));
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
        id,
        command: container.command.clone(),
        args: container.args.clone(),
        env,
        working_directory,
        pod_directory: folder,
        log_limits: LogLimits::default(),
    })
}
