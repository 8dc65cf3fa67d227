//! The whole small cluster as a state machine that the checker explores.
//!
//! Owns: the ticks, the replicated state, messages in flight, which actions are possible when, the promises. Does not own: the
//! rules of either side, which are the real machines' (`agent`, `server`).
//!
//! Invariants of the model: a message stays in flight once it was sent, so that it may be lost, late or doubled; only heartbeats,
//! each of which moves a server's clock of the lease, are doubled a bounded number of times. What a leader proposes in its own
//! term may be committed at any time until the next leader's first commit, and never after. A deposed leader never learns that it
//! is one: it may do whatever one that does may, and more. The other node starts what is bound to it at that very moment. Agent
//! and servers have clocks of their own; the agent's, which is the only one whose slowness is dangerous, may miss ticks.

use std::collections::BTreeSet;
use std::time::Duration;

use stateright::{Model, Property};
use stint_api::Incarnation;
use stint_lease::{HeartbeatRefusal, LeaseNumbers, TableEffect, limits};

use crate::agent::{Agent, Order};
use crate::mutant::{Mutant, Rules};
use crate::server::Server;

/// One step of every clock. All lease numbers of [`Scale`] are whole ticks.
pub const TICK: Duration = Duration::from_millis(500);

pub const R6: &str = "R6: at most one process of the index runs";
pub const R7_DEPOSED: &str = "R7: no answer to a heartbeat that reached a deposed leader";
pub const R7_STALE: &str = "R7: no answer to an incarnation that is not live";
pub const R7_MARK: &str = "R7: no answer after the mark";
pub const R8: &str = "R8: no start without a lease, or of what is bound elsewhere";
pub const A4_RAN_OUT: &str = "A4: a lease that ran out is never held again";
pub const A6_OWN_TIME: &str = "A6: a leader expires nobody before its own clock has run for a whole lease";
pub const RENEWED: &str = "a lease is renewed while a Pod runs";
pub const RENEWED_AFTER_CHANGE: &str = "a lease is renewed by a new leader";
pub const EXPIRED: &str = "a node expires";
pub const EXPIRED_AFTER_DELAY: &str = "a node expires although its leader was held up";
pub const REPLACED: &str = "a replacement runs elsewhere";
pub const REGISTERED_ANEW: &str = "a node registers anew and runs a Pod again";
pub const KILLED: &str = "a Pod is being killed because its lease ran out";
pub const LATE_EXPIRY: &str = "an expiry decided in another term waits to apply";
pub const MARK_REFUSES: &str = "a heartbeat is refused because its incarnation is being expired";

/// What has to happen somewhere, or the promises would be kept by a cluster in which nothing does.
pub const OCCURRENCES: [&str; 9] = [
    RENEWED,
    RENEWED_AFTER_CHANGE,
    EXPIRED,
    EXPIRED_AFTER_DELAY,
    REPLACED,
    REGISTERED_ANEW,
    KILLED,
    LATE_EXPIRY,
    MARK_REFUSES,
];

/// The lease numbers that the model goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Those of the shortest lease, 5 s: 7 ticks for the agent, 2 to kill, 11 for the leader.
    ShortestLease,
    /// 3 ticks for the agent, 1 to kill, 6 for the leader. Clocks may differ by as many ticks as above, and there is room for
    /// more events.
    FewTicks,
}

impl Scale {
    pub fn numbers(self) -> LeaseNumbers {
        let shortest =
            LeaseNumbers::from_node_lease(limits::NODE_LEASE_MIN).expect("the shortest lease is allowed");
        match self {
            Scale::ShortestLease => shortest,
            Scale::FewTicks => LeaseNumbers {
                node_lease: TICK * 5,
                heartbeat_interval: TICK,
                kill_budget: TICK,
                fence_margin: TICK * 2,
                expiry_grace: TICK,
            },
        }
    }
}

/// A duration of the lease numbers, in ticks.
pub fn ticks_of(duration: Duration) -> u8 {
    u8::try_from(duration.as_millis() / TICK.as_millis()).expect("a lease has few ticks")
}

