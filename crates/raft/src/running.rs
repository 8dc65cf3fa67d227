//! One member at work: proposals, linearizable reads, who leads, the leader's time.
//!
//! Owns: what happens from the moment a server is a member until it stops. Does not own: how it became one (module
//! `bootstrap`), membership changes (module `membership`), applying (module `state_machine`).
//!
//! Invariants: nothing is proposed before the first entry of the term is applied here; a write that may have been
//! proposed is never reported as certainly not proposed; a read index comes from a quorum round begun after it was asked
//! for (A5, R7, R10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardReason, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{RaftMetrics, ReadPolicy, ServerState};
use parking_lot::Mutex;
use stint_api::{ClusterId, MemberId, Timestamp};
use stint_core::{ClusterSettings, Command, Entry, State};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::bootstrap::{BootstrapRecord, Newcomer};
use crate::clock::{ClockReadings, StateClock};
use crate::codec;
use crate::limits::MEMBER_REACHABLE_MS;
use crate::limits::{ESTABLISH_WAIT_MS, LEADER_DUTIES_INTERVAL_MS, PEER_RPC_TIMEOUT_MS, PROPOSE_TIMEOUT_MS};
use crate::log_growth::LogGrowth;
use crate::membership::reachable;
use crate::node::{InitialSettings, Thresholds};
use crate::peer::connection::PeerContext;
use crate::peer::transport::{Lane, Transport, describe, forgotten, peer_client};
use crate::snapshot::SnapshotFolder;
use crate::state_machine::{StateMachine, StateReader};
use crate::status::{
    Alarm, AlarmKind, LeaderInfo, Leadership, Member, MemberRole, MemberStatus, RaftProgress, RaftStatus,
};
use crate::types::{
    ApplyResponse, CommittedLeaderId, LogId, LogPayload, MemberInfo, StoredMembership, TypeConfig, term_of,
};
use crate::wire;

/// openraft with our types.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
/// What openraft says of itself. Always cloned: holding the borrowed value would stop openraft.
pub(crate) type Metrics = RaftMetrics<TypeConfig>;

/// Why a proposal has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not proposed: this server does not lead, or has no majority. Safe to send to the leader.
    #[error("not proposed: this server is not the leader")]
    NotLeader {
        /// None: none is known.
        leader: Option<LeaderInfo>,
    },
    /// May have been proposed, and may still be applied: never to be sent again without a check (decision 10).
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// This server has stopped; what it had not answered may have been proposed.
    #[error("this server has stopped, the outcome is unknown: {0}")]
    Fatal(String),
}

/// Why there is no read index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This server does not lead.
    #[error("this server is not the leader")]
    NotLeader {
        /// None: none is known.
        leader: Option<LeaderInfo>,
    },
    /// No majority has confirmed in time that this server still leads.
    #[error("no majority of the members answers: {0}")]
    NoQuorum(String),
    /// The entry was not applied in time.
    #[error("log index {log_index} was not applied in time")]
    NotApplied {
        /// What was waited for.
        log_index: u64,
    },
    /// This server has stopped.
    #[error("this server has stopped: {0}")]
    Fatal(String),
}

/// What a quorum round has shown: every write acknowledged before it was asked for is at or below this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIndex {
    /// The term in which this server leads.
    pub term: u64,
    /// What must be applied before the read.
    pub log_index: u64,
}

/// A member at work.
pub struct Running {
    pub(crate) own: MemberId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) record: Option<BootstrapRecord>,
    pub(crate) newcomer: Newcomer,
    pub(crate) settings: InitialSettings,
    thresholds: Thresholds,
    pub(crate) raft: Raft,
    pub(crate) state: StateReader,
    log_growth: Arc<LogGrowth>,
    pub(crate) snapshots: SnapshotFolder,
    pub(crate) context: Arc<PeerContext>,
    pub(crate) transport: Arc<Transport>,
    /// One membership change at a time.
    pub(crate) changes: tokio::sync::Mutex<()>,
    leadership: watch::Sender<Leadership>,
    fatal: watch::Sender<Option<String>>,
    leading: Mutex<Option<(u64, Instant)>>,
    clock: Mutex<StateClock>,
    rounds: Mutex<ReadRounds>,
    known_membership: Mutex<Option<Arc<StoredMembership>>>,
    /// Which leader was heard last, and when.
    heard: Mutex<Option<(MemberId, Instant)>>,
}

