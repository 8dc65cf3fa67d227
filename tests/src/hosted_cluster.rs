//! A cluster whose servers and agents are on hosts of their own, so that each can be killed, stopped and cut off.
//!
//! Owns: three servers on hosts 1 to 3, agents where they are put, faults. Does not own: which faults, and when.
//!
//! Faults may be made from several threads at once.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::NO_PRESSURE;
use crate::folder::TestFolder;
use crate::hosts::Hosts;
use crate::process::{Process, binary};
use crate::served_images::ServedImages;
use crate::waiting::{eventually, wait_until};

const TOKEN: &str = "0123456789abcdef-a-token-of-the-test-only";
const SOON: Duration = Duration::from_secs(60);

/// See the module. Its processes are ended before its hosts are removed.
#[derive(Debug)]
pub struct HostedCluster {
    processes: BTreeMap<String, Member>,
    agent_arguments: Vec<String>,
    /// Its hosts.
    pub hosts: Hosts,
    /// Folder of all its data. The last: it goes when nothing runs in it any more.
    pub folder: TestFolder,
}

#[derive(Debug)]
struct Member {
    host: usize,
    process: Mutex<Option<Process>>,
}

/// What agents need that run containers.
#[derive(Debug, Default)]
pub struct HostedOptions<'a> {
    /// Served on every host, and told to every agent.
    pub images: Option<&'a ServedImages>,
    /// Below which folder all data is; none: that for temporary files.
    pub below: Option<PathBuf>,
}

impl HostedCluster {
    /// Starts it with a lease of 5 s and waits until every agent is Ready. `agents` are names and hosts.
    pub fn start(host_count: usize, agents: &[(&str, usize)], agent_arguments: &[&str]) -> HostedCluster {
        HostedCluster::start_with(host_count, agents, agent_arguments, &HostedOptions::default())
    }

    /// The same, with more.
    pub fn start_with(
        host_count: usize,
        agents: &[(&str, usize)],
        agent_arguments: &[&str],
        options: &HostedOptions<'_>,
    ) -> HostedCluster {
        let servers = (1..=3).map(|number| (format!("s{number}"), number));
        let agents_of = agents.iter().map(|(name, host)| ((*name).to_owned(), *host));
        let processes: BTreeMap<String, Member> = servers
            .chain(agents_of)
            .map(|(name, host)| (name, Member { host, process: Mutex::new(None) }))
            .collect();
        let hosts = Hosts::new(host_count);
        let mut agent_arguments: Vec<String> =
            agent_arguments.iter().map(|argument| (*argument).to_owned()).collect();
        if let Some(images) = options.images {
            // Each host has a loopback of its own.
            (1..=host_count).for_each(|host| images.serve_also(hosts.listen(host, images.port())));
            agent_arguments.extend(images.agent_arguments());
        }
        let below = options.below.clone().unwrap_or_else(std::env::temp_dir);
        let folder = TestFolder::new_in(&below, "stint-hosted.");
        let cluster = HostedCluster { folder, processes, agent_arguments, hosts };
        // Pods write there, each as a user of its own.
        let readable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(cluster.folder.path(), readable).expect("the folder is ours");
        std::fs::write(cluster.token_file(), TOKEN).expect("the folder is ours");
        std::fs::create_dir(cluster.shared_folder()).expect("the folder is ours");
        cluster.processes.keys().for_each(|name| cluster.start_process(name));
        eventually("the agents are Ready", SOON, || {
            let nodes = cluster.stint(1, &["get", "nodes"], "")?;
            (nodes.matches("Ready").count() >= agents.len()).then_some(())
        });
        cluster
    }

