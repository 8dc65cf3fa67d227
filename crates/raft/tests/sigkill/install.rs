//! SIGKILL at each step of a snapshot install.

use crate::child::{self, ENTRIES_BEHIND_INSTALL, Silent, Task};
use crate::model::{Found, Model, PLACE, TERM};
use crate::random_kills::Watched;
use openraft::RaftSnapshotBuilder;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stint_raft::Storage;
use stint_raft::codec;
use stint_raft::engine::MemoryEngine;
use stint_raft::types::Vote;

const SEED: u64 = 0x1057_a115;
/// What the follower has: entries up to here, ...
const FOLLOWER_LAST: u64 = 40;
/// ... applied up to here.
const FOLLOWER_APPLIED: u64 = 30;
/// What each snapshot covers; the second is installed over the first, and so into the other row set.
const SNAPSHOTS: [u64; 2] = [120, 240];

/// Steps that an install has at the least: before and after each of clear, rows, flip, drop, giving space back.
const STEPS_MIN: usize = 10;

pub fn a_sigkill_at_each_step_of_an_install_leaves_the_old_or_the_new() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let mut model = Model::new(SEED);
    let mut before = temporary.path().join("follower");
    child::runtime().block_on(make_follower(&before, &mut model));
    for (number, covers) in SNAPSHOTS.into_iter().enumerate() {
        let snapshot = temporary.path().join(format!("{number}.snapshot"));
        child::runtime().block_on(make_snapshot(&snapshot, covers, &mut model));
        let steps = kill_at_each_step(&before, &snapshot, covers, &mut model);
        assert!(steps >= STEPS_MIN, "only {steps} steps were found");
        println!("install {}: killed at each of {steps} steps", number + 1);
        // From here the next one goes on.
        let after = temporary.path().join(format!("after-{number}"));
        copy(&before, &after);
        finish_install(&after, &snapshot, covers, &mut model);
        before = after;
    }
}

/// Returns how many steps there were.
fn kill_at_each_step(before: &Path, snapshot: &Path, covers: u64, model: &mut Model) -> usize {
    let work = tempfile::tempdir().expect("a temporary folder");
    let old = look(before, model);
    let mut new_since = None;
    for step in 0.. {
        let folder = work.path().join(step.to_string());
        copy(before, &folder);
        let task = Task::Install { snapshot: snapshot.to_owned(), stop_at: Some(step) };
        let process = Watched::new(child::spawn(&folder, SEED, &task));
        let mut reported = false;
        let stopped = loop {
            let line = process.next_line().expect("it stops at a step or is done");
            match line.split(' ').next() {
                Some("opened") => {}
                Some("installed") => reported = true,
                Some("step") => break Some(line),
                // Space is given back beside the work: that step may come after this line.
                Some("done") => break process_may_still_stop(&process),
                _ => panic!("unknown line: {line:?}"),
            }
        };
        let Some(stopped) = stopped else {
            assert!(new_since.is_some(), "no kill came after the new rows were in use");
            return step;
        };
        process.kill();

        let found = look(&folder, model);
        assert_eq!(found.vote, old.vote, "{stopped}");
        if found.applied == old.applied {
            assert_eq!(found, old, "{stopped}: the old, and nothing else");
            assert!(!reported, "{stopped}: an install that was reported done is gone");
            assert_eq!(new_since, None, "{stopped}: an earlier step was new already");
            finish_install(&folder, snapshot, covers, model);
        } else {
            assert!(found.applied >= Some(covers), "{stopped}: neither old nor new: {found:?}");
            assert!(found.purged >= Some(covers), "{stopped}: {found:?}");
            new_since.get_or_insert(step);
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
    unreachable!("steps end");
}

/// After the last line: another step, or the end.
fn process_may_still_stop(process: &Watched) -> Option<String> {
    process.next_line().filter(|line| line.starts_with("step"))
}

/// What a process finds in a folder.
fn look(folder: &Path, model: &mut Model) -> Found {
    let lines = Watched::new(child::spawn(folder, SEED, &Task::Look)).end();
    let [line] = lines.as_slice() else { panic!("not one line: {lines:?}") };
    let found: Found = line.strip_prefix("opened ").expect("it opens").parse().expect("a report");
    found.check(model);
    found
}

/// The install begins again, comes to its end, and the log goes on behind it.
fn finish_install(folder: &Path, snapshot: &Path, covers: u64, model: &mut Model) {
    let task = Task::Install { snapshot: snapshot.to_owned(), stop_at: None };
    let lines = Watched::new(child::spawn(folder, SEED, &task)).end();
    let done = lines.iter().find_map(|line| line.strip_prefix("done ")).expect("it is done");
    let done: Found = done.parse().expect("a report");
    let end = Some(covers + ENTRIES_BEHIND_INSTALL);
    assert_eq!((done.purged, done.last, done.applied), (Some(covers), end, end));
    done.check(model);
    assert_eq!(look(folder, model), done, "and it is there after a restart");
}

async fn make_follower(path: &Path, model: &mut Model) {
    let folder = child::open_folder(path).expect("a fresh folder opens");
    let mut storage = Storage::open(&folder, Arc::new(Silent)).expect("and its storage");
    let vote = Vote::new_committed(TERM + 6, PLACE.member_id.0);
    storage.log_store.save_vote(&vote).await.expect("saved");
    let entries = model.entries(0, FOLLOWER_LAST).to_vec();
    child::append(&mut storage.log_store, &entries).await;
    let committed = entries[FOLLOWER_APPLIED as usize].log_id;
    storage.log_store.save_committed(Some(committed)).await.expect("saved");
    child::apply(&mut storage.state_machine, &entries[..=FOLLOWER_APPLIED as usize]).await;
    close(storage).await;
}

/// Another server's snapshot of the log up to an index.
async fn make_snapshot(path: &Path, covers: u64, model: &mut Model) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Arc::new(MemoryEngine::new());
    let cluster = Some(PLACE.cluster_id);
    let mut leader = Storage::open_engine(
        engine,
        folder.path(),
        &folder.path().join("snapshots"),
        cluster,
        Arc::new(Silent),
    )
    .expect("an empty engine opens");
    let entries = model.entries(0, covers);
    child::append(&mut leader.log_store, entries).await;
    child::apply(&mut leader.state_machine, entries).await;
    let built = leader.state_machine.get_snapshot_builder().await.build_snapshot().await.expect("built");
    let mut bytes = Vec::new();
    std::io::copy(&mut built.snapshot.open().expect("opened"), &mut bytes).expect("read");
    fs::write(path, bytes).expect("written");
    fs::write(child::meta_path(path), codec::encode_snapshot_meta(&built.meta)).expect("written");
}

/// Ends the use of a folder in order.
pub async fn close(storage: Storage) {
    storage.control.flush().await.expect("flushed");
    let Storage { log_store, state_machine, snapshots, control } = storage;
    drop((log_store, state_machine, snapshots));
    control.close().await;
}

/// Copies a folder with what is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().expect("a file or a folder").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
