//! How a server with an empty data folder becomes a member (decision 13).
//!
//! Owns: what it concludes from the answers of the initial members, and the loop that asks them. Does not own: the
//! answers of a server that is a member already (module `node`), membership changes (module `membership`).
//!
//! Invariants: a cluster is initialized only if *all* initial members have said that their folders are empty and that
//! they have the same list; an initial id goes only to the very folder that said so (folders have uids of their own), so
//! that a wiped server never acts under its old id; nobody initializes while any cluster is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use stint_api::{ClusterId, MemberId};
use tokio::time::Instant;

use crate::error::Error;
use crate::limits::{
    BOOTSTRAP_LOG_INTERVAL_MS, BOOTSTRAP_POLL_INTERVAL_MS, JOIN_REFUSAL_PATIENCE_MS, PEER_RPC_TIMEOUT_MS,
};
use crate::peer::connection::{PeerContext, Windows, channel};
use crate::peer::handshake::{decode_cluster_id, encode_cluster_id, member_id};
use crate::peer::transport::{describe, peer_client};
use crate::wire;

/// Identity of one data folder: drawn when it is created, lost when it is wiped.
pub type FolderUid = u128;

/// One entry of `--initial-cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Name of the server.
    pub name: String,
    /// `host:port` of its peer port.
    pub peer_address: String,
}

/// Which folders a cluster was initialized with. Kept in every member's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapRecord {
    /// Drawn when the cluster was initialized.
    pub cluster_id: ClusterId,
    /// In list order: ids 1 to n.
    pub members: Vec<BootstrapMember>,
}

/// One member of a [`BootstrapRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its name.
    pub name: String,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// The folder that answered "empty".
    pub folder_uid: FolderUid,
}

/// What this server knows of itself while it looks for its place.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder_uid: FolderUid,
    /// `--initial-cluster`; empty: a single server.
    pub initial_members: Vec<InitialMember>,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
}

/// What became of a newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id from now on.
    pub member_id: MemberId,
    /// Its cluster from now on.
    pub cluster_id: ClusterId,
    /// To be kept in its folder. None only if the cluster's members did not know one.
    pub record: Option<BootstrapRecord>,
    /// True: this server must initialize the cluster with the record's members.
    pub initializes: bool,
}

/// What another initial member has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Unreachable(String),
    Empty(EmptyAnswer),
    Initialized(InitializedAnswer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmptyAnswer {
    name: String,
    folder_uid: FolderUid,
    initial_members: Vec<InitialMember>,
    peer_address: String,
    client_address: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InitializedAnswer {
    pub(crate) cluster_id: ClusterId,
    pub(crate) leader: Option<MemberId>,
    /// With the addresses at which their peers reach them.
    pub(crate) members: BTreeMap<MemberId, String>,
    /// It leads, a majority answers it, and these members are committed.
    pub(crate) confirmed: bool,
    record: Option<BootstrapRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Take(Place),
    AskToJoin {
        cluster_id: ClusterId,
        /// Where to ask: the leader first.
        addresses: Vec<String>,
        has_leader: bool,
    },
    Wait(String),
    Refuse(String),
}

impl BootstrapRecord {
    /// For the folder and the wire.
    pub(crate) fn to_wire(&self) -> wire::PeerBootstrapRecord {
        let members = self.members.iter().map(|member| wire::PeerBootstrapMember {
            member_id: member.member_id.0,
            name: member.name.clone(),
            peer_address: member.peer_address.clone(),
            folder_uid: encode_folder_uid(member.folder_uid),
            client_address: member.client_address.clone(),
        });
        wire::PeerBootstrapRecord {
            cluster_id: encode_cluster_id(Some(self.cluster_id)),
            members: members.collect(),
        }
    }

    /// None: it cannot be read.
    pub(crate) fn from_wire(record: &wire::PeerBootstrapRecord) -> Option<BootstrapRecord> {
        let members = record.members.iter().map(|member| {
            Some(BootstrapMember {
                member_id: member_id(member.member_id)?,
                name: member.name.clone(),
                peer_address: member.peer_address.clone(),
                client_address: member.client_address.clone(),
                folder_uid: decode_folder_uid(&member.folder_uid)?,
            })
        });
        Some(BootstrapRecord {
            cluster_id: decode_cluster_id(&record.cluster_id)??,
            members: members.collect::<Option<Vec<_>>>()?,
        })
    }
}

/// Draws a random uid: of a folder, of a cluster.
pub(crate) fn draw_uid() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_be_bytes(bytes))
}

