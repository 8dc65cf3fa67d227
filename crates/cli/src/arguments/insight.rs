//! Arguments of the commands that say what goes on, and why.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use std::time::Duration;

use super::{Format, Get, duration};
use crate::complete;

/// How often the screen is brought up to date at most: each time the leader is asked.
const TOP_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Less often would not be live.
const TOP_INTERVAL_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// job/NAME or pod/NAME; a name alone is a job's
    #[arg(value_name = "JOB|POD", add = ArgValueCompleter::new(complete::jobs_and_pods))]
    pub target: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text, hide_default_value = true)]
    pub output: TextFormat,
}

#[derive(Debug, Clone, Args)]
pub struct Tree {
    /// job/NAME, or the name alone
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    pub target: String,
    /// Show all Pods, however many; else a hundred of at most ten thousand, those that failed and those that run first
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Clone, Args)]
pub struct History {
    /// job/NAME, or the name alone
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    pub target: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text, hide_default_value = true)]
    pub output: TextFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// For people
    Text,
    /// JSON
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct Events {
    /// Go on with changes until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Only those about one object: job/NAME, pod/NAME or node/NAME
    #[arg(long = "for", value_name = "KIND/NAME", add = ArgValueCompleter::new(complete::subjects_of_events))]
    pub regarding: Option<String>,
    /// All namespaces, and those about nodes
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table, hide_default_value = true)]
    pub output: Format,
}

impl Events {
    /// The same as `get` takes it.
    pub fn as_get(&self) -> Get {
        Get {
            targets: vec!["events".to_owned()],
            output: self.output,
            watch: self.watch,
            selector: String::new(),
            all_namespaces: self.all_namespaces,
            regarding: self.regarding.clone(),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct TopArguments {
    #[command(subcommand)]
    pub of: Option<Top>,
    /// How often the screen is brought up to date [default: 2s]
    #[arg(long, value_parser = interval, value_name = "DURATION")]
    pub interval: Option<Duration>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Top {
    /// Of Pods that run
    #[command(visible_aliases = ["pod", "po"])]
    Pods {
        /// Only this one
        #[arg(add = ArgValueCompleter::new(complete::pods))]
        name: Option<String>,
        /// Label selector, such as app=web,tier!=test
        #[arg(short = 'l', long, default_value = "", hide_default_value = true)]
        selector: String,
        /// All namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Of nodes, whoever uses it
    #[command(visible_aliases = ["node", "no"])]
    Nodes {
        /// Only this one
        #[arg(add = ArgValueCompleter::new(complete::nodes))]
        name: Option<String>,
    },
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match (TOP_INTERVAL_MIN..=TOP_INTERVAL_MAX).contains(&interval) {
        true => Ok(interval),
        false => Err("write a duration from 500ms to 1h".to_owned()),
    }
}
