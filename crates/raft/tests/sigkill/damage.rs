//! Flipped bytes.

use crate::child::{self, Silent};
use crate::install::{close, copy};
use crate::model::{Found, Model, PLACE, TERM};
use crate::support::Script;
use openraft::storage::RaftLogStorage;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stint_raft::types::Vote;
use stint_raft::{Error, Storage};

const SEED: u64 = 0xf11b;
const ENTRIES: u64 = 80;
/// Flips in each file.
const FLIPS: usize = 40;

/// Each bit that is flipped in the database is found, or it was one that means nothing: then all is there. Twice, because the
/// first attempt to open must not make the second one succeed.
pub fn a_flipped_byte_is_refused_with_what_to_do() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let mut model = Model::new(SEED);
    // All of it in the write-ahead log.
    let in_log = temporary.path().join("in-log");
    let expected = child::runtime().block_on(make(&in_log, &mut model));
    // All of it in table files: opening has written them.
    let in_tables = temporary.path().join("in-tables");
    copy(&in_log, &in_tables);
    assert_eq!(child::runtime().block_on(open(&in_tables)).expect("it opens"), expected);

    let mut choices = Script::new(SEED);
    let mut outcomes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for folder in [&in_log, &in_tables] {
        for file in database_files(folder) {
            let kind = kind_of(&file);
            let length = fs::metadata(&file).expect("there").len() as usize;
            for _ in 0..FLIPS.min(length) {
                let position = choices.below(length);
                let damaged = temporary.path().join("damaged");
                copy(folder, &damaged);
                flip(&damaged.join("db").join(file.file_name().expect("a name")), position, choices.below(8));
                let refused =
                    check(&damaged, &expected, &format!("{kind} file, byte {position} of {length}"));
                let counted = outcomes.entry(kind).or_default();
                counted.0 += usize::from(refused);
                counted.1 += 1;
                fs::remove_dir_all(&damaged).expect("removed");
            }
        }
    }
    for (kind, (refused, flips)) in &outcomes {
        println!("{kind} files: {refused} of {flips} flips refused, the others changed nothing");
    }
    // Nothing of the log may go unnoticed; a table file has parts that nobody needs, such as its statistics.
    let (refused, flips) = outcomes["write-ahead log"];
    assert_eq!(refused, flips);
    let (refused, flips) = outcomes["table"];
    assert!(2 * refused > flips, "{refused} of {flips}");

    a_missing_log_file_is_refused(&in_log, &temporary.path().join("no-log"));
}

/// The newest one is in no list of RocksDB's own.
fn a_missing_log_file_is_refused(folder: &Path, damaged: &Path) {
    copy(folder, damaged);
    let logs: Vec<PathBuf> =
        database_files(damaged).into_iter().filter(|file| kind_of(file) == "write-ahead log").collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    fs::remove_file(&logs[0]).expect("removed");
    let refused = child::runtime().block_on(open(damaged)).expect_err("refused");
    assert_damaged(&refused, damaged, "without its log");
}

/// True if it was refused. If not, everything is there.
fn check(folder: &Path, expected: &Found, what: &str) -> bool {
    let first = child::runtime().block_on(open(folder));
    let second = child::runtime().block_on(open(folder));
    match (first, second) {
        (Err(first), Err(second)) => {
            assert_damaged(&first, folder, what);
            assert_damaged(&second, folder, what);
            true
        }
        (Ok(first), Ok(second)) => {
            assert_eq!(&first, expected, "{what}");
            assert_eq!(&second, expected, "{what}, the second time");
            false
        }
        (first, second) => panic!("{what}: first {first:?}, then {second:?}"),
    }
}

fn assert_damaged(error: &Error, folder: &Path, what: &str) {
    assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
    let message = error.to_string();
    for part in [&folder.display().to_string(), "is damaged", "stint member replace"] {
        assert!(message.contains(part), "{what}: {message:?} does not say {part:?}");
    }
}

async fn make(path: &Path, model: &mut Model) -> Found {
    let folder = child::open_folder(path).expect("a fresh folder opens");
    let mut storage = Storage::open(&folder, Arc::new(Silent)).expect("and its storage");
    let entries = model.entries(0, ENTRIES).to_vec();
    let vote = Vote::new_committed(TERM, PLACE.member_id.0);
    storage.log_store.save_vote(&vote).await.expect("saved");
    for piece in entries.chunks(7) {
        child::append(&mut storage.log_store, piece).await;
        child::apply(&mut storage.state_machine, piece).await;
        let last = piece[piece.len() - 1].log_id;
        storage.log_store.save_committed(Some(last)).await.expect("saved");
    }
    // The last write is a synced one: behind it nothing could be lost unnoticed.
    let vote = Vote::new_committed(TERM + 1, PLACE.member_id.0);
    storage.control.flush().await.expect("flushed");
    storage.log_store.save_vote(&vote).await.expect("saved");
    let found = Found::read(&mut storage).await;
    found.check(model);
    close(storage).await;
    found
}

async fn open(path: &Path) -> Result<Found, Error> {
    let folder = child::open_folder(path)?;
    let mut storage = Storage::open(&folder, Arc::new(Silent))?;
    let found = Found::read(&mut storage).await;
    close(storage).await;
    Ok(found)
}

fn database_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("db"))
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .filter(|file| kind_of(file) != "other" && fs::metadata(file).is_ok_and(|found| found.len() > 0))
        .collect();
    files.sort();
    files
}

/// What a file is to RocksDB.
fn kind_of(file: &Path) -> &'static str {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("log") => "write-ahead log",
        Some("sst") => "table",
        _ if name.starts_with("MANIFEST") => "manifest",
        _ if name == "SYNCED" => "mark",
        _ => "other",
    }
}

fn flip(file: &Path, position: usize, bit: usize) {
    let mut bytes = fs::read(file).expect("read");
    bytes[position] ^= 1 << bit;
    fs::write(file, bytes).expect("written");
}
