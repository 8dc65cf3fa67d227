//! A13: Pods outlive their agent, and the next one takes them over.

use crate::agent_process::{
    AgentProcess, alive, beats, eventually, marker, new_pod, run_again, to_run, to_stop,
};
use crate::fake_leader::{FakeLeader, NODE_LEASE_MS, NODE_LEASE_OVER_RESTARTS_MS};
use crate::leases::ran_as_long_as_its_lease;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stint_api::PodUid;
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_proto::v1::server_message::Message as ToAgent;

/// Ends an agent in one of the ways in which that happens, and says whether it was asked to.
async fn end(agent: &mut AgentProcess, how: Signal) {
    match how {
        Signal::SIGKILL => agent.kill(),
        signal => {
            agent.signal(signal);
            let status = agent.ended_within(Duration::from_secs(5)).await.expect("it ends");
            assert!(status.success(), "{status}");
        }
    }
}

fn ends_of(leader: &FakeLeader, pod: PodUid) -> Vec<(u32, i32, String)> {
    let uid = uid_to_wire(pod);
    let state = leader.state();
    let registered = state.registers.iter().flat_map(|(_, register)| &register.unacknowledged_reports);
    let all = state.reports.iter().map(|(_, report)| report).chain(registered);
    all.filter(|report| report.pod_uid == uid)
        .filter_map(|report| match report.kind.as_ref()? {
            v1::pod_report::Kind::Exited(exited) => {
                let termination = exited.termination.clone()?;
                Some((exited.restart_count, termination.exit_code, termination.reason))
            }
            v1::pod_report::Kind::Running(_) | v1::pod_report::Kind::Readiness(_) => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a13_pods_go_on_without_their_agent_and_the_next_one_takes_them_over() {
    for how in [Signal::SIGKILL, Signal::SIGTERM] {
        let leader = FakeLeader::start().await;
        leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
        let mut agent = AgentProcess::registered(&leader).await;
        let (runs, ends, waits) = (new_pod(), new_pod(), new_pod());
        let marker = marker();
        let numbers = "i=0; while [ ! -e stop ]; do sleep 0.01; n=$((i+500)); while [ $i -lt $n ]; do i=$((i+1)); echo $i; done; done; echo end; exit 3";
        leader.order(to_run(runs, 1, &format!("sleep {marker} & {numbers}")));
        leader.order(to_run(ends, 1, "while [ ! -e stop ]; do sleep 0.02; done; echo bye; exit 4"));
        leader.order(to_run(waits, 1, "exit 5"));
        leader.running(runs).await;
        leader.running(ends).await;
        assert_eq!(leader.exit_code(waits, 0).await, 5);
        tokio::time::sleep(Duration::from_millis(300)).await;
        end(&mut agent, how).await;
        let [work_of_runs, work_of_ends] = [runs, ends].map(|pod| agent.folders_of(pod)[0].join("work"));
        std::fs::write(work_of_ends.join("stop"), "").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(alive(&marker) > 0, "it goes on");
        let reports = leader.state().reports.len();
        agent.start();
        let register = leader.registration(1).await;
        let all = [runs, ends, waits].map(uid_to_wire);
        assert_eq!((&register.started_pods[..], &register.running_pods[..]), (&all[..], &all[..]), "{how}");
        // Of the one that has ended meanwhile the exit code is known, and the Job is told once.
        eventually("its end is told", || ends_of(&leader, ends).len() == 1).await;
        assert_eq!(ends_of(&leader, ends), [(0, 4, "Error".to_owned())], "{how}");
        // Another run of the one that waited for it begins, and none of the others.
        leader.order(run_again(waits, 1, "exit 5", 1, Duration::ZERO));
        let set = [(runs, "exit 9"), (ends, "exit 9")].map(|(pod, script)| to_run(pod, 1, script));
        let mut pods = set.to_vec();
        pods.push(run_again(waits, 1, "exit 5", 1, Duration::ZERO));
        leader.say(ToAgent::DesiredSet(v1::DesiredSet { revision: 2, pods, ..v1::DesiredSet::default() }));
        assert_eq!(leader.exit_code(waits, 1).await, 5);
        std::fs::write(work_of_runs.join("stop"), "").unwrap();
        eventually("its end is told", || ends_of(&leader, runs).len() == 1).await;
        assert_eq!(ends_of(&leader, runs), [(0, 3, "Error".to_owned())], "{how}");
        assert!(leader.state().reports.len() > reports);
        // No line of its log is missing or there twice.
        let id = 7;
        leader.say(ToAgent::LogRequest(v1::LogRequest {
            request_id: id,
            pod_uid: uid_to_wire(runs),
            container: "main".to_owned(),
            credit_bytes: 1 << 30,
            ..v1::LogRequest::default()
        }));
        let log = leader
            .until("the end of the log", |state| {
                let (data, end) = state.logs.get(&id)?;
                end.as_ref().map(|_| String::from_utf8_lossy(data).into_owned())
            })
            .await;
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines.len() > 100 && lines.last() == Some(&"end"), "{how}: {} lines", lines.len());
        // Only its beginning may have been rotated away.
        let first: usize = lines[0].parse().unwrap();
        for (number, line) in (first..).zip(&lines[..lines.len() - 1]) {
            assert_eq!(*line, number.to_string(), "{how}");
        }
        assert_eq!(ends_of(&leader, ends).len(), 1, "{how}");
    }
}

#[tokio::test]
async fn p6_what_was_taken_over_is_stopped_as_any_other() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (polite, deaf) = (new_pod(), new_pod());
    leader.order(to_run(polite, 1, "trap 'exit 5' TERM; touch ready; while :; do sleep 0.05; done"));
    leader.order(to_run(deaf, 1, "trap '' TERM; touch ready; while :; do sleep 0.05; done"));
    leader.running(polite).await;
    leader.running(deaf).await;
    eventually("they are ready for SIGTERM", || {
        [polite, deaf].iter().all(|pod| agent.folders_of(*pod)[0].join("work/ready").exists())
    })
    .await;
    agent.kill();
    agent.start();
    leader.registration(1).await;
    leader.until("a question", |state| (state.held.len() >= 2).then_some(())).await;
    leader.order(to_stop(polite, 1, Duration::from_secs(30)));
    leader.order(to_stop(deaf, 1, Duration::from_millis(700)));
    assert_eq!(leader.exit_code(polite, 0).await, 5);
    assert_eq!(leader.exit_code(deaf, 0).await, 137);
}

#[tokio::test]
async fn a12_a13_without_another_agent_pods_end_with_the_lease_and_that_is_said_once() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, marker) = (new_pod(), marker());
    leader.order(to_run(
        pod,
        1,
        &format!("trap '' TERM; setsid -f sleep {marker}; sleep {marker} & {}", beats(&agent)),
    ));
    leader.running(pod).await;
    eventually("it runs", || alive(&marker) >= 2).await;
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended_within(Duration::from_secs(5)).await.is_some());
    let renewed_at = leader.state().answered_at.unwrap();
    eventually("nothing of it is left", || alive(&marker) == 0).await;
    ran_as_long_as_its_lease(&agent, renewed_at);
    let asked = leader.state().held.len();
    agent.start();
    let register = leader.registration(1).await;
    assert_eq!(register.running_pods, [uid_to_wire(pod)], "it accounts for it");
    let told = |report: &v1::PodReport| {
        report.pod_uid == uid_to_wire(pod)
            && matches!(report.kind, Some(v1::pod_report::Kind::LeaseExpired(_)))
    };
    let said = |leader: &FakeLeader| -> Vec<Vec<u8>> {
        let state = leader.state();
        let registered = state.registers.iter().flat_map(|(_, register)| &register.unacknowledged_reports);
        let told =
            state.reports.iter().map(|(_, report)| report).chain(registered).filter(|report| told(report));
        told.map(prost::Message::encode_to_vec).collect()
    };
    eventually("that its lease ran out", || said(&leader).len() == 1).await;
    // An agent with a session that is asked to end has its word acknowledged, and that written down.
    leader.until("a question", |state| (state.held.len() > asked).then_some(())).await;
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended_within(Duration::from_secs(10)).await.is_some());
    agent.start();
    leader.registration(2).await;
    leader.until("a question", |state| (state.held.len() >= 3).then_some(())).await;
    assert_eq!(said(&leader).len(), 1);
    agent.kill();
    agent.start();
    leader.registration(3).await;
    leader.until("a question", |state| (state.held.len() >= 4).then_some(())).await;
    // A crash may come between an acknowledgement and the disk: then the same is said again, and the servers ignore it.
    let mut said = said(&leader);
    said.dedup();
    assert_eq!(said.len(), 1);
}

