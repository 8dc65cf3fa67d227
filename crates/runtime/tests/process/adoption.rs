//! Containers and the processes that start them and come after them (A13).

use crate::fixture::{Fixture, boot_time, escapees, eventually, never, options_in, shims_of};
use crate::processes::{alive, marker};
use crate::stops::stop;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use stint_runtime::{
    ContainerId, ContainerSpec, LogLimits, LogStore, PodSandboxSpec, ProcessRuntime, ReadOptions,
    RecoveredPod, Runtime,
};

/// The Pod of a container that an agent process starts, by its number.
fn pod_of(number: usize) -> String {
    format!("00000000-0000-4000-9000-{number:012x}")
}

/// A process that starts containers, as an agent does; killed with everything when it is dropped.
struct AgentProcess(Child);

impl AgentProcess {
    /// Starts one container per script and resolves once all of them run. `lease` is when they are to end, counted from their
    /// start, or from the last renewal.
    fn start(fixture: &Fixture, lease: Lease, scripts: &[String]) -> AgentProcess {
        let mut agent = AgentProcess::begin(fixture, lease, scripts);
        let mut line = String::new();
        BufReader::new(agent.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        agent
    }

    /// Resolves before anything runs.
    fn begin(fixture: &Fixture, lease: Lease, scripts: &[String]) -> AgentProcess {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["agent", fixture.folder.path().to_str().unwrap(), fixture.mode(), &lease.to_text()])
            .args(scripts)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        AgentProcess(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// SIGKILL; resolves when its spawner is gone too.
    async fn kill(mut self) {
        let spawners = shims_of(self.0.id());
        assert_eq!(spawners.len(), 1, "one spawner");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        // What is left of it may be a zombie that waits for the system's init.
        let line = format!("/proc/{}/cmdline", spawners.first().unwrap());
        eventually("no spawner", || std::fs::read(&line).unwrap_or_default().is_empty()).await;
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy)]
enum Lease {
    None,
    Once(Duration),
    Renewed(Duration),
}

impl Lease {
    fn to_text(self) -> String {
        match self {
            Lease::None => "none".to_owned(),
            Lease::Once(lease) => format!("once {}", lease.as_millis()),
            Lease::Renewed(lease) => format!("renewed {}", lease.as_millis()),
        }
    }

    fn of(text: &str) -> Lease {
        let lease = |text: &str| Duration::from_millis(text.parse().unwrap());
        match text.split_once(' ') {
            Some(("once", milliseconds)) => Lease::Once(lease(milliseconds)),
            Some((_, milliseconds)) => Lease::Renewed(lease(milliseconds)),
            None => Lease::None,
        }
    }
}

/// The body of [`AgentProcess`].
pub fn be_an_agent(arguments: &[String]) {
    let [folder, mode, lease, scripts @ ..] = arguments else { return };
    let (folder, lease) = (Path::new(folder), Lease::of(lease));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let runtime = runtime_in(folder, mode == "degraded").await;
        if let Lease::Once(lease) | Lease::Renewed(lease) = lease {
            runtime.set_deadline(boot_time() + lease);
        }
        let runtime = Arc::new(runtime);
        let mut starts = tokio::task::JoinSet::new();
        for (number, script) in scripts.iter().enumerate() {
            let pod = pod_of(number);
            let sandbox = PodSandboxSpec::new(&pod, folder.join("pods").join(&pod));
            let spec = ContainerSpec {
                command: ["/bin/sh", "-c", &script.replace('$', "$$")].map(str::to_owned).to_vec(),
                log_limits: LogLimits { files: 100, ..LogLimits::default() },
                ..ContainerSpec::new(ContainerId::new(&pod, "main", 2).unwrap())
            };
            let runtime = runtime.clone();
            starts.spawn(async move {
                runtime.open_pod(sandbox).await.unwrap().start(spec, never()).await.unwrap()
            });
        }
        let held = starts.join_all().await;
        println!("held");
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if let Lease::Renewed(lease) = lease {
                runtime.set_deadline(boot_time() + lease);
            }
            // Dropping a handle ends nothing, but an agent keeps them.
            std::hint::black_box(&held);
        }
    });
}

