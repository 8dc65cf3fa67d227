//! The overlay: changes of rows that were applied and may not be in the engine yet.
//!
//! Owns: reading rows with those changes on top (decision 5), and gathering each batch's changes, the last one of each row.
//! Does not own: when batches are written.
//!
//! Invariant: a change leaves the overlay only after its batch is in the engine, so a read sees it in one of the two.

use crate::codec::{decode_row, decode_row_key, encode_bound, encode_row, encode_row_key};
use crate::engine::{Engine, EngineError, Table, is_range};
use crate::error::{CodecError, Error};
use crate::view::engine_error;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use stint_core::{RowChange, RowChangeKind, RowKey, RowRange, StoredRow};

/// Key and last content of rows; none: the row is gone.
pub(crate) type EncodedChanges = Vec<(Vec<u8>, Option<Bytes>)>;

/// See the module. Batch numbers are 1, 2, 3, …
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    rows: BTreeMap<Vec<u8>, Unwritten>,
    /// Sealed batches that may not be written yet, each with the keys that it changed.
    sealed: VecDeque<(u64, Vec<Vec<u8>>)>,
    /// Keys of the batch that is being gathered.
    gathering: Vec<Vec<u8>>,
    gathering_bytes: usize,
    sealed_number: u64,
}

#[derive(Debug)]
struct Unwritten {
    /// The last batch that changed the row.
    batch: u64,
    /// None: deleted.
    row: Option<StoredRow>,
}

/// Why rows could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Engine(EngineError),
    Codec(CodecError),
}

impl ReadError {
    pub(crate) fn into_error(self, folder: &std::path::Path) -> Error {
        match self {
            ReadError::Engine(error) => engine_error(folder, error),
            ReadError::Codec(error) => {
                Error::Damaged { folder: folder.to_owned(), what: format!("a row: {error}") }
            }
        }
    }
}

impl Overlay {
    /// Adds a change to the batch that is being gathered.
    pub(crate) fn record(&mut self, change: &RowChange) {
        /// What a change weighs beside its content; only for deciding when a batch is large enough.
        const CHANGE_BYTES: usize = 256;
        let row = match &change.kind {
            RowChangeKind::Added(row) | RowChangeKind::Modified(row) => {
                Some(StoredRow { revision: change.revision, row: row.clone() })
            }
            RowChangeKind::Deleted(_) => None,
        };
        let key = encode_row_key(&change.key);
        let batch = self.sealed_number + 1;
        let previous = self.rows.insert(key.clone(), Unwritten { batch, row });
        if previous.is_none_or(|previous| previous.batch != batch) {
            self.gathering_bytes += CHANGE_BYTES;
            self.gathering.push(key);
        }
    }

    /// Roughly, how large the batch that is being gathered is.
    pub(crate) fn unsealed_bytes(&self) -> usize {
        self.gathering_bytes
    }

    /// Ends the batch: its number, and the last content of each row that it changed.
    pub(crate) fn seal(&mut self) -> (u64, EncodedChanges) {
        self.sealed_number += 1;
        self.gathering_bytes = 0;
        let keys = std::mem::take(&mut self.gathering);
        let changes = keys
            .iter()
            .map(|key| {
                let row = self.rows.get(key).and_then(|unwritten| unwritten.row.as_ref());
                (key.clone(), row.map(encode_row))
            })
            .collect();
        self.sealed.push_back((self.sealed_number, keys));
        (self.sealed_number, changes)
    }

    /// Forgets what is in the engine.
    pub(crate) fn forget_written(&mut self, batch: u64) {
        while let Some((number, _)) = self.sealed.front()
            && *number <= batch
        {
            let Some((_, keys)) = self.sealed.pop_front() else { return };
            for key in keys {
                // A later batch may have changed the row again.
                if self.rows.get(&key).is_some_and(|unwritten| unwritten.batch <= batch) {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// Forgets everything: a snapshot took the place of the rows.
    pub(crate) fn forget_all(&mut self) {
        *self = Overlay { sealed_number: self.sealed_number, ..Overlay::default() };
    }

    /// One row.
    pub(crate) fn get(
        &self,
        engine: &dyn Engine,
        table: Table,
        key: &RowKey,
    ) -> Result<Option<StoredRow>, ReadError> {
        let key = encode_row_key(key);
        if let Some(unwritten) = self.rows.get(&key) {
            return Ok(unwritten.row.clone());
        }
        let value = engine.get(table, &key).map_err(ReadError::Engine)?;
        value.map(decode_row).transpose().map_err(ReadError::Codec)
    }

    /// Rows in key order, at most `range.limit`.
    pub(crate) fn scan(
        &self,
        engine: &dyn Engine,
        table: Table,
        range: &RowRange,
    ) -> Result<Vec<(RowKey, StoredRow)>, ReadError> {
        let (from, to) = (encode_bound(&range.from), encode_bound(&range.to));
        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        if !is_range(bounds.0, bounds.1) || range.limit == 0 {
            return Ok(Vec::new());
        }
        // The first `limit` rows of the result are among the first `limit` of each source.
        let mut rows = BTreeMap::new();
        let mut scanned = Ok(());
        let mut visit = |key: &[u8], value: Bytes| {
            if !self.rows.contains_key(key) {
                rows.insert(key.to_vec(), Found::Encoded(value));
            }
            if rows.len() < range.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        engine
            .with_view(&mut |view| scanned = view.scan(table, bounds.0, bounds.1, &mut visit))
            .and(scanned)
            .map_err(ReadError::Engine)?;
        let unwritten = self.rows.range::<[u8], _>(bounds);
        let present = unwritten.filter_map(|(key, unwritten)| Some((key, unwritten.row.as_ref()?)));
        for (key, row) in present.take(range.limit) {
            rows.insert(key.clone(), Found::Decoded(row.clone()));
        }
        rows.into_iter()
            .take(range.limit)
            .map(|(key, row)| {
                let row = match row {
                    Found::Encoded(value) => decode_row(value).map_err(ReadError::Codec)?,
                    Found::Decoded(row) => row,
                };
                Ok((decode_row_key(&key).map_err(ReadError::Codec)?, row))
            })
            .collect()
    }
}

enum Found {
    Encoded(Bytes),
    Decoded(StoredRow),
}