/// Callers that share a quorum round.
#[derive(Default)]
struct ReadRounds {
    under_way: bool,
    /// They came after the present round began: the next is theirs.
    waiting: Vec<oneshot::Sender<Result<ReadIndex, ReadError>>>,
}

/// What a [`Running`] is made of.
pub(crate) struct Parts {
    pub own: MemberId,
    pub cluster_id: ClusterId,
    pub record: Option<BootstrapRecord>,
    pub newcomer: Newcomer,
    pub settings: InitialSettings,
    pub thresholds: Thresholds,
    pub raft: Raft,
    pub state: StateReader,
    pub log_growth: Arc<LogGrowth>,
    pub snapshots: SnapshotFolder,
    pub context: Arc<PeerContext>,
    pub transport: Arc<Transport>,
}

impl Running {
    pub(crate) fn new(parts: Parts) -> Running {
        Running {
            own: parts.own,
            cluster_id: parts.cluster_id,
            record: parts.record,
            newcomer: parts.newcomer,
            settings: parts.settings,
            thresholds: parts.thresholds,
            raft: parts.raft,
            state: parts.state,
            log_growth: parts.log_growth,
            snapshots: parts.snapshots,
            context: parts.context,
            transport: parts.transport,
            changes: tokio::sync::Mutex::default(),
            leadership: watch::Sender::default(),
            fatal: watch::Sender::default(),
            heard: Mutex::default(),
            leading: Mutex::default(),
            clock: Mutex::default(),
            rounds: Mutex::default(),
            known_membership: Mutex::default(),
        }
    }

