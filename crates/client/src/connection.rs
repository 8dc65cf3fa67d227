//! Which server is asked, and how often.
//!
//! Owns: channels to all known servers, the retry table. Does not own: requests.
//!
//! Invariant: a write that may have been carried out is repeated only if repeating it changes nothing.

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use stint_proto::auth::{BearerInterceptor, BearerToken};
use stint_proto::status::{self, ErrorReason};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::error::Error;
use crate::limits;

/// A channel that sends the caller's token.
pub(crate) type AuthenticatedChannel = InterceptedService<Channel, BearerInterceptor>;

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `HOST:PORT` of some or all servers; any of them answers any request.
    pub addresses: Vec<String>,
    /// The cluster's bearer token.
    pub token: Option<String>,
    /// How long a call may take with all its attempts. Watches and logs are not bounded.
    pub timeout: Duration,
}

impl ClientOptions {
    /// Splits a comma list of addresses.
    pub fn new(addresses: &str) -> ClientOptions {
        let addresses = addresses.split(',').map(str::trim).filter(|address| !address.is_empty());
        ClientOptions {
            addresses: addresses.map(str::to_owned).collect(),
            token: None,
            timeout: limits::CALL_TIMEOUT_DEFAULT,
        }
    }
}

/// A client of one cluster. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    addresses: Vec<String>,
    channels: Vec<AuthenticatedChannel>,
    /// Index of the server that answered last.
    current: AtomicUsize,
    timeout: Duration,
}

/// What may be done about a failed attempt whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeatable {
    /// A read, or a write that may be repeated.
    Yes,
    /// Another write.
    No,
}

