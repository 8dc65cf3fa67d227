//! The command line as clap reads it.
//!
//! Owns: names, defaults and help of all arguments. Does not own: what they do.

mod client;
mod cluster;
mod insight;
mod objects;
mod pods;
mod processes;
#[cfg(test)]
mod records;
mod run;
mod server;
mod snapshot;

pub use client::{Completion, Config, Context, Man, Shell};
pub use cluster::{Cluster, Drain, Member, NamedMember, NodeArgument, Status, StatusFormat};
pub use insight::{Events, Explain, History, TextFormat, Top, TopArguments, Tree};
pub use objects::{
    Cascade, Create, CreateConfigMap, CreateObject, Delete, Describe, Format, Get, Manifest, Wait, WaitState,
};
pub use pods::{Attach, Copy, Exec, Logs, PortForward, Tail};
pub use processes::Dev;
pub use run::{NewJob, Run};
pub use server::{Placement, SOURCES, Server};
pub use snapshot::{Snapshot, SnapshotInspect, SnapshotRestore, SnapshotSave};

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use std::path::PathBuf;
use std::time::Duration;

use crate::{color, complete};

/// Shown at the end of the help.
const EXIT_CODES: &str = "\
Data goes to stdout, everything else to stderr.

Exit codes:
  0    done; of run: the Job is complete; of exec and attach: the exit code of the command or container
  126  of exec: the command can't be executed
  127  of exec: there is no such command
  1    failed; of run: the Job has failed; of wait: it did not come, or can't come any more
  2    the command line can't be understood
  124  of run: the Job has taken longer than its deadline
  129, 130, 143  of run, exec, attach, top, snapshot save: ended by SIGHUP, SIGINT (Ctrl-C) or SIGTERM; the Job of run runs
       on unless it was cancelled
  141  nobody reads the output any more";

/// What a request may take at least. 0 is not "as long as it takes", as elsewhere: nothing waits for ever.
const REQUEST_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Runs Jobs to completion on a cluster of machines.
#[derive(Debug, Parser)]
#[command(
    name = "stint",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
