//! Into Pods that run: commands, copies, connections, what they write and use (A3), on every runtime that this machine has.
//!
//! Owns: a cluster with a node for each of them. Does not own: what is tried there (a module per subject).
//!
//! One body for all of them: what differs on a runtime stands where it differs, and why.

mod commands;
mod copies;
mod logs;
mod ports;

use crate::manifests::shell_job_with;
use std::collections::BTreeMap;
use std::time::Duration;
use stint_client::{Client, ClientOptions};
use stint_tests::engine::Engine;
use stint_tests::{BUSYBOX_IMAGE, Cluster, ClusterOptions, ServedImages, abilities};

const SOON: Duration = Duration::from_secs(90);
const NODE_LEASE: &str = "10s";
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(13);

/// A cluster with a node for each runtime.
struct Nodes {
    cluster: Cluster,
    runtimes: Vec<&'static str>,
    /// Of the agents, by runtime.
    arguments: BTreeMap<&'static str, Vec<String>>,
    _images: ServedImages,
    /// Outlives the agent that uses it.
    engine: Option<Engine>,
}

impl Nodes {
    /// What the machine has not is left out, which is said.
    fn start(servers: usize) -> Nodes {
        let images = ServedImages::start();
        let mut options = ClusterOptions::new(servers, 0);
        options.node_lease = NODE_LEASE.to_owned();
        options.agent_arguments.extend(images.agent_arguments());
        let below = abilities::containers_without_daemon();
        options.below = below.as_ref().ok().cloned();
        let engine = Engine::start();
        let mut nodes = Nodes {
            cluster: Cluster::start(options),
            runtimes: Vec::new(),
            arguments: BTreeMap::new(),
            _images: images,
            engine: None,
        };
        nodes.add("process", &["--runtime", "process"]);
        match below {
            Ok(_) => nodes.add("oci", &["--runtime", "oci"]),
            Err(why) => println!("not run: into containers without a daemon: {why}"),
        }
        match engine {
            Ok(engine) => {
                nodes.add("cri", &["--runtime", "cri", "--cri-socket", &engine.address()]);
                nodes.engine = Some(engine);
            }
            Err(why) => println!("not run: into containers of containerd: {why}"),
        }
        nodes.cluster.wait_for_agents(SOON);
        nodes
    }

    fn add(&mut self, runtime: &'static str, arguments: &[&str]) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.arguments.insert(runtime, arguments);
        self.runtimes.push(runtime);
        self.start_agent(runtime);
    }

    /// Starts the agent of a runtime, or another one in its folder.
    fn start_agent(&mut self, runtime: &str) {
        let arguments: Vec<&str> = self.arguments[runtime].iter().map(String::as_str).collect();
        self.cluster.start_agent(runtime, &arguments);
    }

    /// With a Pod on each that does nothing for ten minutes.
    fn with_pods(servers: usize) -> Nodes {
        let nodes = Nodes::start(servers);
        nodes.each(|runtime| drop(nodes.pod(runtime, "exec sleep 600")));
        nodes
    }

    /// Does the same for each runtime, side by side.
    fn each(&self, body: impl Fn(&'static str) + Sync) {
        std::thread::scope(|scope| {
            for runtime in &self.runtimes {
                let body = &body;
                // Its name is what a failure begins with.
                let named = std::thread::Builder::new().name((*runtime).to_owned());
                named.spawn_scoped(scope, move || body(runtime)).expect("a thread can be made");
            }
        });
    }

    /// Runs a Pod of a Job of the runtime's name there; its name.
    fn pod(&self, runtime: &str, script: &str) -> String {
        self.cluster.apply(&job(runtime, runtime, "Never", script));
        let pods = self.cluster.wait_for_pods(runtime, "Running", 1, SOON);
        pods[0]["metadata"]["name"].as_str().unwrap().to_owned()
    }

    fn client(&self) -> Client {
        Client::new(ClientOptions::new(&self.cluster.addresses())).unwrap()
    }

    /// Ends the agents with their Pods, so that nothing is left in an engine.
    fn end(mut self) {
        self.cluster.end_agents();
        if let Some(engine) = &self.engine {
            assert_eq!(engine.containers(), Vec::<String>::new(), "nothing is left in the engine");
        }
    }
}

/// A Job of one Pod on a runtime. Processes have the programs of this machine, containers those of the image.
fn job(name: &str, runtime: &str, restart_policy: &str, script: &str) -> String {
    let mut manifest = shell_job_with(name, &[], restart_policy, script);
    manifest = manifest.replace("image: none", &format!("image: {BUSYBOX_IMAGE}"));
    manifest.push_str(&format!("      runtimeClassName: {runtime}\n"));
    manifest
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