#[tokio::test]
async fn a10_what_is_being_committed_when_an_agent_is_asked_to_end_is_not_said_again() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    leader.state().commit_time = Duration::from_millis(300);
    let mut agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    leader.order(to_run(pod, 1, "exit 5"));
    assert_eq!(leader.exit_code(pod, 0).await, 5);
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended_within(Duration::from_secs(10)).await.expect("it ends").success());
    agent.start();
    let register = leader.registration(1).await;
    assert_eq!(register.unacknowledged_reports, []);
    leader.until("a question", |state| (state.held.len() >= 2).then_some(())).await;
    assert_eq!(ends_of(&leader, pod), [(0, 5, "Error".to_owned())]);
}

#[tokio::test]
async fn p3_of_what_is_gone_with_its_shim_nobody_knows_how_it_ended() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, marker) = (new_pod(), marker());
    // The parent of its first process is its shim, by its number outside.
    leader.order(to_run(pod, 1, &format!("exec sleep {marker}")));
    leader.running(pod).await;
    eventually("it runs", || alive(&marker) == 1).await;
    agent.kill();
    let shim = parent_of(&marker).expect("it has a parent");
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    eventually("its processes end with it", || alive(&marker) == 0).await;
    agent.start();
    let register = leader.registration(1).await;
    assert_eq!(register.running_pods, [uid_to_wire(pod)], "its end is told: it is accounted for");
    eventually("its end is told", || ends_of(&leader, pod).len() == 1).await;
    assert_eq!(ends_of(&leader, pod), [(0, 137, "ContainerStatusUnknown".to_owned())]);
}

