//! The storage as a whole, on the engine in memory: openraft's own suite; equality of replicas, of restarts and of snapshots;
//! damage; failing writes.

#[path = "../../tests/support/mod.rs"]
mod support;

use super::*;
use crate::codec;
use crate::engine::{Change, MemoryEngine};
use crate::log_thread::{log_key, meta_key};
use crate::state_machine::{AppliedBatch, AppliedPosition};
use crate::types::{
    EntryPayload, LogEntry, LogPayload, MemberInfo, Membership, Snapshot, StoredMembership, TypeConfig, Vote,
    log_id,
};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{RaftLogReader, RaftSnapshotBuilder};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stint_core::testing::Rows;
use stint_core::{RowKey, StoredRow};
use support::{CLUSTER, Script};

/// What an observer was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Applied(AppliedBatch),
    Installed(AppliedPosition),
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Seen>>);

impl ApplyObserver for Recorder {
    fn applied(&self, batch: &AppliedBatch) {
        self.0.lock().push(Seen::Applied(batch.clone()));
    }
    fn snapshot_installed(&self, position: AppliedPosition) {
        self.0.lock().push(Seen::Installed(position));
    }
}

/// One server's storage, its engine and its observer.
struct Server {
    engine: MemoryEngine,
    folder: Arc<tempfile::TempDir>,
    seen: Arc<Recorder>,
    storage: Storage,
}

impl Server {
    fn new() -> Server {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        Server::open(MemoryEngine::new(), folder).expect("an empty engine opens")
    }

    fn open(engine: MemoryEngine, folder: Arc<tempfile::TempDir>) -> Result<Server, Error> {
        let seen = Arc::new(Recorder::default());
        let snapshots = folder.path().join("snapshots");
        let path = Path::new("/data/s1");
        let storage =
            Storage::open_engine(Arc::new(engine.clone()), path, &snapshots, Some(CLUSTER), seen.clone())?;
        Ok(Server { engine, folder, seen, storage })
    }

    /// Ends the process and starts it again. `kept`: how many of the unsynced batches reached the disk; none: all did.
    async fn restart(self, kept: Option<usize>) -> Result<Server, Error> {
        let Server { engine, folder, storage, .. } = self;
        let Storage { log_store, state_machine, snapshots, control } = storage;
        drop((log_store, state_machine, snapshots));
        control.close().await;
        if let Some(kept) = kept {
            engine.crash(kept);
        }
        Server::open(engine, folder)
    }

    async fn append(&mut self, entries: &[LogEntry]) {
        let (done, flushed) = TypeConfig::oneshot();
        self.storage.log_store.append(entries.to_vec(), IOFlushed::signal(done)).await.expect("appended");
        flushed.await.expect("answered").expect("flushed");
    }

    /// Appends without waiting for the disk.
    async fn append_only(&mut self, entries: &[LogEntry]) {
        self.storage.log_store.append(entries.to_vec(), IOFlushed::noop()).await.expect("appended");
    }

    async fn apply(&mut self, entries: &[LogEntry]) {
        let entries: Vec<_> = entries.iter().map(|entry| Ok((entry.clone(), None))).collect();
        self.storage.state_machine.apply(futures::stream::iter(entries)).await.expect("applied");
    }

    async fn flush(&self) {
        self.storage.control.flush().await.expect("flushed");
    }

    fn hash(&self) -> u64 {
        self.storage.state_machine.reader().state().hash()
    }

    fn rows(&self) -> BTreeMap<RowKey, StoredRow> {
        let mut rows = BTreeMap::new();
        let reader = self.storage.state_machine.reader();
        reader
            .rows()
            .read_now(|view| {
                view.scan_while(&Bound::Unbounded, &Bound::Unbounded, |key, row| {
                    rows.insert(key, row);
                    ControlFlow::Continue(())
                })
            })
            .expect("read");
        rows
    }

    fn applied_index(&self) -> Option<u64> {
        self.storage.state_machine.reader().applied().borrow().index()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.0.lock().clone()
    }

    async fn snapshot(&mut self) -> Snapshot {
        let mut builder = self.storage.state_machine.get_snapshot_builder().await;
        builder.build_snapshot().await.expect("built")
    }
}

/// What a log must do, entry by entry.
struct Expected {
    entries: Vec<LogEntry>,
    seen: Vec<Seen>,
    /// Hash and rows after each entry.
    hashes: Vec<u64>,
    rows: Vec<Rows>,
}

