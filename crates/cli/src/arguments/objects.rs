//! Arguments of the commands that make, show, wait for and delete objects.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use std::time::Duration;

use super::duration;
use crate::complete;

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
    #[arg(long = "for", value_name = "KIND/NAME", add = ArgValueCompleter::new(complete::subjects_of_events))]
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
    /// job, pod, configmap or node, then names; or KIND/NAME …
    #[arg(value_name = "KIND [NAME]", required_unless_present = "filename", add = ArgValueCompleter::new(complete::kinds_and_names))]
    pub targets: Vec<String>,
    /// Delete the Jobs and ConfigMaps of a manifest; - is stdin
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
