//! What each case has: a node of its own on the engine.

use crate::engine::{BUSYBOX, Engine};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stint_runtime::{
    BoxFuture, ContainerId, ContainerSpec, CriRuntime, CriRuntimeOptions, Exit, ImageSpec, LogStore, Mount,
    MountPropagation, PodSandbox, PodSandboxSpec, PullPolicy, ReadOptions, RunningContainer, Runtime,
};

/// Nobody kills it before it has started.
pub fn never() -> BoxFuture<'static, ()> {
    Box::pin(std::future::pending())
}

/// Moment of CLOCK_BOOTTIME.
pub fn boottime() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// A node: its uid and its folder. Runtimes come and go on it.
#[derive(Clone)]
pub struct Fixture {
    pub engine: Arc<Engine>,
    pub node_uid: String,
    folder: Arc<tempfile::TempDir>,
    pods: Arc<AtomicU32>,
}

impl Fixture {
    pub fn new(engine: Arc<Engine>) -> Fixture {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let node = NODES.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("stint-node").tempdir_in("/tmp").unwrap();
        let node_uid = format!("{:08x}{node:08x}-0000-0000-0000", std::process::id());
        Fixture { engine, node_uid, folder: Arc::new(folder), pods: Arc::default() }
    }

    /// The node as another process is told of it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub async fn runtime(&self) -> CriRuntime {
        self.runtime_with(|_| {}).await
    }

    pub async fn runtime_with(&self, change: impl FnOnce(&mut CriRuntimeOptions)) -> CriRuntime {
        let mut options = options(&self.engine.address(), &self.node_uid, self.folder());
        change(&mut options);
        CriRuntime::new(options).await.unwrap()
    }

    /// A new Pod's uid.
    pub fn pod_uid(&self) -> String {
        let pod = self.pods.fetch_add(1, Ordering::Relaxed);
        format!("{}-0000-0000-0000-{pod:012x}", &self.node_uid[8..16])
    }

    /// A Pod's own folder, and its file `name` below it: seen in containers as `/pod`.
    pub fn pod_folder(&self, uid: &str) -> PathBuf {
        pod_folder(self.folder(), uid)
    }

    /// Opens a Pod that asks for nothing.
    pub async fn pod(&self, runtime: &CriRuntime) -> Arc<dyn PodSandbox> {
        let uid = self.pod_uid();
        runtime.open_pod(PodSandboxSpec::new(&uid, self.pod_folder(&uid))).await.unwrap()
    }

    /// A container that runs a line of shell, with the Pod's folder at `/pod`.
    pub fn shell(&self, pod_uid: &str, name: &str, line: &str) -> ContainerSpec {
        shell(self.folder(), pod_uid, name, line)
    }

    /// Starts a line of shell.
    pub async fn start(
        &self,
        pod: &Arc<dyn PodSandbox>,
        name: &str,
        line: &str,
    ) -> Arc<dyn RunningContainer> {
        pod.start(self.shell(pod.pod_uid(), name, line), never()).await.unwrap()
    }

    /// Runs a line of shell in a Pod of its own.
    pub async fn run(&self, runtime: &CriRuntime, line: &str) -> Exit {
        let pod = self.pod(runtime).await;
        let exit = self.start(&pod, "main", line).await.wait().await;
        pod.close().await.unwrap();
        exit
    }

    /// All output of a container.
    pub async fn output(&self, runtime: &CriRuntime, id: &ContainerId) -> Vec<u8> {
        let mut reader = runtime.logs().reader(id, ReadOptions::default()).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            assert_eq!(chunk.skipped_bytes, 0);
            bytes.extend(chunk.bytes);
        }
        bytes
    }

    /// Removes what a case left.
    pub async fn remove_all(&self) {
        let runtime = self.runtime().await;
        for pod in runtime.recover().await.unwrap() {
            pod.sandbox.close().await.unwrap();
        }
        runtime.set_deadline(Duration::ZERO);
    }
}

/// How a node's runtime is set up.
pub fn options(address: &str, node_uid: &str, folder: &Path) -> CriRuntimeOptions {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    CriRuntimeOptions::new(address, node_uid, folder.join("guard"), logs)
}

pub fn pod_folder(node: &Path, uid: &str) -> PathBuf {
    let folder = node.join("pods").join(uid);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub fn busybox() -> Option<ImageSpec> {
    Some(ImageSpec { reference: BUSYBOX.to_owned(), pull_policy: PullPolicy::Never })
}

/// Whether the engine is one that loses what it has not read of a container when that ends, as its node says.
pub fn loses_output(runtime: &CriRuntime) -> bool {
    runtime.conditions().iter().any(|condition| condition.kind == "LogsDegraded")
}

/// A line of shell that ends when such an engine has had time to read what it wrote.
pub fn when_it_is_read(runtime: &CriRuntime, line: &str) -> String {
    let pause = if loses_output(runtime) { "; sleep 2" } else { "" };
    format!("{line}{pause}")
}

pub fn shell(node: &Path, pod_uid: &str, name: &str, line: &str) -> ContainerSpec {
    let mut spec = ContainerSpec::new(ContainerId::new(pod_uid, name, 0).unwrap());
    spec.image = busybox();
    spec.command = ["sh", "-c", line].map(str::to_owned).to_vec();
    spec.mounts.push(Mount {
        source: pod_folder(node, pod_uid),
        target: PathBuf::from("/pod"),
        read_only: false,
        propagation: MountPropagation::Private,
    });
    spec
}

/// Waits for something that is to come true.
pub async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
