//! What `apply` answers to each command.
//!
//! Owns: replies and rejections with their stable reasons. Does not own: codes of any wire.

use stint_api::{ClusterId, Incarnation, JobUid, MemberId, Revision};

/// Answer to one command, in the order of the entry's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The command was carried out, or begun, and has nothing to say beyond the revision of the last row it changed.
    Done {
        /// Revision after it.
        revision: Revision,
    },
    /// See [`crate::Command::CreateJob`].
    JobCreated {
        /// Its name: of a repeated create perhaps another than the one asked for.
        name: String,
        /// The Job's uid: the existing one's for a repeated request.
        uid: JobUid,
        /// Revision to watch from: no later change of the Job is missed.
        revision: Revision,
        /// What the request met.
        outcome: CreateOutcome,
    },
    /// See [`crate::Command::RegisterNode`].
    NodeRegistered {
        /// The new incarnation.
        incarnation: Incarnation,
        /// For the agent's journal.
        cluster_id: ClusterId,
        /// L, in milliseconds.
        node_lease_ms: u64,
        /// Revision after it.
        revision: Revision,
    },
    /// See [`crate::Command::ReportPods`]: for each report, whether it was counted or ignored (A10).
    Reported {
        /// One per report, in order.
        accepted: Vec<bool>,
    },
    /// See [`crate::Command::StoreLogTails`]: for each tail, whether it was taken or is of no Pod of the node.
    LogTailsStored {
        /// One per tail, in order.
        accepted: Vec<bool>,
    },
    /// See [`crate::Command::ReserveMemberId`].
    MemberIdReserved {
        /// Never used before.
        member_id: MemberId,
    },
    /// Nothing was changed.
    Rejected(Rejection),
}

/// What a create request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The Job is new.
    Created,
    /// The same request was applied before; its Job exists.
    AlreadyExisted,
    /// The same request was applied before; its Job has been deleted since (decision 10).
    AlreadyDeleted,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Stable, for programs.
    pub reason: RejectionReason,
    /// For people: lower case, names the object, what was broken, what to do next.
    pub message: String,
    /// Field errors as `path`, `message` pairs, for [`RejectionReason::Invalid`].
    pub field_violations: Vec<(String, String)>,
}

impl Rejection {
    /// A rejection without field errors.
    pub fn new(reason: RejectionReason, message: String) -> Rejection {
        Rejection { reason, message, field_violations: Vec::new() }
    }
}

/// Stable reasons of rejections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectionReason {
    /// The object does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// A uid or resourceVersion precondition does not hold.
    Conflict,
    /// The object is not valid.
    Invalid,
    /// A named limit of the cluster is reached.
    LimitExceeded,
    /// The object's state forbids it, such as deleting a node with a live lease.
    FailedPrecondition,
    /// A2: a live lease holds the node name under another node uid.
    NodeNameTaken,
    /// A2: a lower registration number than one already applied.
    StaleRegistration,
    /// A2: the same registration number with another nonce: the data folder was cloned.
    ClonedFolder,
    /// A2: the host was rebooted and its previous lease has not expired yet: try again.
    PreviousLeaseAlive,
    /// A2: the agent knows another cluster.
    OtherCluster,
    /// The incarnation is not the node's present one.
    StaleIncarnation,
    /// A6: decided by the leader of another term.
    StaleTerm,
}
