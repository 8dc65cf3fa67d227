//! The command line as clap reads it.
//!
//! Owns: names, defaults and help of all arguments. Does not own: what they do.

mod client;
#[cfg(test)]
mod records;
mod run;
mod server;

pub use client::{Completion, Config, Context, Man, Shell};
pub use run::{NewJob, Run};
pub use server::{Placement, SOURCES, Server};
mod insight;

pub use insight::{Events, Explain, History, TextFormat, Top, TopArguments, Tree};

use clap::{Args, Parser, Subcommand, ValueEnum};
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
  130  of run: interrupted; the Job runs on unless it was cancelled
  141  nobody reads the output any more";

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
    #[arg(long, global = true, value_parser = duration, value_name = "DURATION")]
    pub request_timeout: Option<Duration>,
    /// Namespace [env: STINT_NAMESPACE] [default: the context's, else default]
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
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
    /// Page Down to move; Space to hold the picture; q or Ctrl-C to end.
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

#[derive(Debug, Clone, Args)]
pub struct Manifest {
    /// Manifest in YAML or JSON, several documents allowed; - is stdin, of a folder its .yaml, .yml and .json
    #[arg(short, long, required = true, value_name = "FILE")]
    pub filename: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Create {
    #[command(flatten)]
    pub manifest: Manifest,
    #[command(subcommand)]
    pub object: Option<CreateObject>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum CreateObject {
    /// Create a ConfigMap from files and texts
    #[command(visible_alias = "cm")]
    Configmap(CreateConfigMap),
}

#[derive(Debug, Clone, Args)]
pub struct CreateConfigMap {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A file, under its own name or under KEY; of a folder each file
    #[arg(long, value_name = "[KEY=]PATH")]
    pub from_file: Vec<String>,
    /// A text
    #[arg(long, value_name = "KEY=TEXT")]
    pub from_literal: Vec<String>,
    /// Contents can't be changed later
    #[arg(long)]
    pub immutable: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Get {
    /// jobs, pods, configmaps, nodes or events, several separated by commas, then names, all if none is given; or KIND/NAME …
    #[arg(value_name = "KIND [NAME]", required = true, add = ArgValueCompleter::new(complete::kinds_and_names))]
    pub targets: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table, hide_default_value = true)]
    pub output: Format,
    /// Go on with changes until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Label selector, such as app=web,tier!=test
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only events about one object; those of a pod with what its own row tells
    #[arg(long = "for", value_name = "KIND/NAME")]
    pub regarding: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Describe {
    /// nodes, jobs or pods, then names, all if none is given; or KIND/NAME …
    #[arg(value_name = "KIND [NAME]", required = true, add = ArgValueCompleter::new(complete::kinds_and_names))]
    pub targets: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Table,
    /// A table with more columns
    Wide,
    /// The objects as Kubernetes' JSON
    Json,
    /// The objects as Kubernetes' YAML
    Yaml,
    /// KIND/NAME, one per line
    Name,
}

#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// Name of a Pod, or job/NAME for a Job's: a running one before an ended one, then the newest
    #[arg(value_name = "POD", add = ArgValueCompleter::new(complete::pods_and_jobs))]
    pub target: String,
    /// Go on until the container has ended; with --all-pods until the Job has
    #[arg(short, long)]
    pub follow: bool,
    /// All Pods of a job/NAME, each line behind its Pod's name
    #[arg(long)]
    pub all_pods: bool,
    /// Begin so many lines before the end; -1 is the beginning
    #[arg(long, value_name = "LINES", allow_hyphen_values = true, value_parser = tail, default_value = "-1")]
    pub tail: Tail,
    /// Only lines that are not older
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Begin each line with the time at which it was written
    #[arg(long)]
    pub timestamps: bool,
    /// The run before the present one
    #[arg(short, long)]
    pub previous: bool,
    /// The container, if the Pod has several
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub container: String,
}

#[derive(Debug, Clone, Args)]
pub struct Exec {
    /// Name of a Pod, or job/NAME for the newest of a Job's that runs
    #[arg(value_name = "POD", add = ArgValueCompleter::new(complete::pods_and_jobs))]
    pub target: String,
    /// Pass stdin to the command
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The container, if the Pod has several [default: the first]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub container: String,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct Attach {
    /// Name of a Pod, or job/NAME for a Job's: a running one before an ended one, then the newest
    #[arg(value_name = "POD", add = ArgValueCompleter::new(complete::pods_and_jobs))]
    pub target: String,
    /// The container, if the Pod has several [default: the first]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub container: String,
    /// Pass stdin to the container, whose template must say stdin: true
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Be the container's terminal, whose template must say tty: true; Ctrl-C is for the container then
    #[arg(short, long)]
    pub tty: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Copy {
    /// What to copy: PATH, POD:PATH, job/NAME:PATH or -
    pub source: String,
    /// Where to: as the source; into a folder if it is one
    pub destination: String,
    /// The container, if the Pod has several [default: the first]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub container: String,
}

#[derive(Debug, Clone, Args)]
pub struct PortForward {
    /// Name of a Pod, or job/NAME for the newest of a Job's that runs
    #[arg(value_name = "POD", add = ArgValueCompleter::new(complete::pods_and_jobs))]
    pub target: String,
    /// LOCAL:REMOTE, PORT for the same on both sides, :REMOTE for a local one that is free
    #[arg(required = true, value_name = "PORTS")]
    pub ports: Vec<String>,
    /// Local address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub address: std::net::IpAddr,
}

/// Where a log is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// At its beginning.
    All,
    /// So many lines before its end.
    Lines(u64),
}

#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// job/NAME
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs_with_kind))]
    pub target: String,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE", ignore_case = true)]
    pub state: WaitState,
    /// How long; 0 looks once and does not wait
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitState {
    /// The Job is Complete
    #[value(alias = "condition=complete")]
    Complete,
    /// The Job is Failed
    #[value(alias = "condition=failed")]
    Failed,
    /// The Job is Complete or Failed
    Finished,
    /// The Job is gone
    Delete,
}

