//! How a session begins: a registration or the resumption of one (A2).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stint_api::policy::PROCESS_RUNTIME;
use stint_api::{Incarnation, NodeOffer, PodUid, Revision};
use stint_lease::{BootInstant, LeaseNumbers, LeaseState};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_runtime::{Feature, Runtime};
use tokio::sync::mpsc;

use super::{Internal, PodState, Session, Worker, now, session};
use crate::channels::ChannelServer;
use crate::error::Error;
use crate::journal::{Change, Granted, Memory, Registration};
use crate::limits;
use crate::logs::LogServer;
use crate::node_conditions::Conditions;
use crate::pod::PodOrder;

/// How long a registration that can't hold yet waits, unless the server says.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Worker {
    /// Opens a stream to the next server, with the right first message, if one can be said now.
    pub(super) fn open_session(&mut self, now: BootInstant) {
        let (first, registration_counts_from) = match self.lease.state() {
            LeaseState::Held { incarnation, .. } => (self.resume_message(incarnation), None),
            // A4: first everything has to be dead.
            LeaseState::Lost { .. } | LeaseState::Unregistered if self.must_clear && self.has_runs() => {
                return;
            }
            LeaseState::Lost { .. } | LeaseState::Unregistered => {
                let Some(content) = self.registration.clone() else {
                    self.prepare_registration();
                    return;
                };
                // Sent again over another stream, it counts from the first: the servers only repeat their answer (A2).
                let counts_from = self.lease.registration_sent(self.memory.registration_number, now);
                (self.register_message(&content), Some(counts_from))
            }
        };
        let Some(address) = self.addresses.front().cloned() else { return };
        self.sessions += 1;
        self.counters.sessions.inc();
        let (outgoing, messages) = mpsc::channel(limits::OUTGOING_MESSAGES_MAX);
        let (outgoing_logs, logs) = mpsc::channel(limits::OUTGOING_LOG_MESSAGES_MAX);
        // The channel is new and has room.
        drop(outgoing.try_send(v1::AgentMessage { message: Some(first) }));
        let reader = tokio::spawn(session::run(
            self.sessions,
            session::Destination { address: address.clone(), relayed: std::mem::take(&mut self.relay_next) },
            self.interceptor.clone(),
            session::Outgoing { messages, logs },
            self.stream.0.clone(),
        ));
        self.session = Some(Session {
            number: self.sessions,
            address,
            logs: LogServer::new(self.store.clone(), outgoing_logs.clone()),
            channels: ChannelServer::new(self.live.clone(), outgoing_logs.clone()),
            in_the_background: outgoing_logs,
            outgoing,
            reader,
            registration_counts_from,
            is_established: false,
            last_heard_at: now,
            heartbeats: 0,
            orders_taken: 0,
            set_parts: Vec::new(),
        });
    }

    /// True while a run that was begun has not ended, to the last process.
    pub(super) fn has_runs(&self) -> bool {
        self.pods.values().any(PodState::has_runs)
    }

    /// A new registration number must be durable before it is sent.
    fn prepare_registration(&mut self) {
        if std::mem::replace(&mut self.is_registering, true) {
            return;
        }
        self.held.clear();
        if std::mem::take(&mut self.must_clear) {
            self.beginning.clear();
            for (pod, state) in std::mem::take(&mut self.pods) {
                // That it is lost is told before it is forgotten: not closed in the journal yet.
                match state.handle {
                    Some(handle) => handle.order(PodOrder::Close),
                    None => self.leftovers.pod_ended(pod),
                }
            }
            self.outbox.keep_journaled();
        }
        if std::mem::take(&mut self.is_to_forget) {
            self.outbox.clear();
            self.remember(vec![Change::Reset(true)]);
            self.leftovers.keep_only(|_| false, |_| false);
        }
        // What goes on over this registration. A set of the servers that does not have it ends it, whenever it was bound.
        for (pod, started) in self.memory.open_pods() {
            let Some(state) = self.pods.get(&pod) else { continue };
            self.held.adopt_pod(pod, Revision(0));
            for (container, run) in &started.runs {
                let is_running = state.live.get(container) == Some(&run.restart_count);
                if !is_running && !run.has_ended {
                    // Written down, and never begun.
                    continue;
                }
                self.held.adopt(pod, Revision(0), container, run.restart_count, is_running);
            }
        }
        let mut nonce = [0_u8; 8];
        // Without randomness a cloned folder could not be told apart; 0 is refused by the servers as any other would be.
        let _ = getrandom::fill(&mut nonce);
        let registration = Registration {
            number: self.memory.registration_number + 1,
            nonce: u64::from_le_bytes(nonce),
            boot_id: self.boot_id.clone(),
        };
        self.remember_durably(vec![Change::Registration(registration)], Internal::RegistrationDurable);
    }

    fn register_message(&self, content: &RegistrationContent) -> v1::agent_message::Message {
        let runtimes = &self.surroundings.runtimes;
        v1::agent_message::Message::Register(v1::Register {
            node_name: self.config.name.clone(),
            node_uid: uid_to_wire(self.memory.node_uid),
            boot_id: self.boot_id.clone(),
            registration_number: self.memory.registration_number,
            nonce: self.memory.registration_nonce,
            previous_incarnation: self.memory.incarnation.0,
            cluster_id: self.memory.cluster_id.map(uid_to_wire).unwrap_or_default(),
            unacknowledged_reports: content.reports.clone(),
            running_pods: content.running_pods.iter().copied().map(uid_to_wire).collect(),
            started_pods: content.started_pods.iter().copied().map(uid_to_wire).collect(),
            capacity: Some(self.config.capacity.into()),
            labels: self.config.labels.clone(),
            runtimes: runtimes.iter().map(|runtime| runtime.name().to_owned()).collect(),
            features: self.features(),
            conditions: content.conditions.to_vec(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            info: Some(self.host.clone()),
        })
    }

    /// What Pods may ask for here, in the words of the protocol.
    fn features(&self) -> Vec<String> {
        let runtimes = &self.surroundings.runtimes;
        let runs_images = |runtime: &Arc<dyn Runtime>| runtime.features().contains(&Feature::Images);
        let images = runtimes.iter().any(runs_images).then(|| "images".to_owned());
        let processes = runtimes.iter().find(|runtime| runtime.name() == PROCESS_RUNTIME);
        let lacks = |feature| processes.is_some_and(|runtime| !runtime.features().contains(&feature));
        let own_ids = || (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let offer = NodeOffer {
            allowed: self.surroundings.rules.policy.allowed_as_told(),
            only_user: lacks(Feature::Users).then(own_ids),
            without_mounts: lacks(Feature::MountNamespaces),
            streams: true,
            ..NodeOffer::default()
        };
        images.into_iter().chain(offer.words()).collect()
    }

    fn resume_message(&self, incarnation: Incarnation) -> v1::agent_message::Message {
        v1::agent_message::Message::Resume(v1::Resume {
            node_name: self.config.name.clone(),
            node_uid: uid_to_wire(self.memory.node_uid),
            incarnation: incarnation.0,
            cluster_id: self.memory.cluster_id.map(uid_to_wire).unwrap_or_default(),
        })
    }

    /// The registration holds.
    pub(super) fn registered(&mut self, registered: &v1::Registered) {
        let node_lease = Duration::from_millis(registered.node_lease_ms);
        let Ok(numbers) = LeaseNumbers::from_node_lease(node_lease) else {
            self.close_session("the server gave a lease that can't be used", REFUSED_PAUSE);
            return;
        };
        let Some(session) = &mut self.session else { return };
        let incarnation = Incarnation(registered.incarnation);
        let now = now();
        match session.registration_counts_from.take() {
            Some(sent_at) => {
                let content = self.registration.take();
                self.lease.granted(incarnation, numbers, sent_at);
                let cluster_id = crate::journal::number_of(&registered.cluster_id);
                let mut changes = vec![Change::Granted(Granted {
                    incarnation: incarnation.0,
                    cluster_id: crate::journal::bytes_of(cluster_id),
                })];
                if let Some(content) = content {
                    // They came with the registration, which is applied; so is what it did not account for.
                    changes.extend(content.report_numbers.iter().copied().map(Change::Acknowledged));
                    let lost = content.started_pods.difference(&content.running_pods);
                    changes.extend(lost.map(|pod| Change::Closed(crate::journal::bytes_of(pod.0))));
                    self.outbox.registered(&content.report_numbers);
                    self.told_conditions.registered(content.conditions.clone());
                }
                self.remember(changes);
                self.counters.registrations.inc();
                tracing::info!(node = %self.config.name, incarnation = incarnation.0, "registered");
            }
            None => self.lease.resumed(now),
        }
        self.problems.clear();
        self.redirects = 0;
        self.learn_addresses(&registered.server_addresses);
        if let Some(session) = &mut self.session {
            session.is_established = true;
            self.log_archiver.archive(&registered.log_archive);
            self.log_tails.session(incarnation, session.in_the_background.clone());
        }
        self.heartbeat(now);
        self.ask_for_desired_set(incarnation, true);
    }

    /// The registration does not hold.
    pub(super) fn refused(&mut self, refused: &v1::Refused) -> Result<(), Error> {
        use v1::RefusalReason;
        let asked = Duration::from_millis(refused.retry_after_ms);
        let pause = if asked.is_zero() { REFUSED_PAUSE } else { asked.min(Duration::from_secs(30)) };
        match refused.reason() {
            RefusalReason::ClonedFolder | RefusalReason::Invalid => {
                return Err(Error::Refused { message: refused.message.clone() });
            }
            RefusalReason::StaleRegistration => {
                self.registration = None;
                self.close_session(&refused.message, Duration::ZERO);
            }
            RefusalReason::StaleIncarnation => {
                self.lease.dropped();
                self.kill_all(true);
                self.counters.lease_losses.inc();
                tracing::warn!(node = %self.config.name, "the registration has expired: all pods are killed");
                self.close_session(&refused.message, Duration::ZERO);
            }
            RefusalReason::OtherCluster => {
                self.lease.dropped();
                self.kill_all(false);
                tracing::warn!(node = %self.config.name, "the servers are of another cluster: the old one's pods are killed and forgotten");
                self.registration = None;
                self.is_to_forget = true;
                self.close_session(&refused.message, Duration::ZERO);
            }
            RefusalReason::NodeNameTaken
            | RefusalReason::PreviousLeaseAlive
            | RefusalReason::LimitExceeded
            | RefusalReason::NotReady
            | RefusalReason::Unspecified => self.close_session(&refused.message, pause),
        }
        Ok(())
    }

    /// Takes the servers that there are now for those to go to, beside the ones that were given: all that were given may be
    /// gone one day.
    pub(super) fn learn_addresses(&mut self, addresses: &[String]) {
        if addresses.is_empty() {
            return;
        }
        let given = &self.config.servers;
        // The first one is that of the present session.
        let mut is_first = true;
        self.addresses.retain(|known| {
            std::mem::take(&mut is_first) || given.contains(known) || addresses.contains(known)
        });
        for address in addresses.iter().take(limits::SERVER_ADDRESSES_MAX) {
            if !self.addresses.contains(address) {
                self.addresses.push_back(address.clone());
            }
        }
        self.addresses.truncate(2 * limits::SERVER_ADDRESSES_MAX);
    }

    /// The agent stops and nothing runs: registers once more, as a node without room.
    pub(super) fn begin_hand_over(&mut self) {
        self.config.capacity.pods = 0;
        self.must_clear = true;
        self.lease.dropped();
        self.registration = None;
        if let Some(leader) = self.session.as_ref().map(|session| session.address.clone()) {
            self.close_session("the agent stops", Duration::ZERO);
            self.addresses.retain(|address| *address != leader);
            self.addresses.push_front(leader);
        }
        self.next_attempt_at = now();
    }
}

/// What a registration says of Pods: the same however often it is sent, as the servers only repeat their answer (A2).
#[derive(Debug)]
pub(super) struct RegistrationContent {
    pub(super) reports: Vec<v1::PodReport>,
    /// Their numbers in the journal.
    report_numbers: BTreeSet<u64>,
    /// Those that can be accounted for.
    pub(super) running_pods: BTreeSet<PodUid>,
    pub(super) started_pods: BTreeSet<PodUid>,
    conditions: Conditions,
}

impl RegistrationContent {
    /// As of now.
    pub(super) fn new(worker: &Worker) -> RegistrationContent {
        let started_pods: BTreeSet<PodUid> = worker.memory.open_pods().map(|(pod, _)| pod).collect();
        let running_pods = started_pods.iter().filter(|pod| worker.pods.contains_key(pod)).copied().collect();
        let (report_numbers, reports) = reports_to_register(&worker.memory).into_iter().unzip();
        RegistrationContent {
            reports,
            report_numbers,
            running_pods,
            started_pods,
            conditions: worker.conditions.borrow().clone(),
        }
    }
}

/// What was never acknowledged, as much of it as one message holds: what ran before what never did, and without words for
/// people if there is too much. In the order in which it happened.
fn reports_to_register(memory: &Memory) -> Vec<(u64, v1::PodReport)> {
    use v1::pod_report::Kind;
    let never_ran = |report: &v1::PodReport| matches!(report.kind, Some(Kind::NotStarted(_)) | None);
    let reports = memory.unacknowledged.iter().map(|(number, report)| (*number, report));
    let (rest, ends): (Vec<_>, Vec<_>) = reports.partition(|(_, report)| never_ran(report));
    let chosen = ends.into_iter().chain(rest).take(limits::REGISTRATION_REPORTS_MAX);
    let mut chosen: Vec<(u64, v1::PodReport)> =
        chosen.map(|(number, report)| (number, report.clone())).collect();
    chosen.sort_by_key(|(number, _)| *number);
    let bytes: usize = chosen.iter().map(|(_, report)| prost::Message::encoded_len(report)).sum();
    if bytes > limits::REGISTRATION_REPORTS_BYTES_MAX {
        for (_, report) in &mut chosen {
            if let Some(Kind::Exited(exited) | Kind::StartFailed(exited) | Kind::LeaseExpired(exited)) =
                &mut report.kind
                && let Some(termination) = &mut exited.termination
            {
                termination.message.clear();
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{NumberedReport, bytes_of};

    #[test]
    fn a2_a_registration_fits_into_one_message_however_much_was_never_acknowledged() {
        let mut memory = Memory::default();
        let mut number = 0;
        for uid in 1..=limits::REGISTRATION_REPORTS_MAX as u128 {
            let termination = v1::ContainerStateTerminated {
                exit_code: 1,
                reason: "Error".to_owned(),
                message: "x".repeat(limits::END_MESSAGE_BYTES_MAX),
                ..v1::ContainerStateTerminated::default()
            };
            let exited = v1::ContainerExited {
                container: "main".to_owned(),
                restart_count: 0,
                termination: Some(termination),
            };
            for (uid, kind) in [
                (uid, v1::pod_report::Kind::NotStarted(v1::NotStarted::default())),
                (uid << 64, v1::pod_report::Kind::Exited(exited)),
            ] {
                let report = v1::PodReport { pod_uid: bytes_of(uid).into(), kind: Some(kind) };
                number += 1;
                memory.apply(&Change::Report(NumberedReport { number, report: Some(report) }));
            }
        }
        let to_register = |memory: &Memory| -> Vec<v1::PodReport> {
            reports_to_register(memory).into_iter().map(|(_, report)| report).collect()
        };
        let reports = to_register(&memory);
        assert_eq!(reports.len(), limits::REGISTRATION_REPORTS_MAX);
        let ends =
            reports.iter().filter(|report| matches!(report.kind, Some(v1::pod_report::Kind::Exited(_))));
        assert_eq!(ends.count(), limits::REGISTRATION_REPORTS_MAX, "what ran comes first");
        let bytes: usize = reports.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes < limits::REGISTRATION_REPORTS_BYTES_MAX, "{bytes} bytes");
        // Few keep their words.
        memory.unacknowledged.retain(|number, _| *number == 2);
        let reports = to_register(&memory);
        let Some(v1::pod_report::Kind::Exited(exited)) = &reports[0].kind else { panic!("{reports:?}") };
        let length = exited.termination.as_ref().unwrap().message.len();
        assert_eq!(length, limits::END_MESSAGE_BYTES_MAX);
    }
}
