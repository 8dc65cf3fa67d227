//! Saving: a view, piece by piece.

use super::{SavedSnapshotCounts, SavedSnapshotHeader, first_line};
use crate::codec::convert::ToWire;
use crate::engine::{EngineError, Table, View};
use crate::error::Error;
use crate::folder::{DATA_FORMAT, MACHINE_VERSION};
use crate::frames::{Frame, refused};
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::recovery::read_applied;
use crate::types::term_of;
use crate::wire::{self, saved_snapshot_frame::Frame as Content};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::ops::{Bound, ControlFlow};
use stint_api::{ClusterId, Timestamp};
use stint_core::{Row, RowKey};

/// Where a snapshot comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) cluster_id: ClusterId,
    pub(crate) saved_at: Timestamp,
    pub(crate) saved_by: String,
    pub(crate) server_version: String,
}

/// Gives everything that a view holds to `send`, in order; its first error ends it.
pub(crate) fn save<F>(view: &dyn View, origin: &Origin, send: F) -> Result<SavedSnapshotHeader, Error>
where
    F: FnMut(Bytes) -> Result<(), Error>,
{
    let (table, applied) = read_applied(view).map_err(|what| Error::Snapshot { what })?;
    let not_initialized = || refused("the cluster is not initialized yet: there is nothing to save");
    let last = applied.log_id.ok_or_else(not_initialized)?;
    let key = crate::codec::encode_row_key(&RowKey::Meta);
    let meta = view.get(table, &key).map_err(read_failed)?.ok_or_else(not_initialized)?;
    let Row::Meta(meta) = crate::codec::decode_row(meta)?.row else {
        return Err(refused("the row of the state is another one"));
    };
    if meta.settings.is_none() {
        return Err(not_initialized());
    }
    // Known before the first row is sent: whoever reads the file is told at once what is in it.
    let mut counts = SavedSnapshotCounts::default();
    scan(view, table, |key, value| counts.add(key, &value))?;
    let header = SavedSnapshotHeader {
        data_format: DATA_FORMAT,
        machine_version: MACHINE_VERSION,
        server_version: origin.server_version.clone(),
        cluster_id: origin.cluster_id,
        term: term_of(&last),
        log_index: last.index(),
        revision: applied.revision,
        time: meta.time,
        saved_at: origin.saved_at,
        saved_by: origin.saved_by.clone(),
        counts,
    };
    let mut sink = Sink { send, sha256: Sha256::new() };
    sink.send(first_line().into())?;
    sink.frame(Content::Header(header.to_wire()))?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    scan(view, table, |key, value| {
        bytes += key.len() + value.len();
        rows.push(wire::SnapshotRow { key: Bytes::copy_from_slice(key), value });
        if bytes < SNAPSHOT_CHUNK_BYTES {
            return Ok(());
        }
        bytes = 0;
        sink.frame(Content::Chunk(wire::SnapshotChunk { rows: std::mem::take(&mut rows) }))
    })?;
    if !rows.is_empty() {
        sink.frame(Content::Chunk(wire::SnapshotChunk { rows }))?;
    }
    let sha256 = Bytes::copy_from_slice(&sink.sha256.clone().finalize());
    sink.frame(Content::Trailer(wire::SavedSnapshotTrailer { sha256 }))?;
    Ok(header)
}

struct Sink<F> {
    send: F,
    sha256: Sha256,
}

impl<F: FnMut(Bytes) -> Result<(), Error>> Sink<F> {
    fn send(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.sha256.update(&bytes);
        (self.send)(bytes)
    }

    fn frame(&mut self, content: Content) -> Result<(), Error> {
        self.send(Frame::of(&wire::SavedSnapshotFrame { frame: Some(content) })?.bytes)
    }
}

/// All rows in key order, until the first error.
fn scan(
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

#[allow(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
fn read_failed(error: EngineError) -> Error {
    Error::Snapshot { what: error.to_string() }
}
