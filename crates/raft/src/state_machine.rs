//! The state machine as openraft sees it: applies entries, writes their rows, builds and installs snapshots.
//!
//! Owns: the state in memory, the effects of entries whose rows are not written yet (the overlay), telling the observer.
//! Does not own: decisions (crate `core`), writing (module `log_thread`), who watches (crate `server`).
//!
//! Invariants: a command reads rows with the effects of every earlier command, however rows were batched or delayed; rows of
//! all entries applied together are one batch with the position after it; the observer sees every entry once per life of the
//! process, in order.

use crate::codec::{self, Applied};
use crate::engine::{Engine, Table};
use crate::error::Error;
use crate::limits::{APPLY_ENTRIES_MAX, APPLY_ROW_BYTES_MAX};
use crate::log_store::LogStore;
use crate::log_thread::{LogWatch, LogWriter, RowBatch};
use crate::overlay::Overlay;
use crate::snapshot::{SnapshotFile, SnapshotFolder};
use crate::snapshot_frames::{build_snapshot, read_snapshot};
use crate::types::{
    ApplyResponse, EntryPayload, LogEntry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
    term_of,
};
use crate::view::{RowReader, engine_error};
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stint_api::{ClusterId, Revision};
use stint_core::{Ended, EntryPosition, Order, Reply, RowChange, RowsNeeded, RowsRead, State};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// What an entry gave.
#[derive(Default)]
struct Outcome {
    /// To each command.
    replies: Vec<Reply>,
    changes: Vec<RowChange>,
    orders: Vec<Order>,
    ends: Vec<Ended>,
}

/// Is told what was applied, in order. Called on the apply path: must not block and must not call back.
pub trait ApplyObserver: Send + Sync + 'static {
    /// An entry was applied; the state has its effects, its proposer has not been answered yet.
    fn applied(&self, batch: &AppliedBatch);

    /// A snapshot took the place of state and rows: what was seen before has no continuation.
    fn snapshot_installed(&self, position: AppliedPosition);

    /// How long the state machine took for the entry told of last, without those who are told.
    fn took(&self, _elapsed: Duration) {}
}

/// What one entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedBatch {
    /// Where the entry stands.
    pub log_index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Revision after it.
    pub revision: Revision,
    /// Row changes, in order.
    pub changes: Arc<[RowChange]>,
    /// Hints for agents, in order.
    pub orders: Vec<Order>,
    /// What has ended in it, each once.
    pub ends: Vec<Ended>,
}

/// Up to where the log was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppliedPosition {
    /// The last applied entry; none: nothing yet.
    pub log_id: Option<LogId>,
    /// Revision after it.
    pub revision: Revision,
}

impl AppliedPosition {
    /// Log index of the last applied entry.
    pub fn index(&self) -> Option<u64> {
        self.log_id.map(|log_id| log_id.index())
    }
}

/// Lets others see the state and the rows. Cheap to clone.
#[derive(Clone)]
pub struct StateReader {
    shared: Arc<Shared>,
    rows: RowReader,
    log: LogWatch,
}

impl StateReader {
    /// The state in memory. Hold it for microseconds: nothing is applied meanwhile.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read()
    }

    /// Up to where the log was applied, and when that changes. Don't hold what `borrow` returns.
    pub fn applied(&self) -> watch::Receiver<AppliedPosition> {
        self.shared.applied.subscribe()
    }

    /// Rows on disk.
    pub fn rows(&self) -> &RowReader {
        &self.rows
    }

    /// Returns the cause once a write has failed: then the process must end (R2). Never returns otherwise.
    pub async fn failed(&self) -> Error {
        self.log.failed().await
    }
}

struct Shared {
    state: RwLock<State>,
    applied: watch::Sender<AppliedPosition>,
}

/// See the module.
pub struct StateMachine {
    folder: PathBuf,
    engine: Arc<dyn Engine>,
    writer: LogWriter,
    log_store: LogStore,
    snapshots: SnapshotFolder,
    observer: Arc<dyn ApplyObserver>,
    shared: Arc<Shared>,
    rows: RowReader,
    /// The position of the state in memory.
    applied: Applied,
    overlay: Overlay,
    current_snapshot: Arc<Mutex<Option<Snapshot>>>,
}

impl StateMachine {
    /// Loads the state from the rows in use.
    pub(crate) fn load(
        folder: PathBuf,
        engine: Arc<dyn Engine>,
        writer: LogWriter,
        log_store: LogStore,
        snapshots: SnapshotFolder,
        observer: Arc<dyn ApplyObserver>,
        applied: Applied,
    ) -> Result<StateMachine, Error> {
        let rows = RowReader::new(folder.clone(), engine.clone(), writer.watch());
        let state = load_state(&folder, &rows, writer.watch().row_set(), &applied)?;
        let position = AppliedPosition { log_id: applied.log_id, revision: applied.revision };
        Ok(StateMachine {
            folder,
            engine,
            writer,
            log_store,
            snapshots,
            observer,
            shared: Arc::new(Shared { state: RwLock::new(state), applied: watch::Sender::new(position) }),
            rows,
            applied,
            overlay: Overlay::default(),
            current_snapshot: Arc::new(Mutex::new(None)),
        })
    }

