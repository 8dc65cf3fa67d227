//! The leader's agent sessions: which node talks over which stream, and what is said to it.
//!
//! Owns: the newest session of each node, orders as speed-ups (A9), logs that are read through sessions. Does not own: the life
//! of one session (`session`), leases (`leases`).
//!
//! Invariants: per node only the newest session is listened to (A3); what waits for one agent is bounded, and an agent that
//! does not read loses its session, not the server its memory; orders may be dropped, the desired set mends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use stint_api::{Incarnation, NodeName, PodUid};
use stint_core::{DesiredAction, Order, compose};
use stint_proto::limits::{LOG_CREDIT_BYTES_INITIAL, ORDER_CREDITS_INITIAL};
use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use stint_raft::RaftNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::agent_wire::{desired_pod, message};
use crate::error;
use crate::limits::{
    LOG_CHUNKS_QUEUED_MAX, LOG_STREAMS_MAX, LOG_STREAMS_PER_SESSION_MAX, ORDERS_QUEUE_MAX, SESSIONS_MAX,
};

/// All sessions of this server.
#[derive(Debug)]
pub struct Sessions {
    by_node: Mutex<HashMap<NodeName, Arc<Session>>>,
    next_id: AtomicU64,
    orders: mpsc::Sender<Order>,
    log_streams: Arc<Semaphore>,
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
    out: mpsc::Sender<Result<v1::ServerMessage, Status>>,
    order_credits: AtomicI64,
    logs: Mutex<HashMap<u64, LogSink>>,
    next_log: AtomicU64,
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
        };
        (Arc::new(sessions), waiting)
    }

    /// Makes a session the one of its node, unless a newer registration has one; the one before ends.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many, `ABORTED` if this registration is not the node's newest.
    pub fn open(
        &self,
        node: NodeName,
        incarnation: Incarnation,
        out: mpsc::Sender<Result<v1::ServerMessage, Status>>,
        ended: CancellationToken,
    ) -> Result<Arc<Session>, Status> {
        let session = Arc::new(Session {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            node: node.clone(),
            incarnation,
            ended,
            out,
            order_credits: AtomicI64::new(i64::from(ORDER_CREDITS_INITIAL)),
            logs: Mutex::default(),
            next_log: AtomicU64::new(1),
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
        if let Some(older) = by_node.insert(node, Arc::clone(&session)) {
            drop(by_node);
            older.end(superseded());
        }
        Ok(session)
    }

    /// Forgets a session that has ended.
    pub fn close(&self, session: &Session) {
        let mut by_node = self.by_node.lock();
        if by_node.get(&session.node).is_some_and(|present| present.id == session.id) {
            by_node.remove(&session.node);
        }
        drop(by_node);
        session.logs.lock().clear();
    }

    /// The session of a node.
    pub fn of(&self, node: &NodeName) -> Option<Arc<Session>> {
        self.by_node.lock().get(node).cloned()
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

    /// Begins to read a log through the session of `node`. `request` names what; its id and credit are set here.
    ///
    /// # Errors
    /// `UNAVAILABLE` `NodeUnreachable` if the node has no session, `RESOURCE_EXHAUSTED` if too many logs are read.
    pub fn read_log(&self, node: &NodeName, mut request: v1::LogRequest) -> Result<LogReader, Status> {
        let place = Arc::clone(&self.log_streams).try_acquire_owned().map_err(|_| {
            error::overloaded(format!("{LOG_STREAMS_MAX} logs are being read already: try again later"))
        })?;
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
    /// Sends a message if there is room; without room the session ends: its agent does not read. False: it is over.
    pub fn send(&self, content: Message) -> bool {
        match self.out.try_send(Ok(message(content))) {
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

    /// Waits for room, for long answers that come in parts.
    pub async fn send_waiting(&self, content: v1::ServerMessage) -> bool {
        tokio::select! {
            sent = self.out.send(Ok(content)) => sent.is_ok(),
            () = self.ended.cancelled() => false,
        }
    }

    /// Ends the session and says why, if there is room.
    pub fn end(&self, why: Status) {
        // Without room the agent does not read anyway.
        let _ = self.out.try_send(Err(why));
        self.ended.cancel();
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
                Some(left) => {
                    sink.credit_bytes = left;
                    true
                }
                None => {
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

    fn take_order_credit(&self) -> bool {
        self.order_credits
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |credits| (credits > 0).then(|| credits - 1))
            .is_ok()
    }
}

impl LogReader {
    /// The next piece; None if the session ended, or more came than was allowed.
    pub async fn next(&mut self) -> Option<LogPiece> {
        let piece = tokio::select! {
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
            let pod = desired_pod(&order.desired, pod.as_ref(), false);
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

    type Out = mpsc::Receiver<Result<v1::ServerMessage, Status>>;

    fn open(sessions: &Sessions, incarnation: u64) -> (Result<Arc<Session>, Status>, Out) {
        let (out, messages) = mpsc::channel(4);
        let node = NodeName::new("w1");
        (sessions.open(node, Incarnation(incarnation), out, CancellationToken::new()), messages)
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
            first_out.recv().await.expect("the end").expect_err("an error").code(),
            tonic::Code::Aborted
        );
        // The older one's end does not take the newer one with it.
        sessions.close(&first);
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
        assert!((0..4).all(|_| session.send(answer())));
        assert!(!session.send(answer()));
        assert!(session.ended.is_cancelled());
    }

    #[tokio::test]
    async fn a_log_flows_with_credit_and_its_end_is_told() {
        let (sessions, _orders) = Sessions::new();
        let (session, mut out) = open(&sessions, 1);
        let session = session.expect("open");
        let mut reader = sessions.read_log(&session.node, v1::LogRequest::default()).expect("a reader");
        let Some(Ok(v1::ServerMessage { message: Some(Message::LogRequest(request)) })) = out.recv().await
        else {
            panic!("no request");
        };
        assert_eq!(request.credit_bytes, LOG_CREDIT_BYTES_INITIAL);
        let chunk =
            v1::LogChunk { request_id: request.request_id, data: "abc".into(), ..v1::LogChunk::default() };
        session.take_log_piece(request.request_id, LogPiece::Chunk(chunk));
        let Some(LogPiece::Chunk(chunk)) = reader.next().await else { panic!("no piece") };
        reader.give_credit(&chunk.data);
        let Some(Ok(v1::ServerMessage { message: Some(Message::LogCredit(credit)) })) = out.recv().await
        else {
            panic!("no credit");
        };
        assert_eq!(credit.bytes, 3);
        drop(reader);
        let Some(Ok(v1::ServerMessage { message: Some(Message::LogCancel(cancel)) })) = out.recv().await
        else {
            panic!("no cancel");
        };
        assert_eq!(cancel.request_id, request.request_id);
    }

    #[tokio::test]
    async fn an_agent_that_sends_more_of_a_log_than_it_may_loses_it() {
        let (sessions, _orders) = Sessions::new();
        let (session, _out) = open(&sessions, 1);
        let session = session.expect("open");
        let mut reader = sessions.read_log(&session.node, v1::LogRequest::default()).expect("a reader");
        let half: Bytes = vec![0; LOG_CREDIT_BYTES_INITIAL as usize / 2].into();
        for _ in 0..3 {
            let chunk = v1::LogChunk { data: half.clone(), ..v1::LogChunk::default() };
            session.take_log_piece(reader.request_id, LogPiece::Chunk(chunk));
        }
        assert!(reader.next().await.is_some() && reader.next().await.is_some());
        assert!(reader.next().await.is_none());
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
