//! What containers outlive, and what they do not, within one process.

use crate::fixture::{Fixture, boot_time, escapees, eventually, make_fifo, never, shims_of};
use crate::processes::{alive, marker};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stint_runtime::{ProcessRuntime, Runtime};

pub async fn a_handle_that_is_dropped_lets_go_and_a_start_that_is_dropped_kills(fixture: Fixture) {
    let held = marker();
    let spec = fixture.shell(&format!("setsid -f sleep {held}; echo ready; sleep {held}; exit 3"));
    drop(fixture.start_ready(&spec).await);
    eventually("its log is not followed any more", || !fixture.logs.is_live(&spec.id)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(alive(&held) >= 2, "it goes on");
    // Whoever comes next has it.
    let next = ProcessRuntime::new(fixture.options()).await.unwrap();
    let mut pods = next.recover().await.unwrap();
    assert_eq!(pods.len(), 1);
    let pod = pods.remove(0);
    assert_eq!((pod.pod_uid.as_str(), pod.sandbox.pod_uid()), (spec.id.pod_uid(), spec.id.pod_uid()));
    assert_eq!(pod.containers[0].id(), &spec.id);
    assert!(fixture.logs.is_live(&spec.id));
    pod.containers[0].kill().await;
    assert_eq!(alive(&held), 0);
    assert_eq!(pod.containers[0].wait().await.exit_code, 137);
    pod.sandbox.close().await.unwrap();
    assert!(next.recover().await.unwrap().is_empty(), "its end was taken");
    // A start that nobody waits for any more.
    let started = marker();
    let spec = fixture.shell(&format!("sleep {started}"));
    let sandbox = fixture.sandbox(&spec).await;
    let start = tokio::time::timeout(Duration::ZERO, sandbox.start(spec.clone(), never())).await;
    if let Ok(started) = start {
        // The clock ticks once a millisecond: now and then that is enough for a start, and then there is nothing to be dropped.
        let started = started.unwrap();
        started.kill().await;
        started.wait().await;
        started.release().await;
    }
    eventually("the log is closed", || !fixture.logs.is_live(&spec.id)).await;
    eventually("all dead", || alive(&started) == 0).await;
    eventually("nothing is kept of it", || {
        std::fs::read_dir(fixture.folder.path().join("shims")).unwrap().count() == 0
    })
    .await;
}

pub async fn a13_the_deadline_kills_whatever_the_agent_does(fixture: Fixture) {
    let marker = marker();
    let script = format!("{}; kill -STOP $$; sleep 1000", escapees(&marker));
    let first = boot_time() + Duration::from_secs(6);
    fixture.runtime.set_deadline(first);
    let container = fixture.start_ready(&fixture.shell(&script)).await;
    let until = first + Duration::from_secs(4);
    fixture.runtime.set_deadline(until);
    tokio::time::sleep((first + Duration::from_millis(500)).saturating_sub(boot_time())).await;
    let n_alive = alive(&marker);
    // A machine that is busy may have come to this too late.
    assert!(n_alive >= 7 || boot_time() >= until, "the deadline was put off: {n_alive}");
    // Names no moment: the last one stands.
    fixture.runtime.set_deadline(Duration::MAX);
    let exit = container.wait().await;
    assert_eq!((alive(&marker), exit.exit_code, exit.fenced), (0, 137, true));
    let late = boot_time().saturating_sub(until);
    assert!(boot_time() >= until && late < Duration::from_secs(1), "{late:?} late");
    container.release().await;
    // One that has passed holds for what is started after it.
    fixture.runtime.set_deadline(until);
    let container = fixture.start(&fixture.shell("sleep 9")).await;
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.fenced), (137, true));
    fixture.runtime.set_deadline(boot_time() + Duration::from_secs(60));
    let exit = fixture.run(&fixture.shell("exit 6")).await;
    assert_eq!((exit.exit_code, exit.fenced), (6, false));
}

/// PDEATHSIG fires at the end of a thread, not of a process: neither a short-lived async runtime nor a short-lived thread
/// that starts containers may take them along.
pub async fn a13_threads_of_the_agent_come_and_go(fixture: Fixture) {
    let spec = fixture.shell("echo ready; read -r line < go; exit 6");
    std::fs::create_dir_all(fixture.home()).unwrap();
    let go = fixture.home().join("go");
    make_fifo(&go);
    let (sandbox, given) = (fixture.sandbox(&spec).await, spec.clone());
    let handle = tokio::runtime::Handle::current();
    let starter = std::thread::spawn(move || handle.block_on(sandbox.start(given, never())));
    let container = tokio::task::spawn_blocking(|| starter.join().unwrap()).await.unwrap().unwrap();
    // A runtime made on a thread that ends at once.
    let (options, handle) = (fixture.options(), tokio::runtime::Handle::current());
    let maker = std::thread::spawn(move || handle.block_on(ProcessRuntime::new(options)));
    let second = tokio::task::spawn_blocking(|| maker.join().unwrap()).await.unwrap().unwrap();
    let second = Fixture { runtime: Arc::new(second), ..fixture };
    assert_eq!(second.run(&second.shell("exit 8")).await.exit_code, 8);
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(container.wait().await.exit_code, 6);
}

