//! Reading a saved snapshot, and all that is checked of it.

use super::{FILE_VERSION, FIRST_WORDS, SavedSnapshotCounts, SavedSnapshotHeader, check_versions};
use crate::codec::{self, convert::FromWire};
use crate::error::{CodecError, Error};
use crate::frames::{Frame, file_error, refused};
use crate::snapshot_frames::EncodedRows;
use crate::wire::{self, saved_snapshot_frame::Frame as Content};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read};
use stint_core::{CoreError, Row, RowKey, State, StoredRow};

/// Longest first line that is taken for one.
const FIRST_LINE_BYTES_MAX: u64 = 32;

/// Reads a saved snapshot from one end to the other: every checksum, count and row. Blocks on the disk.
///
/// # Errors
/// [`Error::Snapshot`] if it is damaged, cut short, none, or of another version.
pub fn verify(file: impl Read) -> Result<SavedSnapshotHeader, Error> {
    let mut reading = Reading::begin(file)?;
    while reading.next_rows()?.is_some() {}
    Ok(reading.header)
}

/// As [`verify`], and makes the state of its rows, as a restore does; needs the memory that a server would.
///
/// # Errors
/// As [`verify`], and if the rows are not those of a state.
pub fn check(file: impl Read) -> Result<SavedSnapshotHeader, Error> {
    let mut reading = Reading::begin(file)?;
    load(&mut reading)?;
    Ok(reading.header)
}

/// The state that a snapshot's rows are of.
pub(super) fn load(reading: &mut Reading<impl Read>) -> Result<State, Error> {
    let mut failed = None;
    let rows = Rows { reading, page: Vec::new().into_iter(), failed: &mut failed };
    let loaded = State::load(rows);
    if let Some(error) = failed {
        return Err(error);
    }
    let state = loaded.map_err(|error| not_a_state(&error))?;
    let header = &reading.header;
    let said = (header.revision, header.time, Some(header.cluster_id));
    let found = (state.revision(), state.time(), state.settings().map(|settings| settings.cluster_id));
    if said != found || state.meta().applied_log_index > header.log_index {
        return Err(refused("its rows are not those that its header speaks of"));
    }
    Ok(state)
}

pub(super) fn not_a_state(error: &CoreError) -> Error {
    Error::Snapshot { what: error.to_string() }
}

/// A file that is being read.
pub(super) struct Reading<R> {
    file: BufReader<R>,
    sha256: Sha256,
    pub(super) header: SavedSnapshotHeader,
    counted: SavedSnapshotCounts,
    last_key: Vec<u8>,
    /// The checksum of the whole, once the end was read.
    pub(super) end: Option<[u8; 32]>,
}

impl<R: Read> Reading<R> {
    /// Reads everything before the rows.
    pub(super) fn begin(file: R) -> Result<Reading<R>, Error> {
        let mut file = BufReader::new(file);
        let mut sha256 = Sha256::new();
        sha256.update(read_first_line(&mut file)?);
        let frame = Frame::read(&mut file).map_err(damaged)?.ok_or_else(cut_short)?;
        sha256.update(&frame.bytes);
        let Content::Header(header) = content_of(&frame)? else {
            return Err(refused("it is damaged: it does not begin with a header"));
        };
        let header = SavedSnapshotHeader::from_wire(header).map_err(|error| damaged(error.into()))?;
        check_versions(&header)?;
        let (counted, last_key) = (SavedSnapshotCounts::default(), Vec::new());
        Ok(Reading { file, sha256, header, counted, last_key, end: None })
    }

