//! What a shell offers at the cursor: names that the cluster has now.
//!
//! Owns: reading the words before the cursor, asking for names. Does not own: commands and flags, which clap_complete knows
//! from clap's description, nor what shells do with it.
//!
//! Invariant: it answers within [`TIMEOUT`], with nothing if nobody else does, and says nothing of its own: a key that was
//! pressed must never print an error or wait for a cluster that is down.

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::time::Duration;
use stint_client::{Client, Scope};

use crate::arguments::{Arguments, Connection};
use crate::commands::{Context, target::Kind};
use crate::contexts::{self, Contexts};
use crate::settings::{NAMESPACE_DEFAULT, Settings};

/// How long a key may take.
const TIMEOUT: Duration = Duration::from_millis(300);
/// Names that are offered at most: nobody chooses among more.
const NAMES_MAX: usize = 1_000;
/// Objects of each kind that are looked at for their namespaces: what comes in time.
const NAMESPACED_MAX: usize = 5_000;
/// Set by the shell when it asks; its value is the shell's name.
pub const VARIABLE: &str = "STINT_COMPLETE";
/// The shells that are known.
pub const SHELLS: [&dyn EnvCompleter; 3] = [&Bash, &Zsh, &Fish];

/// Answers a shell that asks, and ends the process; otherwise does nothing.
pub fn answer_shell() {
    CompleteEnv::with_factory(command_at_cursor).var(VARIABLE).shells(Shells(&SHELLS)).complete();
}

/// What can be completed: flags only where one was begun, or where there is nothing else.
fn command_at_cursor() -> clap::Command {
    let command = Arguments::command();
    match word_at_cursor() {
        Some(word) if word.starts_with('-') => command,
        _ => without_flags(command),
    }
}

fn without_flags(command: clap::Command) -> clap::Command {
    let hidden = |argument: clap::Arg| if argument.is_positional() { argument } else { argument.hide(true) };
    let command = command.disable_help_flag(true).disable_version_flag(true).mut_args(hidden);
    command.mut_subcommands(without_flags)
}

/// The words that the shell has given behind `--`, and the place of the cursor among them.
fn words_and_cursor() -> Option<(Vec<String>, usize)> {
    let mut words: Vec<String> = std::env::args_os().map_while(|word| word.into_string().ok()).collect();
    words.drain(..=words.iter().position(|word| word == "--")?);
    // bash and zsh say where the cursor is; fish gives the words up to it.
    let cursor = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    let cursor = cursor.unwrap_or(words.len().saturating_sub(1)).min(words.len());
    Some((words, cursor))
}

fn word_at_cursor() -> Option<String> {
    let (words, cursor) = words_and_cursor()?;
    words.into_iter().nth(cursor)
}

/// Names of contexts.
pub fn contexts() -> Vec<CompletionCandidate> {
    known_contexts().contexts.into_keys().map(CompletionCandidate::new).collect()
}

fn known_contexts() -> Contexts {
    let file = contexts::file_path(|name| std::env::var_os(name));
    file.and_then(|file| contexts::read(&file).ok()).unwrap_or_default()
}

/// `jobs`, then names; or `job/NAME`.
pub fn kinds_and_names(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    let kinds = ["jobs", "pods", "configmaps", "nodes", "events"];
    let candidates = match (current.split_once('/'), words.positionals.first().map(|word| Kind::parse(word)))
    {
        (Some((kind, _)), _) => match Kind::parse(kind) {
            Ok(parsed) => prefixed(kind, words.names(parsed)),
            Err(_) => Vec::new(),
        },
        (None, Some(Ok(kind))) => words.names(kind),
        // KIND/NAME KIND/NAME …
        (None, Some(Err(_))) => Vec::new(),
        (None, None) => kinds.map(str::to_owned).to_vec(),
    };
    beginning_with(current, candidates)
}

