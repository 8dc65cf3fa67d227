//! The client side of the peer port: what openraft sends to other members.
//!
//! Owns: channels to members by purpose, the append stream with its own answer timeout, mapping of failures so that
//! openraft backs off, keeping from openraft that a member has forgotten what it acknowledged. Does not own: the handshake, who the members are, the server side.
//!
//! Invariants: a connection to a member is a connection to that id, proven by the handshake; no RPC is opened before
//! there is something to send; an answer that cannot be read ends the stream.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::{Mutex, RwLock};
use stint_api::MemberId;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use crate::limits::{
    APPEND_ANSWER_TIMEOUT_MS, APPEND_SETUP_TIMEOUT_MS, PEER_MESSAGE_BYTES_MAX, PEER_RPC_TIMEOUT_MS,
};
use crate::peer::acknowledged::{Acknowledged, Denial};
use crate::peer::connection::{DialError, PeerContext, Windows, channel};
use crate::peer::convert::{self, BadMessage};
use crate::peer::snapshot_stream;
use crate::snapshot::SnapshotFile;
use crate::types::{MemberInfo, Snapshot, TypeConfig, Vote};
use crate::wire;
use crate::wire::peer_client::PeerClient;

/// What a connection to a member is for. Each purpose has a connection of its own, so that a snapshot or a large append
/// never delays a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, votes, leadership transfer.
    Control,
    /// Log entries.
    Log,
    /// Snapshots.
    Snapshot,
    /// Whole requests of the server crate, and joining.
    Forward,
}

/// Channels to the other members.
#[derive(Debug)]
pub struct Transport {
    context: Arc<PeerContext>,
    addresses: Arc<RwLock<BTreeMap<MemberId, String>>>,
    channels: Mutex<BTreeMap<(MemberId, Lane), Channel>>,
    reports: Mutex<BTreeMap<MemberId, u64>>,
    acknowledged: Mutex<Acknowledged>,
}

/// openraft's view of [`Transport`].
#[derive(Debug, Clone)]
pub struct NetworkFactory(pub Arc<Transport>);

/// openraft's connection to one member.
#[derive(Debug)]
pub struct Network {
    transport: Arc<Transport>,
    target: MemberId,
    target_name: String,
    lane: Lane,
}

