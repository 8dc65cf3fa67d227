//! Limits of the client.
//!
//! Owns: the numbers, which are those of the contract in sdk/README.md. Does not own: the limits of the wire (crate
//! `proto`).

use std::time::Duration;

/// How long connecting to one server may take before the next is tried.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Pause before the second round over all servers, of which chance takes up to a half; doubled up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause between two rounds, unless a server asks for a longer one.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest pause that a server can ask for, before chance lengthens it by up to a quarter.
pub const RETRY_PAUSE_ASKED_MAX: Duration = Duration::from_secs(10);
/// How long a call with all its attempts may take, unless the caller says otherwise.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// How long one attempt may take where there are other servers to ask, unless it must not be repeated.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);
/// A create is never repeated later than this after its first attempt (decision 10).
pub const CREATE_REPEAT_MAX: Duration = Duration::from_secs(300);
/// Names that are tried where the servers make one that turns out to be taken.
pub const NAMES_MAX: usize = 8;
/// A stream that brought nothing counts as having worked if it was open for so long, so that its end begins a new count.
pub const STREAM_HEALTHY_AFTER: Duration = Duration::from_secs(1);
/// Watches and logs on one connection; beyond there is another one. Servers take 1,024 calls of one at once, and where there
/// is no more room no call of the client is sent.
pub const STREAMS_PER_CONNECTION_MAX: usize = 512;
/// HTTP/2 pings on connections, so that a server that vanished silently is noticed.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a ping may be unanswered.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Objects asked for per page of a list.
pub const PAGE_SIZE: u32 = 500;
/// How often a list, or a watch, begins anew because what it goes on from expired.
pub const LIST_RESTARTS_MAX: usize = 3;
/// Servers that a client may be given, and further ones that it may be told of by servers.
pub const ADDRESSES_MAX: usize = 64;
/// Longest prefix of a name that is made from a program's: servers add 5 characters, and Pods some more.
pub const NAME_PREFIX_BYTES_MAX: usize = 50;
/// Bytes of a line of a log that has not ended yet, past which it is given in pieces.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Messages to a Pod's command or connection that wait for the connection to the server; their bytes are bounded by credit.
pub const CHANNEL_REQUESTS_QUEUED_MAX: usize = 8;