pub async fn shim_death_from_outside(fixture: Fixture) {
    let marker = marker();
    let spawners = shims_of(std::process::id());
    let before: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    // Degraded, only the main process is sure to die with the shim.
    let escapee = if fixture.is_degraded() { "true" } else { "setsid -f sleep" };
    let spec = fixture.shell(&format!("{escapee} {marker}; echo ready; exec sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    let after: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    let shim = after.difference(&before).next().copied().expect("a shim of its own");
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
    assert!(exit.message.contains("shim was killed from outside"), "{}", exit.message);
    eventually("all dead", || alive(&marker) == 0).await;
    if !fixture.is_degraded() {
        // Proven before the answer, not some time after it.
        let spec = fixture.shell(&format!("setsid -f sleep {marker}; echo ready; exec sleep {marker}"));
        let container = fixture.start_ready(&spec).await;
        let after: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
        kill(Pid::from_raw(*after.difference(&before).next().unwrap()), Signal::SIGKILL).unwrap();
        container.wait().await;
        assert_eq!(alive(&marker), 0);
    }
}

pub async fn spawner_death_from_outside(fixture: Fixture) {
    let marker = marker();
    let others = shims_of(std::process::id());
    let runtime = ProcessRuntime::new(fixture.options()).await.unwrap();
    let spawner = *shims_of(std::process::id()).difference(&others).next().expect("a spawner");
    let fixture = Fixture { runtime: Arc::new(runtime), ..fixture };
    let spec = fixture.shell(&format!("setsid -f sleep {marker}; echo ready; exec sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    kill(Pid::from_raw(spawner), Signal::SIGKILL).unwrap();
    // A new spawner starts the next one.
    assert_eq!(fixture.run(&fixture.shell("exit 9")).await.exit_code, 9);
    assert!(alive(&marker) >= 2, "shims do not depend on their spawner");
    container.kill().await;
    assert_eq!(alive(&marker), 0);
}

/// The shims below one process that are there now and were not before.
fn new_shims(spawners: &BTreeSet<i32>, before: &BTreeSet<i32>) -> Vec<i32> {
    let after: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    after.difference(before).copied().collect()
}

pub async fn sigterm_for_the_shim_counts_from_outside_only(fixture: Fixture) {
    let spawners = shims_of(std::process::id());
    let before: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    // Without a namespace, number 1 is the host's.
    let inside = if fixture.is_degraded() { "true" } else { "kill -TERM 1; kill -KILL 1" };
    let script = format!("trap 'exit 5' TERM; {inside}; sleep 0.2; echo ready; while :; do sleep 0.02; done");
    let container = fixture.start_ready(&fixture.shell(&script)).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), container.wait()).await.is_err());
    let shims = new_shims(&spawners, &before);
    assert_eq!(shims.len(), 1);
    kill(Pid::from_raw(shims[0]), Signal::SIGTERM).unwrap();
    assert_eq!(container.wait().await.exit_code, 5);
}

/// A FIFO in place of a log file: opening it hangs until somebody reads, as a disk may.
pub async fn a4_a_disk_that_hangs_holds_up_neither_a_kill_nor_the_deadline(fixture: Fixture) {
    for by_deadline in [false, true] {
        let marker = marker();
        let spec = fixture.shell(&format!("setsid -f sleep {marker}; while :; do echo {marker}; done"));
        let logs = fixture.folder.path().join("logs").join(spec.id.pod_uid());
        let file = logs.join(format!("main.0.{:020}.log", 0));
        std::fs::create_dir(&logs).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let until = boot_time() + Duration::from_secs(6);
        fixture.runtime.set_deadline(if by_deadline { until } else { until + Duration::from_secs(60) });
        let container = fixture.start(&spec).await;
        eventually("it runs", || alive(&marker) >= 2).await;
        // Until it waits at its pipe.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if by_deadline {
            tokio::time::sleep(until.saturating_sub(boot_time())).await;
            eventually("all dead", || alive(&marker) == 0).await;
            assert!(boot_time() < until + Duration::from_millis(700));
        } else {
            let began = boot_time();
            container.kill().await;
            assert_eq!(alive(&marker), 0);
            assert!(boot_time() < began + Duration::from_millis(500), "the shim itself did it");
        }
        // Its output is not kept yet, and that is not said.
        assert!(tokio::time::timeout(Duration::from_millis(300), container.wait()).await.is_err());
        let reader = std::thread::spawn(move || std::fs::read(file).unwrap().len());
        let exit = container.wait().await;
        assert_eq!((exit.exit_code, exit.fenced), (137, by_deadline));
        assert!(reader.join().unwrap() > 0 && exit.log_bytes_dropped > 0, "a FIFO can't be flushed");
        container.release().await;
    }
}
