//! Channels of one agent session: commands that are executed and connections to ports, at the leader (A3).
//!
//! Owns: which channels of a session are open, what each may still send. Does not own: who may open one and what it is for
//! (`services::access`), the stream below it (`sessions`).
//!
//! Invariants: taking a piece never waits, since heartbeats come over the same stream; what waits for a slow caller is bounded
//! by credit; a channel that is dropped is ended at its agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stint_api::NodeName;
use stint_proto::limits::{CHANNEL_CREDIT_BYTES_INITIAL, CHANNEL_PIECE_BYTES_MAX, channel_cost};
use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use crate::error;
use crate::limits::{CHANNEL_PIECES_QUEUED_MAX, CHANNELS_PER_SESSION_MAX};
use crate::sessions::{Session, Sessions};

/// The open channels of one session.
#[derive(Debug, Default)]
pub struct Channels {
    open: Mutex<HashMap<u64, Sink>>,
    last_id: AtomicU64,
}

/// Where the pieces of one channel go.
#[derive(Debug)]
struct Sink {
    caller: mpsc::Sender<ChannelPiece>,
    /// What the agent may still send of output.
    credit_bytes: u64,
}

/// What an agent sends of a channel.
#[derive(Debug)]
pub enum ChannelPiece {
    /// The command runs, or the connection stands.
    Opened,
    /// Output.
    Output(v1::ChannelOutput),
    /// As many more bytes of input may be sent.
    InputCredit(u64),
    /// Nothing more follows.
    End(v1::ChannelEnd),
}

/// What comes out of a channel. Dropping it ends the channel at the agent.
#[derive(Debug)]
pub struct ChannelReader {
    session: Arc<Session>,
    id: u64,
    pieces: mpsc::Receiver<ChannelPiece>,
    /// Taken by the caller, and the agent has not been told.
    taken_bytes: u64,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// What goes into a channel.
#[derive(Debug)]
pub struct ChannelWriter {
    session: Arc<Session>,
    id: u64,
}

impl Sessions {
    /// Opens a channel through the session of `node`. `open` names what it is; its id and credit are set here.
    ///
    /// # Errors
    /// `UNAVAILABLE` `NodeUnreachable` if the node has no session, `RESOURCE_EXHAUSTED` if it has too many channels.
    pub fn open_channel(
        &self,
        place: OwnedSemaphorePermit,
        node: &NodeName,
        mut open: v1::ChannelOpen,
    ) -> Result<(ChannelReader, ChannelWriter), Status> {
        let session = self.of(node).ok_or_else(|| error::node_unreachable(node))?;
        let (caller, pieces) = mpsc::channel(CHANNEL_PIECES_QUEUED_MAX);
        let id = session.channels.add(node, caller)?;
        open.channel_id = id;
        open.credit_bytes = CHANNEL_CREDIT_BYTES_INITIAL;
        let writer = ChannelWriter { session: Arc::clone(&session), id };
        let reader = ChannelReader { session, id, pieces, taken_bytes: 0, is_over: false, _place: place };
        if !reader.session.send(Message::ChannelOpen(open)) {
            return Err(error::node_unreachable(node));
        }
        Ok((reader, writer))
    }
}

impl Channels {
    fn add(&self, node: &NodeName, caller: mpsc::Sender<ChannelPiece>) -> Result<u64, Status> {
        let mut open = self.open.lock();
        if open.len() >= CHANNELS_PER_SESSION_MAX {
            let message = format!(
                "{CHANNELS_PER_SESSION_MAX} commands and connections of node {node} are open already: try again later"
            );
            return Err(error::overloaded(message));
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        open.insert(id, Sink { caller, credit_bytes: CHANNEL_CREDIT_BYTES_INITIAL });
        Ok(id)
    }

    /// Takes a piece from the agent. One for a channel that is not open is dropped: its caller is gone.
    pub fn take(&self, node: &NodeName, id: u64, piece: ChannelPiece) {
        let mut open = self.open.lock();
        let Some(sink) = open.get_mut(&id) else { return };
        let is_last = matches!(piece, ChannelPiece::End(_));
        if let ChannelPiece::Output(output) = &piece {
            let left = sink.credit_bytes.checked_sub(channel_cost(output.data.len()));
            match left.filter(|_| output.data.len() <= CHANNEL_PIECE_BYTES_MAX) {
                Some(left) => sink.credit_bytes = left,
                None => {
                    tracing::warn!(%node, "an agent sends more through a channel than it may; the channel is ended");
                    open.remove(&id);
                    return;
                }
            }
        }
        if sink.caller.try_send(piece).is_err() || is_last {
            open.remove(&id);
        }
    }

    /// The session is over: so are its channels.
    pub fn clear(&self) {
        self.open.lock().clear();
    }
}

impl ChannelReader {
    /// The next piece; None if the session ended, or more came than was allowed.
    pub async fn next(&mut self) -> Option<ChannelPiece> {
        // What has come already comes before the end of the session.
        let piece = tokio::select! {
            biased;
            piece = self.pieces.recv() => piece,
            () = self.session.ended.cancelled() => None,
        };
        self.is_over = matches!(piece, None | Some(ChannelPiece::End(_)));
        piece
    }

    /// The caller has taken a piece of so many bytes: as much more may come. The agent is told now and then, so that small
    /// pieces do not become as many messages.
    pub fn give_credit(&mut self, data_bytes: usize) {
        self.taken_bytes += channel_cost(data_bytes);
        if self.taken_bytes < CHANNEL_CREDIT_BYTES_INITIAL / 2 {
            return;
        }
        let bytes = std::mem::take(&mut self.taken_bytes);
        if let Some(sink) = self.session.channels.open.lock().get_mut(&self.id) {
            sink.credit_bytes = sink.credit_bytes.saturating_add(bytes);
        }
        self.session.send(Message::ChannelCredit(v1::ChannelCredit { channel_id: self.id, bytes }));
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        let was_open = self.session.channels.open.lock().remove(&self.id).is_some();
        if was_open || !self.is_over {
            self.session.send(Message::ChannelCancel(v1::ChannelCancel { channel_id: self.id }));
        }
    }
}

impl ChannelWriter {
    /// Sends input once there is room in the session. How much may be sent is the caller's business: what the agent has
    /// given credit for. False: the session is over.
    pub async fn send(&self, input: v1::channel_input::Input) -> bool {
        let input = v1::ChannelInput { channel_id: self.id, input: Some(input) };
        self.session.send_to_channel(Message::ChannelInput(input)).await
    }
}