pub(crate) fn encode_folder_uid(folder_uid: FolderUid) -> bytes::Bytes {
    folder_uid.to_be_bytes().to_vec().into()
}

pub(crate) fn decode_folder_uid(bytes: &[u8]) -> Option<FolderUid> {
    Some(FolderUid::from_be_bytes(bytes.try_into().ok()?))
}

/// Looks for this server's place until it has one. Fails if it never will without a person's help, or, given a
/// patience, when that is over: with the reason why it still waits.
pub(crate) async fn find_place(
    newcomer: &Newcomer,
    context: &Arc<PeerContext>,
    patience: Option<Duration>,
) -> Result<Place, Error> {
    let begun = Instant::now();
    let drawn = draw_uid().map_err(|error| Error::Bootstrap(format!("no random bytes: {error}")))?;
    let cluster_id = || ClusterId(drawn);
    let mut said = Said::default();
    let mut refused_since: Option<Instant> = None;
    loop {
        let answers = ask_all(newcomer, context).await;
        let reason = match decide(newcomer, &answers, cluster_id) {
            Decision::Take(place) => return Ok(place),
            Decision::Refuse(reason) => return Err(Error::Bootstrap(reason)),
            Decision::Wait(reason) => reason,
            Decision::AskToJoin { cluster_id, addresses, has_leader } => {
                match ask_to_join(newcomer, context, cluster_id, &addresses, has_leader).await {
                    Joining::Joined(place) => return Ok(place),
                    Joining::Wait(reason) => {
                        refused_since = None;
                        reason
                    }
                    // A server that was restarted at once with a wiped folder still seems alive for a moment.
                    Joining::Refused(reason) => {
                        let since = *refused_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= Duration::from_millis(JOIN_REFUSAL_PATIENCE_MS) {
                            return Err(Error::Bootstrap(reason));
                        }
                        reason
                    }
                }
            }
        };
        if patience.is_some_and(|patience| begun.elapsed() >= patience) {
            return Err(Error::Bootstrap(reason));
        }
        said.say(&newcomer.name, reason);
        tokio::time::sleep(Duration::from_millis(BOOTSTRAP_POLL_INTERVAL_MS)).await;
    }
}

/// The initial ids and members of a new cluster of which this server is the only member.
fn alone(newcomer: &Newcomer, cluster_id: ClusterId) -> Place {
    let member = BootstrapMember {
        member_id: MemberId(1),
        name: newcomer.name.clone(),
        peer_address: newcomer.peer_address.clone(),
        client_address: newcomer.client_address.clone(),
        folder_uid: newcomer.folder_uid,
    };
    let record = BootstrapRecord { cluster_id, members: vec![member] };
    Place { member_id: MemberId(1), cluster_id, record: Some(record), initializes: true }
}

fn decide(
    newcomer: &Newcomer,
    answers: &BTreeMap<String, Answer>,
    draw_cluster_id: impl FnOnce() -> ClusterId,
) -> Decision {
    if newcomer.initial_members.is_empty() {
        return Decision::Take(alone(newcomer, draw_cluster_id()));
    }
    if let Some(refusal) = check_list(newcomer) {
        return Decision::Refuse(refusal);
    }
    let initialized: Vec<(&String, &InitializedAnswer)> = answers
        .iter()
        .filter_map(|(name, answer)| match answer {
            Answer::Initialized(answer) => Some((name, answer)),
            _ => None,
        })
        .collect();
    match initialized.first() {
        Some((name, first)) => {
            if let Some((other, answer)) =
                initialized.iter().find(|(_, answer)| answer.cluster_id != first.cluster_id)
            {
                return Decision::Refuse(format!(
                    "server {name:?} belongs to cluster {}, but {other:?} to {}: mend --initial-cluster",
                    first.cluster_id, answer.cluster_id
                ));
            }
            decide_known_cluster(newcomer, &initialized)
        }
        None => decide_new_cluster(newcomer, answers, draw_cluster_id),
    }
}

