//! Connections between servers: TCP, the handshake, then HTTP/2.
//!
//! Owns: dialling and accepting, who this server is at a handshake, what handshakes tell about other members' clocks,
//! the settings of HTTP/2, logging a refusal once. Does not own: the handshake's rules, the services, addresses.
//!
//! Invariant: no byte of HTTP/2 flows before the handshake has proven both sides.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use stint_api::MemberId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

use crate::clock::{ClockReadings, PeerClocks};
use crate::limits::{
    ACCEPT_RETRY_MS, DIAL_TIMEOUT_MS, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FORWARDED_CONNECTION_WINDOW_BYTES,
    HTTP2_FORWARDED_STREAM_WINDOW_BYTES, HTTP2_KEEPALIVE_INTERVAL_MS, HTTP2_KEEPALIVE_TIMEOUT_MS,
    HTTP2_STREAM_WINDOW_BYTES, LOGGED_REFUSALS_MAX, PEER_ACCEPT_QUEUE_MAX, PEER_HANDSHAKES_MAX,
};
use crate::peer::handshake::{self, HandshakeError, HandshakeKey, LocalIdentity, PeerIdentity};

/// What every peer connection of this server shares.
#[derive(Debug)]
pub struct PeerContext {
    key: HandshakeKey,
    identity: RwLock<LocalIdentity>,
    clocks: Mutex<PeerClocks>,
    logged: Mutex<BTreeSet<String>>,
    gate: Mutex<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    /// Cancelled when all present connections must end.
    open: CancellationToken,
}

/// One authenticated connection.
pub struct PeerStream {
    tcp: TcpStream,
    peer: PeerIdentity,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing is known of where it is.
    #[error("no address is known for member {0}")]
    NoAddress(MemberId),
    /// TCP did not connect.
    #[error("could not connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The handshake failed.
    #[error("peer at {address} was refused or refuses: {source}")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        source: HandshakeError,
    },
}

impl PeerContext {
    /// `identity` may change once: from "no cluster" to a member.
    pub fn new(key: HandshakeKey, identity: LocalIdentity) -> PeerContext {
        PeerContext {
            key,
            identity: RwLock::new(identity),
            clocks: Mutex::default(),
            logged: Mutex::default(),
            gate: Mutex::default(),
        }
    }

    /// Who this server is now.
    pub fn identity(&self) -> LocalIdentity {
        self.identity.read().clone()
    }

    /// This server has become a member.
    pub fn set_identity(&self, identity: LocalIdentity) {
        *self.identity.write() = identity;
    }

    /// Notes what a member's wall clock showed just now.
    pub fn note_clock(&self, member: Option<MemberId>, wall_clock_ms: i64) {
        if let Some(member) = member {
            self.clocks.lock().note(member, wall_clock_ms, ClockReadings::now());
        }
    }

    /// What is known of other members' clocks.
    pub fn with_clocks<R>(&self, read: impl FnOnce(&mut PeerClocks) -> R) -> R {
        read(&mut self.clocks.lock())
    }

    /// Logs a message the first time only, so that a peer that tries again and again does not fill the log.
    pub fn warn_once(&self, message: String) {
        let mut logged = self.logged.lock();
        if logged.len() >= LOGGED_REFUSALS_MAX {
            logged.clear();
        }
        if !logged.contains(&message) {
            tracing::warn!("{message}");
            logged.insert(message);
        }
    }

    /// Ends all connections and makes no new ones: to its peers this server is gone from now on.
    pub fn close(&self) {
        let mut gate = self.gate.lock();
        gate.closed = true;
        gate.open.cancel();
    }

    /// Undoes [`PeerContext::close`]: how tests heal a partition.
    #[cfg(test)]
    pub(crate) fn reopen(&self) {
        *self.gate.lock() = Gate::default();
    }

    fn enter(&self) -> io::Result<CancellationToken> {
        let gate = self.gate.lock();
        match gate.closed {
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer port is closed")),
            false => Ok(gate.open.clone()),
        }
    }
}

