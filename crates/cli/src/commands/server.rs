//! `server`, and what `dev` shares with it.

use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use stint_daemon::endpoint::Endpoint;
use stint_daemon::traces::Service;
use stint_daemon::{LogFormat, logging};
use stint_server::{
    ClusterToken, GivenSettings, InitialMember, Listen, PlacementPolicy, Server, ServerConfig,
    StorageLocation,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::{self, Connection, Placement};
use crate::color::{self, Stream};
use crate::commands::token;
use crate::settings::token_file_given;

/// What is logged if nobody says anything else. openraft warns ten times a second of a member that does not answer; `status` and our
/// own lines say it once.
const LOG_LEVEL: &str = "info,openraft=error";

/// `stint server`.
pub async fn run(arguments: arguments::Server, connection: &Connection) -> Result<ExitCode> {
    raise_open_files_limit();
    let format = arguments.process.log_format;
    let service = Service { name: "stint-server", instance: &arguments.name };
    let telling = logging::start(&arguments.process, LOG_LEVEL, color::is_on(Stream::Stderr), service)?;
    arguments.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let outcome = serve(arguments, connection).await;
    let said = match &outcome {
        // Who reads JSON gets nothing else.
        Err(error) if format == LogFormat::Json => {
            tracing::error!("{error:#}");
            Ok(ExitCode::FAILURE)
        }
        _ => outcome,
    };
    telling.end();
    said
}

async fn serve(arguments: arguments::Server, connection: &Connection) -> Result<ExitCode> {
    // Contexts are for people: a server has its own flags.
    let token_file = token_file_given(connection, |name| std::env::var_os(name));
    let token = token_file.as_ref().map(token).transpose()?;
    let initial_cluster = InitialMember::parse_list(&arguments.initial_cluster.join(","))?;
    let is_member = initial_cluster.iter().any(|member| member.name == arguments.name);
    if !initial_cluster.is_empty() && !is_member {
        bail!(
            "--initial-cluster does not name this server, {:?}: give the same list to all of its servers",
            arguments.name
        );
    }
    let config = ServerConfig {
        storage: StorageLocation::Folder(arguments.data_dir),
        listen: Listen::Address(socket_address("--listen", &arguments.listen)?),
        peer_listen: Listen::Address(socket_address("--peer-listen", &arguments.peer_listen)?),
        initial_cluster,
        advertise: arguments.advertise,
        advertise_peer: arguments.advertise_peer,
        settings: GivenSettings {
            node_lease: arguments.node_lease,
            placement_policy: arguments.placement.map(|placement| match placement {
                Placement::Spread => PlacementPolicy::Spread,
                Placement::Pack => PlacementPolicy::Pack,
            }),
            default_runtime: arguments.default_runtime,
            ended_pods_max: arguments.ended_pods_max,
        },
        token: token.as_deref().map(ClusterToken::new),
        insecure: arguments.insecure,
        snapshot_log_entries: arguments.snapshot_entries,
        log_entries_kept: arguments.log_entries_kept,
        log_archive: arguments.log_archive.clone(),
        name: arguments.name,
    };
    let mut signals = Signals::new()?;
    let endpoint = match &arguments.process.metrics_listen {
        Some(address) => Some(Endpoint::open(address).await?),
        None => None,
    };
    let mut server = tokio::select! {
        started = Server::start(config) => started?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };
    if let Some(endpoint) = &endpoint {
        endpoint.observe(server.observed());
    }
    tokio::select! {
        error = server.wait() => Err(error.into()),
        () = signals.received() => {
            tokio::select! {
                () = server.shutdown() => Ok(ExitCode::SUCCESS),
                () = signals.received() => bail!("interrupted a second time: the end was not waited for"),
            }
        }
    }
}

/// As many descriptors as the system allows: each client, agent, watch and file of the storage takes one, and the soft limit
/// is often 1,024, for the sake of programs that this is none of.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // What is refused leaves the limit as it was.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// An address to listen on: numbers, or a name that this machine knows.
pub fn socket_address(flag: &str, text: &str) -> Result<SocketAddr> {
    let mut addresses = text
        .to_socket_addrs()
        .with_context(|| format!("{flag} {text:?} is not ADDRESS:PORT, such as 127.0.0.1:7440"))?;
    addresses.next().with_context(|| format!("{flag} {text:?} has no address"))
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both from now on.
    pub fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves when one of them comes.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