impl Transport {
    /// No connection is made before it is needed.
    pub fn new(context: Arc<PeerContext>) -> Transport {
        Transport {
            context,
            addresses: Arc::default(),
            channels: Mutex::default(),
            reports: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }

    /// The members as they are now: their addresses are used from the next connection on, connections to others close.
    pub fn set_members(&self, members: BTreeMap<MemberId, String>) {
        self.channels.lock().retain(|(member, _), _| members.contains_key(member));
        self.reports.lock().retain(|member, _| members.contains_key(member));
        self.acknowledged.lock().retain(|member| members.contains_key(&member));
        self.context.with_clocks(|clocks| clocks.retain(|member| members.contains_key(&member)));
        *self.addresses.write() = members;
    }

    /// A channel to a member; connects when used, fails with UNAVAILABLE while the member cannot be reached.
    pub fn channel(&self, member: MemberId, lane: Lane) -> Channel {
        let mut channels = self.channels.lock();
        let new = || {
            let addresses = self.addresses.clone();
            let address = move || addresses.read().get(&member).cloned().ok_or(DialError::NoAddress(member));
            let windows = match lane {
                Lane::Control | Lane::Log | Lane::Snapshot => Windows::FEW_STREAMS,
                Lane::Forward => Windows::MANY_STREAMS,
            };
            channel(self.context.clone(), Some(member), windows, address)
        };
        channels.entry((member, lane)).or_insert_with(new).clone()
    }

    /// Highest log index that a member has said to have applied.
    pub fn applied_index(&self, member: MemberId) -> Option<u64> {
        self.reports.lock().get(&member).copied()
    }

    /// Whether a member has forgotten entries that it acknowledged to this server as the leader of `term`.
    pub fn has_forgotten(&self, member: MemberId, term: u64) -> bool {
        self.acknowledged.lock().is_forgotten(member, term)
    }

    /// For tests: no new stream to a member on this lane comes through any more, or they do again. What is open stays.
    #[cfg(test)]
    pub fn block(&self, member: MemberId, lane: Lane, blocked: bool) {
        let mut channels = self.channels.lock();
        channels.remove(&(member, lane));
        if blocked {
            let nowhere = move || Err(DialError::NoAddress(member));
            let nowhere = channel(self.context.clone(), Some(member), Windows::FEW_STREAMS, nowhere);
            channels.insert((member, lane), nowhere);
        }
    }

    /// How often a member has denied entries since it last acknowledged some.
    #[cfg(test)]
    pub fn denials(&self, member: MemberId) -> u64 {
        self.acknowledged.lock().denials(member)
    }

    fn note_report(&self, member: MemberId, report: Option<&wire::PeerReport>) {
        if let Some(report) = report {
            self.context.note_clock(Some(member), report.wall_clock_ms);
            self.reports.lock().insert(member, report.applied_index);
        }
    }
}

/// A client of the peer service with this crate's message limits.
pub fn peer_client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &MemberInfo) -> Network {
        self.network(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &MemberInfo) -> Network {
        self.network(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &MemberInfo) -> Network {
        self.network(target, node, Lane::Snapshot)
    }
}

impl NetworkFactory {
    fn network(&self, target: u64, node: &MemberInfo, lane: Lane) -> Network {
        let target = MemberId(target);
        // A member that was just added may not have reached the list of members yet.
        self.0.addresses.write().insert(target, node.peer_address.clone());
        Network { transport: self.0.clone(), target, target_name: node.name.clone(), lane }
    }
}

impl Network {
    fn client(&self, lane: Lane) -> PeerClient<Channel> {
        peer_client(self.transport.channel(self.target, lane))
    }

    /// Always `Unreachable`: openraft backs off then, and retries other network errors at once.
    fn unreachable(&self, what: &str, error: &impl std::fmt::Display) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("{what} to member {}: {error}", self.target))
    }

    fn status(&self, what: &str, status: &Status) -> Unreachable<TypeConfig> {
        self.unreachable(what, &describe(status))
    }

    /// Watches that the member keeps what it acknowledges. openraft relies on that: told of the contrary, it would ask for
    /// the same entry again at once, thousands of times a second. As a member that is unreachable it is asked seldom, and
    /// does not count as alive.
    fn judge(
        &self,
        term: u64,
        result: StreamAppendResult<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, Unreachable<TypeConfig>> {
        let mut acknowledged = self.transport.acknowledged.lock();
        match &result {
            Ok(Some(last)) => acknowledged.acknowledge(self.target, term, last.index()),
            Ok(None) | Err(StreamAppendError::HigherVote(_)) => {}
            Err(StreamAppendError::Conflict(wanted)) => {
                if let Denial::Forgotten { acknowledged_index, first } =
                    acknowledged.deny(self.target, term, wanted.index())
                {
                    let problem = forgotten(self.target, &self.target_name);
                    if first {
                        tracing::error!(acknowledged_index, wanted_index = wanted.index(), "{problem}");
                    }
                    return Err(self.unreachable("append", &problem));
                }
            }
        }
        Ok(result)
    }

    async fn ask<T>(
        &self,
        what: &str,
        option: &RPCOption,
        answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Unreachable<TypeConfig>> {
        let limit = option.soft_ttl().min(Duration::from_millis(PEER_RPC_TIMEOUT_MS));
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.status(what, &status)),
            Err(_) => Err(self.unreachable(what, &"no answer in time")),
        }
    }
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

/// When each request without an answer was sent.
#[derive(Debug, Default)]
struct Unanswered(Mutex<VecDeque<Instant>>);

impl Unanswered {
    fn sent(&self) {
        self.0.lock().push_back(Instant::now());
    }

    fn answered(&self) {
        self.0.lock().pop_front();
    }

    /// When the oldest request must have been answered.
    fn deadline(&self) -> Option<Instant> {
        self.0.lock().front().map(|sent| *sent + Duration::from_millis(APPEND_ANSWER_TIMEOUT_MS))
    }
}

