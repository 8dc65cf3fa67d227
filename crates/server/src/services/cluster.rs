//! Service Cluster.
//!
//! Owns: its methods. Does not own: membership changes (`stint-raft`), how snapshots are streamed (`snapshots`).

use std::time::Duration;

use prost::Message;
use stint_api::MemberId;
use stint_core::{Command, Reply};
use stint_proto::time::timestamp_to_wire;
use stint_proto::v1::member_reference::Member as Named;
use stint_proto::{ErrorReason, v1};
use stint_raft::types::MemberInfo;
use stint_raft::{Alarm, MemberRole, MemberSelector, MemberStatus, MembershipError, RaftStatus};
use tonic::metadata::AsciiMetadataKey;
use tonic::{Request, Response, Status};

use crate::auth::{FORWARDED_BY, FORWARDED_IDENTITY};
use crate::error;
use crate::identity::Identity;
use crate::limits::STATUS_LEADER_WAIT_MS;
use crate::services::snapshots::{self, SnapshotStream};
use crate::services::{Context, required_name, wrong_reply};
use crate::settings;

/// See `proto/stint/v1/cluster.proto`.
#[derive(Clone)]
pub struct ClusterService(pub Context);

#[tonic::async_trait]
impl v1::cluster_server::Cluster for ClusterService {
    async fn status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatus>, Status> {
        let forwarded = request.metadata().contains_key(FORWARDED_BY.as_str());
        let mut own = self.own_status();
        // Only the leader knows how far the others are.
        if !forwarded
            && let Some(of_leader) = self.leaders_status(request.extensions().get::<Identity>()).await
        {
            complete(&mut own, of_leader);
        }
        Ok(Response::new(own))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let request = request.into_inner();
        required_name(&request.name)?;
        crate::config::check_name(&request.name)
            .map_err(|failed| error::bad_request("name", failed.to_string()))?;
        host_port("peerAddress", &request.peer_address)?;
        if !request.address.is_empty() {
            host_port("address", &request.address)?;
        }
        if self.0.raft.status().members.iter().any(|member| member.name == request.name) {
            let message =
                format!("{:?} is a member already: choose another name, or replace it", request.name);
            return Err(error::refused(ErrorReason::AlreadyExists, message));
        }
        let info = MemberInfo {
            name: request.name,
            peer_address: request.peer_address,
            client_address: request.address,
        };
        let id = self.0.raft.add_member(info.clone()).await.map_err(|failed| self.not_changed(failed))?;
        Ok(Response::new(v1::AddMemberResponse { member: Some(learner(id, info)) }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let named = named(request.into_inner().member)?;
        let which = selector(&named);
        self.member(which)?;
        self.leave_leadership_of(which).await?;
        self.0.raft.remove_member(which).await.map_err(|failed| self.not_changed(failed))?;
        Ok(Response::new(v1::RemoveMemberResponse { members: self.own_status().members }))
    }

    async fn replace_member(
        &self,
        request: Request<v1::ReplaceMemberRequest>,
    ) -> Result<Response<v1::ReplaceMemberResponse>, Status> {
        let request = request.into_inner();
        let named = named(request.member)?;
        let which = selector(&named);
        let member = self.member(which)?;
        let given = |field: &str, address: String, old: &str| {
            if address.is_empty() {
                return Ok(old.to_owned());
            }
            host_port(field, &address)?;
            Ok::<_, Status>(address)
        };
        let info = MemberInfo {
            peer_address: given("peerAddress", request.peer_address, &member.peer_address)?,
            client_address: given("address", request.address, &member.address)?,
            name: member.name,
        };
        self.leave_leadership_of(which).await?;
        let replaced = self.0.raft.replace_member(which, info.clone()).await;
        let id = replaced.map_err(|failed| self.not_changed(failed))?;
        Ok(Response::new(v1::ReplaceMemberResponse { member: Some(learner(id, info)) }))
    }

    async fn change_settings(
        &self,
        request: Request<v1::ChangeSettingsRequest>,
    ) -> Result<Response<v1::ChangeSettingsResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let change = settings::change_of(request)?;
        let reply = self.0.propose(Command::ChangeClusterSettings(change), bytes).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        let settings = self.0.raft.with_state(|state| state.settings().map(settings::to_wire));
        Ok(Response::new(v1::ChangeSettingsResponse { settings, revision: revision.0 }))
    }

    type SaveSnapshotStream = SnapshotStream;

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<SnapshotStream>, Status> {
        Ok(Response::new(snapshots::save(&self.0, request.into_inner()).await?))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let target = request.into_inner().target.map(|target| named(Some(target))).transpose()?;
        let target = target.as_ref().map(selector);
        if let Some(target) = target {
            self.member(target)?;
        }
        let transferred = self.0.raft.transfer_leadership(target).await;
        transferred.map_err(|failed| self.not_changed(failed))?;
        let leader = self.0.raft.leadership().borrow().leader.as_ref().map(|leader| leader.name.clone());
        Ok(Response::new(v1::TransferLeadershipResponse { leader: leader.unwrap_or_default() }))
    }
}

impl ClusterService {
    fn own_status(&self) -> v1::ClusterStatus {
        let raft = &self.0.raft;
        let status = raft.status();
        let (revision, time, settings) =
            raft.with_state(|state| (state.revision(), state.time(), state.settings().cloned()));
        let alarms = status.alarms.iter().map(|alarm| wire_alarm(alarm, &self.0.name));
        let differences = settings.iter().flat_map(|settings| {
            let lease = self.0.given.check_lease_of(settings).err().map(|refused| refused.to_string());
            lease.into_iter().chain(self.0.given.differences(settings))
        });
        let differences = differences.map(|message| v1::Alarm {
            name: "SettingWithoutEffect".to_owned(),
            message,
            member: self.0.name.to_string(),
        });
        v1::ClusterStatus {
            cluster_id: status.cluster_id.to_string(),
            leader: status.leader.as_ref().map(|leader| leader.name.clone()),
            term: status.term,
            members: status.members.iter().map(|member| wire_member(member, &status)).collect(),
            alarms: alarms.chain(differences).collect(),
            answered_by: self.0.name.to_string(),
            revision: revision.0,
            time: Some(timestamp_to_wire(time)),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            node_lease_ms: settings.as_ref().map_or(0, |settings| settings.node_lease_ms),
            settings: settings.as_ref().map(settings::to_wire),
        }
    }

