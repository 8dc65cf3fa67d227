//! Where the agent's settings come from: flags, environment, file.
//!
//! Owns: which of them are asked for, `config show`. Does not own: how they are put together (`stint_daemon::settings`).

use clap::{Arg, ArgMatches, Command, CommandFactory, Parser};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use stint_daemon::settings::{self, Names, Resolved, Settings};

use crate::arguments::AgentArguments;

/// What the agent's settings are called beside its flags. The variables that others have too are those of `stint`.
const NAMES: Names = Names {
    prefix: "STINT_AGENT_",
    also: &[("server", "STINT_SERVER"), ("token-file", "STINT_TOKEN_FILE"), ("log-level", "STINT_LOG")],
};

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// An agent that is to run, and what is to be said about its settings.
    Run(Box<AgentArguments>, Vec<String>),
    /// Its settings, as text to print.
    Show(String),
}

/// Why a command line can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum CommandLineError {
    /// The flags. Help and version come this way too.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// The environment or the file.
    #[error(transparent)]
    Settings(#[from] settings::Error),
}

/// All settings of an agent.
pub fn agent_settings() -> Settings {
    Settings::new(NAMES, AgentArguments::command().get_arguments())
}

/// Reads a command line, with the environment and the file that belong to it.
///
/// # Errors
/// What can't be understood.
pub fn read_command_line(
    mut line: Vec<OsString>,
    environment: &BTreeMap<String, OsString>,
) -> Result<Asked, CommandLineError> {
    let matches = command().try_get_matches_from(&line)?;
    let shown = matches.subcommand_matches("config").and_then(|config| config.subcommand_matches("show"));
    if let Some(shown) = shown {
        let resolved = agent_settings().resolve(shown, environment)?;
        return Ok(Asked::Show(show(&resolved, shown)));
    }
    let resolved = agent_settings().resolve(&matches, environment)?;
    line.extend(resolved.flags());
    let arguments = AgentArguments::try_parse_from(line)?;
    Ok(Asked::Run(Box::new(arguments), resolved.warnings))
}

/// The command line before it is whole: what is needed may come from elsewhere.
fn command() -> Command {
    let flags = || AgentArguments::command().mut_args(|argument| argument.required(false));
    let output = Arg::new("output")
        .short('o')
        .long("output")
        .value_name("OUTPUT")
        .value_parser(["table", "json"])
        .default_value("table")
        .help("How to print");
    let show = flags().name("show").about("Show the settings, and where each value comes from").arg(output);
    let config = Command::new("config").about("Show the settings of this agent").subcommand_required(true);
    flags().args_conflicts_with_subcommands(true).subcommand(config.subcommand(show))
}

fn show(resolved: &Resolved, matches: &ArgMatches) -> String {
    match matches.get_one::<String>("output").map(String::as_str) {
        Some("json") => resolved.to_json(),
        _ => table(&resolved.rows()),
    }
}

/// Columns as wide as what is in them.
fn table(rows: &[[String; 3]]) -> String {
    let head = ["SETTING".to_owned(), "VALUE".to_owned(), "ORIGIN".to_owned()];
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for [setting, value, origin] in all() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{setting:first$}   {value:second$}   {origin}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FreeDiskMin;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<Asked, CommandLineError> {
        let line = std::iter::once("stint-agent").chain(line.split_whitespace()).map(OsString::from);
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        read_command_line(line.collect(), &variables)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn an_agent_is_set_up_by_any_mixture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(
            &path,
            "name = 'w1'\nserver = ['a:1', 'b:2']\ndata-dir = 'data'\nruntime = ['process']\nallow = ['root']\n\
             min-free-disk = 5\nlog-format = 'json'\n[label]\ndisk = 'ssd'\n[registry-mirror]\n\
             'docker.io' = '127.0.0.1:5000'\n",
        )
        .unwrap();
        let line = format!("--config {} --cpu 500m", path.display());
        let variables =
            [("STINT_AGENT_MAX_PODS", "7"), ("STINT_TOKEN_FILE", ""), ("STINT_AGENT_MXA_PODS", "8")];
        let Asked::Run(arguments, warnings) = read(&line, &variables).unwrap() else {
            panic!("it is to run")
        };
        assert!(warnings.len() == 1 && warnings[0].contains("STINT_AGENT_MAX_PODS"), "{warnings:?}");
        assert!(!arguments.stop_pods_on_exit);
        assert_eq!(arguments.process.log_format, stint_daemon::LogFormat::Json);
        let config = arguments.config().unwrap();
        assert_eq!((config.name.as_str(), config.capacity.pods, config.capacity.cpu_millis), ("w1", 7, 500));
        assert_eq!(config.servers, ["a:1", "b:2"]);
        assert_eq!(config.data_dir, folder.path().join("data"));
        assert_eq!(config.labels.get("disk").map(String::as_str), Some("ssd"));
        assert!(config.policy.allowed.root && config.registry_mirrors.len() == 1);
        assert_eq!(config.pressure.disk, FreeDiskMin::percent(5));
    }

    #[test]
    fn what_is_needed_is_named_and_what_is_wrong_too() {
        let error = read("--server a:1", &[]).unwrap_err().to_string();
        assert!(error.contains("--name <NAME>") && error.contains("--data-dir <DIR>"), "{error}");
        let error = read("", &[("STINT_AGENT_MAX_PODS", "many")]).unwrap_err().to_string();
        assert!(error.starts_with("STINT_AGENT_MAX_PODS: invalid value"), "{error}");
        assert!(read("config", &[]).is_err() && read("--nmae x", &[]).is_err());
        let given = "--name a --data-dir d --server a:1 --token-file /nowhere";
        let Asked::Run(arguments, _) = read(given, &[]).unwrap() else { panic!("it is to run") };
        assert!(arguments.config().unwrap_err().to_string().contains("--token-file"));
    }

    #[test]
    fn the_settings_are_shown_with_their_origin() {
        let variables = [("STINT_SERVER", "a:1"), ("STINT_AGENT_TOKEN_FILE", "/t")];
        let Asked::Show(text) = read("config show --name w1", &variables).unwrap() else { panic!("a table") };
        let row = |setting: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(setting)).unwrap();
            line.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(row("name"), ["name", "w1", "flag"]);
        assert_eq!(row("server"), ["server", "a:1", "STINT_SERVER"]);
        assert_eq!(row("token-file"), ["token-file", "/t", "STINT_AGENT_TOKEN_FILE"]);
        assert_eq!(row("max-pods"), ["max-pods", "110", "default"]);
        assert_eq!(row("stop-pods-on-exit"), ["stop-pods-on-exit", "false", "default"]);
        assert_eq!(row("cpu"), ["cpu", "<none>", "default"]);
        let Asked::Show(text) = read("config show -o json --name w1", &[]).unwrap() else { panic!("JSON") };
        assert!(
            text.starts_with("[\n")
                && text.contains("{\"setting\":\"name\",\"values\":[\"w1\"],\"origin\":\"flag\"}"),
            "{text}"
        );
    }

    #[test]
    fn every_flag_is_a_setting() {
        let command = AgentArguments::command();
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        let flags: Vec<_> = flags.filter(|flag| !["config", "help", "version"].contains(flag)).collect();
        let settings = agent_settings();
        let keys: Vec<_> = settings.table().iter().map(|setting| setting.key.as_str()).collect();
        assert_eq!(flags, keys);
        assert!(keys.len() > 20, "{keys:?}");
    }
}
