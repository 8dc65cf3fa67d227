//! Why a server could not be started, and how every refusal looks on the wire.
//!
//! Owns: this crate's error type; the one mapping from the state machine's rejections and from failed proposals and reads to
//! statuses (decision 10). Does not own: codes of reasons (`stint_proto::status`).
//!
//! Invariant: a status `UNAVAILABLE` or `RESOURCE_EXHAUSTED` made here means that nothing was changed.

use std::net::SocketAddr;
use std::time::Duration;

use stint_core::{Rejection, RejectionReason};
use stint_proto::status::{LEADER_ADDRESS, LEADER_NAME};
use stint_proto::{ErrorReason, StatusDetails};
use stint_raft::RaftNode;
use tonic::Status;

use crate::limits::{NO_LEADER_RETRY_MS, OVERLOAD_RETRY_MS};
use crate::proposer::ProposalError;
use crate::watch::Expired;

/// Why a server could not be started or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration cannot be used.
    #[error("{message}")]
    InvalidConfig {
        /// Names the value, the limit and what to do.
        message: String,
    },
    /// A port could not be taken.
    #[error("could not listen on {address}: {source}: is another server running there?")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Replication could not be started, or has failed.
    #[error(transparent)]
    Raft(#[from] stint_raft::Error),
    /// The client port failed.
    #[error("the server at {address} stopped: {source}")]
    Serve {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: tonic::transport::Error,
    },
    /// What is served could not be described.
    #[error("the descriptions of the services cannot be read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Replication or storage cannot go on.
    #[error("the server cannot go on: {reason}")]
    Fatal {
        /// Why.
        reason: String,
    },
    /// A task of the server has panicked: a defect.
    #[error("a task of the server ended unexpectedly: {message}")]
    Defect {
        /// Which, and how.
        message: String,
    },
}

/// Where the leader is, for whoever asks the wrong server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaderHint {
    /// Its name; empty while there is none.
    pub name: String,
    /// Where clients and agents reach it; empty while there is none.
    pub address: String,
}

impl LeaderHint {
    /// The leader that this server knows of.
    pub fn of(raft: &RaftNode) -> LeaderHint {
        let leader = raft.leadership().borrow().leader.clone();
        leader.map_or_else(LeaderHint::default, |leader| LeaderHint {
            name: leader.name,
            address: leader.client_address,
        })
    }
}

/// No token, or a wrong one: a stranger does not learn which.
pub fn unauthenticated() -> Status {
    let message =
        "a valid bearer token is needed in metadata `authorization`: give the cluster's token (--token-file)";
    StatusDetails::new(ErrorReason::Unauthenticated, message).into_status()
}

/// This server does not lead, or nobody does. Certainly not carried out.
pub fn not_leader(raft: &RaftNode) -> Status {
    not_leader_with(LeaderHint::of(raft))
}

/// See [`not_leader`].
pub fn not_leader_with(hint: LeaderHint) -> Status {
    let retry = Duration::from_millis(NO_LEADER_RETRY_MS);
    if hint.name.is_empty() {
        let message = "no server leads at the moment, nothing was changed: try again";
        return StatusDetails::new(ErrorReason::NoLeader, message).with_retry_after(retry).into_status();
    }
    let message = format!("server {} leads, nothing was changed: try again, there or here", hint.name);
    StatusDetails::new(ErrorReason::NotLeader, message)
        .with_retry_after(retry)
        .with_metadata(LEADER_NAME, hint.name)
        .with_metadata(LEADER_ADDRESS, hint.address)
        .into_status()
}

/// The leader cannot be reached from here. Certainly not carried out.
pub fn leader_unreachable() -> Status {
    let message = "the leader cannot be reached from this server, nothing was changed: try again";
    let retry = Duration::from_millis(NO_LEADER_RETRY_MS);
    StatusDetails::new(ErrorReason::NoLeader, message).with_retry_after(retry).into_status()
}

/// Perhaps carried out, perhaps not.
pub fn outcome_unknown(why: &str) -> Status {
    let message =
        format!("the outcome is unknown ({why}): read, or repeat a create with the same request id");
    StatusDetails::new(ErrorReason::OutcomeUnknown, message).into_status()
}

/// A write was carried out, and what it left could not be read: the caller must not take it for one that failed.
pub fn not_read_back(failed: Status) -> Status {
    match ErrorReason::of(&failed) {
        Some(ErrorReason::NotFound) => failed,
        _ => outcome_unknown("the request was accepted, but what it wrote could not be read back"),
    }
}

/// A queue, or the number of streams, is at its limit.
pub fn overloaded(message: impl Into<String>) -> Status {
    let retry = Duration::from_millis(OVERLOAD_RETRY_MS);
    StatusDetails::new(ErrorReason::TooManyRequests, message).with_retry_after(retry).into_status()
}

/// The server is about to stop.
pub fn stopping() -> Status {
    let message = "the server is stopping, nothing was changed: try another one";
    StatusDetails::new(ErrorReason::ShuttingDown, message)
        .with_retry_after(Duration::from_millis(NO_LEADER_RETRY_MS))
        .into_status()
}

