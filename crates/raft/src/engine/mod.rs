//! The storage engine: four ordered tables of bytes behind one write-ahead log.
//!
//! Owns: the traits [`Engine`] and [`View`], batches, and two engines: [`MemoryEngine`] for tests and, with feature
//! `rocksdb`, `RocksEngine`. Does not own: what the bytes mean, and who may write when (module `log_thread`).
//!
//! Invariants of each engine: a batch is written as a whole or not at all; batches are durable in the order in which they
//! were written (a synced one makes all before it durable); a view shows one moment; bytes that were altered on disk are an
//! error, never content.

mod memory;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(test)]
mod tests;

pub use memory::MemoryEngine;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksEngine;

use bytes::Bytes;
use std::ops::{Bound, ControlFlow};

/// One ordered table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Vote, positions, and which row set is in use.
    Meta,
    /// Log records by index.
    Log,
    /// One of the two row sets.
    RowsA,
    /// The other row set.
    RowsB,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 4] = [Table::Meta, Table::Log, Table::RowsA, Table::RowsB];
}

/// One change within a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a value.
    Put {
        /// Where.
        table: Table,
        /// Key.
        key: Vec<u8>,
        /// Value.
        value: Bytes,
    },
    /// Removes a value, if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Key.
        key: Vec<u8>,
    },
    /// Removes all values from `from` (included) to `to` (excluded).
    DeleteRange {
        /// Where.
        table: Table,
        /// First key.
        from: Vec<u8>,
        /// Key after the last.
        to: Vec<u8>,
    },
}

/// Changes that are written together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put { table, key, value });
    }

    /// Removes a value, if it is there.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.bytes += key.len();
        self.changes.push(Change::Delete { table, key });
    }

    /// Removes all values from `from` (included) to `to` (excluded).
    pub fn delete_range(&mut self, table: Table, from: Vec<u8>, to: Vec<u8>) {
        self.bytes += from.len() + to.len();
        self.changes.push(Change::DeleteRange { table, from, to });
    }

    /// Size of keys and values.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// When a batch is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the write returns, together with all batches before it.
    Synced,
    /// With the next synced batch, or earlier.
    Queued,
}

/// The engine failed. After a failed write nothing may be written any more (R2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not {action}: {problem}")]
pub struct EngineError {
    /// What was tried.
    pub action: &'static str,
    /// What the engine said.
    pub problem: String,
    /// True: what is on disk is not what was written. False: the engine could not do its work, such as for want of space.
    pub damage: bool,
}

impl EngineError {
    /// A failure that says nothing about what is on disk.
    pub fn failure(action: &'static str, problem: impl Into<String>) -> EngineError {
        EngineError { action, problem: problem.into(), damage: false }
    }

    /// What is on disk is not what was written.
    pub fn damage(action: &'static str, problem: impl Into<String>) -> EngineError {
        EngineError { action, problem: problem.into(), damage: true }
    }
}

/// What an engine tells of itself, of all its tables together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineFigures {
    /// Bytes of its files, without the write-ahead log.
    pub table_bytes: u64,
    /// Bytes of the write-ahead log.
    pub write_ahead_log_bytes: u64,
    /// Bytes that are in memory and not in a table's file yet.
    pub memory_bytes: u64,
    /// Bytes of blocks that are kept in memory for reads.
    pub cache_bytes: u64,
    /// Files that were not merged with others yet.
    pub unmerged_files: u64,
    /// Bytes that have to be merged, by the engine's own estimate.
    pub pending_compaction_bytes: u64,
    /// Merges that are under way.
    pub compactions: u64,
    /// Tables that are being written from memory to a file.
    pub flushes: u64,
    /// True: writes wait until something was merged or flushed.
    pub writes_stopped: bool,
    /// Bytes per second that writes are slowed down to; 0: they are not.
    pub delayed_write_rate: u64,
    /// Bytes of the disk that the folder is on.
    pub disk_bytes: u64,
    /// Of them those that can still be used.
    pub disk_free_bytes: u64,
}

/// What `scan` calls for each row: go on, or stop.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>;

/// One moment of all tables.
pub trait View {
    /// One value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Values in key order, until the end of the range or until `visit` breaks.
    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError>;
}

/// A store of four ordered tables. All calls block.
pub trait Engine: Send + Sync + 'static {
    /// Writes a batch as a whole. Only one thread calls this.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError>;

    /// Reads one value as of now.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Calls `read` with a view of this moment. Writes go on meanwhile and are not seen.
    fn with_view(&self, read: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError>;

    /// Gives back the space of a table whose content was deleted. May do nothing.
    fn reclaim(&self, table: Table) -> Result<(), EngineError>;

    /// What the engine tells of itself. One that has no disk tells nothing.
    fn figures(&self) -> EngineFigures {
        EngineFigures::default()
    }
}

/// False for a range that ends before it starts: it has no rows, whatever a map or an iterator would make of it.
pub(crate) fn is_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(from), Bound::Included(to)) => from <= to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from < to
        }
    }
}
