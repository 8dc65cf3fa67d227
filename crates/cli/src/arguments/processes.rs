//! Arguments of the cluster in one process.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

use super::duration;

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