/// Connects to `address` and proves itself. `expected`: the member that must be there.
pub async fn dial(
    context: &Arc<PeerContext>,
    address: &str,
    expected: Option<MemberId>,
) -> Result<PeerStream, DialError> {
    let refused = |source| DialError::Connect { address: address.to_owned(), source };
    let open = context.enter().map_err(refused)?;
    let connecting =
        tokio::time::timeout(Duration::from_millis(DIAL_TIMEOUT_MS), TcpStream::connect(address));
    let mut tcp = connecting
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
        .map_err(refused)?;
    tcp.set_nodelay(true).map_err(refused)?;
    let identity = context.identity();
    let wall_ms = ClockReadings::now().wall_ms;
    match handshake::connect(&mut tcp, &context.key, &identity, expected, wall_ms).await {
        Ok(peer) => {
            context.note_clock(peer.member_id, peer.wall_clock_ms);
            Ok(PeerStream::new(tcp, peer, open))
        }
        Err(source) => {
            let error = DialError::Handshake { address: address.to_owned(), source };
            if !matches!(&error, DialError::Handshake { source: HandshakeError::Io(_), .. }) {
                context.warn_once(error.to_string());
            }
            Err(error)
        }
    }
}

/// How much of what a peer sends may wait here unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// On one stream.
    pub stream_bytes: u32,
    /// On all streams of one connection.
    pub connection_bytes: u32,
}

impl Windows {
    /// Few streams, each read as fast as it comes.
    pub const FEW_STREAMS: Windows =
        Windows { stream_bytes: HTTP2_STREAM_WINDOW_BYTES, connection_bytes: HTTP2_CONNECTION_WINDOW_BYTES };

    /// Streams of other people: however many of them are not read, there is room for the next.
    pub const MANY_STREAMS: Windows = Windows {
        stream_bytes: HTTP2_FORWARDED_STREAM_WINDOW_BYTES,
        connection_bytes: HTTP2_FORWARDED_CONNECTION_WINDOW_BYTES,
    };
}

/// A channel that connects when it is used, and again when the connection broke. `address` is asked at each attempt,
/// since members can move.
pub fn channel<A>(
    context: Arc<PeerContext>,
    expected: Option<MemberId>,
    windows: Windows,
    address: A,
) -> Channel
where
    A: Fn() -> Result<String, DialError> + Clone + Send + Sync + 'static,
{
    let connector = tower::service_fn(move |_| {
        let (context, address) = (context.clone(), address.clone());
        async move {
            let stream = dial(&context, &address()?, expected).await?;
            Ok::<_, DialError>(TokioIo::new(stream))
        }
    });
    // The authority is never resolved: the connector knows where to go.
    Endpoint::from_static("http://stint-peer")
        .initial_stream_window_size(windows.stream_bytes)
        .initial_connection_window_size(windows.connection_bytes)
        .http2_keep_alive_interval(Duration::from_millis(HTTP2_KEEPALIVE_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(HTTP2_KEEPALIVE_TIMEOUT_MS))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// Accepts connections and lets only those through whose handshake went well. Ends when the stream is dropped.
pub fn accept(
    listener: TcpListener,
    context: Arc<PeerContext>,
) -> impl Stream<Item = io::Result<PeerStream>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(PEER_ACCEPT_QUEUE_MAX);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(PEER_HANDSHAKES_MAX));
        loop {
            // Strangers can occupy these places for the length of a handshake timeout, never more of them than that.
            let Ok(place) = handshakes.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((tcp, _)) => {
                    let (context, sender) = (context.clone(), sender.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        if let Some(stream) = welcome(tcp, &context).await {
                            // The server is shutting down if nobody takes it.
                            let _ = sender.send(Ok(stream)).await;
                        }
                    });
                }
                Err(error) => {
                    context.warn_once(format!("could not accept a peer connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn welcome(mut tcp: TcpStream, context: &Arc<PeerContext>) -> Option<PeerStream> {
    let open = context.enter().ok()?;
    let from = tcp.peer_addr().map_or_else(|_| "unknown".to_owned(), |address| address.ip().to_string());
    tcp.set_nodelay(true).ok()?;
    let identity = context.identity();
    let wall_ms = ClockReadings::now().wall_ms;
    match handshake::accept(&mut tcp, &context.key, &identity, wall_ms).await {
        Ok(peer) => {
            context.note_clock(peer.member_id, peer.wall_clock_ms);
            Some(PeerStream::new(tcp, peer, open))
        }
        // Somebody who looked and went away.
        Err(HandshakeError::Io(_)) => None,
        // Members look for this server before it has its id; they come back.
        Err(HandshakeError::WrongMember { actual: None, .. }) => None,
        Err(error) => {
            context.warn_once(format!("refused a peer connection from {from}: {error}"));
            None
        }
    }
}

impl PeerStream {
    fn new(tcp: TcpStream, peer: PeerIdentity, open: CancellationToken) -> PeerStream {
        PeerStream { tcp, peer, ended: Box::pin(open.cancelled_owned()) }
    }

    /// Also registers the reader to be woken when the connection must end.
    fn check_open(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer port is closed"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for PeerStream {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_open(context)?;
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
