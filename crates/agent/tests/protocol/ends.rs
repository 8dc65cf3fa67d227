//! How Pods end: stops with grace, and the end of the agent itself.

use crate::agent_process::{AgentProcess, alive, eventually, marker, new_pod, to_run, to_stop};
use crate::fake_leader::FakeLeader;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;

#[tokio::test]
async fn p6_sigterm_then_sigkill_after_the_grace_which_may_be_shortened() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let (polite, deaf) = (new_pod(), new_pod());
    leader.order(to_run(polite, 1, "trap 'exit 5' TERM; touch ready; while :; do sleep 0.05; done"));
    leader.order(to_run(deaf, 1, "trap '' TERM; touch ready; while :; do sleep 0.05; done"));
    leader.running(polite).await;
    leader.running(deaf).await;
    let is_ready = |pod| agent.folders_of(pod)[0].join("work/ready").exists();
    eventually("they are ready for SIGTERM", || is_ready(polite) && is_ready(deaf)).await;
    leader.order(to_stop(polite, 1, Duration::from_secs(30)));
    assert_eq!(leader.exit_code(polite, 0).await, 5);
    leader.order(to_stop(deaf, 1, Duration::from_secs(60)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let shortened_at = Instant::now();
    leader.order(to_stop(deaf, 1, Duration::from_millis(700)));
    assert_eq!(leader.exit_code(deaf, 0).await, 137);
    let took = shortened_at.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn sigint_ends_pods_with_grace_hands_them_over_and_leaves_nothing() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::registered(&leader).await;
    let (succeeds, deaf, marker) = (new_pod(), new_pod(), marker());
    leader.order(to_run(
        succeeds,
        1,
        &format!("trap 'exit 0' TERM; sleep {marker} & touch ready; while :; do sleep 0.05; done"),
    ));
    leader.order(to_run(
        deaf,
        1,
        &format!("trap '' TERM; setsid -f sleep {marker}; touch ready; sleep {marker}; sleep {marker}"),
    ));
    leader.running(succeeds).await;
    leader.running(deaf).await;
    let is_ready = |pod| agent.folders_of(pod)[0].join("work/ready").exists();
    eventually("they are ready for SIGTERM", || is_ready(succeeds) && is_ready(deaf)).await;
    eventually("they run", || alive(&marker) >= 3).await;
    leader.state().acknowledges = false;
    let began = Instant::now();
    agent.signal(Signal::SIGINT);
    let status = agent.ended_within(Duration::from_secs(8)).await.expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(alive(&marker), 0);
    // The grace of the deaf one is a second.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    let last = leader.registration(1).await;
    assert_eq!(last.capacity.unwrap().pods, 0, "nothing is bound to it any more");
    assert!(last.running_pods.is_empty());
    assert_eq!(last.started_pods, [uid_to_wire(succeeds), uid_to_wire(deaf)]);
    let [report] = &last.unacknowledged_reports[..] else { panic!("{last:?}") };
    assert_eq!(report.pod_uid, uid_to_wire(succeeds));
    assert!(matches!(report.kind, Some(v1::pod_report::Kind::Exited(_))));
    // It comes back as it was.
    leader.state().acknowledges = true;
    agent.start();
    let back = leader.registration(2).await;
    assert_eq!(back.capacity.unwrap().pods, 110);
    assert_eq!(back.registration_number, last.registration_number + 1);
    assert_eq!(back.unacknowledged_reports.len(), 0);
}

#[tokio::test]
async fn sigterm_ends_an_agent_without_servers_in_bounded_time() {
    // A port where nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = AgentProcess::new(&listener.local_addr().unwrap().to_string());
    agent.start();
    listener.set_nonblocking(true).unwrap();
    let mut taken = None;
    eventually("it looks for servers", || {
        taken = listener.accept().ok();
        taken.is_some()
    })
    .await;
    agent.signal(Signal::SIGTERM);
    let status = agent.ended_within(Duration::from_secs(5)).await.expect("it ends");
    assert!(status.success(), "{status}");
}
