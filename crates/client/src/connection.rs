//! Connections to the servers, and calls.
//!
//! Owns: how a cluster is reached, channels to all known servers, the attempts of one call. Does not own: what is tried
//! again (`retry`), requests.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stint_proto::auth::{BearerInterceptor, BearerToken};
use stint_proto::limits::MESSAGE_BYTES_MAX;
use stint_proto::status::ErrorReason;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::address::is_address;
use crate::error::Error;
use crate::limits;
pub(crate) use crate::retry::Effect;
use crate::retry::{Attempts, Meaning, Servers};
use crate::trouble::{Trouble, TroubleKind, Troubles};

/// A channel that sends the caller's token.
pub(crate) type AuthenticatedChannel = InterceptedService<Channel, BearerInterceptor>;

/// Where a client looks for a server if nobody says.
const ADDRESS_DEFAULT: &str = "127.0.0.1:7440";

/// How to reach a cluster.
///
/// ```
/// use std::time::Duration;
/// use stint_client::{Client, ClientOptions};
///
/// let options = ClientOptions::new("10.0.0.1:7440,10.0.0.2:7440,10.0.0.3:7440")
///     .with_token("5f2b8c1e9d")
///     .with_timeout(Duration::from_secs(30));
/// // Nothing is connected yet.
/// let client = Client::new(options)?;
/// # let _ = client;
/// # Ok::<(), stint_client::Error>(())
/// ```
#[derive(Clone)]
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

    /// As the command line does: addresses from `STINT_SERVER`, else `127.0.0.1:7440`; the token from the file that
    /// `STINT_TOKEN_FILE` names, if it does. That may be a pipe, which is waited for 10 s at most.
    ///
    /// # Errors
    /// [`Error::Token`] if that file can't be read.
    pub fn from_environment() -> Result<ClientOptions, Error> {
        let given = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let mut options = ClientOptions::new(given("STINT_SERVER").as_deref().unwrap_or(ADDRESS_DEFAULT));
        if let Some(file) = given("STINT_TOKEN_FILE") {
            let token = stint_proto::read_token_file(Path::new(&file)).map_err(|error| Error::Token {
                problem: format!("the file of STINT_TOKEN_FILE can't be read ({error})"),
            })?;
            options.token = Some(token);
        }
        Ok(options)
    }

    /// With this bearer token.
    pub fn with_token(mut self, token: impl Into<String>) -> ClientOptions {
        self.token = Some(token.into());
        self
    }

    /// With this time limit of calls.
    pub fn with_timeout(mut self, timeout: Duration) -> ClientOptions {
        self.timeout = timeout;
        self
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientOptions")
            .field("addresses", &self.addresses)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// A client of one cluster. Cheap to clone; connections are shared by clones, and made when they are used.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
/// # fn main() { example(async |client| {
/// use stint_client::JobBuilder;
///
/// // Ten Pods, four at a time; each knows its index.
/// let job = JobBuilder::new(["sh", "-c", "echo $((JOB_COMPLETION_INDEX * JOB_COMPLETION_INDEX))"])
///     .completions(10)
///     .parallelism(4)
///     .indexed();
/// let handle = client.run(job).await?;
/// let job = handle.wait().await?;
/// assert_eq!(job.status.succeeded, 10);
/// # handle.delete().await?;
/// # Ok(()) }); }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    servers: Servers,
    interceptor: BearerInterceptor,
    /// Of the servers that were asked, at least one each.
    connections: Mutex<BTreeMap<Arc<str>, Vec<Connection>>>,
    troubles: Troubles,
}

/// One connection to one server. Calls use the first, streams each that has room.
#[derive(Debug)]
struct Connection {
    channel: AuthenticatedChannel,
    /// Each stream has another reference to it.
    place: StreamPlace,
}

/// A stream's place on its connection, as long as it is kept.
pub(crate) type StreamPlace = Arc<()>;

