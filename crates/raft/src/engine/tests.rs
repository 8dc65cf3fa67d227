//! One suite for every engine.

use super::*;

/// An engine, and how to end its life and open it again.
trait Reopen {
    fn engine(&self) -> &dyn Engine;
    fn reopen(self) -> Self;
}

struct Memory(MemoryEngine);

impl Reopen for Memory {
    fn engine(&self) -> &dyn Engine {
        &self.0
    }
    fn reopen(self) -> Self {
        Memory(self.0.clone())
    }
}

#[cfg(feature = "rocksdb")]
struct Rocks(RocksEngine, tempfile::TempDir);

#[cfg(feature = "rocksdb")]
impl Reopen for Rocks {
    fn engine(&self) -> &dyn Engine {
        &self.0
    }
    fn reopen(self) -> Self {
        let Rocks(engine, folder) = self;
        drop(engine);
        Rocks(RocksEngine::open(folder.path()).expect("it opens again"), folder)
    }
}

#[test]
fn memory() {
    run_suite(|| Memory(MemoryEngine::new()));
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb() {
    run_suite(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Rocks(RocksEngine::open(folder.path()).expect("it opens"), folder)
    });
}

fn run_suite<R: Reopen>(open: impl Fn() -> R) {
    batches_are_written_as_a_whole_and_survive(open());
    tables_are_apart(open());
    scans_are_bounded_and_ordered(open());
    ranges_are_deleted_without_their_end(open());
    a_view_stays_what_it_was(open());
}

fn put(table: Table, key: &[u8], value: &'static [u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(table, key.to_vec(), Bytes::from_static(value));
    batch
}

fn write(engine: &dyn Engine, batch: Batch) {
    engine.write(batch, Durability::Synced).expect("written");
}

fn keys(engine: &dyn Engine, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    engine
        .with_view(&mut |view| {
            view.scan(table, from, to, &mut |key, _| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .expect("scanned");
        })
        .expect("a view");
    keys
}

fn batches_are_written_as_a_whole_and_survive(store: impl Reopen) {
    let mut batch = put(Table::Log, b"1", b"one");
    batch.put(Table::Meta, b"m".to_vec(), Bytes::from_static(b"meta"));
    batch.put(Table::Log, b"2".to_vec(), Bytes::from_static(b"two"));
    batch.delete(Table::Log, b"1".to_vec());
    write(store.engine(), batch);
    store.engine().write(put(Table::RowsA, b"r", b"row"), Durability::Queued).expect("written");
    let store = store.reopen();
    let get = |table, key: &[u8]| store.engine().get(table, key).expect("read");
    assert_eq!(get(Table::Log, b"1"), None, "later changes of a batch win");
    assert_eq!(get(Table::Log, b"2"), Some(Bytes::from_static(b"two")));
    assert_eq!(get(Table::Meta, b"m"), Some(Bytes::from_static(b"meta")));
    assert_eq!(get(Table::RowsA, b"r"), Some(Bytes::from_static(b"row")), "an orderly end loses nothing");
}

fn tables_are_apart(store: impl Reopen) {
    for table in Table::ALL {
        write(store.engine(), put(table, b"k", b"v"));
        let mut batch = Batch::default();
        batch.delete(table, b"k".to_vec());
        write(store.engine(), put(Table::Meta, b"k", b"v"));
        write(store.engine(), batch);
        let there = store.engine().get(Table::Meta, b"k").expect("read").is_some();
        assert_eq!(there, table != Table::Meta);
    }
}

fn scans_are_bounded_and_ordered(store: impl Reopen) {
    for key in [b"c", b"a", b"d", b"b"] {
        write(store.engine(), put(Table::RowsB, key, b"v"));
    }
    let scan = |from, to| keys(store.engine(), Table::RowsB, from, to).concat();
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(scan(Unbounded, Unbounded), b"abcd");
    assert_eq!(scan(Included(b"b"), Included(b"c")), b"bc");
    assert_eq!(scan(Excluded(b"b"), Excluded(b"d")), b"c");
    assert_eq!(scan(Included(b"bb"), Unbounded), b"cd");
    assert_eq!(scan(Excluded(b"b"), Excluded(b"b")), b"", "empty, not a panic");
    assert_eq!(scan(Included(b"d"), Included(b"a")), b"", "backwards, not a panic");
    let mut visited = 0;
    store
        .engine()
        .with_view(&mut |view| {
            view.scan(Table::RowsB, Unbounded, Unbounded, &mut |_, _| {
                visited += 1;
                if visited == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("scanned");
        })
        .expect("a view");
    assert_eq!(visited, 2, "a scan stops when it is told to");
}

fn ranges_are_deleted_without_their_end(store: impl Reopen) {
    for key in [b"a", b"b", b"c", b"d"] {
        write(store.engine(), put(Table::Log, key, b"v"));
    }
    let mut batch = Batch::default();
    batch.delete_range(Table::Log, b"b".to_vec(), b"d".to_vec());
    batch.put(Table::Log, b"c".to_vec(), Bytes::from_static(b"again"));
    write(store.engine(), batch);
    let mut backwards = Batch::default();
    backwards.delete_range(Table::Log, b"b".to_vec(), b"b".to_vec());
    write(store.engine(), backwards);
    let store = store.reopen();
    assert_eq!(keys(store.engine(), Table::Log, Bound::Unbounded, Bound::Unbounded).concat(), b"acd");
    store.engine().reclaim(Table::Log).expect("reclaimed");
    assert_eq!(keys(store.engine(), Table::Log, Bound::Unbounded, Bound::Unbounded).concat(), b"acd");
}

fn a_view_stays_what_it_was(store: impl Reopen) {
    write(store.engine(), put(Table::RowsA, b"k", b"old"));
    store
        .engine()
        .with_view(&mut |view| {
            let mut batch = put(Table::RowsA, b"k", b"new");
            batch.put(Table::RowsA, b"l".to_vec(), Bytes::from_static(b"new"));
            batch.put(Table::Meta, b"m".to_vec(), Bytes::from_static(b"new"));
            write(store.engine(), batch);
            assert_eq!(view.get(Table::RowsA, b"k").expect("read"), Some(Bytes::from_static(b"old")));
            assert_eq!(view.get(Table::Meta, b"m").expect("read"), None, "one moment of all tables");
            let mut found = 0;
            view.scan(Table::RowsA, Bound::Unbounded, Bound::Unbounded, &mut |_, value| {
                assert_eq!(value, Bytes::from_static(b"old"));
                found += 1;
                ControlFlow::Continue(())
            })
            .expect("scanned");
            assert_eq!(found, 1);
        })
        .expect("a view");
    assert_eq!(store.engine().get(Table::RowsA, b"k").expect("read"), Some(Bytes::from_static(b"new")));
}

#[test]
fn a_crash_in_memory_keeps_what_was_synced_and_a_prefix_of_the_rest() {
    let engine = MemoryEngine::new();
    write(&engine, put(Table::Log, b"1", b"v"));
    for key in [b"2", b"3"] {
        engine.write(put(Table::Log, key, b"v"), Durability::Queued).expect("written");
    }
    assert_eq!(engine.unsynced_batches(), 2);
    engine.crash(1);
    assert_eq!(keys(&engine, Table::Log, Bound::Unbounded, Bound::Unbounded).concat(), b"12");
    engine.crash(0);
    assert_eq!(keys(&engine, Table::Log, Bound::Unbounded, Bound::Unbounded).concat(), b"12");
}
