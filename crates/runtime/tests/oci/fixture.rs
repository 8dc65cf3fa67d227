//! One runtime with folders of its own, images in its store, and what cases say about it.

use crate::images::{Compression, Layer, Registry, TestImage};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stint_runtime::oci::{ImageStoreOptions, OciRuntime, OciRuntimeOptions};
use stint_runtime::{
    BoxFuture, ContainerId, ContainerSpec, Error, ExecSpec, Exit, ImageSpec, LogStore, NodePolicy,
    PodSandbox, PodSandboxSpec, PullPolicy, ReadOptions, RunningContainer, Runtime, Stream,
};
use tokio::io::AsyncReadExt;

/// Nobody kills it before it has started.
pub fn never() -> BoxFuture<'static, ()> {
    Box::pin(std::future::pending())
}

pub fn boot_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().into()
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Waits for something that the system does in its own time; fails after a minute.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub struct Fixture {
    pub folder: Arc<tempfile::TempDir>,
    pub runtime: Arc<OciRuntime>,
    pub logs: LogStore,
    pub registry: Registry,
}

/// What the images of the tests say, where a case has no image of its own.
pub const ENTRYPOINT: &str = "echo";

/// Allows everything: what a case does not get, the container has not.
fn generous() -> NodePolicy {
    let mut policy = NodePolicy::default();
    policy.allow("privileged").unwrap();
    policy
}

async fn runtime_in(
    folder: &Path,
    logs: &LogStore,
    mirror: Option<String>,
    policy: NodePolicy,
) -> OciRuntime {
    let mut images = ImageStoreOptions::new(folder.join("images"));
    images.mirrors = mirror.into_iter().map(|mirror| mirror.parse().unwrap()).collect();
    let options = OciRuntimeOptions {
        logs: logs.clone(),
        shims: folder.join("shims"),
        shim_program: None,
        owner: Some(format!("test/{}", folder.display())),
        images,
        policy,
    };
    OciRuntime::new(options).await.unwrap()
}

impl Fixture {
    pub async fn new() -> Fixture {
        // Not below /tmp, which may be a file system that overlayfs can't write to.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = Arc::new(tempfile::tempdir_in(base).unwrap());
        let logs = LogStore::open(&folder.path().join("logs")).unwrap();
        let registry = Registry::start().await;
        let config = json!({
            "Entrypoint": [ENTRYPOINT], "Cmd": ["from", "the image"], "WorkingDir": "/srv/made",
            "Env": ["FROM=image", "BOTH=image"],
        });
        registry.add("library/box:1", &TestImage::busybox(config));
        let runtime =
            runtime_in(folder.path(), &logs, Some(registry.mirror_of("docker.io")), generous()).await;
        Fixture { folder, runtime: Arc::new(runtime), logs, registry }
    }

    /// Another process's runtime over what this one leaves.
    pub async fn successor(self) -> Fixture {
        self.successor_with(generous()).await
    }

    /// The same, on a node with another policy.
    pub async fn successor_with(self, policy: NodePolicy) -> Fixture {
        let Fixture { folder, runtime, logs, registry } = self;
        drop(runtime);
        let runtime = runtime_in(folder.path(), &logs, Some(registry.mirror_of("docker.io")), policy).await;
        Fixture { folder, runtime: Arc::new(runtime), logs, registry }
    }

    /// Serves an image of busybox with further layers.
    pub fn add_image(&self, name: &str, layers: Vec<Layer>, config: serde_json::Value) {
        let layers = std::iter::once(Layer::busybox()).chain(layers).collect();
        self.registry.add(&format!("library/{name}"), &TestImage::new(layers, Compression::Gzip, config));
    }

    pub fn pod(&self, spec: &ContainerSpec) -> PodSandboxSpec {
        let directory = self.folder.path().join("pods").join(spec.id.pod_uid());
        PodSandboxSpec::new(spec.id.pod_uid(), directory)
    }

    pub async fn sandbox(&self, spec: &ContainerSpec) -> Arc<dyn PodSandbox> {
        self.runtime.open_pod(self.pod(spec)).await.unwrap()
    }

