//! The one thread that writes: log, vote, positions, rows and the steps of a snapshot install, in order (decision 12).
//!
//! Owns: the order of writes, group commit (one fsync for all that waits), the checksum chain's head, the holding back of
//! rows. Does not own: what is read (modules `log_store`, `view`), what rows there are (module `state_machine`).
//!
//! Invariants:
//! - Jobs are written in the order in which they were queued, with two exceptions that only delay: rows and `committed` wait
//!   for the append of the entry they name, and a purge waits for the rows of the last entry that it removes. So on disk
//!   last log index ≥ committed, last log index ≥ applied ≥ purged hold at every moment.
//! - Appends and votes are durable before they are acknowledged.
//! - The first failure is the last write: everything queued then and later fails, and the process must end (R2).

use crate::codec::{self, Applied, RecordSource};
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::error::Error;
use crate::limits::{LOG_GROUP_BYTES_MAX, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_JOBS_MAX};
use crate::types::{EntryPayload, LogEntry, LogId, TypeConfig, Vote};
use bytes::Bytes;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use stint_api::ClusterId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Keys of the meta table.
pub(crate) mod meta_key {
    pub(crate) const VOTE: &[u8] = b"vote";
    pub(crate) const COMMITTED: &[u8] = b"committed";
    pub(crate) const PURGED: &[u8] = b"purged";
    pub(crate) const APPLIED: &[u8] = b"applied";
    /// Which row set is in use; absent: the first.
    pub(crate) const ROW_SET: &[u8] = b"row_set";
}

/// What [`meta_key::ROW_SET`] holds if the second row set is in use.
pub(crate) const SECOND_ROW_SET: &[u8] = b"b";
const FIRST_ROW_SET: &[u8] = b"a";

/// From below all row keys to above them: they start with a kind from 1 to 9.
pub(crate) const ROW_KEYS: ([u8; 1], [u8; 1]) = ([0x00], [0xff]);

/// The other row set.
pub(crate) fn other_row_set(table: Table) -> Table {
    if table == Table::RowsA { Table::RowsB } else { Table::RowsA }
}

/// Key of a log record.
pub(crate) fn log_key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// Changes of rows that belong together: those of all entries of one call of apply.
#[derive(Debug)]
pub(crate) struct RowBatch {
    /// 1, 2, 3, … since the process started.
    pub(crate) number: u64,
    /// By encoded key; none: deleted.
    pub(crate) changes: Vec<(Vec<u8>, Option<Bytes>)>,
    /// The position after it.
    pub(crate) applied: Applied,
}

/// Up to where rows are in the engine (not necessarily durable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowsWritten {
    /// Number of the last batch.
    pub(crate) batch: u64,
    /// Log index of the last applied entry whose changes are there.
    pub(crate) applied_index: Option<u64>,
}

/// What the thread starts from: what is in the engine.
#[derive(Debug, Clone)]
pub(crate) struct StartPosition {
    /// Index and checksum of the last record.
    pub(crate) last_record: Option<(u64, u32)>,
    /// Log index up to which entries were purged.
    pub(crate) purged_index: Option<u64>,
    /// Log index up to which rows are written.
    pub(crate) applied_index: Option<u64>,
    /// The row set in use.
    pub(crate) row_set: Table,
}

/// Whether rows wait for the append of the entry that they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowGate {
    /// They do.
    BehindAppend,
    /// For tests that apply entries which are in no log.
    #[cfg(test)]
    Open,
}

type Ack = oneshot::Sender<Result<(), Arc<str>>>;

enum Job {
    Append { entries: Vec<LogEntry>, done: IOFlushed<TypeConfig> },
    Vote { vote: Vote, done: Ack },
    Committed { log_id: LogId },
    Rows(RowBatch),
    Truncate { keep_up_to: Option<u64>, done: Ack },
    Purge { up_to: LogId },
    InstallClear { done: Ack },
    InstallRows { rows: Vec<(Vec<u8>, Bytes)> },
    InstallFlip { applied: Applied, done: Ack },
    InstallDrop { done: Ack },
    Barrier { done: Ack },
}