fn parent_of(marker: &str) -> Option<i32> {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.windows(marker.len()).any(|part| part == marker.as_bytes()) {
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            return status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok();
        }
    }
    None
}

/// Opens a fifo once somebody waits for that.
fn open(path: &PathBuf) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut options = std::fs::File::options();
    options.write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    while options.open(path).is_err() {
        assert!(Instant::now() < deadline, "nobody waits at {}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn a13_two_hundred_pods_are_taken_over_and_each_end_is_told_once() {
    const PODS: u32 = 200;
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    // Whoever opens a fifo to read waits until somebody opens it to write.
    let script = |number: u32| {
        format!("echo begin; mkfifo gate; read line < gate; echo end; exit {}", number % 100 + 1)
    };
    let pods: Vec<(PodUid, u32)> = (0..PODS).map(|number| (new_pod(), number)).collect();
    let parts = pods.iter().map(|(pod, number)| to_run(*pod, 1, &script(*number))).collect();
    leader.say(ToAgent::DesiredSet(v1::DesiredSet { revision: 2, pods: parts, ..v1::DesiredSet::default() }));
    let running = |state: &crate::fake_leader::State| {
        let kinds = state.reports.iter().filter_map(|(_, report)| report.kind.as_ref());
        kinds.filter(|kind| matches!(kind, v1::pod_report::Kind::Running(_))).count()
    };
    leader.until("that all run", |state| (running(state) == PODS as usize).then_some(())).await;
    let gates: Vec<_> = pods.iter().map(|(pod, _)| agent.folders_of(*pod)[0].join("work/gate")).collect();
    agent.kill();
    // Every other one ends while there is no agent.
    gates.iter().step_by(2).for_each(open);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let began = Instant::now();
    agent.start();
    let register = leader.registration(1).await;
    assert_eq!((register.started_pods.len(), register.running_pods.len()), (PODS as usize, PODS as usize));
    println!("{PODS} pods were taken over {:?} after the start of an agent", began.elapsed());
    gates.iter().skip(1).step_by(2).for_each(open);
    for (pod, number) in &pods {
        eventually("its end is told", || !ends_of(&leader, *pod).is_empty()).await;
        assert_eq!(ends_of(&leader, *pod), [(0, (number % 100 + 1) as i32, "Error".to_owned())], "{number}");
    }
    assert_eq!(leader.state().registers.len(), 2, "its lease went on meanwhile");
}
