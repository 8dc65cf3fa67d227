//! Limits of the wire.
//!
//! Owns: sizes that both ends of a connection must agree on, how a token is read. Does not own: limits of objects (validation)
//! and of the cluster (`core`).

use std::time::Duration;

/// Largest gRPC message that is sent or taken. tonic's own default for taking; stated so that both ends have it.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A page of a list, a part of a desired set or a batch of reports ends before it grows past this, so that what surrounds
/// it still fits below [`MESSAGE_BYTES_MAX`] together with one more object.
pub const PAGE_BYTES_MAX: usize = 2 << 20;

/// Objects on a page of a list if the request names no number.
pub const LIST_PAGE_ITEMS_DEFAULT: u32 = 500;

/// Objects on a page of a list, whatever the request asks for.
pub const LIST_PAGE_ITEMS_MAX: u32 = 1_000;

/// Longest idempotency key of a create; it is kept in the Job's row.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Longest bearer token; longer ones could not share a header block of 16 KiB with anything else.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// What is read of a file that should hold a token: some more than the longest one. A wrong file must not fill the memory.
pub const TOKEN_FILE_BYTES_MAX: u64 = 64 << 10;

/// How long a token is waited for that comes through a pipe: long enough for a program that fetches it from elsewhere, short
/// enough that a pipe into which nobody writes is found.
pub const TOKEN_FILE_PATIENCE: Duration = Duration::from_secs(10);

/// Longest message of a status; it travels percent-encoded, up to three times as long, and again in the details.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 1_024;

/// All field violations and metadata of a status together; they travel in a header block of which clients take 16 KiB.
pub const STATUS_DETAILS_BYTES_MAX: usize = 4_096;

/// Longest retry hint; a longer one would only look like an outage.
pub const RETRY_AFTER_MS_MAX: u64 = 60_000;

/// Largest piece of a log in one message: small enough for heartbeats to pass in between.
pub const LOG_CHUNK_BYTES_MAX: usize = 64 << 10;

/// What an agent may send of a log before the first credit: enough for a link of 100 Mbit/s and 20 ms.
pub const LOG_CREDIT_BYTES_INITIAL: u64 = 256 << 10;

/// Tails of logs in one message.
pub const LOG_TAILS_PER_MESSAGE_MAX: usize = 1_024;

/// Compressed bytes of tails of logs in one message: one that is as long as a tail can be fits, and reports that come behind
/// it do not wait long.
pub const LOG_TAILS_BYTES_MAX: usize = 256 << 10;

/// Ended Pods that an agent asks about at once (A8).
pub const HELD_ENDED_PODS_MAX: usize = 1_000;

/// Reports in one message of an agent (A10).
pub const REPORTS_PER_MESSAGE_MAX: usize = 256;

/// Reports of one agent that may be without acknowledgement (A10); further ones wait in its journal.
pub const REPORTS_IN_FLIGHT_MAX: usize = 1_024;

/// Orders that a server may send in a session before the first credit (A9); further ones are dropped.
pub const ORDER_CREDITS_INITIAL: u32 = 256;

/// Largest piece of input or output of a channel in one message.
pub const CHANNEL_PIECE_BYTES_MAX: usize = 64 << 10;

/// What may be sent through a channel before the first credit, in each direction.
pub const CHANNEL_CREDIT_BYTES_INITIAL: u64 = 256 << 10;

/// What a message of a channel counts at least: a flood of single bytes is bounded in number by this.
pub const CHANNEL_MESSAGE_BYTES_MIN: u64 = 256;

/// Program and arguments of a command that is executed through a channel; together they must fit into one message and into
/// what Linux lets a program have.
pub const EXEC_COMMAND_BYTES_MAX: usize = 128 << 10;

/// What a message with so many bytes of a channel's data counts of its credit.
pub fn channel_cost(data_bytes: usize) -> u64 {
    (data_bytes as u64).max(CHANNEL_MESSAGE_BYTES_MIN)
}
