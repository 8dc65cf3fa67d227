//! One runtime with folders of its own, and what cases say about it.

use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stint_runtime::{
    BoxFuture, ContainerId, ContainerSpec, Error, Exit, LogStore, NodePolicy, PodSandbox, PodSandboxSpec,
    ProcessRuntime, ProcessRuntimeOptions, ReadOptions, RunningContainer, Runtime, Stream,
};

/// Nobody kills it before it has started.
pub fn never() -> BoxFuture<'static, ()> {
    Box::pin(std::future::pending())
}

pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// Programs see the folder, and can write to it, each as a user of its own.
pub fn options_in(folder: &Path, logs: &LogStore, force_degraded: bool) -> ProcessRuntimeOptions {
    std::fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    let mut policy = NodePolicy::default();
    policy.allow(&format!("writable={}", folder.display())).unwrap();
    ProcessRuntimeOptions {
        shims: folder.join("shims"),
        force_degraded,
        policy,
        owner: Some(format!("test/{}", folder.display())),
        ..ProcessRuntimeOptions::new(logs.clone(), folder.join("pods"))
    }
}

/// A named pipe that programs can read, whoever they are.
pub fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
}

/// A script that leaves processes behind in every way there is, then says `ready`.
pub fn escapees(marker: &str) -> String {
    format!(
        "sleep {marker} & setsid sleep {marker} & setsid -f sleep {marker}
        (setsid sh -c '(trap \"\" TERM HUP; setsid sleep {marker} & ) & sleep {marker}' &) 
        nohup setsid -f sh -c 'sleep {marker} & exec sleep {marker}' >/dev/null 2>&1 </dev/null
        setsid -f sh -c 'kill -STOP $$; : {marker}'
        sleep 0.2; echo ready"
    )
}

/// One runtime with folders of its own.
pub struct Fixture {
    pub folder: Arc<tempfile::TempDir>,
    pub runtime: Arc<ProcessRuntime>,
    pub logs: LogStore,
    pub force_degraded: bool,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Shim processes whose parent is `parent`.
pub fn shims_of(parent: u32) -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_field =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        line.starts_with(b"stint-shim\0") && parent_field == Some(parent)
    })
    .collect()
}

/// Waits for something that the system does in its own time; fails after a minute.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Fixture {
    pub async fn new(force_degraded: bool) -> Fixture {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let logs = LogStore::open(&folder.path().join("logs")).unwrap();
        let options = options_in(folder.path(), &logs, force_degraded);
        let runtime = Arc::new(ProcessRuntime::new(options).await.unwrap());
        Fixture { folder, runtime, logs, force_degraded }
    }

    pub fn options(&self) -> ProcessRuntimeOptions {
        options_in(self.folder.path(), &self.logs, self.force_degraded)
    }

    /// The word that the case's name has, and that a process of its own is told.
    pub fn mode(&self) -> &'static str {
        if self.force_degraded { "degraded" } else { "default" }
    }

    /// By wish, or because this host allows no better.
    pub fn is_degraded(&self) -> bool {
        self.runtime.conditions().iter().any(|condition| condition.kind == "FencingDegraded")
    }

    /// Where programs begin.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("pods/one/work")
    }

    pub async fn sandbox(&self, spec: &ContainerSpec) -> Arc<dyn PodSandbox> {
        self.sandbox_in(spec, "pods/one").await
    }

    pub async fn sandbox_in(&self, spec: &ContainerSpec, folder: &str) -> Arc<dyn PodSandbox> {
        let pod = PodSandboxSpec::new(spec.id.pod_uid(), self.folder.path().join(folder));
        self.runtime.open_pod(pod).await.unwrap()
    }

    pub async fn try_start(&self, spec: ContainerSpec) -> Result<Arc<dyn RunningContainer>, Error> {
        self.sandbox(&spec).await.start(spec, never()).await
    }

    pub fn spec(&self, command: &[&str]) -> ContainerSpec {
        let uid = format!("00000000-0000-4000-8000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed));
        ContainerSpec {
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).unwrap())
        }
    }

    pub fn shell(&self, script: &str) -> ContainerSpec {
        // `$$` is an escape of `$` in commands.
        self.spec(&["/bin/sh", "-c", &script.replace('$', "$$")])
    }

    pub async fn start(&self, spec: &ContainerSpec) -> Arc<dyn RunningContainer> {
        self.try_start(spec.clone()).await.unwrap()
    }

    pub async fn run(&self, spec: &ContainerSpec) -> Exit {
        let container = self.start(spec).await;
        let exit = container.wait().await;
        container.release().await;
        exit
    }

    pub async fn output(&self, spec: &ContainerSpec, stream: Stream) -> Vec<u8> {
        let options = ReadOptions { stream: Some(stream), ..ReadOptions::default() };
        let mut reader = self.logs.reader(&spec.id, options).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            bytes.extend(chunk.bytes);
        }
        bytes
    }

    pub async fn text(&self, spec: &ContainerSpec) -> String {
        String::from_utf8(self.output(spec, Stream::Stdout).await).unwrap()
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

/// Ends what a case has left, so that nothing of it outlives the test.
pub async fn clean_up(folder: &Path, force_degraded: bool) {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    let runtime = ProcessRuntime::new(options_in(folder, &logs, force_degraded)).await.unwrap();
    for pod in runtime.recover().await.unwrap() {
        for container in &pod.containers {
            container.kill().await;
            container.wait().await;
        }
        pod.sandbox.close().await.unwrap();
    }
}
