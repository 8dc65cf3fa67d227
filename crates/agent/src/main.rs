//! The `stint-agent` binary.

use std::io::IsTerminal;
use std::process::ExitCode;
use stint_agent::{Agent, AgentArguments, Asked, CommandLineError, read_command_line};
use stint_daemon::traces::Service;
use stint_daemon::{endpoint::Endpoint, logging, settings};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// What is logged if nobody says anything else.
const LOG_LEVEL: &str = "info";
/// The command line, the environment or the file can't be understood.
const EXIT_NOT_UNDERSTOOD: u8 = 2;

fn main() -> ExitCode {
    // Before any thread: Pods are started by running this binary again as their shim.
    stint_agent::maybe_run_shim();
    match read_command_line(std::env::args_os().collect(), &settings::environment()) {
        Ok(Asked::Run(arguments, warnings)) => run(*arguments, &warnings),
        Ok(Asked::Show(text)) => match print(&mut std::io::stdout(), &text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(CommandLineError::Flags(error)) => error.exit(),
        Err(CommandLineError::Settings(error)) => {
            complain(&error);
            ExitCode::from(EXIT_NOT_UNDERSTOOD)
        }
    }
}

/// Without a log.
fn complain(error: &dyn std::error::Error) {
    // Nobody can be told that stderr is gone.
    let _ = print(&mut std::io::stderr(), &format!("error: {error}\n"));
}

fn print(to: &mut impl std::io::Write, text: &str) -> std::io::Result<()> {
    to.write_all(text.as_bytes())
}

fn run(arguments: AgentArguments, warnings: &[String]) -> ExitCode {
    // Few threads: an agent waits most of the time, and many of them may share a host in tests.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Not even a thread: nothing of an agent would work.
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let service = Service { name: "stint-agent", instance: arguments.node_name() };
    let telling = {
        let _within = runtime.enter();
        logging::start(&arguments.process, LOG_LEVEL, std::io::stderr().is_terminal(), service)
    };
    let telling = match telling {
        Ok(telling) => telling,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let outcome = serve(&runtime, arguments);
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
    }
    telling.end();
    // A disk that hangs holds up removals and reads of logs, not the end.
    runtime.shutdown_background();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve(runtime: &Runtime, arguments: AgentArguments) -> anyhow::Result<()> {
    let stop_pods_on_exit = arguments.stop_pods_on_exit;
    let metrics_listen = arguments.process.metrics_listen.clone();
    let config = arguments.config()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let endpoint = match &metrics_listen {
            Some(address) => Some(Endpoint::open(address).await?),
            None => None,
        };
        let mut agent = tokio::select! {
            started = Agent::start(config) => started?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        if let Some(endpoint) = &endpoint {
            endpoint.observe(agent.observed());
        }
        let leaves = tokio::select! {
            ended = agent.wait() => return Ok(ended?),
            _ = terminate.recv() => !stop_pods_on_exit,
            _ = interrupt.recv() => false,
        };
        let ended = if leaves { agent.leave().await } else { agent.stop().await };
        Ok(ended?)
    })
}
