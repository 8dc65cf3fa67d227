//! Telling the servers what the node is like, when that has changed since it registered.
//!
//! Owns: what the servers know of it. Does not own: what it is (module `node_conditions`).

use stint_api::AGENT_STOPPED;
use stint_lease::{BootInstant, LeaseState};
use stint_proto::v1;

use super::Worker;
use crate::limits;
use crate::node_conditions::Conditions;

/// What the servers know.
#[derive(Debug, Default)]
pub(super) struct ToldConditions {
    /// Applied; none while something is under way.
    known: Option<Conditions>,
    /// Said, and not acknowledged.
    under_way: Option<UnderWay>,
    /// The last that was used.
    number: u64,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    session: u64,
    said_at: BootInstant,
    conditions: Conditions,
}

impl ToldConditions {
    /// They came with a registration, which is applied.
    pub(super) fn registered(&mut self, conditions: Conditions) {
        self.known = Some(conditions);
        self.under_way = None;
    }

    pub(super) fn acknowledged(&mut self, ack: &v1::NodeConditionsAck) {
        if let Some(said) = self.under_way.take_if(|said| said.number == ack.number) {
            self.known = Some(said.conditions);
        }
    }

    /// What is to be said in this session now, if anything, and its number.
    fn due(&mut self, present: &Conditions, session: u64, now: BootInstant) -> Option<u64> {
        if self.known.as_ref() == Some(present) {
            return None;
        }
        let is_under_way = self.under_way.as_ref().is_some_and(|said| {
            said.session == session
                && said.conditions == *present
                && now.since(said.said_at) < limits::CONDITIONS_ANSWER_PATIENCE
        });
        if is_under_way {
            return None;
        }
        // What is under way may be applied or not.
        self.known = None;
        self.number += 1;
        let (number, conditions) = (self.number, present.clone());
        self.under_way = Some(UnderWay { number, session, said_at: now, conditions });
        Some(number)
    }
}

impl Worker {
    /// Whether the servers know what is so now.
    pub(super) fn conditions_are_known(&self) -> bool {
        self.told_conditions.known.as_ref() == Some(&self.present_conditions())
    }

    fn present_conditions(&self) -> Conditions {
        let seen = self.conditions.borrow().clone();
        if !self.is_leaving {
            return seen;
        }
        let stopped = v1::NodeCondition {
            r#type: AGENT_STOPPED.to_owned(),
            status: v1::ConditionStatus::True.into(),
            reason: AGENT_STOPPED.to_owned(),
            message: "its agent has ended; what it left running goes on until the lease is over".to_owned(),
            ..v1::NodeCondition::default()
        };
        seen.iter().cloned().chain([stopped]).collect()
    }

    /// Says it, unless the servers know or are being told.
    pub(super) fn say_conditions(&mut self, now: BootInstant) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        let Some(session) = self.session.as_ref().filter(|session| session.is_established) else { return };
        let present = self.present_conditions();
        let Some(number) = self.told_conditions.due(&present, session.number, now) else { return };
        self.send(v1::agent_message::Message::NodeConditions(v1::NodeConditions {
            incarnation: incarnation.0,
            number,
            conditions: present.to_vec(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_changed_is_said_until_it_is_acknowledged_and_in_each_session() {
        let of = |kind: &str| -> Conditions {
            [v1::NodeCondition { r#type: kind.to_owned(), ..v1::NodeCondition::default() }].into()
        };
        let at = |seconds: u64| BootInstant(Duration::from_secs(seconds));
        let patience = limits::CONDITIONS_ANSWER_PATIENCE.as_secs();
        let mut told = ToldConditions::default();
        told.registered(of("a"));
        assert_eq!(told.due(&of("a"), 1, at(0)), None);
        assert_eq!(told.due(&of("b"), 1, at(1)), Some(1));
        assert_eq!(told.due(&of("b"), 1, at(2)), None, "it is under way");
        assert_eq!(told.due(&of("b"), 2, at(3)), Some(2), "another session, another leader");
        assert_eq!(told.due(&of("b"), 2, at(3 + patience)), Some(3), "no answer came");
        assert_eq!(told.due(&of("c"), 2, at(4 + patience)), Some(4), "it has changed again");
        told.acknowledged(&v1::NodeConditionsAck { number: 3 });
        assert_eq!(told.due(&of("b"), 2, at(5 + patience)), Some(5), "b is not known: c was under way");
        told.acknowledged(&v1::NodeConditionsAck { number: 5 });
        assert_eq!(told.due(&of("b"), 2, at(6 + patience)), None);
        assert_eq!(told.due(&of("c"), 2, at(6 + patience)), Some(6));
        // Back to what is known while the change is under way: it may be applied, so it is said.
        assert_eq!(told.due(&of("b"), 2, at(6 + patience)), Some(7));
    }
}