    /// The next rows; none at the end, which is checked then.
    pub(super) fn next_rows(&mut self) -> Result<Option<EncodedRows>, Error> {
        if self.end.is_some() {
            return Ok(None);
        }
        let frame = Frame::read(&mut self.file).map_err(damaged)?;
        let frame = frame.ok_or_else(cut_short)?;
        match content_of(&frame)? {
            Content::Chunk(chunk) => {
                self.sha256.update(&frame.bytes);
                self.rows_of(chunk).map(Some).map_err(damaged)
            }
            Content::Trailer(trailer) => {
                let sha256: [u8; 32] = self.sha256.clone().finalize().into();
                if trailer.sha256.as_ref() != sha256 {
                    return Err(refused("it is damaged: it is not as a whole what was written"));
                }
                if self.counted != self.header.counts {
                    return Err(refused("it is damaged: it does not have the rows that were written"));
                }
                if !self.file.fill_buf().map_err(file_error)?.is_empty() {
                    return Err(refused("it is damaged: something follows its end"));
                }
                self.end = Some(sha256);
                Ok(None)
            }
            Content::Header(_) => Err(refused("it is damaged: it has a second header")),
        }
    }

    fn rows_of(&mut self, chunk: wire::SnapshotChunk) -> Result<EncodedRows, Error> {
        let mut rows = Vec::with_capacity(chunk.rows.len());
        for wire::SnapshotRow { key, value } in chunk.rows {
            if key.as_ref() <= self.last_key.as_slice() {
                return Err(refused("its rows are not in order"));
            }
            self.counted.add(&key, &value)?;
            self.last_key = key.to_vec();
            rows.push((self.last_key.clone(), value));
        }
        Ok(rows)
    }
}

/// Tells a file of another program from one of a later version.
fn read_first_line(file: &mut impl BufRead) -> Result<String, Error> {
    let foreign = || refused("it is no snapshot that stint has saved");
    let mut line = Vec::new();
    file.take(FIRST_LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(file_error)?;
    let line = String::from_utf8(line).map_err(|_| foreign())?;
    let version = line.strip_prefix(FIRST_WORDS).and_then(|rest| rest.strip_suffix('\n'));
    let version: u32 = version.and_then(|version| version.parse().ok()).ok_or_else(foreign)?;
    match version {
        FILE_VERSION => Ok(line),
        later => Err(refused(&format!(
            "it has file version {later}, and this program knows version {FILE_VERSION}: use it with the version of stint \
             that saved it"
        ))),
    }
}

fn content_of(frame: &Frame) -> Result<Content, Error> {
    let content: wire::SavedSnapshotFrame = frame.decode().map_err(damaged)?;
    content.frame.ok_or_else(|| damaged(CodecError::missing().within("snapshot frame").into()))
}

fn cut_short() -> Error {
    refused("it is damaged: its end is missing")
}

/// Whatever is wrong, people are told that the file is.
fn damaged(error: Error) -> Error {
    match error {
        Error::Snapshot { what } => Error::Snapshot { what: format!("it is damaged: {what}") },
        error => Error::Snapshot { what: format!("it is damaged: {error}") },
    }
}

/// All rows, decoded. Ends at the first error.
struct Rows<'a, R> {
    reading: &'a mut Reading<R>,
    page: std::vec::IntoIter<(Vec<u8>, bytes::Bytes)>,
    failed: &'a mut Option<Error>,
}

impl<R: Read> Iterator for Rows<'_, R> {
    type Item = (RowKey, StoredRow);

    fn next(&mut self) -> Option<(RowKey, StoredRow)> {
        loop {
            if let Some((key, value)) = self.page.next() {
                match decode(&key, value) {
                    Ok(row) => return Some(row),
                    Err(error) => *self.failed = Some(damaged(error.into())),
                }
            }
            if self.failed.is_some() {
                return None;
            }
            match self.reading.next_rows() {
                Ok(Some(rows)) => self.page = rows.into_iter(),
                Ok(None) => return None,
                Err(error) => *self.failed = Some(error),
            }
        }
    }
}

pub(super) fn decode(key: &[u8], value: bytes::Bytes) -> Result<(RowKey, StoredRow), CodecError> {
    Ok((codec::decode_row_key(key)?, codec::decode_row(value)?))
}

/// The row that a restore changes.
pub(super) fn meta_of(value: bytes::Bytes) -> Result<stint_core::MetaRecord, Error> {
    match codec::decode_row(value)?.row {
        Row::Meta(meta) => Ok(meta.as_ref().clone()),
        _ => Err(refused("it is damaged: the row of the state is another one")),
    }
}
