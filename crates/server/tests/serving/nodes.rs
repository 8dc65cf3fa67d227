//! Nodes by hand: cordon, drain, removal, and what is told of them.

use std::time::Duration;

use stint_proto::v1::WatchEventType;
use stint_proto::v1::server_message::Message as Hear;
use stint_proto::{ErrorReason, v1};
use tonic::Code;

use crate::agent::{ScriptedAgent, exited, register, running};
use crate::cluster::{create, eventually, job, name_of, one};

fn is_cordoned(node: &v1::Node) -> bool {
    node.spec.as_ref().expect("a spec").unschedulable
}

fn named(name: &str) -> v1::DeleteNodeRequest {
    v1::DeleteNodeRequest { name: name.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_cordoned_drained_and_removed_once_its_lease_is_over() {
    let server = one().await;
    let mut nodes = server.nodes();
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let watch = nodes.watch(v1::WatchNodesRequest::default()).await.expect("a watch");
    let mut changes = watch.into_inner();
    let filter = v1::EventFilter { regarding_kind: "Node".to_owned(), ..v1::EventFilter::default() };
    let watch = v1::WatchEventsRequest { filter: Some(filter.clone()), ..v1::WatchEventsRequest::default() };
    let mut events = server.events().watch(watch).await.expect("a watch").into_inner();

    let name = || "w1".to_owned();
    let cordoned = nodes.cordon(v1::CordonNodeRequest { name: name() }).await.expect("cordoned").into_inner();
    assert!(is_cordoned(&cordoned.node.expect("the node")));
    nodes.cordon(v1::CordonNodeRequest { name: name() }).await.expect("again");
    server.jobs().create(create(job("pi"))).await.expect("created");
    assert!(agent.desired(&[], &[]).await.pods.is_empty(), "a cordoned node takes no Pod");
    let open = nodes.uncordon(v1::UncordonNodeRequest { name: name() }).await.expect("open").into_inner();
    assert!(!is_cordoned(&open.node.expect("the node")));
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;

    let refused = nodes.delete(named("w1")).await.expect_err("its lease lives");
    assert_eq!(ErrorReason::of(&refused), Some(ErrorReason::FailedPrecondition));
    let drained = nodes.drain(v1::DrainNodeRequest { name: name() }).await.expect("drained").into_inner();
    assert!(is_cordoned(&drained.node.expect("the node")) && drained.revision > 0);
    agent
        .hear_until(|message| match message {
            Hear::Order(v1::Order { pod: Some(pod), .. }) => {
                matches!(pod.action, Some(v1::desired_pod::Action::Stop(_))).then_some(())
            }
            _ => None,
        })
        .await;
    agent.report(2, &pod.uid, exited(143)).await;
    drop(agent);

    // After its lease.
    eventually("the node can be removed", || async { server.nodes().delete(named("w1")).await.ok() }).await;
    assert_eq!(nodes.delete(named("w1")).await.expect_err("gone").code(), Code::NotFound);

    let mut kinds = Vec::new();
    while kinds.last() != Some(&WatchEventType::Deleted) {
        let event = changes.message().await.expect("no error").expect("goes on");
        if let Some(node) = &event.node {
            assert_eq!(name_of(&node.metadata), "w1");
            kinds.push(event.r#type());
        }
    }
    assert_eq!(kinds[0], WatchEventType::Added);
    assert!(kinds.iter().filter(|kind| **kind == WatchEventType::Modified).count() >= 4, "{kinds:?}");

    let mut reasons = Vec::new();
    while !reasons.contains(&"NodeNotReady".to_owned()) {
        let event = events.message().await.expect("no error").expect("goes on");
        reasons.extend(event.event.map(|event| event.reason));
    }
    for reason in ["NodeReady", "NodeNotSchedulable", "NodeSchedulable"] {
        assert!(reasons.contains(&reason.to_owned()), "{reason} in {reasons:?}");
    }
    // They go with their object.
    let list = v1::ListEventsRequest { filter: Some(filter), ..v1::ListEventsRequest::default() };
    assert!(server.events().list(list).await.expect("events").into_inner().items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_found_by_what_they_are_about() {
    let server = one().await;
    let _agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let created = server.jobs().create(create(job("pi"))).await.expect("created").into_inner();
    let uid = created.job.expect("a Job").metadata.expect("metadata").uid;
    let list = async |request: v1::ListEventsRequest| -> Vec<String> {
        let events = server.events().list(request).await.expect("events").into_inner().items;
        events.into_iter().map(|event| event.regarding.expect("an object").kind).collect()
    };
    let filtered = |kind: &str, uid: &str| v1::ListEventsRequest {
        filter: Some(v1::EventFilter {
            regarding_kind: kind.to_owned(),
            regarding_uid: uid.to_owned(),
            ..v1::EventFilter::default()
        }),
        ..v1::ListEventsRequest::default()
    };
    tokio::time::timeout(Duration::from_secs(10), async {
        while list(filtered("Job", &uid)).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("events of the Job");
    assert!(list(filtered("Job", &uid)).await.iter().all(|kind| kind == "Job"));
    assert!(list(filtered("Job", "00000000-0000-4000-8000-000000000000")).await.is_empty());
    assert!(list(filtered("Node", "")).await.iter().all(|kind| kind == "Node"));
    assert!(!list(filtered("Node", "")).await.is_empty());
    let all = list(v1::ListEventsRequest { all_namespaces: true, ..v1::ListEventsRequest::default() }).await;
    assert!(all.contains(&"Node".to_owned()) && all.contains(&"Job".to_owned()), "{all:?}");
    let other = v1::ListEventsRequest { namespace: "other".to_owned(), ..v1::ListEventsRequest::default() };
    assert!(list(other).await.is_empty());
}
