//! A1–A4, A9, A12: registrations, sessions, and what happens when a lease runs out.

use crate::agent_process::{
    AgentProcess, alive, beats, boot_time, eventually, last_beat, lines_of, marker, new_pod, to_run,
};
use crate::fake_leader::{FakeLeader, NODE_LEASE_MS, NODE_LEASE_OVER_RESTARTS_MS};
use nix::sys::signal::Signal;
use std::process::Stdio;
use std::time::{Duration, Instant};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_proto::v1::server_message::Message as ToAgent;

/// Of a lease of 5 s: from the sending of what renewed it until everything is killed.
const DEADLINE: Duration = Duration::from_millis(3_500);

/// From the receipt of what renewed it until the servers count everything as lost, and run it elsewhere.
const EXPIRY: Duration = Duration::from_millis(5_500);

/// Asserts that the Pod of an agent that runs [`beats`] ran as long as its lease, and no longer, by what it wrote itself.
pub fn ran_as_long_as_its_lease(agent: &AgentProcess, renewed_at: Instant) {
    let ran = last_beat(agent).saturating_sub(boot_time(renewed_at));
    println!("it ran until {ran:?} after the renewal");
    // Not later than the receipt of what was answered last, so the deadline counts from a little earlier.
    assert!(ran > DEADLINE - Duration::from_secs(1), "killed before its time, {ran:?} after the renewal");
    assert!(ran < EXPIRY, "it outlives its lease, {ran:?} after the renewal");
}

#[tokio::test]
async fn a1_a2_what_was_not_acknowledged_comes_with_the_next_registration() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let first = leader.registration(0).await;
    assert_eq!((first.previous_incarnation, first.cluster_id.len()), (0, 0));
    assert_eq!((first.started_pods.len(), first.unacknowledged_reports.len()), (0, 0));
    let (ended, running) = (new_pod(), new_pod());
    leader.order(to_run(ended, 1, "sleep 1; exit 7"));
    leader.running(ended).await;
    let marker = marker();
    leader.order(to_run(running, 1, &format!("setsid -f sleep {marker}; sleep {marker}")));
    leader.running(running).await;
    leader.state().acknowledges = false;
    assert_eq!(leader.exit_code(ended, 0).await, 7);
    eventually("it runs", || alive(&marker) >= 2).await;
    // Reports are written while they travel, and what has ended is let go of when its end is.
    let shims = agent.data_dir().join("shims");
    eventually("its end is durable", || std::fs::read_dir(&shims).unwrap().count() == 1).await;
    let incarnation = leader.incarnation();
    agent.kill();
    agent.start();
    let second = leader.registration(1).await;
    assert_eq!(second.node_uid, first.node_uid);
    assert_eq!(second.registration_number, first.registration_number + 1);
    assert_ne!(second.nonce, first.nonce);
    assert_eq!(second.previous_incarnation, incarnation);
    assert_eq!(second.cluster_id, uid_to_wire(stint_api::ClusterId(1)));
    let both = [uid_to_wire(ended), uid_to_wire(running)];
    assert_eq!(second.started_pods, both);
    assert_eq!(second.running_pods, both, "it accounts for both");
    let [report] = &second.unacknowledged_reports[..] else { panic!("{second:?}") };
    let Some(v1::pod_report::Kind::Exited(exited)) = &report.kind else { panic!("{report:?}") };
    assert_eq!((&report.pod_uid, exited.termination.as_ref().unwrap().exit_code), (&uid_to_wire(ended), 7));
    // Counted with that registration, and not said again.
    leader
        .until("a question", |state| state.held.iter().find(|held| held.incarnation > incarnation).cloned())
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    agent.kill();
    agent.start();
    let third = leader.registration(2).await;
    assert_eq!(third.unacknowledged_reports.len(), 0);
    assert_eq!((&third.started_pods[..], &third.running_pods[..]), (&both[..], &both[..]));
    assert!(alive(&marker) >= 2, "A13");
    // What the servers do not want any more ends, whenever it was bound.
    leader.say(ToAgent::DesiredSet(v1::DesiredSet { revision: 0, ..v1::DesiredSet::default() }));
    eventually("nothing of it is left", || alive(&marker) == 0).await;
    eventually("nor its folder", || !agent.folders_of(running)[0].exists()).await;
}