    /// For those who read.
    pub fn reader(&self) -> StateReader {
        StateReader { shared: self.shared.clone(), rows: self.rows.clone(), log: self.writer.watch() }
    }

    fn apply_entry(&mut self, entry: LogEntry) -> Result<ApplyResponse, Error> {
        let begun_at = Instant::now();
        let log_id = entry.log_id;
        let mut outcome = Outcome::default();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.applied.membership = StoredMembership::new(Some(log_id), membership);
            }
            EntryPayload::Normal(payload) => {
                let commands = codec::decode_commands(payload.0)?;
                outcome = self.apply_commands(log_id, &commands)?;
            }
        }
        self.applied.log_id = Some(log_id);
        let position = AppliedPosition { log_id: Some(log_id), revision: self.applied.revision };
        let batch = AppliedBatch {
            log_index: log_id.index(),
            term: term_of(&log_id),
            revision: position.revision,
            changes: outcome.changes.into(),
            orders: outcome.orders,
            ends: outcome.ends,
        };
        let elapsed = begun_at.elapsed();
        self.observer.applied(&batch);
        self.observer.took(elapsed);
        self.shared.applied.send_replace(position);
        Ok(ApplyResponse {
            log_index: log_id.index(),
            term: term_of(&log_id),
            replies: outcome.replies,
            revision: position.revision,
        })
    }

    fn apply_commands(&mut self, log_id: LogId, entry: &stint_core::Entry) -> Result<Outcome, Error> {
        let mut outcome = Outcome { replies: Vec::with_capacity(entry.commands.len()), ..Outcome::default() };
        let table = self.writer.watch().row_set();
        let mut state = self.shared.state.write();
        let position = EntryPosition { log_index: log_id.index(), term: term_of(&log_id) };
        state.begin_entry(position, entry.time, entry.seed);
        for command in &entry.commands {
            let needed = state.keys_needed(command);
            let rows = read_rows(&self.folder, self.engine.as_ref(), table, &self.overlay, &needed)?;
            let applied = state.apply(command, &rows);
            outcome.replies.push(applied.reply);
            for change in &applied.changes {
                self.overlay.record(change);
            }
            outcome.changes.extend(applied.changes);
            outcome.orders.extend(applied.orders);
        }
        let finished = state.finish_entry();
        for change in &finished.changes {
            self.overlay.record(change);
        }
        outcome.changes.extend(finished.changes);
        outcome.orders.extend(finished.orders);
        outcome.ends = finished.ends;
        self.applied.revision = state.revision();
        Ok(outcome)
    }

    /// Gives the log thread what was applied since the last time, as one batch.
    async fn write_rows(&mut self) -> Result<(), Error> {
        let (number, changes) = self.overlay.seal();
        self.writer.write_rows(RowBatch { number, changes, applied: self.applied.clone() }).await
    }

    async fn install(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), Error> {
        self.writer.install_clear().await?;
        let applied = {
            let (writer, file, meta) = (self.writer.clone(), file.clone(), meta.clone());
            let cluster_id = self.writer.watch().cluster_id();
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                read_snapshot(&file, &meta, cluster_id, |rows| writer.install_rows_blocking(&runtime, rows))
            })
            .await
            .unwrap_or_else(|error| Err(Error::Snapshot { what: error.to_string() }))?
        };
        self.writer.install_flip(applied.clone()).await?;
        let state = {
            let (folder, rows, applied) = (self.folder.clone(), self.rows.clone(), applied.clone());
            let table = self.writer.watch().row_set();
            tokio::task::spawn_blocking(move || load_state(&folder, &rows, table, &applied))
                .await
                .unwrap_or_else(|error| Err(Error::Snapshot { what: error.to_string() }))?
        };
        let position = AppliedPosition { log_id: applied.log_id, revision: applied.revision };
        *self.shared.state.write() = state;
        self.overlay.forget_all();
        self.applied = applied;
        if let Some(last) = self.applied.log_id {
            self.log_store.snapshot_installed(last);
        }
        self.observer.snapshot_installed(position);
        self.shared.applied.send_replace(position);
        *self.current_snapshot.lock() = Some(Snapshot { meta: meta.clone(), snapshot: file });
        self.writer.install_drop().await?;
        let (engine, unused) =
            (self.engine.clone(), crate::log_thread::other_row_set(self.writer.watch().row_set()));
        // Only gives back space: nobody waits for it, and the next install begins by clearing anyway.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.reclaim(unused) {
                tracing::warn!(%error, "could not give back the space of the old rows");
            }
        });
        Ok(())
    }
}