/// How far the checker goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub scale: Scale,
    /// Ticks after the beginning.
    pub ticks: u8,
    /// Changes of leader.
    pub elections: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Heartbeats that arrive twice.
    pub duplicates: u8,
    /// Ticks that the agent's clock may miss.
    pub lags: u8,
    /// Registrations of the node.
    pub registrations: u64,
    /// Rounds of the true leader that fail.
    pub failed_rounds: u8,
    /// Ticks for which a server may be held up.
    pub held_up: u8,
    /// Times that the agent may die.
    pub crashes: u8,
    /// Where it begins.
    pub start: Start,
}

/// How the model begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The node has never registered.
    Unregistered,
    /// The node has just registered, and the order of the Pod is on its way.
    Ordered,
    /// The node has just registered and runs the Pod.
    Running,
}

/// What is explored.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    pub bounds: Bounds,
    rules: Rules,
}

impl Cluster {
    pub fn new(bounds: Bounds, mutant: Mutant) -> Cluster {
        let are_servers_held_up = bounds.held_up > 0;
        Cluster { bounds, rules: Rules { numbers: bounds.scale.numbers(), mutant, are_servers_held_up } }
    }
}

/// Where the one index's Pod is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    Nowhere,
    ToNode(Order),
    /// To another node, where it runs from this very moment on.
    Elsewhere,
}

/// A heartbeat in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heartbeat {
    pub seq: u64,
    pub incarnation: Incarnation,
}

/// An answer in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    seq: u64,
    sent_tick: u8,
    term: u64,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Network {
    heartbeats: BTreeSet<Heartbeat>,
    answers: BTreeSet<Answer>,
    refusals: BTreeSet<Incarnation>,
    orders: BTreeSet<Order>,
    registrations: BTreeSet<u64>,
    grants: BTreeSet<(u64, Incarnation)>,
    /// Incarnation to expire, and the term in which that was decided.
    expiries: BTreeSet<(Incarnation, u64)>,
}

/// A state of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    tick: u8,
    /// Ticks that the agent's clock has missed.
    lags: u8,
    /// Term of the true leader.
    term: u64,
    leader: usize,
    servers: [Server; 2],
    /// Replicated: the node's live incarnation.
    live: Option<Incarnation>,
    /// Replicated: the last registration number.
    registered: u64,
    /// Replicated: the last revision.
    revision: u64,
    /// Replicated: the binding.
    bound: Bound,
    agent: Agent,
    network: Network,
    /// Heartbeats that were doubled so far.
    duplicates: u8,
    heartbeats_sent: u64,
    failed_rounds: u8,
    held_up: u8,
    crashes: u8,
    /// Promises that were broken.
    broken: BTreeSet<&'static str>,
    /// A heartbeat met the mark of A6.
    has_mark_refused: bool,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// All clocks go on, except that the agent's may miss a tick, and that a server may sleep through it.
    Tick {
        agent_lags: bool,
        held_up: Option<usize>,
    },
    /// The other server wins an election, and its first commit is applied.
    Elect,
    SendHeartbeat,
    /// A heartbeat arrives, and comes once more later or not.
    DeliverHeartbeat {
        heartbeat: Heartbeat,
        server: usize,
        again: bool,
    },
    ConfirmRound(usize),
    FailRound(usize),
    DeliverAnswer(Answer),
    DeliverRefusal(Incarnation),
    CommitExpiry {
        incarnation: Incarnation,
        term: u64,
    },
    PlaceElsewhere,
    PlaceOnNode,
    DeliverOrder(Order),
    Start(Order),
    EndKill,
    Crash,
    Register,
    RegisterAgain,
    CommitRegistration(u64),
    DeliverGrant {
        number: u64,
        incarnation: Incarnation,
    },
}

impl State {
    fn agent_tick(&self) -> u8 {
        self.tick - self.lags
    }