#[tokio::test]
async fn a4_a12_without_renewal_everything_is_dead_in_time_and_not_before() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, marker) = (new_pod(), marker());
    // Deaf to SIGTERM: there is no grace.
    leader.order(to_run(
        pod,
        1,
        &format!("trap '' TERM; setsid -f sleep {marker}; sleep {marker} & {}", beats(&agent)),
    ));
    leader.running(pod).await;
    eventually("it runs", || alive(&marker) >= 2).await;
    // Longer than a lease: it is renewed.
    tokio::time::sleep(DEADLINE + Duration::from_millis(700)).await;
    assert!(alive(&marker) >= 2);
    assert_eq!(leader.state().registers.len(), 1);
    leader.state().answers_heartbeats = false;
    let renewed_at = leader.state().answered_at.unwrap();
    let register = leader.registration(1).await;
    assert_eq!(alive(&marker), 0, "all are dead before the next registration");
    ran_as_long_as_its_lease(&agent, renewed_at);
    assert!(register.running_pods.is_empty());
    assert_eq!(register.started_pods, [uid_to_wire(pod)]);
    let kinds: Vec<_> =
        register.unacknowledged_reports.iter().filter_map(|report| report.kind.as_ref()).collect();
    let [v1::pod_report::Kind::LeaseExpired(exited)] = kinds[..] else { panic!("{kinds:?}") };
    let termination = exited.termination.as_ref().unwrap();
    assert_eq!((termination.exit_code, termination.signal), (137, 9));
    agent.kill();
}

#[tokio::test]
async fn a4_an_agent_whose_log_nobody_reads_kills_in_time_all_the_same() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_MS;
    let mut agent = AgentProcess::new(&leader.address);
    // A pipe of 64 KiB, full within a moment.
    agent.start_with(|command| command.env("STINT_LOG", "trace").stderr(Stdio::piped()));
    leader.registration(0).await;
    leader.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    let (pod, marker) = (new_pod(), marker());
    leader.order(to_run(pod, 1, &format!("sleep {marker} & {}", beats(&agent))));
    leader.running(pod).await;
    // Each answer is some lines of the log.
    for _ in 0..2_000 {
        let answer =
            v1::HeartbeatAnswer { seq: 0, node_lease_ms: NODE_LEASE_MS, ..v1::HeartbeatAnswer::default() };
        leader.say(ToAgent::HeartbeatAnswer(answer));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(leader.state().registers.len(), 1);
    leader.state().answers_heartbeats = false;
    let renewed_at = leader.state().answered_at.unwrap();
    leader.registration(1).await;
    assert_eq!(alive(&marker), 0);
    ran_as_long_as_its_lease(&agent, renewed_at);
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended_within(Duration::from_secs(5)).await.expect("it ends").success());
}

#[tokio::test]
async fn a4_a9_an_agent_that_was_stopped_for_longer_than_its_lease_extends_nothing_and_starts_nothing() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, late, marker) = (new_pod(), new_pod(), marker());
    leader.order(to_run(pod, 1, &format!("sleep {marker} & {}", beats(&agent))));
    leader.running(pod).await;
    // A heartbeat whose answer will wait in the agent's socket.
    leader.state().answers_heartbeats = false;
    let seen = leader.state().heartbeats.len();
    let seq = leader.until("a heartbeat", |state| state.heartbeats.get(seen).map(|(_, seq)| *seq)).await;
    agent.stop();
    let answer = v1::HeartbeatAnswer { seq, node_lease_ms: NODE_LEASE_MS, ..v1::HeartbeatAnswer::default() };
    leader.say(ToAgent::HeartbeatAnswer(answer));
    let trace = agent.folder.path().join("trace");
    leader.order(to_run(late, 2, &format!("echo ran >> {}", trace.display())));
    let renewed_at = leader.state().answered_at.unwrap();
    // Shims do not need the agent.
    eventually("it is killed", || alive(&marker) == 0).await;
    ran_as_long_as_its_lease(&agent, renewed_at);
    tokio::time::sleep_until((renewed_at + DEADLINE + Duration::from_millis(1_500)).into()).await;
    agent.signal(Signal::SIGCONT);
    let register = leader.registration(1).await;
    let [report] = &register.unacknowledged_reports[..] else { panic!("{register:?}") };
    assert!(matches!(report.kind, Some(v1::pod_report::Kind::LeaseExpired(_))), "A12: {report:?}");
    assert!(!register.started_pods.contains(&uid_to_wire(late)));
    leader.state().answers_heartbeats = true;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!lines_of(&trace).contains(&"ran".to_owned()), "an order of the incarnation before");
    // And everything works again.
    let next = new_pod();
    leader.order(to_run(next, 200, "exit 6"));
    assert_eq!(leader.exit_code(next, 0).await, 6);
    agent.kill();
}