/// Names of Pods, and `job/NAME`.
pub fn pods_and_jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    if !words.positionals.is_empty() {
        return Vec::new();
    }
    let candidates = match current.split_once('/') {
        Some((kind, _)) => match Kind::parse(kind) {
            Ok(parsed @ (Kind::Pods | Kind::Jobs)) => prefixed(kind, words.names(parsed)),
            _ => Vec::new(),
        },
        None => {
            let jobs = prefixed("job", words.names(Kind::Jobs));
            words.names(Kind::Pods).into_iter().chain(jobs).collect()
        }
    };
    beginning_with(current, candidates)
}

/// `job/NAME`.
pub fn jobs_with_kind(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    if !words.positionals.is_empty() {
        return Vec::new();
    }
    beginning_with(current, with_kind(current, &[("job", Kind::Jobs)], |kind| words.names(kind)))
}

/// `job/NAME`, and the name alone where one was begun.
pub fn jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    if !words.positionals.is_empty() {
        return Vec::new();
    }
    beginning_with(current, of_jobs_and(current, &[("job", Kind::Jobs)], |kind| words.names(kind)))
}

/// `job/NAME` and `pod/NAME`, and the name of a Job alone where one was begun.
pub fn jobs_and_pods(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    if !words.positionals.is_empty() {
        return Vec::new();
    }
    let kinds = [("job", Kind::Jobs), ("pod", Kind::Pods)];
    beginning_with(current, of_jobs_and(current, &kinds, |kind| words.names(kind)))
}

/// What events are about: `job/NAME`, `pod/NAME` and `node/NAME`.
pub fn subjects_of_events(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    let kinds = [("job", Kind::Jobs), ("pod", Kind::Pods), ("node", Kind::Nodes)];
    beginning_with(current, with_kind(current, &kinds, |kind| words.names(kind)))
}

/// Names of nodes.
pub fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    beginning_with(current, words.names(Kind::Nodes))
}

/// Names of Pods.
pub fn pods(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    beginning_with(current, words.names(Kind::Pods))
}

/// Names of namespaces that are in use: in which objects are, and those of contexts.
pub fn namespaces(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Some(words)) = (current.to_str(), Words::of_process()) else { return Vec::new() };
    let mut names = words.namespaces();
    names.extend(known_contexts().contexts.into_values().filter_map(|entry| entry.namespace));
    names.insert(NAMESPACE_DEFAULT.to_owned());
    beginning_with(current, names.into_iter().collect())
}

/// `KIND/NAME` of these kinds: of all where none was begun, of the one that was begun in whatever form it is written.
fn with_kind(current: &str, kinds: &[(&str, Kind)], names: impl Fn(Kind) -> Vec<String>) -> Vec<String> {
    match current.split_once('/') {
        Some((kind, _)) => match Kind::parse(kind) {
            Ok(parsed) if kinds.iter().any(|(_, one)| *one == parsed) => prefixed(kind, names(parsed)),
            _ => Vec::new(),
        },
        None => kinds.iter().flat_map(|(kind, parsed)| prefixed(kind, names(*parsed))).collect(),
    }
}

/// The same, and names of Jobs alone where one was begun: a shell that offers both to nothing offers everything twice.
fn of_jobs_and(current: &str, kinds: &[(&str, Kind)], names: impl Fn(Kind) -> Vec<String>) -> Vec<String> {
    let mut candidates = with_kind(current, kinds, &names);
    if !current.is_empty() && !current.contains('/') {
        candidates.extend(names(Kind::Jobs));
    }
    candidates
}

fn prefixed(kind: &str, names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| format!("{kind}/{name}")).collect()
}

fn beginning_with(current: &str, candidates: Vec<String>) -> Vec<CompletionCandidate> {
    let fitting = candidates.into_iter().filter(|name| name.starts_with(current));
    fitting.take(NAMES_MAX).map(CompletionCandidate::new).collect()
}