/// Loads the state in memory from the rows of a position.
fn load_state(
    folder: &std::path::Path,
    rows: &RowReader,
    table: Table,
    applied: &Applied,
) -> Result<State, Error> {
    let damaged = |what: String| Error::Damaged { folder: folder.to_owned(), what };
    let mut error = None;
    let state = State::load(rows.all_rows(table, &mut error));
    if let Some(error) = error {
        return Err(error);
    }
    let state = state.map_err(|error| damaged(format!("the rows: {error}")))?;
    if state.revision() != applied.revision {
        return Err(damaged(format!(
            "the rows are of revision {}, but {} was recorded",
            state.revision(),
            applied.revision
        )));
    }
    let applied_index = applied.log_id.map_or(0, |log_id| log_id.index());
    if state.meta().applied_log_index > applied_index {
        return Err(damaged(format!(
            "the rows are of log entry {}, but {applied_index} was recorded as applied",
            state.meta().applied_log_index
        )));
    }
    Ok(state)
}

/// Rows with the effects of everything applied before: first what is not written yet, then the row set.
fn read_rows(
    folder: &std::path::Path,
    engine: &dyn Engine,
    table: Table,
    overlay: &Overlay,
    needed: &RowsNeeded,
) -> Result<RowsRead, Error> {
    let mut read = RowsRead::default();
    for key in &needed.keys {
        let row = overlay.get(engine, table, key).map_err(|error| error.into_error(folder))?;
        read.keys.push(row);
    }
    for range in &needed.ranges {
        let rows = overlay.scan(engine, table, range).map_err(|error| error.into_error(folder))?;
        read.ranges.push(rows);
    }
    Ok(read)
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.overlay.forget_written(self.writer.watch().written_batch());
        let mut unwritten_entries = 0;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let log_id = entry.log_id;
            let response = self.apply_entry(entry).map_err(|error| {
                let (term, index) = (term_of(&log_id), log_id.index());
                tracing::error!(term, index, %error, "a committed entry could not be applied");
                error
            })?;
            if let Some(responder) = responder {
                responder.send(response);
            }
            unwritten_entries += 1;
            if unwritten_entries >= APPLY_ENTRIES_MAX || self.overlay.unsealed_bytes() >= APPLY_ROW_BYTES_MAX
            {
                self.write_rows().await?;
                self.overlay.forget_written(self.writer.watch().written_batch());
                unwritten_entries = 0;
            }
        }
        if unwritten_entries > 0 {
            self.write_rows().await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    /// Returns once the view is taken: nothing is applied meanwhile, so the snapshot is of the position openraft knows.
    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let watch = self.writer.watch();
        let cluster_id = watch.cluster_id();
        if let Some(log_id) = self.applied.log_id
            && let Err(error) = watch.rows_written_up_to(log_id.index()).await
        {
            return SnapshotBuilder {
                result: tokio::spawn(async move { Err(error) }),
                current: self.current_snapshot.clone(),
            };
        }
        let (taken, wait) = oneshot::channel();
        let (engine, snapshots, folder) = (self.engine.clone(), self.snapshots.clone(), self.folder.clone());
        let result = tokio::task::spawn_blocking(move || {
            build(engine.as_ref(), &snapshots, &folder, cluster_id, taken)
        });
        // Fails only if the task ended before it took its view; then `result` has the reason.
        let _ = wait.await;
        SnapshotBuilder { result, current: self.current_snapshot.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let (term, index) = position_of(meta);
        tracing::info!(term, index, bytes = snapshot.len_bytes(), "installing a snapshot");
        Ok(self.install(meta, snapshot).await?)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.current_snapshot.lock().clone())
    }
}

/// Term and log index of the last entry that a snapshot holds.
pub(crate) fn position_of(meta: &SnapshotMeta) -> (u64, u64) {
    meta.last_log_id.as_ref().map_or((0, 0), |log_id| (term_of(log_id), log_id.index()))
}

fn build(
    engine: &dyn Engine,
    snapshots: &SnapshotFolder,
    folder: &std::path::Path,
    cluster_id: Option<ClusterId>,
    taken: oneshot::Sender<()>,
) -> Result<(SnapshotMeta, SnapshotFile), Error> {
    let mut taken = Some(taken);
    let mut result = Err(Error::Snapshot { what: "the engine gave no view".to_owned() });
    engine
        .with_view(&mut |view| {
            if let Some(taken) = taken.take() {
                // Nobody waits any more if the server is shutting down.
                let _ = taken.send(());
            }
            result = build_snapshot(view, snapshots, cluster_id);
        })
        .map_err(|error| engine_error(folder, error))?;
    result
}

/// A snapshot that is being built from a view already taken.
pub struct SnapshotBuilder {
    result: JoinHandle<Result<(SnapshotMeta, SnapshotFile), Error>>,
    current: Arc<Mutex<Option<Snapshot>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, snapshot) = (&mut self.result).await.map_err(io::Error::other)??;
        let (term, index) = position_of(&meta);
        tracing::info!(term, index, bytes = snapshot.len_bytes(), "built a snapshot");
        let snapshot = Snapshot { meta, snapshot };
        let mut current = self.current.lock();
        // One that was received meanwhile may be newer. The log behind the older one is gone then: whoever was sent it would have to
        // be sent another at once.
        if current.as_ref().is_none_or(|known| known.meta.last_log_id < snapshot.meta.last_log_id) {
            *current = Some(snapshot.clone());
        }
        drop(current);
        Ok(snapshot)
    }
}
