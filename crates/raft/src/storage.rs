//! Everything that one server stores, opened together.
//!
//! Owns: the order of opening: check, then load, then start to write. Does not own: the data folder's identity.

#[cfg(test)]
mod tests;

use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::error::Error;
use crate::limits::{STORAGE_CLOSE_POLL_MS, STORAGE_CLOSE_TIMEOUT_MS};
use crate::log_store::LogStore;
use crate::log_thread::{LogWriter, ROW_KEYS, RowGate, other_row_set};
use crate::recovery::recover;
use crate::snapshot::SnapshotFolder;
use crate::state_machine::{ApplyObserver, StateMachine};
use crate::view::engine_error;
use bytes::Bytes;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stint_api::ClusterId;
use tokio::time::Instant;

/// The parts that openraft is given, and what the server keeps.
pub struct Storage {
    /// For openraft.
    pub log_store: LogStore,
    /// For openraft; take [`StateMachine::reader`] first.
    pub state_machine: StateMachine,
    /// For the transport: where received snapshots are written.
    pub snapshots: SnapshotFolder,
    /// Ends the storage in order.
    pub control: StorageControl,
}

/// What the server keeps of its storage. Drop it after openraft was shut down.
pub struct StorageControl {
    writer: LogWriter,
    thread: JoinHandle<()>,
}

impl StorageControl {
    /// From now on each log record carries the cluster's id; called once it is known.
    pub fn set_cluster_id(&self, cluster_id: ClusterId) {
        self.writer.set_cluster_id(cluster_id);
    }

    /// Returns once everything that was queued before is written. Says nothing about what is synced: appends and votes
    /// always are when they are acknowledged, rows need not be.
    pub async fn flush(&self) -> Result<(), Error> {
        self.writer.barrier().await
    }

    /// Waits until the log thread has ended, for a bounded time: it does once everything else of the storage was dropped, that
    /// is openraft and its clones of log store and state machine. A process should not end while its database is in use.
    pub async fn close(self) {
        let StorageControl { writer, thread } = self;
        drop(writer);
        let until = Instant::now() + Duration::from_millis(STORAGE_CLOSE_TIMEOUT_MS);
        while !thread.is_finished() {
            if Instant::now() >= until {
                tracing::warn!("the log thread has not ended in time");
                return;
            }
            tokio::time::sleep(Duration::from_millis(STORAGE_CLOSE_POLL_MS)).await;
        }
        join(thread);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("the log thread has panicked");
    }
}

impl Storage {
    /// Opens the durable storage of a data folder, or creates it. `cluster_id`, if known, must be that of the log.
    ///
    /// Refuses what is damaged; the message names the folder, what is wrong and what to do. Blocks while it reads all rows.
    #[cfg(feature = "rocksdb")]
    pub fn open(
        folder: &crate::folder::DataFolder,
        observer: Arc<dyn ApplyObserver>,
    ) -> Result<Storage, Error> {
        let engine = crate::engine::RocksEngine::open(&folder.database())
            .map_err(|error| engine_error(folder.path(), error))?;
        let cluster_id = folder.identity().place.map(|place| place.cluster_id);
        Storage::open_engine(Arc::new(engine), folder.path(), &folder.snapshots(), cluster_id, observer)
    }

    /// Opens storage on any engine. `folder` is what messages name.
    pub fn open_engine(
        engine: Arc<dyn Engine>,
        folder: &Path,
        snapshots: &Path,
        cluster_id: Option<ClusterId>,
        observer: Arc<dyn ApplyObserver>,
    ) -> Result<Storage, Error> {
        open(engine, folder.to_owned(), snapshots, cluster_id, observer, RowGate::BehindAppend)
    }
}

pub(crate) fn open(
    engine: Arc<dyn Engine>,
    folder: PathBuf,
    snapshots: &Path,
    cluster_id: Option<ClusterId>,
    observer: Arc<dyn ApplyObserver>,
    gate: RowGate,
) -> Result<Storage, Error> {
    let recovered = recover(engine.as_ref(), cluster_id)
        .map_err(|what| Error::Damaged { folder: folder.clone(), what })?;
    clear_unused_rows(engine.as_ref(), recovered.start.row_set)
        .map_err(|error| engine_error(&folder, error))?;
    let snapshots = SnapshotFolder::open(snapshots).map_err(|source| Error::Folder {
        folder: folder.clone(),
        action: "prepare its folder of snapshots",
        source,
    })?;
    let (writer, thread) = LogWriter::start(engine.clone(), recovered.start.clone(), gate)
        .map_err(|source| Error::Folder { folder: folder.clone(), action: "start its log thread", source })?;
    if let Some(cluster_id) = cluster_id {
        writer.set_cluster_id(cluster_id);
    }
    let applied = recovered.applied.clone();
    let log_store = LogStore::new(folder.clone(), engine.clone(), writer.clone(), recovered);
    let loaded = StateMachine::load(
        folder,
        engine,
        writer.clone(),
        log_store.clone(),
        snapshots.clone(),
        observer,
        applied,
    );
    match loaded {
        Ok(state_machine) => {
            Ok(Storage { log_store, state_machine, snapshots, control: StorageControl { writer, thread } })
        }
        Err(error) => {
            // The thread holds the database open: who tries again must not find it in use.
            drop((log_store, writer));
            join(thread);
            Err(error)
        }
    }
}

/// Removes what an install that was cut short left in the row set that is not in use.
fn clear_unused_rows(engine: &dyn Engine, row_set: Table) -> Result<(), EngineError> {
    let unused = other_row_set(row_set);
    let mut found = false;
    let mut visit = |_: &[u8], _: Bytes| {
        found = true;
        ControlFlow::Break(())
    };
    let mut scanned = Ok(());
    engine
        .with_view(&mut |view| {
            scanned = view.scan(unused, Bound::Unbounded, Bound::Unbounded, &mut visit);
        })
        .and(scanned)?;
    if !found {
        return Ok(());
    }
    let mut batch = Batch::default();
    let (from, to) = ROW_KEYS;
    batch.delete_range(unused, from.to_vec(), to.to_vec());
    engine.write(batch, Durability::Queued)?;
    engine.reclaim(unused)
}
