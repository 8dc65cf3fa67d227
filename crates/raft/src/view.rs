//! What readers see: rows as of one moment.
//!
//! Owns: consistent reads of rows, and waiting until they are as new as asked for. Does not own: which reads are
//! linearizable (that is asked of the leader first), the objects that rows are composed into.

use crate::codec::{Applied, decode_row, decode_row_key, encode_bound, encode_row_key};
use crate::engine::{Engine, EngineError, EngineFigures, Table, View};
use crate::error::{CodecError, Error};
use crate::log_thread::LogWatch;
use crate::recovery::read_applied;
use crate::saved_snapshot::{self, Origin, SavedSnapshotHeader};
use crate::types::LogId;
use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;
use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::Arc;
use stint_api::Revision;
use stint_core::{RowKey, RowRange, StoredRow};

/// Rows read at a time when all of them are walked through.
const PAGE_ROWS: usize = 1_000;
/// Bytes of such rows, as they are stored, beyond which no further one is read at a time: tails of logs are large.
const PAGE_BYTES: usize = 4 << 20;

/// What the storage tells of itself.
#[derive(Debug, Clone)]
pub struct StorageFigures {
    /// The engine.
    pub engine: EngineFigures,
    /// How long writes took that were on the disk afterwards, in seconds; goes on counting.
    pub sync_seconds: Histogram,
}

/// Gives out views. Cheap to clone.
#[derive(Clone)]
pub struct RowReader {
    folder: Arc<PathBuf>,
    engine: Arc<dyn Engine>,
    log: LogWatch,
}

impl RowReader {
    pub(crate) fn new(folder: PathBuf, engine: Arc<dyn Engine>, log: LogWatch) -> RowReader {
        RowReader { folder: Arc::new(folder), engine, log }
    }

    /// Waits until the rows have the effects of the log up to `applied_index`, then calls `read` with a view, on a thread
    /// that may block. Bound it by a deadline: an index that is never applied is waited for forever.
    pub async fn read<T, F>(&self, applied_index: u64, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&RowView<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.log.rows_written_up_to(applied_index).await?;
        let reader = self.clone();
        tokio::task::spawn_blocking(move || reader.read_now(read))
            .await
            .unwrap_or_else(|error| Err(Error::Stopped { cause: error.to_string() }))
    }

    /// Calls `read` with a view of the rows as they are now. Blocks on the disk.
    pub fn read_now<T, F>(&self, read: F) -> Result<T, Error>
    where
        F: FnOnce(&RowView<'_>) -> Result<T, Error>,
    {
        let mut read = Some(read);
        let mut result = None;
        self.engine
            .with_view(&mut |view| {
                if let Some(read) = read.take() {
                    result = Some(RowView::new(&self.folder, view).and_then(|view| read(&view)));
                }
            })
            .map_err(|error| self.failed(error))?;
        result.unwrap_or_else(|| Err(Error::Stopped { cause: "the engine gave no view".to_owned() }))
    }

    /// Saves the rows as they are once they have the effects of the log up to `applied_index`. `send` is called on a thread
    /// that may block; the view is held until it has taken the last piece.
    pub(crate) async fn save<F>(
        &self,
        applied_index: u64,
        origin: Origin,
        send: F,
    ) -> Result<SavedSnapshotHeader, Error>
    where
        F: FnMut(Bytes) -> Result<(), Error> + Send + 'static,
    {
        self.log.rows_written_up_to(applied_index).await?;
        let engine = Arc::clone(&self.engine);
        let saved = tokio::task::spawn_blocking(move || {
            let mut send = Some(send);
            let mut result = None;
            engine
                .with_view(&mut |view| {
                    if let Some(send) = send.take() {
                        result = Some(saved_snapshot::save(view, &origin, send));
                    }
                })
                .map_err(|error| Error::Snapshot { what: error.to_string() })?;
            result.unwrap_or_else(|| Err(Error::Stopped { cause: "the engine gave no view".to_owned() }))
        });
        saved.await.unwrap_or_else(|error| Err(Error::Stopped { cause: error.to_string() }))
    }

    /// What the storage tells of itself. Looks at the disk.
    pub(crate) fn figures(&self) -> StorageFigures {
        StorageFigures { engine: self.engine.figures(), sync_seconds: self.log.sync_seconds() }
    }

    /// All rows of the set in use, page by page, while nobody writes rows. Ends at the first error, which is left in `error`.
    pub(crate) fn all_rows<'a>(&'a self, table: Table, error: &'a mut Option<Error>) -> AllRows<'a> {
        AllRows { reader: self, table, page: Vec::new().into_iter(), from: Bound::Unbounded, error }
    }

    fn failed(&self, error: EngineError) -> Error {
        engine_error(&self.folder, error)
    }
}

/// Rows as of one moment.
pub struct RowView<'a> {
    folder: &'a PathBuf,
    view: &'a dyn View,
    table: Table,
    applied: Applied,
}

