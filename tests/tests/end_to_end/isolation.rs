//! An agent is cut off, alone or together with the leader: its Pods are dead before any replacement starts (R6, R7).
//!
//! Each server and each agent is a host of its own: a network namespace on one bridge. Needs root.

use crate::manifests::{assert_no_overlap, journal_script, read_journal, shell_job};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stint_tests::{Process, binary, eventually, wait_until};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(40);

/// Hosts on one bridge; removed when dropped.
struct Hosts {
    prefix: String,
    subnet: String,
    names: Vec<String>,
}

impl Hosts {
    fn new(count: usize) -> Hosts {
        let unique = std::process::id() % 200 + 20;
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let prefix = format!("st{}x{number}", std::process::id() % 100_000);
        let subnet = format!("10.{unique}.{}", 10 + number);
        let mut hosts = Hosts { prefix, subnet, names: Vec::new() };
        // Interfaces of a namespace of their own, so that nothing of the machine's network is touched.
        ip(&["netns", "add", &hosts.switch()]);
        in_namespace(&hosts.switch(), &["ip", "link", "add", "br0", "type", "bridge"]);
        in_namespace(&hosts.switch(), &["ip", "link", "set", "br0", "up"]);
        for number in 1..=count {
            let host = format!("{}h{number}", hosts.prefix);
            let (inner, outer) = ("eth0".to_owned(), format!("p{number}"));
            ip(&["netns", "add", &host]);
            in_namespace(
                &hosts.switch(),
                &["ip", "link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &host],
            );
            in_namespace(&hosts.switch(), &["ip", "link", "set", &outer, "master", "br0", "up"]);
            in_namespace(
                &host,
                &["ip", "address", "add", &format!("{}.{number}/24", hosts.subnet), "dev", &inner],
            );
            in_namespace(&host, &["ip", "link", "set", "lo", "up"]);
            in_namespace(&host, &["ip", "link", "set", &inner, "up"]);
            hosts.names.push(host);
        }
        hosts
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    fn address(&self, host: usize) -> String {
        format!("{}.{host}", self.subnet)
    }

    fn cut(&self, host: usize) {
        in_namespace(&self.switch(), &["ip", "link", "set", &format!("p{host}"), "down"]);
    }

    fn heal(&self, host: usize) {
        in_namespace(&self.switch(), &["ip", "link", "set", &format!("p{host}"), "up"]);
    }

    fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host - 1]]).arg(binary(program));
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch()]) {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn in_namespace(namespace: &str, arguments: &[&str]) {
    let mut all = vec!["netns", "exec", namespace];
    all.extend(arguments);
    ip(&all);
}

/// Three servers on hosts 1–3, agents where they are put; ended before the hosts are removed.
struct NamespacedCluster {
    folder: TempDir,
    processes: Vec<Process>,
    hosts: Hosts,
}

impl NamespacedCluster {
    fn start(host_count: usize, agents: &[(&str, usize)]) -> NamespacedCluster {
        let hosts = Hosts::new(host_count);
        let folder = TempDir::with_prefix("stint-isolation.").unwrap();
        // Pods write there, each as a user of its own.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "0123456789abcdef-a-token-of-the-test-only").unwrap();
        let mut cluster = NamespacedCluster { folder, processes: Vec::new(), hosts };
        let members: Vec<String> =
            (1..=3).map(|number| format!("s{number}={}:7441", cluster.hosts.address(number))).collect();
        for number in 1..=3 {
            let address = cluster.hosts.address(number);
            let mut command = cluster.hosts.command(number, "stint");
            command
                .args(["server", "--name", &format!("s{number}"), "--node-lease", "5s"])
                .args(["--listen", &format!("{address}:7440"), "--peer-listen", &format!("{address}:7441")])
                .args(["--initial-cluster", &members.join(",")])
                .arg("--token-file")
                .arg(&token)
                .arg("--data-dir")
                .arg(cluster.folder.path().join(format!("s{number}")));
            cluster.run(command, &format!("s{number}"));
        }
        for (name, host) in agents {
            let mut command = cluster.hosts.command(*host, "stint-agent");
            command
                .args(["--name", name, "--server", &cluster.addresses(), "--cpu", "16", "--memory", "16Gi"])
                .arg("--token-file")
                .arg(&token)
                .arg("--allow")
                .arg(format!("writable={}", cluster.folder.path().display()))
                .arg("--data-dir")
                .arg(cluster.folder.path().join(name));
            cluster.run(command, name);
        }
        eventually("the agents are Ready", SOON, || {
            let nodes = cluster.stint(1, &["get", "nodes"], "")?;
            (nodes.matches("Ready").count() >= agents.len()).then_some(())
        });
        cluster
    }

    fn run(&mut self, command: Command, name: &str) {
        let log = self.folder.path().join(format!("{name}.output"));
        self.processes.push(Process::start(command, &log));
    }

    fn addresses(&self) -> String {
        let addresses: Vec<String> =
            (1..=3).map(|number| format!("{}:7440", self.hosts.address(number))).collect();
        addresses.join(",")
    }

    /// Runs the command line on a host; stdout if it succeeds.
    fn stint(&self, host: usize, arguments: &[&str], input: &str) -> Option<String> {
        use std::io::Write;
        let mut child = self
            .hosts
            .command(host, "stint")
            .args(arguments)
            .env("STINT_SERVER", self.addresses())
            .env("STINT_TOKEN_FILE", self.folder.path().join("token"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn journal(&self) -> std::path::PathBuf {
        self.folder.path().join("journal")
    }

    fn leader(&self, host: usize) -> Option<usize> {
        let status: serde_json::Value =
            serde_json::from_str(&self.stint(host, &["status", "-o", "json"], "")?).ok()?;
        status["leader"].as_str()?.strip_prefix('s')?.parse().ok()
    }
}

#[test]
fn an_agent_cut_off_alone_has_killed_its_pods_before_a_replacement_starts() {
    let cluster = NamespacedCluster::start(5, &[("w1", 4), ("w2", 5)]);
    run_and_cut(&cluster, "cut-off", 1, &[4]);
}

#[test]
fn an_agent_cut_off_together_with_the_leader_has_killed_its_pods_before_a_replacement_starts() {
    // w1, w2 and w3 share a host with a server each; whichever leads is cut off with its agent.
    let cluster = NamespacedCluster::start(4, &[("w1", 1), ("w2", 2), ("w3", 3)]);
    let leader = eventually("a leader", SOON, || cluster.leader(4));
    run_and_cut(&cluster, "cut-off-with-leader", leader % 3 + 1, &[leader]);
}

#[test]
fn an_agent_that_cannot_reach_the_leader_keeps_its_lease_through_a_follower() {
    let cluster = NamespacedCluster::start(5, &[("w1", 4)]);
    let leader = eventually("a leader", SOON, || cluster.leader(5));
    let script = journal_script(&cluster.journal(), 300, 0);
    let manifest = shell_job("relayed", &["backoffLimit: 0"], &script);
    eventually("the job is applied", SOON, || cluster.stint(5, &["apply", "-f", "-"], &manifest));
    eventually("its pod runs", SOON, || (!read_journal(&cluster.journal()).is_empty()).then_some(()));
    // Only the way from the agent's host to the leader's is closed, for longer than the lease.
    let route = format!("{}/32", cluster.hosts.address(leader));
    in_namespace(&cluster.hosts.names[3], &["ip", "route", "add", "blackhole", &route]);
    let job = eventually("the job completes", SOON, || {
        let job = cluster.stint(5, &["get", "jobs", "relayed", "-o", "json"], "")?;
        let job: serde_json::Value = serde_json::from_str(&job).ok()?;
        let conditions = job["status"]["conditions"].as_array()?;
        let ended = conditions.iter().any(|one| one["type"] == "Complete" || one["type"] == "Failed");
        ended.then_some(job)
    });
    let status = &job["status"];
    assert_eq!(
        (&status["succeeded"], status["failed"].as_i64().unwrap_or(0)),
        (&1.into(), 0),
        "A3: {status}"
    );
    assert_eq!(read_journal(&cluster.journal()).len(), 1, "the pod ran on");
    assert_eq!(cluster.leader(5), Some(leader), "nobody else was cut off");
}

/// Runs a Pod per node, cuts hosts off, waits for replacements, heals, and looks at the journal.
fn run_and_cut(cluster: &NamespacedCluster, name: &str, asked_from: usize, cut: &[usize]) {
    let script = journal_script(&cluster.journal(), 100_000, 0);
    let lines = ["completions: 6", "parallelism: 6", "completionMode: Indexed"];
    let manifest = shell_job(name, &lines, &script);
    eventually("the job is applied", SOON, || cluster.stint(asked_from, &["apply", "-f", "-"], &manifest));
    eventually("every index runs", SOON, || (read_journal(&cluster.journal()).len() == 6).then_some(()));
    for host in cut {
        cluster.hosts.cut(*host);
    }
    let replaced =
        wait_until(Duration::from_secs(25), || (read_journal(&cluster.journal()).len() > 6).then_some(()));
    assert!(
        replaced.is_some(),
        "no replacement was started after the cut\n{}",
        outputs(cluster.folder.path())
    );
    std::thread::sleep(Duration::from_secs(3));
    for host in cut {
        cluster.hosts.heal(*host);
    }
    std::thread::sleep(Duration::from_secs(4));
    let pods = read_journal(&cluster.journal());
    let gap = assert_no_overlap(&pods);
    println!("{name}: {} pods, smallest gap between two pods of one index {gap:.2} s", pods.len());
    assert!(gap.is_finite() && gap > 0.0);
    let job = cluster.stint(asked_from, &["get", "jobs", name, "-o", "json"], "").unwrap();
    let job: serde_json::Value = serde_json::from_str(&job).unwrap();
    assert_eq!(job["status"]["failed"], pods.len() - 6, "each lost pod counts once: {}", job["status"]);
}

fn outputs(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "output") {
            let output = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            text.push_str(&format!(
                "---- {:?}\n{}\n",
                entry.file_name(),
                lines[lines.len().saturating_sub(30)..].join("\n")
            ));
        }
    }
    text
}

#[test]
fn sigkill_to_an_agent_leaves_nothing_of_a_pod_that_double_forks() {
    let mut cluster = stint_tests::Cluster::start(stint_tests::ClusterOptions::new(1, 1));
    let marker = "84628462";
    let script = format!("(setsid sh -c 'sleep {marker} & sleep {marker}' &) ; sleep {marker}");
    cluster.apply(&shell_job("escapes", &[], &script));
    eventually("all of them run", SOON, || (crate::job_behaviour::processes_with(marker) >= 4).then_some(()));
    cluster.kill_agent("w1");
    eventually("nothing is left", Duration::from_secs(2), || {
        (crate::job_behaviour::processes_with(marker) == 0).then_some(())
    });
}
