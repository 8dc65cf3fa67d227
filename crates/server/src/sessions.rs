//! The leader's agent sessions: which node talks over which stream, and what is said to it.
//!
//! Owns: the newest session of each node, orders as speed-ups (A9), logs that are read through sessions. Does not own: the life
//! of one session (`session`), leases (`leases`), channels (`channels`), what is used (`usage`).
//!
//! Invariants: per node only the newest session is listened to (A3); what waits for one agent is bounded, and an agent that
//! does not read loses its session, not the server its memory; orders may be dropped, the desired set mends it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use stint_api::{Incarnation, NodeName, PodUid};
use stint_core::{DesiredAction, Order, compose};
use stint_proto::limits::{LOG_CHUNK_BYTES_MAX, LOG_CREDIT_BYTES_INITIAL, ORDER_CREDITS_INITIAL};
use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use stint_raft::RaftNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use crate::agent_wire::{desired_pod, message};
use crate::channels::Channels;
use crate::error;
use crate::limits::{
    CHANNELS_MAX, LOG_CHUNKS_QUEUED_MAX, LOG_STREAMS_MAX, LOG_STREAMS_PER_SESSION_MAX, ORDERS_QUEUE_MAX,
    SESSION_CHANNELS_QUEUE, SESSION_ORDERS_QUEUE, SESSION_OUT_QUEUE, SESSION_SETS_QUEUE, SESSIONS_MAX,
};
use crate::pod_to_run;
use crate::usage::UsageQuestions;

/// All sessions of this server.
#[derive(Debug)]
pub struct Sessions {
    by_node: Mutex<HashMap<NodeName, Arc<Session>>>,
    next_id: AtomicU64,
    orders: mpsc::Sender<Order>,
    log_streams: Arc<Semaphore>,
    channels: Arc<Semaphore>,
}

/// One stream of one agent, after its registration.
#[derive(Debug)]
pub struct Session {
    /// Increasing: of two sessions of one incarnation the higher is the newer.
    pub id: u64,
    /// The node.
    pub node: NodeName,
    /// Its registration.
    pub incarnation: Incarnation,
    /// Ends the session.
    pub ended: CancellationToken,
    out: Outgoing,
    /// The newest heartbeat that the lease loop has not taken.
    heartbeat: Mutex<Option<u64>>,
    /// Addresses of servers that the agent was told of since the session began.
    servers_told: Mutex<Arc<[String]>>,
    order_credits: AtomicI64,
    logs: Mutex<HashMap<u64, LogSink>>,
    next_log: AtomicU64,
    /// Commands and connections.
    pub channels: Channels,
    /// What was asked and not answered.
    pub usage_questions: UsageQuestions,
}

/// What is said to one agent: three queues, so that neither a long desired set nor the input of a command holds up an answer,
/// and an agent that does not read makes the server hold little.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Small messages, in order.
    urgent: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    /// Parts of desired sets, in order.
    sets: mpsc::Sender<v1::ServerMessage>,
    /// What goes through channels, in order.
    channels: mpsc::Sender<v1::ServerMessage>,
    /// Nothing follows what is in the queues. Who still holds this end may be anywhere.
    over: CancellationToken,
}