impl Client {
    /// Makes a client without connecting yet.
    ///
    /// # Errors
    /// [`Error::Address`] and [`Error::Token`] for what can't be used.
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
        let mut addresses = Vec::with_capacity(options.addresses.len());
        for address in &options.addresses {
            let host_port = address.strip_prefix("http://").unwrap_or(address);
            if !is_address(host_port) || endpoint(host_port).is_none() {
                return Err(Error::Address { address: address.clone() });
            }
            addresses.push(host_port.to_owned());
        }
        Ok(Client {
            shared: Arc::new(Shared {
                servers: Servers::new(&addresses),
                interceptor: BearerInterceptor::new(token),
                connections: Mutex::default(),
                troubles: Troubles::default(),
            }),
            timeout: options.timeout,
        })
    }

    /// A client as the command line makes it: see [`ClientOptions::from_environment`].
    ///
    /// # Errors
    /// Those of [`ClientOptions::from_environment`] and [`Client::new`].
    pub fn from_environment() -> Result<Client, Error> {
        Client::new(ClientOptions::from_environment()?)
    }

    /// The same client, over the same connections, with another time limit of calls.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use std::time::Duration;
    ///
    /// let status = client.with_timeout(Duration::from_secs(60)).cluster_status().await?;
    /// println!("{} leads", status.leader.unwrap_or_default());
    /// # Ok(()) }); }
    /// ```
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { shared: self.shared.clone(), timeout }
    }

    /// What keeps calls of this client and its clones from being answered now; None if nothing does, as far as is known.
    pub fn trouble(&self) -> Option<Trouble> {
        self.shared.troubles.present()
    }

    /// Makes one call with one request and one answer.
    pub(crate) async fn unary<Q, A, F, Attempt>(
        &self,
        effect: Effect,
        request: Q,
        send: F,
    ) -> Result<A, Error>
    where
        Q: prost::Message + Clone,
        F: Fn(AuthenticatedChannel, Q) -> Attempt,
        Attempt: Future<Output = Result<Response<A>, Status>>,
    {
        check_size(&request)?;
        Ok(self.call(effect, |channel| send(channel, request.clone())).await?.into_inner())
    }

    /// Makes one call, with as many attempts as the retry table allows until the client's timeout.
    pub(crate) async fn call<T, F, Attempt>(&self, effect: Effect, attempt: F) -> Result<T, Error>
    where
        F: Fn(AuthenticatedChannel) -> Attempt,
        Attempt: Future<Output = Result<T, Status>>,
    {
        let servers = &self.shared.servers;
        let mut attempts = Attempts::new(effect, self.timeout, Instant::now());
        loop {
            let (address, patience) = attempts.next(servers, Instant::now());
            let channel = self.channel(&address)?;
            let (meaning, trouble) = match tokio::time::timeout(patience, attempt(channel)).await {
                Ok(Ok(answer)) => {
                    self.shared.troubles.are_over();
                    return Ok(answer);
                }
                Ok(Err(status)) => (Meaning::of(&status), trouble_of(&status)),
                Err(_) => (Meaning::no_answer(patience), TroubleKind::NoAnswer),
            };
            if matches!(meaning, Meaning::Final(_)) {
                self.shared.troubles.are_over();
            }
            let wait = attempts.failed(servers, meaning, Instant::now(), chance())?;
            if let Some(address) = attempts.upcoming(servers) {
                self.shared.troubles.met(trouble, &address);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The channel for calls to a server.
    pub(crate) fn channel(&self, address: &Arc<str>) -> Result<AuthenticatedChannel, Error> {
        self.with_connections(address, |connections| Ok(connections[0].channel.clone()))
    }

    /// A channel to a server with room for another stream, and the place that the stream takes there. What waits for room
    /// on a connection would keep all calls of the client from being sent.
    pub(crate) fn channel_for_stream(
        &self,
        address: &Arc<str>,
    ) -> Result<(AuthenticatedChannel, StreamPlace), Error> {
        let n_streams = |connection: &Connection| Arc::strong_count(&connection.place) - 1;
        self.with_connections(address, |connections| {
            let has_room = |one: &Connection| n_streams(one) < limits::STREAMS_PER_CONNECTION_MAX;
            let position = match connections.iter().position(has_room) {
                Some(position) => position,
                None => {
                    connections.push(self.connect(address)?);
                    connections.len() - 1
                }
            };
            while connections.len() > position + 1
                && connections.last().is_some_and(|last| n_streams(last) == 0)
            {
                connections.pop();
            }
            let Connection { channel, place } = &connections[position];
            Ok((channel.clone(), place.clone()))
        })
    }

    /// Calls `choose` with the connections to a server, of which there is at least one.
    fn with_connections<T>(
        &self,
        address: &Arc<str>,
        choose: impl FnOnce(&mut Vec<Connection>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if !connections.contains_key(address) {
            connections.insert(address.clone(), vec![self.connect(address)?]);
        }
        choose(connections.entry(address.clone()).or_default())
    }

    fn connect(&self, address: &Arc<str>) -> Result<Connection, Error> {
        let endpoint = endpoint(address).ok_or_else(|| Error::Address { address: address.to_string() })?;
        let channel = InterceptedService::new(endpoint.connect_lazy(), self.shared.interceptor.clone());
        Ok(Connection { channel, place: StreamPlace::default() })
    }

    /// The known servers.
    pub(crate) fn servers(&self) -> &Servers {
        &self.shared.servers
    }

    /// What keeps calls from being answered, for streams, which are opened by themselves.
    pub(crate) fn troubles(&self) -> &Troubles {
        &self.shared.troubles
    }

    /// The time that calls have.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// A request that no server would take is refused before it is sent again and again.
fn check_size(request: &impl prost::Message) -> Result<(), Error> {
    let bytes = request.encoded_len();
    if bytes <= MESSAGE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the request has {bytes} bytes, at most {MESSAGE_BYTES_MAX} are taken: send less");
    Err(Error::refused(ErrorReason::RequestTooLarge, message))
}

/// What a status that is no answer says to people.
pub(crate) fn trouble_of(failed: &Status) -> TroubleKind {
    match ErrorReason::of(failed) {
        Some(ErrorReason::NoLeader | ErrorReason::NotLeader) => TroubleKind::NoLeader,
        Some(_) => TroubleKind::Busy,
        None => TroubleKind::NoAnswer,
    }
}

/// A status that is the caller's business.
pub(crate) fn refused(failed: &Status) -> Error {
    Error::of_status(failed)
}

/// From 0 to 1, without 1.
pub(crate) fn chance() -> f64 {
    // Without chance callers only come back at the same time.
    getrandom::u32().map_or(0.5, |bits| f64::from(bits) / (f64::from(u32::MAX) + 1.0))
}

/// None for what is no address after all.
fn endpoint(host_port: &str) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{host_port}")).ok()?;
    Some(
        endpoint
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(limits::KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the wire examples.
    fn addresses(kind: &str) -> Vec<String> {
        let examples: serde_json::Value =
            serde_json::from_str(include_str!("../../../sdk/wire/addresses.json")).unwrap();
        examples[kind].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let many = vec!["a:1"; limits::ADDRESSES_MAX + 1].join(",");
        for text in addresses("refused").into_iter().chain([many]) {
            let error = Client::new(ClientOptions::new(&text)).unwrap_err();
            assert!(matches!(error, Error::Address { .. }), "{text:?}: {error:?}");
        }
    }

    #[test]
    fn addresses_of_servers_are_taken() {
        for text in addresses("taken") {
            assert!(Client::new(ClientOptions::new(&text)).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn tokens_that_can_t_be_sent_are_refused_and_not_shown() {
        for token in ["", " \n", "two words", "secret\u{e9}", "secret\u{7}", &"x".repeat(4_097)] {
            let error = Client::new(ClientOptions::new("h:1").with_token(token)).unwrap_err();
            assert!(matches!(error, Error::Token { .. }), "{token:?}: {error:?}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("secret") && !text.contains("xxxx") && !text.contains("words"), "{text}");
        }
        let options = ClientOptions::new("h:1").with_token(" hunter2\n");
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(!format!("{:?}", Client::new(options).unwrap()).contains("hunter2"));
    }

    #[test]
    fn chance_is_a_part_of_one() {
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&chance())));
    }

    #[tokio::test]
    async fn an_unreachable_server_is_named() {
        let options = ClientOptions::new("127.0.0.1:1").with_timeout(Duration::from_millis(300));
        let client = Client::new(options).unwrap();
        let error = client.get_job("default", "any").await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
        let trouble = client.clone().trouble().unwrap();
        assert_eq!((trouble.kind, trouble.next_address.as_str()), (TroubleKind::NoAnswer, "127.0.0.1:1"));
        assert!(error.to_string().contains("127.0.0.1:1 within 300ms"), "{error}");
    }
}