/// The words before the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    /// Values of flags, by their long names.
    flags: BTreeMap<String, String>,
    /// What is neither a command nor a flag.
    positionals: Vec<String>,
}

impl Words {
    /// As the shell has given them.
    fn of_process() -> Option<Words> {
        let (words, cursor) = words_and_cursor()?;
        Some(Words::of(words.get(1..cursor)?))
    }

    fn of(words: &[String]) -> Words {
        let root = Arguments::command();
        let mut command = &root;
        let mut read = Words::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if let Some(flag) = word.strip_prefix("--") {
                let (name, value) =
                    flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
                let known = command.get_arguments().chain(root.get_arguments());
                let takes_value = known.filter(|one| one.get_long() == Some(name)).any(takes_value);
                let value = value.map(str::to_owned).or_else(|| words.next_if_needed(takes_value));
                read.flags.extend(value.map(|value| (name.to_owned(), value)));
            } else if let Some(short) = word.strip_prefix('-').and_then(|flags| flags.chars().last()) {
                let mut known = command.get_arguments().chain(root.get_arguments());
                let Some(argument) = known.find(|one| one.get_short() == Some(short)) else {
                    continue;
                };
                let value = words.next_if_needed(takes_value(argument));
                read.flags.extend(argument.get_long().map(str::to_owned).zip(value));
            } else if let Some(subcommand) = command.find_subcommand(word) {
                command = subcommand;
            } else {
                read.positionals.push(word.clone());
            }
        }
        read
    }

    /// The cluster that they mean.
    fn connection(&self) -> Connection {
        let of = |name: &str| self.flags.get(name).cloned();
        Connection {
            server: of("server"),
            token_file: of("token-file").map(Into::into),
            request_timeout: None,
            namespace: of("namespace"),
            context: of("context"),
            color: Default::default(),
        }
    }

    /// Names of the objects of a kind; none if they don't come in time.
    fn names(&self, kind: Kind) -> Vec<String> {
        self.ask(async |context: Context| {
            let scope =
                Scope { namespace: context.namespace().to_owned(), items_max: NAMES_MAX, ..Scope::default() };
            names_of(&context.client, kind, &scope).await.ok()
        })
        .unwrap_or_default()
    }

    /// Namespaces of the first [`NAMESPACED_MAX`] Jobs, Pods and ConfigMaps each.
    fn namespaces(&self) -> BTreeSet<String> {
        self.ask(async |context: Context| {
            let scope = Scope { all_namespaces: true, items_max: NAMESPACED_MAX, ..Scope::default() };
            let client = &context.client;
            let (jobs, pods, maps) = tokio::join!(
                client.list_jobs(&scope),
                client.list_pods(&scope),
                client.list_config_maps(&scope)
            );
            let jobs = jobs.ok()?.items.into_iter().map(|one| one.metadata.namespace);
            let pods = pods.ok()?.items.into_iter().map(|one| one.metadata.namespace);
            let maps = maps.ok()?.items.into_iter().map(|one| one.metadata.namespace);
            Some(jobs.chain(pods).chain(maps).collect())
        })
        .unwrap_or_default()
    }

    /// What the cluster answers; None if that does not come in time.
    fn ask<T>(&self, question: impl AsyncFnOnce(Context) -> Option<T>) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let mut settings = Settings::of(&self.connection()).ok()?;
        settings.request_timeout.value = TIMEOUT;
        let answer = runtime.block_on(async {
            let context = Context::new(&settings).ok()?;
            tokio::time::timeout(TIMEOUT, question(context)).await.ok()?
        });
        // What is still on its way is not waited for.
        runtime.shutdown_background();
        answer
    }
}