#[tokio::test]
async fn a13_pods_of_an_agent_that_is_gone_end_with_its_lease() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, marker) = (new_pod(), marker());
    let script = format!("trap '' TERM; setsid -f sleep {marker}; sleep {marker} & {}", beats(&agent));
    leader.order(to_run(pod, 1, &script));
    leader.running(pod).await;
    eventually("it runs", || alive(&marker) >= 2).await;
    agent.kill();
    let renewed_at = leader.state().answered_at.unwrap();
    eventually("nothing of it is left", || alive(&marker) == 0).await;
    ran_as_long_as_its_lease(&agent, renewed_at);
}

#[tokio::test]
async fn a2_another_cluster_gets_a_new_node_and_the_old_ones_pods_are_gone() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::registered(&leader).await;
    let (pod, marker) = (new_pod(), marker());
    leader.order(to_run(pod, 1, &format!("echo output; sleep {marker}")));
    leader.running(pod).await;
    eventually("it has a folder and a log", || agent.folders_of(pod).iter().all(|folder| folder.exists()))
        .await;
    leader.state().refuses = Some(v1::RefusalReason::OtherCluster);
    leader.state().cluster_id = 2;
    // Over a session that goes on it is told in the answer to a resumption; a killed agent hears it when it registers.
    agent.kill();
    agent.start();
    let refused = leader.registration(1).await;
    assert_eq!(refused.cluster_id, uid_to_wire(stint_api::ClusterId(1)));
    let anew = leader.registration(2).await;
    assert_eq!((anew.cluster_id.len(), anew.previous_incarnation), (0, 0));
    assert_eq!((anew.started_pods.len(), anew.unacknowledged_reports.len()), (0, 0));
    assert_eq!(anew.node_uid, refused.node_uid);
    assert!(anew.registration_number > refused.registration_number);
    eventually("nothing is left of it", || !agent.folders_of(pod).iter().any(|folder| folder.exists())).await;
    assert_eq!(alive(&marker), 0);
}

#[tokio::test]
async fn a3_servers_that_came_while_a_session_went_on_are_where_it_goes_on() {
    let (first, second) = (FakeLeader::start().await, FakeLeader::start().await);
    let agent = AgentProcess::registered(&first).await;
    let (pod, marker) = (new_pod(), marker());
    first.order(to_run(pod, 1, &format!("sleep {marker}")));
    first.running(pod).await;
    eventually("it runs", || alive(&marker) >= 2).await;
    second.state().redirects_to = Some(first.address.clone());
    first.state().server_addresses = vec![first.address.clone(), second.address.clone()];
    let heard = first.state().heartbeats.len();
    first.until("two heartbeats", |state| (state.heartbeats.len() >= heard + 2).then_some(())).await;
    first.break_off();
    second.until("the new server is asked", |state| state.redirected.first().copied()).await;
    first.until("the session goes on", |state| state.resumes.first().map(|(at, _)| *at)).await;
    assert_eq!(alive(&marker), 2, "nothing was killed");
    drop(agent);
}

