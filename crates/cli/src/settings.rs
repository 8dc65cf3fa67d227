//! What the command line uses of all that flags, environment and contexts say, and where each value comes from.
//!
//! Owns: the order: a flag goes before the environment, that before the context, that before the default; which servers a
//! context's token is for. Does not own: the file of contexts (`contexts`).
//!
//! Invariant: the token of a context goes to the servers of that context alone. Whoever names another server gives its token
//! with it: else a mistyped address, or a variable that somebody else has set, would tell the token to a stranger.

use anyhow::{Context as _, Result, anyhow};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use stint_daemon::settings::beside;

use crate::arguments::{Connection, request_timeout};
use crate::contexts::{self, ContextEntry, Contexts};

/// Where the servers are if nobody says.
pub const SERVER_DEFAULT: &str = "127.0.0.1:7440";
/// The namespace that is meant if nobody says.
pub const NAMESPACE_DEFAULT: &str = "default";
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);

/// The environment variables that stand for flags.
pub const SERVER_VARIABLE: &str = "STINT_SERVER";
pub const TOKEN_FILE_VARIABLE: &str = "STINT_TOKEN_FILE";
pub const NAMESPACE_VARIABLE: &str = "STINT_NAMESPACE";
pub const CONTEXT_VARIABLE: &str = "STINT_CONTEXT";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of this command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
    /// The context of this name.
    Context(String),
    /// The file of contexts itself.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Variable(name) => formatter.write_str(name),
            Origin::Context(name) => write!(formatter, "context {name}"),
            Origin::File => formatter.write_str("configuration"),
            Origin::Default => formatter.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T> {
    pub value: T,
    pub origin: Origin,
}

/// A token that is kept back: it belongs to other servers than those that are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Whose token it is.
    pub context: String,
    /// The server that is none of this context's.
    pub address: String,
}

impl fmt::Display for Withheld {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Withheld { context, address } = self;
        write!(formatter, "the token of context {context} is not sent, as {address} is none of its servers")
    }
}

/// All settings of the way to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file of contexts, whether it is there or not; None without a home.
    pub file: Option<Given<PathBuf>>,
    /// The context that is used.
    pub context: Option<Given<String>>,
    pub server: Given<String>,
    pub token_file: Option<Given<PathBuf>>,
    /// The token of the context, where it is not sent.
    pub withheld: Option<Withheld>,
    pub namespace: Given<String>,
    pub request_timeout: Given<Duration>,
}

impl Settings {
    /// Of this command line, in this process's environment.
    pub fn of(connection: &Connection) -> Result<Settings> {
        let variable = |name: &str| std::env::var_os(name);
        let file = contexts::file_path(variable);
        let contexts = file.as_deref().map(contexts::read).transpose()?.unwrap_or_default();
        Settings::resolve(connection, variable, file, &contexts)
    }

    fn resolve(
        connection: &Connection,
        variable: impl Fn(&str) -> Option<OsString>,
        file: Option<PathBuf>,
        contexts: &Contexts,
    ) -> Result<Settings> {
        let file_name = file.clone().unwrap_or_default();
        let file_origin = match variable(contexts::FILE_VARIABLE).is_some_and(|value| !value.is_empty()) {
            true => Origin::Variable(contexts::FILE_VARIABLE),
            false => Origin::Default,
        };
        let context = first([
            given(connection.context.clone(), Origin::Flag("--context")),
            text(&variable, CONTEXT_VARIABLE)?,
            given(contexts.current.clone(), Origin::File),
        ]);
        let entry = match &context {
            Some(context) => contexts.get(&context.value, &file_name)?.clone(),
            None => ContextEntry::default(),
        };
        let of_context =
            || Origin::Context(context.as_ref().map(|one| one.value.clone()).unwrap_or_default());
        let server_given = first([
            given(connection.server.clone(), Origin::Flag("--server")),
            text(&variable, SERVER_VARIABLE)?,
        ]);
        let of_entry = entry.server.as_deref().unwrap_or(SERVER_DEFAULT);
        let stranger = server_given.as_ref().and_then(|given| stranger_among(&given.value, of_entry));
        let server = first([server_given, given(entry.server, of_context())]);
        let (token_file, withheld) = match (token_file_given(connection, &variable), entry.token_file) {
            (Some(file), _) => (Some(file), None),
            (None, Some(_)) if stranger.is_some() => {
                let context = context.as_ref().map(|one| one.value.clone()).unwrap_or_default();
                (None, stranger.map(|address| Withheld { context, address }))
            }
            (None, of_entry) => (given(of_entry.map(|path| beside(&file_name, path)), of_context()), None),
        };
        let namespace = first([
            // An empty one is none, as scripts give it.
            given(connection.namespace.clone().filter(|name| !name.is_empty()), Origin::Flag("--namespace")),
            text(&variable, NAMESPACE_VARIABLE)?,
            given(entry.namespace, of_context()),
        ]);
        let of_entry = entry.request_timeout.map(|text| request_timeout(&text)).transpose();
        let of_entry = of_entry.map_err(|problem| anyhow!("{}: request-timeout: {problem}", of_context()))?;
        let request_timeout = first([
            given(connection.request_timeout, Origin::Flag("--request-timeout")),
            given(of_entry, of_context()),
        ]);
        Ok(Settings {
            file: file.map(|value| Given { value, origin: file_origin }),
            context,
            server: server.unwrap_or_else(|| default(SERVER_DEFAULT.to_owned())),
            token_file,
            withheld,
            namespace: namespace.unwrap_or_else(|| default(NAMESPACE_DEFAULT.to_owned())),
            request_timeout: request_timeout.unwrap_or_else(|| default(REQUEST_TIMEOUT_DEFAULT)),
        })
    }
}

