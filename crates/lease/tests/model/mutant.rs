//! Faults that are built into the drivers of the lease model, to show that the checker would find them.
//!
//! Owns: the list, the lease numbers that each fault leaves. Does not own: what else each changes, which stands where the driver
//! does it.

use std::time::Duration;

use stint_lease::LeaseNumbers;

/// One deliberate fault, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The protocol as it is.
    None,
    /// A4 broken: the agent counts its deadline from the receipt of the answer.
    DeadlineFromReceipt,
    /// A4 broken: an answer revives a lease whose deadline has passed.
    PassedDeadlineExtended,
    /// A4 broken: the agent registers anew while it is still killing what ran under the lost lease.
    RegistersWhileKilling,
    /// A4 broken: the agent kills when the whole lease is over.
    NoFenceMargin,
    /// A6 broken: the leader expires a node as soon as the whole lease is over.
    NoExpiryGrace,
    /// A2 broken: a registration that is sent again counts from the last sending, though the servers only repeat their answer.
    RegistrationCountsFromLastSending,
    /// A5 broken: a leader takes every round for confirmed.
    RenewsWithoutQuorumRound,
    /// A5 broken: a leader takes a round for confirmed because one that began before the heartbeat arrived was.
    EarlierRoundConfirms,
    /// A5 broken: the incarnation of a heartbeat is not compared with the state.
    AnswersAnyIncarnation,
    /// A6 broken: a heartbeat that waited while the expiry was decided is answered all the same. The mark is a second lock: R6
    /// holds without it, since an answer that late finds a lease that has run out, which A4 never revives.
    NoMarkAtAnswering,
    /// A6 broken: `apply` takes an expiry that was decided in another term.
    ExpiryOfAnotherTermApplies,
    /// A6 broken: `apply` takes an expiry of an earlier incarnation.
    ExpiryOfAnotherIncarnationApplies,
    /// A6 broken: a leader that was held up does as if its clock had stood still for nobody.
    DelayIsNotMadeUpFor,
    /// A7 broken: a new leader takes every lease for as old as can be.
    NewLeaderWaitsZero,
    /// A9 broken: nothing is checked at the moment of the start.
    NoStartGate,
    /// A9 broken: the start gate looks at the lease, but not at the incarnation of the order.
    StartGateIgnoresIncarnation,
}

/// What the drivers go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// As the protocol has them.
    pub numbers: LeaseNumbers,
    pub mutant: Mutant,
    /// The model holds servers up, and so counts how long they were not.
    pub are_servers_held_up: bool,
}

impl Rules {
    /// What the agent goes by.
    pub fn agent_numbers(&self) -> LeaseNumbers {
        match self.mutant {
            Mutant::NoFenceMargin => LeaseNumbers { fence_margin: Duration::ZERO, ..self.numbers },
            _ => self.numbers,
        }
    }

    /// What the servers go by.
    pub fn leader_numbers(&self) -> LeaseNumbers {
        match self.mutant {
            Mutant::NoExpiryGrace => LeaseNumbers { expiry_grace: Duration::ZERO, ..self.numbers },
            _ => self.numbers,
        }
    }
}
