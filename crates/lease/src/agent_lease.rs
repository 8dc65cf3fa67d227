//! The agent's view of its own lease (A2, A4, A9).
//!
//! Owns: the incarnation, the deadline, heartbeat numbers. Does not own: what is killed, how messages travel.
//!
//! Invariants: the deadline counts from the *sending* of what renewed it; it only moves forward; once it has passed it is
//! never extended, and the lease is lost until another incarnation is granted.

use std::collections::VecDeque;
use std::time::Duration;
use stint_api::Incarnation;

use crate::numbers::{BootInstant, LeaseNumbers};

/// Heartbeats without an answer that are remembered; older answers would not renew anything any more.
const HEARTBEATS_UNANSWERED_MAX: usize = 64;

/// What an agent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// No lease: it must register.
    Unregistered,
    /// It may run Pods until the deadline.
    Held {
        /// The present registration.
        incarnation: Incarnation,
        /// When everything must be killed unless the lease is renewed before.
        deadline: BootInstant,
    },
    /// The deadline has passed: everything is being killed; it must register anew once that is done (A4).
    Lost {
        /// The registration that was lost.
        incarnation: Incarnation,
    },
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentLease {
    state: LeaseState,
    numbers: Option<LeaseNumbers>,
    /// Number and moment of the first sending of the registration that was sent last.
    registration: Option<(u64, BootInstant)>,
    last_seq: u64,
    /// Number and moment of sending of heartbeats without an answer.
    unanswered: VecDeque<(u64, BootInstant)>,
    next_heartbeat_at: BootInstant,
}

impl Default for AgentLease {
    fn default() -> AgentLease {
        AgentLease {
            state: LeaseState::Unregistered,
            numbers: None,
            registration: None,
            last_seq: 0,
            unanswered: VecDeque::new(),
            next_heartbeat_at: BootInstant::default(),
        }
    }
}

impl AgentLease {
    /// What the agent may do now. Call [`AgentLease::advance`] first.
    pub fn state(&self) -> LeaseState {
        self.state
    }

    /// The numbers of the lease, once one was granted.
    pub fn numbers(&self) -> Option<&LeaseNumbers> {
        self.numbers.as_ref()
    }

    /// Registration `number` is about to be sent, maybe once more. Returns what its lease counts from: the *first* sending
    /// of that number. The servers repeat their answer to a number that they know (A2), and the lease that they gave has
    /// been running since they met it first.
    pub fn registration_sent(&mut self, number: u64, now: BootInstant) -> BootInstant {
        match self.registration {
            Some((known, first_sent_at)) if known == number => first_sent_at,
            _ => {
                self.registration = Some((number, now));
                now
            }
        }
    }

    /// A registration was granted: a new lease, counted from `sent_at`, which [`AgentLease::registration_sent`] told. If
    /// that is long ago, the lease is over at the next [`AgentLease::advance`], and the agent registers under another number.
    pub fn granted(&mut self, incarnation: Incarnation, numbers: LeaseNumbers, sent_at: BootInstant) {
        let deadline = numbers.agent_deadline(sent_at);
        self.numbers = Some(numbers);
        self.unanswered.clear();
        self.state = LeaseState::Held { incarnation, deadline };
        self.next_heartbeat_at = sent_at.plus(numbers.heartbeat_interval);
    }

    /// A session was opened anew under the same registration: nothing is renewed, but a heartbeat is due at once.
    pub fn resumed(&mut self, now: BootInstant) {
        self.next_heartbeat_at = now;
        // Answers to heartbeats of the broken session can't come any more.
        self.unanswered.clear();
    }

    /// The servers say that the registration does not hold, or the agent gave it up: it must register anew.
    pub fn dropped(&mut self) {
        self.state = LeaseState::Unregistered;
        self.unanswered.clear();
    }

    /// Time passes. True just once per lease: everything must be killed now.
    pub fn advance(&mut self, now: BootInstant) -> bool {
        match self.state {
            LeaseState::Held { incarnation, deadline } if now >= deadline => {
                self.state = LeaseState::Lost { incarnation };
                self.unanswered.clear();
                true
            }
            _ => false,
        }
    }

    /// True if a heartbeat should be sent.
    pub fn is_heartbeat_due(&self, now: BootInstant) -> bool {
        matches!(self.state, LeaseState::Held { .. }) && now >= self.next_heartbeat_at
    }

    /// A heartbeat is about to be sent: its number.
    pub fn heartbeat_sent(&mut self, now: BootInstant) -> u64 {
        self.last_seq += 1;
        if self.unanswered.len() == HEARTBEATS_UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((self.last_seq, now));
        if let Some(numbers) = &self.numbers {
            self.next_heartbeat_at = now.plus(numbers.heartbeat_interval);
        }
        self.last_seq
    }

    /// A heartbeat was answered. An answer to one that is not remembered, or older than one answered before, changes nothing,
    /// nor does one that comes at or after the deadline (A4). It never ends the lease: [`AgentLease::advance`] alone does, so
    /// that the one moment at which everything must be killed can't be missed.
    pub fn answered(&mut self, seq: u64, now: BootInstant) {
        let LeaseState::Held { incarnation, deadline } = self.state else { return };
        let Some(numbers) = &self.numbers else { return };
        if now >= deadline {
            return;
        }
        let Some((_, sent_at)) = self.unanswered.iter().find(|(sent, _)| *sent == seq).copied() else {
            return;
        };
        self.unanswered.retain(|(sent, _)| *sent > seq);
        let deadline = deadline.max(numbers.agent_deadline(sent_at));
        self.state = LeaseState::Held { incarnation, deadline };
    }

