//! An engine in memory, for tests: it survives a "restart" of its users, and can lose what was not synced.
//!
//! Owns: the crash model of a write-ahead log: after a crash a prefix of the unsynced batches is there, nothing else.
//! Does not own: files.

use super::{Batch, Change, Durability, Engine, EngineError, Table, View, Visit};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// Four tables; each one shared with the views that were taken of it.
#[derive(Debug, Clone, Default)]
struct Tables {
    tables: [Arc<Rows>; 4],
}

/// An engine in memory. Clones share their content, as two processes, one after the other, share a folder.
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    inner: Arc<Mutex<Inner>>,
    delay: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What readers see.
    present: Tables,
    /// What would be there after the power had failed and nothing unsynced had reached the disk.
    durable: Tables,
    /// Written since then, in order.
    unsynced: Vec<Batch>,
    /// Set: after so many more writes, each one fails with this.
    failure: Option<(usize, String)>,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }

    /// How many batches a crash could lose.
    pub fn unsynced_batches(&self) -> usize {
        self.inner.lock().unsynced.len()
    }

    /// The power fails: of the unsynced batches the first `kept` are there, the others are gone.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.inner.lock();
        let batches = std::mem::take(&mut inner.unsynced);
        for batch in batches.into_iter().take(kept) {
            inner.durable.apply(&batch);
        }
        inner.present = inner.durable.clone();
        inner.failure = None;
    }

    /// A copy of what is there now, as of a folder: what is written afterwards is not shared.
    pub fn copy(&self) -> MemoryEngine {
        let present = self.inner.lock().present.clone();
        let inner = Inner { durable: present.clone(), present, ..Inner::default() };
        MemoryEngine { inner: Arc::new(Mutex::new(inner)), delay: Arc::default() }
    }

    /// Lets so many more writes succeed; every one after them fails, until the next crash.
    pub fn fail_after(&self, writes: usize, problem: &str) {
        self.inner.lock().failure = Some((writes, problem.to_owned()));
    }

    /// Until the returned guard is dropped, writes wait, as for a slow disk. Reads go on.
    pub fn delay_writes(&self) -> impl Drop + use<> {
        self.delay.lock_arc()
    }

    /// Alters stored content, as a damaged disk would.
    pub fn tamper(&self, change: Change) {
        let mut batch = Batch::default();
        batch.changes.push(change);
        let mut inner = self.inner.lock();
        inner.present.apply(&batch);
        inner.durable.apply(&batch);
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let _delay = self.delay.lock();
        let mut inner = self.inner.lock();
        match &mut inner.failure {
            Some((0, problem)) => return Err(EngineError::failure("write", problem.clone())),
            Some((writes, _)) => *writes -= 1,
            None => {}
        }
        inner.present.apply(&batch);
        inner.unsynced.push(batch);
        if durability == Durability::Synced {
            for batch in std::mem::take(&mut inner.unsynced) {
                inner.durable.apply(&batch);
            }
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.inner.lock().present.get(table, key)
    }

    fn with_view(&self, read: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError> {
        let view = self.inner.lock().present.clone();
        read(&view);
        Ok(())
    }

    fn reclaim(&self, _table: Table) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Tables {
    fn apply(&mut self, batch: &Batch) {
        for change in batch.changes() {
            match change {
                Change::Put { table, key, value } => {
                    self.table_mut(*table).insert(key.clone(), value.clone());
                }
                Change::Delete { table, key } => {
                    self.table_mut(*table).remove(key);
                }
                Change::DeleteRange { table, from, to } => {
                    let rows = self.table_mut(*table);
                    if from < to {
                        let mut tail = rows.split_off(from);
                        let mut after = tail.split_off(to);
                        rows.append(&mut after);
                    }
                }
            }
        }
    }

    fn table(&self, table: Table) -> &Rows {
        &self.tables[table as usize]
    }

    fn table_mut(&mut self, table: Table) -> &mut Rows {
        Arc::make_mut(&mut self.tables[table as usize])
    }
}

impl View for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.table(table).get(key).cloned())
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
        for (key, value) in self.table(table).range::<[u8], _>((from, to)) {
            if let ControlFlow::Break(()) = visit(key, value.clone()) {
                break;
            }
        }
        Ok(())
    }
}