fn membership() -> Membership {
    let member = |id: u64| (id, MemberInfo { name: format!("s{id}"), ..MemberInfo::default() });
    let members: BTreeMap<u64, MemberInfo> = (1..=3).map(member).collect();
    Membership::new(vec![BTreeSet::from([1, 2, 3])], members).expect("each voter is a member")
}

/// A membership at index 0, then commands.
fn make_log(seed: u64, length: usize) -> Expected {
    let mut script = Script::new(seed);
    let first = LogEntry { log_id: log_id(0, 0), payload: EntryPayload::Membership(membership()) };
    let nothing = AppliedBatch {
        log_index: 0,
        term: 0,
        revision: Default::default(),
        changes: Arc::from([]),
        orders: Vec::new(),
        ends: Vec::new(),
    };
    let mut expected = Expected {
        entries: vec![first],
        seen: vec![Seen::Applied(nothing)],
        hashes: vec![script.harness.state.hash()],
        rows: vec![script.harness.rows.clone()],
    };
    for _ in 0..length {
        let (entry, outcome) = script.next_entry();
        let index = script.harness.log_index;
        let payload = EntryPayload::Normal(LogPayload(codec::encode_commands(&entry)));
        expected.entries.push(LogEntry { log_id: log_id(script.harness.term, index), payload });
        expected.seen.push(Seen::Applied(AppliedBatch {
            log_index: index,
            term: script.harness.term,
            revision: script.harness.state.revision(),
            changes: outcome.changes.into(),
            orders: outcome.orders,
            ends: outcome.ends,
        }));
        expected.hashes.push(script.harness.state.hash());
        expected.rows.push(script.harness.rows.clone());
    }
    expected
}

/// Cuts a log into pieces of random length.
fn pieces<'a>(script: &mut Script, entries: &'a [LogEntry], longest: usize) -> Vec<&'a [LogEntry]> {
    let mut rest = entries;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((1 + script.below(longest)).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}

struct SuiteBuilder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, (tempfile::TempDir, StorageControl)> for SuiteBuilder {
    async fn build(
        &self,
    ) -> Result<
        ((tempfile::TempDir, StorageControl), LogStore, StateMachine),
        openraft::StorageError<TypeConfig>,
    > {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = Arc::new(MemoryEngine::new());
        // The suite applies entries that it never appends.
        let storage = open(
            engine,
            "/data/s1".into(),
            &folder.path().join("snapshots"),
            None,
            Arc::new(Recorder::default()),
            RowGate::Open,
        )
        .expect("an empty engine opens");
        Ok(((folder, storage.control), storage.log_store, storage.state_machine))
    }
}