    fn is_true_leader(&self, server: usize) -> bool {
        self.leader == server && self.servers[server].term == Some(self.term)
    }

    /// Carries out what a table wants.
    fn carry_out(&mut self, server: usize, effects: Vec<TableEffect>, rules: &Rules) {
        for effect in effects {
            match effect {
                TableEffect::BeginRound(id) => {
                    let is_true_leader = self.is_true_leader(server);
                    self.servers[server].round_begun(id, is_true_leader, rules);
                }
                TableEffect::Answer { incarnation, seq, .. } => self.answer(server, incarnation, seq),
                TableEffect::Refuse { incarnation, reason, .. } => {
                    let is_marked = reason == HeartbeatRefusal::Expiring;
                    self.has_mark_refused |= is_marked;
                    let newest = self.servers[server].arrived.keys().last().copied();
                    match newest {
                        Some((incarnation, seq))
                            if is_marked && rules.mutant == Mutant::NoMarkAtAnswering =>
                        {
                            self.answer(server, incarnation, seq)
                        }
                        _ => drop(self.network.refusals.insert(incarnation)),
                    }
                }
                TableEffect::Expire { incarnation, term, .. } => {
                    let whole = rules.numbers.node_lease + rules.numbers.expiry_grace;
                    let own_ticks = self.servers[server].own_ticks_since_renewal();
                    if rules.are_servers_held_up && own_ticks < ticks_of(whole) {
                        self.broken.insert(A6_OWN_TIME);
                    }
                    self.servers[server].marked = Some(incarnation);
                    self.network.expiries.insert((incarnation, term));
                }
            }
        }
    }

    fn answer(&mut self, server: usize, incarnation: Incarnation, seq: u64) {
        let answering = &mut self.servers[server];
        answering.answered(incarnation, seq);
        if !answering.arrived.contains_key(&(incarnation, seq)) {
            self.broken.insert(R7_DEPOSED);
        }
        if answering.known_live != Some(incarnation) {
            self.broken.insert(R7_STALE);
        }
        if answering.marked == Some(incarnation) {
            self.broken.insert(R7_MARK);
        }
        let term = answering.term.unwrap_or_default();
        // It goes to the session that the heartbeat came from.
        if self.agent.session_incarnation() == Some(incarnation)
            && let Some(sent_tick) = self.agent.sent_tick(seq)
        {
            self.network.answers.insert(Answer { seq, sent_tick, term });
        }
    }

    fn tick(&mut self, agent_lags: bool, held_up: Option<usize>, rules: &Rules) {
        self.tick += 1;
        self.lags += u8::from(agent_lags);
        self.held_up += u8::from(held_up.is_some());
        // The kill budget is kept: what had to be dead by now is dead before anything else happens.
        if self.agent.kill_ends == Some(self.tick) {
            self.agent.end_kill();
        }
        self.agent.advance(self.agent_tick(), self.tick, rules);
        for server in 0..self.servers.len() {
            let effects = self.servers[server].advance(self.tick, held_up == Some(server), rules);
            self.carry_out(server, effects, rules);
        }
    }

    fn elect(&mut self, rules: &Rules) {
        self.term += 1;
        self.leader = 1 - self.leader;
        let effects = self.servers[self.leader].lead(self.term, self.live, self.tick, rules);
        self.carry_out(self.leader, effects, rules);
    }

    fn commit_expiry(&mut self, incarnation: Incarnation, term: u64, rules: &Rules) {
        // Where it is rejected, it stays in flight: it may come again.
        let is_of_this_term = term == self.term || rules.mutant == Mutant::ExpiryOfAnotherTermApplies;
        let Some(live) = self.live else { return };
        let is_live = live == incarnation || rules.mutant == Mutant::ExpiryOfAnotherIncarnationApplies;
        if !is_of_this_term || !is_live {
            return;
        }
        self.live = None;
        self.unbind(live);
        self.servers[self.leader].removed(live);
    }

