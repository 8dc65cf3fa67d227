//! The `stint-agent` binary.

mod log_output;

use clap::Parser;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use stint_agent::{Agent, AgentConfig, PodArguments};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the Pods of a stint cluster on this host.
#[derive(Debug, Parser)]
#[command(name = "stint-agent", version)]
struct Arguments {
    /// Name of this node, unique in the cluster
    #[arg(long)]
    name: String,
    /// Addresses of some or all servers, as HOST:PORT, separated by commas
    #[arg(long, env = "STINT_SERVER", value_name = "ADDRESSES")]
    server: String,
    /// Folder of all its data
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Label of the node; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Cores that the node offers, such as 4 or 500m; all it has by default
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    cpu: Option<String>,
    /// Memory that the node offers, such as 8Gi; all it has by default
    #[arg(long, value_name = "QUANTITY", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Pods that the node takes at once
    #[arg(long, value_name = "NUMBER", default_value_t = 110)]
    max_pods: u32,
    /// End all Pods when the agent is told to end by SIGTERM, as it does for SIGINT; else they go on until the next agent takes
    /// them over or their lease runs out
    #[arg(long)]
    stop_pods_on_exit: bool,
    #[command(flatten)]
    pods: PodArguments,
    /// File that holds the cluster's token
    #[arg(long, env = "STINT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    // Before any thread: Pods are started by running this binary again as their shim.
    stint_agent::maybe_run_shim();
    let arguments = Arguments::parse();
    let Ok(output) = log_output::LogOutput::start(std::io::stderr()) else {
        // Not even a thread: nothing of an agent would work.
        return ExitCode::FAILURE;
    };
    let writer = output.clone();
    tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(move || writer.clone())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("STINT_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    let outcome = run(arguments);
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
    }
    output.flush();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut config = AgentConfig::new(&arguments.name, &arguments.server, arguments.data_dir);
    arguments.label.iter().try_for_each(|label| config.add_label(label))?;
    if let Some(cpu) = &arguments.cpu {
        config.set_cpu(cpu)?;
    }
    if let Some(memory) = &arguments.memory {
        config.set_memory(memory)?;
    }
    config.capacity.pods = arguments.max_pods;
    arguments.pods.apply(&mut config)?;
    if let Some(path) = &arguments.token_file {
        let token = std::fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("the token file {} can't be read: {error}", path.display()))?;
        config.token = Some(token.trim().to_owned());
    }
    config.check()?;
    let stop_pods_on_exit = arguments.stop_pods_on_exit;
    // Few threads: an agent waits most of the time, and many of them may share a host in tests.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut agent = tokio::select! {
            started = Agent::start(config) => started?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let leaves = tokio::select! {
            ended = agent.wait() => return Ok(ended?),
            _ = terminate.recv() => !stop_pods_on_exit,
            _ = interrupt.recv() => false,
        };
        let ended = if leaves { agent.leave().await } else { agent.stop().await };
        Ok(ended?)
    });
    // A disk that hangs holds up removals and reads of logs, not the end.
    runtime.shutdown_background();
    outcome
}
