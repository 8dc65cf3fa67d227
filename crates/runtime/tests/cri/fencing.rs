//! Who ends containers when their agent, their engine or their guard does not answer; and who takes them over.

use crate::fixture::{Fixture, boottime, never, options, shell, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stint_runtime::{CriRuntime, Error, ExitReason, PodSandboxSpec, Runtime};

/// Writes the host's clock, which is that of leases, again and again.
const TICKS: &str = "while true; do read up rest </proc/uptime; echo $up >>/pod/ticks; sleep 0.01; done";

/// Writes once when it began to run, by the same clock.
const SAYS_WHEN: &str = "read up rest </proc/uptime; echo $up >>/pod/ran; sleep 1000";

/// How much later than its moment the last tick may be: the kill budget.
const BUDGET: Duration = Duration::from_secs(2);

/// An agent of its own: `agent ADDRESS NODE_UID FOLDER DEADLINE_MS POD_UID LINE…`, each line a container. Says what it did and
/// waits to be killed.
pub async fn agent(arguments: Vec<String>) {
    let [address, node_uid, folder, deadline, pod_uid, lines @ ..] = &arguments[..] else {
        panic!("{arguments:?}")
    };
    let folder = PathBuf::from(folder);
    let runtime = CriRuntime::new(options(address, node_uid, &folder)).await.unwrap();
    let deadline: u64 = deadline.parse().unwrap();
    let pod =
        runtime.open_pod(PodSandboxSpec::new(pod_uid, folder.join("pods").join(pod_uid))).await.unwrap();
    for (number, line) in lines.iter().enumerate() {
        pod.start(shell(&folder, pod_uid, &format!("c{number}"), line), never()).await.unwrap();
    }
    let moment = boottime() + Duration::from_millis(deadline);
    runtime.set_deadline(moment);
    println!("{}", moment.as_nanos());
    std::future::pending::<()>().await;
}

struct Agent {
    process: Child,
    deadline: Duration,
}

impl Agent {
    fn start(fixture: &Fixture, deadline: Duration, pod_uid: &str, lines: &[&str]) -> Agent {
        let mut process = Command::new("/proc/self/exe")
            .args(["agent", &fixture.engine.address(), &fixture.node_uid])
            .arg(fixture.folder())
            .args([&deadline.as_millis().to_string(), pod_uid])
            .args(lines)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let deadline = Duration::from_nanos(line.trim().parse().expect("the agent says its deadline"));
        Agent { process, deadline }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ticks(fixture: &Fixture, pod_uid: &str) -> PathBuf {
    fixture.pod_folder(pod_uid).join("ticks")
}

fn last_tick(path: &Path) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.lines().rev().find_map(|line| line.parse().ok());
    Duration::from_secs_f64(whole.unwrap_or(0.0))
}

/// Waits until well after the deadline; then the last tick must be near it.
async fn check_fenced(path: &Path, deadline: Duration) {
    tokio::time::sleep((deadline + BUDGET).saturating_sub(boottime())).await;
    let last = last_tick(path);
    assert!(
        last > deadline.saturating_sub(Duration::from_millis(700)),
        "it ran until its deadline: {last:?}, {deadline:?}"
    );
    assert!(last < deadline + Duration::from_millis(500), "and not much longer: {last:?}, {deadline:?}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(last_tick(path), last, "nothing runs any more");
}

pub async fn a13_a_dead_agent_is_survived_and_fenced(fixture: Fixture) {
    let uid = fixture.pod_uid();
    let agent = Agent::start(&fixture, Duration::from_secs(4), &uid, &[TICKS]);
    let path = ticks(&fixture, &uid);
    until("it ticks", || path.exists()).await;
    agent.signal(Signal::SIGKILL);
    check_fenced(&path, agent.deadline).await;
}

pub async fn a13_a_stopped_agent_is_fenced(fixture: Fixture) {
    let uid = fixture.pod_uid();
    let agent = Agent::start(&fixture, Duration::from_secs(4), &uid, &[TICKS]);
    agent.signal(Signal::SIGSTOP);
    check_fenced(&ticks(&fixture, &uid), agent.deadline).await;
}

pub async fn a13_a_stopped_engine_does_not_help(fixture: Fixture) {
    let uid = fixture.pod_uid();
    let agent = Agent::start(
        &fixture,
        Duration::from_secs(4),
        &uid,
        &[TICKS, "setsid sh -c 'sleep 1000' & sleep 1000"],
    );
    let frozen = fixture.engine.freeze();
    agent.signal(Signal::SIGKILL);
    check_fenced(&ticks(&fixture, &uid), agent.deadline).await;
    drop(frozen);
}

pub async fn a12_the_kill_of_the_guard_is_told_as_such(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    let other = fixture.start(&pod, "other", "exit 137").await;
    assert!(!other.wait().await.fenced, "137 alone does not make it fenced");
    tokio::time::sleep(Duration::from_secs(3)).await;
    runtime.set_deadline(boottime() + Duration::from_millis(200));
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.fenced), (137, true));
}

pub async fn a_later_moment_keeps_containers(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    // For longer than each of these moments is away.
    for _ in 0..20 {
        runtime.set_deadline(boottime() + Duration::from_secs(6));
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    runtime.set_deadline(boottime() + Duration::from_secs(8));
    let waited = tokio::time::timeout(Duration::from_millis(1500), container.wait()).await;
    assert!(waited.is_err(), "{waited:?}");
    // And when it has passed, a later one lets new Pods run, not the old ones.
    assert!(container.wait().await.fenced);
    runtime.set_deadline(boottime() + Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(fixture.run(&runtime, "exit 3").await.exit_code, 3);
}

/// A Pod of which nothing had begun is not lost with a lease: its groups, which the guard has frozen, are not to hold up the engine.
pub async fn what_had_not_begun_begins_under_the_next_lease(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let (open, begun) = (fixture.pod(&runtime).await, fixture.pod(&runtime).await);
    let container = fixture.start(&begun, "main", "sleep 1000").await;
    runtime.set_deadline(boottime() + Duration::from_millis(300));
    assert!(container.wait().await.fenced);
    // The guard makes its round of the other Pod too.
    tokio::time::sleep(Duration::from_millis(600)).await;
    runtime.set_deadline(boottime() + Duration::from_secs(100));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut spec = fixture.shell(open.pod_uid(), "main", "exit 4");
    spec.start_before = Some(boottime() + Duration::from_secs(60));
    let started = tokio::time::timeout(Duration::from_secs(60), open.start(spec, never())).await;
    assert_eq!(started.expect("the engine is not held up").unwrap().wait().await.exit_code, 4);
    // What had begun is over.
    let refused = begun.start(fixture.shell(begun.pod_uid(), "again", "exit 5"), never()).await.err();
    assert!(matches!(refused, Some(Error::NotRunning { .. })), "{refused:?}");
}

pub async fn a9_a_late_start_never_runs(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let mut spec = fixture.shell(pod.pod_uid(), "main", SAYS_WHEN);
    spec.start_before = Some(boottime());
    let refused = pod.start(spec.clone(), never()).await.err().unwrap();
    assert!(matches!(refused, Error::StartTooLate { .. }), "{refused}");
    let never_began = fixture.pod_folder(pod.pod_uid()).join("ran");
    // The engine is stopped when it has been told to make the container, and goes on after the moment. Where it is stopped
    // between its start and its answer, the container has run in time; then it has an end, and is not to run again.
    let mut late = 0;
    for delay in [10, 30, 50, 80] {
        let pod = fixture.pod(&runtime).await;
        let ran = fixture.pod_folder(pod.pod_uid()).join("ran");
        let mut spec = fixture.shell(pod.pod_uid(), "main", SAYS_WHEN);
        let moment = boottime() + Duration::from_millis(600);
        spec.start_before = Some(moment);
        let freeze = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let frozen = fixture.engine.freeze();
            tokio::time::sleep(Duration::from_millis(900)).await;
            drop(frozen);
        };
        let (started, ()) = tokio::join!(pod.start(spec.clone(), never()), freeze);
        let mut is_late = false;
        match started {
            Ok(container) => container.kill().await,
            Err(Error::StartTooLate { .. }) => is_late = true,
            Err(other) => panic!("{other}"),
        }
        late += u32::from(is_late);
        tokio::time::sleep(Duration::from_millis(700)).await;
        if ran.exists() {
            let ran_at = last_tick(&ran);
            assert!(ran_at <= moment, "stopped after {delay} ms: ran {:?} too late", ran_at - moment);
            assert!(!is_late, "stopped after {delay} ms: it has run, and its caller does not know");
        }
        if is_late {
            // The same run, with time enough: the engine has nothing more of the first try that would be in its way.
            spec.start_before = None;
            pod.start(spec, never()).await.unwrap().kill().await;
        }
        pod.close().await.unwrap();
    }
    assert!(late > 0, "the engine was stopped before it was through at least once");
    assert!(!never_began.exists());
}

pub async fn a9_a_start_goes_on_while_its_lease_is_renewed(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let moment = boottime() + Duration::from_millis(500);
    runtime.set_deadline(moment);
    let ran = fixture.pod_folder(pod.pod_uid()).join("ran");
    let mut spec = fixture.shell(pod.pod_uid(), "main", SAYS_WHEN);
    spec.start_before = Some(moment);
    // An engine that takes longer than the lease lasts that there was at first.
    let slow = async {
        let frozen = fixture.engine.freeze();
        while boottime() < moment + Duration::from_secs(1) {
            runtime.set_deadline(boottime() + Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(frozen);
        runtime.set_deadline(boottime() + Duration::from_secs(60));
    };
    let (started, ()) = tokio::join!(pod.start(spec, never()), slow);
    let container = started.unwrap();
    until("it runs", || ran.exists()).await;
    assert!(last_tick(&ran) > moment);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fs::read_to_string(&ran).unwrap().lines().count(), 1, "once");
    container.kill().await;
}

pub async fn kills_do_not_wait_for_the_engine(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", TICKS).await;
    let path = ticks(&fixture, pod.pod_uid());
    until("it ticks", || path.exists()).await;
    let frozen = fixture.engine.freeze();
    let begun = Instant::now();
    container.kill().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let last = last_tick(&path);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(last_tick(&path), last);
    drop(frozen);
    assert_eq!(container.wait().await.exit_code, 137);
}

/// Process ids of the guards of a node.
pub fn guards(fixture: &Fixture) -> Vec<Pid> {
    let folder = fixture.folder().display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let arguments = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let is_guard = arguments.starts_with("stint-guard") && arguments.contains(&folder);
            is_guard.then(|| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)).flatten()
        })
        .collect()
}

