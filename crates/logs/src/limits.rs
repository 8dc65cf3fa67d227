//! Limits of what is kept of logs outside their nodes.
//!
//! Owns: the numbers and their reasons.

/// Bytes of entries in the tail of a run that servers keep: enough for the last words of any program, little enough to keep
/// thousands of them.
pub const TAIL_BYTES_MAX: usize = 64 << 10;

/// Bytes of entries in a piece given to a reader, if no single entry is longer.
pub const PIECE_BYTES_MAX: usize = 32 << 10;

/// Bytes of entries in a part of an archived log: it is held in memory as a whole by whoever uploads or reads it.
pub const ARCHIVE_PART_BYTES_MAX: usize = 4 << 20;

/// Parts of one archived log that are looked at: a log of 40 GB.
pub const ARCHIVE_PARTS_MAX: usize = 10_000;

/// zstd's level for excerpts: text shrinks to a fifth or less, at hundreds of megabytes a second.
pub const COMPRESSION_LEVEL: i32 = 3;