#[test]
fn openraft_suite() {
    run(async { Suite::test_all(SuiteBuilder).await.expect("every test of the suite passes") });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// R14: two replicas with random batch boundaries and random delays of their writes.
    #[test]
    fn replicas_of_one_log_have_one_hash_one_event_sequence_and_one_set_of_rows(seed: u64) {
        let expected = make_log(seed, 120);
        for replica in 0..2_u64 {
            let mut choices = Script::new(seed ^ (replica + 1));
            run(async {
                let mut server = Server::new();
                let mut delay = None;
                for piece in pieces(&mut choices, &expected.entries, 15) {
                    server.append_only(piece).await;
                    match choices.below(4) {
                        0 if delay.is_none() => delay = Some(server.engine.delay_writes()),
                        1 => drop(delay.take()),
                        _ => {}
                    }
                    server.apply(piece).await;
                }
                drop(delay);
                server.flush().await;
                assert_eq!(server.hash(), expected.hashes[expected.hashes.len() - 1]);
                assert_eq!(server.seen(), expected.seen);
                assert_eq!(server.rows(), expected.rows[expected.rows.len() - 1].map);
            });
        }
    }

    /// R1, R2: whatever prefix of the unsynced writes survives, what was flushed is there, the state loaded from rows is the
    /// state of some entry, and going on from there gives the same as never having crashed.
    #[test]
    fn a_crash_at_any_moment_loses_nothing_that_was_flushed(seed: u64) {
        let expected = make_log(seed, 80);
        let mut choices = Script::new(!seed);
        run(async {
            let mut server = Server::new();
            server.storage.log_store.save_vote(&Vote::new_committed(1, 1)).await.expect("saved");
            let mut at = 0;
            while at < expected.entries.len() {
                let end = (at + 1 + choices.below(20)).min(expected.entries.len());
                server.append(&expected.entries[at..end]).await;
                let committed = expected.entries[end - 1].log_id;
                server.storage.log_store.save_committed(Some(committed)).await.expect("saved");
                let applied = server.applied_index().map_or(0, |index| index as usize + 1);
                let applied_end = applied + choices.below(end - applied + 1);
                server.apply(&expected.entries[applied..applied_end]).await;
                if choices.below(2) == 0 {
                    server.flush().await;
                    let unsynced = server.engine.unsynced_batches();
                    server = server.restart(Some(choices.below(unsynced + 1))).await.expect("it opens again");
                    let state = server.storage.log_store.get_log_state().await.expect("read");
                    assert_eq!(state.last_log_id, Some(committed), "what was flushed is there");
                    let read = server.storage.log_store.try_get_log_entries(0..).await.expect("read");
                    assert_eq!(read, expected.entries[..end]);
                    let vote = server.storage.log_store.read_vote().await.expect("read");
                    assert_eq!(vote, Some(Vote::new_committed(1, 1)));
                    if let Some(index) = server.applied_index() {
                        assert!((index as usize) < applied_end);
                        assert_eq!(server.hash(), expected.hashes[index as usize], "state from rows");
                        assert_eq!(server.rows(), expected.rows[index as usize].map);
                    }
                    let again = server.applied_index().map_or(0, |index| index as usize + 1);
                    server.apply(&expected.entries[again..end]).await;
                }
                at = end;
            }
            let applied = server.applied_index().map_or(0, |index| index as usize + 1);
            server.apply(&expected.entries[applied..]).await;
            assert_eq!(server.hash(), expected.hashes[expected.hashes.len() - 1]);
        });
    }

    /// Decision 12: a received snapshot is there as a whole or not at all, wherever the install was cut short.
    #[test]
    fn an_install_that_is_cut_short_leaves_the_old_or_the_new(seed: u64, writes in 0_usize..8, kept: usize) {
        let expected = make_log(seed, 60);
        let (behind, ahead) = (20, expected.entries.len());
        run(async {
            let mut leader = Server::new();
            leader.append(&expected.entries).await;
            leader.apply(&expected.entries).await;
            let snapshot = leader.snapshot().await;

            let mut follower = Server::new();
            follower.storage.log_store.save_vote(&Vote::new_committed(1, 1)).await.expect("saved");
            follower.append(&expected.entries[..behind]).await;
            follower.apply(&expected.entries[..behind]).await;
            follower.flush().await;
            follower.engine.fail_after(writes, "the disk is gone");
            let installed =
                follower.storage.state_machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await;
            let unsynced = follower.engine.unsynced_batches();
            let mut follower = follower.restart(Some(kept % (unsynced + 1))).await.expect("it opens again");
            let index = follower.applied_index().map_or(0, |index| index as usize);
            if installed.is_ok() {
                assert_eq!(index, ahead - 1, "an install that was reported done is there");
            }
            assert!(index < behind || index == ahead - 1, "old or new, not {index}");
            assert_eq!(follower.hash(), expected.hashes[index]);
            assert_eq!(follower.rows(), expected.rows[index].map);
            // It goes on from there.
            let snapshot = leader.snapshot().await;
            if index < ahead - 1 {
                follower
                    .storage
                    .state_machine
                    .install_snapshot(&snapshot.meta, snapshot.snapshot)
                    .await
                    .expect("the second time it works");
            }
            assert_eq!(follower.hash(), expected.hashes[ahead - 1]);
        });
    }
}

