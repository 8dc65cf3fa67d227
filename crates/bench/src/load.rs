//! Clusters under load, and the processor time of each of their parts.
//!
//! Owns: starting a cluster or `stint dev` so that its parts can be told apart, Jobs, waiting for them. Does not own: what is
//! measured of it.

use std::process::Command;
use std::time::{Duration, Instant};

use stint_api::{Container, Job, JobSpec, ObjectMeta, PodPhase, PodSpec, PodTemplateSpec, RestartPolicy};
use stint_client::v1::PropagationPolicy;
use stint_client::{Client, ClientOptions, Scope};
use stint_tests::{Cluster, ClusterOptions, Process, binary, eventually};

use crate::cpu::{CpuGroup, PodGroups};

/// How long what is left of a Job may take to go.
const SETTLING: Duration = Duration::from_secs(60);

/// Servers and agents, each kind in a group of its own where groups can be made.
pub struct Loaded {
    system: System,
    client: Client,
    servers: Option<CpuGroup>,
    agents: Option<CpuGroup>,
    pods: PodGroups,
    jobs: usize,
}

enum System {
    Cluster(Box<Cluster>),
    Dev { process: Process, _folder: tempfile::TempDir },
}

/// Processor time so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Of servers.
    pub servers: Duration,
    /// Of agents and what they start: shims, and containers until they are in groups of their own. With `dev` the server too.
    pub agents: Duration,
    /// Of containers.
    pub pods: Duration,
}

impl Used {
    /// All of it.
    pub fn total(self) -> Duration {
        self.servers + self.agents + self.pods
    }

    /// What came since.
    pub fn since(self, before: Used) -> Used {
        Used {
            servers: self.servers.saturating_sub(before.servers),
            agents: self.agents.saturating_sub(before.agents),
            pods: self.pods.saturating_sub(before.pods),
        }
    }
}

/// How a Job went.
pub struct Ran {
    /// From its creation to the news of its completion.
    pub wall: Duration,
    /// Until a moment after that, by when what its Pods left is gone too.
    pub used: Used,
}

impl Loaded {
    /// A cluster with the lease of production.
    pub async fn cluster(servers: usize, agents: usize, max_pods: usize) -> Loaded {
        let groups = (CpuGroup::new("servers"), CpuGroup::new("agents"));
        let mut options = ClusterOptions::new(servers, agents);
        // What is measured is not a test's setting.
        options.node_lease = "10s".to_owned();
        let max_pods = max_pods.to_string();
        let room = ["--max-pods", &max_pods, "--cpu", "10000", "--memory", "10Ti"];
        options.agent_arguments = room.map(str::to_owned).to_vec();
        let mut cluster = Cluster::prepare(options);
        {
            let _inside = groups.0.as_ref().map(CpuGroup::enter);
            cluster.server_names().iter().for_each(|name| cluster.start_server(name));
            cluster.wait_for_leader(Duration::from_secs(30));
        }
        {
            let _inside = groups.1.as_ref().map(CpuGroup::enter);
            cluster.agent_names().iter().for_each(|name| cluster.start_agent(name, &[]));
            cluster.wait_for_agents(Duration::from_secs(30));
        }
        let addresses = cluster.addresses();
        Loaded::new(System::Cluster(Box::new(cluster)), &addresses, groups).await
    }

    /// One process that is a server and an agent.
    pub async fn dev() -> Loaded {
        let group = CpuGroup::new("dev");
        let folder = tempfile::TempDir::with_prefix("stint-bench.").unwrap();
        let address_file = folder.path().join("address");
        let mut command = Command::new(binary("stint"));
        command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
        command.arg("--address-file").arg(&address_file);
        let process = {
            let _inside = group.as_ref().map(CpuGroup::enter);
            Process::start(command, &folder.path().join("output"))
        };
        let address = eventually("stint dev is ready", Duration::from_secs(30), || {
            std::fs::read_to_string(&address_file).ok()
        });
        Loaded::new(System::Dev { process, _folder: folder }, address.trim(), (None, group)).await
    }

