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
use stint_proto::v1;
use stint_proto::v1::agent_client::AgentClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::limits;

/// What a stream gives, with the number of the session it belongs to.
#[derive(Debug)]
pub enum SessionEvent {
    /// The server said something.
    Message(u64, Box<v1::ServerMessage>),
    /// The stream is gone; why, for people.
    Closed(u64, String),
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

/// Opens a stream to `address`, sends what comes over `outgoing`, and gives what is received to `events`.
pub async fn run(
    number: u64,
    address: String,
    interceptor: BearerInterceptor,
    outgoing: Outgoing,
    events: mpsc::Sender<SessionEvent>,
) {
    let reason = match read(number, &address, interceptor, outgoing, &events).await {
        Ok(()) => "the server ended the session".to_owned(),
        Err(reason) => reason,
    };
    // The agent may have stopped.
    drop(events.send(SessionEvent::Closed(number, reason)).await);
}

async fn read(
    number: u64,
    address: &str,
    interceptor: BearerInterceptor,
    outgoing: Outgoing,
    events: &mpsc::Sender<SessionEvent>,
) -> Result<(), String> {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let text = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(text).map_err(|error| error.to_string())?;
    let channel = endpoint
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .connect()
        .await
        .map_err(|error| format!("{address} can't be reached: {}", root_cause(&error)))?;
    let mut client = AgentClient::with_interceptor(channel, interceptor)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let opened = tokio::time::timeout(limits::ANSWER_TIMEOUT, client.session(outgoing.into_stream()));
    let mut stream = match opened.await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(format!("{address}: {}", status.message())),
        Err(_) => return Err(format!("{address} did not answer in time")),
    };
    while let Some(message) =
        stream.message().await.map_err(|status| format!("{address}: {}", status.message()))?
    {
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
