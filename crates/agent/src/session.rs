//! One stream to one server.
//!
//! Owns: connecting, reading. Does not own: what is said (`worker`), which server is next.
//!
//! Invariants: whatever happens to the stream, its reader ends with exactly one [`SessionEvent::Closed`]; logs never keep
//! a heartbeat waiting in this process.

use futures::Stream;
use futures::stream::PollNext;
use std::time::Duration;
use stint_proto::auth::BearerInterceptor;
use stint_proto::v1::agent_client::AgentClient;
use stint_proto::{RELAY_METADATA, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::limits;

/// What a stream gives, with the number of the session it belongs to.
#[derive(Debug)]
pub enum SessionEvent {
    /// The server said something.
    Message(u64, Box<v1::ServerMessage>),
    /// The stream is gone.
    Closed(u64, End),
}

/// Why there is no stream.
#[derive(Debug)]
pub enum End {
    /// The server could not be connected to; why, for people.
    Unreachable(String),
    /// It could, and the stream has ended; why, for people.
    Over(String),
}

/// What is to be said over a stream.
#[derive(Debug)]
pub struct Outgoing {
    /// Said first: heartbeats, reports, questions.
    pub messages: mpsc::Receiver<v1::AgentMessage>,
    /// Said while there is nothing else: pieces of logs.
    pub logs: mpsc::Receiver<v1::AgentMessage>,
}

impl Outgoing {
    fn into_stream(self) -> impl Stream<Item = v1::AgentMessage> {
        let (messages, logs) = (ReceiverStream::new(self.messages), ReceiverStream::new(self.logs));
        futures::stream::select_with_strategy(messages, logs, |(): &mut ()| PollNext::Left)
    }
}

/// Where a stream leads.
#[derive(Debug)]
pub struct Destination {
    /// `HOST:PORT` of a server.
    pub address: String,
    /// The server is to relay to the leader, which can't be reached from here (A3).
    pub relayed: bool,
}

/// Opens a stream to `destination`, sends what comes over `outgoing`, and gives what is received to `events`.
pub async fn run(
    number: u64,
    destination: Destination,
    interceptor: BearerInterceptor,
    outgoing: Outgoing,
    events: mpsc::Sender<SessionEvent>,
) {
    let address = &destination.address;
    let end = match connect(address).await {
        Ok(channel) => {
            let client = AgentClient::with_interceptor(channel, interceptor);
            let end = read(number, client, outgoing, destination.relayed, &events).await;
            End::Over(match end {
                Ok(()) => "the server ended the session".to_owned(),
                Err(reason) => format!("{address}: {reason}"),
            })
        }
        Err(reason) => End::Unreachable(format!("{address} can't be reached: {reason}")),
    };
    // The agent may have stopped.
    drop(events.send(SessionEvent::Closed(number, end)).await);
}

async fn connect(address: &str) -> Result<Channel, String> {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let text = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(text).map_err(|error| error.to_string())?;
    endpoint
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .connect()
        .await
        .map_err(|error| root_cause(&error))
}

async fn read(
    number: u64,
    client: AgentClient<InterceptedService<Channel, BearerInterceptor>>,
    outgoing: Outgoing,
    relayed: bool,
    events: &mpsc::Sender<SessionEvent>,
) -> Result<(), String> {
    let mut client = client
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let mut request = Request::new(outgoing.into_stream());
    if relayed {
        request.metadata_mut().insert(RELAY_METADATA, MetadataValue::from_static("true"));
    }
    let opened = tokio::time::timeout(limits::ANSWER_TIMEOUT, client.session(request));
    let mut stream = match opened.await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(status.message().to_owned()),
        Err(_) => return Err("no answer in time".to_owned()),
    };
    while let Some(message) = stream.message().await.map_err(|status| status.message().to_owned())? {
        if events.send(SessionEvent::Message(number, Box::new(message))).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[tokio::test]
    async fn a15_logs_wait_behind_everything_else() {
        let (say, messages) = mpsc::channel(8);
        let (say_log, logs) = mpsc::channel(8);
        let message = |message| v1::AgentMessage { message: Some(message) };
        for _ in 0..3 {
            say_log.try_send(message(v1::agent_message::Message::LogChunk(v1::LogChunk::default()))).unwrap();
        }
        let mut stream = std::pin::pin!(Outgoing { messages, logs }.into_stream());
        let mut is_log = async || {
            let message = stream.next().await.unwrap().message.unwrap();
            matches!(message, v1::agent_message::Message::LogChunk(_))
        };
        assert!(is_log().await);
        say.try_send(message(v1::agent_message::Message::Heartbeat(v1::Heartbeat::default()))).unwrap();
        assert!(!is_log().await, "the heartbeat has overtaken two pieces");
        assert!(is_log().await && is_log().await);
    }
}