#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// job, pod or node, then names; or KIND/NAME …
    #[arg(value_name = "KIND [NAME]", required_unless_present = "filename", add = ArgValueCompleter::new(complete::kinds_and_names))]
    pub targets: Vec<String>,
    /// Delete the Jobs of a manifest; - is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["targets", "selector"])]
    pub filename: Vec<String>,
    /// Delete what matches a label selector
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// What becomes of a Job's Pods
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    pub cascade: Cascade,
    /// Seconds from SIGTERM to SIGKILL; only for pods
    #[arg(long, value_name = "SECONDS")]
    pub grace_period: Option<u32>,
    /// What does not exist is no failure
    #[arg(long)]
    pub ignore_not_found: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cascade {
    /// The Job is gone at once, its Pods follow
    Background,
    /// The Job stays until its Pods are gone
    Foreground,
    /// The Pods run on
    Orphan,
}

#[derive(Debug, Clone, Args)]
pub struct Status {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = StatusFormat::Table, hide_default_value = true)]
    pub output: StatusFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// A table
    Table,
    /// JSON
    Json,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Member {
    /// Show the servers of the cluster
    List(Status),
    /// Let a new server in
    Add {
        /// Name and peer address of the new server
        #[arg(value_name = "NAME=HOST:PORT")]
        member: String,
    },
    /// Take a server out
    Remove {
        /// Name of the server
        name: String,
    },
    /// Put a server with an empty folder in the place of a lost one
    Replace {
        /// Name of the lost server
        name: String,
        /// Peer address of the new one, if it is another
        #[arg(long, default_value = "", hide_default_value = true, value_name = "HOST:PORT")]
        peer_address: String,
    },
    /// Hand leadership over
    Transfer {
        /// Who shall lead; the server that is furthest ahead if not given
        name: Option<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub enum Cluster {
    /// Show the settings
    Show,
    /// Change settings, for all servers and at once
    ///
    /// default-runtime=process|cri|oci: what runs Pods without a runtimeClassName; empty: the first runtime of each node.
    /// placement=spread|pack: where Pods go that fit on several nodes.
    /// ended-pods-max=NUMBER: ended Pods that are kept, with their logs; of more the oldest go; 0: all are kept.
    /// event-retention=DURATION: how long events are kept, from 1m to 168h.
    Set {
        /// One or several settings
        #[arg(value_name = "KEY=VALUE", required = true)]
        settings: Vec<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub struct NodeArgument {
    /// Name of the node
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    pub node: String,
}

#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// Name of the node
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    pub node: String,
    /// How long to wait for its Pods; 0 looks once
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION", conflicts_with = "no_wait")]
    pub timeout: Duration,
    /// Don't wait until its Pods have ended
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Dev {
    /// Folder of all data; kept for the next start, remove it to begin anew [default: /var/lib/stint-dev for root, else
    /// $XDG_DATA_HOME/stint/dev, without it ~/.local/share/stint/dev]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect; port 0 is the system's choice
    #[arg(long, default_value = "127.0.0.1:7440", value_name = "ADDRESS:PORT")]
    pub listen: String,
    /// File that the address is written to once Jobs can be submitted
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// How long the node may be silent before its Pods are lost [default: 10s]; set when the data folder is new
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub node_lease: Option<Duration>,
    #[command(flatten)]
    pub pods: stint_agent::PodArguments,
}

/// A duration in Go's form, such as 1m30s or 500ms.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    stint_api::duration::parse(text).map_err(|error| error.to_string())
}

/// Lines before the end of a log, as `kubectl` takes them.
fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "-1" => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| "write a number of lines, or -1 for all".to_owned()),
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