    /// Proposes one entry and waits until it is applied here.
    pub(crate) async fn propose(&self, commands: Vec<Command>) -> Result<ApplyResponse, ProposeError> {
        let term = self.established().await?;
        let seed = getrandom::u64().map_err(|_| ProposeError::NotLeader { leader: None })?;
        let entry = Entry { time: self.entry_time(term), seed, commands };
        let payload = LogPayload(codec::encode_commands(&entry));
        let (responder, reply) = ProgressResponder::complete_only();
        // Only in the term whose clock stamped it and whose earlier entries were applied here.
        let leader = CommittedLeaderId::new(term);
        let queued = self.raft.write(payload).responder(responder).with_leader(leader);
        queued.await.map_err(|fatal| ProposeError::Fatal(fatal.to_string()))?;
        match tokio::time::timeout(Duration::from_millis(PROPOSE_TIMEOUT_MS), reply).await {
            Ok(Ok(Ok(response))) => Ok(response.data),
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(forward)))) => {
                let leader = match forward.reason {
                    // Names itself, if at all: nobody who could help.
                    ForwardReason::LeaseExpired => None,
                    _ => self.other_leader(),
                };
                Err(ProposeError::NotLeader { leader })
            }
            Ok(Ok(Err(error))) => Err(ProposeError::Unknown(error.to_string())),
            Ok(Err(_)) => Err(ProposeError::Fatal("openraft has ended".to_owned())),
            Err(_) => Err(ProposeError::Unknown("no majority answered in time".to_owned())),
        }
    }

    /// A quorum round of its own, begun after the call. Does not wait for apply.
    pub(crate) async fn read_index(&self) -> Result<ReadIndex, ReadError> {
        let linearizer =
            self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(|error| match error {
                RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
                    match forward.reason {
                        ForwardReason::LeaseExpired => ReadError::NoQuorum(forward.to_string()),
                        _ => ReadError::NotLeader { leader: self.other_leader() },
                    }
                }
                RaftError::APIError(error) => ReadError::NoQuorum(error.to_string()),
                RaftError::Fatal(fatal) => ReadError::Fatal(fatal.to_string()),
            })?;
        let log_id = *linearizer.read_log_id().log_id();
        Ok(ReadIndex { term: term_of(&log_id), log_index: log_id.index() })
    }

    /// A quorum round begun after the call, shared with everybody who asks while the one before is under way.
    pub(crate) async fn shared_read_index(self: &Arc<Self>) -> Result<ReadIndex, ReadError> {
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut rounds = self.rounds.lock();
            rounds.waiting.push(sender);
            !std::mem::replace(&mut rounds.under_way, true)
        };
        if first {
            // A task of its own: the round must go on if this caller goes away.
            tokio::spawn(self.clone().run_rounds());
        }
        receiver.await.unwrap_or_else(|_| Err(ReadError::Fatal("the read was dropped".to_owned())))
    }

    /// The same on any member: one that does not lead asks the leader. The log index is to be waited for here.
    pub(crate) async fn read_index_of_leader(self: &Arc<Self>) -> Result<u64, ReadError> {
        let leader = match self.shared_read_index().await {
            Ok(index) => return Ok(index.log_index),
            Err(ReadError::NotLeader { leader: Some(leader) }) => leader,
            Err(error) => return Err(error),
        };
        let mut client = peer_client(self.transport.channel(leader.id, Lane::Forward));
        let asking = client.read_index(wire::PeerReadIndexRequest {});
        match tokio::time::timeout(Duration::from_millis(PEER_RPC_TIMEOUT_MS), asking).await {
            Ok(Ok(response)) => Ok(response.into_inner().log_index),
            Ok(Err(status)) => Err(ReadError::NoQuorum(describe(&status))),
            Err(_) => Err(ReadError::NoQuorum(format!("{:?}, the leader, does not answer", leader.name))),
        }
    }

    async fn run_rounds(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut rounds = self.rounds.lock();
                if rounds.waiting.is_empty() {
                    rounds.under_way = false;
                    return;
                }
                std::mem::take(&mut rounds.waiting)
            };
            let result = self.read_index().await;
            for sender in waiting {
                // Who has gone away needs no answer.
                let _ = sender.send(result.clone());
            }
        }
    }

    /// Waits until an entry is applied here.
    pub(crate) async fn wait_applied(&self, log_index: u64, timeout: Duration) -> Result<(), ReadError> {
        let mut applied = self.state.applied();
        match tokio::time::timeout(timeout, applied.wait_for(|applied| applied.index() >= Some(log_index)))
            .await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Fatal("nothing is applied any more".to_owned())),
            Err(_) => Err(ReadError::NotApplied { log_index }),
        }
    }

    /// Index of the last applied entry.
    pub(crate) fn applied_index(&self) -> u64 {
        self.state.applied().borrow().index().unwrap_or(0)
    }

    /// Reads the state in memory.
    pub(crate) fn with_state<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.state.state())
    }

    pub(crate) fn leadership(&self) -> Leadership {
        self.leadership.borrow().clone()
    }

    pub(crate) fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(crate) fn watch_fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.subscribe()
    }

    /// Since when this server leads.
    pub(crate) fn leading_since(&self) -> Option<Instant> {
        self.leading.lock().map(|(_, since)| since)
    }

    /// The leader, if it is another server.
    pub(crate) fn other_leader(&self) -> Option<LeaderInfo> {
        self.leadership.borrow().leader.clone().filter(|leader| leader.id != self.own)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// All members, in the order of ids.
    pub(crate) fn members(&self) -> Vec<Member> {
        members_of(&self.metrics())
    }

    /// All members, and whether that is beyond doubt: this server leads, has applied all entries of earlier terms, a majority
    /// has answered it of late, and the members are committed.
    pub(crate) fn known_members(&self) -> (Vec<Member>, bool) {
        let metrics = self.metrics();
        let is_certain = metrics.membership_config == metrics.committed_membership_config
            && self.leadership().established
            && self.status().leader.is_some_and(|leader| leader.id == self.own);
        (members_of(&metrics), is_certain)
    }

    /// A leader has spoken.
    pub(crate) fn hear(&self, leader: MemberId) {
        *self.heard.lock() = Some((leader, Instant::now()));
    }

    /// Whether a leader that is known from its election still shows signs of life: to a follower its messages, to itself a
    /// majority that answers.
    fn is_live_leader(&self, is_self: bool, leader: MemberId, members: &[MemberStatus]) -> bool {
        if is_self {
            let voters: Vec<&MemberStatus> =
                members.iter().filter(|member| member.role == MemberRole::Voter).collect();
            let answering = voters.iter().filter(|member| member.reachable == Some(true)).count();
            return 2 * answering > voters.len();
        }
        let patience = Duration::from_millis(MEMBER_REACHABLE_MS);
        self.heard.lock().is_some_and(|(heard, at)| heard == leader && at.elapsed() < patience)
    }

    pub(crate) fn progress(&self) -> RaftProgress {
        let metrics = self.metrics();
        let index = |log_id: &Option<LogId>| log_id.as_ref().map(|log_id| log_id.index());
        let purged = index(&metrics.purged);
        let applied_index = self.applied_index();
        let committed = index(&metrics.cluster_committed).max(index(&metrics.local_committed));
        RaftProgress {
            last_log_index: metrics.last_log_index.unwrap_or(0),
            // openraft tells of it a moment later.
            committed_index: committed.unwrap_or(0).max(applied_index),
            applied_index,
            snapshot_index: index(&metrics.snapshot).unwrap_or(0),
            purged_index: purged.unwrap_or(0),
            log_bytes: self.log_growth.bytes_behind(purged),
        }
    }

    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.metrics();
        let leadership = self.leadership();
        let last_here = metrics.last_log_index.unwrap_or(0);
        let leads = leadership.is_leader;
        let mut alarms = Vec::new();
        if leads && let Some(alarm) = self.clock.lock().alarm() {
            alarms.push(Alarm { kind: AlarmKind::ClockSkew, text: alarm.to_string() });
        }
        let members = members_of(&metrics).into_iter().map(|member| {
            let is_self = member.id == self.own;
            let matched = metrics.replication.as_ref().and_then(|replication| {
                replication.get(&member.id.0).cloned().flatten().map(|log_id| log_id.index())
            });
            let last_log_index = if is_self { metrics.last_log_index } else { matched };
            let applied_index = match is_self {
                true => Some(self.applied_index()),
                false => self.transport.applied_index(member.id),
            };
            let reachable = leads.then(|| reachable(&metrics, member.id));
            let has_forgotten = leads && self.transport.has_forgotten(member.id, leadership.term);
            alarms.extend(alarm_of(&member, has_forgotten, reachable));
            MemberStatus {
                id: member.id,
                role: if member.voter { MemberRole::Voter } else { MemberRole::Learner },
                address: member.info.client_address,
                peer_address: member.info.peer_address,
                name: member.info.name,
                last_log_index,
                applied_index,
                lag: if leads { last_log_index.map(|last| last_here.saturating_sub(last)) } else { None },
                reachable,
            }
        });
        let members: Vec<MemberStatus> = members.collect();
        let leader = leadership.leader.filter(|leader| self.is_live_leader(leads, leader.id, &members));
        if leader.is_none() {
            alarms.push(Alarm { kind: AlarmKind::NoLeader, text: "no leader is known".to_owned() });
        }
        RaftStatus { cluster_id: self.cluster_id, term: leadership.term, leader, members, alarms }
    }

    /// Waits until storage fails.
    pub(crate) async fn watch_storage(self: Arc<Self>) {
        let error = self.state.failed().await;
        self.note_fatal(error.to_string());
    }

    /// Follows openraft until it stops.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut changes = self.raft.metrics();
        loop {
            let metrics = changes.borrow_watched().clone();
            self.observe(&metrics);
            if changes.changed().await.is_err() {
                break;
            }
        }
        self.note_fatal("openraft has ended".to_owned());
    }

    /// What only the leader does, again and again: settings, half-done membership changes, promotions. Every server also
    /// sees to it that its log does not grow too large and that its addresses are known.
    pub(crate) async fn do_duties(self: Arc<Self>) {
        let mut snapshot_asked_at = None;
        loop {
            tokio::time::sleep(Duration::from_millis(LEADER_DUTIES_INTERVAL_MS)).await;
            let leadership = self.leadership();
            if leadership.established {
                self.propose_settings().await;
                if let Err(error) = self.tend_membership().await {
                    self.context.warn_once(format!("could not tend the membership: {error}"));
                }
            }
            self.tend_log(&mut snapshot_asked_at).await;
            self.announce(&leadership).await;
        }
    }

    /// Bounds the log by bytes: openraft counts entries only. `asked_at`: the applied position at which a snapshot was last
    /// asked for; a second one of the same position would not help.
    async fn tend_log(&self, asked_at: &mut Option<u64>) {
        let metrics = self.metrics();
        let index = |log_id: Option<&LogId>| log_id.map(|log_id| log_id.index());
        let snapshot = index(metrics.snapshot.as_ref());
        let applied = index(metrics.last_applied.as_ref());
        let trigger = self.raft.trigger();
        // Fails only once openraft has ended, which `follow` notices.
        if self.log_growth.bytes_behind(snapshot) >= self.thresholds.snapshot_log_bytes && applied > *asked_at
        {
            tracing::info!(applied, "the log is large: builds a snapshot");
            *asked_at = applied;
            let _ = trigger.snapshot().await;
        }
        let removable = self.log_growth.index_before_last_bytes(self.thresholds.log_bytes_kept).min(snapshot);
        if let Some(up_to) = removable
            && Some(up_to) > index(metrics.purged.as_ref())
        {
            let _ = trigger.purge_log(up_to).await;
        }
    }

    async fn propose_settings(&self) {
        if self.with_state(|state| state.settings().is_some()) {
            return;
        }
        let highest = self
            .record
            .as_ref()
            .and_then(|record| record.members.iter().map(|member| member.member_id).max());
        let settings = ClusterSettings {
            cluster_id: self.cluster_id,
            node_lease_ms: self.settings.node_lease_ms,
            placement_policy: self.settings.placement_policy,
            event_retention_ms: self.settings.event_retention_ms,
            default_runtime: self.settings.default_runtime.clone(),
            ended_pods_max: self.settings.ended_pods_max,
            highest_member_id: highest.unwrap_or(self.own),
        };
        match self.propose(vec![Command::SetClusterSettings(settings)]).await {
            Ok(_) => tracing::info!(cluster = %self.cluster_id, "the cluster has its settings"),
            Err(error) => tracing::warn!(%error, "could not propose the cluster's settings"),
        }
    }

    /// Tells the leader where this member is reached, if the membership says otherwise.
    async fn announce(&self, leadership: &Leadership) {
        let Some(own) = self.members().into_iter().find(|member| member.id == self.own) else { return };
        let wanted = MemberInfo {
            name: own.info.name.clone(),
            peer_address: self.newcomer.peer_address.clone(),
            client_address: self.newcomer.client_address.clone(),
        };
        if own.info == wanted {
            return;
        }
        if own.info.peer_address != wanted.peer_address
            && let Some(outcast) = self.is_somebody_else_at(&own.info.peer_address).await
        {
            return self.note_outcast(outcast);
        }
        if leadership.is_leader {
            let moved = self.set_addresses(self.own, wanted.peer_address, wanted.client_address).await;
            if let Err(error) = moved {
                self.context.warn_once(format!("could not change this server's addresses: {error}"));
            }
            return;
        }
        let Some(leader) = &leadership.leader else { return };
        let request = wire::PeerAnnounceRequest {
            member_id: self.own.0,
            peer_address: wanted.peer_address,
            client_address: wanted.client_address,
        };
        let mut client = peer_client(self.transport.channel(leader.id, Lane::Forward));
        let answer = client.announce(request);
        // Comes again with the next round.
        let _ = tokio::time::timeout(Duration::from_millis(PEER_RPC_TIMEOUT_MS), answer).await;
    }

    fn observe(&self, metrics: &Metrics) {
        if let Err(fatal) = &metrics.running_state {
            self.note_fatal(fatal.to_string());
        }
        let members = members_of(metrics);
        self.note_members(metrics, &members);

        let term = metrics.current_term;
        let is_leader = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        let established =
            is_leader && metrics.last_applied.as_ref().is_some_and(|log_id| term_of(log_id) == term);
        let leader = metrics.current_leader.and_then(|leader| {
            let member = members.iter().find(|member| member.id.0 == leader)?;
            Some(LeaderInfo::new(member.id, &member.info))
        });
        {
            let mut leading = self.leading.lock();
            match (*leading, is_leader) {
                (Some((known, _)), true) if known == term => {}
                (_, true) => *leading = Some((term, Instant::now())),
                (Some(_), false) => {
                    *leading = None;
                    self.clock.lock().forget_term();
                }
                (None, false) => {}
            }
        }
        let now = Leadership { term, leader, is_leader, established };
        self.leadership.send_if_modified(|known| {
            let modified = *known != now;
            if modified {
                if known.leader != now.leader || known.established != now.established {
                    let leader = now.leader.as_ref().map_or("none", |leader| leader.name.as_str());
                    let established = now.established;
                    // A span too: whoever looks at requests that took long sees why. Traces have no unsigned numbers.
                    let of_trace = i64::try_from(term).unwrap_or(i64::MAX);
                    let _change =
                        tracing::debug_span!("leadership", term = of_trace, leader, established).entered();
                    tracing::info!(term, leader, established, "leadership");
                }
                *known = now;
            }
            modified
        });
    }

    fn note_members(&self, metrics: &Metrics, members: &[Member]) {
        let mut known = self.known_membership.lock();
        // openraft publishes its metrics many times a second; the membership seldom changes.
        if known.as_ref() != Some(&metrics.membership_config) {
            let addresses: BTreeMap<MemberId, String> =
                members.iter().map(|member| (member.id, member.info.peer_address.clone())).collect();
            self.transport.set_members(addresses);
            *known = Some(metrics.membership_config.clone());
        }
    }

    pub(crate) fn note_fatal(&self, reason: String) {
        self.fatal.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason);
            }
            first
        });
    }

    /// Waits, for a short time, until this server's state holds all entries of earlier terms. Gives the term.
    async fn established(&self) -> Result<u64, ProposeError> {
        let mut leadership = self.watch_leadership();
        let settled = leadership.wait_for(|now| now.established || !now.is_leader);
        let not_leader = || ProposeError::NotLeader { leader: self.other_leader() };
        let now = match tokio::time::timeout(Duration::from_millis(ESTABLISH_WAIT_MS), settled).await {
            Ok(Ok(now)) => (now.established, now.term),
            _ => return Err(not_leader()),
        };
        match now {
            (true, term) => Ok(term),
            (false, _) => Err(not_leader()),
        }
    }

    fn entry_time(&self, term: u64) -> Timestamp {
        let here = ClockReadings::now();
        let metrics = self.metrics();
        let voters: Vec<MemberId> =
            metrics.membership_config.membership().voter_ids().map(MemberId).collect();
        let trusted = self.context.with_clocks(|clocks| clocks.trusted(self.own, &voters, here));
        let last = self.with_state(State::time);
        let time = self.clock.lock().read(term, last, trusted, here);
        // A new cluster has no time yet: taking it from the wall is no event.
        if time.adopted_ms > 0 && last.0 > 0 {
            tracing::info!(term, adopted_ms = time.adopted_ms, "cluster time was moved forward to wall time");
        }
        time.time
    }
}