async fn runtime_in(folder: &Path, force_degraded: bool) -> ProcessRuntime {
    let logs = LogStore::open(&folder.join("logs")).unwrap();
    let options = options_in(folder, &logs, force_degraded);
    ProcessRuntime::new(options).await.unwrap()
}

/// What the case's own runtime finds, by number.
async fn adopt(fixture: &Fixture) -> BTreeMap<usize, RecoveredPod> {
    let pods = fixture.runtime.recover().await.unwrap();
    let number = |pod: &RecoveredPod| usize::from_str_radix(&pod.pod_uid[24..], 16).unwrap();
    pods.into_iter().map(|pod| (number(&pod), pod)).collect()
}

async fn log_of(fixture: &Fixture, number: usize) -> String {
    let id = ContainerId::new(&pod_of(number), "main", 2).unwrap();
    let mut reader = fixture.logs.reader(&id, ReadOptions::default()).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await.unwrap() {
        assert_eq!(chunk.skipped_bytes, 0);
        bytes.extend(chunk.bytes);
    }
    String::from_utf8(bytes).unwrap()
}

pub async fn a13_containers_outlive_their_agent_and_are_adopted_with_whole_logs(fixture: Fixture) {
    let scripts = [
        // Numbered lines as fast as they go, before, during and after the death of its agent.
        "i=0; while [ ! -e stop ]; do echo $i; i=$((i+1)); done; printf 'end %s' $i; exit 3",
        "sleep 0.5; echo bye; exit 7",
        "exit 9",
        "kill -USR1 $$",
        "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.02; done",
        "exec /no/such/program",
        "exec sleep 1000",
    ];
    let began = SystemTime::now();
    let agent =
        AgentProcess::start(&fixture, Lease::Once(Duration::from_secs(60)), &scripts.map(str::to_owned));
    agent.kill().await;
    let length = log_of(&fixture, 0).await.len();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let grown_by = Instant::now() + Duration::from_secs(60);
    while log_of(&fixture, 0).await.len() <= length {
        assert!(Instant::now() < grown_by, "it goes on, and so does its log");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pods = adopt(&fixture).await;
    assert_eq!(pods.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    for pod in pods.values() {
        assert_eq!(
            (pod.containers[0].id().container_name(), pod.containers[0].id().restart_count()),
            ("main", 2)
        );
        let started_at = pod.containers[0].started_at().expect("it ran");
        assert!(began <= started_at && started_at <= began + Duration::from_secs(20));
    }
    // Those that ended before and while there was no agent.
    let mut ends = Vec::new();
    for number in [1, 2, 3, 5] {
        // Of the first one, which takes half a second, it is chance that it has ended by now.
        let patience = Duration::from_millis(if number == 1 { 60_000 } else { 1 });
        let exit = tokio::time::timeout(patience, pods[&number].containers[0].wait()).await;
        let exit = exit.expect("known at once");
        assert!(exit.finished_at <= SystemTime::now() && !exit.fenced);
        ends.push((exit.exit_code, exit.signal));
    }
    assert_eq!(ends, [(7, None), (9, None), (138, Some(10)), (127, None)]);
    assert_eq!(log_of(&fixture, 1).await, "bye\n");
    // Those that run are followed, told, and heard as before.
    let id = pods[&0].containers[0].id().clone();
    assert!(fixture.logs.is_live(&id) && !fixture.logs.is_live(pods[&1].containers[0].id()));
    let options = ReadOptions { follow: true, tail_lines: Some(0), ..ReadOptions::default() };
    let mut follower = fixture.logs.reader(&id, options).await.unwrap();
    assert!(!follower.next().await.unwrap().unwrap().bytes.is_empty());
    pods[&4].containers[0].signal(15);
    assert_eq!(pods[&4].containers[0].wait().await.exit_code, 4);
    assert_eq!(log_of(&fixture, 4).await, "ready\ntold\n");
    let stop = fixture.folder.path().join("pods").join(pod_of(0)).join("work/stop");
    std::fs::write(stop, "").unwrap();
    assert_eq!(pods[&0].containers[0].wait().await.exit_code, 3);
    let text = log_of(&fixture, 0).await;
    let (lines, end) = text.rsplit_once('\n').unwrap();
    let count =
        lines.lines().zip(0..).inspect(|(line, number)| assert_eq!(*line, number.to_string())).count();
    assert_eq!(end, format!("end {count}"), "no line is lost or doubled");
    println!("  {count} lines, {length} bytes of text before the agent was dead");
    // Programs are run in containers that were adopted, and those of an agent end with it.
    let idle = &pods[&6].containers[0];
    let again = stint_runtime::ExecSpec {
        command: ["sh", "-c", "exit 8"].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    assert_eq!(idle.exec(again.clone()).await.unwrap().wait().await, 8);
    let left = marker();
    let lasting =
        stint_runtime::ExecSpec { command: vec!["sleep".to_owned(), left.clone()], ..Default::default() };
    let session = idle.exec(lasting).await.unwrap();
    eventually("it runs", || alive(&left) == 1).await;
    std::mem::forget(session);
    // Kept until it is taken: by each process that comes, and then no more.
    drop(pods);
    let next = runtime_in(fixture.folder.path(), fixture.force_degraded).await;
    let pods = next.recover().await.unwrap();
    assert_eq!(pods.len(), 7);
    // The first one of this agent, while the last one of the agent before may still be dying.
    assert_eq!(pods[6].containers[0].exec(again).await.unwrap().wait().await, 8);
    eventually("the program of the agent before has ended", || alive(&left) == 0).await;
    assert!(pods[6].containers[0].started_at().is_some());
    pods[6].containers[0].kill().await;
    for pod in &pods {
        pod.containers[0].wait().await;
        pod.containers[0].release().await;
    }
    assert!(next.recover().await.unwrap().is_empty());
    // A further container of such a Pod.
    let spec = ContainerSpec {
        command: vec!["pwd".to_owned()],
        ..ContainerSpec::new(ContainerId::new(&pod_of(2), "main", 3).unwrap())
    };
    let again = pods[2].sandbox.start(spec, never()).await.unwrap();
    assert_eq!(again.wait().await.exit_code, 0);
}

pub async fn a13_containers_of_a_dead_agent_end_at_its_deadline(fixture: Fixture) {
    let marker = marker();
    let scripts = [
        format!("{}; sleep 1000", escapees(&marker)),
        format!("{}; kill -STOP $$; sleep 1000", escapees(&marker)),
        format!("trap '' TERM; while :; do sleep {marker}; done"),
    ];
    let lease = Duration::from_secs(8);
    let began = boot_time();
    let agent = AgentProcess::start(&fixture, Lease::Once(lease), &scripts);
    let deadline_after = boot_time() + lease;
    agent.kill().await;
    eventually("all run", || alive(&marker) >= 13).await;
    tokio::time::sleep((began + lease).saturating_sub(boot_time() + Duration::from_millis(300))).await;
    let n_alive = alive(&marker);
    // A machine that is busy may have come to this too late.
    assert!(n_alive >= 13 || boot_time() >= began + lease, "{n_alive} alive before the deadline");
    tokio::time::sleep(deadline_after.saturating_sub(boot_time())).await;
    eventually("all dead", || alive(&marker) == 0).await;
    let late = boot_time().saturating_sub(deadline_after);
    assert!(late < Duration::from_millis(700), "{late:?} late");
    for pod in adopt(&fixture).await.values() {
        let exit = pod.containers[0].wait().await;
        assert_eq!((exit.exit_code, exit.signal, exit.fenced), (137, Some(9), true), "A12");
    }
}

pub async fn a13_containers_of_a_stopped_agent_end_at_its_deadline(fixture: Fixture) {
    let marker = marker();
    let lease = Duration::from_secs(5);
    let script = format!("trap '' TERM; setsid -f sleep {marker}; sleep {marker}; sleep {marker}");
    let agent = AgentProcess::start(&fixture, Lease::Renewed(lease), &[script]);
    eventually("it runs", || alive(&marker) >= 3).await;
    // Longer than a lease: it is renewed, and nobody wakes the shim for that.
    tokio::time::sleep(lease + Duration::from_secs(1)).await;
    // Its own arguments have the marker too.
    assert!(alive(&marker) >= 3);
    agent.signal(Signal::SIGSTOP);
    let stopped_at = Instant::now();
    tokio::time::sleep(lease - Duration::from_millis(2_500)).await;
    let n_alive = alive(&marker);
    // A machine that is busy may have come to this too late.
    assert!(n_alive >= 3 || stopped_at.elapsed() >= lease - Duration::from_secs(1), "killed before its time");
    eventually("all dead but the agent", || alive(&marker) == 1).await;
    assert!(stopped_at.elapsed() < lease + Duration::from_millis(700), "{:?}", stopped_at.elapsed());
}

/// R6: of what is told as missing nothing runs, or two of one index would. A folder that was copied has none of the sockets.
pub async fn a13_what_can_not_be_reached_is_ended_before_it_is_missed(fixture: Fixture) {
    let (kept, lost) = (marker(), marker());
    let script =
        |marker: &str| format!("{}; trap '' TERM; while :; do sleep {marker}; done", escapees(marker));
    let scripts = [script(&kept), script(&lost), script(&lost)];
    AgentProcess::start(&fixture, Lease::Once(Duration::from_secs(60)), &scripts).kill().await;
    eventually("all run", || alive(&kept) >= 3 && alive(&lost) >= 6).await;
    let shims = fixture.folder.path().join("shims");
    let sockets: Vec<_> = std::fs::read_dir(&shims).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sockets.len(), 3);
    let elsewhere = fixture.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for socket in &sockets[1..] {
        std::fs::rename(socket, elsewhere.join(socket.file_name().unwrap())).unwrap();
    }
    let before = alive(&kept) + alive(&lost);
    let found = adopt(&fixture).await;
    assert_eq!(found.len(), 1);
    // At once: which one was kept is the folder's choice.
    let after = alive(&kept) + alive(&lost);
    assert!(
        after > 0 && after < before && (alive(&kept) == 0 || alive(&lost) == 0),
        "{before} before, {after} after"
    );
    for pod in found.values() {
        pod.containers[0].kill().await;
    }
    eventually("none is left", || alive(&kept) + alive(&lost) == 0).await;
}

/// What an agent was about to start when it died has either begun, which is known, or never will.
pub async fn a13_what_never_began_is_told_from_what_may_have(fixture: Fixture) {
    let mut counts = [0; 3];
    for round in 0..8 {
        let fixture = Fixture::new(fixture.force_degraded).await;
        let folder = fixture.folder.path().to_owned();
        let has_run = |number: usize| folder.join(format!("ran-{number}")).exists();
        let scripts: Vec<_> =
            (0..60).map(|number| format!(": >{}/ran-{number}; exec sleep 1000", folder.display())).collect();
        let agent = AgentProcess::begin(&fixture, Lease::Once(Duration::from_secs(60)), &scripts);
        eventually("one runs", || (0..60).any(has_run)).await;
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        agent.kill().await;
        let runtime = runtime_in(&folder, fixture.force_degraded).await;
        let pods = runtime.recover().await.unwrap();
        let adopted: BTreeSet<&str> = pods.iter().map(|pod| pod.pod_uid.as_str()).collect();
        let may_have_run = |number: &usize| {
            let uid = pod_of(*number);
            let id = ContainerId::new(&uid, "main", 2).unwrap();
            runtime.may_have_run(&folder.join("pods").join(&uid), &id)
        };
        let rest = (0..60).filter(|number| !adopted.contains(pod_of(*number).as_str()));
        let (unknown, never): (Vec<_>, Vec<_>) = rest.partition(may_have_run);
        assert!(pods.iter().all(|pod| pod.containers[0].id().restart_count() == 2));
        // Whatever was on its way has arrived.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(never.iter().filter(|number| has_run(**number)).count(), 0, "A13: {never:?}");
        counts = [counts[0] + adopted.len(), counts[1] + unknown.len(), counts[2] + never.len()];
        for pod in &pods {
            pod.containers[0].kill().await;
            pod.containers[0].wait().await;
        }
    }
    println!("  {} go on, {} may have run, {} never began", counts[0], counts[1], counts[2]);
    assert!(counts[0] > 0);
}

/// A shim that was killed from outside has begun.
pub async fn a13_what_was_killed_with_its_shim_may_have_run(fixture: Fixture) {
    let folder = fixture.folder.path().to_owned();
    let agent =
        AgentProcess::start(&fixture, Lease::Once(Duration::from_secs(60)), &["sleep 1000".to_owned()]);
    let spawner = *shims_of(agent.0.id()).first().unwrap();
    let shim = *shims_of(spawner as u32).first().unwrap();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    agent.kill().await;
    for _ in 0..2 {
        let runtime = runtime_in(&folder, fixture.force_degraded).await;
        assert!(runtime.recover().await.unwrap().is_empty());
        let may_have_run = |run| {
            let id = ContainerId::new(&pod_of(0), "main", run).unwrap();
            runtime.may_have_run(&folder.join("pods").join(pod_of(0)), &id)
        };
        assert!(may_have_run(2), "also for the agent after that");
        assert!(!may_have_run(3));
    }
}

pub async fn two_hundred_are_adopted_at_once(fixture: Fixture) {
    let marker = marker();
    let scripts: Vec<_> = (0..200)
        .map(
            |number| if number % 10 == 0 { format!("exit {number}") } else { format!("exec sleep {marker}") },
        )
        .collect();
    let agent = AgentProcess::start(&fixture, Lease::Once(Duration::from_secs(60)), &scripts);
    agent.kill().await;
    assert_eq!(alive(&marker), 180);
    let began = Instant::now();
    let pods = adopt(&fixture).await;
    println!("  200 containers adopted in {} ms", began.elapsed().as_millis());
    assert_eq!(pods.len(), 200);
    for (number, pod) in &pods {
        if number % 10 == 0 {
            assert_eq!(pod.containers[0].wait().await.exit_code, *number as i32);
        } else {
            assert!(pod.containers[0].started_at().is_some());
            pod.containers[0].kill().await;
        }
    }
    assert_eq!(alive(&marker), 0);
    for pod in pods.values() {
        pod.containers[0].wait().await;
        pod.sandbox.close().await.unwrap();
    }
    assert_eq!(std::fs::read_dir(fixture.folder.path().join("shims")).unwrap().count(), 0);
}

pub async fn shims_that_cannot_be_understood_are_killed(fixture: Fixture) {
    let shims = fixture.folder.path().join("shims");
    let names = || {
        let entries = std::fs::read_dir(&shims).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    // One of another version of the wire, whose process a pidfd names.
    let mut old = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&old);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let listener = UnixListener::bind(shims.join("old")).unwrap();
    let said = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut body = b"shim".to_vec();
        body.extend(99_u32.to_le_bytes());
        body.extend(b"words of that version");
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(body);
        let rights = [pidfd.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &control, MsgFlags::empty(), None)
            .unwrap();
        socket
    });
    // One that does not answer, as it was stopped.
    let marker = marker();
    let spawners = shims_of(std::process::id());
    let spec = fixture.shell(&format!("echo ready; exec sleep {marker}"));
    let before = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect::<BTreeSet<_>>();
    drop(fixture.start_ready(&spec).await);
    let after = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect::<BTreeSet<_>>();
    let stopped = *after.difference(&before).next().unwrap();
    stop(Pid::from_raw(stopped));
    // What a shim that is dead has left, and what is none.
    drop(UnixListener::bind(shims.join("dead")).unwrap());
    std::fs::write(shims.join("file"), "").unwrap();
    // And one that listens in this process, which is no shim: it is not killed for that.
    let silent = UnixListener::bind(shims.join("silent")).unwrap();
    assert_eq!(names().len(), 5);
    let pods = fixture.runtime.recover().await.unwrap();
    assert!(pods.is_empty());
    assert_eq!(names(), [""; 0]);
    assert_eq!(old.try_wait().unwrap().and_then(|status| ExitStatusExt::signal(&status)), Some(9));
    // Without a namespace, the main process dies of its shim's death and not with it.
    eventually("its container is dead", || alive(&marker) == 0).await;
    drop((said.join().unwrap(), silent));
}