pub struct Arguments {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the cluster, and which part of it is meant. What is not given comes from the environment, from the context, or
/// is the default (`settings`).
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Connection {
    /// Addresses of some or all servers, as HOST:PORT, separated by commas [env: STINT_SERVER] [default: the context's, else
    /// 127.0.0.1:7440]
    #[arg(long, global = true, value_name = "ADDRESSES")]
    pub server: Option<String>,
    /// File that holds the cluster's token [env: STINT_TOKEN_FILE] [default: the context's]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long a request may take with all its attempts [default: the context's, else 15s]
    #[arg(long, global = true, value_parser = request_timeout, value_name = "DURATION")]
    pub request_timeout: Option<Duration>,
    /// Namespace [env: STINT_NAMESPACE] [default: the context's, else default]
    #[arg(short, long, global = true, value_name = "NAMESPACE", add = ArgValueCompleter::new(complete::namespaces))]
    pub namespace: Option<String>,
    /// The context that is used [env: STINT_CONTEXT] [default: see stint context use]
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
    pub context: Option<String>,
    /// Whether there are colours
    #[arg(long, global = true, value_enum, default_value_t = color::When::Auto, value_name = "WHEN")]
    pub color: color::When,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create Jobs and ConfigMaps, or change the ones that exist, from manifests
    Apply(Manifest),
    /// Create Jobs and ConfigMaps from manifests, or a ConfigMap from files and texts
    Create(Create),
    /// Show jobs, pods, configmaps, nodes or events
    Get(Get),
    /// Show nodes, jobs or pods with all that belongs to them: conditions, attempts, events
    Describe(Describe),
    /// Show what a Pod wrote
    Logs(Logs),
    /// Execute a command in a container that runs, and end with its exit code
    ///
    /// With -t Ctrl-C goes to the command; without, it ends both.
    Exec(Exec),
    /// Show what a container writes from now on, and end with its exit code
    ///
    /// With -i what is typed goes to the container, and with -it so does Ctrl-C; its template must say stdin: true, and
    /// tty: true. Whoever goes, the container goes on, unless its template says stdinOnce: true.
    Attach(Attach),
    /// Copy files and folders to and from containers, in which tar must be installed
    ///
    /// A place in a container is POD:PATH, job/NAME:PATH or NAMESPACE/POD:PATH; FOLDER/. means what is in the folder; - is stdin
    /// or stdout, for the bytes of one file.
    Cp(Copy),
    /// Connect ports of this machine with ports of a Pod, until interrupted
    PortForward(PortForward),
    /// Show live what goes on, full screen; or what pods or nodes use of CPU and memory now
    ///
    /// Keys of the screen: j, p and n or Tab for jobs, pods and nodes; s for the next order, r to turn it; arrows, Page Up and
    /// Page Down to move; Space to hold the picture; Ctrl-Z to go back to the shell until it says fg; q or Ctrl-C to end.
    Top(TopArguments),
    /// Say why a Job or a Pod does not run, or what of it runs
    Explain(Explain),
    /// Show the Pods of a Job by index and attempt, with their ends
    Tree(Tree),
    /// Tell everything that was decided about a Job, in order
    ///
    /// Kept are the last hundred decisions that no Pod tells of, and the lives of the first thousand Pods. A history goes with its
    /// Job.
    History(History),
    /// Show events, or watch them
    Events(Events),
    /// Wait until a Job is complete, failed, finished or deleted
    Wait(Wait),
    /// Delete jobs, pods, configmaps or nodes
    Delete(Delete),
    /// Submit a Job, show its progress and what its Pods write, and end as it ends
    ///
    /// The Job is that of a manifest, or of the flags and the command behind --. The exit code is 0 if it is complete, 1 if it
    /// has failed (whatever the exit codes of its containers), 124 if it has taken longer than its deadline.
    ///
    /// On a terminal Ctrl-C asks whether to cancel the Job, to leave it running, or to go on; a second one leaves it. Elsewhere
    /// the first one does. The exit code is 130 then.
    Run(Box<Run>),
    /// Show the servers of the cluster
    Status(Status),
    /// Show or change which servers belong to the cluster
    #[command(subcommand)]
    Member(Member),
    /// Show or change settings of the whole cluster
    #[command(subcommand)]
    Cluster(Cluster),
    /// Back the whole cluster up, and make a new one of what was backed up
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Bind no new Pods to a node
    Cordon(NodeArgument),
    /// Let Pods be bound to a node again
    Uncordon(NodeArgument),
    /// Cordon a node, stop its Pods and wait until they have ended
    Drain(Drain),
    /// Run a server of the control plane
    #[command(after_help = SOURCES)]
    Server(Box<Server>),
    /// Name clusters, and choose the one that is used
    #[command(subcommand)]
    Context(Context),
    /// Show the settings of the command line, or of a server
    #[command(subcommand)]
    Config(Config),
    /// Print what makes a shell complete commands, options and the names that the cluster has now
    Completion(Completion),
    /// Print a manual page, or write all of them
    Man(Man),
    /// Run a server and an agent in one process, on loopback
    ///
    /// All data stays in one folder. Ctrl-C ends it and the Pods that run; they are run again at the next start. A second
    /// Ctrl-C does not wait for anything.
    Dev(Box<Dev>),
}

/// A duration in Go's form, such as 1m30s or 500ms.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    stint_api::duration::parse(text).map_err(|error| error.to_string())
}

