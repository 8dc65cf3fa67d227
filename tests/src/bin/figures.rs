//! Measures a cluster on this machine and prints a table: sizes, memory, time from submission to running, Pods per second.
//!
//! Owns: what is measured. Does not own: any judgement: machines differ, so nothing here fails for being slow.
//!
//! `cargo run --release -p stint-tests --bin figures`, after `cargo build --release -p stint -p stint-agent`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops when something is wrong, and prints"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use stint_api::{Container, Job, JobSpec, ObjectMeta, PodPhase, PodSpec, PodTemplateSpec, RestartPolicy};
use stint_client::v1::PropagationPolicy;
use stint_client::{Client, ClientOptions, Scope};
use stint_tests::{Cluster, ClusterOptions, Process, binary, eventually};

/// Jobs whose way from submission to running is timed.
const SUBMISSIONS: usize = 50;
/// Pods of the Job whose throughput is measured, and how many of them may run at once.
const PODS: i32 = 2_000;
const PARALLELISM: i32 = 200;
/// How long processes are left alone before their memory is read.
const SETTLING: Duration = Duration::from_secs(10);
/// Clock ticks per second of /proc/PID/stat: fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main]
async fn main() {
    for name in ["stint", "stint-agent"] {
        row(&format!("size of {name}"), mebibytes(std::fs::metadata(binary(name)).unwrap().len()));
    }
    row("memory of stint dev, idle", dev_memory());
    // The lease of production: what is measured is not a test's setting.
    let mut options = ClusterOptions::new(3, 2);
    options.node_lease = "10s".to_owned();
    let cluster = Cluster::start(options);
    let idle_from = cpu_seconds_of_servers(&cluster);
    std::thread::sleep(SETTLING);
    let idle = (cpu_seconds_of_servers(&cluster) - idle_from) / SETTLING.as_secs_f64() / 3.0;
    row("processor use of an idle server", format!("{:.1} % of a core", idle * 100.0));
    memory_of_cluster(&cluster, "idle");
    let client = Client::new(ClientOptions::new(&cluster.addresses())).unwrap();
    submissions(&client).await;
    throughput(&cluster, &client).await;
    memory_of_cluster(&cluster, &format!("after {PODS} Pods"));
}

fn dev_memory() -> String {
    let folder = tempfile::TempDir::with_prefix("stint-figures.").unwrap();
    let address_file = folder.path().join("address");
    let mut command = Command::new(binary("stint"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    command.arg("--address-file").arg(&address_file);
    let mut dev = Process::start(command, &folder.path().join("output"));
    eventually("stint dev is ready", Duration::from_secs(30), || std::fs::read_to_string(&address_file).ok());
    std::thread::sleep(SETTLING);
    let memory = resident_memory(&dev);
    dev.terminate(Duration::from_secs(20));
    memory
}

fn memory_of_cluster(cluster: &Cluster, when: &str) {
    for (name, server) in &cluster.servers {
        row(&format!("memory of server {name}, {when}"), resident_memory(server));
    }
    for (name, agent) in &cluster.agents {
        row(&format!("memory of agent {name}, {when}"), resident_memory(agent));
    }
}

/// From sending a Job to the watch event that says that its Pod runs, one after another.
async fn submissions(client: &Client) {
    let everything = client.list_jobs(&Scope::default()).await.unwrap();
    let mut pods = client.watch_pods(&Scope::default(), everything.revision);
    let mut times_ms = Vec::new();
    for number in 0..SUBMISSIONS {
        let name = format!("submitted-{number}");
        let begun = Instant::now();
        let created = client.create_job(&job(&name, &["sleep", "100"], 1, 1)).await.unwrap();
        loop {
            let event = pods.next().await.unwrap();
            let ours = event.object.metadata.name.starts_with(&format!("{name}-"));
            if ours && event.object.status.phase == PodPhase::Running {
                break;
            }
        }
        times_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        let uid = created.job.metadata.uid.parse().unwrap();
        client.delete_job("default", &name, uid, PropagationPolicy::Background).await.unwrap();
    }
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share).round() as usize];
    row(
        &format!("submission to running, {SUBMISSIONS} Jobs one after another"),
        format!("p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99)),
    );
}

async fn throughput(cluster: &Cluster, client: &Client) {
    let servers_before = cpu_seconds_of_servers(cluster);
    let agents_before: f64 = cluster.agents.values().map(|agent| cpu_seconds(agent.pid())).sum();
    let begun = Instant::now();
    let name = "many";
    let created = client.create_job(&job(name, &["true"], PODS, PARALLELISM)).await.unwrap();
    let scope = Scope { name: name.to_owned(), ..Scope::default() };
    let mut watch = client.watch_jobs(&scope, created.revision);
    while watch.next().await.unwrap().object.status.completion_time.is_none() {}
    let seconds = begun.elapsed().as_secs_f64();
    let servers = cpu_seconds_of_servers(cluster) - servers_before;
    let agents: f64 =
        cluster.agents.values().map(|agent| cpu_seconds(agent.pid())).sum::<f64>() - agents_before;
    let per_pod_ms = |cpu_seconds: f64| cpu_seconds * 1000.0 / f64::from(PODS);
    row(
        &format!("{PODS} Pods of `true`, {PARALLELISM} at once, 3 servers and 2 agents"),
        format!("{:.0} Pods/s ({seconds:.1} s)", f64::from(PODS) / seconds),
    );
    row("processor time per Pod, all servers", format!("{:.2} ms", per_pod_ms(servers)));
    row("processor time per Pod, both agents without their Pods", format!("{:.2} ms", per_pod_ms(agents)));
}

fn job(name: &str, command: &[&str], completions: i32, parallelism: i32) -> Job {
    let container = Container {
        name: "main".to_owned(),
        image: "none".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..Container::default()
    };
    Job {
        metadata: ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() },
        spec: JobSpec {
            completions: Some(completions),
            parallelism: Some(parallelism),
            template: PodTemplateSpec {
                spec: PodSpec {
                    containers: vec![container],
                    restart_policy: Some(RestartPolicy::Never),
                    termination_grace_period_seconds: Some(0),
                    ..PodSpec::default()
                },
                ..PodTemplateSpec::default()
            },
            ..JobSpec::default()
        },
        ..Job::default()
    }
}

fn row(what: &str, figure: String) {
    println!("| {what} | {figure} |");
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// VmRSS of a process, and of it what is its own (RssAnon).
fn resident_memory(process: &Process) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    format!("{} ({} anonymous)", mebibytes(field("VmRSS:")), mebibytes(field("RssAnon:")))
}

fn cpu_seconds_of_servers(cluster: &Cluster) -> f64 {
    cluster.servers.values().map(|server| cpu_seconds(server.pid())).sum()
}

/// Processor time that a process has used itself, in user and kernel mode.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SECOND
}