/// The other end: what goes out over the stream, what is urgent first.
#[derive(Debug)]
pub struct OutgoingStream {
    urgent: mpsc::Receiver<Result<v1::ServerMessage, Status>>,
    sets: mpsc::Receiver<v1::ServerMessage>,
    channels: mpsc::Receiver<v1::ServerMessage>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// A session that is listened to. Dropping it ends the session, however its stream ended.
#[derive(Debug)]
pub struct OpenSession {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

/// Where the pieces of one log go.
#[derive(Debug)]
struct LogSink {
    reader: mpsc::Sender<LogPiece>,
    /// Bytes that the agent may still send.
    credit_bytes: u64,
}

/// What an agent sends of a log.
#[derive(Debug)]
pub enum LogPiece {
    /// A piece.
    Chunk(v1::LogChunk),
    /// Nothing more follows.
    End(v1::LogEnd),
}

/// A log being read through a session. Dropping it tells the agent.
#[derive(Debug)]
pub struct LogReader {
    session: Arc<Session>,
    request_id: u64,
    pieces: mpsc::Receiver<LogPiece>,
    finished: bool,
    _place: OwnedSemaphorePermit,
}

impl Sessions {
    /// Sessions, and the queue of orders for [`send_orders`].
    pub fn new() -> (Arc<Sessions>, mpsc::Receiver<Order>) {
        let (orders, waiting) = mpsc::channel(ORDERS_QUEUE_MAX);
        let sessions = Sessions {
            by_node: Mutex::default(),
            next_id: AtomicU64::new(1),
            orders,
            log_streams: Arc::new(Semaphore::new(LOG_STREAMS_MAX)),
            channels: Arc::new(Semaphore::new(CHANNELS_MAX)),
        };
        (Arc::new(sessions), waiting)
    }

    /// Makes a session the one of its node, unless a newer registration has one; the one before ends. `first` is said
    /// before anything else: orders may come as soon as the session is known.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many, `ABORTED` if this registration is not the node's newest.
    pub fn open(
        self: &Arc<Self>,
        node: NodeName,
        incarnation: Incarnation,
        out: Outgoing,
        first: Message,
    ) -> Result<OpenSession, Status> {
        let session = Arc::new(Session {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            node: node.clone(),
            incarnation,
            ended: CancellationToken::new(),
            out,
            heartbeat: Mutex::default(),
            servers_told: Mutex::default(),
            order_credits: AtomicI64::new(i64::from(ORDER_CREDITS_INITIAL)),
            logs: Mutex::default(),
            next_log: AtomicU64::new(1),
            channels: Channels::default(),
            usage_questions: UsageQuestions::default(),
        });
        let mut by_node = self.by_node.lock();
        if by_node.get(&node).is_some_and(|present| present.incarnation > incarnation) {
            return Err(superseded());
        }
        if by_node.len() >= SESSIONS_MAX && !by_node.contains_key(&node) {
            return Err(error::overloaded(format!(
                "{SESSIONS_MAX} agents have sessions already: try again later"
            )));
        }
        session.send(first);
        if let Some(older) = by_node.insert(node, Arc::clone(&session)) {
            drop(by_node);
            older.end(superseded());
        }
        Ok(OpenSession { sessions: Arc::clone(self), session })
    }

    /// Forgets a session that has ended.
    fn close(&self, session: &Session) {
        session.ended.cancel();
        let mut by_node = self.by_node.lock();
        if by_node.get(&session.node).is_some_and(|present| present.id == session.id) {
            by_node.remove(&session.node);
        }
        drop(by_node);
        session.logs.lock().clear();
        session.channels.clear();
        session.usage_questions.clear();
    }

    /// The session of a node.
    pub fn of(&self, node: &NodeName) -> Option<Arc<Session>> {
        self.by_node.lock().get(node).cloned()
    }

    /// All that there are, in the order of their nodes.
    pub fn all(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.by_node.lock().values().cloned().collect();
        all.sort_by(|one, other| one.node.cmp(&other.node));
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_node.lock().len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes orders of applied entries. Never waits: apply does.
    pub fn order(&self, orders: &[Order]) {
        if orders.is_empty() || self.is_empty() {
            return;
        }
        for order in orders {
            if self.orders.try_send(order.clone()).is_err() {
                tracing::debug!("orders were dropped, desired sets will tell");
                return;
            }
        }
    }

    /// A place among those who read logs, or wait for one to begin.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is none.
    pub fn log_place(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.log_streams).try_acquire_owned().map_err(|_| {
            error::overloaded(format!("{LOG_STREAMS_MAX} logs are being read already: try again later"))
        })
    }

