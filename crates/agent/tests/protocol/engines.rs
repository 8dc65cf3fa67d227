//! Container engines that are not there (needs root and control groups, as the runtime does).

use crate::agent_process::{AgentProcess, new_pod, to_run};
use crate::fake_leader::FakeLeader;
use stint_proto::v1;

/// An engine that is down at the agent's start holds up no other runtime: the node says so, and what it is needed for waits.
#[tokio::test]
async fn an_engine_that_is_down_holds_up_no_other_runtime() {
    if !nix::unistd::geteuid().is_root() {
        println!("not shown: containers of an engine need root");
        return;
    }
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let socket = format!("unix://{}/nobody", agent.folder.path().display());
    let output = std::fs::File::create(agent.folder.path().join("output")).unwrap();
    agent.start_with(|command| {
        let runtimes = ["--runtime", "process", "--runtime", "cri", "--cri-socket", &socket];
        command.args(runtimes).stderr(output)
    });
    let registered = leader.registration(0).await;
    assert_eq!(registered.runtimes, ["process", "cri"], "{}", agent.output());
    let mut conditions = registered.conditions.iter();
    let condition = conditions.find(|condition| condition.r#type == "EngineUnavailable").expect("it is said");
    assert_eq!(condition.status(), v1::ConditionStatus::True);
    assert!(condition.message.contains("see to the engine"), "{}", condition.message);
    let (process, container) = (new_pod(), new_pod());
    let mut of_engine = to_run(container, 1, "exit 3");
    let Some(v1::desired_pod::Action::Run(run)) = &mut of_engine.action else { panic!("it is to run") };
    let to_run_by_engine = run.pod.as_mut().unwrap();
    to_run_by_engine.runtime = "cri".to_owned();
    to_run_by_engine.spec.as_mut().unwrap().containers[0].image = "stint.test/none".to_owned();
    leader.order(of_engine);
    leader.order(to_run(process, 1, "exit 4"));
    assert_eq!(leader.exit_code(process, 0).await, 4);
    let message = leader
        .report(container, "that it waits", |kind| match kind {
            v1::pod_report::Kind::Waiting(waiting) => Some(waiting.message.clone()),
            _ => None,
        })
        .await;
    assert!(message.contains("container engine"), "{message}");
    let ends = |report: &v1::PodReport| {
        use v1::pod_report::Kind;
        matches!(
            report.kind,
            Some(Kind::Exited(_) | Kind::StartFailed(_) | Kind::PodFailed(_) | Kind::NotStarted(_))
        )
    };
    let uid = stint_proto::uid::uid_to_wire(container);
    let ended = leader.state().reports.iter().any(|(_, report)| report.pod_uid == uid && ends(report));
    assert!(!ended, "what its node lacks is no end of a Pod");
    agent.kill();
}