/// The token file of a flag or of the environment, for those that have no contexts.
pub fn token_file_given(
    connection: &Connection,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<Given<PathBuf>> {
    let of_environment = variable(TOKEN_FILE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    first([
        given(connection.token_file.clone(), Origin::Flag("--token-file")),
        given(of_environment, Origin::Variable(TOKEN_FILE_VARIABLE)),
    ])
}

/// The first of these addresses that is none of the others; both are lists as `--server` takes them.
fn stranger_among(addresses: &str, known: &str) -> Option<String> {
    // As the client reads them. Other spellings of a host are other hosts: nobody is asked for its address here.
    let plain = |text: &str| text.trim().trim_start_matches("http://").to_ascii_lowercase();
    let known: Vec<String> = known.split(',').map(plain).collect();
    addresses
        .split(',')
        .map(str::trim)
        .find(|one| !one.is_empty() && !known.contains(&plain(one)))
        .map(str::to_owned)
}

fn given<T>(value: Option<T>, origin: Origin) -> Option<Given<T>> {
    value.map(|value| Given { value, origin })
}

fn default<T>(value: T) -> Given<T> {
    Given { value, origin: Origin::Default }
}

fn first<T, const COUNT: usize>(in_order: [Option<Given<T>>; COUNT]) -> Option<Given<T>> {
    in_order.into_iter().flatten().next()
}

/// A variable that is set and not empty.
fn text(variable: impl Fn(&str) -> Option<OsString>, name: &'static str) -> Result<Option<Given<String>>> {
    let Some(value) = variable(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = value.into_string().ok().with_context(|| format!("{name} is not text: it must be UTF-8"))?;
    Ok(Some(Given { value, origin: Origin::Variable(name) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    fn resolve(line: &str, variables: &[(&str, &str)], contexts: &Contexts) -> Result<Settings> {
        let arguments = Arguments::parse_from(line.split_whitespace());
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        Settings::resolve(&arguments.connection, variable, Some("/c/config.toml".into()), contexts)
    }

    fn contexts() -> Contexts {
        let entry = ContextEntry {
            server: Some("prod:7440".to_owned()),
            token_file: Some("token".into()),
            namespace: Some("team".to_owned()),
            request_timeout: Some("1m".to_owned()),
        };
        let other = ContextEntry { server: Some("other:7440".to_owned()), ..ContextEntry::default() };
        Contexts {
            current: Some("prod".to_owned()),
            contexts: [("prod".to_owned(), entry), ("other".to_owned(), other)].into(),
        }
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_context() {
        let contexts = contexts();
        let of = |line: &str, variables: &[(&str, &str)]| resolve(line, variables, &contexts).unwrap();
        let from_context = of("stint get jobs", &[("STINT_SERVER", "")]);
        let prod = Origin::Context("prod".to_owned());
        let expected = Given { value: "prod:7440".to_owned(), origin: prod.clone() };
        assert_eq!(from_context.server, expected);
        let token = Given { value: PathBuf::from("/c/token"), origin: prod.clone() };
        assert_eq!(from_context.token_file, Some(token));
        assert_eq!(from_context.namespace, Given { value: "team".to_owned(), origin: prod.clone() });
        assert_eq!(from_context.request_timeout, Given { value: Duration::from_secs(60), origin: prod });
        let variables = [("STINT_SERVER", "e:1"), ("STINT_NAMESPACE", "n"), ("STINT_TOKEN_FILE", "t")];
        let from_environment = of("stint get jobs", &variables);
        assert_eq!(from_environment.server.origin, Origin::Variable("STINT_SERVER"));
        assert_eq!(from_environment.namespace.value, "n");
        assert_eq!(from_environment.token_file.unwrap().value, PathBuf::from("t"));
        let line = "stint get jobs --server f:1 -n x --token-file y --request-timeout 1s";
        let from_flags = of(line, &variables);
        assert_eq!(from_flags.server, Given { value: "f:1".to_owned(), origin: Origin::Flag("--server") });
        assert_eq!(
            (from_flags.namespace.value.as_str(), from_flags.request_timeout.value.as_secs()),
            ("x", 1)
        );
        assert_eq!(from_flags.token_file.unwrap().origin, Origin::Flag("--token-file"));
        let other = of("stint --context other get jobs", &[("STINT_CONTEXT", "prod")]);
        assert_eq!((other.server.value.as_str(), other.namespace.origin), ("other:7440", Origin::Default));
        let chosen = of("stint get jobs", &[("STINT_CONTEXT", "other")]);
        assert_eq!(chosen.context.unwrap().origin, Origin::Variable("STINT_CONTEXT"));
        let none = resolve("stint get jobs --namespace=", &[], &Contexts::default()).unwrap();
        assert_eq!(none.server, Given { value: SERVER_DEFAULT.to_owned(), origin: Origin::Default });
    }

    #[test]
    fn a_token_goes_to_the_servers_of_its_context_alone() {
        let mut contexts = contexts();
        let servers = "prod:7440, S2:7440,http://s3:7440".to_owned();
        contexts.contexts.get_mut("prod").unwrap().server = Some(servers);
        let local = ContextEntry { token_file: Some("t".into()), ..ContextEntry::default() };
        contexts.contexts.insert("local".to_owned(), local);
        let prod = |address: &str| Some(Withheld { context: "prod".to_owned(), address: address.to_owned() });
        for (line, variable, sent, withheld) in [
            ("stint get jobs", "", true, None),
            ("stint get jobs --server s2:7440", "", true, None),
            ("stint get jobs --server S3:7440,,prod:7440", "", true, None),
            ("stint get jobs --server prod:7441", "", false, prod("prod:7441")),
            ("stint get jobs --server prod:7440,evil:1", "", false, prod("evil:1")),
            ("stint get jobs", "other:7440", false, prod("other:7440")),
            ("stint get jobs --server s2:7440", "other:7440", true, None),
            ("stint get jobs --server prod:7441 --token-file t", "", true, None),
            // It has no token that could be sent.
            ("stint --context other get jobs --server x:1", "", false, None),
            // A context without servers is one of this machine.
            ("stint --context local get jobs", "", true, None),
            ("stint --context local get jobs --server 127.0.0.1:7440", "", true, None),
        ] {
            let settings = resolve(line, &[("STINT_SERVER", variable)], &contexts).unwrap();
            assert_eq!(
                (settings.token_file.is_some(), settings.withheld),
                (sent, withheld),
                "{line} {variable}"
            );
        }
        let line = "stint get jobs --server evil:1";
        let of_variable = resolve(line, &[("STINT_TOKEN_FILE", "t")], &contexts).unwrap();
        assert_eq!(of_variable.token_file.unwrap().value, PathBuf::from("t"), "asked for in so many words");
        assert_eq!(
            prod("evil:1").unwrap().to_string(),
            "the token of context prod is not sent, as evil:1 is none of its servers"
        );
    }

    #[test]
    fn contexts_that_are_not_there_are_named() {
        for (line, contexts, expected) in [
            (
                "stint --context prd get jobs",
                contexts(),
                "there is no context \"prd\" in /c/config.toml: stint context list shows all; did you mean prod?",
            ),
            ("stint --context x get jobs", Contexts::default(), "stint context add makes one"),
            (
                "stint get jobs",
                Contexts { current: Some("gone".to_owned()), ..contexts() },
                "stint context list shows all",
            ),
        ] {
            let error = resolve(line, &[], &contexts).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let mut wrong = contexts();
        wrong.contexts.entry("prod".to_owned()).or_default().request_timeout = Some("soon".to_owned());
        let error = format!("{:#}", resolve("stint get jobs", &[], &wrong).unwrap_err());
        assert!(error.contains("context prod: request-timeout") && error.contains("soon"), "{error}");
        wrong.contexts.entry("prod".to_owned()).or_default().request_timeout = Some("0s".to_owned());
        let error = format!("{:#}", resolve("stint get jobs", &[], &wrong).unwrap_err());
        assert!(error.contains("10ms or longer"), "{error}");
    }
}
