//! A server of the model: the real table of leases, and a driver that does what the leader's lease loop does.
//!
//! Owns: its clock, its belief to lead, its round in flight, heartbeats that lie unread while it is held up, records that the
//! promises are checked by. Does not own: the replicated state, messages in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stint_api::{Incarnation, NodeName};
use stint_lease::{BootInstant, LeaseTable, RoundId, TableEffect, limits};

use crate::cluster::{Heartbeat, TICK, ticks_of};
use crate::mutant::{Mutant, Rules};

/// A quorum round that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Round {
    pub id: RoundId,
    /// It began while its leader led, so that a quorum may confirm it, however late.
    pub can_be_confirmed: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    table: LeaseTable,
    /// The term that it believes to lead.
    pub term: Option<u64>,
    /// The live incarnation in the state that it has applied; a deposed leader's stands still.
    pub known_live: Option<Incarnation>,
    pub round: Option<Round>,
    /// Heartbeats that arrived while it was the true leader of its term, with its own ticks until then. Only these may it
    /// answer: a round that begins later and is confirmed shows that it led after they arrived.
    pub arrived: BTreeMap<(Incarnation, u64), u8>,
    /// The incarnation that it has decided to expire.
    pub marked: Option<Incarnation>,
    /// Ticks for which it was not held up since it leads; counted only where the model holds servers up.
    own_ticks: u8,
    /// Its own ticks when what renewed the lease last arrived.
    renewed_at_own_tick: u8,
    /// Ticks that have passed while it was held up.
    missed: u8,
    /// Heartbeats that arrived meanwhile.
    unread: BTreeSet<Heartbeat>,
    /// A round that could be confirmed has begun; kept for [`Mutant::EarlierRoundConfirms`] only.
    has_begun_round: bool,
    /// It has looked at its table a second time within this tick.
    has_polled: bool,
}

/// The one node.
pub fn node() -> NodeName {
    NodeName::new("w1")
}

impl Server {
    /// One that follows.
    pub fn new(rules: &Rules) -> Server {
        Server {
            table: LeaseTable::new(rules.leader_numbers()),
            term: None,
            known_live: None,
            round: None,
            arrived: BTreeMap::new(),
            marked: None,
            own_ticks: 0,
            renewed_at_own_tick: 0,
            missed: 0,
            unread: BTreeSet::new(),
            has_begun_round: false,
            has_polled: false,
        }
    }

    /// A7: its first commit of the term is applied.
    pub fn lead(
        &mut self,
        term: u64,
        live: Option<Incarnation>,
        tick: u8,
        rules: &Rules,
    ) -> Vec<TableEffect> {
        *self = Server { table: self.table.clone(), has_polled: self.has_polled, ..Server::new(rules) };
        self.term = Some(term);
        self.known_live = live;
        let nodes = live.map(|incarnation| (node(), incarnation));
        let (numbers, now) = (rules.leader_numbers(), self.now(tick));
        if rules.mutant != Mutant::NewLeaderWaitsZero || term == 1 {
            self.table.lead(term, numbers, nodes, now);
            return Vec::new();
        }
        let whole = numbers.node_lease + numbers.expiry_grace;
        let past = BootInstant(now.0 - whole);
        self.table.lead(term, numbers, nodes, past);
        // In steps, as a loop that is not held up does.
        (1..=u32::from(ticks_of(whole))).flat_map(|step| self.table.advance(past.plus(TICK * step))).collect()
    }

    /// A tick of the clock, which the loop sleeps through if it is held up.
    pub fn advance(&mut self, tick: u8, is_held_up: bool, rules: &Rules) -> Vec<TableEffect> {
        if is_held_up {
            self.missed += 1;
            return Vec::new();
        }
        self.has_polled = false;
        let mut effects = Vec::new();
        // A6: everything that has arrived comes before time passes.
        for heartbeat in std::mem::take(&mut self.unread) {
            effects.extend(self.take_heartbeat(heartbeat, tick));
        }
        let missed = std::mem::take(&mut self.missed);
        self.own_ticks += u8::from(rules.are_servers_held_up);
        if rules.mutant == Mutant::DelayIsNotMadeUpFor {
            for late in (1..=missed).rev() {
                effects.extend(self.table.advance(self.now(tick - late)));
            }
        }
        effects.extend(self.table.advance(self.now(tick)));
        effects
    }

