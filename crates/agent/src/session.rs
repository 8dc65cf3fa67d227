//! One stream to one server.
//!
//! Owns: connecting, reading. Does not own: what is said (`worker`), which server is next.
//!
//! Invariant: whatever happens to the stream, its reader ends with exactly one [`SessionEvent::Closed`].

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

/// Opens a stream to `address`, sends what comes over `outgoing`, and gives what is received to `events`.
pub async fn run(
    number: u64,
    address: String,
    interceptor: BearerInterceptor,
    outgoing: mpsc::Receiver<v1::AgentMessage>,
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
    outgoing: mpsc::Receiver<v1::AgentMessage>,
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
    let opened = tokio::time::timeout(limits::ANSWER_TIMEOUT, client.session(ReceiverStream::new(outgoing)));
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
