//! Limits of the agent.
//!
//! Owns: the numbers. Does not own: lease numbers (crate `lease`), limits of the wire (crate `proto`), of log files (crate `runtime`).

use std::time::Duration;

/// The journal is written anew when it is longer than this and mostly history.
pub const JOURNAL_COMPACT_BYTES: u64 = 1 << 20;
/// Pods that the agent holds at once, those whose logs it keeps not included.
pub const PODS_HELD_MAX: usize = 10_000;
/// Reports sent and not acknowledged; further ones wait.
pub const REPORTS_IN_FLIGHT_MAX: usize = 1_024;
/// Reports in one message.
pub const REPORTS_PER_MESSAGE_MAX: usize = 256;
/// Messages queued for the stream.
pub const OUTGOING_MESSAGES_MAX: usize = 1_024;
/// Logs that are read for servers at once.
pub const LOG_READERS_MAX: usize = 64;
/// Bytes of one piece of a log.
pub const LOG_CHUNK_BYTES_MAX: usize = 64 << 10;
/// How long connecting to one server may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long the first answer of a session may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(3_000);
/// Pause before the same servers are tried again (agent-protocol: agents reconnect within 200 ms).
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(150);
/// Heartbeats between two questions for the desired set.
pub const HEARTBEATS_PER_DESIRED_SET: u64 = 3;
/// Ended Pods asked about at once (A8).
pub const ENDED_PODS_ASKED_MAX: usize = 1_000;
/// Orders that a server may send before it is given more.
pub const ORDER_CREDITS: u32 = 256;
/// Bytes of one message of the session.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// How long the agent sleeps at most: timers of the system stand still while the host sleeps, leases do not.
pub const SLEEP_MAX: Duration = Duration::from_millis(200);
/// How long the last reports may take when the agent is asked to stop.
pub const LAST_REPORTS_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Addresses of servers that an agent remembers, those it was started with not included.
pub const SERVER_ADDRESSES_MAX: usize = 16;
