//! The Rust client and the start of the command line, on a cluster of three servers and one agent: as the benchmarks of the
//! other clients measure theirs.
//!
//! Owns: what is measured of them. Does not own: what a cluster does with Jobs (`cluster`).

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use stint_client::{Client, ClientOptions, JobBuilder, api::Job};
use stint_tests::{Cluster, ClusterOptions, binary};

use crate::report::{Table, at_share, head, median};

/// Done before anything is measured.
const WARM_UP: usize = 20;
/// Jobs that `stint get jobs` lists.
const LISTED: usize = 10;
const LISTED_NAMESPACE: &str = "listed";

/// How much is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Submits of each measurement
    #[arg(long, default_value_t = 1_000)]
    submits: usize,
    /// Jobs of one Pod of `true` that run to their ends, one after another
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// Times that each command is started
    #[arg(long, default_value_t = 200)]
    starts: usize,
}

/// Measures and prints.
pub async fn measure(options: &Options) {
    head("The Rust client and the command line, with 3 servers and 1 agent");
    let mut cluster_options = ClusterOptions::new(3, 1);
    // What is measured is not a test's setting.
    cluster_options.node_lease = "10s".to_owned();
    let cluster = Cluster::start(cluster_options);
    let client = Client::new(ClientOptions::new(&cluster.addresses())).unwrap();
    // Suspended, so that what Pods do is not in it.
    let suspended = JobBuilder::new(["true"]).namespace("figures").suspended().build().unwrap();
    for _ in 0..WARM_UP {
        client.submit(&suspended).await.unwrap();
        submit_to_done(&client).await;
    }

    let mut table = Table::new(&["Rust client", ""]);
    for in_flight in [1, 16] {
        let rate = submits_per_second(&client, &suspended, options.submits, in_flight).await;
        table.row(vec![format!("{in_flight} in flight"), format!("{rate:.0} submits/s")]);
    }
    let mut times_ms = Vec::new();
    for _ in 0..options.runs {
        times_ms.push(submit_to_done(&client).await.as_secs_f64() * 1_000.0);
    }
    for (name, share) in [("p50", 0.5), ("p90", 0.9)] {
        table.row(vec![format!("submit → done, {name}"), format!("{:.1} ms", at_share(&times_ms, share))]);
    }
    table.print();

    for number in 0..LISTED {
        let job = JobBuilder::new(["true"]).namespace(LISTED_NAMESPACE).suspended();
        client.run(job.name(format!("job-{number}"))).await.unwrap();
    }
    let mut table = Table::new(&["a command from its start to its end", "p50", "p90", "processor time, p50"]);
    // In turn, so that whatever else the machine does hits all alike.
    let commands: [&[&str]; 3] =
        [&["--version"], &["get", "jobs"], &["get", "jobs", "--namespace", LISTED_NAMESPACE]];
    let mut starts: [Vec<Start>; 3] = Default::default();
    for _ in 0..options.starts {
        for (command, starts) in commands.iter().zip(&mut starts) {
            starts.push(start(&cluster.addresses(), command));
        }
    }
    for (command, starts) in commands.iter().zip(starts) {
        let wall: Vec<f64> = starts.iter().map(|start| start.wall.as_secs_f64() * 1_000.0).collect();
        let cpu: Vec<f64> = starts.iter().map(|start| start.cpu.as_secs_f64() * 1_000.0).collect();
        table.row(vec![
            format!("stint {}", command.join(" ")),
            format!("{:.1} ms", median(&wall)),
            format!("{:.1} ms", at_share(&wall, 0.9)),
            format!("{:.1} ms", median(&cpu)),
        ]);
    }
    table.print();
    println!(
        "{LISTED} Jobs are in namespace {LISTED_NAMESPACE}; {} are in the other.\n",
        options.runs + WARM_UP
    );
}

async fn submits_per_second(client: &Client, job: &Job, submits: usize, in_flight: usize) -> f64 {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let submitting: Vec<_> = (0..in_flight)
        .map(|_| {
            let (client, job, next) = (client.clone(), job.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < submits {
                    client.submit(&job).await.unwrap();
                }
            })
        })
        .collect();
    for one in submitting {
        one.await.unwrap();
    }
    submits as f64 / begun.elapsed().as_secs_f64()
}

async fn submit_to_done(client: &Client) -> Duration {
    let begun = Instant::now();
    client.run(JobBuilder::new(["true"])).await.unwrap().wait().await.unwrap();
    begun.elapsed()
}

/// What one run of a command took.
struct Start {
    wall: Duration,
    cpu: Duration,
}

fn start(servers: &str, arguments: &[&str]) -> Start {
    let mut command = Command::new(binary("stint"));
    command.args(arguments).env("STINT_SERVER", servers).env("STINT_CONFIG", "/dev/null");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let (begun, before) = (Instant::now(), cpu_of_ended_children());
    let status = command.status().unwrap();
    let wall = begun.elapsed();
    assert!(status.success(), "stint {arguments:?} ended with {status}");
    Start { wall, cpu: cpu_of_ended_children() - before }
}

/// Processor time of children that were waited for: servers and agents are not among them while they run.
fn cpu_of_ended_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = |time: TimeVal| time.num_microseconds().unsigned_abs();
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}