    /// What the leader says, if it is another server and answers soon.
    async fn leaders_status(&self, identity: Option<&Identity>) -> Option<v1::ClusterStatus> {
        let leadership = self.0.raft.leadership().borrow().clone();
        let leader = leadership.leader.filter(|_| !leadership.is_leader)?;
        let identity = identity?;
        let mut request = Request::new(v1::ClusterStatusRequest {});
        let said = format!("{}/{}", identity.kind.as_str(), identity.name);
        let marks = [(FORWARDED_IDENTITY, said.as_str()), (FORWARDED_BY, &self.0.name)];
        for (name, value) in marks {
            let name = AsciiMetadataKey::from_bytes(name.as_str().as_bytes()).ok()?;
            request.metadata_mut().insert(name, value.parse().ok()?);
        }
        let mut client = v1::cluster_client::ClusterClient::new(self.0.raft.peer_channel(leader.id));
        let answer =
            tokio::time::timeout(Duration::from_millis(STATUS_LEADER_WAIT_MS), client.status(request));
        Some(answer.await.ok()?.ok()?.into_inner())
    }

    /// A leader that is to go hands leadership over before: the change is the next leader's, which stays.
    async fn leave_leadership_of(&self, which: MemberSelector<'_>) -> Result<(), Status> {
        let members = self.0.raft.status().members.into_iter();
        let gone = members.filter(|member| which.selects(member.id, &member.name)).map(|member| member.id);
        let gone: Vec<MemberId> = gone.collect();
        // Where others have its name too, the change is refused: it answers itself.
        if gone != [self.0.raft.member_id()] || self.0.raft.transfer_leadership(None).await.is_err() {
            // Without another who could lead, the change itself says why it can't be.
            return Ok(());
        }
        Err(error::not_leader(&self.0.raft))
    }