    /// A folder that Pods may write to, and that containers may mount.
    pub fn shared_folder(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// Host of a server or an agent.
    pub fn host_of(&self, name: &str) -> usize {
        self.processes[name].host
    }

    /// Starts a server (`s1`, `s2`, `s3`) or an agent, again.
    pub fn start_process(&self, name: &str) {
        let member = &self.processes[name];
        let address = self.hosts.address(member.host);
        let is_server = name.starts_with('s');
        let mut command =
            self.hosts.command(member.host, binary(if is_server { "stint" } else { "stint-agent" }));
        if is_server {
            command
                .args(["server", "--name", name, "--node-lease", "5s", "--initial-cluster", &self.members()])
                .args(["--listen", &format!("{address}:7440"), "--peer-listen", &format!("{address}:7441")]);
        } else {
            command.args(["--name", name, "--server", &self.addresses(), "--cpu", "16", "--memory", "16Gi"]);
            command.arg("--allow").arg(format!("writable={}", self.folder.path().display()));
            command.arg("--allow").arg(format!("host-path={}:rw", self.shared_folder().display()));
            command.args(NO_PRESSURE).args(&self.agent_arguments);
        }
        command
            .arg("--token-file")
            .arg(self.token_file())
            .arg("--data-dir")
            .arg(self.folder.path().join(name));
        let log = self.folder.path().join(format!("{name}.output"));
        *self.process(name) = Some(Process::start(command, &log));
    }

    /// SIGKILL to a server or an agent.
    pub fn kill(&self, name: &str) {
        if let Some(mut process) = self.process(name).take() {
            process.kill();
        }
    }

    /// A signal to a server or an agent.
    pub fn signal(&self, name: &str, signal: Signal) {
        if let Some(process) = self.process(name).as_ref() {
            process.signal(signal);
        }
    }

    /// SIGINT to all agents that run: each ends with all of its Pods, so that nothing is left of them on this machine.
    pub fn end_agents(&self) {
        let agents: Vec<&String> = self.processes.keys().filter(|name| name.starts_with('w')).collect();
        agents.iter().for_each(|name| self.signal(name, Signal::SIGINT));
        for name in agents {
            let ended = wait_until(SOON, || {
                let mut process = self.process(name);
                process.as_mut().is_none_or(|process| !process.is_running()).then_some(())
            });
            assert!(ended.is_some(), "{name} does not end\n{}", self.outputs());
        }
    }

    /// Cuts off the host of a server or an agent.
    pub fn cut(&self, name: &str) {
        self.hosts.cut(self.host_of(name));
    }

    /// Ends a cut.
    pub fn heal(&self, name: &str) {
        self.hosts.heal(self.host_of(name));
    }

    /// Runs the command line on a host; stdout if it succeeds.
    pub fn stint(&self, host: usize, arguments: &[&str], input: &str) -> Option<String> {
        use std::io::Write;
        let mut child = self
            .hosts
            .command(host, binary("stint"))
            .args(arguments)
            .env("STINT_SERVER", self.addresses())
            .env("STINT_TOKEN_FILE", self.token_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip can be started");
        drop(child.stdin.take().expect("stdin was piped").write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("the child is ours");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A Job as JSON, asked for on a host.
    pub fn job(&self, host: usize, name: &str) -> Option<Value> {
        serde_json::from_str(&self.stint(host, &["get", "jobs", name, "-o", "json"], "")?).ok()
    }

    /// Name of the leader as a host sees it.
    pub fn leader(&self, host: usize) -> Option<String> {
        let status: Value = serde_json::from_str(&self.stint(host, &["status", "-o", "json"], "")?).ok()?;
        status["leader"].as_str().map(str::to_owned)
    }

    /// The last lines that each process wrote, for a failed test.
    pub fn outputs(&self) -> String {
        let mut text = String::new();
        for name in self.processes.keys() {
            let path: PathBuf = self.folder.path().join(format!("{name}.output"));
            let output = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            // Writing into a string can't fail.
            let _ = write!(text, "---- {name}\n{tail}\n");
        }
        text
    }

    /// What processes wrote with this text in it.
    pub fn lines_about(&self, text: &str) -> String {
        let mut found = String::new();
        for name in self.processes.keys() {
            let output = std::fs::read_to_string(self.folder.path().join(format!("{name}.output")));
            for line in output.unwrap_or_default().lines().filter(|line| line.contains(text)) {
                // Writing into a string can't fail.
                let _ = writeln!(found, "{name}: {line}");
            }
        }
        found
    }

    fn process(&self, name: &str) -> std::sync::MutexGuard<'_, Option<Process>> {
        // Whole after a panic of another thread.
        self.processes[name].process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn addresses(&self) -> String {
        let addresses: Vec<String> =
            (1..=3).map(|number| format!("{}:7440", self.hosts.address(number))).collect();
        addresses.join(",")
    }

    fn members(&self) -> String {
        let members: Vec<String> =
            (1..=3).map(|number| format!("s{number}={}:7441", self.hosts.address(number))).collect();
        members.join(",")
    }
}
