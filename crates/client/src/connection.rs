//! Which server is asked, and how often.
//!
//! Owns: channels to all known servers, leader hints, the retry table. Does not own: requests.
//!
//! Invariants: a write that may have been carried out is repeated only if repeating it changes nothing, and if none of its
//! attempts is answered the caller is told that its outcome is unknown; every call ends within its timeout.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stint_proto::StatusDetails;
use stint_proto::auth::{BearerInterceptor, BearerToken};
use stint_proto::status::{self, ErrorReason, LEADER_ADDRESS};
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
    interceptor: BearerInterceptor,
    /// Index of the server that answered last.
    current: AtomicUsize,
    /// The last leader that a server named and that is not among the addresses.
    hinted: Mutex<Option<(String, AuthenticatedChannel)>>,
    timeout: Duration,
}

/// What a call does, and so what may be done about an attempt whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// It changes something, and nothing more if it is carried out again.
    RepeatableWrite,
    /// It changes something each time.
    Write,
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
        let channels = options.addresses.iter().map(|address| channel_to(address, &interceptor));
        let channels = channels.collect::<Result<Vec<_>, Error>>()?;
        Ok(Client {
            shared: Arc::new(Shared {
                addresses: options.addresses,
                channels,
                interceptor,
                current: AtomicUsize::new(0),
                hinted: Mutex::new(None),
                timeout: options.timeout,
            }),
        })
    }

    /// Makes one call, with as many attempts as the retry table allows until the client's timeout.
    pub(crate) async fn call<T, F, Attempt>(&self, effect: Effect, attempt: F) -> Result<T, Error>
    where
        F: Fn(AuthenticatedChannel) -> Attempt,
        Attempt: Future<Output = Result<T, Status>>,
    {
        self.call_within(effect, self.shared.timeout, attempt).await
    }

    /// Makes one call, with as many attempts as the retry table allows until `timeout`.
    pub(crate) async fn call_within<T, F, Attempt>(
        &self,
        effect: Effect,
        timeout: Duration,
        attempt: F,
    ) -> Result<T, Error>
    where
        F: Fn(AuthenticatedChannel) -> Attempt,
        Attempt: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        let mut pause = limits::RETRY_PAUSE_FIRST;
        let mut failures_in_a_row = 0;
        // An attempt of this write may have been carried out.
        let mut may_be_done = false;
        let mut hinted: Option<AuthenticatedChannel> = None;
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            let n_servers = self.shared.channels.len();
            let position = self.shared.current.load(Ordering::Relaxed) % n_servers;
            let followed_hint = hinted.is_some();
            let channel = hinted.take().unwrap_or_else(|| self.shared.channels[position].clone());
            // A server that accepts and never answers must not use up the time of the others.
            let patience = match effect {
                Effect::Read | Effect::RepeatableWrite if n_servers > 1 => left.min(limits::ATTEMPT_TIMEOUT),
                _ => left,
            };
            let failure = match tokio::time::timeout(patience, attempt(channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => Failure::of(&status),
                Err(_) => Failure::MaybeDone { message: format!("no answer within {patience:.1?}") },
            };
            let (message, asked_pause, answered) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::MaybeDone { message } if effect == Effect::Write => {
                    return Err(Error::outcome_unknown(&message));
                }
                Failure::MaybeDone { message } => {
                    may_be_done |= effect == Effect::RepeatableWrite;
                    (message, None, false)
                }
                Failure::NotDone { message, pause, leader, answered } => {
                    let leader = leader.filter(|_| !followed_hint);
                    hinted = leader.and_then(|address| self.channel_of_hint(&address));
                    (message, pause, answered)
                }
            };
            failures_in_a_row += 1;
            if hinted.is_none() && !followed_hint {
                // Another server may know better, or be up.
                let next = (position + 1) % n_servers;
                let current = &self.shared.current;
                let _ = current.compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            let round_is_over = failures_in_a_row % n_servers == 0;
            let wait = match asked_pause {
                _ if hinted.is_some() => Duration::ZERO,
                Some(asked) => asked.min(limits::RETRY_PAUSE_ASKED_MAX),
                None if round_is_over => pause,
                None => Duration::ZERO,
            };
            if round_is_over {
                pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
            }
            if begun.elapsed() + wait >= timeout {
                return Err(if may_be_done {
                    Error::outcome_unknown(&message)
                } else if answered {
                    Error::Unavailable { timeout, last: message }
                } else {
                    Error::Unreachable { addresses: self.shared.addresses.join(","), timeout, last: message }
                });
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The channel to a leader that a server has named. One of the known servers is also asked first from now on.
    fn channel_of_hint(&self, address: &str) -> Option<AuthenticatedChannel> {
        if let Some(position) = self.shared.addresses.iter().position(|known| known == address) {
            self.shared.current.store(position, Ordering::Relaxed);
            return Some(self.shared.channels[position].clone());
        }
        let mut hinted = self.shared.hinted.lock().unwrap_or_else(PoisonError::into_inner);
        match &*hinted {
            Some((known, channel)) if known == address => Some(channel.clone()),
            _ => {
                let channel = channel_to(address, &self.shared.interceptor).ok()?;
                *hinted = Some((address.to_owned(), channel.clone()));
                Some(channel)
            }
        }
    }

    /// The next call asks another server first.
    pub(crate) fn ask_another(&self) {
        self.shared.current.fetch_add(1, Ordering::Relaxed);
    }

    /// How many servers are known.
    pub(crate) fn server_count(&self) -> usize {
        self.shared.channels.len()
    }

    /// The time that calls have.
    pub(crate) fn timeout(&self) -> Duration {
        self.shared.timeout
    }
}

/// A channel that connects when it is used.
fn channel_to(address: &str, interceptor: &BearerInterceptor) -> Result<AuthenticatedChannel, Error> {
    let bad = || Error::Address { address: address.to_owned() };
    let host_port = address.strip_prefix("http://").unwrap_or(address);
    let has_port = host_port.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse() != Ok(0_u16)
            && port.parse::<u16>().is_ok()
    });
    if !has_port
        || host_port.contains(|one: char| one.is_whitespace() || matches!(one, '/' | '@' | '?' | '#'))
    {
        return Err(bad());
    }
    let endpoint = Endpoint::from_shared(format!("http://{host_port}")).map_err(|_| bad())?;
    let channel = endpoint
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(limits::KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(InterceptedService::new(channel, interceptor.clone()))
}

