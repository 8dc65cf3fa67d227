//! One container that was started, as the agent sees it.
//!
//! Owns: signals, kills, the search for its end, the words for that. Does not own: its start (`sandbox`).

use super::Shared;
use super::api::{ContainerState, ContainerStatus};
use super::attach::Clients;
use super::exec::{self, Execs};
use super::logs::EngineLog;
use crate::shim::sys;
use crate::{
    AttachSession, AttachSpec, BoxFuture, ContainerId, Error, ExecSession, ExecSpec, Exit, ExitReason,
    LiveLog, LogLimits, RunningContainer, StreamsSpec, Usage, limits,
};
use nix::libc;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::Interest;
use tokio::sync::watch;

/// Exit code of a main process that was killed.
const KILLED: i32 = 128 + libc::SIGKILL;

/// A handle on a container. Dropping it changes nothing; a task of its own looks after the container.
pub(super) struct CriContainer {
    facts: Arc<Facts>,
    shared: Arc<Shared>,
    /// Of the main process, to signal it; none once it has ended.
    main: Option<Arc<OwnedFd>>,
    execs: Execs,
    clients: Clients,
    kill: watch::Sender<bool>,
    progress: watch::Receiver<Progress>,
}

/// What does not change.
pub(super) struct Facts {
    pub id: ContainerId,
    /// What the engine calls it.
    pub container_id: String,
    pub image_ref: String,
    pub log_limits: LogLimits,
    /// What is sent in place of SIGTERM.
    pub stop_signal: Option<i32>,
    pub streams: StreamsSpec,
    pub started_at: Option<SystemTime>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// No process is left.
    gone: bool,
    /// And all output is kept.
    exit: Option<Exit>,
}

impl CriContainer {
    /// Looks after a container that runs, or has run. `pid`: its main process, if the engine told it.
    pub fn new(shared: &Arc<Shared>, facts: Facts, pid: Option<i32>) -> Arc<CriContainer> {
        let main = pid.and_then(|pid| main_process(pid, &facts.container_id)).map(Arc::new);
        let (kill, kill_wanted) = watch::channel(false);
        let (progress_sender, progress) = watch::channel(Progress::default());
        let facts = Arc::new(facts);
        // Before anybody can ask for its log. Refused only if another handle follows the same container.
        let live = shared.logs.begin(&facts.id).ok();
        let keeper =
            Keeper { shared: shared.clone(), facts: facts.clone(), main: main.clone(), kill_wanted, live };
        tokio::spawn(keeper.keep(progress_sender));
        let execs = Execs::new(pid.filter(|_| main.is_some()).map(Pid::from_raw));
        let clients = Clients::default();
        Arc::new(CriContainer { facts, shared: shared.clone(), main, execs, clients, kill, progress })
    }

    /// A container that never ran.
    pub fn never_ran(shared: &Arc<Shared>, facts: Facts, exit: Exit) -> Arc<CriContainer> {
        let (_, progress) = watch::channel(Progress { gone: true, exit: Some(exit) });
        let (kill, _) = watch::channel(false);
        let (facts, execs) = (Arc::new(facts), Execs::new(None));
        let (shared, clients) = (shared.clone(), Clients::default());
        Arc::new(CriContainer { facts, shared, main: None, execs, clients, kill, progress })
    }

    /// What the engine calls it.
    pub fn container_id(&self) -> &str {
        &self.facts.container_id
    }

    /// Whether its end is known.
    pub fn has_ended(&self) -> bool {
        self.progress.borrow().exit.is_some()
    }
}

impl RunningContainer for CriContainer {
    fn id(&self) -> &ContainerId {
        &self.facts.id
    }

    fn runtime_id(&self) -> String {
        format!("{}://{}", self.shared.engine_name, self.facts.container_id)
    }

    fn image_id(&self) -> String {
        self.facts.image_ref.clone()
    }

    fn started_at(&self) -> Option<SystemTime> {
        self.facts.started_at
    }