/// What the leader has to say of a member. `reachable`: none: not known here.
fn alarm_of(member: &Member, has_forgotten: bool, reachable: Option<bool>) -> Option<Alarm> {
    let (id, name) = (member.id, &member.info.name);
    if has_forgotten {
        return Some(Alarm { kind: AlarmKind::MemberForgot, text: forgotten(id, name) });
    }
    (reachable == Some(false)).then(|| Alarm {
        kind: AlarmKind::MemberUnreachable,
        text: format!("member {id} ({name:?}) does not answer"),
    })
}

fn members_of(metrics: &Metrics) -> Vec<Member> {
    let membership = metrics.membership_config.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let members = membership.nodes().map(|(id, info)| Member {
        id: MemberId(*id),
        info: info.clone(),
        voter: voters.contains(id),
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_of_its_kind_whatever_a_member_is_called() {
        for name in ["s1", "clock1", "no leader"] {
            let info = MemberInfo { name: name.to_owned(), ..MemberInfo::default() };
            let member = Member { id: MemberId(2), info, voter: true };
            let kind = |has_forgotten, reachable| {
                alarm_of(&member, has_forgotten, reachable).map(|alarm| alarm.kind.as_str())
            };
            assert_eq!(kind(true, Some(false)), Some("MemberForgot"));
            assert_eq!(kind(true, Some(true)), Some("MemberForgot"));
            assert_eq!(kind(false, Some(false)), Some("MemberUnreachable"));
            assert_eq!(kind(false, Some(true)), None);
            assert_eq!(kind(false, None), None);
        }
    }
}