fn check_list(newcomer: &Newcomer) -> Option<String> {
    let names: BTreeSet<&str> = newcomer.initial_members.iter().map(|member| member.name.as_str()).collect();
    if names.len() != newcomer.initial_members.len() {
        return Some(
            "--initial-cluster names a server twice: each server needs a name of its own".to_owned(),
        );
    }
    if !names.contains(newcomer.name.as_str()) {
        return Some(format!(
            "--initial-cluster does not name this server, {:?}: list all servers, this one too",
            newcomer.name
        ));
    }
    None
}

fn decide_known_cluster(newcomer: &Newcomer, initialized: &[(&String, &InitializedAnswer)]) -> Decision {
    let own_place = |answer: &InitializedAnswer| {
        let record = answer.record.as_ref()?;
        let member = record
            .members
            .iter()
            .find(|member| member.name == newcomer.name && member.folder_uid == newcomer.folder_uid)?;
        // Members that were removed meanwhile don't come back under their old id.
        answer.members.contains_key(&member.member_id).then(|| Place {
            member_id: member.member_id,
            cluster_id: record.cluster_id,
            record: Some(record.clone()),
            initializes: false,
        })
    };
    if let Some(place) = initialized.iter().find_map(|(_, answer)| own_place(answer)) {
        return Decision::Take(place);
    }
    let mut addresses = Vec::new();
    let mut has_leader = false;
    let mut cluster_id = ClusterId(0);
    for (_, answer) in initialized {
        cluster_id = answer.cluster_id;
        if let Some(address) = answer.leader.and_then(|leader| answer.members.get(&leader)) {
            has_leader = true;
            addresses.insert(0, address.clone());
        }
        addresses.extend(answer.members.values().cloned());
    }
    let mut seen = BTreeSet::new();
    addresses.retain(|address| *address != newcomer.peer_address && seen.insert(address.clone()));
    Decision::AskToJoin { cluster_id, addresses, has_leader }
}

fn decide_new_cluster(
    newcomer: &Newcomer,
    answers: &BTreeMap<String, Answer>,
    draw_cluster_id: impl FnOnce() -> ClusterId,
) -> Decision {
    let mut record = BootstrapRecord {
        cluster_id: ClusterId(0),
        members: Vec::with_capacity(newcomer.initial_members.len()),
    };
    let mut missing = String::new();
    for (position, member) in newcomer.initial_members.iter().enumerate() {
        let (folder_uid, peer_address, client_address) = if member.name == newcomer.name {
            (newcomer.folder_uid, &newcomer.peer_address, &newcomer.client_address)
        } else {
            match answers.get(&member.name) {
                Some(Answer::Empty(answer)) if answer.name != member.name => {
                    let _ = write!(
                        missing,
                        "; at {} is {:?}, not {:?}",
                        member.peer_address, answer.name, member.name
                    );
                    continue;
                }
                Some(Answer::Empty(answer)) if answer.initial_members != newcomer.initial_members => {
                    let _ = write!(missing, "; {:?} has another --initial-cluster", member.name);
                    continue;
                }
                Some(Answer::Empty(answer)) => {
                    (answer.folder_uid, &answer.peer_address, &answer.client_address)
                }
                Some(Answer::Unreachable(why)) => {
                    let _ = write!(missing, "; {:?} does not answer ({why})", member.name);
                    continue;
                }
                Some(Answer::Initialized(_)) | None => {
                    let _ = write!(missing, "; {:?} was not asked yet", member.name);
                    continue;
                }
            }
        };
        record.members.push(BootstrapMember {
            member_id: MemberId(position as u64 + 1),
            name: member.name.clone(),
            peer_address: peer_address.clone(),
            client_address: client_address.clone(),
            folder_uid,
        });
    }
    if !missing.is_empty() {
        return Decision::Wait(format!(
            "a new cluster needs the answer of every server in --initial-cluster{missing}"
        ));
    }
    let first = newcomer.initial_members.iter().map(|member| &member.name).min();
    let own = record.members.iter().find(|member| member.name == newcomer.name);
    match (first, own) {
        (Some(first), Some(own)) if *first == newcomer.name => {
            let member_id = own.member_id;
            record.cluster_id = draw_cluster_id();
            Decision::Take(Place {
                member_id,
                cluster_id: record.cluster_id,
                record: Some(record),
                initializes: true,
            })
        }
        (Some(first), _) => Decision::Wait(format!(
            "all servers are new; {first:?}, the first by name, initializes the cluster"
        )),
        (None, _) => Decision::Refuse("--initial-cluster is empty".to_owned()),
    }
}

