//! The process that is killed.
//!
//! Owns: what it does to its storage, and telling its parent, line by line on stdout, what is there and what it has been
//! promised. Does not own: the moment of its death.

use crate::install::close;
use crate::model::{Found, Model, NAME, PLACE, TERM};
use crate::support::Script;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::OneshotReceiverOf;
use openraft::{RaftLogReader, RaftSnapshotBuilder};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use stint_raft::codec;
use stint_raft::engine::{Batch, Durability, Engine, EngineError, RocksEngine, Table, View};
use stint_raft::folder::DataFolder;
use stint_raft::types::{LogEntry, TypeConfig, Vote};
use stint_raft::{AppliedBatch, AppliedPosition, ApplyObserver, Storage};
use tokio::sync::{mpsc, oneshot};

/// First argument of such a process.
pub const ARGUMENT: &str = "child";

/// Appends that wait for the disk at once.
const APPENDS_IN_FLIGHT: usize = 4;

/// What a process does after it has opened its folder and said what is in it.
#[derive(Debug, Clone)]
pub enum Task {
    /// Nothing.
    Look,
    /// Votes, appends, truncates, applies, makes snapshots and purges, until it is killed.
    Load { round: u64 },
    /// Installs a snapshot and goes on with the log behind it. Given a step it stops there and waits to be killed.
    Install { snapshot: PathBuf, stop_at: Option<usize> },
}

/// Starts such a process; its stdout is a pipe.
pub fn spawn(folder: &Path, seed: u64, task: &Task) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg(ARGUMENT).arg(folder).arg(seed.to_string());
    match task {
        Task::Look => command.arg("look"),
        Task::Load { round } => command.arg("load").arg(round.to_string()),
        Task::Install { snapshot, stop_at } => command
            .arg("install")
            .arg(snapshot)
            .arg(stop_at.map_or_else(|| "-".to_owned(), |step| step.to_string())),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("this program starts itself")
}

