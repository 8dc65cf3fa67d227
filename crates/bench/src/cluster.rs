//! A cluster on this machine as a whole: sizes, idle processes, time from submission to running, throughput.
//!
//! Owns: what is measured of it. Does not own: what a Pod costs part by part (`isolation`), memory with many Pods (`memory`).

use std::process::Command;
use std::time::{Duration, Instant};

use stint_api::PodPhase;
use stint_client::v1::PropagationPolicy;
use stint_client::{Client, ClientOptions, Scope};
use stint_tests::{Cluster, ClusterOptions, Process, binary, eventually};

use crate::load::job;
use crate::report::{Table, at_share, head, mebibytes};

/// Jobs whose way from submission to running is timed.
const SUBMISSIONS: usize = 50;
/// Pods of the Job whose throughput is measured, and how many of them may run at once.
const PODS: usize = 2_000;
const PARALLELISM: usize = 200;
/// How long processes are left alone before their memory is read.
const SETTLING: Duration = Duration::from_secs(10);
/// Clock ticks per second of /proc/PID/stat: fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures and prints.
pub async fn measure() {
    head("A cluster of 3 servers and 2 agents");
    let mut figures = Figures(Table::new(&["", ""]));
    for name in ["stint", "stint-agent"] {
        let bytes = std::fs::metadata(binary(name)).unwrap().len();
        figures.add(&format!("size of {name}"), mebibytes(bytes as f64));
    }
    figures.add("memory of stint dev, idle", dev_memory());
    // The lease of production: what is measured is not a test's setting.
    let mut options = ClusterOptions::new(3, 2);
    options.node_lease = "10s".to_owned();
    let cluster = Cluster::start(options);
    let busy = |cluster: &Cluster| (cpu_seconds_of_servers(cluster), cpu_seconds_of_agents(cluster));
    let from = busy(&cluster);
    std::thread::sleep(SETTLING);
    let to = busy(&cluster);
    let share = |from: f64, to: f64, processes: f64| {
        format!("{:.2} % of a core", (to - from) / SETTLING.as_secs_f64() / processes * 100.0)
    };
    figures.add("processor use of an idle server", share(from.0, to.0, 3.0));
    figures.add("processor use of an idle agent", share(from.1, to.1, 2.0));
    figures.memory_of_cluster(&cluster, "idle");
    let client = Client::new(ClientOptions::new(&cluster.addresses())).unwrap();
    figures.submissions(&client).await;
    figures.throughput(&cluster, &client).await;
    figures.memory_of_cluster(&cluster, &format!("after {PODS} Pods"));
    figures.0.print();
}

fn dev_memory() -> String {
    let folder = tempfile::TempDir::with_prefix("stint-bench.").unwrap();
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

struct Figures(Table);

impl Figures {
    fn add(&mut self, what: &str, figure: String) {
        self.0.row(vec![what.to_owned(), figure]);
    }

    fn memory_of_cluster(&mut self, cluster: &Cluster, when: &str) {
        for (name, server) in &cluster.servers {
            self.add(&format!("memory of server {name}, {when}"), resident_memory(server));
        }
        for (name, agent) in &cluster.agents {
            self.add(&format!("memory of agent {name}, {when}"), resident_memory(agent));
        }
    }

    /// From sending a Job to the watch event that says that its Pod runs, one after another.
    async fn submissions(&mut self, client: &Client) {
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
        let (p50, p99) = (at_share(&times_ms, 0.5), at_share(&times_ms, 0.99));
        self.add(
            &format!("submission to running, {SUBMISSIONS} Jobs one after another"),
            format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
        );
    }

    async fn throughput(&mut self, cluster: &Cluster, client: &Client) {
        let (servers_before, agents_before) =
            (cpu_seconds_of_servers(cluster), cpu_seconds_of_agents(cluster));
        let begun = Instant::now();
        let name = "many";
        let created = client.create_job(&job(name, &["true"], PODS, PARALLELISM)).await.unwrap();
        let scope = Scope { name: name.to_owned(), ..Scope::default() };
        let mut watch = client.watch_jobs(&scope, created.revision);
        while watch.next().await.unwrap().object.status.completion_time.is_none() {}
        let seconds = begun.elapsed().as_secs_f64();
        let per_pod_ms = |cpu_seconds: f64| format!("{:.2} ms", cpu_seconds * 1000.0 / PODS as f64);
        self.add(
            &format!("{PODS} Pods of `true`, {PARALLELISM} at once, 3 servers and 2 agents"),
            format!("{:.0} Pods/s ({seconds:.1} s)", PODS as f64 / seconds),
        );
        let servers = cpu_seconds_of_servers(cluster) - servers_before;
        let agents = cpu_seconds_of_agents(cluster) - agents_before;
        self.add("processor time per Pod, all servers", per_pod_ms(servers));
        self.add("processor time per Pod, both agents without their Pods and shims", per_pod_ms(agents));
    }
}

/// VmRSS of a process, and of it what is its own (RssAnon).
fn resident_memory(process: &Process) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let field = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    };
    format!("{} ({} anonymous)", mebibytes(field("VmRSS:")), mebibytes(field("RssAnon:")))
}

fn cpu_seconds_of_servers(cluster: &Cluster) -> f64 {
    cluster.servers.values().map(|server| cpu_seconds(server.pid())).sum()
}

fn cpu_seconds_of_agents(cluster: &Cluster) -> f64 {
    cluster.agents.values().map(|agent| cpu_seconds(agent.pid())).sum()
}

/// Processor time that a process has used itself, in user and kernel mode.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_PER_SECOND
}
