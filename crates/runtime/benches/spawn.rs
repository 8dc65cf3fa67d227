//! What a container costs beyond its program: `/bin/true` through the runtime, and spawned directly.
#![allow(clippy::print_stdout, reason = "prints a table")]

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
}

/// CPU time of the whole machine, as most of a start is spent in processes that are not our children.
fn busy() -> Duration {
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

fn report(name: &str, count: usize, began: (Instant, Duration), p50: Option<Duration>) {
    let (wall, cpu) = (began.0.elapsed().as_secs_f64(), (busy() - began.1).as_secs_f64());
    let (rate, each) = (count as f64 / wall, cpu * 1e3 / count as f64);
    let p50 = p50.map_or(String::new(), |p50| format!("{:.2}", p50.as_secs_f64() * 1e3));
    println!("{name:<32} {rate:>10.0} {each:>14.2} {p50:>12}");
}

async fn run(name: &str, count: usize, concurrency: usize, force_degraded: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let logs = LogStore::open(&folder.path().join("logs")).expect("a log store");
    let options = ProcessRuntimeOptions {
        logs,
        shims: folder.path().join("shims"),
        shim_program: None,
        force_degraded,
    };
    let runtime = Arc::new(ProcessRuntime::new(options).await.expect("a runtime"));
    let gate = Arc::new(Semaphore::new(concurrency));
    let began = (Instant::now(), busy());
    let mut running = Vec::with_capacity(count);
    for number in 0..count {
        let permit = gate.clone().acquire_owned().await.expect("never closed");
        let uid = format!("00000000-0000-4000-8000-{number:012x}");
        let spec = ContainerSpec {
            command: vec!["/bin/true".to_owned()],
            ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).expect("well-formed"))
        };
        let pod = PodSandboxSpec::new(&uid, folder.path().join("pod"));
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