    fn is_expired(&self) -> bool {
        self.registered > 0 && self.live.is_none()
    }

    /// Applies a registration: nothing runs on the node, so that what was bound to it is failed or unbound (A2).
    fn commit_registration(&mut self, number: u64) {
        self.registered = number;
        if let Some(previous) = self.live {
            self.unbind(previous);
        }
        self.revision += 1;
        let incarnation = Incarnation(self.revision);
        self.live = Some(incarnation);
        let tick = self.tick;
        self.servers[self.leader].registered(incarnation, tick);
        self.network.grants.insert((number, incarnation));
    }

    fn unbind(&mut self, incarnation: Incarnation) {
        if matches!(self.bound, Bound::ToNode(order) if order.incarnation == incarnation) {
            self.bound = Bound::Nowhere;
        }
    }

    fn place_on_node(&mut self, incarnation: Incarnation) -> Order {
        self.revision += 1;
        let order = Order { pod: self.revision, incarnation };
        self.bound = Bound::ToNode(order);
        self.network.orders.insert(order);
        order
    }

    fn start(&mut self, order: Order, rules: &Rules) {
        let tick = self.agent_tick();
        if self.agent.start(order, tick, rules) {
            let has_lease = tick < self.agent.runs_out;
            let is_current = self.live == Some(order.incarnation) && self.bound == Bound::ToNode(order);
            if !has_lease || !is_current {
                self.broken.insert(R8);
            }
        }
    }

