//! What can go wrong with a call.
//!
//! Owns: the error type. Does not own: the wire's reasons and codes (crate `proto`), which status becomes which error
//! (`retry`).

use std::time::Duration;

use stint_api::Job;
use stint_proto::status::{self, ErrorReason};
use tonic::{Code, Status};

/// Why a call failed.
///
/// A program asks what an error is by [`Error::is_not_found`] and its like; the texts are for people.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
/// # fn main() { example(async |client| {
/// let error = client.get_job("default", "no-such-job").await.unwrap_err();
/// assert!(error.is_not_found() && !error.is_outage());
/// assert_eq!(error.to_string(), "jobs.batch \"no-such-job\" not found");
/// # Ok(()) }); }
/// ```
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
    /// A Job can't be made of what was given.
    #[error("the job can't be made: {option}: {problem}")]
    Option {
        /// Which option of [`JobBuilder`](crate::JobBuilder), or `request id`.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No server answered. Nothing was changed.
    #[error(
        "no server could be reached at {addresses} within {} ({last}): check STINT_SERVER or --server, and that a majority of the servers runs",
        rounded(*timeout)
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
    #[error("given up after {}: {last}", rounded(*timeout))]
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
        /// Of a submit: [`Client::submit_again`](crate::Client::submit_again) with it, within 5 minutes of the first
        /// attempt, tells the outcome and never makes a second Job.
        request_id: Option<String>,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// Stable; for programs. None if the server gave none that this client knows.
        reason: Option<ErrorReason>,
        /// The word of the reason, also if this client does not know it. None if it was not a server of stint's that refused.
        word: Option<String>,
        /// Code of gRPC.
        code: Code,
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
    /// A log broke off before the servers named a place in it, so that what is missing can't be told.
    #[error("the log broke off before the servers named a place in it: read it again")]
    LogBroke,
    /// A Job that was waited for has failed.
    #[error("job {}/{} failed: {reason}: {message}", job.metadata.namespace, job.metadata.name)]
    JobFailed {
        /// The Job, as it ended.
        job: Box<Job>,
        /// Such as `BackoffLimitExceeded`.
        reason: String,
        /// For people.
        message: String,
    },
    /// A Job that was waited for was deleted.
    #[error("job {namespace}/{name} was deleted before it had finished")]
    JobDeleted {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// What was waited for did not come in time.
    #[error("{what} not ended within {timeout:?}")]
    WaitTimeout {
        /// What was waited for: `the job has`, `the 7 jobs have`.
        what: String,
        /// How long.
        timeout: Duration,
    },
}

impl Error {
    /// A refusal as servers make them, for programs that find out by themselves what a server would say.
    pub fn refused(reason: ErrorReason, message: impl Into<String>) -> Error {
        Error::Refused {
            reason: Some(reason),
            word: Some(reason.as_str().to_owned()),
            code: reason.code(),
            message: message.into(),
            field_violations: Vec::new(),
        }
    }

    /// The server's stable reason, if there is one that is known here.
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Error::Refused { reason, .. } => *reason,
            Error::OutcomeUnknown { .. } => Some(ErrorReason::OutcomeUnknown),
            _ => None,
        }
    }

    /// Code of gRPC, if a server, or something before it, refused.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// True if the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.is(&[ErrorReason::NotFound], Code::NotFound)
    }

    /// True if the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.is(&[ErrorReason::AlreadyExists], Code::AlreadyExists)
    }

    /// True if the request or its object is not valid; [`Error::field_violations`] say where.
    pub fn is_invalid(&self) -> bool {
        let reasons = [ErrorReason::Invalid, ErrorReason::BadRequest, ErrorReason::RequestTooLarge];
        self.is(&reasons, Code::InvalidArgument)
    }

    /// True if a uid or revision that was given does not hold any more: read again, then decide.
    pub fn is_conflict(&self) -> bool {
        self.reason() == Some(ErrorReason::Conflict)
    }

    /// True if a revision to watch from, or a page of a list, is no longer kept: list again.
    pub fn is_expired(&self) -> bool {
        self.reason() == Some(ErrorReason::Expired)
    }

    /// True if there was no token, or a wrong one.
    pub fn is_unauthenticated(&self) -> bool {
        self.is(&[ErrorReason::Unauthenticated], Code::Unauthenticated)
    }

    /// True if the caller is known, but not allowed to.
    pub fn is_permission_denied(&self) -> bool {
        self.is(&[ErrorReason::PermissionDenied], Code::PermissionDenied)
    }

    /// True if a limit of the cluster is reached; waiting alone need not help.
    pub fn is_limit_exceeded(&self) -> bool {
        matches!(self.reason(), Some(ErrorReason::LimitExceeded | ErrorReason::TooManyRequests))
    }

    /// True if no server could answer in time, and nothing was changed: it may go better later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Unavailable { .. })
    }

    /// Path and description of each wrong field, in Kubernetes' words; none of errors of other kinds.
    pub fn field_violations(&self) -> &[(String, String)] {
        match self {
            Error::Refused { field_violations, .. } => field_violations,
            _ => &[],
        }
    }

    /// By reason, or by code where something between has refused.
    fn is(&self, reasons: &[ErrorReason], without_reason: Code) -> bool {
        match self {
            Error::Refused { word: None, code, .. } => *code == without_reason,
            _ => self.reason().is_some_and(|reason| reasons.contains(&reason)),
        }
    }

    /// `message` is what the connection or the server said.
    pub(crate) fn outcome_unknown(message: &str) -> Error {
        // A server that knows as little says so in the same words, with its cause in brackets.
        let said = message.strip_prefix("the outcome is unknown (").and_then(|rest| rest.split_once("):"));
        let cause = said.map_or(message, |(cause, _)| cause).to_owned();
        Error::OutcomeUnknown { cause, request_id: None }
    }

    /// Of a status that is the caller's business.
    pub(crate) fn of_status(failed: &Status) -> Error {
        let message = match failed.message() {
            "" => failed.code().to_string(),
            message => message.to_owned(),
        };
        Error::Refused {
            reason: ErrorReason::of(failed),
            word: status::reason_word(failed),
            code: failed.code(),
            message,
            field_violations: status::field_violations(failed)
                .into_iter()
                .map(|violation| (violation.field, violation.description))
                .collect(),
        }
    }

    pub(crate) fn answer(error: impl std::fmt::Display) -> Error {
        Error::Answer { message: error.to_string() }
    }
}
/// As people say it: a limit of 15 s is used up after 14.9999 s.
fn rounded(duration: Duration) -> String {
    const STEP_MS: u128 = 100;
    let steps = (duration.as_millis() + STEP_MS / 2) / STEP_MS;
    match u64::try_from(steps * STEP_MS) {
        Ok(0) | Err(_) => format!("{duration:?}"),
        Ok(milliseconds) => format!("{:?}", Duration::from_millis(milliseconds)),
    }
}
