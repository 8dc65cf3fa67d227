//! Limits of replication and storage, in one place.
//!
//! Owns: the numbers and why they are what they are. Does not own: limits of the core and of the public wire.

/// Jobs that may wait for the log thread; past it their senders wait.
pub const LOG_QUEUE_JOBS_MAX: usize = 4_096;
/// Bytes that may wait for the log thread; past it their senders wait.
pub const LOG_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that go into one write and so share one fsync; enough for hundreds of entries, small against an election timeout.
pub const LOG_GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the newest entries that are kept in memory for replication and apply.
pub const LOG_CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that one read of the log returns at most, if it may stop early.
pub const LOG_READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest that the end of the log thread is waited for when a server stops.
pub const STORAGE_CLOSE_TIMEOUT_MS: u64 = 3_000;
/// Between two looks at whether it has ended.
pub const STORAGE_CLOSE_POLL_MS: u64 = 2;

/// Entries that are applied before their rows are given to the log thread; more would only make the batch larger.
pub const APPLY_ENTRIES_MAX: usize = 256;
/// Bytes of row changes after which they are given to the log thread, even if fewer entries were applied.
pub const APPLY_ROW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A snapshot is built after so many entries. A restart replays at most so many, in well under a second.
pub const SNAPSHOT_AFTER_ENTRIES: u64 = 100_000;
/// Entries that are kept behind a snapshot, so that a follower that was away for a moment needs no snapshot.
pub const ENTRIES_KEPT_BEHIND_SNAPSHOT: u64 = 20_000;
/// A snapshot is built after so many bytes of log, even if fewer entries were written.
pub const SNAPSHOT_AFTER_LOG_BYTES: u64 = 512 * 1024 * 1024;
/// Bytes of log that are kept behind a snapshot, even if these are fewer entries.
pub const LOG_BYTES_KEPT_BEHIND_SNAPSHOT: u64 = 256 * 1024 * 1024;
/// The size of the log is known to so many bytes.
pub const LOG_GROWTH_MARK_BYTES: u64 = 1024 * 1024;
/// A follower that lags by more entries than this is sent a snapshot; more than what is between two snapshots.
pub const REPLICATION_LAG_ENTRIES: u64 = 150_000;
/// Bytes of rows in one chunk of a snapshot file.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Largest frame that is read from a snapshot file: one chunk and its largest row.
pub const SNAPSHOT_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

// ---- the peer port, bootstrap, membership, proposals ----

/// A handshake takes two round trips; a stranger holds a place no longer than this.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 3_000;
/// Largest frame of a handshake.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 2_048;
/// Longest name of a server.
pub const HANDSHAKE_NAME_BYTES_MAX: usize = 253;
/// Handshakes under way at once.
pub const PEER_HANDSHAKES_MAX: usize = 64;
/// Connections that wait to be served.
pub const PEER_ACCEPT_QUEUE_MAX: usize = 16;
/// Pause after the system refused to accept a connection, such as for want of file descriptors.
pub const ACCEPT_RETRY_MS: u64 = 50;
/// TCP connects within this or not at all; below the smallest election timeout would cut off slow names.
pub const DIAL_TIMEOUT_MS: u64 = 2_000;
/// Different refusals that are remembered so as not to log them again.
pub const LOGGED_REFUSALS_MAX: usize = 256;
/// A connection without an answer to a ping is dead after interval and timeout.
pub const HTTP2_KEEPALIVE_INTERVAL_MS: u64 = 2_000;
/// See [`HTTP2_KEEPALIVE_INTERVAL_MS`].
pub const HTTP2_KEEPALIVE_TIMEOUT_MS: u64 = 2_000;
/// Bytes in flight on one stream.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes in flight on one connection.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Bytes in flight on one stream of a forwarded request: its reader may read nothing, and thousands of them must not fill the
/// memory.
pub const HTTP2_FORWARDED_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Bytes in flight on the connection that forwarded requests share: all that HTTP/2 can express, so that streams that are not
/// read never keep the others from going on.
pub const HTTP2_FORWARDED_CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Largest message between servers: [`LOG_READ_BYTES_MAX`] and one more entry fit many times.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest that a vote, a question or a join waits for its answer.
pub const PEER_RPC_TIMEOUT_MS: u64 = 2_000;
/// Longest that an append stream waits to be opened.
pub const APPEND_SETUP_TIMEOUT_MS: u64 = 3_000;
/// An append unanswered for so long ends its stream: openraft does not limit streams itself.
pub const APPEND_ANSWER_TIMEOUT_MS: u64 = 5_000;
/// Pauses between attempts to replicate to a member that does not answer, in openraft's notation.
pub const REPLICATION_BACKOFF: &str = "50ms 100ms 200ms ...500ms";
/// Entries in one append.
pub const PAYLOAD_ENTRIES_MAX: u64 = 1_024;
/// Chunks of a snapshot that are read ahead of the network.
pub const SNAPSHOT_CHUNKS_AHEAD_MAX: usize = 4;
/// Longest pause between two chunks of a snapshot.
pub const SNAPSHOT_CHUNK_TIMEOUT_MS: u64 = 10_000;
/// Longest transfer of a snapshot, its installation included.
pub const SNAPSHOT_TRANSFER_TIMEOUT_MS: u64 = 600_000;

