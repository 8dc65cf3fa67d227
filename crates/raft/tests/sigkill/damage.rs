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
/// Random flips in each file.
const FLIPS: usize = 24;
/// Bits of the length of the first record of a write-ahead log (behind four bytes of checksum): RocksDB takes a record that is
/// longer than what follows for a torn tail, and all behind it with it.
const FIRST_LENGTH_BITS: [usize; 4] = [4 * 8, 4 * 8 + 7, 5 * 8, 5 * 8 + 7];

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
            let chosen: &[usize] = if kind == "write-ahead log" { &FIRST_LENGTH_BITS } else { &[] };
            let random = (0..FLIPS.min(length)).map(|_| choices.below(8 * length));
            for bit in chosen.iter().copied().chain(random) {
                let damaged = temporary.path().join("damaged");
                copy(folder, &damaged);
                flip(&damaged.join("db").join(file.file_name().expect("a name")), bit);
                let what = format!("{kind} file of {length} bytes, bit {bit}");
                let refused = check(&damaged, &expected, &what);
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

    // The newest log file is in no list of RocksDB's own.
    for (folder, kind) in [(&in_log, "write-ahead log"), (&in_tables, "table"), (&in_tables, "manifest")] {
        for file in database_files(folder).into_iter().filter(|file| kind_of(file) == kind) {
            let damaged = temporary.path().join("damaged");
            copy(folder, &damaged);
            fs::remove_file(damaged.join("db").join(file.file_name().expect("a name"))).expect("removed");
            assert!(check(&damaged, &expected, &format!("a {kind} file that is missing")), "{kind}");
            fs::remove_dir_all(&damaged).expect("removed");
        }
    }
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

fn flip(file: &Path, bit: usize) {
    let mut bytes = fs::read(file).expect("read");
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(file, bytes).expect("written");
}
