//! Replication: openraft, RocksDB, peer transport, linearizable reads.
//!
//! Owns: log, vote, rows and snapshots on disk; the peer port; members and bootstrap; the internal protobufs
//! (`proto/stint/internal/v1`). Does not own: rules about Jobs (crate `core`), the public wire (crate `proto`).
//!
//! Invariants: what was acknowledged is on a quorum of disks; only the log thread writes; every byte read from disk or a
//! peer is checked and every conversion is total.

pub mod bootstrap;
mod chunks;
pub mod clock;
pub mod codec;
pub mod engine;
mod error;
pub mod folder;
mod frames;
pub mod limits;
mod log_growth;
mod log_store;
mod log_thread;
pub mod membership;
pub mod node;
mod overlay;
pub mod peer;
mod place;
mod recovery;
mod removal;
mod running;
pub mod saved_snapshot;
pub mod snapshot;
mod snapshot_frames;
mod state_machine;
pub mod status;
mod storage;
pub mod types;
mod view;

pub use bootstrap::InitialMember;
pub use error::{CodecError, Error};
pub use log_store::LogStore;
pub use membership::{MemberSelector, MembershipError};
pub use node::{InitialSettings, PeerListen, RaftNode, RaftNodeConfig, Thresholds, Timing};
pub use peer::PeerIdentity;
pub use place::StorageLocation;
pub use running::{ProposeError, ReadError, ReadIndex};
pub use state_machine::{
    AppliedBatch, AppliedPosition, ApplyObserver, SnapshotBuilder, StateMachine, StateReader,
};
pub use status::{
    Alarm, AlarmKind, LeaderInfo, Leadership, MemberRole, MemberStatus, RaftProgress, RaftStatus,
};
pub use storage::{Storage, StorageControl};
pub use view::{RowReader, RowView, StorageFigures};

/// Generated from `proto/stint/internal/v1/*.proto`; the documentation of every message and field is there.
#[allow(missing_docs, dead_code, clippy::all, clippy::unwrap_used, rustdoc::all, reason = "generated code")]
pub(crate) mod wire {
    tonic::include_proto!("stint.internal.v1");
}