    /// A9: whether a Pod that was ordered under `incarnation` may be started at this very moment.
    pub fn may_start(&self, incarnation: Incarnation, now: BootInstant) -> bool {
        matches!(self.state, LeaseState::Held { incarnation: current, deadline } if current == incarnation && now < deadline)
    }

    /// How long until something is due: the deadline or, in a session that takes heartbeats, the next one. Without a session
    /// an overdue heartbeat is nothing to wake up for. `None` without a lease.
    pub fn next_wakeup(&self, now: BootInstant, has_session: bool) -> Option<Duration> {
        match self.state {
            LeaseState::Held { deadline, .. } if has_session => {
                Some(deadline.min(self.next_heartbeat_at).since(now))
            }
            LeaseState::Held { deadline, .. } => Some(deadline.since(now)),
            LeaseState::Unregistered | LeaseState::Lost { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    fn held() -> AgentLease {
        let mut lease = AgentLease::default();
        let numbers = LeaseNumbers::from_node_lease(Duration::from_secs(10)).unwrap();
        lease.granted(Incarnation(5), numbers, at(100));
        lease
    }

    #[test]
    fn a4_the_deadline_counts_from_the_sending_of_what_was_answered() {
        let mut lease = held();
        assert_eq!(lease.state(), LeaseState::Held { incarnation: Incarnation(5), deadline: at(107) });
        let first = lease.heartbeat_sent(at(102));
        let second = lease.heartbeat_sent(at(104));
        lease.answered(second, at(105));
        assert_eq!(lease.state(), LeaseState::Held { incarnation: Incarnation(5), deadline: at(111) });
        lease.answered(first, at(106));
        assert_eq!(
            lease.state(),
            LeaseState::Held { incarnation: Incarnation(5), deadline: at(111) },
            "an older answer"
        );
        lease.answered(99, at(106));
        assert_eq!(
            lease.state(),
            LeaseState::Held { incarnation: Incarnation(5), deadline: at(111) },
            "never sent"
        );
    }

    #[test]
    fn a2_a_registration_that_is_sent_again_counts_from_its_first_sending() {
        let mut lease = AgentLease::default();
        assert_eq!(lease.registration_sent(3, at(100)), at(100));
        assert_eq!(lease.registration_sent(3, at(105)), at(100), "the servers may know it since the first");
        let numbers = LeaseNumbers::from_node_lease(Duration::from_secs(10)).unwrap();
        lease.granted(Incarnation(5), numbers, at(100));
        assert_eq!(lease.state(), LeaseState::Held { incarnation: Incarnation(5), deadline: at(107) });
        assert_eq!(lease.registration_sent(4, at(120)), at(120), "another number is another lease");
    }

    #[test]
    fn a4_a_deadline_that_has_passed_is_never_extended() {
        let mut lease = held();
        let seq = lease.heartbeat_sent(at(106));
        lease.answered(seq, at(107));
        assert_eq!(
            lease.state(),
            LeaseState::Held { incarnation: Incarnation(5), deadline: at(107) },
            "answered at the deadline is too late"
        );
        assert!(!lease.may_start(Incarnation(5), at(107)));
        assert!(lease.advance(at(107)), "the answer has not swallowed the order to kill everything");
        let mut lease = held();
        let seq = lease.heartbeat_sent(at(106));
        assert!(lease.advance(at(107)));
        assert!(!lease.advance(at(108)), "said once");
        lease.answered(seq, at(108));
        assert_eq!(lease.state(), LeaseState::Lost { incarnation: Incarnation(5) });
        assert!(!lease.is_heartbeat_due(at(120)));
    }

    #[test]
    fn a9_nothing_starts_under_another_incarnation_or_at_the_deadline() {
        let lease = held();
        assert!(lease.may_start(Incarnation(5), at(106)));
        assert!(!lease.may_start(Incarnation(4), at(106)));
        assert!(!lease.may_start(Incarnation(5), at(107)), "also if nobody has noticed yet");
        assert!(!AgentLease::default().may_start(Incarnation(0), at(0)));
    }

    #[test]
    fn an_overdue_heartbeat_wakes_nobody_without_a_session() {
        let lease = held();
        assert_eq!(lease.next_wakeup(at(101), true), Some(Duration::from_secs(1)));
        assert_eq!(lease.next_wakeup(at(103), true), Some(Duration::ZERO));
        assert_eq!(lease.next_wakeup(at(103), false), Some(Duration::from_secs(4)), "the deadline does");
        assert_eq!(AgentLease::default().next_wakeup(at(103), true), None);
    }

    #[test]
    fn a3_a_new_session_heartbeats_at_once_and_renews_nothing() {
        let mut lease = held();
        let lost = lease.heartbeat_sent(at(102));
        lease.resumed(at(103));
        assert!(lease.is_heartbeat_due(at(103)));
        lease.answered(lost, at(103));
        assert_eq!(lease.state(), LeaseState::Held { incarnation: Incarnation(5), deadline: at(107) });
    }
}