struct Queued {
    job: Job,
    /// Returned to the queue's budget when the job is done.
    _budget: OwnedSemaphorePermit,
}

/// Gives jobs to the log thread. Cheap to clone. The thread ends when the last clone is dropped, after all jobs.
#[derive(Clone)]
pub(crate) struct LogWriter {
    queue: mpsc::Sender<Queued>,
    budget: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// Sees how far the log thread has come, without keeping it alive. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogWatch {
    shared: Arc<Shared>,
}

impl LogWatch {
    /// Returns once the rows have the effects of the log up to `index`, or fails once nothing is written any more.
    pub(crate) async fn rows_written_up_to(&self, index: u64) -> Result<(), Error> {
        let mut written = self.shared.rows_written.subscribe();
        let mut failure = self.shared.failure.subscribe();
        tokio::select! {
            // The senders live in `shared`, which this keeps alive: both waits end by a value only.
            _ = written.wait_for(|written| written.applied_index >= Some(index)) => Ok(()),
            _ = failure.wait_for(Option::is_some) => Err(self.shared.stopped()),
        }
    }

    /// Returns the cause once a write has failed; never returns otherwise.
    pub(crate) async fn failed(&self) -> Error {
        let mut failure = self.shared.failure.subscribe();
        // The sender lives in `shared`: the wait ends by a value only.
        let _ = failure.wait_for(Option::is_some).await;
        self.shared.stopped()
    }

    /// The row set in use.
    pub(crate) fn row_set(&self) -> Table {
        *self.shared.row_set.lock()
    }

    /// Number of the last row batch that is in the engine.
    pub(crate) fn written_batch(&self) -> u64 {
        self.shared.rows_written.borrow().batch
    }

    /// How long synced writes take, in seconds.
    pub(crate) fn sync_seconds(&self) -> Histogram {
        self.shared.sync_seconds.clone()
    }

    /// The cluster's id, if it is known.
    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        *self.shared.cluster_id.lock()
    }
}

/// Buckets of [`LogWatch::sync_seconds`]: from a fast disk's 64 µs on, doubling, to two seconds, past every election timeout.
const SYNC_SECONDS_FIRST_BUCKET: f64 = 0.000_064;
const SYNC_SECONDS_BUCKETS: u16 = 16;

/// What the thread lets others see.
struct Shared {
    /// Index after the last record that is in the engine.
    written_log_end: AtomicU64,
    rows_written: watch::Sender<RowsWritten>,
    failure: watch::Sender<Option<Arc<str>>>,
    cluster_id: Mutex<Option<ClusterId>>,
    row_set: Mutex<Table>,
    sync_seconds: Histogram,
}

impl LogWriter {
    /// Starts the thread.
    pub(crate) fn start(
        engine: Arc<dyn Engine>,
        start: StartPosition,
        gate: RowGate,
    ) -> std::io::Result<(LogWriter, JoinHandle<()>)> {
        let (queue, jobs) = mpsc::channel(LOG_QUEUE_JOBS_MAX);
        let written_log_end = start.last_record.map_or(0, |(index, _)| index + 1);
        let shared = Arc::new(Shared {
            written_log_end: AtomicU64::new(written_log_end),
            rows_written: watch::Sender::new(RowsWritten { batch: 0, applied_index: start.applied_index }),
            failure: watch::Sender::new(None),
            cluster_id: Mutex::new(None),
            row_set: Mutex::new(start.row_set),
            sync_seconds: Histogram::new(exponential_buckets(
                SYNC_SECONDS_FIRST_BUCKET,
                2.0,
                SYNC_SECONDS_BUCKETS,
            )),
        });
        let thread = LogThread {
            engine,
            gate,
            last_record: start.last_record,
            log_end: start
                .last_record
                .map(|(index, _)| index + 1)
                .max(start.purged_index.map(|index| index + 1))
                .unwrap_or(0),
            purged_index: start.purged_index,
            applied_index: start.applied_index,
            row_set: start.row_set,
            held_rows: VecDeque::new(),
            held_committed: None,
            held_purge: None,
            group: Group::default(),
            shared: shared.clone(),
        };
        let alive = Alive(shared.clone());
        let handle = std::thread::Builder::new().name("stint-log".to_owned()).spawn(move || {
            let _alive = alive;
            thread.run(jobs);
        })?;
        let budget = Arc::new(Semaphore::new(budget_units(LOG_QUEUE_BYTES_MAX) as usize));
        Ok((LogWriter { queue, budget, shared }, handle))
    }

