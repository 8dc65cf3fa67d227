//! Saving: a view, piece by piece.

use super::{SavedSnapshotCounts, SavedSnapshotHeader, first_line};
use crate::chunks::{for_each_chunk, for_each_row, read_failed};
use crate::codec::convert::ToWire;
use crate::engine::View;
use crate::error::Error;
use crate::folder::{DATA_FORMAT, MACHINE_VERSION};
use crate::frames::{Frame, refused};
use crate::recovery::read_applied;
use crate::types::term_of;
use crate::wire::{self, saved_snapshot_frame::Frame as Content};
use bytes::Bytes;
use sha2::{Digest, Sha256};
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
    for_each_row(view, table, |key, value| counts.add(key, &value))?;
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
    for_each_chunk(view, table, |chunk| sink.frame(Content::Chunk(chunk)))?;
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
