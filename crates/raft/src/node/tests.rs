//! Whole clusters in one process, over real sockets on loopback and engines in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use stint_api::{ClusterId, NodeName};
use stint_core::Reply;
use tokio::time::{Instant, sleep};

mod restoring;

use super::*;
use crate::engine::{Engine, MemoryEngine, Table};
use crate::limits::{PROMOTION_LAG_ENTRIES_MAX, REMOVAL_CONFIRMATIONS, REMOVAL_LOOK_INTERVAL_MS};
use crate::membership::Admission;
use crate::peer::connection::{DialError, dial};
use crate::peer::handshake::HandshakeError;
use crate::state_machine::AppliedBatch;
use crate::status::{Alarm, AlarmKind, MemberRole, MemberStatus};

/// Far longer than anything here takes; its end is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &[u8] = b"test token";

#[derive(Default)]
struct Observed {
    snapshots: AtomicU64,
}

impl ApplyObserver for Observed {
    fn applied(&self, _batch: &AppliedBatch) {}

    fn snapshot_installed(&self, _position: AppliedPosition) {
        self.snapshots.fetch_add(1, Ordering::SeqCst);
    }
}

struct Place {
    listener: Option<TcpListener>,
    peer_address: String,
    engine: MemoryEngine,
    snapshots: tempfile::TempDir,
    observed: Arc<Observed>,
}

struct Cluster {
    initial: Vec<InitialMember>,
    places: BTreeMap<String, Place>,
    nodes: BTreeMap<String, RaftNode>,
    thresholds: Thresholds,
}

impl Place {
    async fn new() -> Place {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Place {
            peer_address: listener.local_addr().unwrap().to_string(),
            listener: Some(listener),
            engine: MemoryEngine::new(),
            snapshots: tempfile::tempdir().unwrap(),
            observed: Arc::default(),
        }
    }
}

impl Cluster {
    /// Places for servers of these names; none is started.
    async fn prepare(names: &[&str]) -> Cluster {
        let mut cluster = Cluster {
            initial: Vec::new(),
            places: BTreeMap::new(),
            nodes: BTreeMap::new(),
            thresholds: Thresholds::default(),
        };
        for name in names {
            let place = Place::new().await;
            let peer_address = place.peer_address.clone();
            cluster.initial.push(InitialMember { name: (*name).to_owned(), peer_address });
            cluster.places.insert((*name).to_owned(), place);
        }
        cluster
    }

    async fn start(names: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(names).await;
        cluster.start_all(names).await;
        cluster
    }

    async fn start_all(&mut self, names: &[&str]) {
        let mut configs = Vec::new();
        for name in names {
            configs.push(self.config(name).await);
        }
        let starting = names.iter().zip(configs).map(|(name, config)| {
            let observer = self.places[*name].observed.clone();
            async move {
                let starting = RaftNode::start(config, observer, Routes::default());
                let node = tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap();
                ((*name).to_owned(), node)
            }
        });
        let started = join_all(starting).await;
        self.nodes.extend(started);
    }

    async fn config(&mut self, name: &str) -> RaftNodeConfig {
        let place = self.places.get_mut(name).unwrap();
        let listener = match place.listener.take() {
            Some(listener) => listener,
            // A restart: the port that it had.
            None => bind_again(&place.peer_address).await,
        };
        RaftNodeConfig {
            name: name.to_owned(),
            storage: StorageLocation::Memory {
                engine: place.engine.clone(),
                snapshots: place.snapshots.path().to_owned(),
            },
            peer_listen: PeerListen::Bound(listener),
            advertise_peer: Some(place.peer_address.clone()),
            advertise_client: format!("{name}.test:7440"),
            initial_members: self.initial.clone(),
            token: Some(TOKEN.to_vec()),
            settings: InitialSettings {
                node_lease_ms: 10_000,
                placement_policy: PlacementPolicy::Spread,
                event_retention_ms: 3_600_000,
                default_runtime: String::new(),
                ended_pods_max: 0,
            },
            thresholds: self.thresholds,
            // A stall of a busy machine that is as long as an election changes the leader, or has it refuse writes.
            timing: Timing { heartbeat_ms: 50, election_min_ms: 1_000, election_max_ms: 2_000 },
            bootstrap_patience: None,
        }
    }

    /// Ends a server as a crash would: nothing is handed over.
    async fn kill(&mut self, name: &str) {
        let node = self.nodes.remove(name).unwrap();
        node.shutdown().await;
    }

    /// The server's disk is lost.
    fn wipe(&mut self, name: &str) {
        self.places.get_mut(name).unwrap().engine = MemoryEngine::new();
    }

    /// The leader that all running servers agree on and that can work.
    async fn leader(&self) -> (String, RaftNode) {
        let nodes: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
        self.leader_among(&nodes).await
    }

    async fn leader_among(&self, names: &[&str]) -> (String, RaftNode) {
        eventually("a leader", || {
            let leaderships: Vec<Leadership> =
                names.iter().map(|name| self.nodes[*name].leadership().borrow().clone()).collect();
            let first = leaderships.first()?.leader.clone()?;
            let agreed = leaderships
                .iter()
                .all(|now| now.leader.as_ref() == Some(&first) && now.term == leaderships[0].term);
            let node = names.iter().find(|name| **name == first.name).map(|name| &self.nodes[*name])?;
            let works = node.leadership().borrow().established;
            let has_settings = node.with_state(|state| state.settings().is_some());
            (agreed && works && has_settings).then(|| (first.name.clone(), node.clone()))
        })
        .await
    }

