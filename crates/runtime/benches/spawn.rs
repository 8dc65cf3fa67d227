//! What a container costs beyond its program: `/bin/true` through the runtime, and spawned directly.
#![allow(clippy::print_stdout, reason = "prints a table")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use stint_runtime::{
    ContainerId, ContainerSpec, LogStore, PodSandboxSpec, ProcessRuntime, ProcessRuntimeOptions, Runtime,
    maybe_run_shim,
};
use tokio::sync::Semaphore;

fn main() {
    maybe_run_shim();
    let count = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(2000);
    println!("{:<32} {:>10} {:>14} {:>12}", "", "starts/s", "CPU-ms/start", "p50 ms");
    let began = (Instant::now(), busy());
    for _ in 0..count {
        let mut command = Command::new("/bin/true");
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("/bin/true runs");
    }
    report("posix_spawn, 1 at once", count, began, None);
    let runtime = tokio::runtime::Runtime::new().expect("an async runtime");
    for (name, force_degraded) in [("process", false), ("process, degraded", true)] {
        for concurrency in [1, 16] {
            runtime.block_on(run(
                &format!("{name}, {concurrency} at once"),
                count,
                concurrency,
                force_degraded,
            ));
        }
    }
    println!("\n{:<32} {:>14} {:>14}", "", "private KiB", "largest KiB");
    for (name, script) in [
        ("shim, a container without output", "touch done; exec sleep 1000"),
        ("shim, one that has said a line", "echo line; touch done; exec sleep 1000"),
        ("shim, one that has said 100 MB", "yes | head -c 100000000; touch done; exec sleep 1000"),
    ] {
        runtime.block_on(measure_memory(name, script));
    }
}

/// CPU time of this process's control group, if it has one of its own; else of the whole machine, which should have nothing
/// else to do then. Most of a start is spent in processes that are not our children.
fn busy() -> Duration {
    if let Some(nanoseconds) = own_control_group() {
        return Duration::from_nanos(nanoseconds);
    }
    let own = getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.user_time().num_microseconds());
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, irq, softirq in hundredths of a second.
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum();
    if ticks == 0 {
        Duration::from_micros(own.unwrap_or(0) as u64)
    } else {
        Duration::from_millis(ticks * 10)
    }
}

/// Nanoseconds, by the controller of version 1; `None` in the root group.
fn own_control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|controller| controller == "cpuacct").then_some(path)
    })?;
    let usage = std::fs::read_to_string(format!("/sys/fs/cgroup/cpuacct{path}/cpuacct.usage")).ok()?;
    if path == "/" { None } else { usage.trim().parse().ok() }
}

fn report(name: &str, count: usize, began: (Instant, Duration), p50: Option<Duration>) {
    let (wall, cpu) = (began.0.elapsed().as_secs_f64(), (busy() - began.1).as_secs_f64());
    let (rate, each) = (count as f64 / wall, cpu * 1e3 / count as f64);
    let p50 = p50.map_or(String::new(), |p50| format!("{:.2}", p50.as_secs_f64() * 1e3));
    println!("{name:<32} {rate:>10.0} {each:>14.2} {p50:>12}");
}

/// Private memory of shims: what each costs beyond what all of them share.
async fn measure_memory(name: &str, script: &str) {
    const SHIMS: usize = 20;
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime_in(folder.path(), false).await;
    let mut containers = Vec::with_capacity(SHIMS);
    for number in 0..SHIMS {
        let (pod, spec) = pod(folder.path(), number, &["/bin/sh", "-c", script]);
        let sandbox = runtime.open_pod(pod).await.expect("a sandbox");
        containers.push(sandbox.start(spec, Box::pin(std::future::pending())).await.expect("starts"));
    }
    let is_done = |number: usize| folder.path().join(format!("pod-{number}/work/done")).exists();
    while !(0..SHIMS).all(is_done) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was said right before is written by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let memory: Vec<u64> = shims().into_iter().filter_map(private_kib).collect();
    assert_eq!(memory.len(), SHIMS);
    let mean = memory.iter().sum::<u64>() / memory.len() as u64;
    println!("{name:<32} {mean:>14} {:>14}", memory.iter().max().unwrap_or(&0));
    for container in &containers {
        container.kill().await;
        container.wait().await;
        container.release().await;
    }
}

/// The shims below this process's spawners.
fn shims() -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = |pid| stat(pid).rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_shim = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"stint-shim") && parent(*pid).and_then(parent) == Some(std::process::id())
    };
    pids.filter(is_shim).collect()
}

/// Memory that no other process shares, in KiB.
fn private_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

async fn runtime_in(folder: &Path, force_degraded: bool) -> ProcessRuntime {
    let logs = LogStore::open(&folder.join("logs")).expect("a log store");
    let options =
        ProcessRuntimeOptions { force_degraded, ..ProcessRuntimeOptions::new(logs, folder.to_owned()) };
    ProcessRuntime::new(options).await.expect("a runtime")
}

fn pod(folder: &Path, number: usize, command: &[&str]) -> (PodSandboxSpec, ContainerSpec) {
    let uid = format!("00000000-0000-4000-8000-{number:012x}");
    let spec = ContainerSpec {
        command: command.iter().map(|text| (*text).to_owned()).collect(),
        ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).expect("well-formed"))
    };
    (PodSandboxSpec::new(&uid, folder.join(format!("pod-{number}"))), spec)
}

async fn run(name: &str, count: usize, concurrency: usize, force_degraded: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Arc::new(runtime_in(folder.path(), force_degraded).await);
    let gate = Arc::new(Semaphore::new(concurrency));
    let began = (Instant::now(), busy());
    let mut running = Vec::with_capacity(count);
    for number in 0..count {
        let permit = gate.clone().acquire_owned().await.expect("never closed");
        let (pod, spec) = pod(folder.path(), number, &["/bin/true"]);
        let runtime = runtime.clone();
        running.push(tokio::spawn(async move {
            let began = Instant::now();
            let sandbox = runtime.open_pod(pod).await.expect("a sandbox");
            let container = sandbox.start(spec, Box::pin(std::future::pending())).await.expect("starts");
            let exit = container.wait().await;
            container.release().await;
            drop(permit);
            (exit.exit_code, began.elapsed())
        }));
    }
    let mut times = Vec::with_capacity(count);
    for handle in running {
        let (code, time) = handle.await.expect("no panic");
        assert_eq!(code, 0);
        times.push(time);
    }
    times.sort_unstable();
    report(name, count, began, Some(times[count / 2]));
}
