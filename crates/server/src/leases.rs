//! The leader's lease loop: drives the table of leases with a clock, quorum rounds and what is applied (A4–A7).
//!
//! Owns: the one task that owns the table, its clock (CLOCK_BOOTTIME), carrying out its effects. Does not own: the rules
//! (`stint-lease`), sessions (`sessions`), what an expiry does (`stint-core`).
//!
//! Invariants: an answer goes only to the session over which its heartbeat came, since numbers of heartbeats mean something
//! within a session only; every heartbeat that has arrived is handed over before time passes (A6), and however many come, time
//! passes; quorum rounds and proposals never hold the loop up; work on all nodes is done so many times a second, never once
//! per heartbeat.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use prometheus_client::metrics::counter::Counter;
use stint_api::{Incarnation, NodeName};
use stint_core::{Command, ExpireNode, RejectionReason, Reply};
use stint_daemon::figures::Figures;
use stint_lease::{BootInstant, LeaseNumbers, LeaseTable, RoundId, TableEffect};
use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use stint_raft::RaftNode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::limits::{HEARTBEATS_REMEMBERED_MAX, LEASE_EVENTS_MAX, LEASES_RECONCILE_MS, SERVERS_LOOK_MS};
use crate::proposer::Proposer;
use crate::session::server_addresses;
use crate::sessions::{Session, Sessions};

/// Tells the lease loop what happened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leases {
    events: mpsc::Sender<Event>,
    figures: Arc<LeaseFigures>,
}

/// What the lease loop counts.
#[derive(Debug, Default)]
pub struct LeaseFigures {
    renewals: Counter,
    refusals: Counter,
    expiries: Counter,
}

impl LeaseFigures {
    /// Lets them be read.
    pub fn register(&self, figures: &mut Figures) {
        figures.counter("lease_renewals", "Leases that this server has renewed", &self.renewals);
        figures.counter("lease_refusals", "Heartbeats of leases that were over", &self.refusals);
        figures.counter("lease_expiries", "Leases that have run out under this server", &self.expiries);
    }
}

#[derive(Debug)]
enum Event {
    Registered { node: NodeName, incarnation: Incarnation },
    Heartbeat { session: Arc<Session> },
    Confirmed { round: RoundId, read_index: u64 },
    Failed { round: RoundId },
    Removed { node: NodeName, incarnation: Incarnation },
}

impl Leases {
    /// What is counted.
    pub fn figures(&self) -> &LeaseFigures {
        &self.figures
    }

    /// A registration was applied.
    pub async fn registered(&self, node: NodeName, incarnation: Incarnation) {
        self.tell(Event::Registered { node, incarnation }).await;
    }

    /// A heartbeat came over a session. Waits if the loop is behind: then the agent is read no further.
    pub async fn heartbeat(&self, session: &Arc<Session>, seq: u64) {
        if session.note_heartbeat(seq) {
            self.tell(Event::Heartbeat { session: Arc::clone(session) }).await;
        }
    }

    async fn tell(&self, event: Event) {
        // The loop ends only with the server, and leases with it.
        let _ = self.events.send(event).await;
    }

    /// Starts the loop; it runs until `stop`.
    pub fn start(
        raft: Arc<RaftNode>,
        proposer: Proposer,
        sessions: Arc<Sessions>,
        node_lease: Duration,
        stop: CancellationToken,
    ) -> Result<Leases, stint_lease::Error> {
        let numbers = LeaseNumbers::from_node_lease(node_lease)?;
        let (events, waiting) = mpsc::channel(LEASE_EVENTS_MAX);
        let leases = Leases { events, figures: Arc::default() };
        let lease_loop = LeaseLoop {
            raft,
            proposer,
            sessions,
            leases: leases.clone(),
            table: LeaseTable::new(numbers),
            leading: None,
            heartbeats: HashMap::new(),
            next_seq: 1,
            awaits_settings: false,
            read_indexes: BTreeSet::new(),
            reconciled_at: now(),
            servers: Arc::default(),
            servers_looked_at: None,
        };
        tokio::spawn(lease_loop.run(waiting, stop));
        Ok(leases)
    }
}

/// A heartbeat as the table knows it, and where it came from.
#[derive(Debug)]
struct Received {
    /// The table's number for it: increasing over all sessions.
    number: u64,
    session: Arc<Session>,
    /// The agent's number for it.
    seq: u64,
}