    /// A heartbeat arrives. The first of a tick is given the time of a batch, so that its round may begin within the tick.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat, is_true_leader: bool, tick: u8) -> Vec<TableEffect> {
        if is_true_leader {
            self.arrived.entry((heartbeat.incarnation, heartbeat.seq)).or_insert(self.own_ticks);
        }
        if self.missed > 0 {
            self.unread.insert(heartbeat);
            return Vec::new();
        }
        let mut effects = self.take_heartbeat(heartbeat, tick);
        if !self.has_polled {
            self.has_polled = true;
            effects.extend(self.table.advance(self.now(tick)));
        }
        effects
    }

    /// The table has begun a round.
    pub fn round_begun(&mut self, id: RoundId, is_true_leader: bool, rules: &Rules) {
        let is_taken_for_confirmed = match rules.mutant {
            Mutant::RenewsWithoutQuorumRound => true,
            Mutant::EarlierRoundConfirms => std::mem::replace(&mut self.has_begun_round, true),
            _ => false,
        };
        self.round = Some(Round { id, can_be_confirmed: is_true_leader || is_taken_for_confirmed });
    }

    /// It has answered that heartbeat.
    pub fn answered(&mut self, incarnation: Incarnation, seq: u64) {
        let arrived = self.arrived.get(&(incarnation, seq)).copied().unwrap_or_default();
        self.renewed_at_own_tick = self.renewed_at_own_tick.max(arrived);
    }

    /// Its own ticks since what renewed the lease last arrived.
    pub fn own_ticks_since_renewal(&self) -> u8 {
        self.own_ticks - self.renewed_at_own_tick
    }

    /// True if the loop looks at what comes.
    pub fn is_awake(&self) -> bool {
        self.missed == 0
    }

    /// The round was confirmed, and `apply` had reached its read index.
    pub fn round_confirmed(&mut self, rules: &Rules) -> Vec<TableEffect> {
        let Some(round) = self.round.take() else { return Vec::new() };
        self.table.round_confirmed(round.id, 1);
        let live = match rules.mutant {
            Mutant::AnswersAnyIncarnation => {
                self.arrived.keys().last().map(|(incarnation, _)| *incarnation).or(self.known_live)
            }
            _ => self.known_live,
        };
        self.table.applied(1, |_| live)
    }

    /// The round was not confirmed.
    pub fn round_failed(&mut self, tick: u8) {
        if let Some(round) = self.round.take() {
            self.table.round_failed(round.id, self.now(tick));
        }
    }

    /// A registration was applied.
    pub fn registered(&mut self, incarnation: Incarnation, tick: u8) {
        self.known_live = Some(incarnation);
        self.renewed_at_own_tick = self.own_ticks;
        self.table.registered(node(), incarnation, self.now(tick));
    }

    /// An expiry was applied.
    pub fn removed(&mut self, incarnation: Incarnation) {
        self.known_live = None;
        self.table.removed(&node(), incarnation);
    }

    fn take_heartbeat(&mut self, heartbeat: Heartbeat, tick: u8) -> Vec<TableEffect> {
        self.table.heartbeat(node(), heartbeat.incarnation, heartbeat.seq, self.now(tick))
    }

    fn now(&self, tick: u8) -> BootInstant {
        let within = if self.has_polled { limits::ROUND_BATCH } else { Duration::ZERO };
        BootInstant(Duration::from_secs(1_000) + TICK * u32::from(tick) + within)
    }
}
