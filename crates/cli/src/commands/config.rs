//! `config show`, of the command line and of a server.
//!
//! Owns: how settings are shown. Does not own: where they come from (`settings`).

use anyhow::Result;
use serde_json::json;
use stint_api::duration;
use stint_daemon::settings::Resolved;

use crate::arguments::{Config, Connection, StatusFormat};
use crate::output;
use crate::settings::{Origin, Settings};
use crate::table::Lines;

/// `stint config`.
pub fn run(config: &Config, connection: &Connection) -> Result<()> {
    let Config::Show(show) = config;
    let settings = Settings::of(connection)?;
    if let Some(withheld) = &settings.withheld {
        output::warning(&withheld.to_string());
    }
    let rows = rows(&settings);
    match show.output {
        StatusFormat::Table => {
            let rows = rows.into_iter().map(|(name, value, origin)| {
                let unset = || "<none>".to_owned();
                vec![name.to_owned(), value.unwrap_or_else(unset), origin.to_string()]
            });
            output::line(&Lines::default().of(&["SETTING", "VALUE", "ORIGIN"], rows.collect()))
        }
        StatusFormat::Json => {
            let rows = rows.into_iter().map(|(name, value, origin)| {
                json!({ "setting": name, "value": value, "origin": origin.to_string() })
            });
            output::line(&serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?)
        }
    }
}

/// `stint config show server`.
pub fn show_server(resolved: &Resolved, format: StatusFormat) -> Result<()> {
    resolved.warnings.iter().for_each(|warning| output::warning(warning));
    match format {
        StatusFormat::Table => {
            let rows = resolved.rows().into_iter().map(Vec::from).collect();
            output::line(&Lines::default().of(&["SETTING", "VALUE", "ORIGIN"], rows))
        }
        StatusFormat::Json => output::line(resolved.to_json().trim_end()),
    }
}

/// Name, value if there is one, origin.
fn rows(settings: &Settings) -> Vec<(&'static str, Option<String>, Origin)> {
    let timeout = settings.request_timeout.value.as_millis().try_into().unwrap_or(u64::MAX);
    let file = settings.file.as_ref().map(|file| (file.value.display().to_string(), file.origin.clone()));
    let context = settings.context.as_ref().map(|context| (context.value.clone(), context.origin.clone()));
    let token = settings.token_file.as_ref();
    let token = token.map(|file| (file.value.display().to_string(), file.origin.clone()));
    let row = |name, given: Option<(String, Origin)>| match given {
        Some((value, origin)) => (name, Some(value), origin),
        None => (name, None, Origin::Default),
    };
    vec![
        row("configuration", file),
        row("context", context),
        row("server", Some((settings.server.value.clone(), settings.server.origin.clone()))),
        row("token-file", token),
        row("namespace", Some((settings.namespace.value.clone(), settings.namespace.origin.clone()))),
        row("request-timeout", Some((duration::format_ms(timeout), settings.request_timeout.origin.clone()))),
    ]
}
