//! Channels that servers open: commands in containers (`exec`), containers' own streams (`attach`) and connections to ports
//! (`port_forward`).
//!
//! Owns: which channels of a session are open, the credit of both directions. Does not own: what goes on at the end of a
//! channel, who may open one (the servers).
//!
//! Invariants: nothing here ever waits in the agent's loop; what waits for a command that does not read is bounded by credit, and
//! so is what waits for a caller; when the session ends, or the caller goes, what was executed is killed, and whoever was
//! attached is detached.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stint_api::PodUid;
use stint_proto::limits::{CHANNEL_CREDIT_BYTES_INITIAL, CHANNEL_PIECE_BYTES_MAX, channel_cost};
use stint_proto::v1;
use stint_proto::v1::agent_message::Message;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::live_pods::LivePods;
use crate::{attach, exec, limits, port_forward};

/// The channels of one session.
pub struct ChannelServer {
    live: LivePods,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    open: HashMap<u64, Open>,
}

/// One channel, as the loop sees it.
struct Open {
    input: mpsc::Sender<Input>,
    size: watch::Sender<Option<v1::TerminalSize>>,
    /// Bytes of input that may still come.
    input_credit: Arc<AtomicU64>,
    /// Bytes of output that may still be sent.
    output_credit: Arc<Semaphore>,
    task: JoinHandle<()>,
}

/// What comes in through a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Some bytes.
    Data(Bytes),
    /// No more follow.
    End,
}

/// The agent's end of a channel, for whoever serves it.
pub struct Channel {
    /// What the caller says.
    pub input: InputReader,
    /// What the caller hears.
    pub output: OutputWriter,
    /// The newest size of the caller's terminal.
    pub size: watch::Receiver<Option<v1::TerminalSize>>,
}

/// Input of a channel.
pub struct InputReader {
    id: u64,
    pieces: mpsc::Receiver<Input>,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    credit: Arc<AtomicU64>,
    /// Taken, and the server has not been told.
    taken_bytes: u64,
}

/// Output of a channel. Cheap to clone.
#[derive(Clone)]
pub struct OutputWriter {
    id: u64,
    credit: Arc<Semaphore>,
    outgoing: mpsc::Sender<v1::AgentMessage>,
}

/// Why a channel ends, for the caller.
#[derive(Debug)]
pub struct ChannelEnd {
    reason: v1::ChannelEndReason,
    message: String,
    exit_code: i32,
}

impl ChannelServer {
    /// For a new session.
    pub fn new(live: LivePods, outgoing: mpsc::Sender<v1::AgentMessage>) -> ChannelServer {
        ChannelServer { live, outgoing, open: HashMap::new() }
    }

    /// Opens a channel. `is_known`: the node holds the Pod, or did.
    pub fn open(&mut self, open: v1::ChannelOpen, is_known: bool) {
        use v1::channel_open::Target;
        self.open.retain(|_, open| !open.task.is_finished());
        let id = open.channel_id;
        let output = OutputWriter {
            id,
            credit: Arc::new(Semaphore::new(permits_of(open.credit_bytes))),
            outgoing: self.outgoing.clone(),
        };
        let pod = PodUid(crate::journal::number_of(&open.pod_uid));
        if self.open.len() >= limits::CHANNELS_MAX {
            let message = format!("the node has {} channels open already", limits::CHANNELS_MAX);
            return output.refuse(ChannelEnd::because(v1::ChannelEndReason::TooManyChannels, message));
        }
        if !is_known {
            return output
                .refuse(ChannelEnd::because(v1::ChannelEndReason::NotFound, "the node has no such pod"));
        }
        let (input, pieces) = mpsc::channel(limits::CHANNEL_INPUTS_QUEUED_MAX);
        let (size, sizes) = watch::channel(None);
        let input_credit = Arc::new(AtomicU64::new(CHANNEL_CREDIT_BYTES_INITIAL));
        let output_credit = output.credit.clone();
        let reader = InputReader {
            id,
            pieces,
            outgoing: self.outgoing.clone(),
            credit: input_credit.clone(),
            taken_bytes: 0,
        };
        let channel = Channel { input: reader, output: output.clone(), size: sizes };
        let live = self.live.clone();
        let task = tokio::spawn(async move {
            let end = match open.target {
                Some(Target::Exec(command)) => exec::serve(channel, &live, pod, command).await,
                Some(Target::Attach(wanted)) => attach::serve(channel, &live, pod, wanted).await,
                Some(Target::Port(port)) => port_forward::serve(channel, &live, pod, port.port).await,
                None => ChannelEnd::because(
                    v1::ChannelEndReason::Unsupported,
                    "this agent is older than the server: it does not know what is asked of it",
                ),
            };
            output.end(end).await;
        });
        // Numbers are unique within a session; of a server that says one twice, only the last is served.
        if let Some(older) = self.open.insert(id, Open { input, size, input_credit, output_credit, task }) {
            older.task.abort();
        }
    }

