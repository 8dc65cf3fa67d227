//! What each command does.
//!
//! Owns: dispatch, the client that all commands share. Does not own: arguments, printing.

mod apply;
mod attach;
mod cluster;
pub mod config;
mod config_map;
mod context;
mod copy;
mod delete;
mod describe;
mod dev;
mod drain;
mod exec;
mod explain;
mod get;
mod history;
mod job_watch;
mod logs;
mod manifest;
mod members;
mod new_job;
mod nodes;
mod pages;
mod pod_logs;
mod port_forward;
mod run_job;
mod server;
mod snapshot;
mod suggestion;
pub mod target;
mod top;
mod top_screen;
mod tree;
mod wait;

use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::ExitCode;
use stint_api::names::check_dns_label;
use stint_client::{Client, ClientOptions};

use crate::arguments::{Arguments, Command, CreateObject, Snapshot};
use crate::settings::{Given, Origin, Settings, Withheld};
use crate::{hints, output};

/// Runs a command.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { connection, command } = arguments;
    let command = match command {
        Command::Context(context) => return context::run(context, &connection).map(|()| ExitCode::SUCCESS),
        Command::Config(config) => return config::run(&config, &connection).map(|()| ExitCode::SUCCESS),
        Command::Completion(completion) => return pages::completion(&completion).map(|()| ExitCode::SUCCESS),
        Command::Man(man) => return pages::man(&man).map(|()| ExitCode::SUCCESS),
        Command::Snapshot(snapshot) => match snapshot::run_offline(snapshot)? {
            Some(save) => Command::Snapshot(Snapshot::Save(save)),
            None => return Ok(ExitCode::SUCCESS),
        },
        command => command,
    };
    let runtime = match command {
        Command::Server(_) | Command::Dev(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    }
    .enable_all()
    .build()
    .context("the runtime can't be started")?;
    runtime.block_on(async {
        let command = match command {
            Command::Server(server) => return server::run(*server, &connection).await,
            Command::Dev(dev) => return dev::run(*dev).await,
            command => command,
        };
        let context = Context::new(&Settings::of(&connection)?)?;
        match dispatch(&context, command).await {
            Ok(code) => Ok(code),
            Err(error) => {
                context.tell(&error).await;
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// Does what is asked of a cluster.
async fn dispatch(context: &Context, command: Command) -> Result<ExitCode> {
    let client = &context.client;
    match command {
        // Done without a cluster.
        Command::Server(_) | Command::Dev(_) => {}
        Command::Context(_) | Command::Config(_) | Command::Completion(_) | Command::Man(_) => {}
        Command::Apply(manifest) => apply::apply(context, &manifest).await?,
        Command::Create(create) => match create.object {
            Some(CreateObject::Configmap(create)) => config_map::create(context, &create).await?,
            None => apply::create(context, &create.manifest).await?,
        },
        Command::Run(run) => return run_job::run(context, &run).await,
        Command::Get(get) => return get::run(context, &get).await,
        Command::Describe(describe) => return describe::run(context, &describe).await,
        Command::Logs(logs) => return logs::run(context, &logs).await,
        Command::Exec(exec) => return exec::run(context, exec).await,
        Command::Attach(attach) => return attach::run(context, &attach).await,
        Command::Cp(copy) => return copy::run(context, &copy).await,
        Command::PortForward(ports) => return port_forward::run(context, &ports).await,
        Command::Top(top) => match &top.of {
            Some(_) if top.interval.is_some() => {
                anyhow::bail!(
                    "--interval is for the screen: leave out pods or nodes, or leave out --interval"
                )
            }
            Some(of) => top::run(context, of).await?,
            None => return top_screen::run(context, top.interval).await,
        },
        Command::Explain(explain) => explain::run(context, &explain).await?,
        Command::Tree(tree) => tree::run(context, &tree).await?,
        Command::History(history) => history::run(context, &history).await?,
        Command::Events(events) => return get::run(context, &events.as_get()).await,
        Command::Wait(wait) => wait::run(context, &wait).await?,
        Command::Delete(delete) => return delete::run(context, &delete).await,
        Command::Status(status) => members::status(client, status.output).await?,
        Command::Member(member) => members::run(client, member).await?,
        Command::Cluster(cluster) => cluster::run(client, cluster).await?,
        Command::Snapshot(Snapshot::Save(save)) => return snapshot::save(client, &save).await,
        // Done without a cluster.
        Command::Snapshot(_) => {}
        Command::Cordon(node) => nodes::cordon(client, &node.node).await?,
        Command::Uncordon(node) => nodes::uncordon(client, &node.node).await?,
        Command::Drain(drain) => drain::run(client, &drain).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What all commands that talk to a cluster need.
#[derive(Debug)]
pub struct Context {
    pub client: Client,
    /// As given by `--namespace`; see [`Context::namespace`].
    pub namespace: Option<String>,
    /// The one that is meant without it.
    pub default_namespace: String,
    /// A token that was not sent, which may be why the servers refuse everything.
    withheld: Option<Withheld>,
}

impl Context {
    /// Of these settings; connects to nothing yet.
    pub fn new(settings: &Settings) -> Result<Context> {
        let mut options = ClientOptions::new(&settings.server.value);
        options.token = settings.token_file.as_ref().map(token).transpose()?;
        options.timeout = settings.request_timeout.value;
        let name = settings.namespace.value.clone();
        check_dns_label(&name).map_err(|problem| {
            let origin = &settings.namespace.origin;
            anyhow::anyhow!("the namespace {name:?} of {origin} can't be one: {problem}")
        })?;
        let is_asked_for = matches!(settings.namespace.origin, Origin::Flag(_));
        Ok(Context {
            client: Client::new(options)?,
            namespace: is_asked_for.then(|| name.clone()),
            default_namespace: name,
            withheld: settings.withheld.clone(),
        })
    }

    /// Tells the user why something failed, and what was probably meant.
    pub async fn tell(&self, error: &anyhow::Error) {
        match self.withheld.as_ref().filter(|_| hints::is_unauthenticated(error)) {
            Some(withheld) => {
                let next_step = format!("{withheld}; --token-file FILE sends one there");
                output::error_with_hint(error, Some(&next_step));
            }
            None => output::error(error),
        }
        if let Some(suggestion) = suggestion::of(self, error).await {
            output::hint(&suggestion);
        }
    }

    /// The namespace that is meant.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.default_namespace)
    }
}

/// Failures of some of a command's objects: each is told when it happens, and does not keep the others back.
#[derive(Debug, Default)]
pub struct Failures {
    count: usize,
}

impl Failures {
    /// Tells the user if it is a failure.
    pub fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.count += 1;
            output::error(&error);
        }
    }

    /// Tells the user an error, and what was probably meant.
    pub async fn tell(&mut self, context: &Context, error: anyhow::Error) {
        self.count += 1;
        context.tell(&error).await;
    }

    /// Of the whole command.
    pub fn exit_code(&self) -> ExitCode {
        if self.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The token of a file.
fn token(file: &Given<PathBuf>) -> Result<String> {
    let Given { value: path, origin } = file;
    let token = stint_client::read_token_file(path)
        .with_context(|| format!("the token file {} of {origin} can't be read", path.display()))?;
    anyhow::ensure!(
        !token.is_empty(),
        "the token file {} of {origin} is empty: write the cluster's token into it",
        path.display()
    );
    Ok(token)
}

/// Now, by this machine's clock: only for ages.
fn now() -> stint_api::Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    stint_api::Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
