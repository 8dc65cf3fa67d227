//! The one instantiation of openraft's generic types, and the types that both halves of this crate share.
//!
//! Owns: [`TypeConfig`], the aliases of openraft's types, what a proposal carries ([`LogPayload`]), what its proposer gets
//! back ([`ApplyResponse`]), what is known of each member ([`MemberInfo`]).
//! Does not own: how any of them is written to disk or wire (module `codec`).
//!
//! Invariant: no other crate instantiates openraft; compiling it is expensive and its API still changes.

use bytes::Bytes;
use std::fmt;
use stint_api::Revision;
use stint_core::Reply;

openraft::declare_raft_types!(
    /// Which types openraft works with.
    pub TypeConfig:
        D = LogPayload,
        R = ApplyResponse,
        NodeId = u64,
        Node = MemberInfo,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// Who was, or wants to be, leader in which term.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
/// Leader of a term as log ids carry it: the term alone.
pub type CommittedLeaderId = openraft::alias::CommittedLeaderIdOf<TypeConfig>;
/// Position in the log: term and index.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote, granted or not.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// One entry of the log.
pub type LogEntry = openraft::alias::EntryOf<TypeConfig>;
/// What an entry carries: nothing, commands, or a membership.
pub type EntryPayload = openraft::alias::PayloadOf<TypeConfig>;
/// Voters, learners and their addresses.
pub type Membership = openraft::Membership<u64, MemberInfo>;
/// A membership and the entry that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot: what it covers and its file (see [`crate::snapshot::SnapshotFile`] for how to read, send and receive it).
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, crate::snapshot::SnapshotFile>;

/// Makes a log id.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// The term of a log id.
pub fn term_of(log_id: &LogId) -> u64 {
    log_id.committed_leader_id().term
}

/// An encoded [`stint_core::Entry`] (`codec::encode_commands`): encoded once by its proposer, decoded when it is applied.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct LogPayload(pub Bytes);

impl fmt::Debug for LogPayload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for LogPayload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of commands", self.0.len())
    }
}

/// What the proposer of an entry gets once the entry is applied on its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyResponse {
    /// Where the entry stands.
    pub log_index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// One per command, in order; empty for entries without commands.
    pub replies: Vec<Reply>,
    /// Revision after the entry.
    pub revision: Revision,
}

/// What is replicated about one server with the membership (decision 13).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberInfo {
    /// `--name`; unique among the members.
    pub name: String,
    /// `HOST:PORT` under which other servers reach it.
    pub peer_address: String,
    /// `HOST:PORT` under which clients and agents reach it.
    pub client_address: String,
}
