//! Arguments of `stint snapshot`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

use super::TextFormat;

#[derive(Debug, Clone, Subcommand)]
pub enum Snapshot {
    /// Save a snapshot of the whole cluster to a file
    ///
    /// It has everything that was acknowledged before, whichever server is asked: Jobs with their specs, Pods and ends, settings,
    /// ConfigMaps. Keep it as you would keep what is in them. Whole logs are not in it.
    Save(SnapshotSave),
    /// Show what a file holds, and check every byte of it
    Inspect(SnapshotInspect),
    /// Make a data folder for the first server of a new cluster, which begins with what a snapshot holds
    ///
    /// Run it where that server will run, as its user. No cluster is asked. Pods that were unfinished end, uncounted, and their
    /// Jobs make others; nodes register anew. Start the server afterwards, and let others in by stint member add.
    Restore(SnapshotRestore),
}

#[derive(Debug, Clone, Args)]
pub struct SnapshotSave {
    /// The file to be written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    /// Take what the server that is asked has, also if no majority of the servers runs: the last writes may be missing
    #[arg(long)]
    pub stale: bool,
}

#[derive(Debug, Clone, Args)]
pub struct SnapshotInspect {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text, hide_default_value = true)]
    pub output: TextFormat,
}

#[derive(Debug, Clone, Args)]
pub struct SnapshotRestore {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Folder of the new server's data; it must be empty, or not be there
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// Name of the new server
    #[arg(long)]
    pub name: String,
    /// How often revisions are raised: 2 for the second cluster that is made of this snapshot and used, and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "TIMES")]
    pub raise: u32,
}