    /// A place among those who have a channel.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is none.
    pub fn channel_place(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.channels).try_acquire_owned().map_err(|_| {
            let message =
                format!("{CHANNELS_MAX} commands and connections are open already: try again later");
            error::overloaded(message)
        })
    }

    /// Begins to read a log through the session of `node`. `request` names what; its id and credit are set here.
    ///
    /// # Errors
    /// `UNAVAILABLE` `NodeUnreachable` if the node has no session, `RESOURCE_EXHAUSTED` if too many of its logs are read.
    pub fn read_log(
        &self,
        place: OwnedSemaphorePermit,
        node: &NodeName,
        mut request: v1::LogRequest,
    ) -> Result<LogReader, Status> {
        let session = self.of(node).ok_or_else(|| error::node_unreachable(node))?;
        let (sender, pieces) = mpsc::channel(LOG_CHUNKS_QUEUED_MAX);
        request.request_id = session.next_log.fetch_add(1, Ordering::Relaxed);
        request.credit_bytes = LOG_CREDIT_BYTES_INITIAL;
        let request_id = request.request_id;
        {
            let mut logs = session.logs.lock();
            if logs.len() >= LOG_STREAMS_PER_SESSION_MAX {
                let message = format!(
                    "{LOG_STREAMS_PER_SESSION_MAX} logs of node {node} are being read already: try again later"
                );
                return Err(error::overloaded(message));
            }
            logs.insert(request_id, LogSink { reader: sender, credit_bytes: LOG_CREDIT_BYTES_INITIAL });
        }
        let reader = LogReader { session, request_id, pieces, finished: false, _place: place };
        if !reader.session.send(Message::LogRequest(request)) {
            return Err(error::node_unreachable(node));
        }
        Ok(reader)
    }
}

impl Session {
    /// The addresses of all servers, if they are others than those that the agent was told of last; else none.
    pub fn servers_to_tell(&self, servers: &Arc<[String]>) -> Vec<String> {
        let mut told = self.servers_told.lock();
        if *told == *servers {
            return Vec::new();
        }
        *told = Arc::clone(servers);
        servers.to_vec()
    }

    /// Sends a message if there is room; without room the session ends: its agent does not read. False: it is over.
    pub fn send(&self, content: Message) -> bool {
        match self.out.urgent.try_send(Ok(message(content))) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(node = %self.node, "an agent does not read its session; it is ended");
                self.ended.cancel();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.ended.cancel();
                false
            }
        }
    }

    /// Sends a part of a desired set; waits for room, since there may be many.
    pub async fn send_set(&self, part: v1::ServerMessage) -> bool {
        tokio::select! {
            sent = self.out.sets.send(part) => sent.is_ok(),
            () = self.ended.cancelled() => false,
        }
    }

    /// Sends what goes through a channel; waits for room, since there may be much.
    pub async fn send_to_channel(&self, content: Message) -> bool {
        tokio::select! {
            sent = self.out.channels.send(message(content)) => sent.is_ok(),
            () = self.ended.cancelled() => false,
        }
    }

    /// Ends the session and says why, if there is room.
    pub fn end(&self, why: Status) {
        self.out.end(why);
        self.ended.cancel();
    }

    /// Notes a heartbeat. True if the lease loop must be told; otherwise it has an older one to come for, and gets this one
    /// instead: an agent that floods takes one place, not all of them.
    pub fn note_heartbeat(&self, seq: u64) -> bool {
        self.heartbeat.lock().replace(seq).is_none()
    }

    /// The newest heartbeat, for the lease loop; none of a session that is listened to no more (A3).
    pub fn take_heartbeat(&self) -> Option<u64> {
        let newest = self.heartbeat.lock().take();
        newest.filter(|_| !self.ended.is_cancelled())
    }

    /// Ends the session once what was sent has gone out.
    pub fn finish(&self) {
        self.ended.cancel();
    }

    /// The agent takes more orders.
    pub fn add_order_credits(&self, orders: u32) {
        let most = i64::try_from(ORDERS_QUEUE_MAX).unwrap_or(i64::MAX);
        let _ = self.order_credits.fetch_update(Ordering::AcqRel, Ordering::Acquire, |credits| {
            Some(credits.saturating_add(i64::from(orders)).min(most))
        });
    }

    /// Takes a piece of a log in. Never waits: heartbeats come over the same stream.
    pub fn take_log_piece(&self, request_id: u64, piece: LogPiece) {
        let mut logs = self.logs.lock();
        let Some(sink) = logs.get_mut(&request_id) else { return };
        let goes_on = match &piece {
            LogPiece::Chunk(chunk) => match sink.credit_bytes.checked_sub(chunk.data.len() as u64) {
                Some(left) if chunk.data.len() <= LOG_CHUNK_BYTES_MAX => {
                    sink.credit_bytes = left;
                    true
                }
                _ => {
                    tracing::warn!(node = %self.node, "an agent sends more of a log than it may; the log is ended");
                    logs.remove(&request_id);
                    return;
                }
            },
            LogPiece::End(_) => false,
        };
        // A reader without room gets no end either: it sees its channel close.
        if sink.reader.try_send(piece).is_err() || !goes_on {
            logs.remove(&request_id);
        }
    }

    /// True if the agent takes another order, and reads what it was sent.
    fn take_order_credit(&self) -> bool {
        if self.out.urgent.capacity() <= SESSION_OUT_QUEUE - SESSION_ORDERS_QUEUE {
            return false;
        }
        self.order_credits
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |credits| (credits > 0).then(|| credits - 1))
            .is_ok()
    }
}

