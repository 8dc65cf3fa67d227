//! Errors on the wire: a stable reason for programs, a canonical code, a message for people, and details.
//!
//! Owns: the reasons and the one table from reason to code; how they travel (`google.rpc.ErrorInfo`, `BadRequest`,
//! `RetryInfo`). Does not own: when which error is answered, what a client does about it.
//!
//! Invariants: code `UNAVAILABLE` means that the request certainly changed nothing (decision 10); a status fits into a
//! header block of 16 KiB whatever it was made from.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::ConversionError;
use crate::limits::{RETRY_AFTER_MS_MAX, STATUS_DETAILS_BYTES_MAX, STATUS_MESSAGE_BYTES_MAX};

/// Domain of the reasons in `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "stint.dev";

/// Metadata of [`ErrorReason::NotLeader`]: where clients and agents reach the leader, as HOST:PORT.
pub const LEADER_ADDRESS: &str = "leaderAddress";

/// Metadata of [`ErrorReason::NotLeader`]: name of the leader.
pub const LEADER_NAME: &str = "leaderName";

/// Metadata of a status whose field violations did not all fit: how many were left out.
pub const OMITTED_VIOLATIONS: &str = "omittedViolations";

/// Defines the reasons together with their codes, so that none can be without one.
macro_rules! error_reasons {
    ($($(#[$doc:meta])* $name:ident => $code:ident,)*) => {
        /// Why a request failed: stable words for programs, and the canonical code that each always comes with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorReason {
            $($(#[$doc])* $name,)*
        }

        impl ErrorReason {
            /// All of them.
            pub const ALL: &[ErrorReason] = &[$(ErrorReason::$name),*];

            /// The reason's word, as it travels.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ErrorReason::$name => stringify!($name),)*
                }
            }

            /// The canonical gRPC code of the reason.
            pub fn code(self) -> Code {
                match self {
                    $(ErrorReason::$name => Code::$code,)*
                }
            }
        }
    };
}

error_reasons! {
    /// The request cannot be read: a selector, a token of a list, a name that is missing.
    BadRequest => InvalidArgument,
    /// The object is not valid; field violations say where.
    Invalid => InvalidArgument,
    /// The request is larger than a message may be.
    RequestTooLarge => InvalidArgument,
    /// The object does not exist.
    NotFound => NotFound,
    /// The name is taken.
    AlreadyExists => AlreadyExists,
    /// A uid or resourceVersion precondition does not hold, or a newer session took over. Read again, then decide.
    Conflict => Aborted,
    /// The object's state forbids it, such as deleting a node with a live lease.
    FailedPrecondition => FailedPrecondition,
    /// The container has no program of that name: a shell ends with 127.
    CommandNotFound => FailedPrecondition,
    /// What has that name in the container can't be executed: a shell ends with 126.
    CommandNotExecutable => FailedPrecondition,
    /// The revision or the list's token is no longer kept, or a watch was read too slowly. List again.
    Expired => OutOfRange,
    /// No token, or a wrong one.
    Unauthenticated => Unauthenticated,
    /// Known, but not allowed to.
    PermissionDenied => PermissionDenied,
    /// The server has as many requests as it may: certainly not carried out. Try again later.
    TooManyRequests => ResourceExhausted,
    /// A named limit of the cluster is reached, such as the number of unfinished Jobs; waiting alone need not help.
    LimitExceeded => ResourceExhausted,
    /// There is no leader, or no quorum: certainly not carried out. Try again.
    NoLeader => Unavailable,
    /// Another server leads, and this one does not forward this request: certainly not carried out.
    NotLeader => Unavailable,
    /// The server is about to stop: certainly not carried out. Try another one.
    ShuttingDown => Unavailable,
    /// The node that holds a log has no session. Try again later.
    NodeUnreachable => Unavailable,
    /// The request may or may not have been carried out. Read, or repeat a create with the same request id.
    OutcomeUnknown => DeadlineExceeded,
    /// A read did not get done in time; nothing was changed.
    Timeout => DeadlineExceeded,
    /// This server cannot do that.
    Unimplemented => Unimplemented,
    /// A defect of the server.
    Internal => Internal,
    /// What is stored is damaged.
    DataLoss => DataLoss,
}

impl ErrorReason {
    /// The reason of that word.
    pub fn parse(word: &str) -> Option<ErrorReason> {
        ErrorReason::ALL.iter().copied().find(|reason| reason.as_str() == word)
    }

    /// The reason that a status carries. `None` for a status that no stint server made, such as a broken connection's, or
    /// a newer server's whose reason is not known here: then only its code counts.
    pub fn of(status: &Status) -> Option<ErrorReason> {
        ErrorReason::parse(&reason_word(status)?)
    }
}

/// The word of the reason that a status carries, also one of a newer server that is not known here. `None` for a status that
/// no stint server made.
pub fn reason_word(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the names of Kubernetes' JSON, such as `spec.template.spec.restartPolicy`.
    pub field: String,
    /// What is wrong with it, in Kubernetes' words.
    pub description: String,
}

/// Everything that a status says. Made into a [`Status`] by servers, read from one by clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusDetails {
    /// Why.
    pub reason: ErrorReason,
    /// For people: lower case, names the object, what was broken, what to do next.
    pub message: String,
    /// Which fields are wrong.
    pub field_violations: Vec<FieldViolation>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Further facts by name, such as [`LEADER_ADDRESS`].
    pub metadata: BTreeMap<String, String>,
}