    fn signal(&self, signal: i32) {
        let signal = match self.facts.stop_signal {
            Some(stop_signal) if signal == libc::SIGTERM => stop_signal,
            _ => signal,
        };
        if let Some(main) = &self.main {
            // It may have ended.
            let _ = sys::pidfd_signal(main.as_fd(), signal);
        }
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        // Also if the future is never polled.
        self.kill.send_replace(true);
        let mut progress = self.progress.clone();
        Box::pin(async move {
            // An error is the end of the tokio runtime.
            let _ = progress.wait_for(|progress| progress.gone).await;
        })
    }

    fn wait(&self) -> BoxFuture<'_, Exit> {
        let mut progress = self.progress.clone();
        Box::pin(async move {
            let exit = progress.wait_for(|progress| progress.exit.is_some()).await;
            match exit.map(|progress| progress.exit.clone()) {
                Ok(Some(exit)) => exit,
                _ => unknown_exit("the agent stopped watching the container".to_owned()),
            }
        })
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Without the engine it stays until its Pod is closed.
            if self.has_ended() {
                let _ = self.shared.engine.remove_container(&self.facts.container_id).await;
                let (sources, ledger) = (self.shared.sources.clone(), self.shared.ledger.clone());
                let id = self.facts.id.clone();
                let forget = move || {
                    sources.release(&id);
                    ledger.forget_run(&id);
                };
                let _ = tokio::task::spawn_blocking(forget).await;
            }
        })
    }

    fn exec(&self, spec: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>> {
        Box::pin(async move {
            if self.progress.borrow().gone {
                return Err(Error::NotRunning { container: self.facts.id.to_string() });
            }
            exec::start(&self.shared, &self.facts, &self.execs, spec).await
        })
    }

    fn attach(&self, spec: AttachSpec) -> BoxFuture<'_, Result<AttachSession, Error>> {
        Box::pin(async move {
            if self.progress.borrow().gone {
                return Err(Error::NotRunning { container: self.facts.id.to_string() });
            }
            self.clients.begin(&self.shared, &self.facts, spec).await
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async move {
            let engine = &self.shared.engine;
            let stats = engine
                .container_stats(&self.facts.container_id)
                .await
                .map_err(|refusal| engine.error(refusal))?;
            let cpu = stats.cpu.unwrap_or_default().usage_core_nano_seconds.unwrap_or_default();
            let memory = stats.memory.unwrap_or_default().working_set_bytes.unwrap_or_default();
            let disk = stats.writable_layer.and_then(|layer| layer.used_bytes);
            Ok(Usage {
                cpu_nanoseconds: cpu.value,
                memory_bytes: memory.value,
                processes: self
                    .shared
                    .cgroups
                    .count_processes(self.facts.id.pod_uid(), &self.facts.container_id),
                disk_bytes: disk.map(|bytes| bytes.value),
            })
        })
    }
}

/// Opens a container's main process, unless its number is another's by now.
fn main_process(pid: i32, container_id: &str) -> Option<OwnedFd> {
    let pidfd = sys::pidfd_open(Pid::from_raw(pid)).ok()?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.contains(container_id).then_some(pidfd)
}

/// Looks after one container until its end is known.
struct Keeper {
    shared: Arc<Shared>,
    facts: Arc<Facts>,
    main: Option<Arc<OwnedFd>>,
    kill_wanted: watch::Receiver<bool>,
    /// Until all output is in the files.
    live: Option<LiveLog>,
}

impl Keeper {
    async fn keep(mut self, progress: watch::Sender<Progress>) {
        let log = self.shared.log_of(&self.facts.id, self.facts.log_limits);
        let killed = self.wait_for_end(&log).await;
        // Its namespace ends with its main process, but it may have shared that with others.
        self.kill_all().await;
        progress.send_modify(|progress| progress.gone = true);
        let exit = self.find_exit(killed).await;
        if !self.log_is_discarded() {
            log.finish().await;
        }
        drop(self.live.take());
        progress.send_modify(|progress| progress.exit = Some(exit));
    }

