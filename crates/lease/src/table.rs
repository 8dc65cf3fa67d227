//! The leader's table of leases (A5, A6, A7).
//!
//! Owns: who was renewed when, which heartbeats wait for which quorum round, who is being expired. Does not own: the rounds
//! themselves, the log, sessions.
//!
//! Invariants: a heartbeat is answered only by a quorum round begun after it arrived, and only once `apply` has reached that
//! round's read index and knows the same incarnation; from the decision to expire an incarnation on it is never renewed, also
//! not by a heartbeat that was waiting; a new leader gives every node a whole lease.

use std::collections::BTreeMap;
use std::time::Duration;
use stint_api::{Incarnation, NodeName};

use crate::limits;
use crate::numbers::{BootInstant, LeaseNumbers};

/// One quorum round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId(pub u64);

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableEffect {
    /// Confirm leadership by a quorum round that begins now, then call [`LeaseTable::round_confirmed`] or
    /// [`LeaseTable::round_failed`].
    BeginRound(RoundId),
    /// Renewed: tell the agent.
    Answer {
        /// Which node.
        node: NodeName,
        /// Which registration.
        incarnation: Incarnation,
        /// Of the heartbeat.
        seq: u64,
    },
    /// Not renewed: tell the agent that its registration does not hold.
    Refuse {
        /// Which node.
        node: NodeName,
        /// Which registration.
        incarnation: Incarnation,
        /// Why.
        reason: HeartbeatRefusal,
    },
    /// Propose `ExpireNode`.
    Expire {
        /// Which node.
        node: NodeName,
        /// Which registration.
        incarnation: Incarnation,
        /// The leader's term; `apply` rejects another.
        term: u64,
    },
}

