//! The command line as clap reads it.
//!
//! Owns: names, defaults and help of all arguments. Does not own: what they do.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Runs Jobs to completion on a cluster of machines.
#[derive(Debug, Parser)]
#[command(
    name = "stint",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the cluster.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Addresses of some or all servers, as HOST:PORT, separated by commas
    #[arg(
        long,
        global = true,
        env = "STINT_SERVER",
        default_value = "127.0.0.1:7440",
        value_name = "ADDRESSES"
    )]
    pub server: String,
    /// File that holds the cluster's token
    #[arg(long, global = true, env = "STINT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long a request may take with all its attempts
    #[arg(long, global = true, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub request_timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create Jobs, or change the ones that exist, from manifests
    Apply(Manifest),
    /// Create Jobs from manifests
    Create(Manifest),
    /// Show jobs, pods, nodes or events
    Get(Get),
    /// Show what a Pod wrote
    Logs(Logs),
    /// Wait until a Job is complete, failed, finished or deleted
    Wait(Wait),
    /// Delete jobs, pods or nodes
    Delete(Delete),
    /// Submit a Job, show what its Pods write, and end as it ends: 0 complete, 1 failed
    Run(Manifest),
    /// Show the servers of the cluster
    Status(Status),
    /// Show or change which servers belong to the cluster
    #[command(subcommand)]
    Member(Member),
    /// Bind no new Pods to a node
    Cordon(NodeArgument),
    /// Let Pods be bound to a node again
    Uncordon(NodeArgument),
    /// Cordon a node and stop its Pods
    Drain(NodeArgument),
    /// Run a server of the control plane
    Server(Box<Server>),
    /// Run a server and an agent in one process, on loopback
    Dev(Dev),
}

#[derive(Debug, Clone, Args)]
pub struct Manifest {
    /// Manifest in YAML or JSON, several documents allowed; - is stdin
    #[arg(short, long, required = true, value_name = "FILE")]
    pub filename: Vec<String>,
    /// Namespace of Jobs whose manifest names none
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Clone, Args)]
pub struct Get {
    /// jobs, pods, nodes or events, several separated by commas, or KIND/NAME
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// Names; all if none is given
    pub names: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table, hide_default_value = true)]
    pub output: Format,
    /// Go on with changes until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Label selector, such as app=web,tier!=test
    #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
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
    /// Name of a Pod, or job/NAME for one of a Job's Pods
    #[arg(value_name = "POD")]
    pub target: String,
    /// Go on until the container has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Begin so many lines before the end
    #[arg(long, value_name = "LINES", allow_hyphen_values = true)]
    pub tail: Option<u64>,
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
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// job/NAME
    #[arg(value_name = "JOB")]
    pub target: String,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub state: WaitState,
    /// How long
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitState {
    /// The Job is Complete
    Complete,
    /// The Job is Failed
    Failed,
    /// The Job is Complete or Failed
    Finished,
    /// The Job is gone
    Delete,
}

#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// job, pod or node, or KIND/NAME
    #[arg(value_name = "KIND", required_unless_present = "filename")]
    pub kind: Option<String>,
    /// Names
    pub names: Vec<String>,
    /// Delete the Jobs of a manifest; - is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["kind", "selector"])]
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
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
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

#[derive(Debug, Clone, Args)]
pub struct NodeArgument {
    /// Name of the node
    pub node: String,
}

#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Name of this server, unique in the cluster
    #[arg(long)]
    pub name: String,
    /// Folder of all its data
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where clients and agents connect
    #[arg(long, default_value = "127.0.0.1:7440", value_name = "ADDRESS:PORT")]
    pub listen: String,
    /// Where the other servers connect
    #[arg(long, default_value = "127.0.0.1:7441", value_name = "ADDRESS:PORT")]
    pub peer_listen: String,
    /// Names and peer addresses of all servers of a new cluster, the same on each of them
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME=HOST:PORT,…")]
    pub initial_cluster: String,
    /// Where clients and agents reach this server, if not at --listen
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where the other servers reach this server, if not at --peer-listen
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_peer: Option<String>,
    /// How long a node may be silent before its Pods are lost, 5s to 10m; set when the cluster is new
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub node_lease: Duration,
    /// Where Pods go that fit on several nodes; set when the cluster is new
    #[arg(long, value_enum, default_value_t = Placement::Spread)]
    pub placement: Placement,
    /// Listen on other addresses than loopback without a token
    #[arg(long)]
    pub insecure: bool,
    /// Log entries after which a snapshot is made
    #[arg(long, value_name = "ENTRIES")]
    pub snapshot_entries: Option<u64>,
    /// Log entries kept behind a snapshot, for servers that are a little behind
    #[arg(long, value_name = "ENTRIES")]
    pub log_entries_kept: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Placement {
    /// On the node with the largest free share
    Spread,
    /// On the node with the smallest free share that still fits
    Pack,
}

#[derive(Debug, Clone, Args)]
pub struct Dev {
    /// Folder of all data; kept for the next start
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where clients connect; port 0 is the system's choice
    #[arg(long, default_value = "127.0.0.1:7440", value_name = "ADDRESS:PORT")]
    pub listen: String,
    /// File that the address is written to once Jobs can be submitted
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
    /// How long the node may be silent before its Pods are lost
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub node_lease: Duration,
}

/// A duration in Go's form, such as 1m30s or 500ms.
fn duration(text: &str) -> Result<Duration, String> {
    stint_api::duration::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