    /// The first member that is meant.
    fn member(&self, which: MemberSelector<'_>) -> Result<MemberStatus, Status> {
        let mut members = self.0.raft.status().members.into_iter();
        let found = members.find(|member| which.selects(member.id, &member.name));
        found.ok_or_else(|| match which {
            MemberSelector::Name(name) => error::not_found("members", name),
            MemberSelector::Id(id) => error::not_found("members", &id.to_string()),
        })
    }

    fn not_changed(&self, failed: MembershipError) -> Status {
        match failed {
            MembershipError::NotLeader { .. } => error::not_leader(&self.0.raft),
            MembershipError::Refused(message) => error::refused(ErrorReason::FailedPrecondition, message),
            MembershipError::Unknown(message) => error::outcome_unknown(&message),
        }
    }
}

/// Adds to what this server knows what the one that it takes for the leader says.
fn complete(own: &mut v1::ClusterStatus, of_leader: v1::ClusterStatus) {
    // It learns before its followers that it has no majority any more, or that another one leads.
    let knows_better = of_leader.term >= own.term;
    // A change of members that was acknowledged is known to the leader before it is to its followers.
    let leads = of_leader.leader.as_deref() == Some(of_leader.answered_by.as_str());
    let mut members = if knows_better && leads { of_leader.members.clone() } else { own.members.clone() };
    for member in &mut members {
        let id = member.id;
        let known =
            [&own.members, &of_leader.members].map(|members| members.iter().find(|known| known.id == id));
        let first =
            |figure: fn(&v1::Member) -> Option<u64>| known.iter().flatten().find_map(|known| figure(known));
        member.last_log_index = first(|known| known.last_log_index);
        member.applied_index = first(|known| known.applied_index);
        member.lag = first(|known| known.lag);
        if knows_better && let Some(known) = known[1] {
            member.role = known.role;
        }
    }
    own.members = members;
    if knows_better {
        own.term = of_leader.term;
        own.leader = of_leader.leader;
    }
    own.alarms.extend(of_leader.alarms);
}

fn wire_member(member: &MemberStatus, status: &RaftStatus) -> v1::Member {
    let leads = status.leader.as_ref().is_some_and(|leader| leader.id == member.id);
    let role = match (leads, member.role) {
        (true, _) => v1::MemberRole::Leader,
        (false, MemberRole::Voter) => v1::MemberRole::Follower,
        (false, MemberRole::Learner) => v1::MemberRole::Learner,
    };
    v1::Member {
        name: member.name.clone(),
        id: member.id.0,
        role: role.into(),
        address: member.address.clone(),
        peer_address: member.peer_address.clone(),
        last_log_index: member.last_log_index,
        applied_index: member.applied_index,
        lag: member.lag,
    }
}

fn learner(id: MemberId, info: MemberInfo) -> v1::Member {
    v1::Member {
        name: info.name,
        id: id.0,
        role: v1::MemberRole::Learner.into(),
        address: info.client_address,
        peer_address: info.peer_address,
        last_log_index: None,
        applied_index: None,
        lag: None,
    }
}

fn wire_alarm(alarm: &Alarm, raised_by: &str) -> v1::Alarm {
    v1::Alarm {
        name: alarm.kind.as_str().to_owned(),
        message: alarm.text.clone(),
        member: raised_by.to_owned(),
    }
}

fn named(reference: Option<v1::MemberReference>) -> Result<Named, Status> {
    let named = reference.and_then(|reference| reference.member);
    named.ok_or_else(|| error::bad_request("member", "Required value"))
}

fn selector(named: &Named) -> MemberSelector<'_> {
    match named {
        Named::Name(name) => MemberSelector::Name(name),
        Named::Id(id) => MemberSelector::Id(MemberId(*id)),
    }
}

fn host_port(field: &str, text: &str) -> Result<(), Status> {
    crate::config::check_host_port(field, text)
        .map_err(|failed| error::bad_request(field, failed.to_string()))
}

#[cfg(test)]
mod tests {
    use stint_raft::AlarmKind;

