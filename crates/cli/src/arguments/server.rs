//! Arguments of `stint server`. Each of them is a variable and a key of a file too (`server_settings`).

use clap::{ArgAction, Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use stint_daemon::{Discreet, ProcessArguments};

use super::duration;

/// Shown at the end of the help.
pub const SOURCES: &str = "\
Each flag is also a variable, such as STINT_SERVER_DATA_DIR for --data-dir, and a key of the file that --config or
STINT_SERVER_CONFIG names, such as data-dir; of the flags about the cluster only --token-file is. A flag goes before its
variable, that before the file. STINT_TOKEN_FILE and STINT_LOG count for --token-file and --log-level if their own
variables are not set. `stint config show server` prints what comes of it.";

/// `stint server`.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Name of this server, unique in the cluster; needed
    #[arg(long)]
    pub name: String,
    /// Folder of all its data; needed
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where clients and agents connect
    #[arg(long, default_value = "127.0.0.1:7440", value_name = "ADDRESS:PORT")]
    pub listen: String,
    /// Where the other servers connect
    #[arg(long, default_value = "127.0.0.1:7441", value_name = "ADDRESS:PORT")]
    pub peer_listen: String,
    /// Names and peer addresses of all servers of a new cluster, the same on each of them; without it a server with an empty folder
    /// is a cluster of its own
    #[arg(long, value_name = "NAME=HOST:PORT", value_delimiter = ',')]
    pub initial_cluster: Vec<String>,
    /// Where clients and agents reach this server, if not at --listen
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where the other servers reach this server, if not at --peer-listen
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_peer: Option<String>,
    /// How long a node may be silent before its Pods are lost, 5s to 10m [default: 10s]; set when the cluster is new, can't be
    /// changed
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub node_lease: Option<Duration>,
    /// Where Pods go that fit on several nodes [default: spread]; set when the cluster is new, then by stint cluster set
    #[arg(long, value_enum)]
    pub placement: Option<Placement>,
    /// What runs Pods without a runtimeClassName: process, cri or oci [default: the first runtime of each node]; set when the
    /// cluster is new, then by stint cluster set
    #[arg(long, value_name = "RUNTIME")]
    pub default_runtime: Option<String>,
    /// Ended Pods that are kept, 0 for all [default: 100000]; set when the cluster is new, then by stint cluster set
    #[arg(long, value_name = "NUMBER")]
    pub ended_pods_max: Option<u32>,
    /// Listen on other addresses than loopback without a token
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub insecure: bool,
    /// Log entries after which a snapshot is made [default: 100000]
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_entries: Option<u64>,
    /// Log entries kept behind a snapshot, for servers that are a little behind [default: 20000, at most snapshot-entries]
    #[arg(long, value_name = "ENTRIES")]
    pub log_entries_kept: Option<u64>,
    /// Where agents upload the whole logs of containers that have ended, such as s3://BUCKET/PATH or file:///PATH; the same on all
    /// servers. Credentials come from the environment of servers and agents
    #[arg(long, value_name = "URL", value_parser = Discreet(log_archive))]
    pub log_archive: Option<String>,
    /// What is about the process.
    #[command(flatten)]
    pub process: ProcessArguments,
    /// What is to be said about where they come from.
    #[arg(skip)]
    pub warnings: Vec<String>,
}

fn log_archive(url: &str) -> Result<(), String> {
    stint_server::check_log_archive(url).map_err(|refused| refused.to_string())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Placement {
    /// On the node with the largest free share
    Spread,
    /// On the node with the smallest free share that still fits
    Pack,
}
