//! Limits of what is kept of logs outside their nodes.
//!
//! Owns: the numbers and their reasons.

/// Bytes of entries in the tail of a run that servers keep: enough for the last words of any program, little enough to keep
/// thousands of them.
pub const TAIL_BYTES_MAX: usize = 64 << 10;

/// Bytes of entries in a piece given to a reader, if no single entry is longer.
pub const PIECE_BYTES_MAX: usize = 32 << 10;

/// zstd's level for excerpts: text shrinks to a fifth or less, at hundreds of megabytes a second.
pub const COMPRESSION_LEVEL: i32 = 3;