    /// Resolves when the main process has ended, or is to be killed: then it is true.
    async fn wait_for_end(&self, log: &EngineLog) -> bool {
        let mut states = self.shared.states.subscribe();
        let copy = self.main.as_ref().and_then(|main| main.try_clone().ok());
        let watched = copy.and_then(|main| sys::watch(main, Interest::READABLE).ok());
        let main_ended = async {
            match &watched {
                Some(main) => drop(main.readable().await),
                // It has ended, or its engine does not tell its number.
                None => {
                    let (mut pause, longest) = limits::ENGINE_END_PAUSE_MS;
                    while !self.has_ended().await {
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        pause = (pause * 2).min(longest);
                    }
                }
            }
        };
        tokio::pin!(main_ended);
        let mut look = tokio::time::interval(Duration::from_millis(limits::LOG_SIZE_LOOK_MS));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut trouble_told = false;
        let mut kill_wanted = self.kill_wanted.clone();
        loop {
            // Then nobody can want a kill any more. The container goes on.
            let has_handle = kill_wanted.has_changed().is_ok();
            tokio::select! {
                () = &mut main_ended => return false,
                is_wanted = async { kill_wanted.wait_for(|wanted| *wanted).await.is_ok() }, if has_handle => {
                    if is_wanted {
                        return true;
                    }
                }
                changed = states.changed() => {
                    let list = states.borrow_and_update().clone();
                    let state = list.get(&self.facts.container_id);
                    let runs = matches!(state, Some(ContainerState::ContainerRunning | ContainerState::ContainerCreated));
                    // A list may have been made before the container was.
                    if changed.is_err() || (!runs && self.has_ended().await) {
                        return false;
                    }
                }
                // What was deleted is not to be made again.
                _ = look.tick(), if !self.log_is_discarded() => {
                    if let Err(trouble) = log.attend(&self.shared.engine, &self.facts.container_id).await
                        && !std::mem::replace(&mut trouble_told, true)
                    {
                        tracing::warn!(log = %self.facts.id, %trouble, "a log is not rotated");
                    }
                }
            }
        }
    }

    /// The Pod's logs were deleted.
    fn log_is_discarded(&self) -> bool {
        self.live.as_ref().is_some_and(LiveLog::is_discarded)
    }

    /// What the engine says; false if it says nothing.
    async fn has_ended(&self) -> bool {
        match self.shared.engine.container_status(&self.facts.container_id).await {
            Ok((status, _)) => status.state() == ContainerState::ContainerExited,
            Err(refusal) => refusal.is_not_found(),
        }
    }

    async fn kill_all(&self) {
        loop {
            let (cgroups, facts) = (self.shared.cgroups.clone(), self.facts.clone());
            let patience = Duration::from_millis(limits::KILL_PATIENCE_MS);
            let killed = tokio::task::spawn_blocking(move || {
                cgroups.kill_container(facts.id.pod_uid(), &facts.container_id, patience)
            });
            match killed.await {
                Ok(true) | Err(_) => return,
                Ok(false) => {
                    tracing::warn!(container = %self.facts.id, "killed processes do not end; trying on")
                }
            }
        }
    }

