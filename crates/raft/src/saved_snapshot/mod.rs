//! Saved snapshots: files that leave their cluster, for a new one to be restored from.
//!
//! Owns: what such a file holds (`proto/stint/internal/v1/saved_snapshot.proto`), saving, checking and restoring one. Does
//! not own: files on operators' machines (crate `cli`), what a restore changes of the state (crate `core`), snapshots
//! that servers send each other (module `snapshot_frames`).
//!
//! Invariants: a file holds the rows of one moment, all of them; one of which a byte was lost, added, altered or moved is
//! refused, as is one of another version, before anything is written; a data folder is a server's only once everything is
//! in it.

mod reading;
mod restoring;
mod saving;
#[cfg(test)]
mod tests;

pub use reading::{check, verify};
pub use restoring::{Restored, restore};
pub(crate) use saving::{Origin, save};

use crate::codec::convert::{FromWire, ToWire, message};
use crate::error::{CodecError, Error};
use crate::frames::refused;
use crate::wire;
use stint_api::{ClusterId, Revision, Timestamp};

/// What a file begins with, up to the version of what follows.
const FIRST_WORDS: &str = "stint snapshot ";
/// That version.
const FILE_VERSION: u32 = 1;

/// What a saved snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSnapshotHeader {
    /// Format of its rows: [`crate::folder::DATA_FORMAT`] of the program that saved it.
    pub data_format: u32,
    /// Version of the logic of `apply` that made them.
    pub machine_version: u32,
    /// Version of the server that saved it.
    pub server_version: String,
    /// The cluster that it is of.
    pub cluster_id: ClusterId,
    /// Term of the last entry of the log that it has the effects of.
    pub term: u64,
    /// Log index of that entry.
    pub log_index: u64,
    /// Revision of the last row change.
    pub revision: Revision,
    /// The cluster's time.
    pub time: Timestamp,
    /// Wall clock of the server that saved it.
    pub saved_at: Timestamp,
    /// Name of that server.
    pub saved_by: String,
    /// What is in it.
    pub counts: SavedSnapshotCounts,
}

/// How much of everything a saved snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SavedSnapshotCounts {
    /// Jobs, finished ones included.
    pub jobs: u64,
    /// Jobs that are neither Complete nor Failed.
    pub unfinished_jobs: u64,
    /// Pods, ended ones included.
    pub pods: u64,
    /// Pods that have not ended.
    pub unfinished_pods: u64,
    /// Nodes.
    pub nodes: u64,
    /// ConfigMaps.
    pub config_maps: u64,
    /// Rows of all kinds.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub row_bytes: u64,
}

fn first_line() -> String {
    format!("{FIRST_WORDS}{FILE_VERSION}\n")
}

message!(SavedSnapshotHeader {
    data_format,
    machine_version,
    server_version,
    cluster_id,
    term,
    log_index,
    revision,
    time,
    saved_at,
    saved_by,
    counts,
});
message!(SavedSnapshotCounts {
    jobs,
    unfinished_jobs,
    pods,
    unfinished_pods,
    nodes,
    config_maps,
    rows,
    row_bytes,
});

impl SavedSnapshotCounts {
    /// Counts a row: an encoded key with an encoded value.
    fn add(&mut self, key: &[u8], value: &bytes::Bytes) -> Result<(), Error> {
        use stint_core::RowKey;
        self.rows += 1;
        self.row_bytes += (key.len() + value.len()) as u64;
        let read = || crate::codec::decode_row(value.clone()).map(|stored| stored.row);
        match crate::codec::decode_row_key(key)? {
            RowKey::Job(_) => {
                self.jobs += 1;
                if let stint_core::Row::Job(job) = read()? {
                    self.unfinished_jobs += u64::from(!job.is_finished());
                }
            }
            RowKey::Pod(_) => {
                self.pods += 1;
                if let stint_core::Row::Pod(pod) = read()? {
                    self.unfinished_pods += u64::from(!pod.phase.is_terminal());
                }
            }
            RowKey::Node(_) => self.nodes += 1,
            RowKey::ConfigMap { .. } => self.config_maps += 1,
            _ => {}
        }
        Ok(())
    }
}

/// The first thing that is looked at of a header: whether its rows can be understood.
fn check_versions(header: &SavedSnapshotHeader) -> Result<(), Error> {
    use crate::folder::{DATA_FORMAT, MACHINE_VERSION};
    if (header.data_format, header.machine_version) == (DATA_FORMAT, MACHINE_VERSION) {
        return Ok(());
    }
    Err(refused(&format!(
        "stint {} saved it with data format {}, machine version {}; this program knows data format {DATA_FORMAT}, machine \
         version {MACHINE_VERSION}: use it with the version of stint that saved it",
        header.server_version, header.data_format, header.machine_version
    )))
}
