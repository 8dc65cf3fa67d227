//! A8–A10, A14: orders, desired sets, runs, reports.

use crate::agent_process::{AgentProcess, eventually, lines_of, new_pod, run_again, to_run, to_stop};
use crate::fake_leader::{FakeLeader, LONGER_NODE_LEASE_MS, NODE_LEASE_OVER_RESTARTS_MS};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stint_api::PodUid;
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_proto::v1::server_message::Message as ToAgent;

async fn not_started(leader: &FakeLeader, pod: PodUid) {
    leader
        .report(pod, "that it was not started", |kind| {
            matches!(kind, v1::pod_report::Kind::NotStarted(_)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a9_orders_are_idempotent_and_late_ones_start_nothing() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let trace = agent.folder.path().join("trace");
    let script = |name: &str| format!("echo {name} >> {}; sleep 0.2", trace.display());
    // Said twice, in an order and in sets: one run.
    let twice = new_pod();
    leader.order(to_run(twice, 5, &script("twice")));
    leader.order(to_run(twice, 5, &script("twice")));
    let set = |revision: u64, pods: Vec<v1::DesiredPod>| {
        ToAgent::DesiredSet(v1::DesiredSet { revision, pods, gone_pods: Vec::new(), more: false })
    };
    leader.say(set(10, vec![to_run(twice, 5, &script("twice"))]));
    assert_eq!(leader.exit_code(twice, 0).await, 0);
    leader.order(to_run(twice, 5, &script("twice")));
    // Stopped before it was known: a tombstone.
    let buried = new_pod();
    leader.order(to_stop(buried, 20, Duration::from_secs(30)));
    leader.order(to_run(buried, 20, &script("buried")));
    not_started(&leader, buried).await;
    // Bound before a set that does not have it.
    let dropped = new_pod();
    leader.order(to_run(dropped, 9, &script("dropped")));
    // Of another registration.
    let foreign = new_pod();
    let incarnation = leader.incarnation() - 1;
    leader.say(ToAgent::Order(v1::Order { incarnation, pod: Some(to_run(foreign, 30, &script("foreign"))) }));
    // Stopped while it waits to start.
    let waiting = new_pod();
    leader.order(run_again(waiting, 31, &script("waiting"), 0, Duration::from_secs(2)));
    leader.order(to_stop(waiting, 31, Duration::from_secs(30)));
    not_started(&leader, waiting).await;
    // In a set that does not say what to run, though the agent holds no such Pod: it asks again, and is told.
    let untold = new_pod();
    let mut without = to_run(untold, 40, &script("untold"));
    if let Some(v1::desired_pod::Action::Run(run)) = &mut without.action {
        run.pod = None;
    }
    leader.say(set(41, vec![without]));
    leader.say(set(42, vec![to_run(untold, 40, &script("untold"))]));
    assert_eq!(leader.exit_code(untold, 0).await, 0);
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert_eq!(lines_of(&trace), ["twice", "untold"]);
    // Malformed ones do no harm.
    leader.order(v1::DesiredPod { pod_uid: vec![1, 2, 3].into(), binding_revision: 50, action: None });
    leader.say(ToAgent::Order(v1::Order { incarnation: leader.incarnation(), pod: None }));
    let mut no_container = to_run(new_pod(), 51, "true");
    if let Some(v1::desired_pod::Action::Run(v1::RunPod { pod: Some(pod), .. })) = &mut no_container.action {
        pod.spec = None;
    }
    let pod = PodUid(u128::from_be_bytes(no_container.pod_uid.to_vec().try_into().unwrap()));
    leader.order(no_container);
    leader
        .report(pod, "that it can't be started", |kind| {
            matches!(kind, v1::pod_report::Kind::StartFailed(_)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn p5_a_program_that_cannot_run_is_never_said_to_run() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    for (program, code) in
        [("/no/such/program".to_owned(), 127), ("/etc/passwd".to_owned(), 126), ("x".repeat(100_000), 126)]
    {
        let pod = new_pod();
        let mut order = to_run(pod, 1, "");
        if let Some(v1::desired_pod::Action::Run(v1::RunPod { pod: Some(pod), .. })) = &mut order.action {
            pod.spec.as_mut().unwrap().containers[0].command = vec![program];
        }
        leader.order(order);
        let termination = leader
            .report(pod, "that it can't be started", |kind| match kind {
                v1::pod_report::Kind::StartFailed(exited) => exited.termination.clone(),
                other => panic!("{other:?}"),
            })
            .await;
        assert_eq!(
            (termination.exit_code, termination.reason.as_str()),
            (code, "StartError"),
            "{termination:?}"
        );
        assert!(termination.message.contains("exec") && termination.message.len() < 1_025);
        assert_eq!(termination.started_at, None);
    }
}

#[tokio::test]
async fn a14_a_further_run_begins_when_it_is_ordered_and_not_before_its_delay() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let trace = agent.folder.path().join("trace");
    // One working folder for all its runs, and what every Pod's environment has.
    let script = format!(
        "echo x >> runs; echo $HOSTNAME $STINT_FENCING_TOKEN $(wc -l < runs) >> {}; exit 3",
        trace.display()
    );
    leader.order(to_run(pod, 7, &script));
    assert_eq!(leader.exit_code(pod, 0).await, 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(lines_of(&trace).len(), 1, "the servers decide");
    let [folder, _] = agent.folders_of(pod);
    assert!(folder.exists());
    let ordered_at = Instant::now();
    leader.order(run_again(pod, 7, &script, 1, Duration::from_millis(600)));
    assert_eq!(leader.exit_code(pod, 1).await, 3);
    assert!(ordered_at.elapsed() >= Duration::from_millis(600), "{:?}", ordered_at.elapsed());
    let name = format!("pod-{}", pod.0 as u64);
    assert_eq!(lines_of(&trace), [format!("{name} 7 1"), format!("{name} 7 2")]);
    // Ended for good: its folder goes. Its log stays until the Pod is deleted.
    let set = |revision, gone_pods| {
        ToAgent::DesiredSet(v1::DesiredSet { revision, pods: Vec::new(), gone_pods, more: false })
    };
    leader.say(set(8, Vec::new()));
    eventually("its folder is gone", || !folder.exists()).await;
}

#[tokio::test]
async fn a15_logs_go_with_their_pod() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    leader.order(to_run(pod, 7, "echo output"));
    assert_eq!(leader.exit_code(pod, 0).await, 0);
    let set = |gone_pods| v1::DesiredSet { revision: 8, pods: Vec::new(), gone_pods, more: false };
    leader.say(ToAgent::DesiredSet(set(Vec::new())));
    let [_, logs] = agent.folders_of(pod);
    assert!(logs.exists());
    // The agent asks about it by itself.
    let asked = |state: &crate::fake_leader::State| {
        state.held.iter().any(|held| held.ended_pods.contains(&uid_to_wire(pod))).then_some(())
    };
    leader.until("a question about it", asked).await;
    assert!(logs.exists());
    leader.state().desired = Some(set(vec![uid_to_wire(pod)]));
    eventually("its log is gone", || !logs.exists()).await;
}

#[tokio::test]
async fn a10_many_short_pods_are_reported_in_few_messages() {
    const PODS: usize = 400;
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    leader.state().commit_time = Duration::from_millis(20);
    let pods: Vec<PodUid> = (0..PODS).map(|_| new_pod()).collect();
    let began = Instant::now();
    let parts: Vec<_> = pods.iter().map(|pod| to_run(*pod, 1, "true")).collect();
    leader.say(ToAgent::DesiredSet(v1::DesiredSet {
        revision: 2,
        pods: parts,
        gone_pods: Vec::new(),
        more: false,
    }));
    leader
        .until("the end of all of them", |state| {
            let ended = |report: &v1::PodReport| match &report.kind {
                Some(v1::pod_report::Kind::Exited(exited)) => {
                    assert_eq!(exited.termination.as_ref().unwrap().exit_code, 0);
                    true
                }
                Some(v1::pod_report::Kind::Running(_)) => false,
                other => panic!("{other:?}"),
            };
            let count = state.reports.iter().filter(|(_, report)| ended(report)).count();
            (count == PODS).then_some(())
        })
        .await;
    let messages = leader.state().report_messages;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let memory: Vec<&str> =
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("Threads")).collect();
    println!("{PODS} pods in {:?}, {messages} messages, {memory:?}", began.elapsed());
    // 800 reports, one commit of 20 ms after the other.
    assert!(messages <= 200, "{messages} messages");
    // Its heartbeats went on.
    assert_eq!(leader.state().registers.len(), 1);
}

#[tokio::test]
async fn a8_after_many_ends_the_desired_set_is_asked_for_out_of_turn() {
    const PODS: usize = 120;
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    // None of them is to be held once it has ended.
    let empty = v1::DesiredSet { revision: 100, ..v1::DesiredSet::default() };
    let pods: Vec<PodUid> = (0..PODS).map(|_| new_pod()).collect();
    pods.iter().for_each(|pod| leader.order(to_run(*pod, 1, "true")));
    for pod in &pods {
        assert_eq!(leader.exit_code(*pod, 0).await, 0);
    }
    leader.state().desired = Some(empty);
    leader
        .until("a question between those of the registration and of each third heartbeat", |state| {
            (state.held.len() > 1 + state.heartbeats.len() / 3).then_some(())
        })
        .await;
    let is_left = |pod: &PodUid| agent.folders_of(*pod)[0].exists();
    eventually("the folders of all are gone", || !pods.iter().any(is_left)).await;
}

#[tokio::test]
async fn p2_a8_what_a_container_refers_to_is_asked_for_until_it_is_there() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, complete) = (new_pod(), new_pod());
    let script = "[ \"$SEEN\" = yes ] && exit 6; exit 1";
    let looked_up = |error: Option<&str>| {
        let mut desired = to_run(pod, 1, script);
        if let Some(v1::desired_pod::Action::Run(v1::RunPod { pod: Some(pod), .. })) = &mut desired.action {
            pod.config_errors =
                error.map(|error| ("main".to_owned(), error.to_owned())).into_iter().collect();
            let env = v1::EnvVar { name: "SEEN".to_owned(), value: "yes".to_owned(), value_from: None };
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            container.env.extend(error.is_none().then_some(env));
        }
        desired
    };
    let waits = |error: &'static str| {
        leader.report(pod, error, move |kind| match kind {
            v1::pod_report::Kind::Waiting(waiting) if waiting.message == error => {
                assert_eq!(waiting.reason, "CreateContainerConfigError");
                Some(())
            }
            _ => None,
        })
    };
    leader.order(to_run(complete, 1, "sleep 1000"));
    leader.order(looked_up(Some("no such map")));
    waits("no such map").await;
    // The question leaves it out, so that the answer says what to run; the others stay in.
    let asks = |held: &v1::HeldPods| held.unfinished_pods == [uid_to_wire(complete)];
    leader.until("it is asked for", |state| state.held.iter().any(asks).then_some(())).await;
    let set = |pod: v1::DesiredPod| {
        let known = v1::RunPod {
            pod: None,
            containers: vec![v1::ContainerRun { name: "main".to_owned(), ..v1::ContainerRun::default() }],
        };
        let complete = v1::DesiredPod {
            pod_uid: uid_to_wire(complete),
            binding_revision: 1,
            action: Some(v1::desired_pod::Action::Run(known)),
        };
        v1::DesiredSet { revision: 5, pods: vec![complete, pod], ..v1::DesiredSet::default() }
    };
    // A later agent goes on waiting: nothing has ended.
    leader.running(complete).await;
    agent.kill();
    // It asks at every third heartbeat.
    leader.state().node_lease_ms = LONGER_NODE_LEASE_MS;
    agent.start();
    let register = leader.registration(1).await;
    assert_eq!(register.running_pods, [uid_to_wire(pod), uid_to_wire(complete)]);
    assert_eq!(register.unacknowledged_reports, []);
    leader.state().desired = Some(set(looked_up(Some("no such key"))));
    waits("no such key").await;
    leader.state().desired = Some(set(looked_up(None)));
    assert_eq!(leader.exit_code(pod, 0).await, 6);
    let both = [uid_to_wire(pod), uid_to_wire(complete)];
    leader.until("it is known", |state| (state.held.last()?.unfinished_pods == both).then_some(())).await;
}

#[tokio::test]
async fn what_the_node_lacks_delays_a_start_and_fails_no_pod() {
    const PODS: usize = 16;
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    // Room for a few of them at a time.
    let limit = descriptors + 14;
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &agent.pid().to_string(), &format!("--nofile={limit}:{limit}")])
        .status();
    assert!(limited.unwrap().success());
    let pods: Vec<_> = (0..PODS).map(|_| new_pod()).collect();
    pods.iter().for_each(|pod| leader.order(to_run(*pod, 1, "sleep 0.5; exit 4")));
    let deadline = Instant::now() + Duration::from_secs(120);
    let ended = || -> BTreeMap<Vec<u8>, i32> {
        let state = leader.state();
        let codes = state.reports.iter().filter_map(|(_, report)| match report.kind.as_ref()? {
            v1::pod_report::Kind::Exited(exited) => {
                Some((report.pod_uid.to_vec(), exited.termination.as_ref()?.exit_code))
            }
            v1::pod_report::Kind::StartFailed(_) | v1::pod_report::Kind::PodFailed(_) => panic!("{report:?}"),
            _ => None,
        });
        codes.collect()
    };
    let (mut known, mut revision) = (0, 1);
    while known < PODS {
        assert!(Instant::now() < deadline, "{:?}", ended());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let ended = ended();
        if ended.len() > known {
            // The servers know of these: the agent need not keep what it has of them.
            (known, revision) = (ended.len(), revision + 1);
            let open = pods.iter().filter(|pod| !ended.contains_key(&uid_to_wire(**pod)[..]));
            let pods = open.map(|pod| to_run(*pod, 1, "sleep 0.5; exit 4")).collect();
            leader.say(ToAgent::DesiredSet(v1::DesiredSet { revision, pods, ..v1::DesiredSet::default() }));
        }
    }
    assert!(ended().values().all(|code| *code == 4), "{:?}", ended());
    let state = leader.state();
    let waited = state.reports.iter().filter(|(_, report)| match &report.kind {
        Some(v1::pod_report::Kind::Waiting(waiting)) => waiting.reason == "CreateContainerError",
        _ => false,
    });
    assert!(waited.count() > 0, "there was room for all of them: this shows nothing");
    assert_eq!(state.registers.len(), 1);
}