#[test]
fn a_snapshot_carries_everything_and_the_log_goes_on_behind_it() {
    let expected = make_log(7, 100);
    let cut = 60;
    run(async {
        let mut leader = Server::new();
        leader.append(&expected.entries[..cut]).await;
        leader.apply(&expected.entries[..cut]).await;
        let snapshot = leader.snapshot().await;
        assert_eq!(snapshot.meta.last_log_id, Some(expected.entries[cut - 1].log_id));
        assert_eq!(snapshot.meta.last_membership, StoredMembership::new(Some(log_id(0, 0)), membership()));

        let mut follower = Server::new();
        follower.append(&expected.entries[..5]).await;
        follower
            .storage
            .state_machine
            .install_snapshot(&snapshot.meta, snapshot.snapshot.clone())
            .await
            .expect("installed");
        let last = expected.entries[cut - 1].log_id;
        let position = AppliedPosition {
            log_id: Some(last),
            revision: match &expected.seen[cut - 1] {
                Seen::Applied(batch) => batch.revision,
                Seen::Installed(position) => position.revision,
            },
        };
        assert_eq!(follower.seen(), [Seen::Installed(position)]);
        follower.storage.log_store.purge(last).await.expect("purged");
        follower.storage.log_store.save_vote(&Vote::new_committed(1, 1)).await.expect("saved");
        let state = follower.storage.log_store.get_log_state().await.expect("read");
        assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(last), Some(last)));
        assert_eq!(follower.rows(), expected.rows[cut - 1].map);
        follower.append(&expected.entries[cut..]).await;
        follower.apply(&expected.entries[cut..]).await;
        follower.flush().await;

        let again = follower.snapshot().await;
        let mut follower = follower.restart(None).await.expect("it opens again");
        assert_eq!(follower.hash(), expected.hashes[expected.entries.len() - 1]);
        let read = follower.storage.log_store.try_get_log_entries(0..).await.expect("read");
        assert_eq!(read, expected.entries[cut..], "the log begins behind the snapshot");
        drop(again);
        assert_eq!(
            std::fs::read_dir(follower.folder.path().join("snapshots")).expect("a folder").count(),
            0,
            "snapshot files end with their handles"
        );
    });
}

#[test]
fn an_altered_or_shortened_snapshot_is_refused_and_changes_nothing() {
    let expected = make_log(11, 40);
    run(async {
        let mut leader = Server::new();
        leader.append(&expected.entries).await;
        leader.apply(&expected.entries).await;
        let snapshot = leader.snapshot().await;
        let mut bytes = Vec::new();
        std::io::copy(&mut snapshot.snapshot.open().expect("opened"), &mut bytes).expect("read");

        let mut follower = Server::new();
        let hash = follower.hash();
        let mut choices = Script::new(3);
        let mut bad_files: Vec<Vec<u8>> = (0..200)
            .map(|_| {
                let mut bad = bytes.clone();
                let position = choices.below(bad.len());
                bad[position] ^= 1 << choices.below(8);
                bad
            })
            .collect();
        for _ in 0..20 {
            bad_files.push(bytes[..choices.below(bytes.len())].to_vec());
        }
        bad_files.push([bytes.clone(), vec![0]].concat());
        bad_files.push([bytes.clone(), bytes.clone()].concat());
        for bad in bad_files {
            let mut writer = follower.storage.snapshots.create().expect("created");
            writer.append(&bad).expect("written");
            let file = writer.finish().expect("finished");
            let refused = follower.storage.state_machine.install_snapshot(&snapshot.meta, file).await;
            assert!(refused.is_err());
            assert_eq!((follower.hash(), follower.applied_index()), (hash, None));
        }
        follower
            .storage
            .state_machine
            .install_snapshot(&snapshot.meta, snapshot.snapshot)
            .await
            .expect("the file as it was is installed");
        assert_eq!(follower.hash(), expected.hashes[expected.entries.len() - 1]);
    });
}

#[test]
fn rows_wait_for_the_append_of_the_entry_that_they_name() {
    let expected = make_log(5, 20);
    run(async {
        let mut server = Server::new();
        server.append(&expected.entries[..5]).await;
        // Applied ahead of the local append: as if two other servers had committed it.
        server.apply(&expected.entries[..10]).await;
        server.storage.log_store.save_committed(Some(expected.entries[9].log_id)).await.expect("saved");
        server.flush().await;
        assert_eq!(server.engine.get(Table::Meta, meta_key::COMMITTED).expect("read"), None);
        assert_eq!(server.engine.get(Table::Meta, meta_key::APPLIED).expect("read"), None);
        server.append(&expected.entries[5..10]).await;
        assert_eq!(server.rows(), expected.rows[9].map);
        assert!(server.engine.get(Table::Meta, meta_key::COMMITTED).expect("read").is_some());
    });
}

#[test]
fn a_purge_waits_for_the_rows_of_what_it_removes() {
    let expected = make_log(5, 20);
    run(async {
        let mut server = Server::new();
        server.append(&expected.entries[..10]).await;
        server.storage.log_store.purge(expected.entries[6].log_id).await.expect("purged");
        server.flush().await;
        assert!(server.engine.get(Table::Log, &log_key(0)).expect("read").is_some());
        server.apply(&expected.entries[..10]).await;
        server.flush().await;
        assert_eq!(server.engine.get(Table::Log, &log_key(6)).expect("read"), None);
        // There was no vote: an entry of term 1 without one is damage.
        let refused = server.restart(None).await.err().expect("refused").to_string();
        assert!(refused.contains("the vote is gone"), "{refused}");
    });
}

