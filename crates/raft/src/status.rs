//! What a server knows of its cluster: leadership and the state of the members.
//!
//! Owns: the types that describe it. Does not own: how it is shown.

use stint_api::{ClusterId, MemberId};

use crate::types::MemberInfo;

/// Who leads, as far as this server knows. A hint: only a quorum round ([`crate::node::RaftNode::read_index`]) shows that
/// a leader still leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Raft's term.
    pub term: u64,
    /// None: there is none, or it is not known.
    pub leader: Option<LeaderInfo>,
    /// This server believes to be the leader.
    pub is_leader: bool,
    /// This server is the leader and has applied the first entry of its term: its state holds every earlier entry (A7).
    pub established: bool,
}

/// A leader and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderInfo {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Name and addresses.
    pub info: MemberInfo,
    /// Votes, and counts for quorums; otherwise a learner.
    pub voter: bool,
}

/// The state of the cluster as this server sees it; complete only on the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// Identity of the cluster.
    pub cluster_id: ClusterId,
    /// Raft's term.
    pub term: u64,
    /// None: none is known.
    pub leader: Option<LeaderInfo>,
    /// In the order of ids.
    pub members: Vec<MemberStatus>,
    /// What a person should look at.
    pub alarms: Vec<Alarm>,
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What it is about: programs go by it.
    pub kind: AlarmKind,
    /// What is wrong and what to do, for people.
    pub text: String,
}

/// See [`Alarm::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// The leader's clock is far from those of most members, or from cluster time.
    ClockSkew,
    /// No leader is known that shows signs of life.
    NoLeader,
    /// A member does not answer the leader.
    MemberUnreachable,
    /// A member has forgotten log entries that it acknowledged.
    MemberForgot,
}

/// How far this server's log has come; 0: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RaftProgress {
    /// Last entry in its log.
    pub last_log_index: u64,
    /// Last entry that it knows to be committed.
    pub committed_index: u64,
    /// Last entry that it has applied.
    pub applied_index: u64,
    /// Last entry that its newest snapshot holds.
    pub snapshot_index: u64,
    /// Last entry that it has no more.
    pub purged_index: u64,
    /// Bytes of the entries behind the last one that it has no more, about.
    pub log_bytes: u64,
}

/// The state of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: MemberId,
    /// Voter or learner.
    pub role: MemberRole,
    /// Where clients reach it.
    pub address: String,
    /// Where peers reach it.
    pub peer_address: String,
    /// Last entry in its log; none: not known here.
    pub last_log_index: Option<u64>,
    /// Last entry that it has applied; none: not known here.
    pub applied_index: Option<u64>,
    /// Entries by which its log is behind the leader's; none: not known here.
    pub lag: Option<u64>,
    /// Answered lately; none: not known here, only the leader knows.
    pub reachable: Option<bool>,
}

/// See [`MemberStatus::role`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// Counts for quorums.
    Voter,
    /// Follows only.
    Learner,
}

impl AlarmKind {
    /// As the wire and `stint status` name it: one CamelCase word.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmKind::ClockSkew => "ClockSkew",
            AlarmKind::NoLeader => "NoLeader",
            AlarmKind::MemberUnreachable => "MemberUnreachable",
            AlarmKind::MemberForgot => "MemberForgot",
        }
    }
}

impl MemberRole {
    /// As `status -o json` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberRole::Voter => "voter",
            MemberRole::Learner => "learner",
        }
    }
}

impl LeaderInfo {
    pub(crate) fn new(id: MemberId, info: &MemberInfo) -> LeaderInfo {
        LeaderInfo {
            id,
            name: info.name.clone(),
            peer_address: info.peer_address.clone(),
            client_address: info.client_address.clone(),
        }
    }
}