impl Outgoing {
    /// Both ends.
    pub fn new() -> (Outgoing, OutgoingStream) {
        let (urgent, urgent_receiver) = mpsc::channel(SESSION_OUT_QUEUE);
        let (sets, sets_receiver) = mpsc::channel(SESSION_SETS_QUEUE);
        let (channels, channels_receiver) = mpsc::channel(SESSION_CHANNELS_QUEUE);
        let over = CancellationToken::new();
        let stream = OutgoingStream {
            urgent: urgent_receiver,
            sets: sets_receiver,
            channels: channels_receiver,
            over: Box::pin(over.clone().cancelled_owned()),
        };
        (Outgoing { urgent, sets, channels, over }, stream)
    }

    /// Says something to an agent that has no session yet. Without room it does not read, and finds its stream closed.
    pub fn say(&self, content: Message) {
        let _ = self.urgent.try_send(Ok(message(content)));
    }

    /// Ends the stream and says why, if there is room.
    pub fn end(&self, why: Status) {
        let _ = self.urgent.try_send(Err(why));
    }

    /// Ends the stream after what was said.
    pub fn finish(&self) {
        self.over.cancel();
    }

    /// Comes when the agent has closed its stream.
    pub async fn closed(&self) {
        self.urgent.closed().await;
    }
}

impl Stream for OutgoingStream {
    type Item = Result<v1::ServerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.urgent.poll_recv(context) {
            Poll::Pending => {}
            said => return said,
        }
        match self.sets.poll_recv(context) {
            Poll::Ready(Some(part)) => return Poll::Ready(Some(Ok(part))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        match self.channels.poll_recv(context) {
            Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            Poll::Ready(None) | Poll::Pending => self.over.as_mut().poll(context).map(|()| None),
        }
    }
}

impl std::ops::Deref for OpenSession {
    type Target = Arc<Session>;

    fn deref(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.sessions.close(&self.session);
    }
}

impl LogReader {
    /// The next piece; None if the session ended, or more came than was allowed.
    pub async fn next(&mut self) -> Option<LogPiece> {
        // What has come already comes before the end of the session.
        let piece = tokio::select! {
            biased;
            piece = self.pieces.recv() => piece,
            () = self.session.ended.cancelled() => None,
        };
        self.finished = !matches!(piece, Some(LogPiece::Chunk(_)));
        piece
    }

