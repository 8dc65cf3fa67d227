//! What a node says of itself while it runs, and where Pods go then.

use stint_proto::v1;
use stint_proto::v1::agent_message::Message as Say;
use stint_proto::v1::server_message::Message as Hear;
use tonic::Code;

use crate::agent::{ScriptedAgent, register};
use crate::cluster::{TestServer, create, eventually, job, one};

fn condition(kind: &str, holds: bool) -> v1::NodeCondition {
    let status = if holds { v1::ConditionStatus::True } else { v1::ConditionStatus::False };
    v1::NodeCondition {
        r#type: kind.to_owned(),
        status: status.into(),
        // Not an agent's to say.
        last_transition_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        reason: "Test".to_owned(),
        message: "as the test says".to_owned(),
    }
}

/// Says it and waits until it is applied.
async fn say(agent: &mut ScriptedAgent, number: u64, conditions: Vec<v1::NodeCondition>) {
    let incarnation = agent.incarnation;
    agent.say(Say::NodeConditions(v1::NodeConditions { incarnation, number, conditions })).await;
    let acknowledged = agent
        .hear_until(|message| match message {
            Hear::NodeConditionsAck(ack) => Some(ack.number),
            _ => None,
        })
        .await;
    assert_eq!(acknowledged, number);
}

async fn conditions(server: &TestServer) -> Vec<v1::NodeCondition> {
    let request = v1::GetNodeRequest { name: "w1".to_owned(), ..v1::GetNodeRequest::default() };
    let node = server.nodes().get(request).await.expect("a node").into_inner();
    node.status.expect("a status").conditions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_full_gets_no_new_pod_until_it_has_room() {
    let server = one().await;
    let first = v1::Register { conditions: vec![condition("DiskPressure", false)], ..register("w1", 1) };
    let mut agent = ScriptedAgent::register(server.channel(), first).await;
    let of =
        |all: Vec<v1::NodeCondition>, kind: &str| all.into_iter().find(|condition| condition.r#type == kind);
    let registered = of(conditions(&server).await, "DiskPressure").expect("it registered so");
    assert_eq!(registered.status(), v1::ConditionStatus::False);
    let since = registered.last_transition_time.expect("a time").seconds;
    assert!(since > 1_000_000_000, "the servers' time, not the agent's: {since}");

    say(&mut agent, 1, vec![condition("DiskPressure", true), condition("FencingDegraded", true)]).await;
    let now = conditions(&server).await;
    assert_eq!(of(now.clone(), "DiskPressure").expect("it").status(), v1::ConditionStatus::True);
    assert!(of(now, "FencingDegraded").is_some());
    server.jobs().create(create(job("waits"))).await.expect("created");
    assert!(agent.desired(&[], &[]).await.pods.is_empty(), "no Pod comes here");
    let message = eventually("it is said why", || async {
        let pods = server.pods().list(v1::ListPodsRequest::default()).await.ok()?.into_inner().items;
        let conditions = pods.into_iter().next()?.status?.conditions;
        conditions.into_iter().map(|condition| condition.message).find(|message| !message.is_empty())
    });
    let message = message.await;
    assert!(message.contains("untolerated taint {node.kubernetes.io/disk-pressure: }"), "{message}");

    // What is missing holds no more.
    say(&mut agent, 2, vec![]).await;
    assert_eq!(conditions(&server).await.len(), 1, "Ready alone");
    assert_eq!(agent.desired(&[], &[]).await.pods.len(), 1, "it comes here now");

    // Of another registration: nothing happens; more than a node may say: the session ends.
    let conditions_of_another = v1::NodeConditions {
        incarnation: agent.incarnation + 1,
        number: 3,
        conditions: vec![condition("DiskPressure", true)],
    };
    agent.say(Say::NodeConditions(conditions_of_another)).await;
    // It has had its turn: one message waits at most, a further one would be dropped.
    agent.desired(&[], &[]).await;
    say(&mut agent, 4, vec![condition("FencingDegraded", true)]).await;
    assert!(of(conditions(&server).await, "DiskPressure").is_none());
    let many = (0..33).map(|number| condition(&format!("Kind{number}"), true)).collect();
    let incarnation = agent.incarnation;
    agent.say(Say::NodeConditions(v1::NodeConditions { incarnation, number: 5, conditions: many })).await;
    let end = loop {
        match agent.hear().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end.expect_err("refused").code(), Code::InvalidArgument);
}
