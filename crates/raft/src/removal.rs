//! A server that has no place in its cluster any more finds out: nobody sends it anything, so it has to ask. It was removed,
//! or another server runs on a copy of its data folder, at the place where the others look for it.
//!
//! Owns: when it asks, what it concludes. Does not own: removing (module `membership`).
//!
//! Invariant: it believes only a leader that a majority answers, whose members are committed, twice, and only while it hears of
//! none itself. A server gets its id once that is committed, and ids are never reused (decision 13): a member that is merely
//! cut off, that is new and not known everywhere, that a leader of the past has not heard of, or whose removal may still come
//! to nothing, goes on. A server that has moved tells nobody before it has seen that no other is where it was: else two on
//! copies of one folder would take turns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::bootstrap::{Answer, ask};
use crate::limits::{REMOVAL_CONFIRMATIONS, REMOVAL_LOOK_INTERVAL_MS};
use crate::peer::connection::{DialError, dial};
use crate::peer::handshake::HandshakeError;
use crate::running::Running;

/// Why nobody speaks to this server.
pub(crate) enum Outcast {
    /// A leader knows no such member.
    Removed,
    /// Another process answers at the address that a leader has for this member.
    Copy { address: String },
}

impl Running {
    /// Ends this server once it is certain that it has no place in the cluster.
    pub(crate) async fn watch_removal(self: Arc<Self>) {
        let mut confirmations = 0;
        let outcast = loop {
            tokio::time::sleep(Duration::from_millis(REMOVAL_LOOK_INTERVAL_MS)).await;
            let is_led = self.status().leader.is_some();
            let found = if is_led { None } else { self.look_for_itself().await };
            let Some(outcast) = found else {
                confirmations = 0;
                continue;
            };
            confirmations += 1;
            if confirmations >= REMOVAL_CONFIRMATIONS {
                break outcast;
            }
        };
        self.note_outcast(outcast);
    }

    /// Ends this server, and says why.
    pub(crate) fn note_outcast(&self, outcast: Outcast) {
        let member = format!("member {} ({:?})", self.own, self.newcomer.name);
        self.note_fatal(match outcast {
            Outcast::Removed => format!(
                "this server, {member}, was removed from cluster {}: stop it for good, or let it in again with an empty data folder and `stint member add`",
                self.cluster_id
            ),
            Outcast::Copy { address } => format!(
                "another server runs as {member} at {address}, and the cluster knows that one: the two run on copies of one data folder; remove this one's, unless the other is the mistake"
            ),
        });
    }

    /// Asks a leader for this member, and whoever is at its address for itself.
    async fn look_for_itself(&self) -> Option<Outcast> {
        let others = self.members().into_iter().filter(|member| member.id != self.own);
        let mut addresses: Vec<String> = others.map(|member| member.info.peer_address).collect();
        let mut asked: BTreeSet<String> = BTreeSet::new();
        while let Some(address) = addresses.pop() {
            if !asked.insert(address.clone()) {
                continue;
            }
            let Ok(Answer::Initialized(answer)) = ask(&self.newcomer, &self.context, &address).await else {
                continue;
            };
            if answer.cluster_id != self.cluster_id {
                continue;
            }
            let of_leader = answer.leader.and_then(|leader| answer.members.get(&leader));
            if answer.confirmed {
                return match answer.members.get(&self.own) {
                    None => Some(Outcast::Removed),
                    Some(own) => self.is_somebody_else_at(own).await,
                };
            }
            // Whoever leads knows, also if it has come after this server has gone.
            addresses.extend(of_leader.cloned());
        }
        None
    }

    /// Another process that answers as this member at an address.
    pub(crate) async fn is_somebody_else_at(&self, address: &str) -> Option<Outcast> {
        match dial(&self.context, address, None).await {
            Err(DialError::Handshake {
                source: HandshakeError::SameMember { is_itself: false, .. }, ..
            }) => Some(Outcast::Copy { address: address.to_owned() }),
            _ => None,
        }
    }
}