/// What an attempt's status means for the next.
#[derive(Debug)]
enum Failure {
    /// Certainly not carried out: try again, elsewhere.
    NotDone {
        message: String,
        /// That the server asked for.
        pause: Option<Duration>,
        /// Where the leader is, if the server knows.
        leader: Option<String>,
        /// A server said so, not the lack of one.
        answered: bool,
    },
    /// Perhaps carried out, perhaps not.
    MaybeDone { message: String },
    /// The caller's business.
    Final(Error),
}

impl Failure {
    fn of(failed: &Status) -> Failure {
        let Some(reason) = ErrorReason::of(failed) else { return Failure::of_connection(failed) };
        let message = failed.message().to_owned();
        let pause = status::retry_after(failed);
        match (reason, failed.code()) {
            (ErrorReason::OutcomeUnknown, _) => Failure::MaybeDone { message },
            (ErrorReason::NotLeader, _) => {
                let metadata = StatusDetails::of(failed).map(|details| details.metadata).unwrap_or_default();
                let leader = metadata.get(LEADER_ADDRESS).filter(|address| !address.is_empty()).cloned();
                Failure::NotDone { message, pause, leader, answered: true }
            }
            // The server says that nothing was changed, and that it may go better next time.
            (ErrorReason::Timeout, _) | (_, Code::Unavailable) => {
                Failure::NotDone { message, pause, leader: None, answered: true }
            }
            (_, Code::ResourceExhausted) if pause.is_some() => {
                Failure::NotDone { message, pause, leader: None, answered: true }
            }
            _ => Failure::Final(refused(failed)),
        }
    }

    /// Of a status without a reason of stint's own: it comes from the connection, or from something between.
    fn of_connection(failed: &Status) -> Failure {
        let message = root_cause(failed);
        match failed.code() {
            _ if is_connect_error(failed) => {
                Failure::NotDone { message, pause: None, leader: None, answered: false }
            }
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded => {
                Failure::MaybeDone { message }
            }
            _ => Failure::Final(refused(failed)),
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
        for text in [
            "",
            ",",
            "localhost",
            "host:port",
            "not an address",
            "127.0.0.1:99999",
            "a b:1",
            ":7440",
            "host:0",
            "host:+1",
            "https://host:7440",
            "http://host:7440/path",
            "user@host:7440",
            "::1:7440",
        ] {
            assert!(Client::new(ClientOptions::new(text)).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn addresses_of_servers_are_taken() {
        for text in ["localhost:7440", "127.0.0.1:1", "[::1]:7440", "http://h:1", "a:1,b:2, c:3,"] {
            assert!(Client::new(ClientOptions::new(text)).is_ok(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named() {
        let mut options = ClientOptions::new("127.0.0.1:1");
        options.timeout = Duration::from_millis(300);
        let client = Client::new(options).unwrap();
        let error = client.get_job("default", "any").await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("127.0.0.1:1 within 300ms"), "{error}");
    }

    #[test]
    fn decision_10_what_each_status_says_of_the_attempt() {
        let of = |reason: ErrorReason| {
            let details = StatusDetails::new(reason, "x").with_retry_after(Duration::from_millis(10));
            Failure::of(&details.into_status())
        };
        for reason in ErrorReason::ALL {
            let expected = match reason {
                ErrorReason::OutcomeUnknown => "MaybeDone",
                ErrorReason::NoLeader
                | ErrorReason::NotLeader
                | ErrorReason::ShuttingDown
                | ErrorReason::NodeUnreachable
                | ErrorReason::Timeout
                | ErrorReason::TooManyRequests
                | ErrorReason::LimitExceeded => "NotDone",
                _ => "Final",
            };
            let failure = format!("{:?}", of(*reason));
            assert!(failure.starts_with(expected), "{reason:?}: {failure}");
        }
        let without_pause = StatusDetails::new(ErrorReason::LimitExceeded, "x").into_status();
        assert!(matches!(Failure::of(&without_pause), Failure::Final(_)), "waiting does not help");
        // Without a reason the server, or what is between, may have done anything.
        for broken in [
            Status::unknown("h2 protocol error: broken pipe"),
            Status::unavailable("503"),
            Status::cancelled("reset"),
            Status::internal("missing response message"),
            Status::deadline_exceeded("proxy"),
        ] {
            assert!(matches!(Failure::of(&broken), Failure::MaybeDone { .. }), "{broken:?}");
        }
        assert!(matches!(Failure::of(&Status::not_found("x")), Failure::Final(_)));
    }
}