/// The same, of at least [`REQUEST_TIMEOUT_MIN`].
pub fn request_timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < REQUEST_TIMEOUT_MIN => {
            Err("write 10ms or longer: within less nothing comes over a network".to_owned())
        }
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    fn parsed(line: &str) -> Result<Command, String> {
        let words = std::iter::once("stint").chain(line.split_whitespace());
        Arguments::try_parse_from(words).map(|one| one.command).map_err(|error| error.to_string())
    }

    #[test]
    fn what_users_of_kubectl_type_is_understood() {
        for line in [
            "get po",
            "-n team get jobs",
            "get jobs -n team -o wide",
            "get job/a pod/b",
            "get jobs,pods -A",
            "member remove s3",
            "member remove --id 5",
            "member replace s3 --peer-address a:1",
            "member replace --id 5",
            "cluster show",
            "cluster set default-runtime=oci placement=pack",
            "get events --for pod/a",
            "describe node w1",
            "describe pod/a job/b",
            "describe no",
            "wait job/a --for=condition=Complete --timeout=60s",
            "wait --for=condition=failed job/a",
            "logs -f job/a --tail=-1",
            "logs p --tail 5 --since=1m30s",
            "delete -f a.yaml -f b.yaml",
            "delete job a b --ignore-not-found --cascade=orphan",
            "drain w1",
            "drain node/w1 --timeout=90s",
            "drain w1 --no-wait",
            "exec p -- ls -l",
            "exec -it job/a -c main -- sh",
            "exec -i p -- cat -- -",
            "cp a/b p:/c",
            "cp job/a:x - -c main",
            "port-forward p 80 8080:80 :80",
            "top po -A -l a=b",
            "top nodes w1",
            "top",
            "top --interval 1s",
            "top -n team pods",
            "explain a",
            "explain pod/a -o json",
            "tree job/a --all",
            "history job/a -o json",
            "events -w --for job/a",
            "events -A -o wide",
            "attach job/a",
            "run -f x.yaml --detach",
            "run --name x -c 10 -p 4 --index -e A=1 -e HOME --cpu 500m --memory 1Gi -- python3 -c 'x' -f",
            "run --retries 0 --deadline 1h --ttl 0 --node-selector a=b,c=d -l x=y --image perl --runtime oci -- true",
            "run -q --no-logs --dry-run -- true",
            "context add prod --server a:1 --token-file t -n team",
            "context ls",
            "--context prod --color never get jobs",
            "config show -o json",
            "snapshot save b --force",
            "snapshot save b --stale",
            "snapshot inspect b -o json",
            "snapshot restore b --data-dir d --name s1 --raise 2",
            "completion zsh",
            "man context add",
        ] {
            assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, expected) in [
            ("get", "KIND"),
            ("get jobs -o xml", "xml"),
            ("logs p --tail=-2", "-1 for all"),
            ("logs p --tail=many", "many"),
            ("logs p --since=yesterday", "yesterday"),
            ("wait job/a", "--for"),
            ("wait job/a --for=ready", "ready"),
            ("delete", "KIND"),
            ("delete job a -f x.yaml", "--filename"),
            ("apply", "--filename"),
            ("server --name a", "--data-dir"),
            ("server --name a --data-dir d --node-lease ten", "ten"),
            ("server --name a --data-dir d --placement best", "best"),
            ("server --name a --data-dir d --snapshot-entries 0", "--snapshot-entries"),
            ("server --name a --data-dir d --log-entries-kept some", "some"),
            ("member add", "NAME=HOST:PORT"),
            ("member remove", "--id"),
            ("member remove s3 --id 5", "cannot be used with"),
            ("member remove --id five", "five"),
            ("member replace --peer-address a:1", "--id"),
            ("member replace s3 --id 5", "cannot be used with"),
            ("snapshot save", "FILE"),
            ("snapshot restore b --name s1", "--data-dir"),
            ("snapshot restore b --data-dir d", "--name"),
            ("snapshot restore b --data-dir d --name s1 --raise 0", "--raise"),
            ("cluster set", "KEY=VALUE"),
            ("drain w1 --no-wait --timeout 1s", "--timeout"),
            ("exec p", "COMMAND"),
            ("exec p ls", "ls"),
            ("cp a", "DESTINATION"),
            ("port-forward p", "PORTS"),
            ("port-forward p 80 --address here", "here"),
            ("top jobs", "jobs"),
            ("run", "--filename"),
            ("run -f x.yaml -- true", "cannot be used with"),
            ("run -f x.yaml --name x", "--name"),
            ("run true", "true"),
            ("run --index -- true", "--completions"),
            ("run --completions -1 -- true", "-1"),
            ("run --completions many -- true", "many"),
            ("run --retries 99999999999 -- true", "99999999999"),
            ("run --cpu lots -- true", "500m or 2"),
            ("run --memory 2GB4 -- true", "2GB4"),
            ("run --deadline 0 -- true", "1s or longer"),
            ("run --deadline 1500ms -- true", "whole seconds"),
            ("run --deadline tomorrow -- true", "tomorrow"),
            ("run --detach --dry-run -- true", "--dry-run"),
            ("run --detach --no-logs -- true", "--no-logs"),
            ("context add", "NAME"),
            ("context remove", "NAME"),
            ("context frob", "frob"),
            ("completion tcsh", "tcsh"),
            ("man run --out x", "--out"),
            ("--color sometimes get jobs", "sometimes"),
            ("--request-timeout soon get jobs", "soon"),
            ("--request-timeout 0 get jobs", "10ms or longer"),
            ("--request-timeout 1ns get jobs", "10ms or longer"),
            ("top --interval 1ms", "500ms to 1h"),
            ("top --interval 2h", "500ms to 1h"),
            ("top --interval soon", "soon"),
            ("explain", "JOB|POD"),
            ("explain job/a pod/b", "pod/b"),
            ("explain job/a -o yaml", "yaml"),
            ("tree", "JOB"),
            ("tree job/a job/b", "job/b"),
            ("tree job/a --every", "--every"),
            ("history", "JOB"),
            ("history job/a job/b", "job/b"),
            ("history job/a -o table", "table"),
            ("events job/a", "job/a"),
            ("events --for", "--for"),
            ("events -o text", "text"),
            ("drain", "NODE"),
            ("drain w1 w2", "w2"),
            ("drain w1 --timeout forever", "forever"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
