//! The durable engine: one RocksDB, one write-ahead log, a column family per table.
//!
//! Owns: its options; the file SYNCED, which remembers how far writes were synced. Does not own: what is written.
//!
//! Invariants: a synced write survives power loss, and so does all that was written before it (one write-ahead log; RocksDB
//! syncs it before it lets a flushed file of one column family be seen without the others); a torn tail of the write-ahead
//! log is dropped, damage anywhere else in it refuses to open; every block that is read has its checksum verified.
//!
//! RocksDB itself takes a record of the write-ahead log's last block whose length was altered for a torn tail, drops it with
//! all that follows, and knows nothing of a newest log file that is gone; so it does with its own description of the files.
//! SYNCED catches all of that: it holds the sequence number
//! of the last synced write, and a database that ends before it is refused. It is written after each sync and not synced
//! itself, so it can be too low after a power failure, which is harmless, but never too high.

use super::{Batch, Change, Durability, Engine, EngineError, EngineFigures, Table, View, Visit};
use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, SnapshotWithThreadMode, WriteBatch,
    WriteOptions,
};
use std::fs::File;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Blocks of all tables that are kept uncompressed in memory.
const BLOCK_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Memory of one table before it is written to a file.
const WRITE_BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// Buffers of a table that may wait to be written before writes stall.
const WRITE_BUFFERS_MAX: i32 = 6;
/// Size of the write-ahead log at which tables that hold it back are flushed.
const WAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Unmerged files of a table at which writes slow down: far away, because a stall of one table stops the writes of all, and
/// an fsync must not wait past an election timeout for the rows' compaction.
const LEVEL_ZERO_SLOWDOWN_FILES: i32 = 200;
/// Unmerged files of a table at which writes stop.
const LEVEL_ZERO_STOP_FILES: i32 = 400;
/// RocksDB's own log files that are kept.
const INFO_LOG_FILES_MAX: usize = 4;
/// In the database's folder; RocksDB leaves alone what it does not know.
const SYNCED_FILE: &str = "SYNCED";

/// RocksDB behind [`Engine`].
pub struct RocksEngine {
    db: DB,
    queued: WriteOptions,
    synced: WriteOptions,
    synced_mark: SyncedMark,
}

impl RocksEngine {
    /// Opens the database in a folder, or creates it.
    pub fn open(path: &Path) -> Result<RocksEngine, EngineError> {
        let synced_mark = SyncedMark::open(path)?;
        let synced = synced_mark.read()?;
        let mut options = Options::default();
        // Once something was synced all tables are there: a description that lacks one is damaged. RocksDB would make the table
        // anew, and skip what the write-ahead log has for the old one.
        options.create_if_missing(synced.is_none());
        options.create_missing_column_families(synced.is_none());
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_paranoid_checks(true);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_max_total_wal_size(WAL_BYTES_MAX);
        options.set_keep_log_file_num(INFO_LOG_FILES_MAX);
        options.set_log_level(LogLevel::Warn);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
        let families =
            Table::ALL.map(|table| ColumnFamilyDescriptor::new(name(table), table_options(&blocks)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(open_failed)?;
        check_end(db.latest_sequence_number(), synced)?;
        let queued = WriteOptions::default();
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(RocksEngine { db, queued, synced, synced_mark })
    }

    /// A property of a table; 0: RocksDB has none of this name.
    fn number(&self, family: &ColumnFamily, property: &str) -> u64 {
        self.db.property_int_value_cf(family, property).ok().flatten().unwrap_or_default()
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, EngineError> {
        self.db.cf_handle(name(table)).ok_or_else(|| {
            EngineError::damage("find a table", format!("the database has no column family {}", name(table)))
        })
    }
}

/// Refuses a database that has less than was synced.
fn check_end(latest: u64, synced: Option<u64>) -> Result<(), EngineError> {
    match synced {
        Some(synced) if latest < synced => Err(EngineError::damage(
            "open the database",
            format!(
                "it ends with write {latest}, but write {synced} was synced: the end of its write-ahead log is damaged or \
                 gone"
            ),
        )),
        _ => Ok(()),
    }
}

/// The file SYNCED: a sequence number and its checksum. All zero, as a file system may leave it after a power failure: none.
struct SyncedMark(File);

impl SyncedMark {
    fn open(folder: &Path) -> Result<SyncedMark, EngineError> {
        let open = |folder: &Path| {
            std::fs::create_dir_all(folder)?;
            let path = folder.join(SYNCED_FILE);
            File::options().read(true).write(true).create(true).truncate(false).open(path)
        };
        open(folder)
            .map(SyncedMark)
            .map_err(|error| EngineError::failure("open the file SYNCED", error.to_string()))
    }

    /// None: nothing was synced yet.
    fn read(&self) -> Result<Option<u64>, EngineError> {
        let mut bytes = [0; 12];
        match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) if bytes == [0; 12] => return Ok(None),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(EngineError::failure("read the file SYNCED", error.to_string())),
        }
        let [number @ .., _, _, _, _] = bytes;
        let synced = u64::from_le_bytes(number);
        if bytes != Self::encode(synced) {
            return Err(EngineError::damage("open the database", "its file SYNCED is not what was written"));
        }
        Ok(Some(synced))
    }

    fn set(&self, synced: u64) -> Result<(), EngineError> {
        self.0
            .write_all_at(&Self::encode(synced), 0)
            .map_err(|error| EngineError::failure("write the file SYNCED", error.to_string()))
    }

    fn encode(synced: u64) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&synced.to_le_bytes());
        // Zero has a checksum that is not zero: what is all zero was never written.
        bytes[8..].copy_from_slice(&crc32fast::hash(&synced.to_le_bytes()).to_le_bytes());
        bytes
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut writes = WriteBatch::with_capacity_bytes(batch.len_bytes() + 64 * batch.changes().len());
        for change in batch.changes() {
            match change {
                Change::Put { table, key, value } => writes.put_cf(self.family(*table)?, key, value),
                Change::Delete { table, key } => writes.delete_cf(self.family(*table)?, key),
                // RocksDB counts an empty range as a write and skips it when it reads its log: SYNCED would be too high.
                Change::DeleteRange { table, from, to } if from < to => {
                    writes.delete_range_cf(self.family(*table)?, from, to);
                }
                Change::DeleteRange { .. } => {}
            }
        }
        let options = match durability {
            Durability::Synced => &self.synced,
            Durability::Queued => &self.queued,
        };
        self.db.write_opt(writes, options).map_err(|error| failed("write", error))?;
        match durability {
            // Only one thread writes: the latest write is this one.
            Durability::Synced => self.synced_mark.set(self.db.latest_sequence_number()),
            Durability::Queued => Ok(()),
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.db.get_cf(self.family(table)?, key).map_err(|error| failed("read", error))?;
        Ok(value.map(Bytes::from))
    }

