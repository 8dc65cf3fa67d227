//! A snapshot is saved on any member and restored as another cluster, which then grows.

use std::io::Cursor;

use stint_api::{NodeCapacity, NodeInfo, NodeUid, StringMap};
use stint_core::RegisterNode;

use super::*;
use crate::saved_snapshot::{check, restore};

fn register(name: &str, cluster_id: Option<ClusterId>) -> Command {
    Command::RegisterNode(Box::new(RegisterNode {
        node: NodeName::new(name),
        node_uid: NodeUid(1),
        boot_id: "boot".to_owned(),
        registration_number: 1,
        nonce: 1,
        previous_incarnation: stint_api::Incarnation(0),
        cluster_id,
        unacknowledged_reports: Vec::new(),
        running_pods: Vec::new(),
        started_pods: Vec::new(),
        capacity: NodeCapacity { cpu_millis: 4_000, memory_bytes: 1 << 30, pods: 6 },
        labels: StringMap::new(),
        runtimes: vec!["process".to_owned()],
        conditions: Vec::new(),
        agent_version: "test".to_owned(),
        features: Vec::new(),
        info: NodeInfo::default(),
    }))
}

/// What a member saves, after everything that was acknowledged before.
async fn saved(node: &RaftNode) -> Vec<u8> {
    node.linearizable_anywhere().await.unwrap();
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    let keep = move |piece: Bytes| {
        kept.lock().extend_from_slice(&piece);
        Ok(())
    };
    let header = node.save_snapshot("1.2.3", keep).await.unwrap();
    let bytes = std::mem::take(&mut *bytes.lock());
    assert_eq!(check(Cursor::new(&bytes)).unwrap(), header);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_saved_on_any_member_becomes_another_cluster_that_grows() {
    let cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    for number in 0..20 {
        let name = format!("n{number}");
        leader.propose(vec![register(&name, None)]).await.unwrap();
        let reserved = reserve(&leader).await;
        // R10: each member has what was acknowledged before it was asked.
        for (name, node) in &cluster.nodes {
            node.linearizable_anywhere().await.unwrap();
            assert!(node.with_state(|state| state.meta().highest_member_id) >= reserved, "{name}");
        }
    }
    let (_, follower) = cluster.nodes.iter().find(|(name, _)| **name != leader_name).unwrap();
    let bytes = saved(follower).await;
    let header = check(Cursor::new(&bytes)).unwrap();
    let (revision, highest) = leader.with_state(|state| (state.revision(), state.meta().highest_member_id));
    assert_eq!((header.cluster_id, header.revision), (leader.cluster_id(), revision));
    assert_eq!((header.counts.nodes, header.server_version.as_str()), (20, "1.2.3"));
    let old_cluster = leader.cluster_id();

    let mut restored = Cluster::prepare(&["s1", "s2", "s3"]).await;
    restored.thresholds = few_entries();
    let place = &restored.places["s1"];
    let location = StorageLocation::Memory {
        engine: place.engine.clone(),
        snapshots: place.snapshots.path().to_owned(),
    };
    let made = restore(Cursor::new(&bytes), &location, "s1", 1).unwrap();
    assert_eq!(made.revision.0, revision.0 + (1 << 40));
    assert_ne!(made.cluster_id, old_cluster);
    let again = restore(Cursor::new(&bytes), &location, "s1", 1).unwrap_err();
    assert!(matches!(again, Error::NotEmpty { .. }), "{again}");

    restored.start_all(&["s1"]).await;
    let (_, first) = restored.leader().await;
    assert_eq!((first.cluster_id(), first.member_id()), (made.cluster_id, MemberId(1)));
    eventually("it knows where it is reached", || {
        let members = first.status().members;
        (members[0].address == "s1.test:7440" && !members[0].peer_address.is_empty()).then_some(())
    })
    .await;
    // Ids and revisions go on above all that there were.
    assert!(reserve(&first).await > highest);
    assert!(first.with_state(State::revision) >= made.revision);
    while first.with_state(State::has_backlog) {
        first.propose(vec![Command::Continue]).await.unwrap();
    }
    assert_eq!(first.with_state(|state| state.nodes().count()), 0, "nodes of before are forgotten");
    let response = first.propose(vec![register("n1", Some(old_cluster))]).await.unwrap();
    assert!(
        matches!(&response.replies[0], Reply::Rejected(refused)
            if refused.reason == stint_core::RejectionReason::OtherCluster),
        "{response:?}"
    );
    let response = first.propose(vec![register("n1", None)]).await.unwrap();
    assert!(
        matches!(&response.replies[0], Reply::NodeRegistered { cluster_id, incarnation, .. }
            if *cluster_id == made.cluster_id && incarnation.0 > made.revision.0),
        "{response:?}"
    );

    // It is a member like any other: it starts again, and others join, by snapshot.
    drop(first);
    restored.kill("s1").await;
    restored.places["s1"].engine.crash(0);
    restored.start_all(&["s1"]).await;
    let (_, first) = restored.leader().await;
    for name in ["s2", "s3"] {
        first.add_member(info(name, &restored.places[name])).await.unwrap();
        restored.start_all(&[name]).await;
        eventually("it votes", || voters(&first).values().any(|voter| voter == name).then_some(())).await;
    }
    restored.converged().await;
    assert_eq!(voters(&first).len(), 3);
    assert!(voters(&first).keys().all(|id| *id == 1 || *id > highest), "{:?}", voters(&first));
}

/// A snapshot of a snapshot's cluster, restored again: revisions go on rising.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_is_saved_and_restored_again() {
    let cluster = Cluster::start(&["s1"]).await;
    let (_, node) = cluster.leader().await;
    reserve(&node).await;
    let mut bytes = saved(&node).await;
    let mut revision = node.with_state(State::revision);
    for raises in [1, 3] {
        let mut next = Cluster::prepare(&["s1"]).await;
        let place = &next.places["s1"];
        let location = StorageLocation::Memory {
            engine: place.engine.clone(),
            snapshots: place.snapshots.path().to_owned(),
        };
        let made = restore(Cursor::new(&bytes), &location, "s1", raises).unwrap();
        assert_eq!(made.revision.0, revision.0 + u64::from(raises) * (1 << 40));
        next.start_all(&["s1"]).await;
        let (_, node) = next.leader().await;
        bytes = saved(&node).await;
        revision = node.with_state(State::revision);
        assert!(revision >= made.revision);
    }
    let place = Place::new().await;
    let location = StorageLocation::Memory {
        engine: place.engine.clone(),
        snapshots: place.snapshots.path().to_owned(),
    };
    let refused = restore(Cursor::new(&bytes), &location, "s1", 0).unwrap_err();
    assert!(refused.to_string().contains("raise"), "{refused}");
}