/// Why a heartbeat is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeartbeatRefusal {
    /// The state knows another incarnation of the node, or none.
    StaleIncarnation,
    /// The incarnation is being expired.
    Expiring,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lease {
    incarnation: Incarnation,
    /// Receipt of the heartbeat that was answered last, or what stands for it.
    renewed_at: BootInstant,
    /// A6: when the expiry was proposed last.
    expire_proposed_at: Option<BootInstant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Heartbeat {
    incarnation: Incarnation,
    seq: u64,
    received_at: BootInstant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Round {
    id: RoundId,
    begun_at: BootInstant,
    heartbeats: BTreeMap<NodeName, Heartbeat>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseTable {
    numbers: LeaseNumbers,
    /// The term in which this server leads.
    term: Option<u64>,
    leases: BTreeMap<NodeName, Lease>,
    /// Heartbeats that came after the present round began: the newest of each node.
    waiting: BTreeMap<NodeName, Heartbeat>,
    waiting_since: Option<BootInstant>,
    in_flight: Option<Round>,
    /// The confirmed round that waits for `apply`, by the read index that it waits for. No other begins before it is
    /// answered, so that an `apply` that stands still doesn't fill the memory.
    confirmed: BTreeMap<u64, BTreeMap<NodeName, Heartbeat>>,
    next_round: u64,
    advanced_at: BootInstant,
}

impl LeaseTable {
    /// A table of a server that does not lead.
    pub fn new(numbers: LeaseNumbers) -> LeaseTable {
        LeaseTable {
            numbers,
            term: None,
            leases: BTreeMap::new(),
            waiting: BTreeMap::new(),
            waiting_since: None,
            in_flight: None,
            confirmed: BTreeMap::new(),
            next_round: 1,
            advanced_at: BootInstant::default(),
        }
    }

    /// The lease numbers.
    pub fn numbers(&self) -> &LeaseNumbers {
        &self.numbers
    }

    /// A7: the first commit of the term has been applied: every live node counts as renewed now.
    pub fn lead(
        &mut self,
        term: u64,
        numbers: LeaseNumbers,
        nodes: impl IntoIterator<Item = (NodeName, Incarnation)>,
        now: BootInstant,
    ) {
        self.stop_leading();
        self.numbers = numbers;
        self.term = Some(term);
        self.advanced_at = now;
        for (node, incarnation) in nodes {
            self.leases.insert(node, Lease { incarnation, renewed_at: now, expire_proposed_at: None });
        }
    }

    /// Leadership is lost: nothing is renewed any more, and marks are lifted (A6).
    pub fn stop_leading(&mut self) {
        self.term = None;
        self.leases.clear();
        self.waiting.clear();
        self.waiting_since = None;
        self.in_flight = None;
        self.confirmed.clear();
    }

    /// True while this server leads.
    pub fn is_leading(&self) -> bool {
        self.term.is_some()
    }

    /// A registration was applied: a new lease. It counts from now, which is after the agent sent it.
    pub fn registered(&mut self, node: NodeName, incarnation: Incarnation, now: BootInstant) {
        if self.term.is_none() || (self.leases.len() >= limits::NODES_MAX && !self.leases.contains_key(&node))
        {
            return;
        }
        self.forget_heartbeats(&node);
        let is_newer = self.leases.get(&node).is_none_or(|lease| lease.incarnation < incarnation);
        if is_newer {
            self.leases.insert(node, Lease { incarnation, renewed_at: now, expire_proposed_at: None });
        }
    }

    /// An expiry was applied, or the node was deleted.
    pub fn removed(&mut self, node: &NodeName, incarnation: Incarnation) {
        if self.leases.get(node).is_some_and(|lease| lease.incarnation <= incarnation) {
            self.leases.remove(node);
            self.forget_heartbeats(node);
        }
    }

    /// Live nodes of this server's own state, read now. Call it every second or so: a registration whose session broke before
    /// it was told here would otherwise never expire (R9). A node or incarnation that is not known yet gets a whole lease from
    /// now; what is not live any more is forgotten; all other leases and marks stay as they are.
    pub fn reconcile(&mut self, live: impl IntoIterator<Item = (NodeName, Incarnation)>, now: BootInstant) {
        if self.term.is_none() {
            return;
        }
        let live: BTreeMap<NodeName, Incarnation> = live.into_iter().collect();
        self.leases.retain(|node, _| live.contains_key(node));
        for (node, incarnation) in live {
            if self.leases.get(&node).is_none_or(|lease| lease.incarnation < incarnation) {
                self.registered(node, incarnation, now);
            }
        }
    }

    /// A heartbeat arrived. Only the newest of a node is kept.
    pub fn heartbeat(
        &mut self,
        node: NodeName,
        incarnation: Incarnation,
        seq: u64,
        now: BootInstant,
    ) -> Vec<TableEffect> {
        if self.term.is_none() {
            return Vec::new();
        }
        // Refused only by what is applied: a node that registered a moment ago may not be known here yet.
        if self.leases.len() >= limits::NODES_MAX && !self.leases.contains_key(&node) {
            return Vec::new();
        }
        let is_newer = self
            .waiting
            .get(&node)
            .is_none_or(|waiting| (waiting.incarnation, waiting.seq) < (incarnation, seq));
        if !is_newer || (self.waiting.len() >= limits::NODES_MAX && !self.waiting.contains_key(&node)) {
            return Vec::new();
        }
        self.waiting.insert(node, Heartbeat { incarnation, seq, received_at: now });
        self.waiting_since.get_or_insert(now);
        self.begin_round_if_due(now)
    }

    /// The round was confirmed by a quorum; its heartbeats are answered once `apply` has reached `read_index`.
    pub fn round_confirmed(&mut self, round: RoundId, read_index: u64) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == round) else { return };
        let waiting = self.confirmed.entry(read_index).or_default();
        for (node, heartbeat) in in_flight.heartbeats {
            waiting.insert(node, heartbeat);
        }
    }

    /// The round failed: its heartbeats wait for the next.
    pub fn round_failed(&mut self, round: RoundId, now: BootInstant) {
        if let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == round) {
            self.wait_again(in_flight, now);
        }
    }

    /// `apply` has reached `applied_index`; `incarnation_of` tells the incarnation of live nodes in that state.
    pub fn applied(
        &mut self,
        applied_index: u64,
        incarnation_of: impl Fn(&NodeName) -> Option<Incarnation>,
    ) -> Vec<TableEffect> {
        let mut effects = Vec::new();
        while let Some(entry) = self.confirmed.first_entry().filter(|entry| *entry.key() <= applied_index) {
            for (node, heartbeat) in entry.remove() {
                effects.push(self.decide(node, heartbeat, &incarnation_of));
            }
        }
        effects
    }

    /// Time passes. The driver must have handed over every heartbeat that has arrived before it calls this: a leader that
    /// was held up must not expire nodes whose heartbeats lie unread (A6).
    pub fn advance(&mut self, now: BootInstant) -> Vec<TableEffect> {
        let Some(term) = self.term else {
            self.advanced_at = now;
            return Vec::new();
        };
        let delay = now.since(self.advanced_at.plus(limits::TABLE_INTERVAL));
        self.advanced_at = now;
        if delay > limits::LOOP_DELAY_MAX {
            self.make_up_for(delay, now);
        }
        let timed_out = |round: &mut Round| now.since(round.begun_at) >= limits::ROUND_TIMEOUT;
        if let Some(round) = self.in_flight.take_if(timed_out) {
            self.wait_again(round, now);
        }
        let mut effects = self.begin_round_if_due(now);
        for (node, lease) in &mut self.leases {
            let is_over = now >= self.numbers.server_deadline(lease.renewed_at);
            let is_due = match lease.expire_proposed_at {
                None => is_over,
                Some(proposed_at) => now.since(proposed_at) >= limits::EXPIRE_RETRY,
            };
            if is_due {
                lease.expire_proposed_at = Some(now);
                effects.push(TableEffect::Expire {
                    node: node.clone(),
                    incarnation: lease.incarnation,
                    term,
                });
            }
        }
        effects
    }

    /// How long until [`LeaseTable::advance`] must be called at the latest.
    pub fn next_wakeup(&self, now: BootInstant) -> Duration {
        let mut wakeup = self.advanced_at.plus(limits::TABLE_INTERVAL);
        if let Some(since) = self.waiting_since
            && self.in_flight.is_none()
            && self.confirmed.is_empty()
        {
            wakeup = wakeup.min(since.plus(limits::ROUND_BATCH));
        }
        wakeup.since(now)
    }

    /// A6: extends what every lease counts from, or will count from once its heartbeat is answered, by a delay that ends now.
    /// What arrived during the delay needs no more than to count from now.
    fn make_up_for(&mut self, delay: Duration, now: BootInstant) {
        let extended = |from: BootInstant| from.plus(delay).min(now);
        for lease in self.leases.values_mut() {
            lease.renewed_at = extended(lease.renewed_at);
        }
        let in_flight = self.in_flight.iter_mut().flat_map(|round| round.heartbeats.values_mut());
        let confirmed = self.confirmed.values_mut().flat_map(|heartbeats| heartbeats.values_mut());
        for heartbeat in self.waiting.values_mut().chain(in_flight).chain(confirmed) {
            heartbeat.received_at = extended(heartbeat.received_at);
        }
    }

    fn begin_round_if_due(&mut self, now: BootInstant) -> Vec<TableEffect> {
        let is_due = self.waiting_since.is_some_and(|since| now.since(since) >= limits::ROUND_BATCH);
        if !is_due || self.in_flight.is_some() || !self.confirmed.is_empty() {
            return Vec::new();
        }
        let id = RoundId(self.next_round);
        self.next_round += 1;
        self.waiting_since = None;
        let heartbeats = std::mem::take(&mut self.waiting);
        self.in_flight = Some(Round { id, begun_at: now, heartbeats });
        vec![TableEffect::BeginRound(id)]
    }

    fn wait_again(&mut self, round: Round, now: BootInstant) {
        for (node, heartbeat) in round.heartbeats {
            self.waiting.entry(node).or_insert(heartbeat);
        }
        if !self.waiting.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
    }

    fn forget_heartbeats(&mut self, node: &NodeName) {
        self.waiting.remove(node);
        if let Some(round) = &mut self.in_flight {
            round.heartbeats.remove(node);
        }
        for heartbeats in self.confirmed.values_mut() {
            heartbeats.remove(node);
        }
    }

    fn decide(
        &mut self,
        node: NodeName,
        heartbeat: Heartbeat,
        incarnation_of: &impl Fn(&NodeName) -> Option<Incarnation>,
    ) -> TableEffect {
        let incarnation = heartbeat.incarnation;
        let refuse = |reason| TableEffect::Refuse { node: node.clone(), incarnation, reason };
        if incarnation_of(&node) != Some(incarnation) {
            return refuse(HeartbeatRefusal::StaleIncarnation);
        }
        let new_lease = Lease { incarnation, renewed_at: heartbeat.received_at, expire_proposed_at: None };
        let lease = self.leases.entry(node.clone()).or_insert(new_lease.clone());
        // The state knows a registration of which nobody has told this table yet.
        if lease.incarnation < incarnation {
            *lease = new_lease;
        }
        // The mark of A6, looked at when answering: the heartbeat may have waited since before the decision.
        if lease.expire_proposed_at.is_some() {
            return refuse(HeartbeatRefusal::Expiring);
        }
        lease.renewed_at = lease.renewed_at.max(heartbeat.received_at);
        TableEffect::Answer { node, incarnation, seq: heartbeat.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> BootInstant {
        BootInstant(Duration::from_millis(milliseconds))
    }

    fn node() -> NodeName {
        NodeName::new("w1")
    }

    fn leading() -> LeaseTable {
        let numbers = LeaseNumbers::from_node_lease(Duration::from_secs(10)).unwrap();
        let mut table = LeaseTable::new(numbers);
        table.lead(3, numbers, [(node(), Incarnation(7))], at(0));
        table
    }

    /// Advances in steps, as a driver that is not held up does.
    fn run_to(table: &mut LeaseTable, from: u64, to: u64) -> Vec<TableEffect> {
        (from..=to).step_by(100).flat_map(|now| table.advance(at(now))).collect()
    }

    fn round_of(effects: &[TableEffect]) -> RoundId {
        let rounds: Vec<RoundId> = effects
            .iter()
            .filter_map(|effect| if let TableEffect::BeginRound(id) = effect { Some(*id) } else { None })
            .collect();
        assert_eq!(rounds.len(), 1, "{effects:?}");
        rounds[0]
    }

    #[test]
    fn a5_a_heartbeat_is_answered_after_its_round_and_apply() {
        let mut table = leading();
        assert_eq!(table.heartbeat(node(), Incarnation(7), 1, at(1000)), []);
        let round = round_of(&table.advance(at(1050)));
        assert_eq!(table.applied(100, |_| Some(Incarnation(7))), [], "not confirmed yet");
        table.round_confirmed(round, 40);
        assert_eq!(table.applied(39, |_| Some(Incarnation(7))), [], "apply is behind");
        let answer = TableEffect::Answer { node: node(), incarnation: Incarnation(7), seq: 1 };
        assert_eq!(table.applied(40, |_| Some(Incarnation(7))), [answer]);
        assert_eq!(table.applied(41, |_| Some(Incarnation(7))), [], "once");
    }

    #[test]
    fn a5_a_heartbeat_that_came_after_the_round_began_waits_for_the_next() {
        let mut table = leading();
        table.heartbeat(node(), Incarnation(7), 1, at(1000));
        let first = round_of(&table.advance(at(1050)));
        table.heartbeat(node(), Incarnation(7), 2, at(1060));
        assert_eq!(table.advance(at(1150)), [], "one round in flight");
        table.round_confirmed(first, 1);
        let answered = table.applied(1, |_| Some(Incarnation(7)));
        assert_eq!(answered, [TableEffect::Answer { node: node(), incarnation: Incarnation(7), seq: 1 }]);
        let second = round_of(&table.advance(at(1200)));
        table.round_failed(second, at(1210));
        let third = round_of(&table.advance(at(1300)));
        table.round_confirmed(second, 1);
        assert_eq!(
            table.applied(1, |_| Some(Incarnation(7))),
            [],
            "a late answer to a failed round is nothing"
        );
        table.round_confirmed(third, 1);
        assert_eq!(table.applied(1, |_| Some(Incarnation(7))).len(), 1);
    }

    #[test]
    fn a5_no_round_begins_while_one_waits_for_apply() {
        let mut table = leading();
        table.heartbeat(node(), Incarnation(7), 1, at(1000));
        let round = round_of(&table.advance(at(1050)));
        table.round_confirmed(round, 40);
        table.heartbeat(node(), Incarnation(7), 2, at(1060));
        assert_eq!(run_to(&mut table, 1100, 5_000), []);
        assert_eq!(table.next_wakeup(at(5_000)), limits::TABLE_INTERVAL, "and nobody spins meanwhile");
        assert_eq!(table.applied(40, |_| Some(Incarnation(7))).len(), 1);
        round_of(&table.advance(at(5_010)));
    }

    #[test]
    fn a_late_heartbeat_does_not_displace_a_newer_one() {
        let mut table = leading();
        table.heartbeat(node(), Incarnation(7), 5, at(1000));
        table.heartbeat(node(), Incarnation(7), 4, at(1010));
        table.heartbeat(node(), Incarnation(6), 9, at(1020));
        let round = round_of(&table.advance(at(1050)));
        table.round_confirmed(round, 1);
        let answer = TableEffect::Answer { node: node(), incarnation: Incarnation(7), seq: 5 };
        assert_eq!(table.applied(1, |_| Some(Incarnation(7))), [answer]);
    }

    #[test]
    fn r9_a_registration_that_was_never_told_expires_too() {
        let mut table = leading();
        let other = NodeName::new("w2");
        run_to(&mut table, 100, 5_000);
        let live = [(node(), Incarnation(7)), (other.clone(), Incarnation(9))];
        table.reconcile(live.clone(), at(5_000));
        table.reconcile(live, at(6_000));
        let expire = |node, incarnation| TableEffect::Expire { node, incarnation, term: 3 };
        assert_eq!(run_to(&mut table, 5_100, 10_500), [expire(node(), Incarnation(7))], "not renewed by it");
        table.reconcile([(other.clone(), Incarnation(9))], at(10_500));
        assert_eq!(run_to(&mut table, 10_600, 15_500), [expire(other, Incarnation(9))]);
        table.reconcile([], at(15_500));
        assert_eq!(run_to(&mut table, 15_600, 40_000), []);
    }

    #[test]
    fn a6_a_mark_survives_a_reconciliation_but_not_a_new_incarnation() {
        let mut table = leading();
        assert_ne!(run_to(&mut table, 100, 10_500), []);
        table.heartbeat(node(), Incarnation(7), 1, at(10_510));
        table.reconcile([(node(), Incarnation(7))], at(10_520));
        let round = round_of(&table.advance(at(10_600)));
        table.round_confirmed(round, 1);
        let reason = HeartbeatRefusal::Expiring;
        let refused = TableEffect::Refuse { node: node(), incarnation: Incarnation(7), reason };
        assert_eq!(table.applied(1, |_| Some(Incarnation(7))), [refused]);
        table.reconcile([(node(), Incarnation(9))], at(11_000));
        assert_eq!(run_to(&mut table, 11_100, 21_400), []);
    }

    #[test]
    fn a6_expiry_is_counted_from_receipt_and_marks() {
        let mut table = leading();
        assert_eq!(run_to(&mut table, 100, 10_400), []);
        // This heartbeat waits for its round when the decision is made.
        table.heartbeat(node(), Incarnation(7), 1, at(10_440));
        let effects = table.advance(at(10_500));
        let expire = TableEffect::Expire { node: node(), incarnation: Incarnation(7), term: 3 };
        assert!(effects.contains(&expire), "{effects:?}");
        table.round_confirmed(round_of(&effects), 1);
        let refused = table.applied(1, |_| Some(Incarnation(7)));
        let reason = HeartbeatRefusal::Expiring;
        assert_eq!(refused, [TableEffect::Refuse { node: node(), incarnation: Incarnation(7), reason }]);
        assert_eq!(run_to(&mut table, 10_600, 11_400), [], "not proposed again at once");
        assert_eq!(table.advance(at(11_500)), [expire], "proposed again if it did not apply");
        table.removed(&node(), Incarnation(7));
        assert_eq!(run_to(&mut table, 11_600, 30_000), []);
    }

    #[test]
    fn a6_a_leader_that_was_held_up_extends_all_leases() {
        let mut table = leading();
        run_to(&mut table, 100, 5_000);
        assert_eq!(table.advance(at(20_000)), [], "held up for 15 s");
        assert_eq!(run_to(&mut table, 20_100, 25_300), []);
        assert_ne!(run_to(&mut table, 25_400, 25_500), [], "10.5 s of its own time and 14.9 s of delay");
    }

    #[test]
    fn a6_a_delay_extends_heartbeats_that_wait_for_their_round() {
        let mut table = leading();
        run_to(&mut table, 100, 4_900);
        table.heartbeat(node(), Incarnation(7), 1, at(4_950));
        round_of(&table.advance(at(5_000)));
        assert_eq!(table.advance(at(8_100)), [], "held up for 3 s");
        let round = round_of(&table.advance(at(8_150)));
        table.round_confirmed(round, 1);
        assert_eq!(table.applied(1, |_| Some(Incarnation(7))).len(), 1);
        assert_eq!(
            run_to(&mut table, 8_200, 18_400),
            [],
            "received at 4.95 s, held up for 3 s: expires at 18.45 s"
        );
        assert_ne!(table.advance(at(18_500)), []);
    }

    #[test]
    fn a6_what_came_during_a_delay_is_not_extended_beyond_its_end() {
        let mut table = leading();
        run_to(&mut table, 100, 1_000);
        // Read when the loop goes on, before time passes.
        table.registered(node(), Incarnation(9), at(16_000));
        assert_eq!(table.advance(at(16_000)), [], "held up for 15 s");
        assert_eq!(run_to(&mut table, 16_100, 26_400), []);
        assert_ne!(table.advance(at(26_500)), [], "a whole lease after the registration");
    }

    #[test]
    fn a5_a_registration_that_only_the_state_knows_is_renewed() {
        let mut table = leading();
        run_to(&mut table, 100, 900);
        table.heartbeat(node(), Incarnation(9), 1, at(950));
        let round = round_of(&table.advance(at(1_000)));
        table.round_confirmed(round, 1);
        let answer = TableEffect::Answer { node: node(), incarnation: Incarnation(9), seq: 1 };
        assert_eq!(table.applied(1, |_| Some(Incarnation(9))), [answer]);
        let expire = TableEffect::Expire { node: node(), incarnation: Incarnation(9), term: 3 };
        assert_eq!(run_to(&mut table, 1_100, 11_400), []);
        assert_eq!(table.advance(at(11_500)), [expire]);
    }

    #[test]
    fn a6_losing_leadership_lifts_the_mark_and_stops_answers() {
        let mut table = leading();
        table.heartbeat(node(), Incarnation(7), 1, at(1000));
        let round = round_of(&table.advance(at(1050)));
        table.stop_leading();
        table.round_confirmed(round, 1);
        assert_eq!(table.applied(1, |_| Some(Incarnation(7))), []);
        assert_eq!(run_to(&mut table, 1100, 30_000), []);
        assert_eq!(table.heartbeat(node(), Incarnation(7), 2, at(30_000)), []);
    }

    #[test]
    fn a7_a_new_leader_gives_everybody_a_whole_lease() {
        let mut table = leading();
        run_to(&mut table, 100, 10_000);
        let numbers = *table.numbers();
        table.lead(4, numbers, [(node(), Incarnation(7))], at(10_000));
        assert_eq!(run_to(&mut table, 10_100, 20_400), []);
        let expire = TableEffect::Expire { node: node(), incarnation: Incarnation(7), term: 4 };
        assert_eq!(table.advance(at(20_500)), [expire]);
    }

    #[test]
    fn an_older_incarnation_is_refused_and_a_new_one_begins_a_new_lease() {
        let mut table = leading();
        assert_eq!(run_to(&mut table, 100, 5_000), []);
        table.registered(node(), Incarnation(9), at(5_000));
        table.heartbeat(node(), Incarnation(7), 1, at(5_010));
        let round = round_of(&table.advance(at(5_060)));
        table.round_confirmed(round, 1);
        let refused = table.applied(1, |_| Some(Incarnation(9)));
        let reason = HeartbeatRefusal::StaleIncarnation;
        assert_eq!(refused, [TableEffect::Refuse { node: node(), incarnation: Incarnation(7), reason }]);
        table.removed(&node(), Incarnation(7));
        assert_eq!(run_to(&mut table, 5_100, 15_400), [], "the old expiry does not touch the new lease");
        assert_ne!(table.advance(at(15_500)), []);
    }
}
