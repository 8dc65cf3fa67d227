//! Replication: openraft, RocksDB, peer transport, linearizable reads.
//!
//! Owns: log, vote, rows and snapshots on disk; the peer port; members and bootstrap; the internal protobufs
//! (`proto/stint/internal/v1`). Does not own: rules about Jobs (crate `core`), the public wire (crate `proto`).
//!
//! Invariants: what was acknowledged is on a quorum of disks; only the log thread writes; every byte read from disk or a
//! peer is checked and every conversion is total.

pub mod codec;
pub mod engine;
mod error;
pub mod failpoint;
pub mod limits;
mod log_store;
mod log_thread;
mod recovery;
pub mod snapshot;
pub mod types;

pub use error::{CodecError, Error};
pub use log_store::LogStore;

/// Generated from `proto/stint/internal/v1/*.proto`; the documentation of every message and field is there.
#[allow(missing_docs, dead_code, clippy::all, clippy::unwrap_used, rustdoc::all, reason = "generated code")]
pub(crate) mod wire {
    tonic::include_proto!("stint.internal.v1");
}
