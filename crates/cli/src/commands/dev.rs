//! `dev`: a server and an agent in one process, on loopback.

use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use stint_agent::{Agent, AgentConfig, FreeDiskMin};
use stint_api::Incarnation;
use stint_client::{Client, ClientOptions};
use stint_daemon::traces::Service;
use stint_daemon::{ProcessArguments, logging};
use stint_server::{GivenSettings, Listen, RunningServer, Server, ServerConfig, StorageLocation};

use crate::arguments::Dev;
use crate::color::{self, Stream};
use crate::commands::server::{Signals, socket_address};
use crate::output;

/// Name of the one server.
const SERVER_NAME: &str = "dev";
/// Name of the one node.
const NODE_NAME: &str = "dev";
/// How long the node may take to be Ready after a restart: its last lease has to run out first.
const READY_TIMEOUT_BEYOND_LEASE: Duration = Duration::from_secs(30);

/// Less of the disk is free, in percent: nothing new is started, unless another bound is given.
const DISK_FREE_PERCENT_MIN: u8 = 1;

/// What is logged unless STINT_LOG says something else: what goes on is told in other words.
const LOG_LEVEL: &str = "warn";

/// `stint dev`.
pub async fn run(arguments: Dev) -> Result<ExitCode> {
    // It has none of the settings of a process; what it logs is set as the command line's is.
    let process =
        ProcessArguments { log_level: std::env::var("STINT_LOG").ok(), ..ProcessArguments::default() };
    let service = Service { name: "stint-dev", instance: NODE_NAME };
    let telling = logging::start(&process, LOG_LEVEL, color::is_on(Stream::Stderr), service)?;
    let outcome = serve(arguments).await;
    telling.end();
    outcome
}

async fn serve(arguments: Dev) -> Result<ExitCode> {
    let listen = socket_address("--listen", &arguments.listen)?;
    ensure!(
        listen.ip().is_loopback(),
        "--listen {listen}: dev listens on loopback only; use stint server and stint-agent"
    );
    let data_dir = match arguments.data_dir {
        Some(data_dir) => {
            std::path::absolute(data_dir).context("--data-dir has no absolute path: give one")?
        }
        None => default_data_dir()?,
    };
    let mut signals = Signals::new()?;
    let config = ServerConfig {
        name: SERVER_NAME.to_owned(),
        storage: StorageLocation::Folder(data_dir.join("server")),
        listen: Listen::Address(listen),
        peer_listen: Listen::Address((std::net::Ipv4Addr::LOCALHOST, 0).into()),
        initial_cluster: Vec::new(),
        advertise: None,
        advertise_peer: None,
        settings: GivenSettings { node_lease: arguments.node_lease, ..GivenSettings::default() },
        token: None,
        insecure: false,
        snapshot_log_entries: None,
        log_entries_kept: None,
        log_archive: None,
    };
    let mut server = tokio::select! {
        started = Server::start(config) => started?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };
    let address = server.client_address().to_string();
    let client = Client::new(ClientOptions::new(&address))?;
    let before = tokio::select! {
        before = incarnation(&client) => before?,
        error = server.wait() => return Err(error.into()),
        () = signals.received() => return end(None, server, &mut signals).await,
    };
    if before.is_some() {
        output::note("waiting for the node to register again, at most until its last lease has run out");
    }
    let mut agent_config = AgentConfig::new(NODE_NAME, &address, data_dir.join("agent"));
    // The disk is its owner's, who may well leave little of it free.
    agent_config.pressure.disk = FreeDiskMin::percent(DISK_FREE_PERCENT_MIN);
    arguments.pods.apply(&mut agent_config)?;
    let mut agent = Agent::start(agent_config).await?;
    let lease = Duration::from_millis(client.cluster_status().await?.node_lease_ms);
    let ready = until_ready(&client, before, lease + READY_TIMEOUT_BEYOND_LEASE);
    tokio::select! {
        ready = ready => ready?,
        error = server.wait() => return Err(error.into()),
        ended = agent.wait() => return end_of_agent(ended),
        () = signals.received() => return end(Some(agent), server, &mut signals).await,
    }
    if let Some(file) = &arguments.address_file {
        write_whole(file, &format!("{address}\n"))
            .with_context(|| format!("{} can't be written", file.display()))?;
    }
    output::note(&format!(
        "stint is ready at {address}; its data is in {} and stays there",
        data_dir.display()
    ));
    output::note("in another terminal:");
    output::note(&format!("  export STINT_SERVER={address}"));
    output::note("  stint run -f deploy/examples/pi-calculator.yaml");
    output::note("  stint get jobs,pods");
    output::note("Ctrl-C ends it, and the Pods that run");
    tokio::select! {
        error = server.wait() => Err(error.into()),
        ended = agent.wait() => end_of_agent(ended),
        () = signals.received() => end(Some(agent), server, &mut signals).await,
    }
}

/// Writes a file so that whoever waits for it never sees half of it. What is no file, such as /dev/stdout, is written into.
fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
    if file.symlink_metadata().is_ok_and(|known| !known.is_file()) {
        return std::fs::write(file, text);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As other files are: whoever may read the folder may know where the server is.
    let mode = std::fs::Permissions::from_mode(0o666);
    let mut new = tempfile::Builder::new().prefix(".stint-").permissions(mode).tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.persist(file)?;
    Ok(())
}

/// Ends both in order; a second signal does not wait for them.
async fn end(agent: Option<Agent>, server: RunningServer, signals: &mut Signals) -> Result<ExitCode> {
    let ended = async {
        // The agent first: its last reports are still taken.
        if let Some(agent) = agent
            && let Err(error) = agent.stop().await
        {
            output::note(&format!("the agent did not end cleanly: {error}"));
        }
        server.shutdown().await;
    };
    tokio::select! {
        () = ended => Ok(ExitCode::SUCCESS),
        () = signals.received() => anyhow::bail!("interrupted a second time: the end was not waited for"),
    }
}

/// The registration of the node that an earlier start has left, if there is one.
async fn incarnation(client: &Client) -> Result<Option<Incarnation>> {
    match client.get_node(NODE_NAME).await {
        Ok(node) => Ok(Some(node.incarnation)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the node is registered anew and Ready: then Jobs run at once.
async fn until_ready(client: &Client, before: Option<Incarnation>, timeout: Duration) -> Result<()> {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    let poll = async {
        loop {
            if let Ok(node) = client.get_node(NODE_NAME).await
                && before != Some(node.incarnation)
                && stint_api::table::node_status(&node).starts_with("Ready")
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
    // Pods of root's agent are users of their own, and must be able to reach their folders: homes of root are closed to them.
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/stint-dev"));
    }
    // The XDG rules ignore a path that is empty or relative.
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let data = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    let data = data.context("there is no HOME to keep data in: give --data-dir")?;
    Ok(data.join("stint/dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_and_what_is_none_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("address.txt"), folder.path().join("link"));
        std::os::unix::fs::symlink("address.txt", &link).unwrap();
        for (path, text) in [(&file, "a:1\n"), (&file, "b:1\n"), (&link, "c:1\n")] {
            write_whole(path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
        assert!(write_whole(Path::new("/dev/full"), "a:1\n").is_err());
    }

    /// Pods of root's agent are users of their own, and `/root` is closed to them.
    #[test]
    fn data_of_root_is_where_pods_can_reach_it() {
        let folder = default_data_dir().unwrap();
        assert_eq!(folder.starts_with("/var/lib/stint-dev"), rustix::process::geteuid().is_root());
    }
}
