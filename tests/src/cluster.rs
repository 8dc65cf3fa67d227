//! A cluster of real servers and agents on loopback.
//!
//! Owns: names, addresses, folders and processes of one cluster; running the command line against it.
//! Does not own: assertions about features.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::abilities::NOBODY;
use crate::folder::TestFolder;
use crate::process::{Process, binary};
use crate::waiting::{eventually, wait_until};

/// An agent takes Pods however little of its disk and memory is free.
pub(crate) const NO_PRESSURE: [&str; 4] = ["--min-free-disk", "0", "--min-free-memory", "0"];

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Number of servers.
    pub servers: usize,
    /// Number of agents.
    pub agents: usize,
    /// `--node-lease`.
    pub node_lease: String,
    /// Further arguments of every server.
    pub server_arguments: Vec<String>,
    /// Further arguments of every agent.
    pub agent_arguments: Vec<String>,
    /// Another file that is run as every agent; none: the one that was built.
    pub agent_program: Option<PathBuf>,
    /// Who every agent is.
    pub agent_user: AgentUser,
    /// Below which folder all data is; none: that for temporary files.
    pub below: Option<PathBuf>,
}

/// Who an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentUser {
    /// Whoever runs the tests.
    Own,
    /// [`NOBODY`]. Needs root.
    Nobody,
    /// The same, in surroundings in which the kernel refuses it user namespaces, and so all others. Needs root.
    NobodyWithoutNamespaces,
}

impl ClusterOptions {
    /// So many servers and agents, with a lease that no stall of a busy machine uses up: Pods are lost with their agents only.
    pub fn new(servers: usize, agents: usize) -> ClusterOptions {
        ClusterOptions {
            servers,
            agents,
            node_lease: "20s".to_owned(),
            server_arguments: Vec::new(),
            agent_arguments: vec![
                "--cpu".to_owned(),
                "64".to_owned(),
                "--memory".to_owned(),
                "64Gi".to_owned(),
            ],
            agent_program: None,
            agent_user: AgentUser::Own,
            below: None,
        }
    }

    /// The same with the shortest lease, for what happens when one ends.
    pub fn with_shortest_lease(servers: usize, agents: usize) -> ClusterOptions {
        ClusterOptions { node_lease: "5s".to_owned(), ..ClusterOptions::new(servers, agents) }
    }
}

/// A running cluster. Dropping it ends its processes and removes its data.
#[derive(Debug)]
pub struct Cluster {
    /// What it was made of.
    pub options: ClusterOptions,
    /// Client address by server name.
    pub client_addresses: BTreeMap<String, String>,
    /// Peer address by server name.
    pub peer_addresses: BTreeMap<String, String>,
    /// Running servers by name.
    pub servers: BTreeMap<String, Process>,
    /// Running agents by name.
    pub agents: BTreeMap<String, Process>,
    /// Folder of all its data. The last: it goes when nothing runs in it any more.
    pub folder: TestFolder,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code; 128 + n if a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Outcome {
    /// Stdout of a command that had to succeed.
    ///
    /// # Panics
    /// If it failed.
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }
}