/// A purge that waits for rows is overtaken by a snapshot that has them all: it must not take back what that has purged.
#[test]
fn a_purge_that_was_held_back_changes_nothing_after_an_install() {
    let expected = make_log(23, 40);
    run(async {
        let mut leader = Server::new();
        leader.append(&expected.entries).await;
        leader.apply(&expected.entries).await;
        let snapshot = leader.snapshot().await;

        let mut follower = Server::new();
        follower.storage.log_store.save_vote(&Vote::new_committed(1, 1)).await.expect("saved");
        follower.append(&expected.entries[..20]).await;
        follower.storage.log_store.purge(expected.entries[9].log_id).await.expect("purged");
        let file = snapshot.snapshot;
        follower.storage.state_machine.install_snapshot(&snapshot.meta, file).await.expect("installed");
        follower.flush().await;
        let mut follower = follower.restart(None).await.expect("it opens again");
        let state = follower.storage.log_store.get_log_state().await.expect("read");
        assert_eq!(state.last_purged_log_id, Some(expected.entries[40].log_id));
        assert_eq!(follower.hash(), expected.hashes[40]);
    });
}

#[test]
fn a_truncated_log_goes_on_with_other_entries() {
    let expected = make_log(9, 30);
    run(async {
        let mut server = Server::new();
        server.append(&expected.entries[..20]).await;
        server.storage.log_store.truncate_after(Some(expected.entries[9].log_id)).await.expect("truncated");
        let other: Vec<LogEntry> = (10..15)
            .map(|index| LogEntry { log_id: log_id(2, index), payload: EntryPayload::Blank })
            .collect();
        server.append(&other).await;
        server.storage.log_store.save_vote(&Vote::new_committed(2, 1)).await.expect("saved");
        let log = [&expected.entries[..10], &other].concat();
        assert_eq!(server.storage.log_store.try_get_log_entries(..).await.expect("read"), log);
        let mut server = server.restart(Some(0)).await.expect("it opens again");
        assert_eq!(server.storage.log_store.try_get_log_entries(..).await.expect("read"), log);
        let gap = LogEntry { log_id: log_id(2, 16), payload: EntryPayload::Blank };
        let refused = server.storage.log_store.append([gap], IOFlushed::noop()).await;
        assert!(refused.is_err(), "a gap is refused");
    });
}

#[test]
fn damage_is_refused_with_the_folder_what_is_wrong_and_what_to_do() {
    let expected = make_log(13, 30);
    let delete = |table, key: &[u8]| Change::Delete { table, key: key.to_vec() };
    let committed = expected.entries[28].log_id;
    type Damage<'a> = Box<dyn Fn(&MemoryEngine) + 'a>;
    let cases: Vec<(&str, Damage<'_>)> = vec![
        (
            "the log has a gap: entry 7 is missing, entry 8 is there",
            Box::new(|engine| engine.tamper(delete(Table::Log, &log_key(7)))),
        ),
        (
            "the log has a gap: entry 0 is missing",
            Box::new(|engine| engine.tamper(delete(Table::Log, &log_key(0)))),
        ),
        (
            "log entry 12",
            Box::new(|engine| {
                let mut bytes = engine.get(Table::Log, &log_key(12)).expect("read").expect("there").to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                engine.tamper(Change::Put { table: Table::Log, key: log_key(12), value: bytes.into() });
            }),
        ),
        (
            "log entry 13 does not follow entry 12",
            Box::new(|engine| {
                let source = codec::RecordSource { cluster_id: Some(CLUSTER), previous_checksum: 1 };
                let entry = LogEntry { log_id: log_id(1, 13), payload: EntryPayload::Blank };
                let (value, _) = codec::encode_record(&entry, source);
                engine.tamper(Change::Put { table: Table::Log, key: log_key(13), value });
            }),
        ),
        (
            "was recorded as committed",
            Box::new(move |engine| {
                for index in 25..=30 {
                    engine.tamper(delete(Table::Log, &log_key(index)));
                }
            }),
        ),
        (
            "was recorded as applied",
            Box::new(move |engine| {
                engine.tamper(delete(Table::Meta, meta_key::COMMITTED));
                for index in 25..=30 {
                    engine.tamper(delete(Table::Log, &log_key(index)));
                }
            }),
        ),
        ("the vote is gone", Box::new(|engine| engine.tamper(delete(Table::Meta, meta_key::VOTE)))),
        (
            "the rows are of revision",
            Box::new(|engine| engine.tamper(delete(Table::RowsA, &codec::encode_row_key(&RowKey::Meta)))),
        ),
        (
            "a row:",
            Box::new(|engine| {
                let key = codec::encode_row_key(&RowKey::Meta);
                engine.tamper(Change::Put { table: Table::RowsA, key, value: Bytes::from_static(b"?") });
            }),
        ),
    ];
    run(async {
        for (message, damage) in cases {
            let mut server = Server::new();
            server.storage.log_store.save_vote(&Vote::new_committed(1, 1)).await.expect("saved");
            server.append(&expected.entries).await;
            server.storage.log_store.save_committed(Some(committed)).await.expect("saved");
            server.apply(&expected.entries[..28]).await;
            server.flush().await;
            damage(&server.engine);
            let error = server.restart(None).await.err().expect("refused").to_string();
            for part in [message, "/data/s1", "stint member replace"] {
                assert!(error.contains(part), "{error:?} does not say {part:?}");
            }
        }
        let mut server = Server::new();
        server.append(&expected.entries).await;
        let (engine, folder) = (server.engine.clone(), server.folder.clone());
        drop(server.restart(None).await.err());
        let other = Some(stint_api::ClusterId(9));
        let snapshots = folder.path().join("other");
        let refused = Storage::open_engine(
            Arc::new(engine),
            Path::new("/data/s1"),
            &snapshots,
            other,
            Arc::new(Recorder::default()),
        );
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains("is of cluster"), "{error}");
    });
}

