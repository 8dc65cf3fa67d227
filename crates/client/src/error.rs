//! What can go wrong with a call.
//!
//! Owns: the error type. Does not own: the wire's reasons and codes (crate `proto`).

use std::time::Duration;
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
        "no server could be reached at {addresses} within {timeout:?} ({last}): check STINT_SERVER or --server, and that a majority of the servers runs"
    )]
    Unreachable {
        /// All that were tried.
        addresses: String,
        /// How long it was tried.
        timeout: Duration,
        /// What the last attempt met.
        last: String,
    },
    /// Servers answered, and could not do it as long as it was tried. Nothing was changed.
    #[error("given up after {timeout:?}: {last}")]
    Unavailable {
        /// How long it was tried.
        timeout: Duration,
        /// What the last server said.
        last: String,
    },
    /// A write may or may not have been carried out.
    #[error("the outcome is unknown ({cause}): look at the object before trying again")]
    OutcomeUnknown {
        /// What the attempt met.
        cause: String,
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

    /// True if no server could answer in time, and nothing was changed: it may go better later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Unavailable { .. })
    }

    /// `message` is what the connection or the server said.
    pub(crate) fn outcome_unknown(message: &str) -> Error {
        // A server that knows as little says so in the same words, with its cause in brackets.
        let said = message.strip_prefix("the outcome is unknown (").and_then(|rest| rest.split_once("):"));
        Error::OutcomeUnknown { cause: said.map_or(message, |(cause, _)| cause).to_owned() }
    }

    /// A watch or a list that can't go on without a gap.
    pub(crate) fn expired(message: &str) -> Error {
        Error::Refused {
            reason: Some(ErrorReason::Expired),
            message: message.to_owned(),
            field_violations: Vec::new(),
        }
    }

    pub(crate) fn answer(error: impl std::fmt::Display) -> Error {
        Error::Answer { message: error.to_string() }
    }
}