impl StatusDetails {
    /// Only a reason and a message.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> StatusDetails {
        StatusDetails {
            reason,
            message: message.into(),
            field_violations: Vec::new(),
            retry_after: None,
            metadata: BTreeMap::new(),
        }
    }

    /// And this field is wrong.
    pub fn with_field_violation(
        mut self,
        field: impl Into<String>,
        description: impl Into<String>,
    ) -> StatusDetails {
        self.field_violations.push(FieldViolation { field: field.into(), description: description.into() });
        self
    }

    /// And one may try again after this time.
    pub fn with_retry_after(mut self, retry_after: Duration) -> StatusDetails {
        self.retry_after = Some(retry_after);
        self
    }

    /// And this fact.
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> StatusDetails {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The status for the wire. What would not fit into a header block is shortened or left out, and says so: the message
    /// ends in `…`, metadata [`OMITTED_VIOLATIONS`] counts field violations.
    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        let mut bytes_left = STATUS_DETAILS_BYTES_MAX;
        let mut metadata = HashMap::with_capacity(self.metadata.len() + 1);
        for (name, value) in self.metadata {
            if take(&mut bytes_left, ENTRY_BYTES + name.len() + value.len()) {
                metadata.insert(name, value);
            }
        }
        let n_violations = self.field_violations.len();
        let mut n_sent = 0;
        for violation in self.field_violations {
            // The first is always there, shortened if need be: a status `Invalid` must name a field.
            let field = shortened(violation.field, STATUS_MESSAGE_BYTES_MAX);
            let description = shortened(violation.description, STATUS_MESSAGE_BYTES_MAX);
            if !take(&mut bytes_left, ENTRY_BYTES + field.len() + description.len()) && n_sent > 0 {
                break;
            }
            details.add_bad_request_violation(field, description);
            n_sent += 1;
        }
        if n_sent < n_violations {
            metadata.insert(OMITTED_VIOLATIONS.to_owned(), (n_violations - n_sent).to_string());
        }
        details.set_error_info(self.reason.as_str(), ERROR_DOMAIN, metadata);
        if let Some(retry_after) = self.retry_after {
            details.set_retry_info(Some(retry_after.min(Duration::from_millis(RETRY_AFTER_MS_MAX))));
        }
        let message = shortened(self.message, STATUS_MESSAGE_BYTES_MAX);
        Status::with_error_details(self.reason.code(), message, details)
    }

    /// What a status says; `None` as for [`ErrorReason::of`]. A retry hint is never longer than a minute.
    pub fn of(status: &Status) -> Option<StatusDetails> {
        let reason = ErrorReason::of(status)?;
        let details = status.get_error_details();
        let metadata = details.error_info().map(|info| info.metadata.clone()).unwrap_or_default();
        Some(StatusDetails {
            reason,
            message: status.message().to_owned(),
            field_violations: field_violations(status),
            retry_after: retry_after(status),
            metadata: metadata.into_iter().collect(),
        })
    }
}

impl From<StatusDetails> for Status {
    fn from(details: StatusDetails) -> Status {
        details.into_status()
    }
}

impl From<ConversionError> for StatusDetails {
    fn from(error: ConversionError) -> StatusDetails {
        StatusDetails::new(ErrorReason::Invalid, error.to_string())
            .with_field_violation(error.field(), error.detail())
    }
}

impl From<ConversionError> for Status {
    fn from(error: ConversionError) -> Status {
        StatusDetails::from(error).into_status()
    }
}

/// The fields that a status, whoever made it, says are wrong.
pub fn field_violations(status: &Status) -> Vec<FieldViolation> {
    let Some(bad_request) = status.get_details_bad_request() else {
        return Vec::new();
    };
    bad_request
        .field_violations
        .into_iter()
        .map(|violation| FieldViolation { field: violation.field, description: violation.description })
        .collect()
}

/// When a status, whoever made it, says that one may try again; never more than a minute.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let retry_info = status.get_details_retry_info()?;
    Some(retry_info.retry_delay?.min(Duration::from_millis(RETRY_AFTER_MS_MAX)))
}