impl Client {
    /// Makes a client without connecting yet.
    ///
    /// # Errors
    /// For addresses or tokens that can't be used.
    pub fn new(options: ClientOptions) -> Result<Client, Error> {
        if options.addresses.is_empty() || options.addresses.len() > limits::ADDRESSES_MAX {
            return Err(Error::Address { address: options.addresses.join(",") });
        }
        let token = options
            .token
            .as_deref()
            .map(BearerToken::new)
            .transpose()
            .map_err(|error| Error::Token { problem: error.to_string() })?;
        let interceptor = BearerInterceptor::new(token);
        let mut channels = Vec::with_capacity(options.addresses.len());
        for address in &options.addresses {
            let bad = || Error::Address { address: address.clone() };
            let text = if address.contains("://") { address.clone() } else { format!("http://{address}") };
            let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if !has_port || address.contains(char::is_whitespace) {
                return Err(bad());
            }
            let endpoint = Endpoint::from_shared(text).map_err(|_| bad())?;
            let channel = endpoint
                .connect_timeout(limits::CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(limits::KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .connect_lazy();
            channels.push(InterceptedService::new(channel, interceptor.clone()));
        }
        Ok(Client {
            shared: Arc::new(Shared {
                addresses: options.addresses,
                channels,
                current: AtomicUsize::new(0),
                timeout: options.timeout,
            }),
        })
    }

    /// Makes one call, with as many attempts as the retry table allows until the timeout.
    pub(crate) async fn call<T, F, Attempt>(&self, repeatable: Repeatable, attempt: F) -> Result<T, Error>
    where
        F: Fn(AuthenticatedChannel) -> Attempt,
        Attempt: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        let mut pause = limits::RETRY_PAUSE_FIRST;
        let mut failures_in_a_row = 0;
        loop {
            let left = self.shared.timeout.saturating_sub(begun.elapsed());
            let position = self.shared.current.load(Ordering::Relaxed) % self.shared.channels.len();
            let outcome = tokio::time::timeout(left, attempt(self.shared.channels[position].clone())).await;
            let failure = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => Failure::of(&status, repeatable),
                Err(_) if repeatable == Repeatable::Yes => Failure::Unreachable("no answer".to_owned()),
                Err(_) => return Err(Error::OutcomeUnknown { message: "no answer in time".to_owned() }),
            };
            let (message, asked_pause) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Unreachable(message) => (message, None),
                Failure::Again { message, pause } => (message, pause),
            };
            failures_in_a_row += 1;
            // Another server may know better, or be up.
            let next = (position + 1) % self.shared.channels.len();
            let _ =
                self.shared.current.compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
            let round_is_over = failures_in_a_row % self.shared.channels.len() == 0;
            let wait = match asked_pause {
                Some(asked) => asked.min(limits::RETRY_PAUSE_ASKED_MAX),
                None if round_is_over => pause,
                None => Duration::ZERO,
            };
            if round_is_over {
                pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
            }
            if begun.elapsed() + wait >= self.shared.timeout {
                return Err(Error::Unreachable {
                    addresses: self.shared.addresses.join(","),
                    seconds: self.shared.timeout.as_secs(),
                    last: message,
                });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The time that calls have.
    pub(crate) fn timeout(&self) -> Duration {
        self.shared.timeout
    }
}

/// What an attempt's status means for the next.
enum Failure {
    /// Nothing was proposed: try elsewhere.
    Unreachable(String),
    /// Try again after a pause.
    Again { message: String, pause: Option<Duration> },
    /// The caller's business.
    Final(Error),
}

impl Failure {
    fn of(failed: &Status, repeatable: Repeatable) -> Failure {
        let reason = ErrorReason::of(failed);
        let message = failed.message().to_owned();
        let pause = status::retry_after(failed);
        match (reason, failed.code()) {
            // The server says that nothing was proposed.
            (Some(_), Code::Unavailable) => Failure::Again { message, pause },
            (Some(_), Code::ResourceExhausted) if pause.is_some() => Failure::Again { message, pause },
            (Some(ErrorReason::OutcomeUnknown), _) if repeatable == Repeatable::Yes => {
                Failure::Again { message, pause }
            }
            (Some(ErrorReason::OutcomeUnknown), _) => Failure::Final(Error::OutcomeUnknown { message }),
            (Some(_), _) => Failure::Final(refused(failed)),
            // Without a reason of stint's own it comes from the connection, not from a server.
            (None, _) if is_connect_error(failed) => Failure::Unreachable(root_cause(failed)),
            (None, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
                if is_transport_error(failed) =>
            {
                match repeatable {
                    Repeatable::Yes => Failure::Unreachable(root_cause(failed)),
                    Repeatable::No => Failure::Final(Error::OutcomeUnknown { message: root_cause(failed) }),
                }
            }
            (None, _) => Failure::Final(refused(failed)),
        }
    }
}

/// A status as this crate's error.
pub(crate) fn refused(failed: &Status) -> Error {
    Error::Refused {
        reason: ErrorReason::of(failed),
        message: failed.message().to_owned(),
        field_violations: status::field_violations(failed)
            .into_iter()
            .map(|violation| (violation.field, violation.description))
            .collect(),
    }
}

/// True if a stream that ended with this status may be begun again where it ended.
pub(crate) fn is_resumable(failed: &Status) -> bool {
    let from_server = ErrorReason::of(failed).is_some();
    match failed.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Cancelled | Code::Internal => !from_server && is_transport_error(failed),
        _ => false,
    }
}

/// True if no connection could be made, so that nothing was sent.
fn is_connect_error(failed: &Status) -> bool {
    let mut source = failed.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn is_transport_error(failed: &Status) -> bool {
    failed.source().is_some() || failed.code() == Code::Unavailable
}

fn root_cause(failed: &Status) -> String {
    let mut message = failed.message().to_owned();
    let mut source = failed.source();
    while let Some(error) = source {
        message = error.to_string();
        source = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_none_are_refused() {
        for text in ["", ",", "localhost", "host:port", "not an address", "127.0.0.1:99999", "a b:1"] {
            assert!(Client::new(ClientOptions::new(text)).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named() {
        let mut options = ClientOptions::new("127.0.0.1:1");
        options.timeout = Duration::from_millis(300);
        let client = Client::new(options).unwrap();
        let error = client.get_job("default", "any").await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }

    #[test]
    fn a_write_of_unknown_outcome_is_not_repeated() {
        let broken = Status::unknown("h2 protocol error: broken pipe");
        assert!(matches!(Failure::of(&broken, Repeatable::No), Failure::Final(_)));
    }
}
