//! `stint-bench`: measures on this machine what stint costs, beside what the machine itself can do.
//!
//! Owns: what is measured, and against what. Does not own: any judgement: machines differ, so nothing here fails for being
//! slow. Processes are those of the folder that this binary is in.
//!
//! Each command prints one table, headed by the commit, the date and the machine. What is compared is measured in turn, round
//! after round, so that whatever else the machine does hits all alike; medians of the rounds are printed. Processor time is
//! that of the control groups of what is measured: everything counts that it started, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops when something is wrong, and prints"
)]

mod client;
mod cluster;
mod cpu;
mod direct;
mod isolation;
mod load;
mod memory;
mod report;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Measures what stint costs on this machine.
#[derive(Debug, Parser)]
#[command(name = "stint-bench", version)]
struct Arguments {
    /// Where all data goes: as for agents and servers, on a disk and not below /tmp
    #[arg(long, value_name = "DIR", default_value = "/var/lib", global = true)]
    folder: PathBuf,
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// Pods per second and processor time per Pod of `true`: spawned, as isolated processes layer by layer, as Jobs
    Isolation(isolation::Options),
    /// Memory of servers, agents and shims, with few and with many Pods
    Memory(memory::Options),
    /// Sizes, idle processes, time from submission to running, throughput
    Cluster,
    /// The Rust client: submits per second, time from submission to the end; the start of `stint get jobs`
    Client(client::Options),
}

fn main() {
    // For `--own-shim`: before any thread.
    stint_runtime::maybe_run_shim();
    let arguments = Arguments::parse();
    // What is measured makes its folders where temporary ones go.
    tempfile::env::override_temp_dir(&arguments.folder).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match arguments.measurement {
            Measurement::Isolation(options) => isolation::measure(&options).await,
            Measurement::Memory(options) => memory::measure(&options).await,
            Measurement::Cluster => cluster::measure().await,
            Measurement::Client(options) => client::measure(&options).await,
        }
    });
}