impl Cluster {
    /// Starts a cluster and waits until it has a leader and every agent is Ready.
    pub fn start(options: ClusterOptions) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        for name in cluster.server_names() {
            cluster.start_server(&name);
        }
        cluster.wait_for_leader(Duration::from_secs(90));
        for name in cluster.agent_names() {
            cluster.start_agent(&name, &[]);
        }
        cluster.wait_for_agents(Duration::from_secs(90));
        cluster
    }

    /// Chooses names, addresses and folders without starting anything.
    pub fn prepare(options: ClusterOptions) -> Cluster {
        let below = options.below.clone().unwrap_or_else(std::env::temp_dir);
        let folder = TestFolder::new_in(&below, "stint-test.");
        // Pods write there, each as a user of its own.
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), everybody).expect("a folder can be opened to all");
        let mut client_addresses = BTreeMap::new();
        let mut peer_addresses = BTreeMap::new();
        for number in 1..=options.servers {
            client_addresses.insert(format!("s{number}"), free_address());
            peer_addresses.insert(format!("s{number}"), free_address());
        }
        Cluster {
            options,
            folder,
            client_addresses,
            peer_addresses,
            servers: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }

    /// Gives a new server, or one that takes the place of another, addresses of its own; starts nothing.
    pub fn place_server(&mut self, name: &str) {
        self.client_addresses.insert(name.to_owned(), free_address());
        self.peer_addresses.insert(name.to_owned(), free_address());
    }

    /// Forgets a server that does not run.
    pub fn forget_server(&mut self, name: &str) {
        assert!(!self.servers.contains_key(name), "{name} still runs");
        self.client_addresses.remove(name);
        self.peer_addresses.remove(name);
    }

    /// `s1`, `s2`, …
    pub fn server_names(&self) -> Vec<String> {
        self.client_addresses.keys().cloned().collect()
    }

    /// `w1`, `w2`, …
    pub fn agent_names(&self) -> Vec<String> {
        (1..=self.options.agents).map(|number| format!("w{number}")).collect()
    }

    /// Data folder of a server or an agent.
    pub fn data_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The value of `--initial-cluster`.
    pub fn initial_cluster(&self) -> String {
        let members: Vec<String> =
            self.peer_addresses.iter().map(|(name, address)| format!("{name}={address}")).collect();
        members.join(",")
    }

    /// The command line of a server, as [`Cluster::start_server`] runs it.
    pub fn server_command(&self, name: &str) -> Command {
        let mut command = Command::new(binary("stint"));
        command
            .args(["server", "--name", name, "--node-lease", &self.options.node_lease])
            .args(["--listen", &self.client_addresses[name], "--peer-listen", &self.peer_addresses[name]])
            .args(["--initial-cluster", &self.initial_cluster()])
            .arg("--data-dir")
            .arg(self.data_folder(name))
            .args(&self.options.server_arguments);
        command
    }

    /// Starts or restarts a server.
    pub fn start_server(&mut self, name: &str) {
        let process = Process::start(self.server_command(name), &self.log_path(name));
        self.servers.insert(name.to_owned(), process);
    }

    /// Starts or restarts an agent.
    pub fn start_agent(&mut self, name: &str, arguments: &[&str]) {
        let servers = self.addresses();
        self.start_agent_towards(name, &servers, arguments);
    }

    /// Starts an agent that knows other addresses than the servers' own, such as a proxy's.
    pub fn start_agent_towards(&mut self, name: &str, servers: &str, arguments: &[&str]) {
        let program = self.options.agent_program.clone().unwrap_or_else(|| binary("stint-agent"));
        let mut command = self.agent_command(program);
        command
            .args(["--name", name, "--server", servers])
            .arg("--data-dir")
            .arg(self.data_folder(name))
            .arg("--allow")
            .arg(format!("writable={}", self.folder.path().display()))
            .args(&self.options.agent_arguments)
            .args(arguments);
        // How full the disk of the machine is that tests run on is no part of them.
        let of_all = self.options.agent_arguments.iter().map(String::as_str);
        if !of_all.chain(arguments.iter().copied()).any(|argument| argument == NO_PRESSURE[0]) {
            command.args(NO_PRESSURE);
        }
        let process = Process::start(command, &self.log_path(name));
        self.agents.insert(name.to_owned(), process);
    }

    /// The program, by its user.
    fn agent_command(&self, program: PathBuf) -> Command {
        let user = NOBODY.to_string();
        match self.options.agent_user {
            AgentUser::Own => Command::new(program),
            AgentUser::Nobody => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
                command.arg(self.public_copy(&program));
                command
            }
            AgentUser::NobodyWithoutNamespaces => {
                // In a changed root nobody may make user namespaces. This one has everything that the real one has.
                let root = self.folder.path().join("root");
                std::fs::create_dir_all(&root).expect("the folder is ours");
                let script = format!(
                    "mount --rbind / \"$0\" && exec chroot --userspec={user}:{user} --groups= \"$0\" \"$@\""
                );
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(root);
                command.arg(self.public_copy(&program));
                command
            }
        }
    }

    /// Where everybody may run it.
    fn public_copy(&self, program: &Path) -> PathBuf {
        let copy = self.folder.path().join("stint-agent");
        if !copy.exists() {
            std::fs::copy(program, &copy).expect("a program can be copied");
        }
        copy
    }

    /// The file that a process's output goes to.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.output"))
    }

    /// All servers' client addresses, as `STINT_SERVER` takes them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<&str> = self.client_addresses.values().map(String::as_str).collect();
        addresses.join(",")
    }

    /// Runs the command line against the cluster.
    pub fn stint(&self, arguments: &[&str]) -> Outcome {
        self.stint_with_input(arguments, "")
    }

    /// Runs the command line against the cluster with something on stdin.
    pub fn stint_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        run_stint(&self.addresses(), arguments, input)
    }

    /// The parsed stdout of a command that prints JSON and has to succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.stint(arguments).success();
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {text}"))
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) {
        self.stint_with_input(&["apply", "-f", "-"], manifest).success();
    }

    /// A Job as JSON.
    pub fn job(&self, name: &str) -> Value {
        self.json(&["get", "jobs", name, "-o", "json"])
    }

    /// A Job's Pods as JSON.
    pub fn pods(&self, job: &str) -> Vec<Value> {
        let list = self.json(&["get", "pods", "-l", &format!("job-name={job}"), "-o", "json"]);
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Name of the leader, if a server knows one.
    pub fn leader(&self) -> Option<String> {
        let outcome = self.stint(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&outcome.stdout).ok()?;
        status["leader"].as_str().map(str::to_owned)
    }

    /// Waits until there is a leader and gives its name.
    pub fn wait_for_leader(&self, deadline: Duration) -> String {
        wait_until(deadline, || self.leader())
            .unwrap_or_else(|| panic!("no leader within {deadline:?}\n{}", self.outputs()))
    }

    /// Waits until every agent that runs is Ready.
    pub fn wait_for_agents(&self, deadline: Duration) {
        let expected = self.agents.len();
        let ready = wait_until(deadline, || (self.ready_nodes().len() >= expected).then_some(()));
        assert!(ready.is_some(), "not every agent is Ready within {deadline:?}\n{}", self.outputs());
    }

    /// Names of the nodes that are Ready.
    pub fn ready_nodes(&self) -> Vec<String> {
        let outcome = self.stint(&["get", "nodes", "-o", "json"]);
        let Ok(list) = serde_json::from_str::<Value>(&outcome.stdout) else { return Vec::new() };
        let nodes = list["items"].as_array().cloned().unwrap_or_default();
        nodes
            .iter()
            .filter(|node| condition(node, "Ready").is_some_and(|ready| ready["status"] == "True"))
            .filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits until a Job has a condition with status True.
    pub fn wait_for_condition(&self, job: &str, condition_type: &str, deadline: Duration) -> Value {
        let found = wait_until(deadline, || {
            let object = self.job(job);
            condition(&object, condition_type).filter(|found| found["status"] == "True").map(|_| object)
        });
        found.unwrap_or_else(|| {
            let events = self.stint(&["get", "events"]).stdout;
            let pods = self.stint(&["get", "pods", "-o", "wide"]).stdout;
            panic!(
                "job {job} is not {condition_type} within {deadline:?}\n{:#}\n{pods}\n{events}\n{}",
                self.job(job),
                self.outputs()
            )
        })
    }

    /// Waits until so many of a Job's Pods are in a phase, and gives them.
    pub fn wait_for_pods(&self, job: &str, phase: &str, count: usize, deadline: Duration) -> Vec<Value> {
        eventually(&format!("{count} pods of {job} {phase}"), deadline, || {
            let pods: Vec<Value> =
                self.pods(job).into_iter().filter(|pod| pod["status"]["phase"] == phase).collect();
            (pods.len() >= count).then_some(pods)
        })
    }

    /// SIGKILL to a server.
    pub fn kill_server(&mut self, name: &str) {
        self.servers.remove(name).expect("the server was started").kill();
    }

    /// SIGKILL to an agent.
    pub fn kill_agent(&mut self, name: &str) {
        self.agents.remove(name).expect("the agent was started").kill();
    }

    /// SIGINT to all agents: each ends with all of its Pods, so that nothing is left of them on this machine.
    pub fn end_agents(&mut self) {
        for agent in self.agents.values() {
            agent.signal(Signal::SIGINT);
        }
        for (name, mut agent) in std::mem::take(&mut self.agents) {
            let ended = agent.ended_within(Duration::from_secs(60));
            assert!(ended.is_some_and(|status| status.success()), "{name}: {ended:?}\n{}", self.outputs());
        }
    }

    /// The last lines that each process wrote, for a failed test.
    pub fn outputs(&self) -> String {
        let mut text = String::new();
        for name in self.server_names().into_iter().chain(self.agent_names()) {
            let output = std::fs::read_to_string(self.log_path(&name)).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            text.push_str(&format!("---- {name}\n{}\n", tail.join("\n")));
        }
        text
    }
}

/// The condition of a type in an object's status.
pub fn condition(object: &Value, condition_type: &str) -> Option<Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == condition_type)
        .cloned()
}

/// Runs the command line against some servers.
pub fn run_stint(servers: &str, arguments: &[&str], input: &str) -> Outcome {
    use std::io::Write;
    let mut child = Command::new(binary("stint"))
        .args(arguments)
        .env("STINT_SERVER", servers)
        // Whoever runs the tests may have contexts: here is none.
        .env("STINT_CONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("stint can be started");
    let mut stdin = child.stdin.take().expect("stdin was piped");
    let input = input.to_owned();
    // A command that never reads its stdin closes it: that is not this writer's business.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().expect("the child is ours");
    drop(writer.join());
    Outcome {
        code: exit_code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A loopback address with a port that is free now. Each test process has a /24 of 127.0.0.0/8 of its own.
fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let address =
        Ipv4Addr::new(127, 1 + (pid % 250) as u8, (pid / 250 % 250) as u8, 1 + (number % 250) as u8);
    let listener = TcpListener::bind((address, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").to_string()
}
