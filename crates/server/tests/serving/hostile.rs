//! R15: callers that send what is no request, too much, too fast, or read nothing: they are refused, nobody else notices.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use stint_proto::v1;
use stint_proto::v1::agent_message::Message as Say;
use stint_proto::v1::server_message::Message as Hear;
use stint_proto::{ErrorReason, v1::ConditionStatus};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::agent::{ScriptedAgent, beat, open, register, running};
use crate::cluster::{
    Options, PATIENCE, TestServer, channel, create, eventually, follower_of, job, one, start, suspended_job,
};

/// Sends and takes bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

async fn call(channel: Channel, path: &'static str, sent: Vec<u8>) -> Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("a connection");
    let answer = client.unary(Request::new(sent), PathAndQuery::from_static(path), Raw).await;
    answer.map(|answer| answer.into_inner()).expect_err("refused")
}

async fn ready(server: &TestServer, node: &str) -> ConditionStatus {
    let request = v1::GetNodeRequest { name: node.to_owned(), ..v1::GetNodeRequest::default() };
    let node = server.nodes().get(request).await.expect("a node").into_inner();
    status_of(&node)
}

fn status_of(node: &v1::Node) -> ConditionStatus {
    let conditions = &node.status.as_ref().expect("a status").conditions;
    conditions.iter().find(|condition| condition.r#type == "Ready").expect("Ready").status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_with_a_reason_on_every_server() {
    let servers = start(3, Options::default()).await;
    for server in &servers {
        for (path, sent, reason) in [
            ("/stint.v1.Jobs/Create", vec![0xff; 40], ErrorReason::BadRequest),
            ("/stint.v1.Jobs/Get", vec![0xff; 40], ErrorReason::BadRequest),
            ("/stint.v1.Jobs/Watch", vec![0x0a, 0x7f], ErrorReason::BadRequest),
            ("/stint.v1.Jobs/Create", vec![0; 5 << 20], ErrorReason::RequestTooLarge),
            ("/stint.v1.Jobs/Unheard", vec![], ErrorReason::Unimplemented),
            ("/stint.v9.Jobs/Create", vec![], ErrorReason::Unimplemented),
        ] {
            let status = call(server.channel(), path, sent).await;
            assert_eq!(ErrorReason::of(&status), Some(reason), "{path}: {status:?}");
            assert_eq!(status.code(), reason.code(), "{path}: {status:?}");
        }
        let mut request = Request::new(v1::ListJobsRequest::default());
        let huge = MetadataValue::try_from("x".repeat(64 << 10)).expect("a value");
        request.metadata_mut().insert("huge", huge);
        assert!(server.jobs().list(request).await.is_err(), "metadata is bounded");
        assert!(server.jobs().list(v1::ListJobsRequest::default()).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_nobody_reads_hold_up_nobody_who_asks_the_same_server() {
    let servers = start(3, Options::default()).await;
    let follower = &servers[follower_of(&servers)];
    for number in 0..60 {
        let mut large = suspended_job(&format!("large{number}"));
        let annotations = &mut large.metadata.as_mut().expect("metadata").annotations;
        annotations.insert("a".to_owned(), "x".repeat(200 << 10));
        follower.jobs().create(create(large)).await.expect("created");
    }
    let mut unread = Vec::new();
    for _ in 0..8 {
        // Each over a connection of its own, as if from different machines.
        let mut jobs = v1::jobs_client::JobsClient::new(channel(&follower.address));
        unread.push((jobs.watch(v1::WatchJobsRequest::default()).await.expect("a watch"), jobs));
    }
    // Until everything that may be under way is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for number in 0..5 {
        let mut jobs = follower.jobs();
        let request = create(suspended_job(&format!("small{number}")));
        let created = tokio::time::timeout(Duration::from_secs(5), jobs.create(request));
        created.await.expect("a write goes through").expect("created");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_floods_keeps_no_other_from_renewing_nor_from_expiring() {
    let server = one().await;
    let flooding = ScriptedAgent::register(server.channel(), register("flood", 1)).await;
    let honest = ScriptedAgent::register(server.channel(), register("honest", 1)).await;
    let silent = ScriptedAgent::register(server.channel(), register("silent", 1)).await;
    let silent_since = Instant::now();
    let _honest = beat(honest);
    let flood = tokio::spawn(async move {
        for seq in 1.. {
            let heartbeat = v1::Heartbeat { incarnation: flooding.incarnation, seq };
            let held = v1::HeldPods { incarnation: flooding.incarnation, ..v1::HeldPods::default() };
            if !flooding.try_say(Say::Heartbeat(heartbeat)).await
                || !flooding.try_say(Say::HeldPods(held)).await
            {
                return;
            }
        }
    });
    eventually("the silent node expires", || async {
        (ready(&server, "silent").await == ConditionStatus::Unknown).then_some(())
    })
    .await;
    let took = silent_since.elapsed();
    assert!(took < Duration::from_secs(9), "time passes for leases: {took:?}");
    assert_eq!(ready(&server, "honest").await, ConditionStatus::True);
    flood.abort();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_sends_more_reports_than_it_may_loses_its_session() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let report = v1::PodReport { pod_uid: vec![1; 16].into(), kind: Some(running()) };
    let reports = (0..257).map(|seq| v1::SequencedReport { seq, report: Some(report.clone()) }).collect();
    agent.say(Say::Reports(v1::Reports { incarnation: agent.incarnation, reports })).await;
    let ended = loop {
        match agent.hear().await {
            Ok(message) => assert!(message.is_some(), "it must say why"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::InvalidArgument);
    assert_eq!(ErrorReason::of(&ended), Some(ErrorReason::BadRequest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_a_node_whose_agent_went_while_it_registered_expires_too() {
    const NODES: u64 = 24;
    let server = one().await;
    for number in 0..NODES {
        let first = Say::Register(register(&format!("w{number}"), 1));
        let (say, hear) = open(server.channel(), first, false).await;
        // Sometimes before the registration is applied, sometimes after.
        tokio::time::sleep(Duration::from_micros(150 * number)).await;
        drop((say, hear));
    }
    eventually("every node has expired", || async {
        let nodes = server.nodes().list(v1::ListNodesRequest::default()).await.expect("nodes").into_inner();
        let live = nodes.items.iter().filter(|node| status_of(node) == ConditionStatus::True).count();
        (!nodes.items.is_empty() && live == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_a_log_is_told_when_the_agent_is_gone() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    server.jobs().create(create(job("pi"))).await.expect("created");
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;
    let (incarnation, cluster_id) = (agent.incarnation, agent.registered.cluster_id.clone());
    drop(agent);
    // Many times, since an end has several causes, and which comes first is chance.
    for _ in 0..10 {
        let resume = v1::Resume {
            node_name: "w1".to_owned(),
            node_uid: register("w1", 1).node_uid,
            incarnation,
            cluster_id: cluster_id.clone(),
        };
        let (say, hear) = open(server.channel(), Say::Resume(resume), false).await;
        let mut agent = ScriptedAgent::begun(say, hear.expect("a session")).await;
        agent.heartbeat(1).await;
        let target = Some(v1::pod_logs_request::Target::PodName(pod.name.clone()));
        let request = v1::PodLogsRequest { target, follow: true, ..v1::PodLogsRequest::default() };
        let mut log = server.pods().logs(request).await.expect("a log").into_inner();
        agent
            .hear_until(|message| match message {
                Hear::LogRequest(_) => Some(()),
                _ => None,
            })
            .await;
        drop(agent);
        let end = loop {
            match tokio::time::timeout(PATIENCE, log.message()).await.expect("the log ends") {
                Ok(chunk) => assert!(chunk.is_some(), "an end without a word"),
                Err(status) => break status,
            }
        };
        assert_eq!(ErrorReason::of(&end), Some(ErrorReason::NodeUnreachable), "{end:?}");
    }
}