#[tokio::test]
async fn a3_a_broken_session_goes_on_at_the_next_server_within_200_ms_and_kills_nothing() {
    let (first, second) = (FakeLeader::start().await, FakeLeader::start().await);
    let mut agent = AgentProcess::new(&format!("{},{}", first.address, second.address));
    agent.start();
    first.registration(0).await;
    let (pod, marker) = (new_pod(), marker());
    first.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    first.order(to_run(pod, 1, &format!("sleep {marker}")));
    first.running(pod).await;
    second.state().redirects_to = Some(first.address.clone());
    // A machine that is busy may hold one of them up, not each.
    let (mut fastest_asked, mut fastest_resumed) = (Duration::MAX, Duration::MAX);
    let mut resumed_at = Instant::now();
    for round in 0..5 {
        let broken_at = Instant::now();
        first.break_off();
        let asked_at =
            second.until("the other server is asked", |state| state.redirected.get(round).copied()).await;
        resumed_at =
            first.until("the session goes on", |state| state.resumes.get(round).map(|(at, _)| *at)).await;
        fastest_asked = fastest_asked.min(asked_at - broken_at);
        fastest_resumed = fastest_resumed.min(resumed_at - asked_at);
    }
    // A pause of 150 ms, and some more.
    assert!(fastest_asked < Duration::from_millis(400), "{fastest_asked:?}");
    assert!(fastest_resumed < Duration::from_millis(200), "{fastest_resumed:?}");
    let incarnation = first.incarnation();
    assert_eq!(first.state().resumes[0].1.incarnation, incarnation);
    // A heartbeat at once: the resumption has renewed nothing.
    first
        .until("a heartbeat", |state| state.heartbeats.iter().find(|(at, _)| *at > resumed_at).copied())
        .await;
    assert!(alive(&marker) > 0 && first.state().registers.len() == 1);
    // Servers that point at each other are not asked as fast as they answer.
    first.state().redirects_to = Some(second.address.clone());
    let before = second.state().redirected.len();
    let begun = Instant::now();
    first.break_off();
    tokio::time::sleep(Duration::from_secs(1)).await;
    second.until("they are asked", |state| (state.redirected.len() >= before + 2).then_some(())).await;
    let count = second.state().redirected.len() - before;
    assert!(count as u128 <= begun.elapsed().as_millis() / 100, "{count} in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a3_a_leader_that_cannot_be_reached_is_reached_through_a_follower() {
    let follower = FakeLeader::start().await;
    // Nobody listens at port 1 of an address that nobody else uses.
    follower.state().redirects_to = Some("127.93.41.7:1".to_owned());
    let mut agent = AgentProcess::new(&follower.address);
    agent.start();
    follower.registration(0).await;
    follower.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    assert!(!follower.state().redirected.is_empty(), "the leader itself comes first");
    assert_eq!(follower.state().relayed, 1);
    // The relayed session breaks: the leader is tried again before another one is asked for.
    let redirects = follower.state().redirected.len();
    follower.break_off();
    follower.until("the session goes on", |state| (state.relayed == 2).then_some(())).await;
    assert!(follower.state().redirected.len() > redirects);
    assert_eq!(follower.state().registers.len(), 1, "the registration went on");
}

#[tokio::test]
async fn a1_a_folder_has_one_agent_and_a_damaged_journal_is_refused() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::registered(&leader).await;
    let output = agent.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("used by another agent"), "{said}");
    // A copy has a lock of its own, but is the same node: R6.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("data")).unwrap();
    std::fs::copy(agent.data_dir().join("journal"), copy.path().join("data/journal")).unwrap();
    let output = agent.command().current_dir(copy.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is a copy of the folder of another agent"), "{said}");
    agent.kill();
    let path = agent.data_dir().join("journal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let output = agent.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("damaged") && said.contains("empty data folder"),
        "{said}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn p2_a12_a_container_that_waits_when_the_lease_runs_out_never_ended() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_MS;
    let _agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let mut order = to_run(pod, 1, "true");
    let Some(v1::desired_pod::Action::Run(run)) = &mut order.action else { panic!("{order:?}") };
    let error = ("main".to_owned(), "there is no ConfigMap".to_owned());
    run.pod.as_mut().expect("what to run").config_errors.extend([error]);
    leader.order(order);
    leader
        .report(pod, "that it waits", |kind| matches!(kind, v1::pod_report::Kind::Waiting(_)).then_some(()))
        .await;
    leader.state().answers_heartbeats = false;
    let register = leader.registration(1).await;
    let [report] = &register.unacknowledged_reports[..] else { panic!("{register:?}") };
    let Some(v1::pod_report::Kind::LeaseExpired(exited)) = &report.kind else { panic!("{report:?}") };
    assert_eq!((exited.container.as_str(), &exited.termination), ("main", &None), "nothing of it ever was");
}

#[tokio::test]
async fn a2_a_node_tells_all_that_its_pods_may_ask_for() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let (real, link) = (agent.folder.path().join("real"), agent.folder.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let allowed = format!("user=1000-1999,unconfined,capability=NET_ADMIN,host-path={}:rw", link.display());
    agent.start_with(|command| command.args(["--allow", &allowed]));
    let offer = stint_api::NodeOffer::of_words(&leader.registration(0).await.features);
    assert!(!offer.untold, "{offer:?}");
    assert!(
        offer.allowed.unconfined && !offer.allowed.root && offer.allowed.capabilities.contains("NET_ADMIN")
    );
    assert_eq!(offer.allowed.users, [1000..=1999]);
    // A Pod may name it by either.
    let real = real.canonicalize().unwrap();
    for path in [&link, &real] {
        let ask = stint_api::Ask::HostPath { path: path.display().to_string(), writable: true };
        assert_eq!(offer.refusal("process", &ask), None, "{offer:?}");
    }
    let is_root = nix::unistd::geteuid().is_root();
    assert_eq!(offer.only_user.is_none(), is_root, "{offer:?}");
}