    async fn new(system: System, addresses: &str, groups: (Option<CpuGroup>, Option<CpuGroup>)) -> Loaded {
        let client = Client::new(ClientOptions::new(addresses)).unwrap();
        let (servers, agents) = groups;
        let mut loaded = Loaded { system, client, servers, agents, pods: PodGroups::default(), jobs: 0 };
        // So many that each agent gets some: then it is known where it puts them.
        let nodes = loaded.agent_pids().len();
        let name = loaded.begin(&["sleep", "1000"], 8 * nodes).await;
        loaded.until_running(&name, 8 * nodes).await;
        loaded.pods = PodGroups::find(&loaded.agent_pids());
        loaded.delete(&name).await;
        loaded
    }

    /// Whether processor time can be told.
    pub fn counts(&self) -> bool {
        self.agents.is_some()
    }

    /// What it has used so far.
    pub fn used(&self) -> Used {
        let of = |group: &Option<CpuGroup>| group.as_ref().map_or(Duration::ZERO, CpuGroup::used);
        Used { servers: of(&self.servers), agents: of(&self.agents), pods: self.pods.used() }
    }

    /// Process ids of the servers; of `dev` none.
    pub fn server_pids(&self) -> Vec<u32> {
        match &self.system {
            System::Cluster(cluster) => cluster.servers.values().map(Process::pid).collect(),
            System::Dev { .. } => Vec::new(),
        }
    }

    /// Process ids of the agents.
    pub fn agent_pids(&self) -> Vec<u32> {
        match &self.system {
            System::Cluster(cluster) => cluster.agents.values().map(Process::pid).collect(),
            System::Dev { process, .. } => vec![process.pid()],
        }
    }

    /// Runs a Job to its end, and waits until nothing of it is left.
    pub async fn run(&mut self, command: &[&str], pods: usize, at_once: usize) -> Ran {
        let before = self.used();
        let begun = Instant::now();
        let name = self.name();
        let created = self.client.create_job(&job(&name, command, pods, at_once)).await.unwrap();
        let scope = Scope { name: name.clone(), ..Scope::default() };
        let mut watch = self.client.watch_jobs(&scope, created.revision);
        while watch.next().await.unwrap().object.status.completion_time.is_none() {}
        let wall = begun.elapsed();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let used = self.used().since(before);
        self.delete(&name).await;
        Ran { wall, used }
    }

    /// Submits a Job whose Pods may all run at once; its name.
    pub async fn begin(&mut self, command: &[&str], pods: usize) -> String {
        let name = self.name();
        self.client.create_job(&job(&name, command, pods, pods)).await.unwrap();
        name
    }

    /// Waits until so many Pods of a Job run.
    pub async fn until_running(&self, name: &str, pods: usize) {
        let begun = Instant::now();
        loop {
            let listed = self.client.list_pods(&Scope::default()).await.unwrap();
            let runs = |pod: &&stint_api::Pod| {
                pod.status.phase == PodPhase::Running && pod.metadata.name.starts_with(&format!("{name}-"))
            };
            let running = listed.items.iter().filter(runs).count();
            if running >= pods {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "{running} of {pods} pods run");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Deletes a Job and waits until its Pods are gone.
    pub async fn delete(&self, name: &str) {
        let job = self.client.get_job("default", name).await.unwrap();
        let uid = job.metadata.uid.parse().unwrap();
        self.client.delete_job("default", name, uid, PropagationPolicy::Background).await.unwrap();
        let begun = Instant::now();
        while !self.client.list_pods(&Scope::default()).await.unwrap().items.is_empty() {
            assert!(begun.elapsed() < SETTLING, "the pods of a deleted job are still there");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Folders and logs are removed in the background.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    fn name(&mut self) -> String {
        self.jobs += 1;
        format!("load-{}", self.jobs)
    }

    /// Ends it.
    pub fn end(self) {
        let Loaded { system, pods, .. } = self;
        if let System::Dev { mut process, .. } = system {
            process.terminate(Duration::from_secs(20));
        }
        pods.remove();
    }
}

/// A Job of one container without any grace.
pub fn job(name: &str, command: &[&str], completions: usize, parallelism: usize) -> Job {
    let container = Container {
        name: "main".to_owned(),
        image: "none".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..Container::default()
    };
    Job {
        metadata: ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() },
        spec: JobSpec {
            completions: Some(completions as i32),
            parallelism: Some(parallelism as i32),
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
