//! P1–P12 on a node: several containers, sidecars, hooks, probes, last words, by the process runtime.

use crate::agent_process::{AgentProcess, eventually, lines_of, new_pod, to_stop};
use crate::fake_leader::FakeLeader;
use std::time::Duration;
use stint_api::{
    Container, EnvVar, EnvVarSource, ExecAction, FieldRef, Lifecycle, LifecycleHandler, PodSpec, PodUid,
    Probe, RestartPolicy, TerminationMessagePolicy,
};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_proto::v1::pod_report::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn container(name: &str, script: &str) -> Container {
    let command = ["/bin/sh", "-c", &script.replace('$', "$$")].map(str::to_owned).to_vec();
    Container { name: name.to_owned(), command, ..Container::default() }
}

fn exec(script: &str) -> ExecAction {
    ExecAction { command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec() }
}

fn probe(script: &str) -> Option<Probe> {
    Some(Probe { exec: exec(script), period_seconds: 1, failure_threshold: 1, ..Probe::default() })
}

/// What to hold of a Pod of which the first runs of these containers may run.
fn to_run(pod: PodUid, spec: PodSpec, containers: &[&str]) -> v1::DesiredPod {
    let run = |name: &&str| v1::ContainerRun { name: (*name).to_owned(), ..v1::ContainerRun::default() };
    let to_run = v1::PodToRun {
        uid: uid_to_wire(pod),
        name: "whole".to_owned(),
        spec: Some(spec.into()),
        termination_grace_period_ms: 2_000,
        ..v1::PodToRun::default()
    };
    let run = v1::RunPod { pod: Some(to_run), containers: containers.iter().map(run).collect() };
    v1::DesiredPod {
        pod_uid: uid_to_wire(pod),
        binding_revision: 1,
        action: Some(v1::desired_pod::Action::Run(run)),
    }
}

async fn running(leader: &FakeLeader, pod: PodUid, name: &str) {
    leader
        .report(pod, &format!("that {name} runs"), |kind| match kind {
            Kind::Running(running) => (running.container == name).then_some(()),
            _ => None,
        })
        .await;
}

async fn end(leader: &FakeLeader, pod: PodUid, name: &str) -> v1::ContainerStateTerminated {
    leader
        .report(pod, &format!("the end of {name}"), |kind| match kind {
            Kind::Exited(exited) if exited.container == name => exited.termination.clone(),
            _ => None,
        })
        .await
}

/// What was said last of whether a container is started and ready.
fn readiness(leader: &FakeLeader, pod: PodUid) -> Option<(bool, bool)> {
    let state = leader.state();
    let of_pod = state.reports.iter().filter(|(_, report)| report.pod_uid == uid_to_wire(pod));
    let said = of_pod.filter_map(|(_, report)| match report.kind.as_ref()? {
        Kind::Readiness(readiness) => Some((readiness.started, readiness.ready)),
        _ => None,
    });
    said.last()
}

