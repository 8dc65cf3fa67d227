//! Pods: what orders, desired sets and the ends of runs lead to (A8–A12, A14).

use std::sync::Arc;
use std::time::Duration;
use stint_api::{Incarnation, PodUid, Revision};
use stint_lease::{DesiredAction, DesiredPod, DesiredRun, HeldEffect, LeaseState};
use stint_proto::v1;
use stint_proto::v1::pod_report::Kind;

use super::registration::REFUSED_PAUSE;
use super::{Internal, PodState, RunKey, Worker, now};
use crate::journal::{Change, NumberedReport, bytes_of, number_of};
use crate::limits;
use crate::pod::{Ended, News, PodHandle, PodNews, PodOrder, PodTemplate, RunEnd};

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
        self.pods.retain(|pod, state| self.held.contains(*pod) || state.has_runs());
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
            self.forget(desired.pod);
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
                    let folder = self.leftovers.pod_folder(pod);
                    let state = self.pods.entry(pod).or_default();
                    // A uid that disagrees with the Pod's would name another one's folder.
                    let to_run = v1::PodToRun { uid: desired.pod_uid, ..to_run };
                    // Reading a template costs more than the rest of an order, and few of them say anything new.
                    if state.template.as_ref().is_none_or(|known| known.lacks_references()) {
                        let template = Arc::new(PodTemplate::new(to_run, folder));
                        let is_renewed =
                            state.template.as_ref().is_some_and(|known| known.is_renewed_by(&template));
                        if is_renewed && let Some(handle) = &state.handle {
                            handle.order(PodOrder::Renew(Arc::clone(&template)));
                        }
                        if is_renewed || state.template.is_none() {
                            state.template = Some(template);
                        }
                    }
                }
                let template = self.pods.get(&pod)?.template.as_ref()?;
                let is_single = template.is_single();
                DesiredAction::Run {
                    containers: run.containers.into_iter().map(desired_run).collect(),
                    is_single,
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
                HeldEffect::Begin { pod, container, restart_count, delay } => {
                    self.begin_after(pod, RunKey { container, restart_count }, delay);
                }
                HeldEffect::StopContainer { pod, container, restart_count, grace } => {
                    self.stop_container(pod, RunKey { container, restart_count }, grace);
                }
                HeldEffect::Stop { pod, grace } => self.tell_pod(pod, PodOrder::Stop { grace }),
                HeldEffect::ReportNotStarted { pod, run } => {
                    let (container, restart_count) = run.unwrap_or_default();
                    let kind = Kind::NotStarted(v1::NotStarted { container, restart_count });
                    self.report_end(pod, Vec::new(), kind);
                }
                HeldEffect::Forget { pod } => self.forget(pod),
            }
        }
    }

    fn tell_pod(&self, pod: PodUid, order: PodOrder) {
        if let Some(handle) = self.pods.get(&pod).and_then(|state| state.handle.as_ref()) {
            handle.order(order);
        }
    }

    fn stop_container(&mut self, pod: PodUid, run: RunKey, grace: Duration) {
        let Some(state) = self.pods.get_mut(&pod) else { return };
        if state.live.get(&run.container) == Some(&run.restart_count) {
            self.tell_pod(pod, PodOrder::StopContainer { container: run.container, grace });
        } else {
            // Begun, and on its way through the journal.
            state.called_off.insert(run);
        }
    }

    fn begin_after(&mut self, pod: PodUid, run: RunKey, delay: Duration) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        if delay.is_zero() {
            self.begin_due(pod, run, incarnation);
            return;
        }
        let internal = self.internal.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // The agent may have stopped.
            drop(internal.send(Internal::BeginDue { pod, run, incarnation }));
        });
    }

    pub(super) fn begin_due(&mut self, pod: PodUid, run: RunKey, incarnation: Incarnation) {
        let may_start = self.lease.may_start(incarnation, now()) && !self.is_stopping;
        let Some(state) = self.pods.get_mut(&pod) else { return };
        let Some(template) = &state.template else { return };
        if !may_start || !self.held.begin(pod, &run.container, run.restart_count) {
            return;
        }
        // From now on it hears of stops.
        if state.handle.is_none() {
            state.handle = Some(PodHandle::new(template.clone(), self.surroundings.clone(), incarnation));
        }
        let journaled = self.memory.run(pod, &run.container);
        let is_written =
            journaled.is_some_and(|known| known.restart_count == run.restart_count && !known.has_ended);
        let changes = match is_written {
            // This waits until what was written before is durable.
            true => Vec::new(),
            false => vec![Change::started(pod, &run.container, run.restart_count)],
        };
        self.remember_durably(changes, Internal::StartDurable { pod, run, incarnation });
    }

    pub(super) fn start_durable(&mut self, pod: PodUid, run: RunKey, incarnation: Incarnation) {
        // A9: once more, before the start; whoever executes the program looks a last time.
        let may_start = self.lease.may_start(incarnation, now()) && !self.is_stopping;
        let is_begun = self.held.is_container_running(pod, &run.container)
            && self.held.begun_run(pod, &run.container) == Some(run.restart_count);
        let Some(state) = self.pods.get_mut(&pod) else { return };
        if !may_start || !is_begun || state.live.contains_key(&run.container) {
            return;
        }
        tracing::debug!(node = %self.config.name, pod.uid = %pod, container = run.container, run.restart_count, "starting");
        state.live.insert(run.container.clone(), run.restart_count);
        if state.called_off.remove(&run) {
            self.run_ended(pod, run, RunEnd::NotStarted, None);
            return;
        }
        state.starting.insert(run.container.clone(), now());
        self.counters.starts.inc();
        let RunKey { container, restart_count } = run;
        self.beginning.insert(pod);
        self.tell_pod(pod, PodOrder::Begin { container, run: restart_count });
    }

    /// Asks every run to end, with the grace of its Pod.
    pub(super) fn stop_all(&mut self) {
        for state in self.pods.values() {
            let grace = state.template.as_deref().map_or(Duration::ZERO, PodTemplate::grace);
            if let Some(handle) = &state.handle {
                handle.order(PodOrder::Stop { grace: grace.min(limits::STOP_GRACE_MAX) });
            }
        }
    }

    /// Kills every run now, without grace. Before the next registration all are dead and nothing of their Pods is left.
    pub(super) fn kill_all(&mut self, lease_expired: bool) {
        self.must_clear = true;
        for state in self.pods.values_mut() {
            state.lease_expired |= lease_expired;
            if let Some(handle) = &state.handle {
                handle.order(PodOrder::Kill);
            }
        }
    }

    pub(super) fn pod_news(&mut self, news: PodNews) {
        let pod = news.pod;
        self.beginning.remove(&pod);
        match news.news {
            News::Report(kind) => {
                if let Kind::Running(running) = &kind {
                    self.count_running(pod, &running.container);
                }
                if self.pods.contains_key(&pod) {
                    self.report(pod, kind);
                }
            }
            News::Ended { container, run: restart_count, end, is_failing, container_of } => {
                let run = RunKey { container, restart_count };
                match self.pods.get_mut(&pod) {
                    // What ended the Pod as a whole says more, and is said with the ends of all its runs.
                    Some(state) if is_failing => state.failing.push((run, end, container_of)),
                    _ => self.run_ended(pod, run, end, container_of),
                }
            }
            News::Failed { reason, message } => self.pod_failed(pod, reason, message),
            News::Closed => {
                self.closing.remove(&pod);
                if !self.pods.contains_key(&pod) {
                    self.leftovers.pod_ended(pod);
                }
            }
        }
    }

    fn run_ended(&mut self, pod: PodUid, run: RunKey, end: RunEnd, container: Option<Ended>) {
        let Some(state) = self.pods.get_mut(&pod) else { return };
        state.remove_run(&run);
        let lease_expired = state.lease_expired;
        let is_single = state.template.as_deref().is_none_or(PodTemplate::is_single);
        self.count_end(pod, &end, lease_expired);
        let of_run = |termination| v1::ContainerExited {
            container: run.container.clone(),
            restart_count: run.restart_count,
            termination,
        };
        let exited = |termination| of_run(Some(termination));
        let (succeeded, kind) = match end {
            // What ended well before it was killed has ended well; the servers say if that came too late (A11).
            RunEnd::Exited(termination) if termination.exit_code == 0 => {
                (true, Kind::Exited(exited(termination)))
            }
            RunEnd::Fenced(termination) => (false, Kind::LeaseExpired(exited(termination))),
            RunEnd::Exited(termination) | RunEnd::StartFailed(termination) if lease_expired => {
                (false, Kind::LeaseExpired(exited(termination)))
            }
            RunEnd::NotStarted if lease_expired => (false, Kind::LeaseExpired(of_run(None))),
            RunEnd::Exited(termination) => (false, Kind::Exited(exited(termination))),
            RunEnd::StartFailed(termination) => (false, Kind::StartFailed(exited(termination))),
            RunEnd::NotStarted if is_single => (false, Kind::NotStarted(v1::NotStarted::default())),
            RunEnd::NotStarted => {
                let (container, restart_count) = (run.container.clone(), run.restart_count);
                (false, Kind::NotStarted(v1::NotStarted { container, restart_count }))
            }
        };
        // When the agent stops, the others are lost with its registration: what killed them was not the Job's.
        if succeeded || !self.is_stopping {
            self.report_end(pod, vec![(run.clone(), container)], kind);
        }
        let follows = self.held.run_ended(pod, &run.container, run.restart_count);
        self.carry_out(follows);
        if !self.held.contains(pod) {
            self.forget(pod);
        }
    }

    fn pod_failed(&mut self, pod: PodUid, reason: String, message: String) {
        let Some(state) = self.pods.get_mut(&pod) else { return };
        let failing = std::mem::take(&mut state.failing);
        let lease_expired = state.lease_expired;
        state.live.clear();
        state.starting.clear();
        failing.iter().for_each(|(_, end, _)| self.count_end(pod, end, lease_expired));
        let runs: Vec<RunKey> = failing.iter().map(|(run, ..)| run.clone()).collect();
        let (mut ended, mut kept) = (Vec::new(), Vec::new());
        for (run, end, container) in failing {
            if let RunEnd::Exited(termination)
            | RunEnd::Fenced(termination)
            | RunEnd::StartFailed(termination) = end
            {
                ended.push(v1::ContainerExited {
                    container: run.container.clone(),
                    restart_count: run.restart_count,
                    termination: Some(termination),
                });
            }
            kept.push((run, container));
        }
        if !self.is_stopping {
            self.report_end(pod, kept, Kind::PodFailed(v1::PodFailed { reason, message, ended }));
        }
        for run in runs {
            let follows = self.held.run_ended(pod, &run.container, run.restart_count);
            self.carry_out(follows);
        }
        if !self.held.contains(pod) {
            self.forget(pod);
        }
    }

    /// A report that must survive a restart, with the ends of the runs that it is about. They are released once it does.
    pub(super) fn report_end(&mut self, pod: PodUid, ended: Vec<(RunKey, Option<Ended>)>, kind: Kind) {
        let report = v1::PodReport { pod_uid: bytes_of(pod.0).into(), kind: Some(kind) };
        let number = self.memory.last_report + 1;
        self.outbox.push(report.clone(), Some(number));
        let mut changes = Vec::with_capacity(ended.len() + 1);
        let mut containers = Vec::new();
        for (run, container) in ended {
            changes.push(Change::ended(pod, &run.container, run.restart_count));
            containers.extend(container);
        }
        changes.push(Change::Report(NumberedReport { number, report: Some(report) }));
        if containers.is_empty() {
            self.remember(changes);
        } else {
            self.remember_durably(changes, Internal::EndDurable { containers });
        }
    }

    fn report(&mut self, pod: PodUid, kind: Kind) {
        self.outbox.push(v1::PodReport { pod_uid: bytes_of(pod.0).into(), kind: Some(kind) }, None);
    }

    /// The servers hold no unfinished Pod of this uid: unless it still has to end, nothing of it is needed any more but its
    /// log.
    fn forget(&mut self, pod: PodUid) {
        if self.pods.get(&pod).is_some_and(|state| !state.has_runs())
            && let Some(state) = self.pods.remove(&pod)
        {
            self.close_pod(pod, state);
        }
    }

    /// Nothing of the Pod runs, and nothing of it is needed but its log.
    pub(super) fn close_pod(&mut self, pod: PodUid, state: PodState) {
        self.closed += 1;
        match state.handle {
            // Its folder goes afterwards.
            Some(handle) => {
                self.closing.insert(pod);
                handle.order(PodOrder::Close);
            }
            None => self.leftovers.pod_ended(pod),
        }
        if self.memory.started.contains_key(&pod) {
            self.remember(vec![Change::Closed(bytes_of(pod.0))]);
        }
    }

    /// The Pod was deleted: so are its logs and its folder.
    fn delete_logs(&mut self, pod: PodUid) {
        if self.pods.contains_key(&pod) || !self.memory.started.contains_key(&pod) {
            return;
        }
        self.remember(vec![Change::Forgotten(bytes_of(pod.0))]);
        self.leftovers.pod_deleted(pod);
    }
}

fn desired_run(run: v1::ContainerRun) -> DesiredRun {
    DesiredRun {
        restart_count: run.restart_count,
        delay: Duration::from_millis(run.delay_ms).min(DELAY_MAX),
        stop: run.stop.then(|| Duration::from_millis(run.grace_ms).min(DELAY_MAX)),
        container: run.name,
    }
}
