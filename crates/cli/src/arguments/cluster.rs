//! Arguments of the commands for operators: servers, settings of the cluster, nodes.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use std::time::Duration;

use super::duration;
use crate::complete;

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
    Remove(NamedMember),
    /// Put a server with an empty folder in the place of a lost one
    Replace(ReplaceMember),
    /// Hand leadership over
    Transfer {
        /// Who shall lead; the server that is furthest ahead if not given
        name: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct NamedMember {
    /// Name of the server
    pub name: Option<String>,
    /// Its id instead, where several servers have one name; stint member list shows it
    #[arg(long, value_name = "ID")]
    pub id: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct ReplaceMember {
    #[command(flatten)]
    pub lost: NamedMember,
    /// Peer address of the new one, if it is another
    #[arg(long, default_value = "", hide_default_value = true, value_name = "HOST:PORT")]
    pub peer_address: String,
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
