//! How long a container takes to start on each runtime: `cargo bench -p stint-runtime --features cri,oci --bench start`.
//!
//! As root, with an engine of its own where the host has one; what can't run says so. Images are there already.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    reason = "a measurement reports by itself"
)]

#[path = "../tests/support/engine.rs"]
mod engine;
#[path = "../tests/support/images/mod.rs"]
mod images;

use engine::{BUSYBOX, Engine};
use images::{Registry, TestImage};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use stint_runtime::oci::{ImageStoreOptions, OciRuntime, OciRuntimeOptions};
use stint_runtime::{
    ContainerId, ContainerSpec, CriRuntime, CriRuntimeOptions, ImageSpec, LogStore, NodePolicy,
    PodSandboxSpec, ProcessRuntime, ProcessRuntimeOptions, PullPolicy, Runtime, maybe_run_shim,
};

/// Containers of each runtime, one after the other.
const CONTAINERS: usize = 40;

fn main() {
    maybe_run_shim();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if nix::unistd::geteuid().is_root() {
        runtime.block_on(measure());
    } else {
        println!("not run: containers need root");
    }
}

/// A runtime, and what it has timed.
struct Timed {
    name: &'static str,
    runtime: Box<dyn Runtime>,
    image: Option<ImageSpec>,
    opened: Vec<Duration>,
    started: Vec<Duration>,
    ended: Vec<Duration>,
}

async fn measure() {
    // A disk as agents have it, and that users of Pods reach: neither below /tmp, which may be in memory, nor in somebody's home.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let all_may_pass = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all_may_pass).unwrap();
    let path = std::fs::canonicalize(folder.path()).unwrap();
    let mut all = vec![process(&path.join("process")).await, oci(&path.join("oci")).await];
    let engine = Engine::start();
    match &engine {
        Ok(engine) => all.push(cri(&path.join("cri"), engine).await),
        Err(problem) => println!("cri is not run: {problem}"),
    }
    // In turn, so that whatever else the host does hits all alike. The first round is not counted.
    for number in 0..=CONTAINERS {
        for timed in &mut all {
            let [opened, started, ended] = once(timed, &path, number).await;
            if number > 0 {
                timed.opened.push(opened);
                timed.started.push(started);
                timed.ended.push(ended);
            }
        }
    }
    println!(
        "| ms, p50 and p90 of {CONTAINERS} | until its Pod is open | until its program runs | from SIGKILL to gone |"
    );
    println!("|---|---:|---:|---:|");
    for mut timed in all {
        let shown = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
            format!("{:.1}, {:.1}", at(50), at(90))
        };
        let (opened, started) = (shown(&mut timed.opened), shown(&mut timed.started));
        println!("| {} | {opened} | {started} | {} |", timed.name, shown(&mut timed.ended));
    }
}

async fn once(timed: &Timed, folder: &Path, number: usize) -> [Duration; 3] {
    let uid = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
    let directory = folder.join(timed.name).join("pods").join(&uid);
    std::fs::create_dir_all(&directory).unwrap();
    let spec = ContainerSpec {
        command: vec!["/bin/sleep".to_owned(), "1000".to_owned()],
        image: timed.image.clone(),
        ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).unwrap())
    };
    let begun = Instant::now();
    let sandbox = timed.runtime.open_pod(PodSandboxSpec::new(&uid, directory.clone())).await.unwrap();
    if let Some(image) = &timed.image {
        sandbox.prepare(image).await.unwrap();
    }
    let opened = begun.elapsed();
    let container = sandbox.start(spec, Box::pin(std::future::pending())).await.unwrap();
    assert!(container.started_at().is_some(), "{}", container.wait().await.message);
    let started = begun.elapsed();
    container.kill().await;
    let ended = begun.elapsed() - started;
    container.wait().await;
    container.release().await;
    sandbox.close().await.unwrap();
    let _ = std::fs::remove_dir_all(directory);
    [opened, started, ended]
}

fn timed(name: &'static str, runtime: Box<dyn Runtime>, image: Option<ImageSpec>) -> Timed {
    Timed { name, runtime, image, opened: Vec::new(), started: Vec::new(), ended: Vec::new() }
}

async fn process(folder: &Path) -> Timed {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    let options = ProcessRuntimeOptions {
        node_uid: Some(format!("bench-{}", std::process::id())),
        ..ProcessRuntimeOptions::new(logs, folder.to_owned())
    };
    timed("process", Box::new(ProcessRuntime::new(options).await.unwrap()), None)
}

async fn oci(folder: &Path) -> Timed {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    let registry = Registry::start().await;
    registry.add("library/box:1", &TestImage::busybox(serde_json::json!({"Env": ["PATH=/bin"]})));
    let mut images = ImageStoreOptions::new(folder.join("images"));
    images.mirrors = vec![registry.mirror_of("docker.io").parse().unwrap()];
    let policy = NodePolicy::default();
    let options = OciRuntimeOptions {
        logs,
        shims: folder.join("shims"),
        shim_program: None,
        owner: None,
        images,
        policy,
    };
    let image = ImageSpec { reference: "box:1".to_owned(), pull_policy: PullPolicy::IfNotPresent };
    let oci = OciRuntime::new(options).await.unwrap();
    let sandbox =
        oci.open_pod(PodSandboxSpec::new("00000000-0000-4000-8000-000000000000", folder.join("first"))).await;
    let sandbox = sandbox.unwrap();
    // While the registry is there.
    sandbox.prepare(&image).await.unwrap();
    sandbox.close().await.unwrap();
    timed("oci", Box::new(oci), Some(image))
}

async fn cri(folder: &Path, engine: &Engine) -> Timed {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    // So that the engine's end finds what is left.
    let node_uid = format!("{:08x}-0000-4000-8000-000000000000", std::process::id());
    let options = CriRuntimeOptions::new(&engine.address(), &node_uid, folder.join("guard"), logs);
    let image = ImageSpec { reference: BUSYBOX.to_owned(), pull_policy: PullPolicy::Never };
    timed("cri", Box::new(CriRuntime::new(options).await.unwrap()), Some(image))
}