    /// Appends entries; `done` is called once they are durable, in the order of the appends.
    pub(crate) async fn append(
        &self,
        entries: Vec<LogEntry>,
        done: IOFlushed<TypeConfig>,
    ) -> Result<(), Error> {
        let bytes = entries.iter().map(entry_bytes).sum();
        self.send(bytes, Job::Append { entries, done }).await
    }

    /// Saves a vote; returns once it is durable.
    pub(crate) async fn save_vote(&self, vote: Vote) -> Result<(), Error> {
        self.send_and_wait(|done| Job::Vote { vote, done }).await
    }

    /// Saves the committed position; durable some time later.
    pub(crate) async fn save_committed(&self, log_id: LogId) -> Result<(), Error> {
        self.send(0, Job::Committed { log_id }).await
    }

    /// Writes rows; durable some time later.
    pub(crate) async fn write_rows(&self, batch: RowBatch) -> Result<(), Error> {
        let bytes =
            batch.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum();
        self.send(bytes, Job::Rows(batch)).await
    }

    /// Removes the entries behind `keep_up_to`; returns once that is durable.
    pub(crate) async fn truncate(&self, keep_up_to: Option<u64>) -> Result<(), Error> {
        self.send_and_wait(|done| Job::Truncate { keep_up_to, done }).await
    }

    /// Removes the entries up to `up_to`, once their rows are written.
    pub(crate) async fn purge(&self, up_to: LogId) -> Result<(), Error> {
        self.send(0, Job::Purge { up_to }).await
    }

    /// Install, step 1: empties the row set that is not in use.
    pub(crate) async fn install_clear(&self) -> Result<(), Error> {
        self.send_and_wait(|done| Job::InstallClear { done }).await
    }

    /// Install, step 2, repeated: rows of the snapshot into the row set that is not in use. Called off the async threads.
    pub(crate) fn install_rows_blocking(
        &self,
        runtime: &tokio::runtime::Handle,
        rows: Vec<(Vec<u8>, Bytes)>,
    ) -> Result<(), Error> {
        let bytes = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        runtime.block_on(self.send(bytes, Job::InstallRows { rows }))
    }

    /// Install, step 3: in one durable batch the other row set comes into use, with its position, and the log that the
    /// snapshot covers is purged. Rows that were held back are forgotten: the snapshot has them.
    pub(crate) async fn install_flip(&self, applied: Applied) -> Result<(), Error> {
        self.send_and_wait(|done| Job::InstallFlip { applied, done }).await
    }

    /// Install, step 4: empties the row set that was in use before.
    pub(crate) async fn install_drop(&self) -> Result<(), Error> {
        self.send_and_wait(|done| Job::InstallDrop { done }).await
    }

    /// Returns once everything queued before is written.
    pub(crate) async fn barrier(&self) -> Result<(), Error> {
        self.send_and_wait(|done| Job::Barrier { done }).await
    }

    /// From now on each record carries the cluster's id.
    pub(crate) fn set_cluster_id(&self, cluster_id: ClusterId) {
        *self.shared.cluster_id.lock() = Some(cluster_id);
    }

    /// For those who only want to know how far it has come.
    pub(crate) fn watch(&self) -> LogWatch {
        LogWatch { shared: self.shared.clone() }
    }

    /// Index after the last record that can be read from the engine.
    pub(crate) fn written_log_end(&self) -> u64 {
        self.shared.written_log_end.load(Ordering::Acquire)
    }

