//! The rows of a view, one after another, and in chunks of which each fits into a frame of a snapshot.
//!
//! Owns: where one chunk ends and the next begins. Does not own: what else stands in a snapshot, and where it goes.
//!
//! Invariant: the same rows give the same chunks.

use crate::engine::{EngineError, Table, View};
use crate::error::Error;
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::wire;
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// Gives all rows to `use_row`, in key order, until its first error.
pub(crate) fn for_each_row(
    view: &dyn View,
    table: Table,
    mut use_row: impl FnMut(&[u8], Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut used = Ok(());
    view.scan(table, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        used = use_row(key, value);
        if used.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(read_failed)?;
    used
}

/// Gives all rows to `use_chunk`, in key order, until its first error; a chunk ends with the row that brings it to
/// [`SNAPSHOT_CHUNK_BYTES`]. None is empty.
pub(crate) fn for_each_chunk(
    view: &dyn View,
    table: Table,
    mut use_chunk: impl FnMut(wire::SnapshotChunk) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    for_each_row(view, table, |key, value| {
        bytes += key.len() + value.len();
        rows.push(wire::SnapshotRow { key: Bytes::copy_from_slice(key), value });
        if bytes < SNAPSHOT_CHUNK_BYTES {
            return Ok(());
        }
        bytes = 0;
        use_chunk(wire::SnapshotChunk { rows: std::mem::take(&mut rows) })
    })?;
    if rows.is_empty() { Ok(()) } else { use_chunk(wire::SnapshotChunk { rows }) }
}

/// What the engine says, as an error of the snapshot that is being made.
#[allow(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
pub(crate) fn read_failed(error: EngineError) -> Error {
    Error::Snapshot { what: error.to_string() }
}
