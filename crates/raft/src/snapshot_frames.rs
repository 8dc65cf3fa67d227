//! The content of a snapshot file: building it from a view, reading and checking it.
//!
//! Owns: the frames of `proto/stint/internal/v1/snapshot.proto`. Does not own: files (module `snapshot`), the row sets.
//!
//! Invariants: rows are in key order; a file of which a byte was lost, added, altered or moved is refused before its rows
//! come into use; the same rows give the same bytes.

use crate::chunks::for_each_chunk;
use crate::codec::convert::{FromWire, ToWire};
use crate::codec::{self, Applied};
use crate::engine::View;
use crate::error::{CodecError, Error};
use crate::frames::{Frame, file_error, refused};
use crate::recovery::read_applied;
use crate::snapshot::{SnapshotFile, SnapshotFolder, SnapshotWriter};
use crate::types::SnapshotMeta;
use crate::wire::{self, snapshot_frame::Frame as Content};
use bytes::Bytes;
use std::io;
use stint_api::{ClusterId, Revision};

/// Encoded row keys with encoded rows.
pub(crate) type EncodedRows = Vec<(Vec<u8>, Bytes)>;

/// Writes all rows of a view into a new file.
pub(crate) fn build_snapshot(
    view: &dyn View,
    folder: &SnapshotFolder,
    cluster_id: Option<ClusterId>,
) -> Result<(SnapshotMeta, SnapshotFile), Error> {
    let (table, applied) = read_applied(view).map_err(|what| Error::Snapshot { what })?;
    let meta = SnapshotMeta { last_log_id: applied.log_id, last_membership: applied.membership.clone() };
    let mut frames =
        FrameWriter { file: folder.create().map_err(file_error)?, checksums: Default::default() };
    frames.write(Content::Header(wire::SnapshotHeader {
        cluster_id: cluster_id.map(|id| id.to_wire()).unwrap_or_default(),
        description: Some(meta.to_wire()),
        revision: applied.revision.to_wire(),
    }))?;
    let mut row_count = 0;
    for_each_chunk(view, table, |chunk| {
        row_count += chunk.rows.len() as u64;
        frames.write(Content::Chunk(chunk))
    })?;
    let checksum = frames.checksums.clone().finalize();
    frames.write(Content::Trailer(wire::SnapshotTrailer { row_count, checksum }))?;
    Ok((meta, frames.file.finish().map_err(file_error)?))
}

/// Reads and checks a file from one end to the other; gives each chunk's rows to `use_rows`. What they were used for counts
/// only if this returns without error: the last check is at the end.
pub(crate) fn read_snapshot<F>(
    file: &SnapshotFile,
    expected: &SnapshotMeta,
    cluster_id: Option<ClusterId>,
    mut use_rows: F,
) -> Result<Applied, Error>
where
    F: FnMut(EncodedRows) -> Result<(), Error>,
{
    let mut frames = FrameReader {
        file: io::BufReader::new(file.open().map_err(file_error)?),
        checksums: Default::default(),
    };
    let Some(Content::Header(header)) = frames.read()? else {
        return Err(refused("it does not begin with a header"));
    };
    let applied = check_header(header, expected, cluster_id)?;
    let mut last_key: Vec<u8> = Vec::new();
    let mut row_count = 0;
    loop {
        let checksum = frames.checksums.clone().finalize();
        match frames.read()? {
            Some(Content::Chunk(chunk)) => {
                let mut rows = Vec::with_capacity(chunk.rows.len());
                for wire::SnapshotRow { key, value } in chunk.rows {
                    if key.as_ref() <= last_key.as_slice() {
                        return Err(refused("its rows are not in order"));
                    }
                    codec::decode_row_key(&key)?;
                    codec::decode_row(value.clone())?;
                    last_key = key.to_vec();
                    rows.push((last_key.clone(), value));
                }
                row_count += rows.len() as u64;
                use_rows(rows)?;
            }
            Some(Content::Trailer(trailer)) => {
                if trailer.checksum != checksum {
                    return Err(refused("its chunks are not those that were written"));
                }
                if trailer.row_count != row_count {
                    return Err(refused("it does not have as many rows as were written"));
                }
                return match frames.read()? {
                    None => Ok(applied),
                    Some(_) => Err(refused("something follows its end")),
                };
            }
            Some(Content::Header(_)) => return Err(refused("it has a second header")),
            None => return Err(refused("its end is missing")),
        }
    }
}

fn check_header(
    header: wire::SnapshotHeader,
    expected: &SnapshotMeta,
    cluster_id: Option<ClusterId>,
) -> Result<Applied, Error> {
    let description = header.description.ok_or_else(|| CodecError::missing().within("description"))?;
    let meta = SnapshotMeta::from_wire(description)?;
    if meta != *expected {
        return Err(refused(&format!("it is of {meta}, not of {expected}")));
    }
    if !header.cluster_id.is_empty()
        && let Some(expected) = cluster_id
    {
        let found = ClusterId::from_wire(header.cluster_id)?;
        if found != expected {
            return Err(refused(&format!("it is of cluster {found}, this server is in cluster {expected}")));
        }
    }
    Ok(Applied {
        log_id: meta.last_log_id,
        membership: meta.last_membership,
        revision: Revision(header.revision),
    })
}

struct FrameWriter {
    file: SnapshotWriter,
    checksums: crc32fast::Hasher,
}

impl FrameWriter {
    fn write(&mut self, frame: Content) -> Result<(), Error> {
        let frame = Frame::of(&wire::SnapshotFrame { frame: Some(frame) })?;
        self.checksums.update(&frame.checksum.to_le_bytes());
        self.file.append(&frame.bytes).map_err(file_error)
    }
}

struct FrameReader {
    file: io::BufReader<std::fs::File>,
    checksums: crc32fast::Hasher,
}

impl FrameReader {
    /// None at the end of the file.
    fn read(&mut self) -> Result<Option<Content>, Error> {
        let Some(frame) = Frame::read(&mut self.file)? else { return Ok(None) };
        self.checksums.update(&frame.checksum.to_le_bytes());
        let frame: wire::SnapshotFrame = frame.decode()?;
        Ok(Some(frame.frame.ok_or_else(|| CodecError::missing().within("snapshot frame"))?))
    }
}