/// The process itself.
pub fn run(arguments: &[String]) {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (folder, seed, task) = match words[..] {
        [folder, seed, "look"] => (folder, seed, Task::Look),
        [folder, seed, "load", round] => {
            (folder, seed, Task::Load { round: round.parse().expect("a number") })
        }
        [folder, seed, "install", snapshot, step] => {
            (folder, seed, Task::Install { snapshot: snapshot.into(), stop_at: step.parse().ok() })
        }
        _ => panic!("unknown arguments: {arguments:?}"),
    };
    let seed = seed.parse().expect("a number");
    runtime().block_on(work(Path::new(folder), seed, task));
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Watches nothing.
pub struct Silent;

impl ApplyObserver for Silent {
    fn applied(&self, _batch: &AppliedBatch) {}
    fn snapshot_installed(&self, _position: AppliedPosition) {}
}

/// Opens a folder as a server does, and gives it its place the first time.
pub fn open_folder(path: &Path) -> Result<DataFolder, stint_raft::Error> {
    let mut folder = DataFolder::open(path, NAME)?;
    folder.set_place(PLACE)?;
    Ok(folder)
}

async fn work(path: &Path, seed: u64, task: Task) {
    let folder = open_folder(path).expect("the folder opens, with its own place");
    let armed = Arc::new(AtomicBool::new(false));
    let mut storage = match &task {
        Task::Install { stop_at, .. } => {
            let engine = StoppingEngine {
                engine: RocksEngine::open(&folder.database()).expect("the database opens"),
                armed: armed.clone(),
                stop_at: *stop_at,
                steps: AtomicUsize::new(0),
            };
            let cluster = Some(PLACE.cluster_id);
            Storage::open_engine(Arc::new(engine), path, &folder.snapshots(), cluster, Arc::new(Silent))
        }
        Task::Look | Task::Load { .. } => Storage::open(&folder, Arc::new(Silent)),
    }
    .expect("the storage opens");
    say(format_args!("opened {}", Found::read(&mut storage).await));
    match task {
        Task::Look => close(storage).await,
        Task::Load { round } => load(storage, seed, round).await,
        Task::Install { snapshot, .. } => install(storage, seed, &snapshot, &armed).await,
    }
}

/// A line is one write: the parent never sees half of one that was finished.
fn say(line: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").expect("the parent reads");
    stdout.flush().expect("the parent reads");
}

enum Promise {
    /// The entries up to an index, once the disk has them.
    Log(u64, OneshotReceiverOf<TypeConfig, Result<(), std::io::Error>>),
    /// Answered once all promises before it are.
    All(oneshot::Sender<()>),
}

/// Never returns.
async fn load(storage: Storage, seed: u64, round: u64) {
    let Storage { mut log_store, mut state_machine, .. } = storage;
    let mut model = Model::new(seed);
    let mut choices = Script::new(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let state = log_store.get_log_state().await.expect("read");
    let index_of = |id: Option<stint_raft::types::LogId>| id.map(|id| id.index());
    let mut last = index_of(state.last_log_id);
    let mut applied = state_machine.reader().applied().borrow().index();
    let mut committed = index_of(log_store.read_committed().await.expect("read")).max(applied);
    let mut vote = log_store.read_vote().await.expect("read").map_or(0, |vote| vote.leader_id.term);

    let (promises, mut waiting) = mpsc::channel(APPENDS_IN_FLIGHT);
    tokio::spawn(async move {
        while let Some(promise) = waiting.recv().await {
            match promise {
                Promise::Log(index, flushed) => {
                    flushed.await.expect("answered").expect("flushed");
                    say(format_args!("log {index}"));
                }
                Promise::All(done) => done.send(()).expect("somebody waits"),
            }
        }
    });
    let kept = async |promise| promises.send(promise).await.expect("somebody waits");

    loop {
        match if vote < TERM { 0 } else { choices.below(20) } {
            0 => {
                vote += 1;
                log_store.save_vote(&Vote::new_committed(vote, PLACE.member_id.0)).await.expect("saved");
                say(format_args!("vote {vote}"));
            }
            1 if last > committed => {
                // What another leader does with entries of this one that were never committed.
                let keep = committed.map_or(0, |committed| committed + 1);
                let keep = keep + choices.below((last.unwrap_or(0) - keep + 1) as usize) as u64;
                let (done, all) = oneshot::channel();
                kept(Promise::All(done)).await;
                all.await.expect("answered");
                say(format_args!("cut {keep}"));
                let keep_id = model.entries(keep, keep)[0].log_id;
                log_store.truncate_after(Some(keep_id)).await.expect("truncated");
                last = Some(keep);
            }
            2 if applied.is_some() => {
                let built = state_machine.get_snapshot_builder().await.build_snapshot().await.expect("built");
                let covered = built.meta.last_log_id.map_or(0, |id| id.index());
                let up_to = covered.saturating_sub(choices.below(12) as u64);
                let up_to_id = model.entries(up_to, up_to)[0].log_id;
                if Some(up_to) > index_of(log_store.get_log_state().await.expect("read").last_purged_log_id) {
                    log_store.purge(up_to_id).await.expect("purged");
                }
            }
            3 => tokio::time::sleep(Duration::from_millis(choices.below(8) as u64)).await,
            _ => {
                let from = last.map_or(0, |last| last + 1);
                let to = from + choices.below(8) as u64;
                let entries: Vec<LogEntry> = model.entries(from, to).to_vec();
                let (done, flushed) = TypeConfig::oneshot();
                log_store.append(entries, IOFlushed::signal(done)).await.expect("appended");
                kept(Promise::Log(to, flushed)).await;
                last = Some(to);
            }
        }
        // Two others may have committed what is not on this disk yet.
        let behind =
            |from: Option<u64>, to: Option<u64>| to.map_or(0, |to| to + 1) - from.map_or(0, |from| from + 1);
        if choices.below(2) == 0
            && let Some(ahead) = behind(committed, last).checked_sub(1)
        {
            let index = committed.map_or(0, |index| index + 1) + choices.below(ahead as usize + 1) as u64;
            let id = model.entries(index, index)[0].log_id;
            log_store.save_committed(Some(id)).await.expect("saved");
            committed = Some(index);
        }
        if choices.below(2) == 0
            && let Some(ahead) = behind(applied, committed).checked_sub(1)
        {
            let from = applied.map_or(0, |index| index + 1);
            let to = from + choices.below(ahead as usize + 1) as u64;
            apply(&mut state_machine, model.entries(from, to)).await;
            applied = Some(to);
        }
    }
}

pub async fn apply(state_machine: &mut stint_raft::StateMachine, entries: &[LogEntry]) {
    let entries: Vec<_> = entries.iter().map(|entry| Ok((entry.clone(), None))).collect();
    state_machine.apply(futures::stream::iter(entries)).await.expect("applied");
}

pub async fn append(log_store: &mut stint_raft::LogStore, entries: &[LogEntry]) {
    let (done, flushed) = TypeConfig::oneshot();
    log_store.append(entries.to_vec(), IOFlushed::signal(done)).await.expect("appended");
    flushed.await.expect("answered").expect("flushed");
}

/// How many entries follow an installed snapshot.
pub const ENTRIES_BEHIND_INSTALL: u64 = 5;

async fn install(mut storage: Storage, seed: u64, snapshot: &Path, armed: &AtomicBool) {
    let mut writer = storage.snapshots.create().expect("a file");
    writer.append(&std::fs::read(snapshot).expect("read")).expect("written");
    let file = writer.finish().expect("finished");
    let meta = std::fs::read(meta_path(snapshot)).expect("read");
    let meta = codec::decode_snapshot_meta(meta.into()).expect("decoded");
    armed.store(true, Ordering::SeqCst);
    storage.state_machine.install_snapshot(&meta, file).await.expect("installed");
    say(format_args!("installed"));
    let last = meta.last_log_id.expect("it covers something");
    storage.log_store.purge(last).await.expect("purged");
    let mut model = Model::new(seed);
    let entries = model.entries(last.index() + 1, last.index() + ENTRIES_BEHIND_INSTALL);
    append(&mut storage.log_store, entries).await;
    apply(&mut storage.state_machine, entries).await;
    storage.control.flush().await.expect("flushed");
    say(format_args!("done {}", Found::read(&mut storage).await));
    close(storage).await;
}

/// Beside the snapshot's file: what it covers.
pub fn meta_path(snapshot: &Path) -> PathBuf {
    snapshot.with_extension("meta")
}

/// The real engine, which stops before or after one of its writes: each is a step of an install.
struct StoppingEngine {
    engine: RocksEngine,
    armed: Arc<AtomicBool>,
    stop_at: Option<usize>,
    steps: AtomicUsize,
}

impl StoppingEngine {
    fn step(&self, what: &str) {
        if !self.armed.load(Ordering::SeqCst) {
            return;
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        if self.stop_at == Some(step) {
            say(format_args!("step {step} {what}"));
            loop {
                std::thread::park();
            }
        }
    }
}

impl Engine for StoppingEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.step("before a write");
        self.engine.write(batch, durability)?;
        self.step("after a write");
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<bytes::Bytes>, EngineError> {
        self.engine.get(table, key)
    }

    fn with_view(&self, read: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError> {
        self.engine.with_view(read)
    }

    fn reclaim(&self, table: Table) -> Result<(), EngineError> {
        self.step("before space is given back");
        self.engine.reclaim(table)?;
        self.step("after space was given back");
        Ok(())
    }
}
