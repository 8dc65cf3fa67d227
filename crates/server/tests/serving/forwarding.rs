//! Any server answers any client: followers forward, or answer stale when asked to.

use std::time::{Duration, Instant};

use stint_proto::v1::server_message::Message as Hear;
use stint_proto::{ErrorReason, v1};
use tonic::Code;

use crate::agent::{ScriptedAgent, exited, open, register, running};
use crate::cluster::{
    Options, create, eventually, follower_of, job, leader_of, name_of, start, suspended_job,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_answers_everything() {
    let servers = start(3, Options::default()).await;
    for (position, server) in servers.iter().enumerate() {
        let request = create(suspended_job(&format!("j{position}")));
        server.jobs().create(request).await.expect("created anywhere");
        // Linearizable: whoever is asked next knows it.
        for other in &servers {
            let request = v1::GetJobRequest { name: format!("j{position}"), ..v1::GetJobRequest::default() };
            other.jobs().get(request).await.expect("known everywhere");
        }
    }
    let follower = &servers[follower_of(&servers)];
    let first =
        follower.jobs().list(v1::ListJobsRequest { limit: 2, ..v1::ListJobsRequest::default() }).await;
    let first = first.expect("a page").into_inner();
    let token = first.metadata.expect("metadata").continue_token;
    let rest = v1::ListJobsRequest { continue_token: token, ..v1::ListJobsRequest::default() };
    assert_eq!(follower.jobs().list(rest).await.expect("the rest").into_inner().items.len(), 1);

    let watch = v1::WatchJobsRequest::default();
    let mut changes = follower.jobs().watch(watch).await.expect("a watch").into_inner();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = changes.message().await.expect("no error").expect("goes on");
        seen.extend(event.job.map(|job| name_of(&job.metadata).to_owned()));
    }
    assert_eq!(seen, ["j0", "j1", "j2"]);
    // Errors come through with their details.
    let status = follower.jobs().create(create(suspended_job("j0"))).await.expect_err("taken");
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::AlreadyExists));

    let leader = &servers[leader_of(&servers)].name;
    for server in &servers {
        let status =
            server.cluster().status(v1::ClusterStatusRequest {}).await.expect("a status").into_inner();
        assert_eq!(status.leader.as_ref(), Some(leader));
        assert_eq!(status.answered_by, server.name);
        assert!(status.members.iter().all(|member| member.last_log_index.is_some()), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_told_where_the_leader_is_and_relayed_only_if_it_asks() {
    let servers = start(3, Options::default()).await;
    let (leader, follower) = (&servers[leader_of(&servers)], &servers[follower_of(&servers)]);
    let first = || v1::agent_message::Message::Register(register("w1", 1));
    let (_say, hear) = open(follower.channel(), first(), false).await;
    let mut hear = hear.expect("a stream");
    match hear.message().await.expect("no error").expect("a message").message {
        Some(Hear::NotLeader(said)) => {
            assert_eq!(
                (said.leader_address, said.leader_name),
                (leader.address.clone(), leader.name.clone())
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(hear.message().await.expect_err("the end").code(), Code::Unavailable);

    let (say, hear) = open(follower.channel(), first(), true).await;
    let mut agent = ScriptedAgent::begun(say, hear.expect("a relayed stream")).await;
    agent.heartbeat(1).await;

    // A log read through another follower comes from this agent.
    follower.jobs().create(create(job("pi"))).await.expect("created");
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;
    agent.report(2, &pod.uid, exited(0)).await;
    let mut pods = follower.pods();
    let target = Some(v1::pod_logs_request::Target::PodName(pod.name.clone()));
    let request = v1::PodLogsRequest { target, ..v1::PodLogsRequest::default() };
    let reading = tokio::spawn(async move { pods.logs(request).await });
    agent.answer_log("hello\n").await;
    let mut chunks = reading.await.expect("ended").expect("a log").into_inner();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.message().await.expect("no error") {
        text.extend_from_slice(&chunk.data);
    }
    assert_eq!(text, b"hello\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_stops_in_order_the_others_go_on_at_once() {
    let mut servers = start(3, Options::default()).await;
    let mut agent = ScriptedAgent::register(servers[leader_of(&servers)].channel(), register("w1", 1)).await;
    let mut stopped = servers.remove(leader_of(&servers));
    stopped.jobs().create(create(suspended_job("a"))).await.expect("created");
    stopped.stop().await;
    // The session ends and says so.
    let end = loop {
        match agent.hear().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    assert_eq!(end.map(|status| status.code()), Some(Code::Unavailable));
    for (position, server) in servers.iter().enumerate() {
        eventually("a write is possible", || async {
            let request = v1::CreateJobRequest {
                job: Some(suspended_job(&format!("b{position}"))),
                request_id: format!("b{position}"),
            };
            server.jobs().create(request).await.ok()
        })
        .await;
        let request = v1::GetJobRequest { name: "a".to_owned(), ..v1::GetJobRequest::default() };
        server.jobs().get(request).await.expect("nothing is lost");
    }
    // The incarnation goes on with the new leader.
    let leader =
        eventually("a leader", || async { servers.iter().find(|server| server.running().is_leader()) }).await;
    let resume = v1::Resume {
        node_name: "w1".to_owned(),
        node_uid: register("w1", 1).node_uid,
        incarnation: agent.incarnation,
        cluster_id: agent.registered.cluster_id.clone(),
    };
    let (say, hear) = open(leader.channel(), v1::agent_message::Message::Resume(resume), false).await;
    let mut resumed = ScriptedAgent::begun(say, hear.expect("a session")).await;
    assert_eq!(resumed.incarnation, agent.incarnation);
    resumed.heartbeat(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_stops_ends_what_it_forwards() {
    let mut servers = start(3, Options::default()).await;
    let mut follower = servers.remove(follower_of(&servers));
    follower.jobs().create(create(suspended_job("a"))).await.expect("created");
    let watch = follower.jobs().watch(v1::WatchJobsRequest::default()).await;
    let mut watch = watch.expect("a watch").into_inner();
    watch.message().await.expect("no error").expect("what there is");
    // Waits for a Pod that never comes.
    let target = Some(v1::pod_logs_request::Target::JobName("a".to_owned()));
    let request = v1::PodLogsRequest { target, follow: true, ..v1::PodLogsRequest::default() };
    let mut log = follower.pods().logs(request).await.expect("a log").into_inner();
    let first = v1::agent_message::Message::Register(register("w1", 1));
    let (say, hear) = open(follower.channel(), first, true).await;
    let mut agent = ScriptedAgent::begun(say, hear.expect("a relayed stream")).await;
    agent.heartbeat(1).await;

    let began = Instant::now();
    follower.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    // Clients and agents learn that they must go elsewhere.
    let of_watch = loop {
        if let Err(status) = watch.message().await.map(|event| event.expect("an end with a status")) {
            break status;
        }
    };
    let of_log = log.message().await.expect_err("the end");
    let of_agent = loop {
        if let Err(status) = agent.hear().await.map(|message| message.expect("an end with a status")) {
            break status;
        }
    };
    for status in [of_watch, of_log, of_agent] {
        assert_eq!(ErrorReason::of(&status), Some(ErrorReason::ShuttingDown), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_only_stale_reads_are_answered() {
    let mut servers = start(3, Options::default()).await;
    servers[0].jobs().create(create(suspended_job("a"))).await.expect("created");
    let get = |stale: bool| v1::GetJobRequest { name: "a".to_owned(), stale, ..v1::GetJobRequest::default() };
    for server in &servers {
        eventually("everybody has it", || async { server.jobs().get(get(true)).await.ok() }).await;
    }
    let mut others = vec![servers.remove(0), servers.remove(0)];
    // Both go without a word.
    for other in &mut others {
        drop(other.server.take());
    }
    let last = &servers[0];
    last.jobs().get(get(true)).await.expect("stale");
    let read = last.jobs().get(get(false)).await.expect_err("no majority");
    assert!(matches!(read.code(), Code::Unavailable | Code::DeadlineExceeded), "{read:?}");
    let write = last.jobs().create(create(suspended_job("b"))).await.expect_err("no majority");
    match ErrorReason::of(&write) {
        Some(ErrorReason::NoLeader | ErrorReason::NotLeader) => assert_eq!(write.code(), Code::Unavailable),
        Some(ErrorReason::OutcomeUnknown) => assert_eq!(write.code(), Code::DeadlineExceeded),
        other => panic!("{other:?}: {write:?}"),
    }
    last.cluster().status(v1::ClusterStatusRequest {}).await.expect("status is always answered");
}