    async fn send(&self, bytes: usize, job: Job) -> Result<(), Error> {
        let units = budget_units(bytes.min(LOG_QUEUE_BYTES_MAX));
        // Neither is closed while the thread lives; it lives until all senders are gone or a write has failed.
        let budget = self.budget.clone().acquire_many_owned(units).await.map_err(|_| self.stopped())?;
        self.queue.send(Queued { job, _budget: budget }).await.map_err(|_| self.stopped())
    }

    async fn send_and_wait(&self, job: impl FnOnce(Ack) -> Job) -> Result<(), Error> {
        let (done, ack) = oneshot::channel();
        self.send(0, job(done)).await?;
        match ack.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(Error::Stopped { cause: cause.to_string() }),
            Err(_) => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> Error {
        self.shared.stopped()
    }
}

impl Shared {
    fn stopped(&self) -> Error {
        let cause = self.failure.borrow().as_deref().unwrap_or("the log thread has ended").to_owned();
        Error::Stopped { cause }
    }
}

/// Held by the thread: if it panics, everybody learns that nothing is written any more (R2).
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failure.send_replace(Some(Arc::from("the log thread has panicked")));
        }
    }
}

/// Kibibytes: a semaphore counts in 32 bits.
fn budget_units(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1)
}

/// What an entry weighs in queues and caches.
pub(crate) fn entry_bytes(entry: &LogEntry) -> usize {
    const OVERHEAD_BYTES: usize = 64;
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len() + OVERHEAD_BYTES,
        EntryPayload::Blank | EntryPayload::Membership(_) => OVERHEAD_BYTES,
    }
}

/// Changes that will be written together, and whom to tell.
#[derive(Default)]
struct Group {
    batch: Batch,
    synced: bool,
    done: Vec<Done>,
    rows_written: Option<RowsWritten>,
    /// Their share of the queue's budget.
    budgets: Vec<OwnedSemaphorePermit>,
}

enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Ack(Ack),
}

impl Done {
    fn report(self, result: Result<(), &Arc<str>>) {
        match self {
            Done::Flushed(done) => {
                done.io_completed(result.map_err(|cause| std::io::Error::other(cause.to_string())));
            }
            // Whoever asked may have gone; then nobody needs the answer.
            Done::Ack(done) => drop(done.send(result.map_err(Arc::clone))),
        }
    }
}

struct LogThread {
    engine: Arc<dyn Engine>,
    gate: RowGate,
    /// Index and checksum of the last record, staged or written.
    last_record: Option<(u64, u32)>,
    /// Index after the last entry, also if that was purged.
    log_end: u64,
    /// Log index of the last purge, staged or written.
    purged_index: Option<u64>,
    /// Log index of the last rows, staged or written.
    applied_index: Option<u64>,
    row_set: Table,
    held_rows: VecDeque<(RowBatch, OwnedSemaphorePermit)>,
    held_committed: Option<LogId>,
    held_purge: Option<LogId>,
    group: Group,
    shared: Arc<Shared>,
}

