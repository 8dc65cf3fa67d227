//! Raft's own data: log ids, votes, memberships, log entries.
//!
//! Owns: their conversions. Does not own: how log records are chained (module `log_record`).

use super::convert::{FromWire, ToWire};
use crate::error::CodecError;
use crate::types::{
    EntryPayload, LogEntry, LogId, LogPayload, MemberInfo, Membership, SnapshotMeta, StoredMembership, Vote,
    log_id, term_of,
};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};

impl ToWire<wire::LogId> for LogId {
    fn to_wire(&self) -> wire::LogId {
        wire::LogId { term: term_of(self), index: self.index() }
    }
}

impl FromWire<wire::LogId> for LogId {
    fn from_wire(wire: wire::LogId) -> Result<Self, CodecError> {
        Ok(log_id(wire.term, wire.index))
    }
}

impl ToWire<wire::Vote> for Vote {
    fn to_wire(&self) -> wire::Vote {
        wire::Vote {
            term: self.leader_id.term,
            member_id: self.leader_id.voted_for,
            committed: self.committed,
        }
    }
}

impl FromWire<wire::Vote> for Vote {
    fn from_wire(wire: wire::Vote) -> Result<Self, CodecError> {
        Ok(if wire.committed {
            Vote::new_committed(wire.term, wire.member_id)
        } else {
            Vote::new(wire.term, wire.member_id)
        })
    }
}

impl ToWire<wire::Membership> for Membership {
    fn to_wire(&self) -> wire::Membership {
        let voter_sets = self
            .get_joint_config()
            .iter()
            .map(|set| wire::VoterSet { member_ids: set.iter().copied().collect() })
            .collect();
        let members = self
            .nodes()
            .map(|(id, member)| {
                let MemberInfo { name, peer_address, client_address } = member.clone();
                (*id, wire::Member { name, peer_address, client_address })
            })
            .collect();
        wire::Membership { voter_sets, members }
    }
}

impl FromWire<wire::Membership> for Membership {
    fn from_wire(wire: wire::Membership) -> Result<Self, CodecError> {
        let voter_sets: Vec<BTreeSet<u64>> =
            wire.voter_sets.into_iter().map(|set| set.member_ids.into_iter().collect()).collect();
        let members: BTreeMap<u64, MemberInfo> = wire
            .members
            .into_iter()
            .map(|(id, member)| {
                let wire::Member { name, peer_address, client_address } = member;
                (id, MemberInfo { name, peer_address, client_address })
            })
            .collect();
        Membership::new(voter_sets, members).map_err(|error| CodecError::text(error.to_string()))
    }
}

impl ToWire<wire::StoredMembership> for StoredMembership {
    fn to_wire(&self) -> wire::StoredMembership {
        wire::StoredMembership {
            log_id: self.log_id().to_wire(),
            membership: Some(self.membership().to_wire()),
        }
    }
}

impl FromWire<wire::StoredMembership> for StoredMembership {
    fn from_wire(wire: wire::StoredMembership) -> Result<Self, CodecError> {
        let membership = wire.membership.ok_or_else(CodecError::missing)?;
        Ok(StoredMembership::new(FromWire::from_wire(wire.log_id)?, FromWire::from_wire(membership)?))
    }
}

impl ToWire<wire::SnapshotDescription> for SnapshotMeta {
    fn to_wire(&self) -> wire::SnapshotDescription {
        wire::SnapshotDescription {
            last_log_id: self.last_log_id.to_wire(),
            last_membership: Some(self.last_membership.to_wire()),
        }
    }
}

impl FromWire<wire::SnapshotDescription> for SnapshotMeta {
    fn from_wire(wire: wire::SnapshotDescription) -> Result<Self, CodecError> {
        let last_membership = wire.last_membership.ok_or_else(CodecError::missing)?;
        Ok(SnapshotMeta {
            last_log_id: FromWire::from_wire(wire.last_log_id)?,
            last_membership: FromWire::from_wire(last_membership)?,
        })
    }
}

impl ToWire<wire::LogEntry> for LogEntry {
    fn to_wire(&self) -> wire::LogEntry {
        use wire::log_entry::Payload;
        let payload = match &self.payload {
            EntryPayload::Blank => Payload::Blank(wire::Blank {}),
            EntryPayload::Normal(LogPayload(commands)) => Payload::Commands(commands.clone()),
            EntryPayload::Membership(membership) => Payload::Membership(membership.to_wire()),
        };
        wire::LogEntry { log_id: Some(self.log_id.to_wire()), payload: Some(payload) }
    }
}

impl FromWire<wire::LogEntry> for LogEntry {
    fn from_wire(wire: wire::LogEntry) -> Result<Self, CodecError> {
        use wire::log_entry::Payload;
        let log_id = LogId::from_wire(wire.log_id.ok_or_else(CodecError::missing)?)?;
        let payload = match wire.payload.ok_or_else(CodecError::missing)? {
            Payload::Blank(wire::Blank {}) => EntryPayload::Blank,
            Payload::Commands(commands) => EntryPayload::Normal(LogPayload(commands)),
            Payload::Membership(membership) => EntryPayload::Membership(FromWire::from_wire(membership)?),
        };
        Ok(LogEntry { log_id, payload })
    }
}
