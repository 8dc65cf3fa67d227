//! `dev`: a server and an agent in one process, on loopback.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use stint_agent::{Agent, AgentConfig};
use stint_client::{Client, ClientOptions, Scope};
use stint_server::{Listen, PlacementPolicy, Server, ServerConfig, StorageLocation};

use crate::arguments::Dev;
use crate::commands::server::{Signals, log_to_stderr, socket_address};
use crate::output;

/// Name of the one server.
const SERVER_NAME: &str = "dev";
/// Name of the one node.
const NODE_NAME: &str = "dev";
/// How long the node may take to be Ready after a restart: its last lease has to run out first.
const READY_TIMEOUT_BEYOND_LEASE: Duration = Duration::from_secs(30);

/// `stint dev`.
pub async fn run(arguments: Dev) -> Result<ExitCode> {
    let listen = socket_address("--listen", &arguments.listen)?;
    ensure!(
        listen.ip().is_loopback(),
        "--listen {listen}: dev listens on loopback only; use stint server and stint-agent"
    );
    let data_dir = match arguments.data_dir {
        Some(data_dir) => data_dir,
        None => default_data_dir()?,
    };
    log_to_stderr("warn");
    let mut signals = Signals::new()?;
    let config = ServerConfig {
        name: SERVER_NAME.to_owned(),
        storage: StorageLocation::Folder(data_dir.join("server")),
        listen: Listen::Address(listen),
        peer_listen: Listen::Address((std::net::Ipv4Addr::LOCALHOST, 0).into()),
        initial_cluster: Vec::new(),
        advertise: None,
        advertise_peer: None,
        node_lease: arguments.node_lease,
        placement_policy: PlacementPolicy::Spread,
        token: None,
        insecure: false,
        snapshot_log_entries: None,
        log_entries_kept: None,
    };
    let mut server = tokio::select! {
        started = Server::start(config) => started?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };
    let address = server.client_address().to_string();
    let mut agent = Agent::start(AgentConfig::new(NODE_NAME, &address, data_dir.join("agent"))).await?;
    let ready = until_ready(&address, arguments.node_lease + READY_TIMEOUT_BEYOND_LEASE);
    tokio::select! {
        ready = ready => ready?,
        error = server.wait() => return Err(error.into()),
        ended = agent.wait() => return end_of_agent(ended),
        () = signals.received() => {
            drop(agent.stop().await);
            server.shutdown().await;
            return Ok(ExitCode::SUCCESS);
        }
    }
    if let Some(file) = &arguments.address_file {
        // Whoever waits for the file must never see half of it.
        let temporary = file.with_extension("new");
        std::fs::write(&temporary, format!("{address}\n"))
            .and_then(|()| std::fs::rename(&temporary, file))
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    output::note(&format!("stint is ready at {address}; data is in {}", data_dir.display()));
    output::note(&format!("  export STINT_SERVER={address}"));
    output::note("  stint apply -f deploy/examples/pi-calculator.yaml");
    output::note("Ctrl-C ends it, and the Pods that run");
    let outcome = tokio::select! {
        error = server.wait() => return Err(error.into()),
        ended = agent.wait() => return end_of_agent(ended),
        () = signals.received() => Ok(ExitCode::SUCCESS),
    };
    // The agent first: its last reports are still taken.
    if let Err(error) = agent.stop().await {
        output::note(&format!("the agent did not end cleanly: {error}"));
    }
    server.shutdown().await;
    outcome
}

/// Waits until the node is Ready: then Jobs run at once.
async fn until_ready(address: &str, timeout: Duration) -> Result<()> {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    let client = Client::new(ClientOptions::new(address))?;
    let poll = async {
        loop {
            if let Ok(nodes) = client.list_nodes(&Scope::default()).await
                && nodes.items.iter().any(|node| stint_api::table::node_status(node).starts_with("Ready"))
            {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(timeout, poll)
        .await
        .with_context(|| format!("the node was not Ready within {timeout:?}"))
}

fn end_of_agent(ended: Result<(), stint_agent::Error>) -> Result<ExitCode> {
    ended?;
    anyhow::bail!("the agent has ended by itself")
}

fn default_data_dir() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    let data = data.context("there is no HOME to keep data in: give --data-dir")?;
    Ok(data.join("stint/dev"))
}
