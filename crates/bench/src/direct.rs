//! Containers without a queue: the process runtime used by itself.
//!
//! Owns: a loop that starts containers, waits for their ends and removes what they leave. Does not own: what is measured of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stint_runtime::{
    ContainerId, ContainerSpec, LeftOut, LogStore, PodSandboxSpec, ProcessRuntime, ProcessRuntimeOptions,
    RunningContainer, Runtime,
};
use stint_tests::binary;
use tokio::sync::Semaphore;

/// Which parts of the isolation are there.
#[derive(Debug, Clone, Copy)]
pub struct Layers {
    /// A PID namespace of its own, which ends with the shim.
    pub pid_namespace: bool,
    /// Limits, and the measuring of use.
    pub control_groups: bool,
    /// The rest.
    pub left_out: LeftOut,
}

/// What the runtime of an agent does.
pub const ALL: Layers = Layers {
    pid_namespace: true,
    control_groups: true,
    left_out: LeftOut { view: false, identity: false, filter: false },
};

/// A runtime in a folder of its own.
pub struct Direct {
    runtime: ProcessRuntime,
    folder: tempfile::TempDir,
    made: usize,
}

impl Direct {
    /// With the shim of the agent that was built beside this binary, or its own. Needs a tokio runtime.
    pub async fn new(layers: Layers, own_shim: bool) -> Direct {
        let folder = tempfile::TempDir::with_prefix("stint-bench.").unwrap();
        let path = std::fs::canonicalize(folder.path()).unwrap();
        let logs = LogStore::open(&path.join("logs")).unwrap();
        let name = path.extension().and_then(|name| name.to_str()).unwrap_or("x").to_owned();
        let options = ProcessRuntimeOptions {
            shim_program: (!own_shim).then(|| binary("stint-agent")),
            force_degraded: !layers.pid_namespace,
            node_uid: layers.control_groups.then(|| format!("bench-{name}")),
            left_out: layers.left_out,
            ..ProcessRuntimeOptions::new(logs, path)
        };
        Direct { runtime: ProcessRuntime::new(options).await.unwrap(), folder, made: 0 }
    }

    /// Starts a container in a Pod of its own.
    pub async fn start(&mut self, command: &[&str]) -> Arc<dyn RunningContainer> {
        let (pod, spec) = self.next(command);
        let sandbox = self.runtime.open_pod(pod).await.unwrap();
        sandbox.start(spec, Box::pin(std::future::pending())).await.unwrap()
    }

    /// Runs a command so often, some at once, each in a Pod of its own, and removes what each leaves.
    pub async fn run_all(&mut self, command: &[&str], count: usize, at_once: usize) {
        let gate = Arc::new(Semaphore::new(at_once));
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..count {
            let permit = gate.clone().acquire_owned().await.unwrap();
            let (pod, spec) = self.next(command);
            let directory = pod.directory.clone();
            let opening = self.runtime.open_pod(pod).await.unwrap();
            running.spawn(async move {
                let container = opening.start(spec, Box::pin(std::future::pending())).await.unwrap();
                let exit = container.wait().await;
                assert_eq!(exit.exit_code, 0, "{}", exit.message);
                container.release().await;
                tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory))
                    .await
                    .unwrap()
                    .unwrap();
                drop(permit);
            });
            while let Some(ended) = running.try_join_next() {
                ended.unwrap();
            }
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    }

    fn next(&mut self, command: &[&str]) -> (PodSandboxSpec, ContainerSpec) {
        self.made += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.made);
        let spec = ContainerSpec {
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).unwrap())
        };
        let pod = PodSandboxSpec::new(&uid, self.path().join("pods").join(&uid));
        (PodSandboxSpec { hostname: format!("bench-{}", self.made), ..pod }, spec)
    }

    fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.folder.path()).unwrap_or_else(|_| Path::new("/").to_owned())
    }
}
