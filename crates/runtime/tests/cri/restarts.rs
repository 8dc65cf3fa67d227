//! Agents and engines that come and go: what was being started, what is known without the engine, what is nobody's any more.

use crate::engine::Engine;
use crate::fencing::guards;
use crate::fixture::{Fixture, never, options, shell, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stint_runtime::{ContainerId, CriRuntime, Error, ExitReason, PodSandboxSpec, Runtime};

/// Writes the host's clock again and again.
const TICKS: &str = "while true; do read up rest </proc/uptime; echo $up >>/pod/ticks; sleep 0.01; done";

/// How often what is nobody's is looked for here.
const COLLECT: Duration = Duration::from_millis(300);

/// An agent of its own that names no deadline: `starter ADDRESS NODE_UID FOLDER POD_UID LINE…`. Says a line when the Pod is open, starts
/// a container for each line at once, says another when all run, and waits to be killed.
pub async fn starter(arguments: Vec<String>) {
    let [address, node_uid, folder, pod_uid, lines @ ..] = &arguments[..] else { panic!("{arguments:?}") };
    let folder = PathBuf::from(folder);
    let runtime = CriRuntime::new(options(address, node_uid, &folder)).await.unwrap();
    let pod =
        runtime.open_pod(PodSandboxSpec::new(pod_uid, folder.join("pods").join(pod_uid))).await.unwrap();
    println!("open");
    let starts = lines.iter().enumerate().map(|(number, line)| {
        let (pod, spec) = (pod.clone(), shell(&folder, pod_uid, &format!("c{number}"), line));
        tokio::spawn(async move { pod.start(spec, never()).await.map(drop) })
    });
    let starts: Vec<_> = starts.collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    println!("all run");
    std::future::pending::<()>().await;
}

struct Starter {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Starter {
    fn start(fixture: &Fixture, pod_uid: &str, lines: &[String]) -> Starter {
        fixture.pod_folder(pod_uid);
        let mut process = Command::new("/proc/self/exe")
            .args(["starter", &fixture.engine.address(), &fixture.node_uid])
            .arg(fixture.folder())
            .arg(pod_uid)
            .args(lines)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut starter = Starter { process, said };
        starter.hear("open");
        starter
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kill_relays(fixture: &Fixture) {
    let socket = fixture.engine.address();
    let socket = socket.strip_prefix("unix://").unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line == format!("stint-relay\0{socket}\0").as_bytes() {
            let pid = entry.file_name().to_str().unwrap().parse().unwrap();
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn run_of(pod_uid: &str, number: usize) -> ContainerId {
    ContainerId::new(pod_uid, &format!("c{number}"), 0).unwrap()
}

/// Starts that an agent has asked for go on when it is gone: the next one takes over what runs, and can start what never did. An
/// engine gives up a start whose relay is killed too: whatever state that leaves a container in, each runs once, or at most once
/// where that can't be told, and nothing of the Pod is left, although the engine may have lost sight of it.
pub async fn a13_what_was_being_started_when_the_agent_died_runs_once(fixture: Fixture) {
    const CONTAINERS: usize = 10;
    let before = fixture.engine.containers();
    let mut interrupted = 0;
    for (delay, is_relay_killed) in
        [(100, false), (400, false), (800, false), (1600, false), (400, true), (1000, true)]
    {
        let uid = fixture.pod_uid();
        let lines: Vec<String> =
            (0..CONTAINERS).map(|number| format!("echo x >>/pod/ran.c{number}; sleep 1000")).collect();
        let starter = Starter::start(&fixture, &uid, &lines);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        drop(starter);
        if is_relay_killed {
            kill_relays(&fixture);
        }
        let runtime = fixture.runtime().await;
        let mut pods = runtime.recover().await.unwrap();
        assert_eq!(pods.len(), 1, "the Pod was open");
        let pod = pods.pop().unwrap();
        let found: BTreeMap<_, _> =
            pod.containers.iter().map(|container| (container.id().clone(), container)).collect();
        let mut uncertain = BTreeSet::new();
        for (number, line) in lines.iter().enumerate() {
            let id = run_of(&uid, number);
            if let Some(container) = found.get(&id) {
                assert!(container.started_at().is_some(), "{id} runs");
                continue;
            }
            interrupted += 1;
            if runtime.may_have_run(Path::new(""), &id) {
                uncertain.insert(number);
                continue;
            }
            let begun = Instant::now();
            // What is left of the first try may be in the way of one of the next ones, never of all.
            loop {
                match pod
                    .sandbox
                    .start(shell(fixture.folder(), &uid, id.container_name(), line), never())
                    .await
                {
                    Ok(container) if container.started_at().is_some() => break,
                    Ok(container) => panic!("{id}: {:?}", container.wait().await),
                    Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{id}: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(runtime.may_have_run(Path::new(""), &id));
        }
        let folder = fixture.pod_folder(&uid);
        let ran =
            |number: usize| fs::read_to_string(folder.join(format!("ran.c{number}"))).unwrap_or_default();
        let certain = || (0..CONTAINERS).filter(|number| !uncertain.contains(number));
        until("all run", || certain().all(|number| !ran(number).is_empty())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for number in certain() {
            assert_eq!(ran(number), "x\n", "{} ran once", run_of(&uid, number));
        }
        for number in &uncertain {
            assert!(["", "x\n"].contains(&&*ran(*number)), "{}: {:?}", run_of(&uid, *number), ran(*number));
        }
        println!(
            "after {delay} ms: {interrupted} so far were not running, of {} it is not known whether they ran",
            uncertain.len()
        );
        assert!(uncertain.is_empty() || is_relay_killed, "a start that goes on has an end that is known");
        pod.sandbox.close().await.unwrap();
        until("the engine has nothing of it", || fixture.engine.containers() == before).await;
        until("nothing of it runs", || processes_of(&uid).is_empty()).await;
        assert!(
            !runtime.may_have_run(Path::new(""), &run_of(&uid, 0)),
            "nothing is kept of a Pod that was closed"
        );
    }
    assert!(interrupted > 0, "an agent was killed before it was through at least once");
}

fn is_unavailable(runtime: &CriRuntime) -> bool {
    runtime.conditions().iter().any(|condition| condition.kind == "EngineUnavailable")
}

/// Containers go on under a guard that moves with the lease; they are looked after, and can be killed.
pub async fn an_agent_that_finds_its_engine_down_takes_containers_over(fixture: Fixture) {
    let uid = fixture.pod_uid();
    let lines = [TICKS, "sleep 3; exit 5", "sleep 1000"].map(str::to_owned);
    let mut starter = Starter::start(&fixture, &uid, &lines);
    starter.hear("all run");
    let frozen = fixture.engine.freeze();
    drop(starter);
    let runtime = fixture.runtime().await;
    assert!(is_unavailable(&runtime), "{:?}", runtime.conditions());
    let mut pods = runtime.recover().await.unwrap();
    let pod = pods.pop().unwrap();
    assert_eq!((&*pod.pod_uid, pods.len(), pod.containers.len()), (&*uid, 0, 3));
    let of = |number: usize| pod.containers.iter().find(|one| *one.id() == run_of(&uid, number)).unwrap();
    assert!(pod.containers.iter().all(|container| container.started_at().is_some()));
    let ticks = fixture.pod_folder(&uid).join("ticks");
    let count = || fs::read_to_string(&ticks).unwrap_or_default().len();
    let before = count();
    until("it goes on", || count() > before).await;
    // The guard is of this agent: what it names holds without the engine.
    runtime.set_deadline(crate::fixture::boottime() + Duration::from_secs(100));
    of(0).kill().await;
    let killed = count();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(count(), killed, "killed without the engine");
    // SIGTERM reaches the main process, which does not wait for it.
    of(2).signal(9);
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(frozen);
    for (number, code) in [(0, 137), (1, 5), (2, 137)] {
        let exit = of(number).wait().await;
        assert_eq!((exit.exit_code, exit.fenced), (code, false), "{number}: {exit:?}");
        assert_ne!(exit.reason, ExitReason::ContainerStatusUnknown, "{number}: {exit:?}");
    }
    until("the engine is taken up again", || !is_unavailable(&runtime)).await;
    let again = fixture.start(&pod.sandbox, "again", "exit 6").await;
    assert_eq!(again.wait().await.exit_code, 6);
    pod.sandbox.close().await.unwrap();
}

/// Of a node that never met its engine nothing runs, and it meets it when it comes up.
pub async fn an_engine_that_comes_up_later_is_met(fixture: Fixture) {
    let link = fixture.folder().join("late.sock");
    let address = format!("unix://{}", link.display());
    let runtime = fixture.runtime_with(|options| options.socket = address).await;
    assert!(is_unavailable(&runtime));
    assert!(runtime.recover().await.unwrap().is_empty());
    assert!(guards(&fixture).is_empty(), "there is nothing to guard");
    let deadline = crate::fixture::boottime() + Duration::from_secs(100);
    runtime.set_deadline(deadline);
    let uid = fixture.pod_uid();
    let spec = || PodSandboxSpec::new(&uid, fixture.pod_folder(&uid));
    let refused = runtime.open_pod(spec()).await.err().expect("nothing can be opened");
    assert!(matches!(refused, Error::Engine { .. }), "{refused}");
    std::os::unix::fs::symlink(fixture.engine.address().trim_start_matches("unix://"), &link).unwrap();
    until("it is met", || !is_unavailable(&runtime)).await;
    assert_eq!(guards(&fixture).len(), 1);
    let pod = runtime.open_pod(spec()).await.unwrap();
    let exit = fixture.start(&pod, "main", "exit 3").await.wait().await;
    assert_eq!((exit.exit_code, exit.fenced), (3, false), "the deadline that was named before holds");
    pod.close().await.unwrap();
}

/// Processes of the host in control groups of a Pod.
fn processes_of(pod_uid: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_its = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(pod_uid))
    };
    pids.filter(is_its).collect()
}

/// Whether an agent has the node of the case below.
static IS_OWNED: AtomicBool = AtomicBool::new(true);

/// A node whose folder was lost gets another uid, and nobody comes any more for what the old one left.
pub async fn what_a_lost_node_left_is_removed(fixture: Fixture) {
    let before = fixture.engine.containers();
    let lost = Fixture::new(fixture.engine.clone());
    let uid = lost.pod_uid();
    let mut starter = Starter::start(&lost, &uid, &["sleep 1000", "exit 0"].map(str::to_owned));
    starter.hear("all run");
    drop(starter);
    let runtime = fixture
        .runtime_with(|options| {
            options.owners = Some(|_| IS_OWNED.load(Ordering::SeqCst));
            options.collect_pause = COLLECT;
        })
        .await;
    assert!(runtime.recover().await.unwrap().is_empty());
    let left = fixture.engine.containers();
    assert_eq!(left.len(), before.len() + 3, "two and their sandbox");
    let stays = async |why: &str| {
        tokio::time::sleep(COLLECT * 5).await;
        assert_eq!(fixture.engine.containers(), left, "{why}");
    };
    stays("it has an agent").await;
    IS_OWNED.store(false, Ordering::SeqCst);
    stays("its agent may be on its way: the guard holds the lease").await;
    IS_OWNED.store(true, Ordering::SeqCst);
    // All that ran of it ends, as at the end of its lease. The groups of its Pod are left.
    until("nothing of it runs", || {
        for pid in processes_of(&uid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        processes_of(&uid).is_empty()
    })
    .await;
    until("its guard ends with what it guarded", || guards(&lost).is_empty()).await;
    stays("it has an agent").await;
    IS_OWNED.store(false, Ordering::SeqCst);
    until("it is removed", || fixture.engine.containers() == before).await;
}

/// An engine that is asked to make a container while its sandbox is removed may have it without one afterwards; so may one that
/// lost its books.
pub async fn containers_without_a_sandbox_are_removed(_: Fixture) {
    let engine = Arc::new(Engine::start().unwrap());
    let nodes = [Fixture::new(engine.clone()), Fixture::new(engine.clone())];
    for node in &nodes {
        let mut starter = Starter::start(node, &node.pod_uid(), &["exit 0".to_owned()]);
        starter.hear("all run");
    }
    engine.lose_sandboxes();
    engine.restart();
    assert_eq!(engine.containers().len(), 2, "one of each node");
    // The second node is no more.
    let runtime = nodes[0]
        .runtime_with(|options| {
            options.owners = Some(|_| false);
            options.collect_pause = COLLECT;
        })
        .await;
    // From its own books, if the engine does not answer yet.
    for pod in runtime.recover().await.unwrap() {
        pod.sandbox.close().await.unwrap();
    }
    until("they are removed", || engine.containers().is_empty()).await;
}

/// An engine that starts again leaves out what it can't load, and that goes on without it. It is told of as ended only when nothing of
/// it runs: begun elsewhere it would run twice. What the engine still has goes on.
pub async fn r6_what_an_engine_lost_sight_of_ends_before_that_is_told(_: Fixture) {
    let engine = Arc::new(Engine::start().unwrap());
    let node = Fixture::new(engine.clone());
    let [whole, part, unread] = [(); 3].map(|()| node.pod_uid());
    let lines = [0, 1].map(|number| TICKS.replace("ticks", &format!("ticks.c{number}")));
    for uid in [&whole, &part, &unread] {
        let mut starter = Starter::start(&node, uid, &lines);
        starter.hear("all run");
    }
    engine.lose_sight_of(&whole, None);
    engine.lose_sight_of(&part, Some("c0"));
    engine.lose_sight_of(&unread, None);
    // As of an agent that wrote otherwise.
    fs::write(node.folder().join("guard/runs").join(&unread).join("pod"), "{").unwrap();
    engine.restart();
    let count = |uid: &str, number: usize| {
        let ticks = node.pod_folder(uid).join(format!("ticks.c{number}"));
        fs::read_to_string(ticks).unwrap_or_default().len()
    };
    let goes_on = async |uid: &str, number: usize| {
        let before = count(uid, number);
        until("it goes on", || count(uid, number) > before).await;
    };
    let is_over = async |uid: &str, number: usize| {
        let last = count(uid, number);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(count(uid, number), last, "{}", run_of(uid, number));
    };
    for uid in [&whole, &part, &unread] {
        for number in [0, 1] {
            goes_on(uid, number).await;
        }
    }
    let runtime = node.runtime().await;
    until("the engine answers", || !is_unavailable(&runtime)).await;
    let pods = runtime.recover().await.unwrap();
    for number in [0, 1] {
        assert!(runtime.may_have_run(Path::new(""), &run_of(&unread, number)), "its end is told");
        is_over(&unread, number).await;
    }
    let found: BTreeSet<&str> = pods.iter().map(|pod| &*pod.pod_uid).collect();
    assert_eq!(found, BTreeSet::from([&*whole, &*part]), "what is on record is taken over");
    for pod in &pods {
        let uid = &*pod.pod_uid;
        assert_eq!(pod.containers.len(), 2);
        for container in &pod.containers {
            let number = usize::from(*container.id() == run_of(uid, 1));
            if (uid, number) == (&*part, 1) {
                goes_on(uid, number).await;
                container.kill().await;
                is_over(uid, number).await;
                let exit = container.wait().await;
                assert_eq!((exit.exit_code, exit.signal), (137, Some(9)), "the engine has it: {exit:?}");
            } else {
                let exit = container.wait().await;
                is_over(uid, number).await;
                assert_eq!(exit.reason, ExitReason::ContainerStatusUnknown, "{exit:?}");
            }
        }
        pod.sandbox.close().await.unwrap();
    }
    for uid in [&whole, &part, &unread] {
        until("nothing of it is left", || processes_of(uid).is_empty()).await;
    }
    engine.remove_lost();
    until("the engine has nothing of them", || engine.containers().is_empty()).await;
}
