//! Arguments of `run`.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

use super::duration;

/// A Job of a manifest, or one made from these arguments.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("what").args(["filename", "command"]).required(true))]
pub struct Run {
    /// Manifest of one Job, in YAML or JSON; - is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with_all = OF_NEW_JOBS)]
    pub filename: Option<String>,
    /// Say what would be submitted, as a manifest, and submit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Submit it and go
    #[arg(short, long, conflicts_with = "dry_run")]
    pub detach: bool,
    /// Show no progress, only what Pods write, failures and the end
    #[arg(short, long)]
    pub quiet: bool,
    /// Show the progress, not what Pods write
    #[arg(long, conflicts_with = "detach")]
    pub no_logs: bool,
    #[command(flatten)]
    pub job: NewJob,
    /// Program and arguments, as they are: a shell is there only if it is named, as in sh -c '…'
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What a manifest says instead.
const OF_NEW_JOBS: [&str; 18] = [
    "command",
    "name",
    "completions",
    "parallelism",
    "index",
    "env",
    "cpu",
    "memory",
    "cpu_limit",
    "memory_limit",
    "retries",
    "deadline",
    "ttl",
    "node_selector",
    "label",
    "image",
    "runtime",
    "workdir",
];

/// A Job as flags describe it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Job")]
pub struct NewJob {
    /// Its name [default: the program's with five characters more]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How many Pods must succeed [default: 1]
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub completions: Option<i32>,
    /// How many Pods may run at once [default: 1]
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub parallelism: Option<i32>,
    /// Each Pod gets an index of its own, from 0, in JOB_COMPLETION_INDEX
    #[arg(long, requires = "completions")]
    pub index: bool,
    /// A variable of the environment; without =VALUE it has the value that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Processors that each Pod gets for itself, such as 2 or 500m
    #[arg(long, value_name = "QUANTITY", value_parser = quantity)]
    pub cpu: Option<String>,
    /// Memory that each Pod gets for itself, such as 512Mi or 2Gi
    #[arg(long, value_name = "QUANTITY", value_parser = quantity)]
    pub memory: Option<String>,
    /// Processors that each Pod may use at most
    #[arg(long, value_name = "QUANTITY", value_parser = quantity)]
    pub cpu_limit: Option<String>,
    /// Memory that each Pod may use at most; it fails if it takes more
    #[arg(long, value_name = "QUANTITY", value_parser = quantity)]
    pub memory_limit: Option<String>,
    /// How many Pods may fail before the Job does [default: 6]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub retries: Option<i32>,
    /// How long it may take from its start to its end, in whole seconds
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub deadline: Option<Duration>,
    /// How long it is kept after its end with its Pods and their output [default: until it is deleted]
    #[arg(long, value_name = "DURATION", value_parser = whole_seconds)]
    pub ttl: Option<Duration>,
    /// Labels that nodes must have
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub node_selector: Vec<String>,
    /// Labels of the Job and its Pods
    #[arg(short, long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<String>,
    /// Image of its containers; without it, it runs as processes, with the programs of the node
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// What runs it: process, cri or oci [default: with an image that of the cluster, else process]
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<String>,
    /// Folder in which the program starts [default: the image's; of processes an empty one of the Pod's own]
    #[arg(long, value_name = "FOLDER")]
    pub workdir: Option<PathBuf>,
}

/// A quantity as Kubernetes writes it.
fn quantity(text: &str) -> Result<String, String> {
    match stint_api::Quantity::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("write a quantity, such as 500m or 2 of processors, 512Mi or 2Gi of memory".to_owned()),
    }
}

/// What Kubernetes counts in whole seconds.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    match duration.subsec_nanos() {
        0 => Ok(duration),
        _ => Err("it is counted in whole seconds".to_owned()),
    }
}

/// The same, at least one.
fn seconds(text: &str) -> Result<Duration, String> {
    match whole_seconds(text)? {
        Duration::ZERO => Err("it must be 1s or longer".to_owned()),
        duration => Ok(duration),
    }
}