/// What an entry of the details takes beside its texts, so that many empty ones are not free.
const ENTRY_BYTES: usize = 16;

/// True, and that much less is left, if there was enough.
fn take(bytes_left: &mut usize, bytes: usize) -> bool {
    match bytes_left.checked_sub(bytes) {
        Some(rest) => {
            *bytes_left = rest;
            true
        }
        None => false,
    }
}

/// At most so many bytes of a text; `…` where it was cut.
fn shortened(mut text: String, bytes_max: usize) -> String {
    const MARK: char = '…';
    if text.len() > bytes_max {
        let mut end = bytes_max - MARK.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a status in the header block that carries it.
    fn header_bytes(status: &Status) -> usize {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn what_is_made_is_read_back() {
        let details =
            StatusDetails::new(ErrorReason::Invalid, "Job.batch \"x\" is invalid: zwei Fehler: „…“")
                .with_field_violation(
                    "spec.parallelism",
                    "Invalid value: -1: must be greater than or equal to 0",
                )
                .with_field_violation("spec.template.spec.restartPolicy", "Required value")
                .with_retry_after(Duration::from_millis(1_500))
                .with_metadata(LEADER_ADDRESS, "s2:7440");
        let status = details.clone().into_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(StatusDetails::of(&status), Some(details));
    }

    #[test]
    fn every_reason_travels_with_its_code() {
        for reason in ErrorReason::ALL {
            let status = StatusDetails::new(*reason, "x").into_status();
            assert_eq!(status.code(), reason.code());
            assert_eq!(ErrorReason::of(&status), Some(*reason));
            assert_ne!(reason.code(), Code::Ok);
        }
    }

    #[test]
    fn unavailable_is_for_what_was_certainly_not_carried_out() {
        assert_eq!(ErrorReason::OutcomeUnknown.code(), Code::DeadlineExceeded);
        assert_eq!(ErrorReason::NoLeader.code(), Code::Unavailable);
        assert_eq!(ErrorReason::Expired.code(), Code::OutOfRange);
    }

    #[test]
    fn statuses_of_others_have_no_reason() {
        assert_eq!(ErrorReason::of(&Status::unavailable("connection refused")), None);
        let mut details = ErrorDetails::new();
        details.set_error_info("NotFound", "example.com", HashMap::new());
        let foreign = Status::with_error_details(Code::NotFound, "x", details);
        assert_eq!((ErrorReason::of(&foreign), reason_word(&foreign)), (None, None));
        let mut details = ErrorDetails::new();
        details.set_error_info("NewReason", ERROR_DOMAIN, HashMap::new());
        let newer = Status::with_error_details(Code::NotFound, "x", details);
        assert_eq!((ErrorReason::of(&newer), reason_word(&newer)), (None, Some("NewReason".to_owned())));
        let damaged = Status::with_details(Code::NotFound, "x", vec![0xff; 40].into());
        assert_eq!(ErrorReason::of(&damaged), None);
        assert_eq!(field_violations(&damaged), []);
        assert_eq!(retry_after(&damaged), None);
    }

    #[test]
    fn statuses_fit_into_a_header_block() {
        let long = "ü".repeat(1 << 20);
        let mut details = StatusDetails::new(ErrorReason::Invalid, long.clone())
            .with_metadata("x", long.clone())
            .with_retry_after(Duration::from_secs(1 << 40));
        for index in 0..10_000 {
            details = details.with_field_violation(format!("spec.x[{index}]"), "Required value");
        }
        let worst = details.clone().with_field_violation(long.clone(), long.clone());
        for details in
            [details, worst, StatusDetails::new(ErrorReason::Invalid, "x").with_field_violation(&long, &long)]
        {
            let n_violations = details.field_violations.len();
            let status = details.into_status();
            assert!(header_bytes(&status) < 16 << 10, "{}", header_bytes(&status));
            let read = StatusDetails::of(&status).unwrap();
            assert!(!read.field_violations.is_empty());
            let omitted: usize =
                read.metadata.get(OMITTED_VIOLATIONS).map_or(0, |count| count.parse().unwrap());
            assert_eq!(read.field_violations.len() + omitted, n_violations);
            assert!(read.retry_after.is_none_or(|delay| delay == Duration::from_secs(60)));
        }
    }

    #[test]
    fn a_conversion_error_names_its_field() {
        let error = ConversionError::required("status.containerStatuses[0].state");
        let details = StatusDetails::of(&Status::from(error)).unwrap();
        assert_eq!(details.reason, ErrorReason::Invalid);
        assert_eq!(details.field_violations[0].field, "status.containerStatuses[0].state");
        assert_eq!(details.field_violations[0].description, "Required value");
    }
}