    /// Takes input. A server that sends more than it may loses the channel.
    pub fn input(&mut self, input: v1::ChannelInput) {
        use v1::channel_input::Input as Kind;
        let Some(open) = self.open.get(&input.channel_id) else { return };
        let taken = match input.input {
            Some(Kind::Data(data)) => {
                let cost = channel_cost(data.len());
                let paid = open
                    .input_credit
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, |credit| credit.checked_sub(cost));
                let fits = paid.is_ok() && data.len() <= CHANNEL_PIECE_BYTES_MAX;
                fits && taken(open.input.try_send(Input::Data(data)))
            }
            Some(Kind::End(_)) => taken(open.input.try_send(Input::End)),
            Some(Kind::Resize(size)) => {
                open.size.send_replace(Some(size));
                true
            }
            None => true,
        };
        if !taken {
            let id = input.channel_id;
            tracing::warn!(channel = id, "the server sends more through a channel than it may; it is ended");
            let output =
                OutputWriter { id, credit: open.output_credit.clone(), outgoing: self.outgoing.clone() };
            self.cancel(id);
            output.refuse(ChannelEnd::because(
                v1::ChannelEndReason::Unspecified,
                "more input came than there was credit for",
            ));
        }
    }

    /// Lets more output go.
    pub fn credit(&mut self, credit: &v1::ChannelCredit) {
        if let Some(open) = self.open.get(&credit.channel_id) {
            let room = Semaphore::MAX_PERMITS - open.output_credit.available_permits();
            open.output_credit.add_permits(permits_of(credit.bytes).min(room));
        }
    }

    /// Nobody is at the other end any more.
    pub fn cancel(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            open.task.abort();
        }
    }
}

impl Drop for ChannelServer {
    fn drop(&mut self) {
        for open in self.open.values() {
            open.task.abort();
        }
    }
}

/// One whose reader is gone is not too much: the channel is about to end.
fn taken(sent: Result<(), mpsc::error::TrySendError<Input>>) -> bool {
    !matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
}

impl InputReader {
    /// The next piece; None once the session is over.
    pub async fn next(&mut self) -> Option<Input> {
        self.pieces.recv().await
    }

    /// A piece of so many bytes was taken: as much more may come. The server is told now and then.
    pub async fn give_credit(&mut self, data_bytes: usize) {
        self.taken_bytes += channel_cost(data_bytes);
        if self.taken_bytes < CHANNEL_CREDIT_BYTES_INITIAL / 2 {
            return;
        }
        let bytes = std::mem::take(&mut self.taken_bytes);
        self.credit.fetch_add(bytes, Ordering::AcqRel);
        let credit = v1::ChannelCredit { channel_id: self.id, bytes };
        send(&self.outgoing, Message::ChannelCredit(credit)).await;
    }
}

impl OutputWriter {
    /// The channel is open.
    pub async fn opened(&self) {
        send(&self.outgoing, Message::ChannelOpened(v1::ChannelOpened { channel_id: self.id })).await;
    }

    /// Sends a piece, of at most [`CHANNEL_PIECE_BYTES_MAX`], once there is credit for it; an empty one says that nothing more
    /// comes. False: the session is over.
    pub async fn send(&self, stream: v1::ChannelStream, data: Bytes) -> bool {
        let cost = u32::try_from(channel_cost(data.len())).unwrap_or(u32::MAX);
        let Ok(permits) = self.credit.acquire_many(cost).await else { return false };
        permits.forget();
        let output = v1::ChannelOutput { channel_id: self.id, data, stream: stream.into() };
        send(&self.outgoing, Message::ChannelOutput(output)).await
    }

    async fn end(&self, end: ChannelEnd) {
        let end = v1::ChannelEnd {
            channel_id: self.id,
            reason: end.reason.into(),
            message: crate::pod::shortened(&end.message),
            exit_code: end.exit_code,
        };
        send(&self.outgoing, Message::ChannelEnd(end)).await;
    }

    fn refuse(self, end: ChannelEnd) {
        tokio::spawn(async move { self.end(end).await });
    }
}

impl ChannelEnd {
    /// A command has ended with an exit code, or a connection with 0.
    pub fn complete(exit_code: i32) -> ChannelEnd {
        ChannelEnd { reason: v1::ChannelEndReason::Complete, message: String::new(), exit_code }
    }

    /// It could not go on, or not begin.
    pub fn because(reason: v1::ChannelEndReason, message: impl Into<String>) -> ChannelEnd {
        ChannelEnd { reason, message: message.into(), exit_code: 0 }
    }

    /// A command could not be executed; `exit_code`: what a shell would say of it.
    pub fn not_executed(exit_code: i32, message: impl Into<String>) -> ChannelEnd {
        ChannelEnd { reason: v1::ChannelEndReason::Failed, message: message.into(), exit_code }
    }
}

/// False: the session is gone, nobody waits for it.
async fn send(outgoing: &mpsc::Sender<v1::AgentMessage>, message: Message) -> bool {
    outgoing.send(v1::AgentMessage { message: Some(message) }).await.is_ok()
}

fn permits_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}