    use super::*;

    fn status(term: u64, leader: Option<&str>) -> v1::ClusterStatus {
        let role = |name: &str| match leader == Some(name) {
            true => v1::MemberRole::Leader,
            false => v1::MemberRole::Follower,
        };
        let member = |id: u64, name: &str| v1::Member {
            name: name.to_owned(),
            id,
            role: role(name).into(),
            ..v1::Member::default()
        };
        v1::ClusterStatus {
            leader: leader.map(str::to_owned),
            answered_by: leader.unwrap_or_default().to_owned(),
            term,
            members: vec![member(1, "s1"), member(2, "s2")],
            ..v1::ClusterStatus::default()
        }
    }

    #[test]
    fn who_leads_is_said_by_the_leader_itself_unless_it_is_behind() {
        for (of_leader, expected) in [
            (status(3, Some("s1")), status(3, Some("s1"))),
            (status(3, None), status(3, None)),
            (status(4, Some("s2")), status(4, Some("s2"))),
            (status(2, None), status(3, Some("s1"))),
        ] {
            let mut own = status(3, Some("s1"));
            complete(&mut own, of_leader);
            own.answered_by.clone_from(&expected.answered_by);
            assert_eq!(own, expected);
        }
    }

    #[test]
    fn who_the_members_are_is_said_by_one_that_leads() {
        let removed = |term, leader| {
            let mut status = status(term, leader);
            status.members.pop();
            status
        };
        for (of_leader, n_members) in [
            (removed(3, Some("s1")), 1),
            (removed(4, Some("s1")), 1),
            (removed(3, None), 2),
            (removed(2, Some("s1")), 2),
        ] {
            let mut own = status(3, Some("s1"));
            complete(&mut own, of_leader);
            assert_eq!(own.members.len(), n_members);
        }
    }

    #[test]
    fn only_the_leader_knows_how_far_the_others_are() {
        let (mut own, mut of_leader) = (status(3, Some("s1")), status(3, Some("s1")));
        own.members[1].lag = Some(7);
        of_leader.members[0].lag = Some(0);
        of_leader.members[1].lag = Some(9);
        of_leader.alarms.push(v1::Alarm { name: "ClockSkew".to_owned(), ..v1::Alarm::default() });
        complete(&mut own, of_leader);
        assert_eq!((own.members[0].lag, own.members[1].lag, own.alarms.len()), (Some(0), Some(7), 1));
    }

    #[test]
    fn a_member_is_meant_by_what_names_it() {
        let reference = |member| named(Some(v1::MemberReference { member })).ok();
        let by_id = reference(Some(Named::Id(5))).expect("an id");
        let by_name = reference(Some(Named::Name("s3".to_owned()))).expect("a name");
        assert_eq!(selector(&by_id), MemberSelector::Id(MemberId(5)));
        assert_eq!(selector(&by_name), MemberSelector::Name("s3"));
        assert_eq!(reference(None), None);
        // Another member that has the name of the one with the id is not meant.
        let meant = |named, id, name| selector(named).selects(MemberId(id), name);
        assert_eq!((meant(&by_id, 5, "s3"), meant(&by_id, 3, "s3")), (true, false));
        assert_eq!((meant(&by_name, 5, "s3"), meant(&by_name, 3, "s3")), (true, true));
    }

    #[test]
    fn an_alarm_has_the_name_of_its_kind_whatever_its_text_says() {
        for (kind, text, expected) in [
            (AlarmKind::MemberUnreachable, "member 2 (\"clock1\") does not answer", "MemberUnreachable"),
            (AlarmKind::MemberForgot, "member 2 (\"no leader\") has forgotten log entries", "MemberForgot"),
            (AlarmKind::ClockSkew, "no leader's clock", "ClockSkew"),
            (AlarmKind::NoLeader, "no leader is known", "NoLeader"),
        ] {
            let alarm = wire_alarm(&Alarm { kind, text: text.to_owned() }, "s1");
            assert_eq!((&*alarm.name, &*alarm.message, &*alarm.member), (expected, text, "s1"));
        }
    }
}