    /// The reader has taken so many bytes: as many more may come.
    pub fn give_credit(&self, data: &Bytes) {
        let bytes = data.len() as u64;
        if bytes > 0 {
            if let Some(sink) = self.session.logs.lock().get_mut(&self.request_id) {
                sink.credit_bytes = sink.credit_bytes.saturating_add(bytes);
            }
            self.session.send(Message::LogCredit(v1::LogCredit { request_id: self.request_id, bytes }));
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        let removed = self.session.logs.lock().remove(&self.request_id).is_some();
        if removed || !self.finished {
            self.session.send(Message::LogCancel(v1::LogCancel { request_id: self.request_id }));
        }
    }
}

/// Composes and sends orders until the queue is closed.
pub async fn send_orders(raft: Arc<RaftNode>, sessions: Arc<Sessions>, mut waiting: mpsc::Receiver<Order>) {
    const TOGETHER_MAX: usize = 256;
    let mut orders = Vec::with_capacity(TOGETHER_MAX);
    while waiting.recv_many(&mut orders, TOGETHER_MAX).await > 0 {
        for order in orders.drain(..) {
            let Some(session) = sessions.of(&order.node) else { continue };
            if session.incarnation != order.incarnation || !session.take_order_credit() {
                continue;
            }
            let pod = match order.desired.action {
                DesiredAction::Stop { .. } => None,
                DesiredAction::Run { .. } => match composed(&raft, order.desired.pod) {
                    Some(pod) => Some(pod),
                    // Ended since: nothing to run.
                    None => continue,
                },
            };
            let resolved = match pod {
                None => None,
                Some(pod) => match pod_to_run::for_node(&raft, pod).await {
                    Ok(resolved) => Some(resolved),
                    Err(failed) => {
                        tracing::warn!(node = %order.node, %failed, "an order could not be composed, desired sets will tell");
                        continue;
                    }
                },
            };
            let pod = desired_pod(&order.desired, resolved);
            session.send(Message::Order(v1::Order { incarnation: order.incarnation.0, pod: Some(pod) }));
        }
    }
}

/// An unfinished Pod as its agent needs it.
pub fn composed(raft: &RaftNode, uid: PodUid) -> Option<stint_api::Pod> {
    let (record, template) = raft.with_state(|state| {
        let record = state.pod(&uid)?;
        let template = state.template(&record.job)?;
        Some((Arc::clone(record), Arc::clone(template)))
    })?;
    Some(compose::pod(&record, &template, record.binding_revision))
}

fn superseded() -> Status {
    error::refused(
        stint_proto::ErrorReason::Conflict,
        "a newer session of this node took over: check that no second agent uses its data folder",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use stint_api::Revision;
    use stint_core::DesiredPod;
    use tokio_stream::StreamExt;

    /// A session and what its agent hears after `Registered`.
    fn open(sessions: &Arc<Sessions>, incarnation: u64) -> (Result<OpenSession, Status>, OutgoingStream) {
        let (out, mut heard) = Outgoing::new();
        let first = Message::Registered(v1::Registered { incarnation, ..v1::Registered::default() });
        let session = sessions.open(NodeName::new("w1"), Incarnation(incarnation), out, first);
        if session.is_ok() {
            let first = heard.urgent.try_recv().expect("the first message").expect("no error");
            assert!(matches!(first.message, Some(Message::Registered(_))));
        }
        (session, heard)
    }

    async fn hear(heard: &mut OutgoingStream) -> Message {
        heard.next().await.expect("goes on").expect("no error").message.expect("a message")
    }

    #[tokio::test]
    async fn a3_only_the_newest_session_of_a_node_is_kept() {
        let (sessions, _orders) = Sessions::new();
        let (first, mut first_out) = open(&sessions, 5);
        let first = first.expect("the first");
        let (second, _second_out) = open(&sessions, 5);
        let second = second.expect("the second");
        assert!(first.ended.is_cancelled());
        assert_eq!(
            first_out.next().await.expect("the end").expect_err("an error").code(),
            tonic::Code::Aborted
        );
        // Not even a heartbeat that came before it was told.
        assert!(first.note_heartbeat(1));
        assert_eq!(first.take_heartbeat(), None);
        // The older one's end does not take the newer one with it.
        drop(first);
        assert_eq!(sessions.of(&NodeName::new("w1")).map(|session| session.id), Some(second.id));
        // A registration that was superseded before its session opened.
        assert!(open(&sessions, 4).0.is_err());
        assert!(!second.ended.is_cancelled());
    }

    #[tokio::test]
    async fn an_agent_that_does_not_read_loses_its_session() {
        let (sessions, _orders) = Sessions::new();
        let (session, _out) = open(&sessions, 1);
        let session = session.expect("open");
        let answer = || Message::HeartbeatAnswer(v1::HeartbeatAnswer::default());
        assert!((0..SESSION_OUT_QUEUE).all(|_| session.send(answer())));
        assert!(!session.send(answer()));
        assert!(session.ended.is_cancelled());
    }

    #[tokio::test]
    async fn a_session_that_is_dropped_is_over_for_everybody() {
        let (sessions, _orders) = Sessions::new();
        let (session, _heard) = open(&sessions, 1);
        let session = session.expect("open");
        let place = sessions.log_place().expect("a place");
        let mut reader =
            sessions.read_log(place, &session.node, v1::LogRequest::default()).expect("a reader");
        let last = v1::LogChunk { data: "last".into(), ..v1::LogChunk::default() };
        session.take_log_piece(reader.request_id, LogPiece::Chunk(last));
        drop(session);
        assert!(sessions.is_empty());
        assert!(matches!(reader.next().await, Some(LogPiece::Chunk(_))), "what has come is read");
        assert!(reader.next().await.is_none(), "who follows a log is told");
    }

    #[tokio::test]
    async fn a_long_set_waits_for_its_agent_and_holds_up_no_answer() {
        let (sessions, _orders) = Sessions::new();
        let (session, mut heard) = open(&sessions, 1);
        let session = session.expect("open");
        let part = || crate::agent_wire::desired_set(Revision(1), Vec::new(), &[], true);
        for _ in 0..SESSION_SETS_QUEUE {
            assert!(session.send_set(part()).await);
        }
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), session.send_set(part()));
        assert!(more.await.is_err(), "no more is held for an agent that does not read");
        assert!(session.send(Message::HeartbeatAnswer(v1::HeartbeatAnswer::default())));
        assert!(matches!(hear(&mut heard).await, Message::HeartbeatAnswer(_)));
        assert!(matches!(hear(&mut heard).await, Message::DesiredSet(_)));
        assert!(session.send_set(part()).await);
    }