impl<'a> RowView<'a> {
    fn new(folder: &'a PathBuf, view: &'a dyn View) -> Result<RowView<'a>, Error> {
        let (table, applied) =
            read_applied(view).map_err(|what| Error::Damaged { folder: folder.clone(), what })?;
        Ok(RowView { folder, view, table, applied })
    }

    /// One row.
    pub fn get(&self, key: &RowKey) -> Result<Option<StoredRow>, Error> {
        let value = self
            .view
            .get(self.table, &encode_row_key(key))
            .map_err(|error| engine_error(self.folder, error))?;
        Ok(value.map(decode_row).transpose()?)
    }

    /// Rows in key order, at most `range.limit`.
    pub fn scan(&self, range: &RowRange) -> Result<Vec<(RowKey, StoredRow)>, Error> {
        let mut rows = Vec::new();
        if range.limit > 0 {
            self.scan_while(&range.from, &range.to, |key, row| {
                rows.push((key, row));
                if rows.len() < range.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        Ok(rows)
    }

    /// Rows in key order, until `visit` breaks: for lists that filter while they read.
    pub fn scan_while<F>(&self, from: &Bound<RowKey>, to: &Bound<RowKey>, mut visit: F) -> Result<(), Error>
    where
        F: FnMut(RowKey, StoredRow) -> ControlFlow<()>,
    {
        let (from, to) = (encode_bound(from), encode_bound(to));
        let mut damage = None;
        self.view
            .scan(
                self.table,
                from.as_ref().map(Vec::as_slice),
                to.as_ref().map(Vec::as_slice),
                &mut |key, value| match decode_pair(key, value) {
                    Ok((key, row)) => visit(key, row),
                    Err(error) => {
                        damage = Some(error);
                        ControlFlow::Break(())
                    }
                },
            )
            .map_err(|error| engine_error(self.folder, error))?;
        damage.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Revision of the last change that the view has: the revision of a list made from it.
    pub fn revision(&self) -> Revision {
        self.applied.revision
    }

    /// Log index of the last entry whose effects the view has.
    pub fn applied_index(&self) -> Option<u64> {
        self.applied.log_id.map(|log_id: LogId| log_id.index())
    }
}

/// See [`RowReader::all_rows`].
pub(crate) struct AllRows<'a> {
    reader: &'a RowReader,
    table: Table,
    page: std::vec::IntoIter<(RowKey, StoredRow)>,
    from: Bound<Vec<u8>>,
    error: &'a mut Option<Error>,
}

impl AllRows<'_> {
    fn read_page(&mut self) -> Result<Vec<(RowKey, StoredRow)>, Error> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut damage = None;
        let mut last = None;
        let from = self.from.clone();
        let mut scanned = Ok(());
        self.reader
            .engine
            .with_view(&mut |view| {
                scanned = view.scan(
                    self.table,
                    from.as_ref().map(Vec::as_slice),
                    Bound::Unbounded,
                    &mut |key, value| {
                        bytes += key.len() + value.len();
                        match decode_pair(key, value) {
                            Ok(row) => rows.push(row),
                            Err(error) => damage = Some(error),
                        }
                        last = Some(key.to_vec());
                        if damage.is_none() && rows.len() < PAGE_ROWS && bytes < PAGE_BYTES {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        }
                    },
                );
            })
            .and(scanned)
            .map_err(|error| self.reader.failed(error))?;
        if let Some(last) = last {
            self.from = Bound::Excluded(last);
        }
        match damage {
            Some(error) => Err(Error::Damaged {
                folder: self.reader.folder.as_ref().clone(),
                what: format!("a row: {error}"),
            }),
            None => Ok(rows),
        }
    }
}

impl Iterator for AllRows<'_> {
    type Item = (RowKey, StoredRow);

    fn next(&mut self) -> Option<(RowKey, StoredRow)> {
        if let Some(row) = self.page.next() {
            return Some(row);
        }
        if self.error.is_some() {
            return None;
        }
        match self.read_page() {
            Ok(rows) => self.page = rows.into_iter(),
            Err(error) => *self.error = Some(error),
        }
        self.page.next()
    }
}

fn decode_pair(key: &[u8], value: Bytes) -> Result<(RowKey, StoredRow), CodecError> {
    Ok((decode_row_key(key).map_err(|error| error.within("row key"))?, decode_row(value)?))
}

pub(crate) fn engine_error(folder: &std::path::Path, error: EngineError) -> Error {
    if error.damage {
        return Error::Damaged { folder: folder.to_owned(), what: error.to_string() };
    }
    Error::Engine { folder: folder.to_owned(), action: error.action, problem: error.problem }
}