/// Between two heartbeats of a leader.
pub const HEARTBEAT_INTERVAL_MS: u64 = 100;
/// Earliest election after the last heartbeat.
pub const ELECTION_TIMEOUT_MIN_MS: u64 = 500;
/// Latest election after the last heartbeat.
pub const ELECTION_TIMEOUT_MAX_MS: u64 = 1_000;
/// A member whose last answer is older does not answer; a new leader judges nobody earlier.
pub const MEMBER_REACHABLE_MS: u64 = 2_000;
/// How often a server that hears of no leader asks the others whether it was removed.
pub const REMOVAL_LOOK_INTERVAL_MS: u64 = 3_000;
/// Times in a row that a leader must say so.
pub const REMOVAL_CONFIRMATIONS: u32 = 2;
/// A learner that lags by at most so many entries is promoted.
pub const PROMOTION_LAG_ENTRIES_MAX: u64 = 1_000;
/// Longest that a membership change is waited for.
pub const MEMBERSHIP_CHANGE_TIMEOUT_MS: u64 = 10_000;
/// Longest that a handover of leadership is waited for; an election comes by itself then.
pub const TRANSFER_TIMEOUT_MS: u64 = 3_000;
/// Between two looks at what a leader has to do beside replication.
pub const LEADER_DUTIES_INTERVAL_MS: u64 = 200;
/// Longest that a proposal is waited for; its outcome is unknown then.
pub const PROPOSE_TIMEOUT_MS: u64 = 10_000;
/// Longest that a proposal waits for a new leader's first entry.
pub const ESTABLISH_WAIT_MS: u64 = 1_000;
/// Longest that a linearizable read waits for apply.
pub const LINEARIZABLE_APPLY_TIMEOUT_MS: u64 = 5_000;

/// Between two rounds of questions of a server without a place.
pub const BOOTSTRAP_POLL_INTERVAL_MS: u64 = 200;
/// Between two repetitions of why such a server still waits.
pub const BOOTSTRAP_LOG_INTERVAL_MS: u64 = 10_000;
/// A refusal to join is final only after so long: a server that was just killed still seems alive.
pub const JOIN_REFUSAL_PATIENCE_MS: u64 = 10_000;

/// A wall clock farther away than this contradicts another (decision 2).
pub const CLOCK_TRUST_MS: i64 = 30_000;
/// Cluster time farther from the wall than this is an alarm.
pub const CLOCK_ALARM_MS: i64 = 30_000;
/// Cluster time is slewed by at most one part in so many.
pub const CLOCK_SLEW_DIVISOR: i64 = 10;
