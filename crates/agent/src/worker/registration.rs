//! How a session begins: a registration or the resumption of one (A2).

use std::time::Duration;
use stint_api::{Incarnation, PodUid};
use stint_lease::{BootInstant, LeaseNumbers, LeaseState};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use tokio::sync::mpsc;

use super::{Internal, Session, Worker, now, session};
use crate::error::Error;
use crate::journal::{Change, Granted, Registration};
use crate::limits;
use crate::logs::LogServer;

/// How long a registration that can't hold yet waits, unless the server says.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Worker {
    /// Opens a stream to the next server, with the right first message, if one can be said now.
    pub(super) fn open_session(&mut self, now: BootInstant) {
        if self.is_stopping {
            return;
        }
        let (first, registration_counts_from) = match self.lease.state() {
            LeaseState::Held { incarnation, .. } => (self.resume_message(incarnation), None),
            // A4: first everything has to be dead.
            LeaseState::Lost { .. } | LeaseState::Unregistered if self.has_runs() => return,
            LeaseState::Lost { .. } | LeaseState::Unregistered => {
                if !self.registration_ready {
                    self.prepare_registration();
                    return;
                }
                // Sent again over another stream, it counts from the first: the servers only repeat their answer (A2).
                let counts_from = self.lease.registration_sent(self.memory.registration_number, now);
                (self.register_message(), Some(counts_from))
            }
        };
        let Some(address) = self.addresses.front().cloned() else { return };
        self.sessions += 1;
        let (outgoing, messages) = mpsc::channel(limits::OUTGOING_MESSAGES_MAX);
        // The channel is new and has room.
        drop(outgoing.try_send(v1::AgentMessage { message: Some(first) }));
        let reader = tokio::spawn(session::run(
            self.sessions,
            address.clone(),
            self.interceptor.clone(),
            messages,
            self.stream.0.clone(),
        ));
        self.session = Some(Session {
            number: self.sessions,
            address,
            logs: LogServer::new(self.store.clone(), outgoing.clone()),
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

    fn has_runs(&self) -> bool {
        self.pods.values().any(|pod| pod.run.is_some())
    }

    /// A new registration number must be durable before it is sent.
    fn prepare_registration(&mut self) {
        if std::mem::replace(&mut self.is_registering, true) {
            return;
        }
        self.held.clear();
        self.pods.clear();
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

    fn register_message(&self) -> v1::agent_message::Message {
        let conditions = self.runtime.conditions().into_iter().map(|condition| v1::NodeCondition {
            r#type: condition.kind.to_owned(),
            status: v1::ConditionStatus::True.into(),
            last_transition_time: None,
            reason: condition.kind.to_owned(),
            message: condition.message,
        });
        v1::agent_message::Message::Register(v1::Register {
            node_name: self.config.name.clone(),
            node_uid: uid_to_wire(self.memory.node_uid),
            boot_id: self.boot_id.clone(),
            registration_number: self.memory.registration_number,
            nonce: self.memory.registration_nonce,
            previous_incarnation: self.memory.incarnation.0,
            cluster_id: self.memory.cluster_id.map(uid_to_wire).unwrap_or_default(),
            unacknowledged_reports: self.memory.unacknowledged.values().cloned().collect(),
            // Pods end with their agent and with their lease: whenever one registers, nothing runs.
            running_pods: Vec::new(),
            started_pods: self.memory.started.iter().copied().map(uid_to_wire).collect(),
            capacity: Some(self.config.capacity.into()),
            labels: self.config.labels.clone(),
            runtimes: vec![self.runtime.name().to_owned()],
            conditions: conditions.collect(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
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
                self.registration_ready = false;
                self.lease.granted(incarnation, numbers, sent_at);
                let cluster_id = crate::journal::number_of(&registered.cluster_id);
                let mut changes = vec![Change::Granted(Granted {
                    incarnation: incarnation.0,
                    cluster_id: crate::journal::bytes_of(cluster_id),
                })];
                // They came with the registration, which is applied.
                changes.extend(
                    self.memory
                        .unacknowledged
                        .keys()
                        .map(|pod| Change::Acknowledged(crate::journal::bytes_of(pod.0))),
                );
                self.outbox.clear();
                self.remember(changes);
                tracing::info!(node = %self.config.name, incarnation = incarnation.0, "registered");
            }
            None => self.lease.resumed(now),
        }
        self.last_problem.clear();
        self.learn_addresses(&registered.server_addresses);
        if let Some(session) = &mut self.session {
            session.is_established = true;
        }
        self.heartbeat(now);
        self.ask_for_desired_set(incarnation);
    }

    /// The registration does not hold.
    pub(super) fn refused(&mut self, refused: &v1::Refused) -> Result<(), Error> {
        use v1::RefusalReason;
        let asked = Duration::from_millis(refused.retry_after_ms);
        let pause = if asked.is_zero() { REFUSED_PAUSE } else { asked.min(Duration::from_secs(30)) };
        match refused.reason() {
            RefusalReason::ClonedFolder | RefusalReason::Invalid => {
                self.kill_all(false);
                return Err(Error::Refused { message: refused.message.clone() });
            }
            RefusalReason::StaleRegistration => {
                self.registration_ready = false;
                self.close_session(&refused.message, Duration::ZERO);
            }
            RefusalReason::StaleIncarnation => {
                tracing::warn!(node = %self.config.name, "the registration has expired: killing all pods");
                self.lease.dropped();
                self.kill_all(true);
                self.close_session(&refused.message, Duration::ZERO);
            }
            RefusalReason::OtherCluster => {
                tracing::warn!(node = %self.config.name, "the servers are of another cluster: forgetting the old one's pods");
                self.lease.dropped();
                self.kill_all(false);
                self.registration_ready = false;
                self.outbox.clear();
                self.remember(vec![Change::Reset(true)]);
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

    /// Servers that were added later are known from the registration on.
    fn learn_addresses(&mut self, addresses: &[String]) {
        for address in addresses.iter().take(limits::SERVER_ADDRESSES_MAX) {
            if !self.addresses.contains(address) {
                self.addresses.push_back(address.clone());
            }
        }
        self.addresses.truncate(2 * limits::SERVER_ADDRESSES_MAX);
    }

    /// Removes folders of Pods that the journal does not know: a crash came between their end and the removal.
    pub(super) async fn remove_unknown_folders(&self) {
        let known = |name: &str| name.parse::<PodUid>().is_ok_and(|pod| self.memory.started.contains(&pod));
        for uid in self.store.pods().await.unwrap_or_default() {
            if !known(&uid)
                && let Err(error) = self.store.delete_pod(&uid).await
            {
                tracing::warn!(pod.uid = %uid, %error, "the log of a pod that is gone can't be removed");
            }
        }
        let folder = self.config.data_dir.join("pods");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(known)
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "the folder of a pod that is gone can't be removed");
            }
        }
    }
}