impl LogThread {
    fn run(mut self, mut jobs: mpsc::Receiver<Queued>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut next = Some(first);
            let mut result = Ok(());
            while let Some(Queued { job, _budget }) = next {
                result = self.stage(job, _budget);
                if result.is_err() || self.group.batch.len_bytes() >= LOG_GROUP_BYTES_MAX {
                    break;
                }
                next = jobs.try_recv().ok();
            }
            if let Err(error) = result.and_then(|()| self.write_group()) {
                self.fail(error, jobs);
                return;
            }
        }
    }

    /// Adds a job to the group; a job that changes what others build on is written by itself.
    fn stage(&mut self, job: Job, budget: OwnedSemaphorePermit) -> Result<(), EngineError> {
        match job {
            Job::Append { entries, done } => {
                for entry in &entries {
                    self.stage_entry(entry);
                }
                self.group.synced = true;
                self.group.done.push(Done::Flushed(done));
            }
            Job::Vote { vote, done } => {
                self.group.batch.put(Table::Meta, meta_key::VOTE.to_vec(), codec::encode_vote(&vote));
                self.group.synced = true;
                self.group.done.push(Done::Ack(done));
            }
            Job::Committed { log_id } => self.held_committed = Some(log_id),
            Job::Rows(batch) => {
                self.held_rows.push_back((batch, budget));
                self.release_held();
                return Ok(());
            }
            Job::Purge { up_to } => self.held_purge = self.held_purge.max(Some(up_to)),
            Job::Truncate { keep_up_to, done } => {
                self.write_group()?;
                self.stage_truncate(keep_up_to)?;
                self.group.synced = true;
                self.group.done.push(Done::Ack(done));
                self.write_group()?;
            }
            Job::InstallClear { done } => {
                self.stage_clear(other_row_set(self.row_set));
                self.group.done.push(Done::Ack(done));
                self.write_group()?;
            }
            Job::InstallRows { rows } => {
                let table = other_row_set(self.row_set);
                for (key, value) in rows {
                    self.group.batch.put(table, key, value);
                }
                self.write_group()?;
            }
            Job::InstallFlip { applied, done } => {
                self.write_group()?;
                self.stage_flip(&applied);
                self.group.synced = true;
                self.group.done.push(Done::Ack(done));
                self.write_group()?;
            }
            Job::InstallDrop { done } => {
                self.stage_clear(other_row_set(self.row_set));
                self.group.done.push(Done::Ack(done));
                self.write_group()?;
            }
            Job::Barrier { done } => self.group.done.push(Done::Ack(done)),
        }
        self.group.budgets.push(budget);
        self.release_held();
        Ok(())
    }

    fn stage_entry(&mut self, entry: &LogEntry) {
        let source = RecordSource {
            cluster_id: *self.shared.cluster_id.lock(),
            previous_checksum: self.last_record.map_or(0, |(_, checksum)| checksum),
        };
        let index = entry.log_id.index();
        let (record, checksum) = codec::encode_record(entry, source);
        self.group.batch.put(Table::Log, log_key(index), record);
        self.last_record = Some((index, checksum));
        self.log_end = index + 1;
    }

    fn stage_truncate(&mut self, keep_up_to: Option<u64>) -> Result<(), EngineError> {
        let from = keep_up_to.map_or(0, |index| index + 1);
        self.last_record = match keep_up_to {
            None => None,
            // Absent if the entry itself was purged; then the next record starts a new chain.
            Some(index) => match self.engine.get(Table::Log, &log_key(index))? {
                None => None,
                Some(bytes) => {
                    let record = codec::check_record(index, bytes).map_err(|error| {
                        EngineError::damage("read the log record before a truncation", error.to_string())
                    })?;
                    Some((index, record.checksum))
                }
            },
        };
        self.log_end = from;
        self.group.batch.delete_range(Table::Log, log_key(from), log_key(u64::MAX));
        Ok(())
    }

    fn stage_clear(&mut self, table: Table) {
        let (from, to) = ROW_KEYS;
        self.group.batch.delete_range(table, from.to_vec(), to.to_vec());
    }

    fn stage_flip(&mut self, applied: &Applied) {
        self.row_set = other_row_set(self.row_set);
        let name = if self.row_set == Table::RowsA { FIRST_ROW_SET } else { SECOND_ROW_SET };
        self.group.batch.put(Table::Meta, meta_key::ROW_SET.to_vec(), Bytes::from_static(name));
        self.group.batch.put(Table::Meta, meta_key::APPLIED.to_vec(), codec::encode_applied(applied));
        self.applied_index = applied.log_id.map(|log_id| log_id.index());
        self.held_rows.clear();
        if let Some(log_id) = applied.log_id {
            self.stage_purge(log_id);
        }
        // The batch number is unknown here; nobody waits for a batch across an install.
        let batch = self.shared.rows_written.borrow().batch;
        self.group.rows_written = Some(RowsWritten { batch, applied_index: self.applied_index });
    }

    fn stage_purge(&mut self, up_to: LogId) {
        // One that was held back while a snapshot was installed must not take back what that has purged.
        if self.purged_index >= Some(up_to.index()) {
            return;
        }
        self.purged_index = Some(up_to.index());
        let end = up_to.index() + 1;
        self.group.batch.put(Table::Meta, meta_key::PURGED.to_vec(), codec::encode_log_id(&up_to));
        self.group.batch.delete_range(Table::Log, log_key(0), log_key(end));
        if self.last_record.is_some_and(|(index, _)| index < end) {
            self.last_record = None;
        }
        self.log_end = self.log_end.max(end);
    }

    fn stage_rows(&mut self, batch: RowBatch) {
        for (key, value) in batch.changes {
            match value {
                Some(value) => self.group.batch.put(self.row_set, key, value),
                None => self.group.batch.delete(self.row_set, key),
            }
        }
        self.group.batch.put(Table::Meta, meta_key::APPLIED.to_vec(), codec::encode_applied(&batch.applied));
        self.applied_index = batch.applied.log_id.map(|log_id| log_id.index());
        self.group.rows_written =
            Some(RowsWritten { batch: batch.number, applied_index: self.applied_index });
    }

    /// Stages what was held back and need not be any more.
    fn release_held(&mut self) {
        while let Some((batch, _)) = self.held_rows.front() {
            let index = batch.applied.log_id.map(|log_id| log_id.index());
            if !self.may_pass(index) {
                break;
            }
            if let Some((batch, budget)) = self.held_rows.pop_front() {
                self.stage_rows(batch);
                self.group.budgets.push(budget);
            }
        }
        if self.held_committed.is_some_and(|log_id| self.may_pass(Some(log_id.index())))
            && let Some(log_id) = self.held_committed.take()
        {
            self.group.batch.put(Table::Meta, meta_key::COMMITTED.to_vec(), codec::encode_log_id(&log_id));
        }
        if self.held_purge.is_some_and(|up_to| self.applied_index >= Some(up_to.index()))
            && let Some(up_to) = self.held_purge.take()
        {
            self.stage_purge(up_to);
        }
    }

    fn may_pass(&self, index: Option<u64>) -> bool {
        match self.gate {
            RowGate::BehindAppend => index.is_none_or(|index| index < self.log_end),
            #[cfg(test)]
            RowGate::Open => true,
        }
    }

    fn write_group(&mut self) -> Result<(), EngineError> {
        let batch = std::mem::take(&mut self.group.batch);
        if !batch.is_empty() {
            let durability = if self.group.synced { Durability::Synced } else { Durability::Queued };
            let begun_at = Instant::now();
            self.engine.write(batch, durability)?;
            if durability == Durability::Synced {
                self.shared.sync_seconds.observe(begun_at.elapsed().as_secs_f64());
            }
        }
        let written = std::mem::take(&mut self.group);
        self.shared.written_log_end.store(self.log_end, Ordering::Release);
        *self.shared.row_set.lock() = self.row_set;
        if let Some(rows_written) = written.rows_written {
            self.shared.rows_written.send_replace(rows_written);
        }
        for done in written.done {
            done.report(Ok(()));
        }
        Ok(())
    }

    /// Tells everybody, now and until the last sender is gone.
    fn fail(mut self, error: EngineError, mut jobs: mpsc::Receiver<Queued>) {
        let cause: Arc<str> = Arc::from(error.to_string());
        tracing::error!(%cause, "a write to the data folder failed; nothing is written any more and the process must end");
        self.shared.failure.send_replace(Some(cause.clone()));
        for done in std::mem::take(&mut self.group.done) {
            done.report(Err(&cause));
        }
        drop(self);
        while let Some(Queued { job, .. }) = jobs.blocking_recv() {
            let done = match job {
                Job::Append { done, .. } => Done::Flushed(done),
                Job::Vote { done, .. }
                | Job::Truncate { done, .. }
                | Job::InstallClear { done }
                | Job::InstallFlip { done, .. }
                | Job::InstallDrop { done }
                | Job::Barrier { done } => Done::Ack(done),
                Job::Committed { .. } | Job::Rows(_) | Job::Purge { .. } | Job::InstallRows { .. } => {
                    continue;
                }
            };
            done.report(Err(&cause));
        }
    }
}