struct LeaseLoop {
    raft: Arc<RaftNode>,
    proposer: Proposer,
    sessions: Arc<Sessions>,
    leases: Leases,
    table: LeaseTable,
    /// The term that the table leads in.
    leading: Option<u64>,
    heartbeats: HashMap<NodeName, VecDeque<Received>>,
    next_seq: u64,
    /// This server leads a cluster that has no settings yet.
    awaits_settings: bool,
    /// Read indexes of confirmed rounds that `apply` has not reached.
    read_indexes: BTreeSet<u64>,
    /// When the table was compared with the state last.
    reconciled_at: BootInstant,
    /// See [`LeaseLoop::servers`].
    servers: Arc<[String]>,
    servers_looked_at: Option<Instant>,
}

impl LeaseLoop {
    async fn run(mut self, mut waiting: mpsc::Receiver<Event>, stop: CancellationToken) {
        let mut leadership = self.raft.leadership();
        let mut applied = self.raft.applied();
        loop {
            leadership.mark_unchanged();
            applied.mark_unchanged();
            self.follow_leadership();
            // A6: everything that has arrived comes before time passes. What comes meanwhile waits for the next time.
            for _ in 0..waiting.len() {
                let Ok(event) = waiting.try_recv() else { break };
                self.take(event);
            }
            self.answer_applied();
            self.reconcile();
            if self.table.next_wakeup(now()).is_zero() {
                let effects = self.table.advance(now());
                self.carry_out(effects);
            }
            let pause = self.table.next_wakeup(now());
            tokio::select! {
                event = waiting.recv() => {
                    let Some(event) = event else { return };
                    // What is told to a server that has come to lead meanwhile must not be lost on a table that doesn't.
                    self.follow_leadership();
                    self.take(event);
                }
                _ = leadership.changed() => {}
                _ = applied.changed(), if !self.read_indexes.is_empty() || self.awaits_settings => {}
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// A7: begins or ends leading, whenever the term is another than the table's.
    fn follow_leadership(&mut self) {
        let term = {
            let leadership = self.raft.leadership();
            let leadership = leadership.borrow();
            (leadership.is_leader && leadership.established).then_some(leadership.term)
        };
        if term == self.leading {
            return;
        }
        self.heartbeats.clear();
        self.read_indexes.clear();
        self.awaits_settings = false;
        let Some(term) = term else {
            tracing::info!("no longer leads: leases are somebody else's");
            self.leading = None;
            self.table.stop_leading();
            return;
        };
        let (settings, nodes) = self.raft.with_state(|state| {
            let live = state.nodes().filter(|node| node.live);
            let nodes: Vec<_> = live.map(|node| (node.name.clone(), node.incarnation)).collect();
            (state.settings().map(|settings| settings.node_lease_ms), nodes)
        });
        // The first leader of a cluster leads nobody before it has set the cluster's lease.
        let Some(lease_ms) = settings else {
            self.table.stop_leading();
            self.leading = None;
            self.awaits_settings = true;
            return;
        };
        match LeaseNumbers::from_node_lease(Duration::from_millis(lease_ms)) {
            Ok(numbers) => {
                let index = self.raft.applied().borrow().index();
                tracing::info!(
                    term,
                    index,
                    nodes = nodes.len(),
                    lease_ms,
                    "leads: every live node gets a whole lease"
                );
                self.table.lead(term, numbers, nodes, now());
                self.leading = Some(term);
                self.reconciled_at = now();
            }
            Err(failed) => {
                tracing::error!(%failed, "the cluster's node lease can't be used, no lease is renewed")
            }
        }
    }

    /// R9: what the table was never told, such as a registration whose session broke just then, it learns from the state.
    fn reconcile(&mut self) {
        let interval = Duration::from_millis(LEASES_RECONCILE_MS);
        if self.leading.is_none() || now().since(self.reconciled_at) < interval {
            return;
        }
        self.reconciled_at = now();
        let live: Vec<_> = self.raft.with_state(|state| {
            let live = state.nodes().filter(|node| node.live);
            live.map(|node| (node.name.clone(), node.incarnation)).collect()
        });
        self.table.reconcile(live, now());
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Registered { node, incarnation } => self.table.registered(node, incarnation, now()),
            Event::Heartbeat { session } => {
                let Some(seq) = session.take_heartbeat() else { return };
                let number = self.next_seq;
                self.next_seq += 1;
                let node = session.node.clone();
                let incarnation = session.incarnation;
                let received = self.heartbeats.entry(node.clone()).or_default();
                received.push_back(Received { number, session, seq });
                while received.len() > HEARTBEATS_REMEMBERED_MAX {
                    received.pop_front();
                }
                let effects = self.table.heartbeat(node, incarnation, number, now());
                self.carry_out(effects);
            }
            Event::Confirmed { round, read_index } => {
                self.table.round_confirmed(round, read_index);
                self.read_indexes.insert(read_index);
                self.answer_applied();
            }
            Event::Failed { round } => self.table.round_failed(round, now()),
            Event::Removed { node, incarnation } => {
                self.table.removed(&node, incarnation);
                if self.sessions.of(&node).is_none_or(|session| session.incarnation <= incarnation) {
                    self.heartbeats.remove(&node);
                }
            }
        }
    }

    /// A5: answers what `apply` has reached.
    fn answer_applied(&mut self) {
        let applied = self.raft.applied().borrow().index().unwrap_or(0);
        if self.read_indexes.first().is_none_or(|awaited| applied < *awaited) {
            return;
        }
        self.read_indexes.retain(|awaited| *awaited > applied);
        let table = &mut self.table;
        let effects = self.raft.with_state(|state| {
            table.applied(applied, |node| {
                state.node(node).filter(|record| record.live).map(|record| record.incarnation)
            })
        });
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<TableEffect>) {
        for effect in effects {
            match effect {
                TableEffect::BeginRound(round) => self.begin_round(round),
                TableEffect::Answer { node, seq, .. } => self.answer(&node, seq),
                TableEffect::Refuse { node, incarnation, reason } => {
                    self.leases.figures.refusals.inc();
                    tracing::info!(%node, incarnation = incarnation.0, ?reason, "a heartbeat was refused");
                    if let Some(session) =
                        self.sessions.of(&node).filter(|session| session.incarnation == incarnation)
                    {
                        session.send(Message::Refused(v1::Refused {
                            reason: v1::RefusalReason::StaleIncarnation.into(),
                            message: format!("the lease of incarnation {incarnation} is over: register anew"),
                            retry_after_ms: 0,
                        }));
                        session.finish();
                    }
                }
                TableEffect::Expire { node, incarnation, term } => {
                    self.expire(ExpireNode { node, incarnation, term })
                }
            }
        }
    }

    fn begin_round(&self, round: RoundId) {
        let (raft, leases) = (Arc::clone(&self.raft), self.leases.clone());
        tokio::spawn(async move {
            let event = match raft.read_index().await {
                Ok(confirmed) => Event::Confirmed { round, read_index: confirmed.log_index },
                Err(failed) => {
                    tracing::debug!(%failed, "no quorum round: no lease was renewed");
                    Event::Failed { round }
                }
            };
            leases.tell(event).await;
        });
    }

    /// Where agents reach the servers; looked at now and then, not for each answer.
    fn servers(&mut self) -> Arc<[String]> {
        let pause = Duration::from_millis(SERVERS_LOOK_MS);
        if self.servers_looked_at.is_none_or(|at| at.elapsed() >= pause) {
            let servers = server_addresses(&self.raft);
            if *self.servers != *servers {
                self.servers = servers.into();
            }
            self.servers_looked_at = Some(Instant::now());
        }
        Arc::clone(&self.servers)
    }

    fn answer(&mut self, node: &NodeName, number: u64) {
        let servers = self.servers();
        let Some(received) = self.heartbeats.get_mut(node) else { return };
        let node_lease_ms = u64::try_from(self.table.numbers().node_lease.as_millis()).unwrap_or(u64::MAX);
        while let Some(first) = received.front() {
            if first.number > number {
                return;
            }
            let Some(first) = received.pop_front() else { return };
            if first.number == number {
                self.leases.figures.renewals.inc();
                let server_addresses = first.session.servers_to_tell(&servers);
                let answer = v1::HeartbeatAnswer { seq: first.seq, node_lease_ms, server_addresses };
                first.session.send(Message::HeartbeatAnswer(answer));
            }
        }
    }

    fn expire(&self, command: ExpireNode) {
        const COMMAND_BYTES: usize = 300;
        tracing::warn!(
            node = %command.node,
            incarnation = command.incarnation.0,
            term = command.term,
            "a node's lease has run out"
        );
        let (proposer, leases) = (self.proposer.clone(), self.leases.clone());
        tokio::spawn(async move {
            let (node, incarnation) = (command.node.clone(), command.incarnation);
            let over = match proposer.propose(Command::ExpireNode(command), COMMAND_BYTES).await {
                Ok(Reply::Rejected(rejection)) => {
                    matches!(rejection.reason, RejectionReason::StaleIncarnation | RejectionReason::NotFound)
                }
                Ok(_) => {
                    leases.figures.expiries.inc();
                    true
                }
                // Proposed again by the table while this server leads.
                Err(failed) => {
                    tracing::debug!(%node, %failed, "the expiry was not confirmed");
                    false
                }
            };
            if over {
                leases.tell(Event::Removed { node, incarnation }).await;
            }
        });
    }
}

/// This machine's CLOCK_BOOTTIME: counts on while the machine is suspended, and nobody can set it.
fn now() -> BootInstant {
    let read = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    // The clock exists on every kernel that can run this program.
    BootInstant(read.unwrap_or_default())
}