    #[test]
    fn a_flood_of_heartbeats_is_one() {
        let (sessions, _orders) = Sessions::new();
        let (session, _heard) = open(&sessions, 1);
        let session = session.expect("open");
        assert!(session.note_heartbeat(1));
        assert!((2..1_000).all(|seq| !session.note_heartbeat(seq)), "the lease loop is told once");
        assert_eq!(session.take_heartbeat(), Some(999));
        assert!(session.note_heartbeat(1_000));
    }

    #[test]
    fn a9_orders_are_dropped_rather_than_take_the_room_of_answers() {
        let (sessions, _orders) = Sessions::new();
        let (session, _heard) = open(&sessions, 1);
        let session = session.expect("open");
        session.add_order_credits(u32::MAX);
        let order = || {
            let desired = DesiredPod {
                pod: PodUid(1),
                binding_revision: Revision(1),
                action: DesiredAction::Stop { grace_ms: 0 },
            };
            let pod = Some(desired_pod(&desired, None));
            Message::Order(v1::Order { incarnation: 1, pod })
        };
        let sent =
            (0..SESSION_OUT_QUEUE).take_while(|_| session.take_order_credit() && session.send(order()));
        assert_eq!(sent.count(), SESSION_ORDERS_QUEUE);
        assert!(session.send(Message::HeartbeatAnswer(v1::HeartbeatAnswer::default())));
    }