/// R2: after a failed write nothing is acknowledged any more.
#[test]
fn a_failed_write_stops_everything() {
    let expected = make_log(17, 10);
    run(async {
        let mut server = Server::new();
        server.append(&expected.entries[..5]).await;
        let reader = server.storage.state_machine.reader();
        server.engine.fail_after(0, "no space left on device");
        let (done, flushed) = TypeConfig::oneshot();
        server
            .storage
            .log_store
            .append(expected.entries[5..].to_vec(), IOFlushed::signal(done))
            .await
            .expect("queued");
        assert!(flushed.await.expect("answered").is_err());
        let error = reader.failed().await.to_string();
        assert!(error.contains("no space left on device") && error.contains("must end"), "{error}");
        // Nothing is tried again, even if the disk had recovered.
        server.engine.fail_after(usize::MAX, "");
        assert!(server.storage.log_store.save_vote(&Vote::new(9, 9)).await.is_err());
        assert!(reader.rows().read(9, |view| Ok(view.revision())).await.is_err(), "nobody waits for ever");
        assert_eq!(server.engine.get(Table::Meta, meta_key::VOTE).expect("read"), None);
    });
}

#[test]
fn readers_wait_until_the_rows_are_as_new_as_asked_for() {
    let expected = make_log(19, 20);
    run(async {
        let mut server = Server::new();
        let reader = server.storage.state_machine.reader();
        let delay = server.engine.delay_writes();
        server.append_only(&expected.entries).await;
        server.apply(&expected.entries).await;
        let last = expected.entries.len() as u64 - 1;
        let read = tokio::spawn({
            let rows = reader.rows().clone();
            async move { rows.read(last, |view| Ok((view.applied_index(), view.revision()))).await }
        });
        assert_eq!(
            reader.rows().read_now(|view| Ok(view.applied_index())).expect("read"),
            None,
            "without waiting the rows are old"
        );
        drop(delay);
        let (index, revision) = read.await.expect("joined").expect("read");
        assert_eq!((index, revision), (Some(last), reader.state().revision()));
        let all: Vec<RowKey> = expected.rows[last as usize].map.keys().cloned().collect();
        let (from, to) = (all[2].clone(), all[all.len() - 1].clone());
        let range = stint_core::RowRange { from: Bound::Excluded(from), to: Bound::Excluded(to), limit: 3 };
        let found = reader.rows().read_now(|view| view.scan(&range)).expect("read");
        assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), all[3..6]);
        let row = reader.rows().read_now(|view| view.get(&RowKey::Meta)).expect("read");
        assert_eq!(row.as_ref(), expected.rows[last as usize].map.get(&RowKey::Meta));
    });
}
