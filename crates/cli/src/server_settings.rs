//! Where the settings of `stint server` come from: flags, environment, file.
//!
//! Owns: which command line is a server's, which flags are settings. Does not own: how they are put together
//! (`stint_daemon::settings`), the settings of the way to a cluster (`settings`).

use clap::{ArgMatches, Args, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use stint_daemon::settings::{Error, Names, Resolved, Settings};

use crate::arguments::{Connection, Server, StatusFormat};

/// What a server's settings are called beside its flags. The variables that others have too are those of the command line.
const NAMES: Names = Names {
    prefix: "STINT_SERVER_",
    also: &[("token-file", crate::settings::TOKEN_FILE_VARIABLE), ("log-level", "STINT_LOG")],
};

/// What a command line comes to.
pub enum Completed {
    /// One that says all that its process is to know, and what is to be said about that.
    Line(Vec<OsString>, Vec<String>),
    /// `config show server`, of whatever there is: what a server needs may be missing.
    Shown(Resolved, StatusFormat),
}

/// All settings of a server: its own flags, and of those about clusters that of the token.
pub fn server_settings() -> Settings {
    let server = Server::augment_args(Command::new("server"));
    let connection = Connection::augment_args(Command::new("connection"));
    let token_file = connection.get_arguments().filter(|argument| argument.get_long() == Some("token-file"));
    // A server has no contexts.
    let token_file = token_file.cloned().map(|argument| argument.help("File that holds the cluster's token"));
    let all: Vec<_> = server.get_arguments().cloned().chain(token_file).collect();
    Settings::new(NAMES, &all)
}

/// Completes the command line of a server by what environment and file say, and puts together what `config show server` shows. Any
/// other one stays as it is, and so does one that can't be understood: who reads it next says so.
pub fn complete(
    command: Command,
    line: Vec<OsString>,
    environment: &BTreeMap<String, OsString>,
) -> Result<Completed, Error> {
    let nothing_needed = |server: Command| server.mut_args(|argument| argument.required(false));
    let command = command.mut_subcommand("server", nothing_needed).mut_subcommand("config", |config| {
        config.mut_subcommand("show", |show| show.mut_subcommand("server", nothing_needed))
    });
    let Ok(matches) = command.try_get_matches_from(&line) else {
        return Ok(Completed::Line(line, Vec::new()));
    };
    if let Some(shown) = shown_server(&matches) {
        let format = shown.get_one("output").copied().unwrap_or(StatusFormat::Table);
        return Ok(Completed::Shown(server_settings().resolve(shown, environment)?, format));
    }
    let Some(server) = matches.subcommand_matches("server") else {
        return Ok(Completed::Line(line, Vec::new()));
    };
    let resolved = server_settings().resolve(server, environment)?;
    let line = line.into_iter().chain(resolved.flags()).collect();
    Ok(Completed::Line(line, resolved.warnings))
}

fn shown_server(matches: &ArgMatches) -> Option<&ArgMatches> {
    matches.subcommand_matches("config")?.subcommand_matches("show")?.subcommand_matches("server")
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
        let Completed::Line(line, _) = completed else { panic!("it is shown") };
        let read = Arguments::command().try_get_matches_from(line);
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
    fn what_a_server_would_have_is_shown_also_if_it_is_not_enough() {
        let variables = BTreeMap::from([("STINT_SERVER_NAME".to_owned(), OsString::from("s1"))]);
        for (line, expected) in [
            ("stint config show server --listen 127.0.0.1:1", StatusFormat::Table),
            ("stint config show server --listen 127.0.0.1:1 -o json", StatusFormat::Json),
            ("stint config show -o json server --listen 127.0.0.1:1", StatusFormat::Json),
        ] {
            let words = line.split_whitespace().map(OsString::from).collect();
            let completed = complete(Arguments::command(), words, &variables).unwrap();
            let Completed::Shown(resolved, format) = completed else { panic!("{line} is shown") };
            assert_eq!(format, expected, "{line}");
            let rows = resolved.rows();
            let row = |setting: &str| rows.iter().find(|row| row[0] == setting).unwrap().clone();
            assert_eq!(row("name"), ["name", "s1", "STINT_SERVER_NAME"]);
            assert_eq!(row("listen"), ["listen", "127.0.0.1:1", "flag"]);
            assert_eq!(row("data-dir"), ["data-dir", "<none>", "default"]);
        }
        let line = ["stint", "config", "show", "-o", "json"].map(OsString::from).into();
        assert!(matches!(complete(Arguments::command(), line, &variables), Ok(Completed::Line(..))));
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