#[tokio::test]
async fn p6_p7_a_stop_comes_to_hooks_then_apps_then_sidecars() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let waits = |name: &str| {
        format!("trap 'echo {name} >> trace; exit 0' TERM; touch {name}.ready; while :; do sleep 0.05; done")
    };
    let lifecycle = Lifecycle {
        pre_stop: Some(LifecycleHandler::Exec(exec("echo hook >> trace"))),
        ..Lifecycle::default()
    };
    let sidecar =
        Container { restart_policy: Some(RestartPolicy::Always), ..container("side", &waits("side")) };
    let app = Container { lifecycle: Some(lifecycle), ..container("app", &waits("app")) };
    let spec = PodSpec { init_containers: vec![sidecar], containers: vec![app], ..PodSpec::default() };
    leader.order(to_run(pod, spec.clone(), &["side"]));
    running(&leader, pod, "side").await;
    leader.order(to_run(pod, spec, &["side", "app"]));
    running(&leader, pod, "app").await;
    let work = agent.folders_of(pod)[0].join("work");
    eventually("they are ready for SIGTERM", || {
        ["side", "app"].iter().all(|name| work.join(format!("{name}.ready")).exists())
    })
    .await;
    leader.order(to_stop(pod, 1, Duration::from_secs(20)));
    assert_eq!(end(&leader, pod, "side").await.exit_code, 0);
    assert_eq!(end(&leader, pod, "app").await.exit_code, 0);
    assert_eq!(lines_of(&work.join("trace")), ["hook", "app", "side"]);
    // The last word: nothing more of it is going to be begun.
    leader
        .report(pod, "that nothing more is begun", |kind| match kind {
            Kind::NotStarted(not_started) => not_started.container.is_empty().then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn probes_say_whether_a_container_is_started_ready_and_well() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let app = Container {
        startup_probe: Some(Probe { failure_threshold: 30, ..probe("test -e started").unwrap() }),
        readiness_probe: probe("test -e ready"),
        liveness_probe: probe("test ! -e sick || { echo it is sick; exit 4; }"),
        ..container("app", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    };
    leader.order(to_run(pod, PodSpec { containers: vec![app], ..PodSpec::default() }, &["app"]));
    running(&leader, pod, "app").await;
    let work = agent.folders_of(pod)[0].join("work");
    let touch = |name: &str| std::fs::write(work.join(name), "").unwrap();
    eventually("it is not started", || readiness(&leader, pod) == Some((false, false))).await;
    touch("ready");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(readiness(&leader, pod), Some((false, false)), "the startup probe comes first");
    touch("started");
    eventually("it is ready", || readiness(&leader, pod) == Some((true, true))).await;
    std::fs::remove_file(work.join("ready")).unwrap();
    eventually("it is not ready any more", || readiness(&leader, pod) == Some((true, false))).await;
    touch("sick");
    let termination = end(&leader, pod, "app").await;
    assert_eq!(
        (termination.exit_code, termination.message.as_str()),
        (5, "liveness probe failed: exit code 4: it is sick")
    );
    // D14: people are told, before the end is.
    let told = notices(&leader, pod);
    let has =
        |reason: &str, message: &str| told.iter().any(|(one, text)| one == reason && text.contains(message));
    assert!(has("Unhealthy", "Startup probe failed: exit code 1"), "{told:?}");
    assert!(has("Killing", "Stopping container app"), "{told:?}");
}

/// What people were told of a Pod.
fn notices(leader: &FakeLeader, pod: PodUid) -> Vec<(String, String)> {
    let state = leader.state();
    let of_pod = state.reports.iter().filter(|(_, report)| report.pod_uid == uid_to_wire(pod));
    let told = of_pod.filter_map(|(_, report)| match report.kind.as_ref()? {
        Kind::Notice(notice) => Some((notice.reason.clone(), notice.message.clone())),
        _ => None,
    });
    told.collect()
}

#[tokio::test]
async fn a_failed_hook_after_the_start_stops_the_container() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let lifecycle = Lifecycle {
        post_start: Some(LifecycleHandler::Exec(exec("sleep 0.2; echo oops >&2; exit 3"))),
        ..Lifecycle::default()
    };
    let app = Container { lifecycle: Some(lifecycle), ..container("app", "exec sleep 100") };
    leader.order(to_run(pod, PodSpec { containers: vec![app], ..PodSpec::default() }, &["app"]));
    let termination = end(&leader, pod, "app").await;
    assert_eq!(termination.message, "postStart hook failed: exit code 3: oops");
    assert_eq!(termination.exit_code, 143);
}

#[tokio::test]
async fn p12_the_end_of_the_log_stands_for_last_words() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    for (policy, code, message) in [
        (Some(TerminationMessagePolicy::FallbackToLogsOnError), 9, "last words\n"),
        (Some(TerminationMessagePolicy::FallbackToLogsOnError), 0, ""),
        (None, 9, ""),
    ] {
        let pod = new_pod();
        let app = Container {
            termination_message_policy: policy.clone(),
            ..container("app", &format!("echo last words; exit {code}"))
        };
        leader.order(to_run(pod, PodSpec { containers: vec![app], ..PodSpec::default() }, &["app"]));
        let termination = end(&leader, pod, "app").await;
        assert_eq!((termination.exit_code, termination.message.as_str()), (code, message), "{policy:?}");
    }
}

#[tokio::test]
async fn what_the_servers_cannot_know_the_node_adds() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource::FieldRef(FieldRef { field_path: path.to_owned() })),
        ..EnvVar::default()
    };
    let app = Container {
        env: vec![field("POD", "status.podIP"), field("HOST", "status.hostIP")],
        ..container("app", "echo $POD $HOST $HOSTNAME > addresses")
    };
    let spec = PodSpec { containers: vec![app], hostname: Some("named".to_owned()), ..PodSpec::default() };
    leader.order(to_run(pod, spec, &["app"]));
    assert_eq!(end(&leader, pod, "app").await.exit_code, 0);
    // The address from which it reaches the leader.
    let work = agent.folders_of(pod)[0].join("work");
    assert_eq!(lines_of(&work.join("addresses")), ["127.0.0.1 127.0.0.1 named"]);
}

#[tokio::test]
async fn p4_a_pod_that_cannot_be_here_fails_as_a_whole() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let mut order =
        to_run(pod, PodSpec { containers: vec![container("app", "true")], ..PodSpec::default() }, &["app"]);
    if let Some(v1::desired_pod::Action::Run(v1::RunPod { pod: Some(pod), .. })) = &mut order.action {
        pod.runtime = "cri".to_owned();
    }
    leader.order(order);
    let failed = leader
        .report(pod, "that it failed", |kind| match kind {
            Kind::PodFailed(failed) => Some(failed.clone()),
            other => panic!("{other:?}"),
        })
        .await;
    assert_eq!(failed.reason, "NotAllowed");
    assert_eq!(failed.message, "this node has no runtime \"cri\": it has process");
}

/// What `/metrics` of an agent says, whose log is in its output.
async fn metrics(agent: &AgentProcess) -> String {
    let address = || {
        let output = agent.output();
        let said = output.lines().find(|line| line.contains("serves metrics"))?.split_once("address=")?;
        said.1.split_whitespace().next().map(str::to_owned)
    };
    eventually("it serves metrics", || address().is_some()).await;
    let mut stream = tokio::net::TcpStream::connect(address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn each_run_of_a_pods_containers_is_timed() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let output = std::fs::File::create(agent.folder.path().join("output")).unwrap();
    agent.start_with(|command| command.args(["--metrics-listen", "127.0.0.1:0"]).stderr(output));
    leader.registration(0).await;
    let pod = new_pod();
    let containers = ["one", "other"].map(|name| container(name, "sleep 600"));
    let spec = PodSpec { containers: containers.into(), ..PodSpec::default() };
    leader.order(to_run(pod, spec, &["one", "other"]));
    running(&leader, pod, "one").await;
    running(&leader, pod, "other").await;
    let text = metrics(&agent).await;
    for line in [
        "stint_agent_starts_total 2",
        "stint_agent_start_seconds_count 2",
        "stint_agent_pods{phase=\"Running\",runtime=\"process\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