    pub async fn try_start(&self, spec: ContainerSpec) -> Result<Arc<dyn RunningContainer>, Error> {
        let sandbox = self.sandbox(&spec).await;
        sandbox.prepare(spec.image.as_ref().unwrap()).await?;
        sandbox.start(spec, never()).await
    }

    pub async fn start(&self, spec: &ContainerSpec) -> Arc<dyn RunningContainer> {
        self.try_start(spec.clone()).await.unwrap()
    }

    pub fn spec(&self, command: &[&str]) -> ContainerSpec {
        let uid = format!("00000000-0000-4000-9000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed));
        ContainerSpec {
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            image: Some(image("box:1")),
            ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).unwrap())
        }
    }

    pub fn shell(&self, script: &str) -> ContainerSpec {
        // `$$` is an escape of `$` in commands.
        self.spec(&["sh", "-c", &script.replace('$', "$$")])
    }

    pub async fn run(&self, spec: &ContainerSpec) -> Exit {
        let container = self.start(spec).await;
        let exit = container.wait().await;
        container.release().await;
        exit
    }

    /// What a script prints, which must end well.
    pub async fn printed(&self, spec: &ContainerSpec) -> String {
        let exit = self.run(spec).await;
        let text = self.text(spec).await;
        assert_eq!(exit.exit_code, 0, "{}: {text}{}", exit.message, self.read(spec, Stream::Stderr).await);
        text
    }

    pub async fn text(&self, spec: &ContainerSpec) -> String {
        self.read(spec, Stream::Stdout).await
    }

    async fn read(&self, spec: &ContainerSpec, stream: Stream) -> String {
        let options = ReadOptions { stream: Some(stream), ..ReadOptions::default() };
        let mut reader = self.logs.reader(&spec.id, options).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            bytes.extend(chunk.bytes);
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Starts a container and waits until it has printed `ready`.
    pub async fn start_ready(&self, spec: &ContainerSpec) -> Arc<dyn RunningContainer> {
        let container = self.start(spec).await;
        let options = ReadOptions { follow: true, ..ReadOptions::default() };
        let mut reader = self.logs.reader(&spec.id, options).await.unwrap();
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("ready") {
            bytes
                .extend(reader.next().await.unwrap().expect("the container says ready before it ends").bytes);
        }
        container
    }
}

pub fn image(reference: &str) -> ImageSpec {
    ImageSpec { reference: reference.to_owned(), pull_policy: PullPolicy::IfNotPresent }
}

/// Runs a further program to its end: exit code and output.
pub async fn exec(container: &dyn RunningContainer, script: &str) -> (i32, String) {
    let spec = ExecSpec {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        env: vec![("ADDED".to_owned(), "by exec".to_owned())],
        stdout: true,
        ..ExecSpec::default()
    };
    let mut session = container.exec(spec).await.unwrap();
    let mut text = String::new();
    session.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    (session.wait().await, text)
}

/// Parents of the control groups of agents, in every hierarchy.
fn group_parents() -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let hierarchies = hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]);
    let groups = hierarchies.filter_map(|hierarchy| std::fs::read_dir(hierarchy).ok()).flatten().flatten();
    groups
        .filter(|group| group.file_name().to_string_lossy().starts_with("stint-oci"))
        .map(|group| group.path())
        .collect()
}

/// Folders of control groups that containers of this Pod have.
pub fn groups_of(pod_uid: &str) -> usize {
    let groups = group_parents().into_iter().filter_map(|parent| std::fs::read_dir(parent).ok());
    groups
        .flatten()
        .flatten()
        .filter(|group| group.file_name().to_string_lossy().starts_with(pod_uid))
        .count()
}

/// Ends what a case has left, so that nothing of it outlives the test.
pub async fn clean_up(folder: &Path) {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    let runtime = runtime_in(folder, &logs, None, generous()).await;
    for pod in runtime.recover().await.unwrap() {
        for container in &pod.containers {
            container.kill().await;
            container.wait().await;
        }
        pod.sandbox.close().await.unwrap();
    }
    // Those that are empty: of no agent that runs, or made anew by it.
    for parent in group_parents() {
        let _ = std::fs::remove_dir(parent);
    }
}
