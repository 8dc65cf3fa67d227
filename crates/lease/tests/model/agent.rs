//! The agent of the model: the real machines, and a driver that carries out what they say.
//!
//! Owns: what runs on the node, kills under way, starts that wait, an independent record of when the lease runs out. Does not
//! own: messages in flight, the agent's clock.
//!
//! Worst cases are taken: a kill takes up to the whole kill budget; a start that was begun before the lease ran out is not
//! called off, only the gate at the moment of exec can stop it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stint_api::{Incarnation, PodUid, Revision};
use stint_lease::{
    AgentLease, BootInstant, DesiredAction, DesiredPod, DesiredRun, HeldEffect, HeldPods, LeaseNumbers,
    LeaseState,
};

use crate::cluster::{TICK, ticks_of};
use crate::mutant::{Mutant, Rules};

/// The one container of each Pod.
const CONTAINER: &str = "main";

/// A Pod to run, as it was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Uid and revision of the binding: a Pod is bound once.
    pub pod: u64,
    /// The registration that it was bound to.
    pub incarnation: Incarnation,
}

/// A registration that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Registering {
    pub number: u64,
    /// What the lease will count from.
    pub counts_from: BootInstant,
    /// The tick of the first sending, for the record of [`Agent::runs_out`].
    pub first_sent_tick: u8,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    pub lease: AgentLease,
    held: HeldPods,
    /// Starts between their order and their exec.
    pub begins: BTreeSet<Order>,
    /// Processes that exist, also while they are being killed.
    pub running: BTreeSet<u64>,
    /// The tick of the cluster at which what is being killed is gone at the latest.
    pub kill_ends: Option<u8>,
    pub registering: Option<Registering>,
    pub registrations: u64,
    /// The agent's ticks at which heartbeats were sent that may still be answered.
    sent: BTreeMap<u64, u8>,
    /// The agent's tick at which its lease runs out, kept apart from the machine.
    pub runs_out: u8,
    /// The term of the leader that renewed the present lease last; 0 if it was never renewed.
    pub renewed_in_term: u64,
    /// The registration whose lease ran out last.
    pub ran_out: Option<Incarnation>,
}

/// A moment of the agent's clock, which has nothing to do with those of the servers.
fn at(tick: u8) -> BootInstant {
    BootInstant(Duration::from_secs(7_000) + TICK * u32::from(tick))
}

fn lease_ticks(numbers: &LeaseNumbers) -> u8 {
    ticks_of(numbers.node_lease - numbers.fence_margin)
}

impl Agent {
    /// One that never registered.
    pub fn new() -> Agent {
        Agent {
            lease: AgentLease::default(),
            held: HeldPods::default(),
            begins: BTreeSet::new(),
            running: BTreeSet::new(),
            kill_ends: None,
            registering: None,
            registrations: 0,
            sent: BTreeMap::new(),
            runs_out: 0,
            renewed_in_term: 0,
            ran_out: None,
        }
    }

    /// The registration under which it may run Pods.
    pub fn incarnation(&self) -> Option<Incarnation> {
        match self.lease.state() {
            LeaseState::Held { incarnation, .. } => Some(incarnation),
            LeaseState::Lost { .. } | LeaseState::Unregistered => None,
        }
    }

    /// The registration under which its session was opened.
    pub fn session_incarnation(&self) -> Option<Incarnation> {
        match self.lease.state() {
            LeaseState::Held { incarnation, .. } | LeaseState::Lost { incarnation } => Some(incarnation),
            LeaseState::Unregistered => None,
        }
    }

    /// The agent's clock shows `tick`, that of the cluster `cluster_tick`.
    pub fn advance(&mut self, tick: u8, cluster_tick: u8, rules: &Rules) {
        let incarnation = self.incarnation();
        if self.lease.advance(at(tick)) {
            self.ran_out = incarnation;
            self.begin_kill(cluster_tick, rules);
        }
    }

    /// The agent dies, and what it runs with it (A13); it begins anew with what its journal says.
    pub fn crash(&mut self) {
        *self = Agent { registrations: self.registrations, ..Agent::new() };
    }

    /// True if its lease runs out when its clock shows `tick`. There a missed tick does the most: earlier, it would do no more
    /// than make the agent do later what it may do later anyway.
    pub fn runs_out_at(&self, tick: u8) -> bool {
        self.incarnation().is_some() && self.runs_out == tick
    }

    pub fn is_heartbeat_due(&self, tick: u8) -> bool {
        self.lease.is_heartbeat_due(at(tick))
    }

    pub fn send_heartbeat(&mut self, tick: u8) -> u64 {
        let seq = self.lease.heartbeat_sent(at(tick));
        self.sent.insert(seq, tick);
        seq
    }

    /// When that heartbeat was sent, unless an answer to it can't change anything any more.
    pub fn sent_tick(&self, seq: u64) -> Option<u8> {
        self.sent.get(&seq).copied()
    }

