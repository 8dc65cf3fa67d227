//! Leases over the wire: renewal, expiry, registrations that do not hold (A1–A7).

use std::time::{Duration, Instant};

use stint_proto::v1;
use stint_proto::v1::agent_message::Message as Say;
use stint_proto::v1::server_message::Message as Hear;
use tonic::Code;

use crate::agent::{ScriptedAgent, beat, open, register};
use crate::cluster::{Options, TestServer, create, eventually, job, leader_of, one, restart, start};

async fn readiness(server: &TestServer, node: &str) -> String {
    let request = v1::GetNodeRequest { name: node.to_owned(), ..v1::GetNodeRequest::default() };
    let node = server.nodes().get(request).await.expect("a node").into_inner();
    let status = node.status.expect("a status");
    let ready = status.conditions.iter().find(|condition| condition.r#type == "Ready").expect("Ready");
    ready.status().as_str_name().to_owned()
}

async fn refused(server: &TestServer, first: Say) -> v1::Refused {
    let (_say, hear) = open(server.channel(), first, false).await;
    match hear.expect("a stream").message().await.expect("no error").expect("a message").message {
        Some(Hear::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_expires_and_its_pod_runs_elsewhere() {
    let server = one().await;
    // Before it is registered: from then on its lease counts, whenever this test hears of it.
    let silent_since = Instant::now();
    let mut silent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    server.jobs().create(create(job("pi"))).await.expect("created");
    let pod = silent.ordered_pod().await;
    let mut other = ScriptedAgent::register(server.channel(), register("w2", 1)).await;
    other.heartbeat(1).await;
    assert_eq!(readiness(&server, "w1").await, "CONDITION_STATUS_TRUE");
    // The second node beats while the first is silent.
    let replacement = tokio::spawn(async move {
        let mut seq = 1;
        loop {
            seq += 1;
            other.heartbeat(seq).await;
            let set = other.desired(&[], &[]).await;
            if let Some(pod) = set.pods.first() {
                return (pod.pod_uid.clone(), other);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let (uid, _other) =
        tokio::time::timeout(crate::cluster::PATIENCE, replacement).await.expect("in time").expect("ended");
    assert_ne!(uid, pod.uid);
    let took = silent_since.elapsed();
    assert!(took >= Duration::from_millis(5_500), "not before L + expiry_grace: {took:?}");
    assert_eq!(readiness(&server, "w1").await, "CONDITION_STATUS_UNKNOWN");

    // What the old incarnation says changes nothing (A11), and it is told so.
    let resume = v1::Resume {
        node_name: "w1".to_owned(),
        node_uid: register("w1", 1).node_uid,
        incarnation: silent.incarnation,
        cluster_id: silent.registered.cluster_id.clone(),
    };
    let refusal = refused(&server, Say::Resume(resume)).await;
    assert_eq!(refusal.reason(), v1::RefusalReason::StaleIncarnation);
    silent.say(Say::Heartbeat(v1::Heartbeat { incarnation: silent.incarnation, seq: 7 })).await;
    let heard = silent
        .hear_until(|message| match message {
            Hear::HeartbeatAnswer(_) => Some(None),
            Hear::Refused(refused) => Some(Some(refused.reason())),
            _ => None,
        })
        .await;
    assert_eq!(heard, Some(v1::RefusalReason::StaleIncarnation), "never renewed after its expiry");
    assert!(matches!(silent.hear().await, Ok(None)), "the stream ends after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_leader_without_a_majority_renews_nothing_and_takes_no_node() {
    let mut servers = start(3, Options::default()).await;
    let leader = servers.remove(leader_of(&servers));
    let mut agent = ScriptedAgent::register(leader.channel(), register("w1", 1)).await;
    agent.heartbeat(1).await;
    // The others go without a word; the leader does not know yet.
    for other in &mut servers {
        drop(other.server.take());
    }
    let mut seq = 100;
    let silence = async {
        loop {
            seq += 1;
            let heartbeat = v1::Heartbeat { incarnation: agent.incarnation, seq };
            if !agent.try_say(Say::Heartbeat(heartbeat)).await {
                return;
            }
            match tokio::time::timeout(Duration::from_millis(200), agent.hear()).await {
                Ok(Ok(Some(Hear::HeartbeatAnswer(answer)))) => {
                    assert!(answer.seq <= 1, "{answer:?} was renewed by no majority")
                }
                Ok(Ok(Some(_))) | Err(_) => {}
                Ok(Ok(None) | Err(_)) => return,
            }
        }
    };
    // Longer than an election, shorter than the test's patience.
    let _ = tokio::time::timeout(Duration::from_secs(6), silence).await;
    let (_say, hear) = open(leader.channel(), Say::Register(register("w2", 1)), false).await;
    let answer = tokio::time::timeout(Duration::from_secs(3), async { hear?.message().await }).await;
    if let Ok(Ok(Some(message))) = answer {
        assert!(!matches!(message.message, Some(Hear::Registered(_))), "{message:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_beats_lives_also_over_a_restart_of_the_server() {
    let mut server = one().await;
    let agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let (incarnation, cluster_id) = (agent.incarnation, agent.registered.cluster_id.clone());
    let beating = beat(agent);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(readiness(&server, "w1").await, "CONDITION_STATUS_TRUE");
    drop(beating);
    server.stop().await;
    let server = restart(server).await;
    // A7: a whole lease from the first commit of the new term.
    let resume = v1::Resume {
        node_name: "w1".to_owned(),
        node_uid: register("w1", 1).node_uid,
        incarnation,
        cluster_id,
    };
    let (say, hear) = open(server.channel(), Say::Resume(resume), false).await;
    let mut resumed = ScriptedAgent::begun(say, hear.expect("a session")).await;
    // One that comes before the leader's table has noticed that it leads is not answered; agents send the next.
    for seq in 1.. {
        if tokio::time::timeout(Duration::from_millis(700), resumed.heartbeat(seq)).await.is_ok() {
            break;
        }
        assert!(seq < 40, "no heartbeat is answered");
    }
    assert_eq!(readiness(&server, "w1").await, "CONDITION_STATUS_TRUE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_that_do_not_hold_say_why() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 5)).await;
    let with = |change: &dyn Fn(&mut v1::Register)| {
        let mut register = register("w1", 5);
        change(&mut register);
        Say::Register(register)
    };
    use v1::RefusalReason as Reason;
    let cases: Vec<(&str, Reason, Say)> = vec![
        ("another folder", Reason::NodeNameTaken, with(&|r| r.node_uid = vec![7; 16].into())),
        ("a lower number", Reason::StaleRegistration, with(&|r| r.registration_number = 4)),
        ("another nonce", Reason::ClonedFolder, with(&|r| r.nonce = 99)),
        (
            "another cluster",
            Reason::OtherCluster,
            with(&|r| {
                r.registration_number = 6;
                r.cluster_id = vec![3; 16].into();
            }),
        ),
        (
            "another boot",
            Reason::PreviousLeaseAlive,
            with(&|r| {
                r.registration_number = 6;
                r.boot_id = "boot-2".to_owned();
            }),
        ),
        ("a name that is none", Reason::Invalid, with(&|r| r.node_name = "../w1".to_owned())),
        ("a short uid", Reason::Invalid, with(&|r| r.node_uid = vec![7; 3].into())),
        ("a bad label", Reason::Invalid, with(&|r| drop(r.labels.insert("a b".to_owned(), String::new())))),
        ("a long boot id", Reason::Invalid, with(&|r| r.boot_id = "x".repeat(1 << 20))),
        ("a long version", Reason::Invalid, with(&|r| r.agent_version = "x".repeat(129))),
        ("many runtimes", Reason::Invalid, with(&|r| r.runtimes = vec!["process".to_owned(); 33])),
        (
            "many labels",
            Reason::Invalid,
            with(&|r| r.labels.extend((0..300).map(|number| (format!("l{number}"), String::new())))),
        ),
        (
            "a report of nothing",
            Reason::Invalid,
            with(&|r| r.unacknowledged_reports.push(v1::PodReport::default())),
        ),
    ];
    for (what, reason, first) in cases {
        assert_eq!(refused(&server, first).await.reason(), reason, "{what}");
    }
    // None of them took the session.
    agent.heartbeat(1).await;

    // The same registration again gets the same answer, and its session takes over (A2, A3).
    let mut again = ScriptedAgent::register(server.channel(), register("w1", 5)).await;
    assert_eq!(again.incarnation, agent.incarnation);
    let end = loop {
        match agent.hear().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it must say why"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Aborted);
    again.heartbeat(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_registration_that_has_expired_is_not_repeated() {
    let server = one().await;
    drop(ScriptedAgent::register(server.channel(), register("w1", 5)).await);
    eventually("the node expires", || async {
        (readiness(&server, "w1").await == "CONDITION_STATUS_UNKNOWN").then_some(())
    })
    .await;
    let late = refused(&server, Say::Register(register("w1", 5))).await;
    assert_eq!(late.reason(), v1::RefusalReason::StaleRegistration);
    let mut anew = ScriptedAgent::register(server.channel(), register("w1", 6)).await;
    anew.heartbeat(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_begins_wrongly_is_ended() {
    let server = one().await;
    let (_say, hear) =
        open(server.channel(), Say::Heartbeat(v1::Heartbeat { incarnation: 1, seq: 1 }), false).await;
    let status = hear.expect("a stream").message().await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let held = v1::HeldPods {
        incarnation: agent.incarnation,
        unfinished_pods: vec![vec![1; 5].into()],
        ended_pods: Vec::new(),
    };
    agent.say(Say::HeldPods(held)).await;
    assert_eq!(agent.hear().await.expect_err("ended").code(), Code::InvalidArgument);
    eventually("another session can be opened", || async {
        let (say, hear) = open(server.channel(), Say::Register(register("w1", 1)), false).await;
        Some(ScriptedAgent::begun(say, hear.ok()?).await)
    })
    .await;
}
