//! Arguments of the commands that reach into Pods: their output, commands, files and ports.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use std::time::Duration;

use super::duration;
use crate::complete;

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

/// Where a log is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// At its beginning.
    All,
    /// So many lines before its end.
    Lines(u64),
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

/// Lines before the end of a log, as `kubectl` takes them.
fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "-1" => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| "write a number of lines, or -1 for all".to_owned()),
    }
}
