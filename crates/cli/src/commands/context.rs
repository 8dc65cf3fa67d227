//! `context`.
//!
//! Owns: what each of its commands does to the file. Does not own: the file (`contexts`).

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use stint_api::duration;
use stint_client::{Client, ClientOptions};

use crate::arguments::{Connection, Context as Command, StatusFormat};
use crate::contexts::{self, Change, ContextEntry, Contexts};
use crate::output;
use crate::settings::{CONTEXT_VARIABLE, SERVER_VARIABLE, Settings};
use crate::sheet::Sheet;
use crate::table::Lines;

/// `stint context`.
pub fn run(command: Command, connection: &Connection) -> Result<()> {
    let file = contexts::file_path(|name| std::env::var_os(name));
    let file = file.with_context(|| {
        format!("there is no HOME to keep contexts in: set {} to a file", contexts::FILE_VARIABLE)
    })?;
    match command {
        Command::List(list) => list_all(&contexts::read(&file)?, list.output),
        Command::Show { name, output } => {
            let contexts = contexts::read(&file)?;
            let name = match name {
                Some(name) => name,
                None => used(connection)?,
            };
            show(&name, contexts.get(&name, &file)?, output)
        }
        Command::Add { name, replace } => add(Change::begin(&file)?, &name, replace, connection),
        Command::Use { name } => {
            let mut change = Change::begin(&file)?;
            change.contexts.get(&name, &file)?;
            change.set_current(Some(&name));
            change.commit()?;
            output::line(&format!("context/{name} is used"))?;
            warn_if_overruled();
            Ok(())
        }
        Command::Remove { names } => {
            let names: BTreeSet<String> = names.into_iter().collect();
            let mut change = Change::begin(&file)?;
            // All or none.
            for name in &names {
                change.contexts.get(name, &file)?;
            }
            for name in &names {
                change.remove(name);
            }
            let had_current = change.contexts.current.as_ref().is_some_and(|name| names.contains(name));
            if had_current {
                change.set_current(None);
            }
            change.commit()?;
            for name in &names {
                output::line(&format!("context/{name} removed"))?;
            }
            if had_current {
                output::note("no context is used any more: stint context use NAME chooses one");
            }
            Ok(())
        }
    }
}

/// The context that other commands use here.
fn used(connection: &Connection) -> Result<String> {
    match Settings::of(connection)?.context {
        Some(context) => Ok(context.value),
        None => bail!("no context is used: give a NAME; stint context list shows all"),
    }
}

fn add(mut change: Change, name: &str, replace: bool, connection: &Connection) -> Result<()> {
    contexts::check_name(name)?;
    let server = connection.server.clone();
    let server = server
        .context("a context needs its servers: give --server HOST:PORT, or several separated by commas")?;
    // Refuses what is no address; channels need a runtime, though nothing is connected.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Client::new(ClientOptions::new(&server)) })?;
    ensure!(
        replace || !change.contexts.contexts.contains_key(name),
        "there is a context {name:?} already: give another name, or --replace"
    );
    let entry = ContextEntry {
        server: Some(server),
        token_file: connection.token_file.as_ref().map(std::path::absolute).transpose()?,
        namespace: connection.namespace.clone().filter(|namespace| !namespace.is_empty()),
        request_timeout: connection.request_timeout.map(duration_text),
    };
    if let Some(namespace) = &entry.namespace {
        let checked = stint_api::names::check_dns_label(namespace);
        checked.map_err(|problem| anyhow::anyhow!("{namespace:?} can't be a namespace: {problem}"))?;
    }
    change.put(name, &entry)?;
    let is_first = change.contexts.current.is_none() && change.contexts.contexts.len() == 1;
    if is_first {
        change.set_current(Some(name));
    }
    change.commit()?;
    output::line(&format!("context/{name} {}", if replace { "written" } else { "added" }))?;
    if let Some(token_file) = entry.token_file.filter(|file| !file.is_file()) {
        output::warning(&format!("the token file {} is not there yet", token_file.display()));
    }
    match is_first {
        true => {
            output::note("it is used from now on, as the only one");
            warn_if_overruled();
        }
        false => output::hint(&format!("stint context use {name} makes it the current one")),
    }
    Ok(())
}

/// What was chosen has no effect in this shell.
fn warn_if_overruled() {
    for name in [CONTEXT_VARIABLE, SERVER_VARIABLE] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            output::warning(&format!("{name} is set, and goes before the context: unset {name}"));
        }
    }
}

fn list_all(contexts: &Contexts, format: StatusFormat) -> Result<()> {
    if format == StatusFormat::Json {
        let items: Vec<_> = contexts
            .contexts
            .iter()
            .map(|(name, entry)| json_of(name, entry, contexts.current.as_ref() == Some(name)))
            .collect();
        return output::line(&serde_json::to_string_pretty(&items)?);
    }
    if contexts.contexts.is_empty() {
        output::note("there are no contexts: stint context add NAME --server HOST:PORT makes one");
        return Ok(());
    }
    let rows = contexts.contexts.iter().map(|(name, entry)| {
        let mark = if contexts.current.as_ref() == Some(name) { "*" } else { "" };
        let token_file = path_text(entry.token_file.as_ref());
        vec![
            mark.to_owned(),
            name.clone(),
            entry.server.clone().unwrap_or_default(),
            entry.namespace.clone().unwrap_or_default(),
            token_file,
        ]
    });
    let titles = ["CURRENT", "NAME", "SERVER", "NAMESPACE", "TOKEN-FILE"];
    output::line(&Lines::default().of(&titles, rows.collect()))
}

fn show(name: &str, entry: &ContextEntry, format: StatusFormat) -> Result<()> {
    if format == StatusFormat::Json {
        return output::line(&serde_json::to_string_pretty(&json_of(name, entry, false))?);
    }
    let mut sheet = Sheet::default();
    sheet.field("Name", name);
    sheet.field_if("Server", entry.server.clone().unwrap_or_default());
    sheet.field_if("Token File", path_text(entry.token_file.as_ref()));
    sheet.field_if("Namespace", entry.namespace.clone().unwrap_or_default());
    sheet.field_if("Request Timeout", entry.request_timeout.clone().unwrap_or_default());
    output::line(&sheet.finish())
}

fn json_of(name: &str, entry: &ContextEntry, is_current: bool) -> serde_json::Value {
    json!({
        "name": name,
        "current": is_current,
        "server": entry.server,
        "tokenFile": entry.token_file,
        "namespace": entry.namespace,
        "requestTimeout": entry.request_timeout,
    })
}

fn path_text(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn duration_text(duration: std::time::Duration) -> String {
    duration::format_ms(duration.as_millis().try_into().unwrap_or(u64::MAX))
}
