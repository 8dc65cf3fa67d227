//! Limits of the client.
//!
//! Owns: the numbers. Does not own: the limits of the wire (crate `proto`).

use std::time::Duration;

/// How long connecting to one server may take before the next is tried.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Pause before the second attempt; doubled up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause between two attempts, unless a server asks for a longer one.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest pause that a server can ask for.
pub const RETRY_PAUSE_ASKED_MAX: Duration = Duration::from_secs(10);
/// How long a call with all its attempts may take, unless the caller says otherwise.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// How long one attempt may take where there are other servers to ask, unless it must not be repeated.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);
/// A create is never repeated later than this after its first attempt (decision 10).
pub const CREATE_REPEAT_MAX: Duration = Duration::from_secs(300);
/// HTTP/2 pings on connections, so that a server that vanished silently is noticed.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a ping may be unanswered.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Objects asked for per page of a list.
pub const PAGE_SIZE: u32 = 500;
/// How often a list begins anew because its pages expired.
pub const LIST_RESTARTS_MAX: usize = 3;
/// Servers that a client may know.
pub const ADDRESSES_MAX: usize = 64;

/// Messages to a Pod's command or connection that wait for the connection to the server; their bytes are bounded by credit.
pub const CHANNEL_REQUESTS_QUEUED_MAX: usize = 8;