    /// Drops messages that can't change anything any more, so that states that differ only in them are one.
    fn forget_what_is_void(&mut self, rules: &Rules) {
        self.agent.forget_answered(self.agent_tick(), rules);
        let agent = &self.agent;
        self.network.answers.retain(|answer| agent.sent_tick(answer.seq).is_some());
        self.network
            .grants
            .retain(|(number, _)| *number >= agent.registrations && agent.registering.is_some());
        let live = self.live.unwrap_or_default();
        let current = agent.incarnation().unwrap_or_default();
        let newest = live.max(current);
        self.network.refusals.retain(|incarnation| *incarnation >= newest);
        self.network.orders.retain(|order| order.incarnation >= newest);
        let registered = self.registered;
        self.network.registrations.retain(|number| *number > registered);
        // An expiry is void once a newer registration is applied, whoever decided it.
        if rules.mutant != Mutant::ExpiryOfAnotherIncarnationApplies {
            self.network.expiries.retain(|(incarnation, _)| Some(*incarnation) == self.live);
        }
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let rules = &self.rules;
        let mut state = State {
            tick: 0,
            lags: 0,
            term: 1,
            leader: 0,
            servers: [Server::new(rules), Server::new(rules)],
            live: None,
            registered: 0,
            revision: 0,
            bound: Bound::Nowhere,
            agent: Agent::new(),
            network: Network::default(),
            duplicates: 0,
            heartbeats_sent: 0,
            failed_rounds: 0,
            held_up: 0,
            crashes: 0,
            broken: BTreeSet::new(),
            has_mark_refused: false,
        };
        drop(state.servers[0].lead(1, None, 0, rules));
        if self.bounds.start != Start::Unregistered {
            let number = state.agent.register(0);
            state.commit_registration(number);
            let incarnation = Incarnation(state.revision);
            state.agent.granted(number, incarnation, 0, rules);
            let order = state.place_on_node(incarnation);
            if self.bounds.start == Start::Running {
                state.agent.order(order);
                state.start(order, rules);
                state.network.orders.clear();
            }
            state.forget_what_is_void(rules);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (bounds, agent, network) = (&self.bounds, &state.agent, &state.network);
        if state.tick < bounds.ticks {
            actions.push(Action::Tick { agent_lags: false, held_up: None });
            if state.lags < bounds.lags && agent.runs_out_at(state.agent_tick() + 1) {
                actions.push(Action::Tick { agent_lags: true, held_up: None });
            }
            let leaders = (0..state.servers.len()).filter(|server| state.servers[*server].term.is_some());
            if state.held_up < bounds.held_up {
                actions
                    .extend(leaders.map(|leader| Action::Tick { agent_lags: false, held_up: Some(leader) }));
            }
        }
        if state.term <= bounds.elections && state.servers[1 - state.leader].is_awake() {
            actions.push(Action::Elect);
        }
        for (index, server) in state.servers.iter().enumerate() {
            if server.term.is_none() {
                continue;
            }
            if let Some(round) = server.round.filter(|_| server.is_awake()) {
                if round.can_be_confirmed {
                    actions.push(Action::ConfirmRound(index));
                }
                if state.failed_rounds < bounds.failed_rounds {
                    actions.push(Action::FailRound(index));
                }
            }
            for heartbeat in &network.heartbeats {
                let heartbeat = *heartbeat;
                actions.push(Action::DeliverHeartbeat { heartbeat, server: index, again: false });
                if state.duplicates < bounds.duplicates {
                    actions.push(Action::DeliverHeartbeat { heartbeat, server: index, again: true });
                }
            }
        }
        if state.heartbeats_sent < bounds.heartbeats && agent.is_heartbeat_due(state.agent_tick()) {
            actions.push(Action::SendHeartbeat);
        }
        actions.extend(network.answers.iter().map(|answer| Action::DeliverAnswer(*answer)));
        let refused = network.refusals.iter().filter(|refused| agent.incarnation() == Some(**refused));
        actions.extend(refused.map(|incarnation| Action::DeliverRefusal(*incarnation)));
        // A server that is held up commits nothing.
        if state.servers[state.leader].is_awake() {
            actions.extend(
                network.expiries.iter().map(|(incarnation, term)| Action::CommitExpiry {
                    incarnation: *incarnation,
                    term: *term,
                }),
            );
            actions.extend(network.registrations.iter().map(|number| Action::CommitRegistration(*number)));
        }
        if state.bound == Bound::Nowhere {
            actions.push(Action::PlaceElsewhere);
            if state.live.is_some() {
                actions.push(Action::PlaceOnNode);
            }
        }
        actions.extend(network.orders.iter().map(|order| Action::DeliverOrder(*order)));
        actions.extend(agent.begins.iter().map(|order| Action::Start(*order)));
        // An earlier end matters only to who may register once it has come.
        if agent.kill_ends.is_some() && agent.registrations < bounds.registrations {
            actions.push(Action::EndKill);
        }
        if state.crashes < bounds.crashes {
            actions.push(Action::Crash);
        }
        if agent.registrations < bounds.registrations && agent.may_register(&self.rules) {
            actions.push(Action::Register);
        }
        if agent.registering.is_some() {
            actions.push(Action::RegisterAgain);
        }
        let grants = network.grants.iter();
        actions.extend(grants.map(|(number, incarnation)| Action::DeliverGrant {
            number: *number,
            incarnation: *incarnation,
        }));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let rules = &self.rules;
        let (tick, agent_tick) = (state.tick, state.agent_tick());
        match action {
            Action::Tick { agent_lags, held_up } => state.tick(agent_lags, held_up, rules),
            Action::Elect => state.elect(rules),
            Action::SendHeartbeat => {
                let incarnation = state.agent.incarnation()?;
                let seq = state.agent.send_heartbeat(agent_tick);
                state.heartbeats_sent += 1;
                state.network.heartbeats.insert(Heartbeat { seq, incarnation });
            }
            Action::DeliverHeartbeat { heartbeat, server, again } => {
                if again {
                    state.duplicates += 1;
                } else {
                    state.network.heartbeats.remove(&heartbeat);
                }
                let is_true_leader = state.is_true_leader(server);
                let effects = state.servers[server].heartbeat(heartbeat, is_true_leader, tick);
                state.carry_out(server, effects, rules);
            }
            Action::ConfirmRound(server) => {
                let effects = state.servers[server].round_confirmed(rules);
                state.carry_out(server, effects, rules);
            }
            Action::FailRound(server) => {
                state.failed_rounds += 1;
                state.servers[server].round_failed(tick);
            }
            Action::DeliverAnswer(Answer { seq, sent_tick, term }) => {
                state.agent.answered(seq, sent_tick, term, agent_tick, rules)
            }
            Action::DeliverRefusal(_) => state.agent.refused(tick, rules),
            Action::CommitExpiry { incarnation, term } => state.commit_expiry(incarnation, term, rules),
            Action::PlaceElsewhere => state.bound = Bound::Elsewhere,
            Action::PlaceOnNode => drop(state.place_on_node(state.live?)),
            Action::DeliverOrder(order) => state.agent.order(order),
            Action::Start(order) => state.start(order, rules),
            Action::EndKill => state.agent.end_kill(),
            Action::Crash => {
                state.crashes += 1;
                state.agent.crash();
                // What was said in its sessions goes with them.
                state.network.answers.clear();
            }
            Action::Register => {
                let number = state.agent.register(agent_tick);
                state.network.registrations.insert(number);
            }
            Action::RegisterAgain => state.agent.register_again(agent_tick, rules),
            Action::CommitRegistration(number) => state.commit_registration(number),
            Action::DeliverGrant { number, incarnation } => {
                state.agent.granted(number, incarnation, agent_tick, rules)
            }
        }
        state.forget_what_is_void(rules);
        (state != *last).then_some(state)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let (agent, network) = (&state.agent, &state.network);
        let can_run = !agent.running.is_empty() || !agent.begins.is_empty() || !network.orders.is_empty();
        let can_renew =
            !network.heartbeats.is_empty() || state.servers.iter().any(|server| server.round.is_some());
        // Nothing can run or be renewed any more: no promise is at stake.
        state.bound != Bound::Elsewhere || can_run || can_renew || !state.broken.is_empty()
    }

    fn properties(&self) -> Vec<Property<Cluster>> {
        vec![
            Property::always(R6, |_, state: &State| {
                state.agent.running.len() + usize::from(state.bound == Bound::Elsewhere) <= 1
            }),
            Property::always(R7_DEPOSED, |_, state: &State| !state.broken.contains(R7_DEPOSED)),
            Property::always(R7_STALE, |_, state: &State| !state.broken.contains(R7_STALE)),
            Property::always(R7_MARK, |_, state: &State| !state.broken.contains(R7_MARK)),
            Property::always(R8, |_, state: &State| !state.broken.contains(R8)),
            Property::always(A4_RAN_OUT, |_, state: &State| {
                state.agent.ran_out.is_none() || state.agent.incarnation() != state.agent.ran_out
            }),
            Property::always(A6_OWN_TIME, |_, state: &State| !state.broken.contains(A6_OWN_TIME)),
            Property::sometimes(RENEWED, |_, state: &State| {
                state.agent.renewed_in_term > 0 && !state.agent.running.is_empty()
            }),
            Property::sometimes(RENEWED_AFTER_CHANGE, |_, state: &State| state.agent.renewed_in_term > 1),
            Property::sometimes(EXPIRED, |_, state: &State| state.is_expired()),
            Property::sometimes(EXPIRED_AFTER_DELAY, |_, state: &State| {
                state.is_expired() && state.held_up > 0
            }),
            Property::sometimes(REPLACED, |_, state: &State| state.bound == Bound::Elsewhere),
            Property::sometimes(REGISTERED_ANEW, |_, state: &State| {
                state.registered > 1 && !state.agent.running.is_empty() && state.agent.kill_ends.is_none()
            }),
            Property::sometimes(KILLED, |_, state: &State| {
                state.agent.kill_ends.is_some() && state.agent.incarnation().is_none()
            }),
            Property::sometimes(LATE_EXPIRY, |_, state: &State| {
                state.network.expiries.iter().any(|(_, term)| *term < state.term)
            }),
            Property::sometimes(MARK_REFUSES, |_, state: &State| state.has_mark_refused),
        ]
    }
}