    /// Asks the engine until it knows how the container ended. If that was killed by us, its silence is no reason to wait.
    async fn find_exit(&self, mut killed: bool) -> Exit {
        let begun = Instant::now();
        let (mut pause, longest) = limits::ENGINE_END_PAUSE_MS;
        let mut asked_for_memory = 0;
        loop {
            match self.shared.engine.container_status(&self.facts.container_id).await {
                Ok((status, _)) if status.state() == ContainerState::ContainerExited => {
                    // Of an end by the kernel's memory killer engines hear by another way, which may be slower.
                    let may_be_late = status.exit_code == KILLED && status.reason != "OOMKilled" && !killed;
                    if !may_be_late || asked_for_memory == limits::OOM_NEWS_TRIES_MAX {
                        return self.exit_of(&status, killed);
                    }
                    asked_for_memory += 1;
                    pause = limits::OOM_NEWS_MS;
                }
                Err(refusal) if refusal.is_not_found() => {
                    return unknown_exit(
                        "the container was removed from its engine by somebody else".to_owned(),
                    );
                }
                Ok(_) | Err(_) => {
                    killed |= *self.kill_wanted.borrow();
                    if killed && begun.elapsed() >= Duration::from_millis(limits::ENGINE_SILENCE_MS) {
                        return Exit {
                            reason: ExitReason::Error,
                            message: "killed; its engine does not answer".to_owned(),
                            ..unknown_exit(String::new())
                        };
                    }
                    pause = (pause * 2).min(longest);
                }
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn exit_of(&self, status: &ContainerStatus, killed: bool) -> Exit {
        let finished_at = time_of(status.finished_at).unwrap_or_else(SystemTime::now);
        let exit = exit_of_status(status, finished_at);
        let fenced = exit.exit_code == KILLED && !killed && self.shared.guard.has_killed_at(finished_at);
        Exit { fenced, ..exit }
    }
}

/// A time of the engine's; none for zero, or if there is no such time.
pub(super) fn time_of(nanoseconds: i64) -> Option<SystemTime> {
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|nanoseconds| *nanoseconds > 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

/// What the engine's words for an end mean (P3).
fn exit_of_status(status: &ContainerStatus, finished_at: SystemTime) -> Exit {
    let code = status.exit_code;
    let message = || status.message.chars().take(limits::ENGINE_MESSAGE_CHARS_MAX).collect::<String>();
    let (exit_code, reason, message) = match (&*status.reason, code) {
        ("Unknown" | "ContainerStatusUnknown", _) => (KILLED, ExitReason::ContainerStatusUnknown, message()),
        ("StartError", _) => (code, ExitReason::StartError, message()),
        (_, 0) => (0, ExitReason::Completed, String::new()),
        ("OOMKilled", _) => (code, ExitReason::OomKilled, message()),
        _ => (code, ExitReason::Error, message()),
    };
    // Engines tell only the code, in which an exit with 137 and an end by signal 9 look the same. Nobody exits with it.
    let signal =
        (exit_code == KILLED && reason != ExitReason::ContainerStatusUnknown).then_some(libc::SIGKILL);
    Exit { exit_code, signal, reason, message, finished_at, log_bytes_dropped: 0, fenced: false }
}

fn unknown_exit(message: String) -> Exit {
    Exit {
        exit_code: KILLED,
        signal: None,
        reason: ExitReason::ContainerStatusUnknown,
        message,
        finished_at: SystemTime::now(),
        log_bytes_dropped: 0,
        fenced: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: &str, exit_code: i32, expected: (i32, Option<i32>, ExitReason)) {
        let status = ContainerStatus { exit_code, reason: reason.to_owned(), ..ContainerStatus::default() };
        let exit = exit_of_status(&status, SystemTime::UNIX_EPOCH);
        assert_eq!((exit.exit_code, exit.signal, exit.reason), expected, "{reason} {exit_code}");
    }

    #[test]
    fn words_of_engines_are_kubernetes_words() {
        check("Completed", 0, (0, None, ExitReason::Completed));
        check("Error", 3, (3, None, ExitReason::Error));
        check("Error", 143, (143, None, ExitReason::Error));
        check("Error", 137, (137, Some(9), ExitReason::Error));
        check("OOMKilled", 137, (137, Some(9), ExitReason::OomKilled));
        check("OOMKilled", 0, (0, None, ExitReason::Completed));
        check("StartError", 128, (128, None, ExitReason::StartError));
        check("Unknown", 255, (137, None, ExitReason::ContainerStatusUnknown));
    }
}
