//! What each command does.
//!
//! Owns: dispatch, the client that all commands share. Does not own: arguments, printing.

mod apply;
mod delete;
mod dev;
mod get;
mod logs;
mod members;
mod nodes;
mod run_job;
mod server;
mod wait;

use anyhow::{Context, Result};
use std::process::ExitCode;
use stint_client::{Client, ClientOptions};

use crate::arguments::{Arguments, Command, Connection};

/// Runs a command.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { connection, command } = arguments;
    let runtime = match command {
        Command::Server(_) | Command::Dev(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    }
    .enable_all()
    .build()
    .context("the runtime can't be started")?;
    runtime.block_on(async {
        match command {
            Command::Server(server) => return server::run(*server, &connection).await,
            Command::Dev(dev) => return dev::run(dev).await,
            Command::Apply(manifest) => apply::apply(&client(&connection)?, &manifest).await?,
            Command::Create(manifest) => apply::create(&client(&connection)?, &manifest).await?,
            Command::Run(manifest) => return run_job::run(&client(&connection)?, &manifest).await,
            Command::Get(get) => get::run(&client(&connection)?, &get).await?,
            Command::Logs(logs) => logs::run(&client(&connection)?, &logs).await?,
            Command::Wait(wait) => wait::run(&client(&connection)?, &wait).await?,
            Command::Delete(delete) => delete::run(&client(&connection)?, &delete).await?,
            Command::Status(status) => members::status(&client(&connection)?, status.output).await?,
            Command::Member(member) => members::run(&client(&connection)?, member).await?,
            Command::Cordon(node) => nodes::cordon(&client(&connection)?, &node.node).await?,
            Command::Uncordon(node) => nodes::uncordon(&client(&connection)?, &node.node).await?,
            Command::Drain(node) => nodes::drain(&client(&connection)?, &node.node).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn client(connection: &Connection) -> Result<Client> {
    let mut options = ClientOptions::new(&connection.server);
    options.token = token(connection)?;
    options.timeout = connection.request_timeout;
    Ok(Client::new(options)?)
}

/// The token of `--token-file`.
fn token(connection: &Connection) -> Result<Option<String>> {
    let Some(path) = &connection.token_file else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the token file {} can't be read", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(
        !token.is_empty(),
        "the token file {} is empty: write the cluster's token into it",
        path.display()
    );
    Ok(Some(token.to_owned()))
}

/// Now, by this machine's clock: only for ages.
fn now() -> stint_api::Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    stint_api::Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