    fn with_view(&self, read: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError> {
        read(&RocksView { engine: self, snapshot: self.db.snapshot() });
        Ok(())
    }

    fn reclaim(&self, table: Table) -> Result<(), EngineError> {
        self.db.compact_range_cf(self.family(table)?, None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn figures(&self) -> EngineFigures {
        let of_all = |property: &str| -> u64 {
            let tables = Table::ALL.into_iter().filter_map(|table| self.family(table).ok());
            tables.map(|family| self.number(family, property)).sum()
        };
        // What is about the whole database is said by each of its families.
        let of_one =
            |property: &str| self.family(Table::Meta).map_or(0, |family| self.number(family, property));
        let disk = nix::sys::statvfs::statvfs(self.db.path()).ok();
        let disk_bytes = |blocks: fn(&nix::sys::statvfs::Statvfs) -> u64| {
            disk.as_ref().map_or(0, |disk| blocks(disk).saturating_mul(disk.fragment_size()))
        };
        EngineFigures {
            table_bytes: of_all("rocksdb.total-sst-files-size"),
            write_ahead_log_bytes: write_ahead_log_bytes(self.db.path()),
            memory_bytes: of_all("rocksdb.size-all-mem-tables"),
            // All tables share one cache.
            cache_bytes: of_one("rocksdb.block-cache-usage"),
            unmerged_files: of_all("rocksdb.num-files-at-level0"),
            pending_compaction_bytes: of_all("rocksdb.estimate-pending-compaction-bytes"),
            compactions: of_one("rocksdb.num-running-compactions"),
            flushes: of_one("rocksdb.num-running-flushes"),
            writes_stopped: of_one("rocksdb.is-write-stopped") > 0,
            delayed_write_rate: of_one("rocksdb.actual-delayed-write-rate"),
            disk_bytes: disk_bytes(|disk| disk.blocks()),
            disk_free_bytes: disk_bytes(|disk| disk.blocks_available()),
        }
    }
}

/// Bytes of the files of the write-ahead log: RocksDB has no property for them.
fn write_ahead_log_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log"));
    logs.filter_map(|file| file.metadata().ok()).map(|facts| facts.len()).sum()
}

struct RocksView<'a> {
    engine: &'a RocksEngine,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl View for RocksView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let family = self.engine.family(table)?;
        let value = self.snapshot.get_cf(family, key).map_err(|error| failed("read", error))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        if !super::is_range(from, to) {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        if let Bound::Excluded(to) = to {
            // Keeps the iterator out of deleted rows behind the range.
            options.set_iterate_upper_bound(to);
        }
        let mode = match from {
            Bound::Included(from) | Bound::Excluded(from) => IteratorMode::From(from, Direction::Forward),
            Bound::Unbounded => IteratorMode::Start,
        };
        for row in self.snapshot.iterator_cf_opt(self.engine.family(table)?, options, mode) {
            let (key, value) = row.map_err(|error| failed("read", error))?;
            if matches!(from, Bound::Excluded(from) if from == &*key) {
                continue;
            }
            if matches!(to, Bound::Included(to) if to < &*key) {
                break;
            }
            if let ControlFlow::Break(()) = visit(&key, Bytes::from(value)) {
                break;
            }
        }
        Ok(())
    }
}

fn table_options(blocks: &BlockBasedOptions) -> Options {
    let mut options = Options::default();
    options.set_block_based_table_factory(blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_SLOWDOWN_FILES);
    options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_STOP_FILES);
    // 0: what waits to be compacted never stalls writes, see LEVEL_ZERO_SLOWDOWN_FILES.
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options
}

/// Names of column families are part of the format.
fn name(table: Table) -> &'static str {
    match table {
        Table::Meta => "meta",
        Table::Log => "log",
        Table::RowsA => "rows_a",
        Table::RowsB => "rows_b",
    }
}

fn failed(action: &'static str, error: rocksdb::Error) -> EngineError {
    let damage = error.kind() == ErrorKind::Corruption;
    EngineError { action, problem: error.into_string(), damage }
}

/// While it is opened, RocksDB has other words for damage too: a file that is missing, a description of itself that it does
/// not understand. Others, such as a full disk, are none.
fn open_failed(error: rocksdb::Error) -> EngineError {
    let kind = error.kind();
    let mut error = failed("open the database", error);
    error.damage |=
        matches!(kind, ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::NotSupported)
            || error.problem.contains("No such file");
    error
}