struct Answers<'s> {
    network: &'s Network,
    /// The term of the leader whose requests are answered.
    term: u64,
    responses: tonic::Streaming<wire::PeerAppendResponse>,
    unanswered: Arc<Unanswered>,
}

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl Answers<'_> {
    /// The next answer. An idle stream is fine; a request that stays unanswered is not: HTTP/2's keepalive sees only
    /// that the connection lives, and one lost answer would hold up replication for ever.
    async fn next(mut self) -> Option<(Appended, Option<Self>)> {
        loop {
            let deadline = self.unanswered.deadline();
            // Looks again after a while even if nothing was outstanding: requests may have been sent meanwhile.
            let until =
                deadline.unwrap_or_else(|| Instant::now() + Duration::from_millis(APPEND_ANSWER_TIMEOUT_MS));
            let failure = match tokio::time::timeout_at(until, self.responses.message()).await {
                Ok(Ok(Some(response))) => {
                    self.unanswered.answered();
                    self.network.transport.note_report(self.network.target, response.report.as_ref());
                    match convert::append_result_from_wire(&response) {
                        Ok(result) => match self.network.judge(self.term, result) {
                            Ok(result) => return Some((Ok(result), Some(self))),
                            Err(forgotten) => forgotten,
                        },
                        Err(error) => self.network.unreachable("append", &error),
                    }
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => self.network.status("append", &status),
                Err(_) if self.unanswered.deadline().is_none_or(|at| at > Instant::now()) => continue,
                Err(_) => self.network.unreachable("append", &"no answer in time"),
            };
            return Some((Err(RPCError::Unreachable(failure)), None));
        }
    }
}

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<TypeConfig>>>
    where
        S: futures::Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            // openraft's back-off sleeps in the first poll of its request stream. Connecting before that poll would
            // try a dead peer thousands of times a second.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(stream::empty()) as BoxStream<'s, Appended>);
            };
            let term = first.vote.leader_id.term;
            let unanswered = Arc::new(Unanswered::default());
            let counted = unanswered.clone();
            let requests = stream::iter([first]).chain(input).map(move |request| {
                counted.sent();
                convert::append_request_to_wire(&request)
            });
            let mut client = self.client(self.lane);
            let opening = client.append_stream(requests);
            let limit = Duration::from_millis(APPEND_SETUP_TIMEOUT_MS);
            let responses = match tokio::time::timeout(limit, opening).await {
                Ok(Ok(response)) => response.into_inner(),
                Ok(Err(status)) => return Err(RPCError::Unreachable(self.status("append", &status))),
                Err(_) => {
                    return Err(RPCError::Unreachable(self.unreachable("append", &"no connection in time")));
                }
            };
            let answers = Answers { network: self, term, responses, unanswered };
            let results = stream::unfold(Some(answers), async |answers| answers?.next().await);
            Ok(Box::pin(results) as BoxStream<'s, Appended>)
        })
    }
}

impl NetVote<TypeConfig> for Network {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.client(Lane::Control);
        let answer = client.vote(convert::vote_request_to_wire(&request));
        let response = self.ask("vote", &option, answer).await?;
        self.read_vote(&response)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.client(Lane::Control);
        let answer = client.pre_vote(convert::vote_request_to_wire(&request));
        let response = self.ask("pre-vote", &option, answer).await?;
        self.read_vote(&response)
    }
}

impl Network {
    fn read_vote(
        &self,
        response: &wire::PeerVoteResponse,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.transport.note_report(self.target, response.report.as_ref());
        convert::vote_response_from_wire(response)
            .map_err(|error| RPCError::Unreachable(self.unreachable("vote", &error)))
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        use wire::peer_transfer_response::Rejection;
        let mut client = self.client(Lane::Control);
        let answer = client.transfer_leader(convert::transfer_request_to_wire(&request));
        let response = self.ask("leadership transfer", &option, answer).await?;
        let unreadable =
            |error: BadMessage| RPCError::Unreachable(self.unreachable("leadership transfer", &error));
        Ok(match &response.rejection {
            None => Ok(()),
            Some(Rejection::VoteChanged(actual)) => Err(TransferLeaderError::VoteChanged {
                expected: *request.from_leader(),
                actual: convert::vote_from_wire(Some(actual)).map_err(unreadable)?,
            }),
            Some(Rejection::LogNotFlushed(actual)) => Err(TransferLeaderError::LogNotFlushed {
                expected: request.last_log_id().cloned(),
                actual: actual.last.as_ref().map(convert::log_id_from_wire),
            }),
        })
    }
}

impl NetSnapshot<TypeConfig> for Network {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.client(Lane::Snapshot);
        let contained = snapshot.meta.last_log_id.as_ref().map(|log_id| log_id.index());
        let sending = snapshot_stream::send(&mut client, &vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => {
                let unreachable = |error: &dyn std::fmt::Display| {
                    StreamingError::Unreachable(self.unreachable("snapshot", &error.to_string()))
                };
                let response = sent.map_err(|error| unreachable(&error))?;
                let seen = convert::vote_from_wire(response.vote.as_ref()).map_err(|error| unreachable(&error))?;
                // Installed, unless another leader was found.
                if let Some(index) = contained.filter(|_| seen == vote) {
                    self.transport.acknowledged.lock().acknowledge(self.target, vote.leader_id.term, index);
                }
                let vote = seen;
                Ok(SnapshotResponse::new(vote))
            }
        }
    }
}

/// What is wrong with a member that denies what it acknowledged, and what to do.
pub fn forgotten(member: MemberId, name: &str) -> String {
    format!(
        "member {member} ({name:?}) has forgotten log entries that it acknowledged: its folder was replaced by an older copy. \
         Stop it, remove its folder and start it again (it joins under a new id), or run `stint member replace {name}`"
    )
}

/// A status with what caused it: the refusal of a handshake is hidden in the sources.
pub fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}
