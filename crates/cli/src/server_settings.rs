//! Where the settings of `stint server` come from: flags, environment, file.
//!
//! Owns: which command line is a server's, which flags are settings. Does not own: how they are put together
//! (`stint_daemon::settings`), the settings of the way to a cluster (`settings`).

use clap::{ArgMatches, Args, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use stint_daemon::settings::{Error, Names, Resolved, Settings};

use crate::arguments::{Connection, Server};

/// What a server's settings are called beside its flags. The variables that others have too are those of the command line.
const NAMES: Names = Names {
    prefix: "STINT_SERVER_",
    also: &[("token-file", crate::settings::TOKEN_FILE_VARIABLE), ("log-level", "STINT_LOG")],
};

/// A command line that says all that its process is to know.
pub struct Completed {
    pub line: Vec<OsString>,
    /// What is to be said about it.
    pub warnings: Vec<String>,
}

/// All settings of a server: its own flags, and of those about clusters that of the token.
pub fn server_settings() -> Settings {
    let server = Server::augment_args(Command::new("server"));
    let connection = Connection::augment_args(Command::new("connection"));
    let token_file = connection.get_arguments().filter(|argument| argument.get_long() == Some("token-file"));
    let all: Vec<_> = server.get_arguments().chain(token_file).cloned().collect();
    Settings::new(NAMES, &all)
}

/// Completes the command line of a server, or of `config show server`, by what environment and file say. Any other one stays as
/// it is, and so does one that can't be understood: who reads it next says so.
pub fn complete(
    command: Command,
    line: Vec<OsString>,
    environment: &BTreeMap<String, OsString>,
) -> Result<Completed, Error> {
    let Some(resolved) = resolve(command, &line, environment) else {
        return Ok(Completed { line, warnings: Vec::new() });
    };
    let resolved = resolved?;
    let line = line.into_iter().chain(resolved.flags()).collect();
    Ok(Completed { line, warnings: resolved.warnings })
}

/// None: the command line is not about a server.
pub fn resolve(
    command: Command,
    line: &[OsString],
    environment: &BTreeMap<String, OsString>,
) -> Option<Result<Resolved, Error>> {
    let nothing_needed = |server: Command| server.mut_args(|argument| argument.required(false));
    let command = command.mut_subcommand("server", nothing_needed).mut_subcommand("config", |config| {
        config.mut_subcommand("show", |show| show.mut_subcommand("server", nothing_needed))
    });
    let matches = command.try_get_matches_from(line).ok()?;
    Some(server_settings().resolve(of_server(&matches)?, environment))
}

fn of_server(matches: &ArgMatches) -> Option<&ArgMatches> {
    match matches.subcommand()? {
        ("server", server) => Some(server),
        ("config", config) => config.subcommand_matches("show")?.subcommand_matches("server"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{self, Arguments};
    use clap::{CommandFactory, FromArgMatches};

    fn completed(line: &str, variables: &[(&str, &str)]) -> Result<Arguments, String> {
        let line = std::iter::once("stint").chain(line.split_whitespace()).map(OsString::from).collect();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let completed =
            complete(Arguments::command(), line, &variables).map_err(|error| error.to_string())?;
        let read = Arguments::command().try_get_matches_from(completed.line);
        let read = read.and_then(|read| Arguments::from_arg_matches(&read));
        read.map_err(|error| error.to_string())
    }

    fn server(line: &str, variables: &[(&str, &str)]) -> (Server, Connection) {
        let arguments = completed(line, variables).unwrap();
        match arguments.command {
            arguments::Command::Server(server) => (*server, arguments.connection),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_is_set_up_by_any_mixture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(
            &path,
            "name = 's1'\ndata-dir = '/d'\ninsecure = true\nended-pods-max = 5\nnode-lease = '20s'\ntoken-file = 'token'\n\
             placement = 'pack'\nlog-format = 'json'\n[initial-cluster]\ns1 = 'a:1'\ns2 = 'b:1'\n",
        )
        .unwrap();
        let line = format!("server --config {} --listen 127.0.0.1:1", path.display());
        let variables = [("STINT_SERVER_PLACEMENT", "spread"), ("STINT_SERVER", "elsewhere:1")];
        let (one, connection) = server(&line, &variables);
        assert_eq!((one.name.as_str(), one.listen.as_str(), one.insecure), ("s1", "127.0.0.1:1", true));
        assert_eq!(one.initial_cluster, ["s1=a:1", "s2=b:1"]);
        assert_eq!((one.ended_pods_max, one.node_lease.map(|lease| lease.as_secs())), (Some(5), Some(20)));
        assert_eq!(one.placement, Some(arguments::Placement::Spread));
        assert_eq!(one.process.log_format, stint_daemon::LogFormat::Json);
        assert_eq!(connection.token_file, Some(folder.path().join("token")));
        let (one, connection) = server(&format!("--token-file t {line} --insecure=false"), &variables);
        assert!(!one.insecure && connection.token_file == Some("t".into()));
        let (_, connection) = server(&line, &[("STINT_TOKEN_FILE", "/e")]);
        assert_eq!(connection.token_file, Some("/e".into()), "the environment goes before the file");
    }

    #[test]
    fn nothing_but_a_server_is_touched() {
        let variables =
            [("STINT_SERVER_NAME", "s1"), ("STINT_SERVER_DATA_DIR", "/d"), ("STINT_SERVER_LISTEN", "x")];
        assert!(completed("get jobs", &variables).is_ok());
        let arguments = completed("dev --listen 127.0.0.1:0", &variables).unwrap();
        assert!(matches!(&arguments.command, arguments::Command::Dev(dev) if dev.listen == "127.0.0.1:0"));
        let error = completed("server --nmae x", &variables).unwrap_err();
        assert!(error.contains("--nmae"), "{error}");
        let error = completed("server --name x", &[]).unwrap_err();
        assert!(error.contains("--data-dir <DIR>"), "{error}");
        let error = completed("server", &[("STINT_SERVER_ENDED_PODS_MAX", "some")]).unwrap_err();
        assert!(error.starts_with("STINT_SERVER_ENDED_PODS_MAX: invalid value"), "{error}");
    }

    #[test]
    fn every_flag_of_a_server_is_a_setting() {
        let command = Arguments::command();
        let flags =
            command.find_subcommand("server").unwrap().get_arguments().filter_map(clap::Arg::get_long);
        let mut flags: Vec<_> = flags.filter(|flag| !["config", "help", "version"].contains(flag)).collect();
        flags.push("token-file");
        let settings = server_settings();
        let keys: Vec<_> = settings.table().iter().map(|setting| setting.key.as_str()).collect();
        assert_eq!(flags, keys);
        assert!(keys.len() > 15, "{keys:?}");
    }
}
