//! Raft's messages to and from the wire.
//!
//! Owns: total conversions. Does not own: the encoding of entries (module `codec`), transport.
//!
//! Invariant: what cannot be decoded is an error, never a message with a hole.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
    VoteResponse,
};

use crate::codec;
use crate::types::{LeaderId, LogId, SnapshotMeta, TypeConfig, Vote, log_id as log_id_of, term_of};
use crate::wire;

/// A message that lacks a part or holds one that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("peer message cannot be read: {0}")]
pub struct BadMessage(pub String);

pub fn log_id_to_wire(log_id: &LogId) -> wire::PeerLogId {
    wire::PeerLogId { term: term_of(log_id), index: log_id.index() }
}

pub fn log_id_from_wire(log_id: &wire::PeerLogId) -> LogId {
    log_id_of(log_id.term, log_id.index)
}

pub fn vote_to_wire(vote: &Vote) -> wire::PeerVote {
    wire::PeerVote {
        term: vote.leader_id.term,
        member_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub fn vote_from_wire(vote: Option<&wire::PeerVote>) -> Result<Vote, BadMessage> {
    let vote = vote.ok_or_else(|| BadMessage("it has no vote".to_owned()))?;
    let leader_id = LeaderId { term: vote.term, voted_for: vote.member_id };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub fn append_request_to_wire(request: &AppendEntriesRequest<TypeConfig>) -> wire::PeerAppendRequest {
    wire::PeerAppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.iter().map(codec::encode_log_entry).collect(),
    }
}

pub fn append_request_from_wire(
    request: wire::PeerAppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, BadMessage> {
    let entries = request
        .entries
        .into_iter()
        .map(|entry| codec::decode_log_entry(entry).map_err(|error| BadMessage(error.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote.as_ref())?,
        prev_log_id: request.previous.as_ref().map(log_id_from_wire),
        entries,
        leader_commit: request.leader_commit.as_ref().map(log_id_from_wire),
    })
}

pub fn append_result_to_wire(
    result: &StreamAppendResult<TypeConfig>,
    report: wire::PeerReport,
) -> wire::PeerAppendResponse {
    use wire::peer_append_response::Result as Outcome;
    let result = match result {
        Ok(last) => Outcome::Matched(wire::PeerMatched { last: last.as_ref().map(log_id_to_wire) }),
        Err(StreamAppendError::Conflict(log_id)) => Outcome::Conflict(log_id_to_wire(log_id)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_to_wire(vote)),
    };
    wire::PeerAppendResponse { report: Some(report), result: Some(result) }
}

pub fn append_result_from_wire(
    response: &wire::PeerAppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, BadMessage> {
    use wire::peer_append_response::Result as Outcome;
    match &response.result {
        Some(Outcome::Matched(matched)) => Ok(Ok(matched.last.as_ref().map(log_id_from_wire))),
        Some(Outcome::Conflict(log_id)) => Ok(Err(StreamAppendError::Conflict(log_id_from_wire(log_id)))),
        Some(Outcome::HigherVote(vote)) => {
            Ok(Err(StreamAppendError::HigherVote(vote_from_wire(Some(vote))?)))
        }
        None => Err(BadMessage("the answer to an append has no result".to_owned())),
    }
}

pub fn vote_request_to_wire(request: &VoteRequest<TypeConfig>) -> wire::PeerVoteRequest {
    wire::PeerVoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn vote_request_from_wire(
    request: &wire::PeerVoteRequest,
) -> Result<VoteRequest<TypeConfig>, BadMessage> {
    Ok(VoteRequest {
        vote: vote_from_wire(request.vote.as_ref())?,
        last_log_id: request.last_log_id.as_ref().map(log_id_from_wire),
        leadership_transfer: request.leadership_transfer,
    })
}

pub fn vote_response_to_wire(
    response: &VoteResponse<TypeConfig>,
    report: wire::PeerReport,
) -> wire::PeerVoteResponse {
    wire::PeerVoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_to_wire),
        report: Some(report),
    }
}

pub fn vote_response_from_wire(
    response: &wire::PeerVoteResponse,
) -> Result<VoteResponse<TypeConfig>, BadMessage> {
    Ok(VoteResponse {
        vote: vote_from_wire(response.vote.as_ref())?,
        vote_granted: response.granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_from_wire),
    })
}

pub fn transfer_request_to_wire(request: &TransferLeaderRequest<TypeConfig>) -> wire::PeerTransferRequest {
    wire::PeerTransferRequest {
        from_leader: Some(vote_to_wire(request.from_leader())),
        to_member_id: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_to_wire),
    }
}

pub fn transfer_request_from_wire(
    request: &wire::PeerTransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, BadMessage> {
    Ok(TransferLeaderRequest::new(
        vote_from_wire(request.from_leader.as_ref())?,
        request.to_member_id,
        request.last_log_id.as_ref().map(log_id_from_wire),
    ))
}

pub fn snapshot_header_to_wire(vote: &Vote, meta: &SnapshotMeta) -> wire::PeerSnapshotHeader {
    wire::PeerSnapshotHeader { vote: Some(vote_to_wire(vote)), meta: codec::encode_snapshot_meta(meta) }
}

pub fn snapshot_header_from_wire(
    header: &wire::PeerSnapshotHeader,
) -> Result<(Vote, SnapshotMeta), BadMessage> {
    let meta =
        codec::decode_snapshot_meta(header.meta.clone()).map_err(|error| BadMessage(error.to_string()))?;
    Ok((vote_from_wire(header.vote.as_ref())?, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, member_id: u64, committed: bool) -> Vote {
        vote_from_wire(Some(&wire::PeerVote { term, member_id, committed })).unwrap()
    }

    fn log_id(term: u64, index: u64) -> LogId {
        log_id_from_wire(&wire::PeerLogId { term, index })
    }

    #[test]
    fn votes_and_log_ids_survive_the_wire() {
        for (term, member_id, committed) in [(0, 0, false), (3, 2, true), (u64::MAX, u64::MAX, false)] {
            let vote = vote(term, member_id, committed);
            assert_eq!(vote_from_wire(Some(&vote_to_wire(&vote))).unwrap(), vote);
        }
        let last = log_id(3, 77);
        assert_eq!(log_id_from_wire(&log_id_to_wire(&last)), last);
    }

    #[test]
    fn every_append_result_survives_the_wire() {
        let results: [StreamAppendResult<TypeConfig>; 4] = [
            Ok(None),
            Ok(Some(log_id(1, 2))),
            Err(StreamAppendError::Conflict(log_id(4, 5))),
            Err(StreamAppendError::HigherVote(vote(9, 3, true))),
        ];
        for result in results {
            let there = append_result_to_wire(&result, wire::PeerReport::default());
            assert_eq!(append_result_from_wire(&there).unwrap(), result);
        }
        assert!(append_result_from_wire(&wire::PeerAppendResponse::default()).is_err());
    }

    #[test]
    fn votes_survive_the_wire() {
        let request = VoteRequest::<TypeConfig> {
            vote: vote(2, 1, false),
            last_log_id: Some(log_id(1, 9)),
            leadership_transfer: true,
        };
        assert_eq!(vote_request_from_wire(&vote_request_to_wire(&request)).unwrap(), request);
        let response = VoteResponse::<TypeConfig>::new(vote(2, 1, false), None, true);
        let there = vote_response_to_wire(&response, wire::PeerReport::default());
        assert_eq!(vote_response_from_wire(&there).unwrap(), response);
        assert!(vote_response_from_wire(&wire::PeerVoteResponse::default()).is_err());
    }

    #[test]
    fn an_append_with_an_entry_that_cannot_be_read_is_an_error_as_a_whole() {
        let request = wire::PeerAppendRequest {
            vote: Some(vote_to_wire(&vote(1, 1, true))),
            entries: vec![b"no entry".to_vec().into()],
            ..wire::PeerAppendRequest::default()
        };
        assert!(append_request_from_wire(request).is_err());
    }
}
