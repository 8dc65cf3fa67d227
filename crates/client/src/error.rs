//! What can go wrong with a call.
//!
//! Owns: the error type. Does not own: the wire's reasons and codes (crate `proto`).

use stint_proto::status::ErrorReason;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address can't be used.
    #[error("{address:?} is not the address of a server: give HOST:PORT, or several separated by commas")]
    Address {
        /// As given.
        address: String,
    },
    /// A token can't be sent.
    #[error("the token can't be used: {problem}")]
    Token {
        /// What is wrong with it; never the token itself.
        problem: String,
    },
    /// No server answered.
    #[error(
        "no server could be reached at {addresses} within {seconds} s ({last}): check STINT_SERVER or --server, and that a majority of the servers runs"
    )]
    Unreachable {
        /// All that were tried.
        addresses: String,
        /// How long it was tried.
        seconds: u64,
        /// What the last attempt met.
        last: String,
    },
    /// A write may or may not have been carried out.
    #[error("the outcome is unknown ({message}): look at the object before trying again")]
    OutcomeUnknown {
        /// What the attempt met.
        message: String,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// Stable; for programs. None if the server gave none that this client knows.
        reason: Option<ErrorReason>,
        /// For people.
        message: String,
        /// Path and description of each wrong field.
        field_violations: Vec<(String, String)>,
    },
    /// The answer can't be understood.
    #[error(
        "the server's answer can't be understood ({message}): are client and server of the same version?"
    )]
    Answer {
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// The server's stable reason, if there is one.
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Error::Refused { reason, .. } => *reason,
            Error::OutcomeUnknown { .. } => Some(ErrorReason::OutcomeUnknown),
            _ => None,
        }
    }

    /// True if the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason() == Some(ErrorReason::NotFound)
    }

    /// True if a revision to watch from, or a page of a list, is no longer kept: list again.
    pub fn is_expired(&self) -> bool {
        self.reason() == Some(ErrorReason::Expired)
    }

    pub(crate) fn answer(error: impl std::fmt::Display) -> Error {
        Error::Answer { message: error.to_string() }
    }
}