pub async fn a_killed_guard_is_replaced(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", TICKS).await;
    let deadline = boottime() + Duration::from_secs(4);
    runtime.set_deadline(deadline);
    let first = guards(&fixture);
    assert_eq!(first.len(), 1);
    kill(first[0], Signal::SIGTERM).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(guards(&fixture), first, "only SIGKILL ends it");
    kill(first[0], Signal::SIGKILL).unwrap();
    until("there is another", || guards(&fixture).iter().any(|guard| *guard != first[0])).await;
    check_fenced(&ticks(&fixture, pod.pod_uid()), deadline).await;
    assert!(container.wait().await.fenced);
}

pub async fn another_agent_adopts(fixture: Fixture) {
    let uid = fixture.pod_uid();
    let lines = [
        "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 3",
        "while [ ! -e /pod/end ]; do sleep 0.01; done; echo over; exit 4",
        "exit 5",
        TICKS,
    ];
    let agent = Agent::start(&fixture, Duration::from_secs(60), &uid, &lines);
    agent.signal(Signal::SIGKILL);
    // Ends while there is no agent.
    fs::write(fixture.pod_folder(&uid).join("end"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let old = guards(&fixture);
    let runtime = fixture.runtime().await;
    assert_eq!(old.len(), 1);
    until("the new guard is alone", || matches!(guards(&fixture)[..], [new] if new != old[0])).await;
    let mut pods = runtime.recover().await.unwrap();
    assert_eq!(pods.len(), 1);
    let pod = pods.pop().unwrap();
    assert_eq!((&*pod.pod_uid, pod.containers.len()), (&*uid, 4));
    for container in &pod.containers {
        assert!(container.started_at().is_some());
        let expected = match container.id().container_name() {
            "c0" => 3,
            "c1" => 4,
            "c2" => 5,
            _ => {
                container.signal(9);
                137
            }
        };
        let exit = container.wait().await;
        assert_eq!((exit.exit_code, exit.fenced), (expected, false), "{}", container.id());
    }
    // Kept until it is released: an agent may die before the end is on its disk.
    let again = fixture.runtime().await.recover().await.unwrap();
    assert_eq!(again[0].containers.len(), 4);
    pod.containers[3].release().await;
    assert_eq!(fixture.runtime().await.recover().await.unwrap()[0].containers.len(), 3);
    let output = String::from_utf8(fixture.output(&runtime, pod.containers[0].id()).await).unwrap();
    let expected: String = (0..400).map(|n| format!("{n}\n")).collect();
    let first = pod.containers.iter().find(|container| container.id().container_name() == "c0").unwrap();
    let output = if first.id() == pod.containers[0].id() {
        output
    } else {
        String::from_utf8(fixture.output(&runtime, first.id()).await).unwrap()
    };
    assert!(output == expected, "whole over the change of agents: {} bytes", output.len());
    // Another run of it is started where it was.
    let again = fixture.start(&pod.sandbox, "again", "exit 6").await;
    assert_eq!(again.wait().await.exit_code, 6);
    // The moment that the old agent named holds until another is named.
    assert_eq!(pod.sandbox.usage().await.unwrap().processes, 0);
}

pub async fn without_a_guard_nothing_is_adopted(fixture: Fixture) {
    let uid = fixture.pod_uid();
    let agent = Agent::start(&fixture, Duration::from_secs(60), &uid, &[TICKS]);
    agent.signal(Signal::SIGKILL);
    guards(&fixture).into_iter().for_each(|guard| kill(guard, Signal::SIGKILL).unwrap());
    until("it is gone", || guards(&fixture).is_empty()).await;
    let runtime = fixture.runtime().await;
    let pods = runtime.recover().await.unwrap();
    assert_eq!(pods[0].containers[0].wait().await.exit_code, 137);
    let path = ticks(&fixture, &uid);
    let last = last_tick(&path);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(last_tick(&path), last);
}

pub async fn orphans_are_removed(fixture: Fixture) {
    let before = fixture.engine.containers();
    let uid = fixture.pod_uid();
    let agent = Agent::start(&fixture, Duration::from_secs(60), &uid, &["exit 0", "sleep 1000"]);
    assert_eq!(fixture.engine.containers().len(), before.len() + 3, "two and their sandbox");
    agent.signal(Signal::SIGKILL);
    // Another node of the same engine does not touch them.
    let other = Fixture::new(fixture.engine.clone());
    let stranger = other.runtime().await;
    assert!(stranger.recover().await.unwrap().is_empty());
    assert_eq!(fixture.engine.containers().len(), before.len() + 3);
    let runtime = fixture.runtime().await;
    for pod in runtime.recover().await.unwrap() {
        for container in &pod.containers {
            container.kill().await;
            let exit = container.wait().await;
            assert!(matches!(exit.reason, ExitReason::Completed | ExitReason::Error), "{exit:?}");
        }
        pod.sandbox.close().await.unwrap();
    }
    assert_eq!(fixture.engine.containers(), before);
    stranger.set_deadline(Duration::ZERO);
}