    /// Forgets the heartbeats to which an answer would change nothing.
    pub fn forget_answered(&mut self, tick: u8, rules: &Rules) {
        if rules.mutant == Mutant::PassedDeadlineExtended {
            return;
        }
        let lease = &self.lease;
        self.sent.retain(|seq, _| {
            let mut answered = lease.clone();
            answered.answered(*seq, at(tick));
            answered != *lease
        });
    }

    /// An answer came, to a heartbeat that was sent at `sent_tick`.
    pub fn answered(&mut self, seq: u64, sent_tick: u8, term: u64, tick: u8, rules: &Rules) {
        let before = self.lease.state();
        match (rules.mutant, before) {
            (Mutant::DeadlineFromReceipt, _) => {
                let seq = self.lease.heartbeat_sent(at(tick));
                self.lease.answered(seq, at(tick));
            }
            (Mutant::PassedDeadlineExtended, LeaseState::Lost { incarnation }) => {
                self.lease.granted(incarnation, rules.numbers, at(sent_tick));
                self.lease.advance(at(tick));
            }
            _ => self.lease.answered(seq, at(tick)),
        }
        if self.lease.state() != before {
            self.renewed_in_term = term;
        }
        if tick < self.runs_out {
            self.runs_out = self.runs_out.max(sent_tick + lease_ticks(&rules.numbers));
        }
    }

    /// The servers say that the registration does not hold.
    pub fn refused(&mut self, cluster_tick: u8, rules: &Rules) {
        self.lease.dropped();
        self.runs_out = 0;
        self.begin_kill(cluster_tick, rules);
    }

    /// The kernel has reaped everything that was being killed.
    pub fn end_kill(&mut self) {
        self.running.clear();
        self.kill_ends = None;
    }

    pub fn may_register(&self, rules: &Rules) -> bool {
        let is_killing = self.kill_ends.is_some() && rules.mutant != Mutant::RegistersWhileKilling;
        self.incarnation().is_none() && self.registering.is_none() && !is_killing
    }

    /// Sends a new registration: its number.
    pub fn register(&mut self, tick: u8) -> u64 {
        self.registrations += 1;
        let number = self.registrations;
        let counts_from = self.lease.registration_sent(number, at(tick));
        self.registering = Some(Registering { number, counts_from, first_sent_tick: tick });
        self.held.clear();
        number
    }

    /// Sends the same registration again, because no answer has come.
    pub fn register_again(&mut self, tick: u8, rules: &Rules) {
        let Some(registering) = &mut self.registering else { return };
        let counts_from = self.lease.registration_sent(registering.number, at(tick));
        let is_recounted = rules.mutant == Mutant::RegistrationCountsFromLastSending;
        registering.counts_from = if is_recounted { at(tick) } else { counts_from };
    }

    /// The answer to registration `number`.
    pub fn granted(&mut self, number: u64, incarnation: Incarnation, tick: u8, rules: &Rules) {
        let Some(registering) = self.registering.take_if(|registering| registering.number == number) else {
            return;
        };
        self.lease.granted(incarnation, rules.agent_numbers(), registering.counts_from);
        self.runs_out = registering.first_sent_tick + lease_ticks(&rules.numbers);
        self.renewed_in_term = 0;
        // Where the first sending is long ago, the lease is over before it began.
        self.lease.advance(at(tick));
    }

    /// An order came. One for another registration is not listened to.
    pub fn order(&mut self, order: Order) {
        if self.incarnation() != Some(order.incarnation) {
            return;
        }
        let desired = DesiredPod {
            pod: PodUid(u128::from(order.pod)),
            binding_revision: Revision(order.pod),
            action: DesiredAction::Run {
                containers: vec![DesiredRun {
                    container: CONTAINER.to_owned(),
                    restart_count: 0,
                    delay: Duration::ZERO,
                    stop: None,
                }],
                is_single: true,
            },
        };
        for effect in self.held.order(&desired) {
            if let HeldEffect::Begin { .. } = effect {
                self.begins.insert(order);
            }
        }
    }

    /// The moment of exec. True if the Pod was started.
    pub fn start(&mut self, order: Order, tick: u8, rules: &Rules) -> bool {
        self.begins.remove(&order);
        let may_start = match rules.mutant {
            Mutant::NoStartGate => true,
            Mutant::StartGateIgnoresIncarnation => {
                self.incarnation().is_some_and(|current| self.lease.may_start(current, at(tick)))
            }
            _ => self.lease.may_start(order.incarnation, at(tick)),
        };
        // Clearing what is held also forgets a start that waits; these two faults are about the gate alone.
        let is_gate_alone = matches!(rules.mutant, Mutant::NoStartGate | Mutant::StartGateIgnoresIncarnation);
        let is_begun =
            may_start && (self.held.begin(PodUid(u128::from(order.pod)), CONTAINER, 0) || is_gate_alone);
        if is_begun {
            self.running.insert(order.pod);
        }
        is_begun
    }

    fn begin_kill(&mut self, cluster_tick: u8, rules: &Rules) {
        if !self.running.is_empty() && self.kill_ends.is_none() {
            self.kill_ends = Some(cluster_tick + ticks_of(rules.numbers.kill_budget));
        }
    }
}