/// Names of the objects of a kind, in order.
pub async fn names_of(
    client: &Client,
    kind: Kind,
    scope: &Scope,
) -> Result<Vec<String>, stint_client::Error> {
    let mut names: Vec<String> = match kind {
        Kind::Jobs => client.list_jobs(scope).await?.items.into_iter().map(|one| one.metadata.name).collect(),
        Kind::Pods => client.list_pods(scope).await?.items.into_iter().map(|one| one.metadata.name).collect(),
        Kind::ConfigMaps => {
            client.list_config_maps(scope).await?.items.into_iter().map(|one| one.metadata.name).collect()
        }
        Kind::Nodes => {
            client.list_nodes(scope).await?.items.into_iter().map(|one| one.metadata.name).collect()
        }
        Kind::Events => Vec::new(),
    };
    names.sort();
    Ok(names)
}

fn takes_value(argument: &clap::Arg) -> bool {
    argument.get_action().takes_values()
}

/// The next word, if the flag before it needs one.
trait NextIfNeeded {
    fn next_if_needed(&mut self, is_needed: bool) -> Option<String>;
}

impl<'a, I: Iterator<Item = &'a String>> NextIfNeeded for I {
    fn next_if_needed(&mut self, is_needed: bool) -> Option<String> {
        is_needed.then(|| self.next().cloned()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> (String, String) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let words = Words::of(&words);
        let flags: Vec<String> = words.flags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (words.positionals.join(" "), flags.join(" "))
    }

    #[test]
    fn the_words_before_the_cursor_are_told_apart() {
        for (line, positionals, flags) in [
            ("get", "", ""),
            ("get jobs", "jobs", ""),
            ("get jobs a -o wide b", "jobs a b", "output=wide"),
            ("-n team get --server=h:1 pods", "pods", "namespace=team server=h:1"),
            ("get -w pods", "pods", ""),
            ("get -Aw pods", "pods", ""),
            ("logs -fc main", "", "container=main"),
            ("describe --context prod node", "node", "context=prod"),
            ("context use", "", ""),
            ("exec p -- get", "p", ""),
            ("get --unknown pods", "pods", ""),
            ("logs -", "-", ""),
        ] {
            assert_eq!(of(line), (positionals.to_owned(), flags.to_owned()), "{line}");
        }
    }

    #[test]
    fn flags_are_hidden_all_the_way_down() {
        let command = without_flags(Arguments::command());
        command.clone().debug_assert();
        let mut left = vec![&command];
        while let Some(one) = left.pop() {
            let shown: Vec<_> =
                one.get_arguments().filter(|one| !one.is_positional() && !one.is_hide_set()).collect();
            assert!(shown.is_empty(), "{}: {shown:?}", one.get_name());
            left.extend(one.get_subcommands());
        }
    }

    #[test]
    fn kinds_are_offered_where_they_are_taken() {
        let names = |kind| match kind {
            Kind::Jobs => vec!["train".to_owned(), "import".to_owned()],
            Kind::Pods => vec!["train-0".to_owned()],
            _ => Vec::new(),
        };
        let kinds = [("job", Kind::Jobs), ("pod", Kind::Pods)];
        for (current, expected) in [
            ("", "job/train job/import pod/train-0"),
            ("t", "job/train job/import pod/train-0 train import"),
            ("jobs/", "jobs/train jobs/import"),
            ("po/t", "po/train-0"),
            ("node/", ""),
            ("x/", ""),
        ] {
            assert_eq!(of_jobs_and(current, &kinds, names).join(" "), expected, "{current}");
        }
        assert_eq!(with_kind("t", &kinds[1..], names), ["pod/train-0"]);
    }

    #[test]
    fn what_was_begun_is_gone_on_with() {
        let names = ["train", "trial", "import"].map(str::to_owned).to_vec();
        let fitting = beginning_with("tr", names.clone());
        let values: Vec<_> = fitting.iter().map(|one| one.get_value().to_str().unwrap()).collect();
        assert_eq!(values, ["train", "trial"]);
        assert_eq!(prefixed("job", names)[2], "job/import");
        assert_eq!(beginning_with("", vec!["x".to_owned(); 3 * NAMES_MAX]).len(), NAMES_MAX);
    }
}
