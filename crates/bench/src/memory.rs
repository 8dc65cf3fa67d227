//! Memory of servers, agents and shims.
//!
//! Owns: reading it, with more and more Pods. Does not own: starting them (`load`).

use std::time::Duration;

use crate::cpu::descendants;
use crate::load::Loaded;
use crate::report::{Table, head, kibibytes, mebibytes};

/// How much is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Pods that run while memory is read, one figure after the other
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100, 1_000])]
    pods: Vec<usize>,
    /// How long processes are left alone before their memory is read
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    settling: u64,
}

/// Bytes of a process.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    resident: f64,
    /// With its share of what it shares.
    proportional: f64,
    /// Its own alone, written to.
    private_dirty: f64,
}

/// Measures and prints.
pub async fn measure(options: &Options) {
    head("Memory with Pods of `sleep`, of one agent and three servers");
    let most = options.pods.iter().copied().max().unwrap_or(0);
    let mut table = Table::new(&["", "resident", "proportional", "private, written to"]);
    let mut loaded = Loaded::cluster(3, 1, most.max(110)).await;
    for pods in &options.pods {
        let job = match pods {
            0 => None,
            _ => Some(loaded.begin(&["sleep", "100000"], *pods).await),
        };
        if let Some(job) = &job {
            loaded.until_running(job, *pods).await;
        }
        tokio::time::sleep(Duration::from_secs(options.settling)).await;
        let agents = loaded.agent_pids();
        let servers = loaded.server_pids().into_iter().map(memory).collect();
        large_row(&mut table, &format!("server, {pods} Pods"), servers);
        large_row(&mut table, &format!("agent, {pods} Pods"), agents.iter().copied().map(memory).collect());
        // The spawner is a child of the agent, and shims are its children.
        let children = children_named(&agents, "stint-shim");
        small_row(
            &mut table,
            &format!("spawner of the shims, {pods} Pods"),
            children.iter().copied().map(memory).collect(),
        );
        let shims = children_named(&children, "stint-shim");
        if *pods > 0 {
            small_row(
                &mut table,
                &format!("shim, one of {}", shims.len()),
                shims.into_iter().map(memory).collect(),
            );
        }
        if let Some(job) = &job {
            loaded.delete(job).await;
        }
    }
    loaded.end();
    table.print();
}

fn large_row(table: &mut Table, name: &str, of: Vec<Memory>) {
    row(table, name, of, mebibytes);
}

fn small_row(table: &mut Table, name: &str, of: Vec<Memory>) {
    row(table, name, of, kibibytes);
}

/// The mean of several.
fn row(table: &mut Table, name: &str, of: Vec<Memory>, shown: fn(f64) -> String) {
    let mean = |field: fn(&Memory) -> f64| of.iter().map(field).sum::<f64>() / of.len().max(1) as f64;
    table.row(vec![
        name.to_owned(),
        shown(mean(|memory| memory.resident)),
        shown(mean(|memory| memory.proportional)),
        shown(mean(|memory| memory.private_dirty)),
    ]);
}

fn children_named(parents: &[u32], name: &str) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(name.as_bytes()) && parents.contains(&crate::cpu::parent_of(*pid).unwrap_or(0))
    };
    descendants(parents).into_iter().filter(|pid| !parents.contains(pid)).filter(is_one).collect()
}

/// All zeros if it has ended.
fn memory(pid: u32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kibibytes.unwrap_or(0.0) * 1024.0
    };
    Memory { resident: field("Rss:"), proportional: field("Pss:"), private_dirty: field("Private_Dirty:") }
}