    /// No running server has the entries any more that follow the log of the one that is behind.
    async fn logs_are_cut_beyond(&self, behind: &str) {
        let indexes = |name: &str| {
            let mut indexes = Vec::new();
            scan_log(&self.places[name].engine, |key, _| {
                indexes.push(u64::from_be_bytes(key.try_into().unwrap()));
                std::ops::ControlFlow::Continue(())
            });
            indexes
        };
        let last = indexes(behind).last().copied();
        eventually("the logs are cut", || {
            let cut = |name: &String| indexes(name).first().copied() > last.map(|last| last + 1);
            self.nodes.keys().all(cut).then_some(())
        })
        .await;
    }

    /// All running servers have applied what the leader has, and their states are equal.
    async fn converged(&self) {
        let (_, leader) = self.leader().await;
        eventually("equal states", || {
            let index = |node: &RaftNode| node.applied().borrow().index();
            let hash = |node: &RaftNode| node.with_state(State::hash);
            self.nodes
                .values()
                .all(|node| index(node) == index(&leader) && hash(node) == hash(&leader))
                .then_some(())
        })
        .await;
    }
}

/// Snapshots after a few entries.
fn few_entries() -> Thresholds {
    Thresholds {
        snapshot_entries: 20,
        log_entries_kept: 5,
        replication_lag_entries: 30,
        ..Thresholds::default()
    }
}