/// The request cannot be read; `field` says where.
pub fn bad_request(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    StatusDetails::new(ErrorReason::BadRequest, format!("{field}: {description}"))
        .with_field_violation(field, description)
        .into_status()
}

/// An object does not exist. `resource` is Kubernetes' word for the kind, such as `jobs.batch`.
pub fn not_found(resource: &str, name: &str) -> Status {
    StatusDetails::new(ErrorReason::NotFound, format!("{resource} {name:?} not found")).into_status()
}

/// A cursor that is no longer kept.
pub fn expired(expired: Expired) -> Status {
    StatusDetails::new(ErrorReason::Expired, expired.to_string()).into_status()
}

/// A continue token that is no longer good.
pub fn list_expired() -> Status {
    let message = "the continue token is no longer kept: begin the list anew";
    StatusDetails::new(ErrorReason::Expired, message).into_status()
}

/// A read that was not done in time.
pub fn read_timeout(what: &str) -> Status {
    let retry = Duration::from_millis(NO_LEADER_RETRY_MS);
    StatusDetails::new(
        ErrorReason::Timeout,
        format!("{what} was not done in time, nothing was changed: try again"),
    )
    .with_retry_after(retry)
    .into_status()
}

/// A defect of ours, or damaged storage. Logged here, once; the caller learns no details.
pub fn internal(what: &str, error: &dyn std::fmt::Display) -> Status {
    tracing::error!(what, %error, "request failed");
    StatusDetails::new(ErrorReason::Internal, format!("{what} failed: see the server's log")).into_status()
}

/// The node that holds a log has no session.
pub fn node_unreachable(node: &stint_api::NodeName) -> Status {
    let message =
        format!("node {node} has no session, its pods can't be reached now: try again once it is back");
    StatusDetails::new(ErrorReason::NodeUnreachable, message)
        .with_retry_after(Duration::from_millis(NO_LEADER_RETRY_MS))
        .into_status()
}

/// A refusal with any reason.
pub fn refused(reason: ErrorReason, message: impl Into<String>) -> Status {
    StatusDetails::new(reason, message).into_status()
}

/// The one mapping of the state machine's rejections.
pub fn rejected(rejection: &Rejection) -> Status {
    let reason = match rejection.reason {
        RejectionReason::NotFound => ErrorReason::NotFound,
        RejectionReason::AlreadyExists => ErrorReason::AlreadyExists,
        RejectionReason::Conflict | RejectionReason::StaleIncarnation | RejectionReason::StaleTerm => {
            ErrorReason::Conflict
        }
        RejectionReason::Invalid => ErrorReason::Invalid,
        RejectionReason::LimitExceeded => ErrorReason::LimitExceeded,
        RejectionReason::FailedPrecondition
        | RejectionReason::NodeNameTaken
        | RejectionReason::StaleRegistration
        | RejectionReason::ClonedFolder
        | RejectionReason::PreviousLeaseAlive
        | RejectionReason::OtherCluster => ErrorReason::FailedPrecondition,
    };
    let mut details = StatusDetails::new(reason, rejection.message.clone());
    for (field, description) in &rejection.field_violations {
        details = details.with_field_violation(field, description);
    }
    details.into_status()
}

/// The one mapping of proposals without a reply (decision 10).
pub fn not_proposed(failed: &ProposalError, raft: &RaftNode) -> Status {
    match failed {
        ProposalError::NotLeader => not_leader(raft),
        ProposalError::QueueFull => overloaded(failed.to_string()),
        ProposalError::NotProposed => StatusDetails::new(ErrorReason::NoLeader, failed.to_string())
            .with_retry_after(Duration::from_millis(NO_LEADER_RETRY_MS))
            .into_status(),
        ProposalError::Unknown => outcome_unknown("no majority of the servers has confirmed the request"),
        ProposalError::Stopped => stopping(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn decision_10_a_write_that_cannot_be_read_back_is_no_failed_one() {
        let status = not_read_back(internal("reading rows", &"the disk is full"));
        assert_eq!(ErrorReason::of(&status), Some(ErrorReason::OutcomeUnknown));
        // Another caller's deletion came between.
        let status = not_read_back(not_found("nodes", "w1"));
        assert_eq!(ErrorReason::of(&status), Some(ErrorReason::NotFound));
    }

    #[test]
    fn decision_10_unavailable_always_says_when_to_try_again() {
        let hint = LeaderHint { name: "s2".to_owned(), address: "h:7440".to_owned() };
        for status in
            [not_leader_with(LeaderHint::default()), not_leader_with(hint), leader_unreachable(), stopping()]
        {
            assert_eq!(status.code(), Code::Unavailable);
            assert!(stint_proto::status::retry_after(&status).is_some(), "{status:?}");
        }
        assert_eq!(outcome_unknown("x").code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_rejection_keeps_its_fields() {
        let rejection = Rejection {
            reason: RejectionReason::Invalid,
            message: "spec.completions: field is immutable".to_owned(),
            field_violations: vec![("spec.completions".to_owned(), "field is immutable".to_owned())],
        };
        let status = rejected(&rejection);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(stint_proto::status::field_violations(&status)[0].field, "spec.completions");
    }
}