async fn ask_all(newcomer: &Newcomer, context: &Arc<PeerContext>) -> BTreeMap<String, Answer> {
    let others = newcomer.initial_members.iter().filter(|member| member.name != newcomer.name);
    let questions = others.map(|member| async {
        let answer = ask(newcomer, context, &member.peer_address).await;
        (member.name.clone(), answer.unwrap_or_else(Answer::Unreachable))
    });
    futures::future::join_all(questions).await.into_iter().collect()
}

/// What the server at this address says of itself.
pub(crate) async fn ask(
    newcomer: &Newcomer,
    context: &Arc<PeerContext>,
    address: &str,
) -> Result<Answer, String> {
    use wire::peer_discover_response::Situation;
    let request = wire::PeerDiscoverRequest {
        name: newcomer.name.clone(),
        folder_uid: encode_folder_uid(newcomer.folder_uid),
    };
    let address = address.to_owned();
    let mut client =
        peer_client(channel(context.clone(), None, Windows::FEW_STREAMS, move || Ok(address.clone())));
    let asking = client.discover(request);
    let response = tokio::time::timeout(Duration::from_millis(PEER_RPC_TIMEOUT_MS), asking)
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|status| describe(&status))?
        .into_inner();
    let unreadable = || "its answer cannot be read".to_owned();
    match response.situation.ok_or_else(unreadable)? {
        Situation::Empty(empty) => Ok(Answer::Empty(EmptyAnswer {
            name: response.name,
            folder_uid: decode_folder_uid(&response.folder_uid).ok_or_else(unreadable)?,
            initial_members: empty
                .initial_members
                .into_iter()
                .map(|member| InitialMember { name: member.name, peer_address: member.peer_address })
                .collect(),
            peer_address: empty.peer_address,
            client_address: empty.client_address,
        })),
        Situation::Initialized(initialized) => Ok(Answer::Initialized(InitializedAnswer {
            cluster_id: decode_cluster_id(&initialized.cluster_id).flatten().ok_or_else(unreadable)?,
            leader: member_id(initialized.leader_member_id),
            confirmed: initialized.confirmed,
            members: initialized
                .members
                .into_iter()
                .map(|member| (MemberId(member.member_id), member.peer_address))
                .collect(),
            record: match &initialized.bootstrap {
                Some(record) => Some(BootstrapRecord::from_wire(record).ok_or_else(unreadable)?),
                None => None,
            },
        })),
    }
}

enum Joining {
    Joined(Place),
    Refused(String),
    Wait(String),
}

async fn ask_to_join(
    newcomer: &Newcomer,
    context: &Arc<PeerContext>,
    cluster_id: ClusterId,
    addresses: &[String],
    has_leader: bool,
) -> Joining {
    use wire::peer_join_response::Outcome;
    if !has_leader {
        return Joining::Wait(not_admitted(cluster_id, "it has no leader"));
    }
    let mut failures = String::new();
    for address in addresses {
        let request = wire::PeerJoinRequest {
            name: newcomer.name.clone(),
            peer_address: newcomer.peer_address.clone(),
            client_address: newcomer.client_address.clone(),
        };
        let target = address.clone();
        let mut client =
            peer_client(channel(context.clone(), None, Windows::FEW_STREAMS, move || Ok(target.clone())));
        let asking = client.join(request);
        let answer = tokio::time::timeout(Duration::from_millis(PEER_RPC_TIMEOUT_MS), asking).await;
        let outcome = match answer {
            Ok(Ok(response)) => response.into_inner().outcome,
            Ok(Err(status)) => {
                let _ = write!(failures, "; {address}: {}", describe(&status));
                continue;
            }
            Err(_) => {
                let _ = write!(failures, "; {address}: no answer in time");
                continue;
            }
        };
        match outcome {
            Some(Outcome::Joined(joined)) if joined.member_id != 0 => {
                return Joining::Joined(Place {
                    member_id: MemberId(joined.member_id),
                    cluster_id,
                    record: joined.bootstrap.as_ref().and_then(BootstrapRecord::from_wire),
                    initializes: false,
                });
            }
            Some(Outcome::Refused(refused)) => return Joining::Refused(refused.message),
            // Not the leader, or none at the moment: the next round knows better.
            _ => {}
        }
    }
    Joining::Wait(not_admitted(cluster_id, &format!("its leader does not admit this server{failures}")))
}