    #[tokio::test]
    async fn a_log_flows_with_credit_and_its_end_is_told() {
        let (sessions, _orders) = Sessions::new();
        let (session, mut out) = open(&sessions, 1);
        let session = session.expect("open");
        let place = sessions.log_place().expect("a place");
        let mut reader =
            sessions.read_log(place, &session.node, v1::LogRequest::default()).expect("a reader");
        let Message::LogRequest(request) = hear(&mut out).await else { panic!("no request") };
        assert_eq!(request.credit_bytes, LOG_CREDIT_BYTES_INITIAL);
        let chunk =
            v1::LogChunk { request_id: request.request_id, data: "abc".into(), ..v1::LogChunk::default() };
        session.take_log_piece(request.request_id, LogPiece::Chunk(chunk));
        let Some(LogPiece::Chunk(chunk)) = reader.next().await else { panic!("no piece") };
        reader.give_credit(&chunk.data);
        let Message::LogCredit(credit) = hear(&mut out).await else { panic!("no credit") };
        assert_eq!(credit.bytes, 3);
        drop(reader);
        let Message::LogCancel(cancel) = hear(&mut out).await else { panic!("no cancel") };
        assert_eq!(cancel.request_id, request.request_id);
    }

    #[tokio::test]
    async fn an_agent_that_sends_more_of_a_log_than_it_may_loses_it() {
        let (sessions, _orders) = Sessions::new();
        let (session, _out) = open(&sessions, 1);
        let session = session.expect("open");
        let place = sessions.log_place().expect("a place");
        let mut reader =
            sessions.read_log(place, &session.node, v1::LogRequest::default()).expect("a reader");
        let chunk = |bytes: usize| {
            LogPiece::Chunk(v1::LogChunk { data: vec![0; bytes].into(), ..v1::LogChunk::default() })
        };
        let allowed = LOG_CREDIT_BYTES_INITIAL as usize / LOG_CHUNK_BYTES_MAX;
        for _ in 0..=allowed {
            session.take_log_piece(reader.request_id, chunk(LOG_CHUNK_BYTES_MAX));
        }
        for _ in 0..allowed {
            assert!(reader.next().await.is_some());
        }
        assert!(reader.next().await.is_none(), "one more than the credit");
        let place = sessions.log_place().expect("a place");
        let mut reader =
            sessions.read_log(place, &session.node, v1::LogRequest::default()).expect("a reader");
        session.take_log_piece(reader.request_id, chunk(LOG_CHUNK_BYTES_MAX + 1));
        assert!(reader.next().await.is_none(), "a piece that is too large");
    }

    #[tokio::test]
    async fn a_stream_ends_after_what_was_said_whoever_still_holds_its_session() {
        let (sessions, _orders) = Sessions::new();
        let (session, mut heard) = open(&sessions, 1);
        let session = session.expect("open");
        let held = Arc::clone(&session);
        session.send(Message::Refused(v1::Refused::default()));
        session.out.finish();
        drop(session);
        assert!(matches!(hear(&mut heard).await, Message::Refused(_)));
        assert!(heard.next().await.is_none());
        drop(held);
    }

    #[test]
    fn a9_orders_are_bounded_by_credits() {
        let (sessions, _orders) = Sessions::new();
        let (session, _out) = open(&sessions, 1);
        let session = session.expect("open");
        let taken = (0..ORDER_CREDITS_INITIAL + 5).filter(|_| session.take_order_credit()).count();
        assert_eq!(taken, ORDER_CREDITS_INITIAL as usize);
        session.add_order_credits(1);
        assert!(session.take_order_credit() && !session.take_order_credit());
    }
}