async fn bind_again(address: &str) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{address}: {error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never came: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A write whose effect can be seen: an id that nobody had before.
async fn reserve(node: &RaftNode) -> u64 {
    let begun = Instant::now();
    let response = loop {
        match node.propose(vec![Command::ReserveMemberId]).await {
            Ok(response) => break response,
            // A leader that was held up until its lease had passed takes nothing, and knows of no other.
            Err(ProposeError::NotLeader { leader: None, .. }) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    };
    match response.replies.as_slice() {
        [Reply::MemberIdReserved { member_id }] => member_id.0,
        other => panic!("{other:?}"),
    }
}

fn highest_id(node: &RaftNode) -> u64 {
    node.with_state(|state| state.meta().highest_member_id)
}

fn voters(node: &RaftNode) -> BTreeMap<u64, String> {
    let status = node.status();
    let voters = status.members.into_iter().filter(|member| member.role == MemberRole::Voter);
    voters.map(|member| (member.id.0, member.name)).collect()
}

fn info(name: &str, place: &Place) -> MemberInfo {
    MemberInfo {
        name: name.to_owned(),
        peer_address: place.peer_address.clone(),
        client_address: format!("{name}.test:7440"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_elect_a_leader_write_and_read() {
    let cluster = Cluster::start(&["s2", "s1", "s3"]).await;
    let (name, leader) = cluster.leader().await;
    assert_eq!(
        voters(&leader),
        BTreeMap::from([(1, "s2".to_owned()), (2, "s1".to_owned()), (3, "s3".to_owned())]),
        "ids follow the list"
    );
    let first = reserve(&leader).await;
    let second = reserve(&leader).await;
    assert!(first > 3 && second > first, "{first}, {second}");
    leader.linearizable().await.unwrap();
    assert_eq!(highest_id(&leader), second);

    let (_, follower) = cluster.nodes.iter().find(|(other, _)| **other != name).unwrap();
    let refused = follower.propose(vec![Command::ReserveMemberId]).await.unwrap_err();
    assert!(
        matches!(&refused, ProposeError::NotLeader { leader: Some(leader) } if leader.name == name),
        "{refused:?}"
    );
    assert!(matches!(follower.read_index().await, Err(ReadError::NotLeader { .. })));
    cluster.converged().await;

    let status = leader.status();
    assert_eq!(status.alarms, Vec::<Alarm>::new());
    assert_eq!(status.leader.unwrap().client_address, format!("{name}.test:7440"));
    let ids: Vec<ClusterId> = cluster.nodes.values().map(RaftNode::cluster_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.0 != 0), "{ids:?}");
    let settings = leader.with_state(|state| state.settings().cloned()).unwrap();
    assert_eq!((settings.cluster_id, settings.node_lease_ms), (ids[0], 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_initializes_at_once() {
    for listed in [true, false] {
        let mut cluster = Cluster::prepare(&["s1"]).await;
        if !listed {
            cluster.initial.clear();
        }
        cluster.start_all(&["s1"]).await;
        let (_, leader) = cluster.leader().await;
        assert!(reserve(&leader).await > 1);
        leader.linearizable().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_initializes_before_all_are_there() {
    let mut cluster = Cluster::prepare(&["s1", "s2", "s3"]).await;
    for name in ["s1", "s2"] {
        let config = RaftNodeConfig {
            bootstrap_patience: Some(Duration::from_millis(600)),
            ..cluster.config(name).await
        };
        let error = RaftNode::start(config, Arc::new(Observed::default()), Routes::default()).await;
        let Err(Error::Bootstrap(reason)) = error else { panic!("{name} has started") };
        assert!(reason.contains("s3"), "{reason}");
    }
    cluster.start_all(&["s1", "s2", "s3"]).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (name, leader) = cluster.leader().await;
    let written = reserve(&leader).await;
    drop(leader);
    cluster.kill(&name).await;
    let (next_name, next) = cluster.leader().await;
    assert_ne!(next_name, name);
    next.linearizable().await.unwrap();
    assert_eq!(highest_id(&next), written);
    let later = reserve(&next).await;

    cluster.start_all(&[name.as_str()]).await;
    cluster.converged().await;
    assert_eq!(highest_id(&cluster.nodes[&name]), later);
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_all_servers_restart_together_with_their_ids() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (_, leader) = cluster.leader().await;
    let written = reserve(&leader).await;
    let (cluster_id, before) = (leader.cluster_id(), voters(&leader));
    drop(leader);
    for name in ["s1", "s2", "s3"] {
        cluster.kill(name).await;
        // The power fails too: what was acknowledged must have been synced.
        cluster.places[name].engine.crash(0);
    }
    cluster.start_all(&["s1", "s2", "s3"]).await;
    let (_, leader) = cluster.leader().await;
    assert_eq!((leader.cluster_id(), voters(&leader)), (cluster_id, before));
    assert_eq!(highest_id(&leader), written);
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_catches_up_by_snapshot() {
    let mut cluster = Cluster::prepare(&["s1", "s2", "s3"]).await;
    cluster.thresholds = few_entries();
    cluster.start_all(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let behind = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    cluster.kill(&behind).await;
    for _ in 0..100 {
        reserve(&leader).await;
    }
    cluster.logs_are_cut_beyond(&behind).await;
    assert_eq!(cluster.places[&behind].observed.snapshots.load(Ordering::SeqCst), 0);
    cluster.start_all(&[behind.as_str()]).await;
    cluster.converged().await;
    assert!(cluster.places[&behind].observed.snapshots.load(Ordering::SeqCst) > 0);
    // And it goes on from there.
    let last = reserve(&leader).await;
    cluster.converged().await;
    assert_eq!(highest_id(&cluster.nodes[&behind]), last);
}

/// R15: large entries don't fill the disk, however few they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_large_entries_is_cut_by_its_bytes() {
    let mut cluster = Cluster::prepare(&["s1", "s2", "s3"]).await;
    cluster.thresholds =
        Thresholds { snapshot_log_bytes: 8 << 20, log_bytes_kept: 2 << 20, ..Thresholds::default() };
    cluster.start_all(&["s1", "s2", "s3"]).await;
    let (_, leader) = cluster.leader().await;
    // The node is not there: nothing changes but the log.
    let large = || Command::DeleteNode { node: NodeName::new(&"x".repeat(512 << 10)) };
    for _ in 0..40 {
        leader.propose(vec![large()]).await.unwrap();
    }
    eventually("all have cut their logs", || {
        let log_bytes = |place: &Place| {
            let mut bytes = 0;
            let count = |_: &[u8], value: bytes::Bytes| {
                bytes += value.len();
                std::ops::ControlFlow::Continue(())
            };
            scan_log(&place.engine, count);
            bytes
        };
        cluster.places.values().all(|place| log_bytes(place) < 12 << 20).then_some(())
    })
    .await;
    cluster.converged().await;
    // And what is left is enough to start from.
    for name in ["s1", "s2", "s3"] {
        cluster.kill(name).await;
    }
    cluster.start_all(&["s1", "s2", "s3"]).await;
    cluster.converged().await;
}

fn scan_log(engine: &MemoryEngine, mut visit: impl FnMut(&[u8], bytes::Bytes) -> std::ops::ControlFlow<()>) {
    use std::ops::Bound::Unbounded;
    engine.with_view(&mut |view| view.scan(Table::Log, Unbounded, Unbounded, &mut visit).unwrap()).unwrap();
}

/// No snapshot file outlives its process: whoever needs one after a restart gets one of the rows as they are then.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_catches_up_from_servers_that_were_restarted() {
    let mut cluster = Cluster::prepare(&["s1", "s2", "s3"]).await;
    cluster.thresholds = few_entries();
    cluster.start_all(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let behind = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    cluster.kill(&behind).await;
    let mut last = 0;
    for _ in 0..100 {
        last = reserve(&leader).await;
    }
    cluster.logs_are_cut_beyond(&behind).await;
    drop(leader);
    let others: Vec<String> = cluster.nodes.keys().cloned().collect();
    for name in &others {
        cluster.kill(name).await;
    }
    cluster.start_all(&["s1", "s2", "s3"]).await;
    cluster.converged().await;
    assert!(cluster.places[&behind].observed.snapshots.load(Ordering::SeqCst) > 0);
    assert_eq!(highest_id(&cluster.nodes[&behind]), last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_rejoins_under_a_new_id() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let written = reserve(&leader).await;
    let wiped = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    let old_id = cluster.nodes[&wiped].member_id();
    cluster.kill(&wiped).await;
    cluster.wipe(&wiped);
    cluster.start_all(&[wiped.as_str()]).await;
    let new_id = cluster.nodes[&wiped].member_id();
    assert!(new_id.0 > written, "{new_id} was used before");
    eventually("the new id is a voter, the old one is gone", || {
        let voters = voters(&leader);
        (voters.len() == 3 && voters.get(&new_id.0) == Some(&wiped) && !voters.contains_key(&old_id.0))
            .then_some(())
    })
    .await;
    assert_eq!(leader.status().members.len(), 3);
    cluster.converged().await;

    // Its vote counts: with it, one of the others may go.
    let third = cluster.nodes.keys().find(|name| **name != leader_name && **name != wiped).unwrap().clone();
    cluster.kill(&third).await;
    assert!(reserve(&leader).await > new_id.0);
}

/// A folder that was replaced by an older copy of itself: the member lacks what the leader counted on. It is not asked
/// for ever as fast as it answers, and a person learns of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_forgot_what_it_acknowledged_is_an_alarm_until_it_joins_anew() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let forgetful = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    let id = cluster.nodes[&forgetful].member_id();
    cluster.converged().await;
    let older = cluster.places[&forgetful].engine.copy();
    for _ in 0..10 {
        reserve(&leader).await;
    }
    cluster.converged().await;
    cluster.kill(&forgetful).await;
    cluster.places.get_mut(&forgetful).unwrap().engine = older;
    cluster.start_all(&[forgetful.as_str()]).await;
    let alarm = || {
        let alarms = leader.status().alarms;
        alarms.into_iter().find(|alarm| alarm.kind == AlarmKind::MemberForgot)
    };
    let text = eventually("an alarm", alarm).await.text;
    assert!(text.contains(&format!("stint member replace {forgetful}")), "{text}");

    // The others go on, and the leader stays calm.
    let denials = || leader.running.transport.denials(id);
    let (before, begun) = (denials(), Instant::now());
    while begun.elapsed() < Duration::from_secs(1) {
        reserve(&leader).await;
        sleep(Duration::from_millis(20)).await;
    }
    let asked = denials() - before;
    assert!((1..=100).contains(&asked), "asked {asked} times in a second");
    assert!(alarm().is_some(), "nothing has changed");
    assert_eq!(leader.leadership().borrow().leader.as_ref().unwrap().name, leader_name);

    cluster.kill(&forgetful).await;
    cluster.wipe(&forgetful);
    cluster.start_all(&[forgetful.as_str()]).await;
    eventually("the new id has taken the old one's place", || {
        let voters = voters(&leader);
        (voters.len() == 3 && !voters.contains_key(&id.0)).then_some(())
    })
    .await;
    assert_eq!(alarm(), None);
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_wiped_members_of_three_do_not_initialize_again() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (_, leader) = cluster.leader().await;
    let written = reserve(&leader).await;
    let cluster_id = leader.cluster_id();
    drop(leader);
    cluster.converged().await;
    let lost: BTreeMap<&str, MemoryEngine> =
        ["s1", "s2"].map(|name| (name, cluster.places[name].engine.clone())).into();
    for name in ["s1", "s2"] {
        cluster.kill(name).await;
        cluster.wipe(name);
    }
    let mut configs = Vec::new();
    for name in ["s1", "s2"] {
        let patience = Some(Duration::from_secs(2));
        configs.push(RaftNodeConfig { bootstrap_patience: patience, ..cluster.config(name).await });
    }
    let starting = configs
        .into_iter()
        .map(|config| RaftNode::start(config, Arc::new(Observed::default()), Routes::default()));
    for started in join_all(starting).await {
        let Err(Error::Bootstrap(reason)) = started else { panic!("a wiped server has started") };
        for part in ["will not initialize a second cluster", "stint member replace"] {
            assert!(reason.contains(part), "{reason}");
        }
        assert!(reason.contains(&cluster_id.to_string()), "{reason}");
    }
    // Nothing is lost: with the old disks all is there.
    for (name, engine) in lost {
        cluster.places.get_mut(name).unwrap().engine = engine;
    }
    cluster.start_all(&["s1", "s2"]).await;
    let (_, leader) = cluster.leader().await;
    assert_eq!((leader.cluster_id(), highest_id(&leader)), (cluster_id, written));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_and_another_cluster_are_refused() {
    let mut cluster = Cluster::start(&["s1"]).await;
    let (_, leader) = cluster.leader().await;

    let stranger = Place::new().await;
    cluster
        .initial
        .push(InitialMember { name: "s2".to_owned(), peer_address: stranger.peer_address.clone() });
    cluster.places.insert("s2".to_owned(), stranger);
    let config = RaftNodeConfig {
        token: Some(b"another".to_vec()),
        bootstrap_patience: Some(Duration::from_millis(500)),
        ..cluster.config("s2").await
    };
    let started = RaftNode::start(config, Arc::new(Observed::default()), Routes::default()).await;
    let Err(Error::Bootstrap(reason)) = started else { panic!("it has started") };
    assert!(reason.contains("--token-file"), "{reason}");

    let other = Cluster::start(&["s1"]).await;
    let (_, foreigner) = other.leader().await;
    let context = &foreigner.shared.context;
    let refused = dial(context, &cluster.places["s1"].peer_address, None).await;
    assert!(
        matches!(
            &refused,
            Err(DialError::Handshake { source: HandshakeError::ForeignCluster { theirs, .. }, .. })
                if *theirs == leader.cluster_id()
        ),
        "{:?}",
        refused.err()
    );
}

/// A server that was started on the folder of another cluster's member, with the same name and even the same id.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_counts_for_nothing() {
    let mut other = Cluster::start(&["s1", "s2", "s3"]).await;
    other.converged().await;
    let foreign = other.places["s3"].engine.clone();
    let foreign_cluster = other.nodes["s3"].cluster_id();
    for name in ["s1", "s2", "s3"] {
        other.kill(name).await;
    }

    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    cluster.converged().await;
    let own = std::mem::replace(&mut cluster.places.get_mut("s3").unwrap().engine, foreign);
    cluster.kill("s3").await;
    cluster.start_all(&["s3"]).await;
    // It is what its folder says, and nobody talks to it.
    assert_eq!(cluster.nodes["s3"].cluster_id(), foreign_cluster);
    let (name, leader) = cluster.leader_among(&["s1", "s2"]).await;
    reserve(&leader).await;
    eventually("it is not taken for a member", || {
        let status = leader.status();
        status.members.iter().any(|member| member.reachable == Some(false)).then_some(())
    })
    .await;
    let third = if name == "s1" { "s2" } else { "s1" };
    cluster.kill(third).await;
    let refused = leader.linearizable().await;
    assert!(refused.is_err(), "one of three and a stranger are no majority");
    drop(leader);

    // With the folder that it should have had, all is as before.
    cluster.kill("s3").await;
    cluster.places.get_mut("s3").unwrap().engine = own;
    cluster.start_all(&[third, "s3"]).await;
    cluster.converged().await;
}

/// Also the leader's disk can be lost: the others elect one of themselves, and it comes back as somebody new.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_leader_rejoins_under_a_new_id() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (wiped, leader) = cluster.leader().await;
    let (old_id, written) = (leader.member_id(), reserve(&leader).await);
    drop(leader);
    cluster.kill(&wiped).await;
    cluster.wipe(&wiped);
    cluster.start_all(&[wiped.as_str()]).await;
    let new_id = cluster.nodes[&wiped].member_id();
    assert!(new_id.0 > written && new_id != old_id, "{new_id} was used before");
    let (_, next) = cluster.leader().await;
    eventually("the new id is a voter, the old one is gone", || {
        let voters = voters(&next);
        (voters.len() == 3 && voters.get(&new_id.0) == Some(&wiped)).then_some(())
    })
    .await;
    assert!(
        next.with_state(|state| state.meta().highest_member_id) >= new_id.0,
        "nothing acknowledged is lost"
    );
    cluster.converged().await;
}

/// A place that was made by hand: the member goes at once, and the server that comes with an empty folder takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_replaced_by_a_server_of_another_name() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let dead = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    cluster.kill(&dead).await;
    let place = Place::new().await;
    cluster.initial.push(InitialMember { name: "s4".to_owned(), peer_address: place.peer_address.clone() });
    cluster.places.insert("s4".to_owned(), place);
    eventually("the dead one is noticed", || {
        leader.status().members.iter().any(|member| member.reachable == Some(false)).then_some(())
    })
    .await;
    let dead_one = MemberSelector::Name(&dead);
    let taken = leader.replace_member(dead_one, info(&leader_name, &cluster.places["s4"])).await.unwrap_err();
    assert!(matches!(&taken, MembershipError::Refused(why) if why.contains("another name")), "{taken:?}");
    leader.replace_member(dead_one, info("s4", &cluster.places["s4"])).await.unwrap();
    assert!(voters(&leader).values().all(|name| *name != dead));
    cluster.start_all(&["s4"]).await;
    eventually("three voters, the new one among them", || {
        let voters = voters(&leader);
        (voters.len() == 3 && voters.values().any(|name| name == "s4")).then_some(())
    })
    .await;
    cluster.converged().await;

    // The old one comes back with its folder: it is no member any more, and nobody lets it lead.
    let members: Vec<String> = cluster.nodes.keys().cloned().collect();
    cluster.start_all(&[dead.as_str()]).await;
    // Long enough for it to have called for an election.
    sleep(Duration::from_secs(5)).await;
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let (_, leader) = cluster.leader_among(&members).await;
    reserve(&leader).await;
    assert!(!cluster.nodes[&dead].leadership().borrow().is_leader);
    assert!(voters(&leader).values().all(|name| *name != dead));
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (name, leader) = cluster.leader().await;
    let target = cluster.nodes.keys().find(|other| **other != name).unwrap();
    // A leader knows who answers only after its first heartbeats.
    eventually("all answer", || {
        leader.status().members.iter().all(|member| member.reachable == Some(true)).then_some(())
    })
    .await;
    leader.transfer_leadership(Some(MemberSelector::Name(target))).await.unwrap();
    let (now, next) = cluster.leader().await;
    assert_eq!(&now, target);
    let refused = next.transfer_leadership(Some(MemberSelector::Name("s9"))).await.unwrap_err();
    assert!(matches!(refused, MembershipError::Refused(_)), "{refused:?}");

    eventually("all answer", || {
        next.status().members.iter().all(|member| member.reachable == Some(true)).then_some(())
    })
    .await;
    next.step_down().await;
    let (last, _) = cluster.leader().await;
    assert_ne!(last, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_added_replaced_and_removed() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;

    let place = Place::new().await;
    cluster.initial.push(InitialMember { name: "s4".to_owned(), peer_address: place.peer_address.clone() });
    cluster.places.insert("s4".to_owned(), place);
    let occupied = leader.add_member(info("s4", &cluster.places[&leader_name])).await.unwrap_err();
    assert!(
        matches!(&occupied, MembershipError::Refused(why) if why.contains("already the peer address of member")),
        "{occupied:?}"
    );
    leader.add_member(info("s4", &cluster.places["s4"])).await.unwrap();
    let taken = leader.add_member(info("s4", &cluster.places["s4"])).await.unwrap_err();
    assert!(matches!(taken, MembershipError::Refused(_)), "{taken:?}");
    cluster.start_all(&["s4"]).await;
    eventually("four voters", || (voters(&leader).len() == 4).then_some(())).await;
    cluster.converged().await;
    assert_eq!(leader.status().members.len(), 4, "the place that was kept for it is gone");

    // Replaced while it runs: its successor has another folder and another id.
    let old_id = cluster.nodes["s4"].member_id();
    let fourth = MemberSelector::Name("s4");
    leader.replace_member(fourth, info("s4", &cluster.places["s4"])).await.unwrap();
    cluster.kill("s4").await;
    cluster.wipe("s4");
    cluster.start_all(&["s4"]).await;
    eventually("four voters again", || {
        let voters = voters(&leader);
        (voters.len() == 4 && !voters.contains_key(&old_id.0)).then_some(())
    })
    .await;

    leader.remove_member(fourth).await.unwrap();
    eventually("three voters", || (voters(&leader).len() == 3).then_some(())).await;
    // It runs on, hears of nobody, and finds out why; the others don't take themselves for removed.
    let reason = tokio::time::timeout(3 * PATIENCE, cluster.nodes["s4"].fatal()).await.expect("it finds out");
    assert!(reason.contains("was removed from cluster") && reason.contains("\"s4\""), "{reason}");
    let unknown = leader.remove_member(fourth).await.unwrap_err();
    assert!(matches!(unknown, MembershipError::Refused(_)), "{unknown:?}");
    cluster.kill("s4").await;

    // Without a second one the two that are left would be no majority: one is dead already.
    let mut others = cluster.nodes.keys().filter(|name| **name != leader_name).cloned().collect::<Vec<_>>();
    let (dead, alive) = (others.remove(0), others.remove(0));
    cluster.kill(&dead).await;
    // At once: as long as it counts as reachable, its last answers say nothing of now.
    let refused = leader.remove_member(MemberSelector::Name(&alive)).await.unwrap_err();
    let names_it = format!("no majority: {dead:?} did not");
    assert!(matches!(&refused, MembershipError::Refused(why) if why.contains(&names_it)), "{refused:?}");
    leader.remove_member(MemberSelector::Name(&dead)).await.unwrap();
}

/// A member was silent for so long that another server was let in under its name, and is back: its name alone removes
/// neither, and an id removes one.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_with_one_name_only_the_one_that_is_meant_is_removed() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let twice = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    let voter = cluster.nodes[&twice].member_id();
    cluster.kill(&twice).await;
    // The server that is let in never comes: it does not catch up, and so does not take the silent one's place.
    let newcomer = MemberInfo {
        name: twice.clone(),
        peer_address: "127.0.0.1:1".to_owned(),
        client_address: "newcomer.test:7440".to_owned(),
    };
    let learner = admitted(&leader, newcomer.clone()).await;
    cluster.start_all(&[twice.as_str()]).await;
    let is_reachable = |id: MemberId| {
        let members = leader.status().members;
        members.into_iter().find(|member| member.id == id).and_then(|member| member.reachable)
    };
    eventually("it is back", || (is_reachable(voter) == Some(true)).then_some(())).await;
    eventually("the other one is missed", || {
        let alarms = leader.status().alarms;
        let says = |alarm: &Alarm| alarm.text.contains(&format!("member {learner} "));
        alarms.iter().any(|alarm| alarm.kind == AlarmKind::MemberUnreachable && says(alarm)).then_some(())
    })
    .await;
    let before = voters(&leader);
    assert_eq!((before.len(), before.get(&voter.0)), (3, Some(&twice)));

    let by_name = MemberSelector::Name(&twice);
    let described = format!("{voter} (voter, answering), {learner} (learner, silent)");
    for refused in [
        leader.remove_member(by_name).await.unwrap_err(),
        leader.replace_member(by_name, newcomer.clone()).await.unwrap_err(),
    ] {
        assert!(
            matches!(&refused, MembershipError::Refused(why) if why.contains(&described) && why.contains("--id")),
            "{refused:?}"
        );
    }
    let useless = leader.replace_member(MemberSelector::Id(learner), newcomer).await.unwrap_err();
    assert!(
        matches!(&useless, MembershipError::Refused(why) if why.contains("which answers")),
        "whoever came could not be let in: {useless:?}"
    );
    let no_voter = leader.transfer_leadership(Some(MemberSelector::Id(learner))).await.unwrap_err();
    assert!(
        matches!(&no_voter, MembershipError::Refused(why) if why.contains("no voter yet")),
        "{no_voter:?}"
    );
    assert_eq!(leader.status().members.len(), 4, "nothing has changed");

    leader.remove_member(MemberSelector::Id(learner)).await.unwrap();
    eventually("the learner is gone", || (leader.status().members.len() == 3).then_some(())).await;
    assert_eq!(voters(&leader), before, "the one that is at work stays");
    let unknown = leader.remove_member(MemberSelector::Id(learner)).await.unwrap_err();
    assert!(matches!(unknown, MembershipError::Refused(_)), "{unknown:?}");
    cluster.converged().await;

    // An id can be replaced, too: its own address is free then.
    let place = info(&twice, &cluster.places[&twice]);
    let new_id = leader.replace_member(MemberSelector::Id(voter), place).await.unwrap();
    eventually("it is replaced by a place", || {
        let ids: Vec<MemberId> = leader.status().members.iter().map(|member| member.id).collect();
        (ids.len() == 3 && ids.contains(&new_id) && !ids.contains(&voter)).then_some(())
    })
    .await;
    assert_eq!(voters(&leader).len(), 2);
}

/// Lets a server of a name in, as one with an empty folder asks for, once whoever has the name is silent.
async fn admitted(leader: &RaftNode, info: MemberInfo) -> MemberId {
    let begun = Instant::now();
    loop {
        match leader.running.admit(info.clone()).await {
            Admission::Admitted(id) => return id,
            other => assert!(begun.elapsed() < PATIENCE, "{other:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A member that answers may lack most of the log: were it needed for a majority, nobody could write before it has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_not_removed_while_those_that_are_left_are_behind() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let mut others = cluster.nodes.keys().filter(|name| **name != leader_name).cloned().collect::<Vec<_>>();
    let (behind, other) = (others.remove(0), others.remove(0));
    let id = cluster.nodes[&behind].member_id();
    cluster.kill(&behind).await;
    // It comes back and answers, and gets no entries.
    leader.running.transport.block(id, Lane::Log, true);
    cluster.start_all(&[behind.as_str()]).await;
    let state = || leader.status().members.into_iter().find(|member| member.id == id);
    let is_far_behind = |member: &MemberStatus| {
        member.reachable == Some(true) && member.lag.is_some_and(|lag| lag > PROMOTION_LAG_ENTRIES_MAX)
    };
    for _ in 0..=PROMOTION_LAG_ENTRIES_MAX / 100 {
        join_all((0..100).map(|_| reserve(&leader))).await;
    }
    eventually("it answers and is far behind", || state().filter(is_far_behind)).await;
    let refused = leader.remove_member(MemberSelector::Name(&other)).await.unwrap_err();
    let names_it = format!("{behind:?} is ");
    assert!(
        matches!(
            &refused,
            MembershipError::Refused(why)
                if why.contains(&names_it) && why.contains("entries behind") && why.contains("LAG")
        ),
        "{refused:?}"
    );
    assert_eq!(voters(&leader).len(), 3);

    leader.running.transport.block(id, Lane::Log, false);
    eventually("it follows", || state().filter(|member| member.lag == Some(0))).await;
    leader.remove_member(MemberSelector::Name(&other)).await.unwrap();
    reserve(&leader).await;
}

/// What is said of members by a leader that has been left behind must not end one that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_leader_that_a_majority_answers_is_certain_of_the_members() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let is_certain = |node: &RaftNode| node.running.known_members().1;
    eventually("the leader is certain", || is_certain(&leader).then_some(())).await;
    let others: Vec<String> = cluster.nodes.keys().filter(|name| **name != leader_name).cloned().collect();
    assert!(others.iter().all(|name| !is_certain(&cluster.nodes[name])), "a follower may be behind");
    for name in &others {
        cluster.kill(name).await;
    }
    eventually("it is not any more", || (!is_certain(&leader)).then_some(())).await;
    assert_eq!(leader.running.known_members().0.len(), 3);
    // It hears of nobody, and nobody tells it that it is not a member.
    let looks = Duration::from_millis(u64::from(REMOVAL_CONFIRMATIONS + 1) * REMOVAL_LOOK_INTERVAL_MS);
    assert!(tokio::time::timeout(looks, leader.fatal()).await.is_err(), "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_on_copies_of_one_folder_one_finds_out_and_ends() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, _) = cluster.leader().await;
    let original = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    let copy = Place { engine: cluster.places[&original].engine.copy(), ..Place::new().await };
    let observer = copy.observed.clone();
    cluster.places.insert("copy".to_owned(), copy);
    let config = RaftNodeConfig { name: original.clone(), ..cluster.config("copy").await };
    let copy = RaftNode::start(config, observer, Routes::default()).await.unwrap();
    // The original answers where the cluster knows it.
    let reason = tokio::time::timeout(3 * PATIENCE, copy.fatal()).await.expect("the copy finds out");
    assert!(reason.contains("another server runs as member"), "{reason}");
    copy.shutdown().await;

    // While the original does not run, its copy is taken for it, at another place; then it is the original that finds out.
    cluster.kill(&original).await;
    let observer = cluster.places["copy"].observed.clone();
    let config = RaftNodeConfig { name: original.clone(), ..cluster.config("copy").await };
    let copy = RaftNode::start(config, observer, Routes::default()).await.unwrap();
    let moved_to = cluster.places["copy"].peer_address.clone();
    let id = copy.member_id();
    eventually("the cluster knows where it is", || {
        let members = copy.status().members;
        members.iter().any(|member| member.id == id && member.peer_address == moved_to).then_some(())
    })
    .await;
    cluster.start_all(&[original.as_str()]).await;
    let reason = tokio::time::timeout(3 * PATIENCE, cluster.nodes[&original].fatal()).await;
    let reason = reason.expect("the original finds out");
    assert!(reason.contains("another server runs as member"), "{reason}");
    copy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_unknown_or_living_names_are_not_admitted() {
    let cluster = Cluster::start(&["s1"]).await;
    let (_, leader) = cluster.leader().await;
    let refusal = refused_admission(&leader, "s7").await;
    assert!(refusal.contains("`stint member add s7=s7.test:7441` first"), "{refusal}");
    let refusal = refused_admission(&leader, "s1").await;
    assert!(refusal.contains("stint member replace s1"), "{refusal}");
}

async fn refused_admission(leader: &RaftNode, name: &str) -> String {
    let begun = Instant::now();
    loop {
        let peer_address = format!("{name}.test:7441");
        let info = MemberInfo { name: name.to_owned(), peer_address, ..MemberInfo::default() };
        match leader.running.admit(info).await {
            Admission::Refused(why) => return why,
            // A new leader judges nobody.
            Admission::Later if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(50)).await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r7_a_leader_that_is_cut_off_confirms_nothing() {
    let cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (cut_off, old) = cluster.leader().await;
    reserve(&old).await;
    let others: Vec<&str> =
        cluster.nodes.keys().map(String::as_str).filter(|name| *name != cut_off).collect();
    old.isolate(true);
    // From the first moment on, while it still believes to lead.
    let refused = old.read_index().await.unwrap_err();
    assert!(matches!(refused, ReadError::NoQuorum(_) | ReadError::NotLeader { .. }), "{refused:?}");

    let (_, next) = cluster.leader_among(&others).await;
    let written = reserve(&next).await;
    let refused = old.linearizable().await.unwrap_err();
    assert!(matches!(refused, ReadError::NoQuorum(_) | ReadError::NotLeader { .. }), "{refused:?}");
    let refused = old.propose(vec![Command::ReserveMemberId]).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NotLeader { .. }), "its lease has run out: {refused:?}");

    old.isolate(false);
    cluster.converged().await;
    assert_eq!(highest_id(&old), written);
    let (_, leader) = cluster.leader().await;
    leader.linearizable().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_write_that_a_cut_off_leader_took_is_unknown() {
    let cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (cut_off, old) = cluster.leader().await;
    let others: Vec<&str> =
        cluster.nodes.keys().map(String::as_str).filter(|name| *name != cut_off).collect();
    // A quorum has just confirmed its lease: it takes the write and can't commit it.
    old.read_index().await.unwrap();
    old.isolate(true);
    let taken = tokio::spawn({
        let old = old.clone();
        async move { old.propose(vec![Command::ReserveMemberId]).await }
    });
    let (_, next) = cluster.leader_among(&others).await;
    reserve(&next).await;
    assert!(!taken.is_finished());
    old.isolate(false);
    let outcome = taken.await.unwrap();
    assert!(matches!(outcome, Err(ProposeError::Unknown(_))), "{outcome:?}");
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_reads_share_quorum_rounds() {
    let cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (_, leader) = cluster.leader().await;
    let reads = (0..200).map(|_| leader.read_index());
    let results = join_all(reads).await;
    let written = reserve(&leader).await;
    for result in results {
        result.unwrap();
    }
    // A round that begins later sees the write.
    leader.linearizable().await.unwrap();
    assert_eq!(highest_id(&leader), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moves_tells_the_others() {
    let mut cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (leader_name, leader) = cluster.leader().await;
    let moved = cluster.nodes.keys().find(|name| **name != leader_name).unwrap().clone();
    cluster.kill(&moved).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = cluster.places.get_mut(&moved).unwrap();
    place.peer_address = listener.local_addr().unwrap().to_string();
    place.listener = Some(listener);
    let address = place.peer_address.clone();
    // It must be told of the leader first: somebody has to reach the other. Here it is the leader, who is given the new
    // address by hand, as `--advertise-peer` with a name that resolves to the new place would do.
    let id = voters(&leader).into_iter().find(|(_, name)| *name == moved).map(|(id, _)| id).unwrap();
    leader.running.set_addresses(MemberId(id), address.clone(), "old.test:7440".to_owned()).await.unwrap();
    cluster.start_all(&[moved.as_str()]).await;
    cluster.converged().await;
    eventually("the new client address is known everywhere", || {
        let wanted = format!("{moved}.test:7440");
        cluster
            .nodes
            .values()
            .all(|node| {
                let status = node.status();
                status.members.iter().any(|member| member.peer_address == address && member.address == wanted)
            })
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_in_another_members_name() {
    let cluster = Cluster::start(&["s1", "s2", "s3"]).await;
    let (name, leader) = cluster.leader().await;
    let (_, follower) = cluster.nodes.iter().find(|(other, _)| **other != name).unwrap();
    let mut client = crate::peer::transport::peer_client(follower.peer_channel(leader.member_id()));
    let answer = client.discover(crate::wire::PeerDiscoverRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.name, name);
    // Nobody may speak for another member.
    let stolen = crate::wire::PeerAnnounceRequest {
        member_id: leader.member_id().0,
        peer_address: "evil:1".to_owned(),
        client_address: "evil:2".to_owned(),
    };
    let refused = client.announce(stolen).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}