fn not_admitted(cluster_id: ClusterId, why: &str) -> String {
    format!(
        "cluster {cluster_id} exists and this server's folder is empty, so it must join, but {why}. It will not \
         initialize a second cluster. If that lasts, most members are down or have lost their folders: start them with \
         their folders. With a majority up this server joins by itself, and members whose folders are lost for good are \
         replaced with `stint member replace NAME`"
    )
}

/// Says why the server waits: at once when the reason changes, then again after a while.
#[derive(Default)]
struct Said {
    last: Option<(String, Instant)>,
}

impl Said {
    fn say(&mut self, name: &str, reason: String) {
        let again = Duration::from_millis(BOOTSTRAP_LOG_INTERVAL_MS);
        if self.last.as_ref().is_none_or(|(said, at)| *said != reason || at.elapsed() >= again) {
            tracing::warn!(server = name, "waiting for a place in the cluster: {reason}");
            self.last = Some((reason, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(99);

    fn list() -> Vec<InitialMember> {
        // Not in the order of names: ids follow the list, the initializer follows the names.
        ["s2", "s1", "s3"]
            .map(|name| InitialMember { name: name.to_owned(), peer_address: format!("{name}:7441") })
            .to_vec()
    }

    fn newcomer(name: &str) -> Newcomer {
        Newcomer {
            name: name.to_owned(),
            folder_uid: folder(name),
            initial_members: list(),
            peer_address: format!("{name}:7441"),
            client_address: format!("{name}:7440"),
        }
    }

    fn folder(name: &str) -> FolderUid {
        name.bytes().fold(1, |uid, byte| uid * 256 + FolderUid::from(byte))
    }

    fn empty(name: &str) -> Answer {
        Answer::Empty(EmptyAnswer {
            name: name.to_owned(),
            folder_uid: folder(name),
            initial_members: list(),
            peer_address: format!("{name}:7441"),
            client_address: format!("{name}:7440"),
        })
    }

    fn record() -> BootstrapRecord {
        let answers = [("s2", empty("s2")), ("s3", empty("s3"))];
        match decide_all("s1", &answers) {
            Decision::Take(Place { record: Some(record), .. }) => record,
            other => panic!("{other:?}"),
        }
    }

    fn initialized(leader: Option<u64>) -> Answer {
        let members = [(1, "s2"), (2, "s1"), (3, "s3")];
        Answer::Initialized(InitializedAnswer {
            cluster_id: CLUSTER,
            leader: leader.map(MemberId),
            members: members.map(|(id, name)| (MemberId(id), format!("{name}:7441"))).into(),
            record: Some(record()),
            confirmed: leader.is_some(),
        })
    }

    fn decide_all(name: &str, answers: &[(&str, Answer)]) -> Decision {
        let answers = answers.iter().map(|(name, answer)| ((*name).to_owned(), answer.clone())).collect();
        decide(&newcomer(name), &answers, || CLUSTER)
    }

    #[test]
    fn the_first_by_name_initializes_when_all_are_empty_and_ids_follow_the_list() {
        let record = record();
        assert_eq!(record.cluster_id, CLUSTER);
        let ids: Vec<_> =
            record.members.iter().map(|member| (member.member_id.0, member.name.as_str())).collect();
        assert_eq!(ids, [(1, "s2"), (2, "s1"), (3, "s3")]);
        let place = decide_all("s1", &[("s2", empty("s2")), ("s3", empty("s3"))]);
        assert!(
            matches!(place, Decision::Take(Place { member_id: MemberId(2), initializes: true, .. })),
            "{place:?}"
        );
    }

    #[test]
    fn the_others_wait_for_the_first_by_name() {
        let decision = decide_all("s2", &[("s1", empty("s1")), ("s3", empty("s3"))]);
        assert!(matches!(&decision, Decision::Wait(reason) if reason.contains("s1")), "{decision:?}");
    }

    #[test]
    fn nobody_initializes_while_one_does_not_answer() {
        let gone = Answer::Unreachable("connection refused".to_owned());
        let decision = decide_all("s1", &[("s2", empty("s2")), ("s3", gone)]);
        assert!(matches!(&decision, Decision::Wait(reason) if reason.contains("s3")), "{decision:?}");
    }

    #[test]
    fn nobody_initializes_with_different_lists_or_names() {
        let other_list = match empty("s3") {
            Answer::Empty(mut answer) => {
                answer.initial_members.pop();
                Answer::Empty(answer)
            }
            other => other,
        };
        for answer in [other_list, empty("s2")] {
            let decision = decide_all("s1", &[("s2", empty("s2")), ("s3", answer)]);
            assert!(matches!(&decision, Decision::Wait(_)), "{decision:?}");
        }
    }

    #[test]
    fn a_folder_that_was_there_from_the_start_takes_its_initial_id() {
        let decision = decide_all("s2", &[("s1", initialized(None)), ("s3", empty("s3"))]);
        let Decision::Take(place) = decision else { panic!("{decision:?}") };
        assert_eq!((place.member_id, place.cluster_id, place.initializes), (MemberId(1), CLUSTER, false));
        assert_eq!(place.record, Some(record()));
    }

    #[test]
    fn a_wiped_folder_asks_the_leader_to_join() {
        let mut wiped = newcomer("s2");
        wiped.folder_uid = 12345;
        let answers = BTreeMap::from([
            ("s1".to_owned(), initialized(Some(3))),
            ("s3".to_owned(), initialized(Some(3))),
        ]);
        let decision = decide(&wiped, &answers, || panic!("must not initialize"));
        let Decision::AskToJoin { addresses, has_leader, .. } = decision else { panic!("{decision:?}") };
        assert!(has_leader);
        assert_eq!(addresses, ["s3:7441", "s1:7441"]);
    }

    #[test]
    fn two_wiped_folders_of_three_never_initialize() {
        let mut wiped = newcomer("s1");
        wiped.folder_uid = 12345;
        let answers = BTreeMap::from([("s2".to_owned(), empty("s2")), ("s3".to_owned(), initialized(None))]);
        let decision = decide(&wiped, &answers, || panic!("must not initialize"));
        assert!(matches!(decision, Decision::AskToJoin { has_leader: false, .. }), "{decision:?}");
    }

    #[test]
    fn a_removed_initial_member_does_not_come_back_under_its_id() {
        let removed = match initialized(Some(3)) {
            Answer::Initialized(mut answer) => {
                answer.members.remove(&MemberId(1));
                Answer::Initialized(answer)
            }
            other => other,
        };
        let decision = decide_all("s2", &[("s1", removed.clone()), ("s3", removed)]);
        assert!(matches!(decision, Decision::AskToJoin { .. }), "{decision:?}");
    }

    #[test]
    fn answers_of_two_clusters_are_refused() {
        let foreign = match initialized(None) {
            Answer::Initialized(mut answer) => {
                answer.cluster_id = ClusterId(5);
                Answer::Initialized(answer)
            }
            other => other,
        };
        let decision = decide_all("s2", &[("s1", initialized(None)), ("s3", foreign)]);
        assert!(matches!(decision, Decision::Refuse(_)), "{decision:?}");
    }

    #[test]
    fn a_list_without_this_server_is_refused_and_no_list_means_alone() {
        assert!(matches!(decide_all("s9", &[]), Decision::Refuse(_)));
        let mut single = newcomer("s1");
        single.initial_members.clear();
        let decision = decide(&single, &BTreeMap::new(), || CLUSTER);
        assert!(matches!(decision, Decision::Take(Place { initializes: true, .. })), "{decision:?}");
    }

    #[test]
    fn the_record_survives_the_folder() {
        let record = record();
        assert_eq!(BootstrapRecord::from_wire(&record.to_wire()), Some(record));
        assert_eq!(BootstrapRecord::from_wire(&wire::PeerBootstrapRecord::default()), None);
    }
}
