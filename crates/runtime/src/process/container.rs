//! One running container, as the agent sees it.
//!
//! Owns: the conversation with its shim, and the words for its end. Does not own: the processes, the log.
//!
//! The container belongs to its shim. Letting go of all handles lets go of the conversation only, unless the container was to
//! be killed.

use super::attach::AttachTable;
use super::confiner::{Confiner, Pod};
use super::connection::{Connection, ShimFolder};

use super::execs::ExecTable;
use super::temporary;
use crate::cgroups::GroupEnd;
use crate::shim::messages::{Fact, Isolation, NotExecuted, Order, Read, Recorded, Stage};
use crate::shim::sys::{self, ChildEnd};
use crate::shim::wire::{MessageReader, Received};
use crate::{
    AttachSession, AttachSpec, BoxFuture, ContainerId, Error, ExecSession, ExecSpec, Exit, ExitReason,
    LiveLog, RunningContainer, ShortWork, Usage, limits,
};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Exit code of a main process that was killed with its container.
const KILLED: i32 = 128 + 9;

/// Why there is no container. Nothing of it is left.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// The shim was lost before anything was started, so that it may be tried again.
    ShimLost,
    /// The moment before which it may start had passed.
    TooLate,
    /// It was to be killed.
    Killed,
    /// The system refused.
    Refused(io::Error),
}

/// What the agent and its task on a container share.
pub(super) struct Shared {
    pub recorded: Recorded,
    pub isolation: Isolation,
    pub connection: Connection,
    pub execs: ExecTable,
    pub attaches: AttachTable,
    /// Of what its shim says and understands.
    pub version: u32,
    confiner: Arc<Confiner>,
    work: ShortWork,
    /// Its user is given back with the last of these.
    _pod: Option<Arc<Pod>>,
    folder: Arc<ShimFolder>,
    /// Of its socket.
    name: String,
    progress: watch::Sender<Progress>,
    is_released: AtomicBool,
    /// Process id of its shim; 0 if it is not known.
    shim: AtomicI32,
}

/// A handle on a container; a task of its own does the work.
pub(crate) struct ProcessContainer {
    shared: Arc<Shared>,
    /// Said once: everything shall end. Dropped with the handle.
    killed: watch::Sender<bool>,
    signals: mpsc::Sender<u8>,
}

/// What is known of a container.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Why it was not started, if that is known.
    not_started: Option<NotStarted>,
    started_at: Option<SystemTime>,
    start_failure: Option<NotExecuted>,
    /// No process is left, since then.
    gone_at: Option<SystemTime>,
    /// And all output is kept.
    exit: Option<Exit>,
}

impl Progress {
    fn is_decided(&self) -> bool {
        self.not_started.is_some() || self.started_at.is_some() || self.gone_at.is_some()
    }
}

/// What a container is made of.
pub(super) struct ContainerParts {
    pub recorded: Recorded,
    pub isolation: Isolation,
    pub confiner: Arc<Confiner>,
    /// For what is done with control groups.
    pub work: ShortWork,
    /// If it was started here.
    pub pod: Option<Arc<Pod>>,
    pub connection: Connection,
    pub folder: Arc<ShimFolder>,
    /// Of its socket.
    pub name: String,
    pub log: LiveLog,
    /// Of the shim, if it has said so.
    pub pidfd: Option<OwnedFd>,
    /// What it has said.
    pub facts: Vec<Fact>,
    pub reader: MessageReader,
    /// Of what it says and understands.
    pub version: u32,
}

impl ProcessContainer {
    /// Begins to listen to the shim.
    pub(super) fn attend(parts: ContainerParts) -> ProcessContainer {
        let ContainerParts {
            recorded,
            isolation,
            confiner,
            work,
            pod,
            connection,
            folder,
            name,
            log,
            pidfd,
            facts,
            reader,
            version,
        } = parts;
        let shared = Arc::new(Shared {
            recorded,
            isolation,
            connection,
            execs: ExecTable::default(),
            attaches: AttachTable::default(),
            version,
            confiner,
            work,
            _pod: pod,
            folder,
            name,
            progress: watch::Sender::default(),
            is_released: AtomicBool::new(false),
            shim: AtomicI32::new(pidfd.as_ref().and_then(sys::pid_of).unwrap_or(0)),
        });
        let is_born = pidfd.is_some() || !facts.is_empty();
        let mut task = Task { shared: shared.clone(), is_born, pidfd, kill_by: None, is_killed: false };
        let has_ended = facts.into_iter().filter_map(|fact| task.learn(fact, None)).last();
        let (killed, kill_orders) = watch::channel(false);
        let (signals, signal_orders) = mpsc::channel(limits::SIGNALS_WAITING_MAX);
        match has_ended {
            // At the start of an agent, which waits for this anyway.
            Some(end) => task.finish(end, task.shared.confiner.finish(&task.shared.recorded.id)),
            None => drop(tokio::spawn(task.run(reader, log, kill_orders, signal_orders))),
        }
        ProcessContainer { shared, killed, signals }
    }

    /// Resolves when the program runs or is known never to. To be called for a new shim, once. If it is dropped before it
    /// resolves, the container is killed.
    pub(super) async fn started(
        self,
        killed: &mut BoxFuture<'static, ()>,
        has_memory_limit: bool,
    ) -> Result<ProcessContainer, NotStarted> {
        let starting = Starting(Some(self));
        let Some(container) = &starting.0 else { return Err(NotStarted::ShimLost) };
        let mut progress = container.shared.progress.subscribe();
        tokio::select! {
            biased;
            () = decided(&mut progress) => {}
            () = killed => {
                container.kill().await;
                container.wait().await;
                container.release().await;
                return Err(NotStarted::Killed);
            }
        }
        let lacking = || container.shared.what_the_node_lacks(has_memory_limit).map(NotStarted::Refused);
        let Some(not_started) = container.shared.take_not_started().or_else(lacking) else {
            return starting.done();
        };
        container.wait().await;
        container.release().await;
        drop(starting.done());
        Err(not_started)
    }

    /// Where it began.
    #[cfg(feature = "oci")]
    pub fn home(&self) -> std::path::PathBuf {
        OsStr::from_bytes(&self.shared.recorded.home).into()
    }

    /// The process that all of its processes descend from, while it runs.
    #[cfg(feature = "oci")]
    pub fn ancestor(&self) -> Option<i32> {
        self.shared.shim()
    }

    /// What it shares with its task.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Kills a container whose start nobody waits for any more.
struct Starting(Option<ProcessContainer>);

impl Starting {
    fn done(mut self) -> Result<ProcessContainer, NotStarted> {
        self.0.take().ok_or(NotStarted::ShimLost)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(container) = &self.0 {
            container.killed.send_replace(true);
        }
    }
}

impl Shared {
    /// Lets the shim go, if all of it has ended.
    pub async fn release(&self) {
        if self.progress.borrow().exit.is_none() || self.is_released.swap(true, Ordering::SeqCst) {
            return;
        }
        // A shim that can't be told keeps its end for a while; one that is dead needs nothing.
        let patience = Duration::from_millis(limits::SHIM_KILL_MS);
        let _ = tokio::time::timeout(patience, self.connection.send(&Order::Release, &[])).await;
        self.folder.remove(&self.name);
        self.remove_temporary().await;
    }

    /// Of a run that nobody begins again.
    async fn remove_temporary(&self) {
        let home = Path::new(OsStr::from_bytes(&self.recorded.home));
        let Some(directory) = home.parent().map(Path::to_owned) else { return };
        let id = self.recorded.id.clone();
        if let Some(Err(error)) = super::blocking(move || temporary::remove(&directory, &id)).await {
            // They go with the next run, or with the Pod's folder.
            tracing::warn!(container = %self.recorded.id, %error, "temporary files of a run can't be removed");
        }
    }

    fn take_not_started(&self) -> Option<NotStarted> {
        let mut taken = None;
        self.progress.send_if_modified(|progress| {
            taken = progress.not_started.take();
            false
        });
        taken
    }

    /// Why it was not started, if that is not its own fault, and may pass.
    fn what_the_node_lacks(&self, has_memory_limit: bool) -> Option<io::Error> {
        let progress = self.progress.borrow();
        let why = progress.start_failure.as_ref()?;
        is_of_the_node(why, has_memory_limit)
            .then(|| io::Error::other(start_failure_message(why, &self.recorded)))
    }

    /// Whether its end was taken.
    pub fn is_released(&self) -> bool {
        self.is_released.load(Ordering::SeqCst)
    }

    /// Its shim, which all its processes descend from, while it runs.
    pub fn shim(&self) -> Option<i32> {
        Some(self.shim.load(Ordering::Relaxed)).filter(|pid| *pid > 0 && self.runs())
    }

    /// Number of its shim; 0 if that is not known.
    pub fn shim_pid(&self) -> i32 {
        self.shim.load(Ordering::Relaxed)
    }

    /// Whether it runs, as far as is known here.
    pub fn runs(&self) -> bool {
        let progress = self.progress.borrow();
        progress.started_at.is_some() && progress.gone_at.is_none() && progress.exit.is_none()
    }
}

impl RunningContainer for ProcessContainer {
    fn id(&self) -> &ContainerId {
        &self.shared.recorded.id
    }

    fn runtime_id(&self) -> String {
        format!("process://{}", self.shared.recorded.id)
    }

    fn image_id(&self) -> String {
        String::new()
    }

    fn started_at(&self) -> Option<SystemTime> {
        self.shared.progress.borrow().started_at
    }

    fn signal(&self, signal: i32) {
        if let Ok(signal) = u8::try_from(signal) {
            // Full: of a flood of signals the first ones are enough.
            let _ = self.signals.try_send(signal);
        }
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        // Also if the future is never polled.
        self.killed.send_if_modified(|killed| !std::mem::replace(killed, true));
        let mut progress = self.shared.progress.subscribe();
        Box::pin(async move {
            let is_over = |progress: &Progress| progress.gone_at.is_some() || progress.exit.is_some();
            let _ = progress.wait_for(is_over).await;
        })
    }

    fn wait(&self) -> BoxFuture<'_, Exit> {
        let mut progress = self.shared.progress.subscribe();
        Box::pin(async move {
            let ended = progress.wait_for(|progress| progress.exit.is_some()).await;
            match ended.ok().and_then(|progress| progress.exit.clone()) {
                Some(exit) => exit,
                // The sender is ours.
                None => std::future::pending().await,
            }
        })
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.release())
    }

    fn exec(&self, spec: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>> {
        Box::pin(super::execs::begin(self.shared.clone(), spec))
    }

    fn attach(&self, spec: AttachSpec) -> BoxFuture<'_, Result<AttachSession, Error>> {
        Box::pin(super::attach::begin(self.shared.clone(), spec))
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let usage = super::blocking(move || shared.confiner.usage(&shared.recorded.id)).await;
            usage
                .and_then(|usage| usage.ok().flatten())
                .ok_or_else(|| unsupported("to measure what a container uses, without control groups"))
        })
    }
}

/// How the conversation with a shim came to its end.
enum End {
    /// The shim said so.
    Ended { end: ChildEnd, fenced: bool, log_bytes_dropped: u64 },
    /// The shim was killed by us, with its namespace.
    Killed,
    /// The shim ended without a word.
    ShimDied,
}

/// The task of one container.
struct Task {
    shared: Arc<Shared>,
    /// The shim exists. Before that it starts nothing.
    is_born: bool,
    /// Of the shim.
    pidfd: Option<OwnedFd>,
    /// When the shim itself is killed, unless nothing of the container is left by then.
    kill_by: Option<Instant>,
    /// It was to be killed.
    is_killed: bool,
}

impl Task {
    async fn run(
        mut self,
        reader: MessageReader,
        mut log: LiveLog,
        kill_orders: watch::Receiver<bool>,
        signals: mpsc::Receiver<u8>,
    ) {
        if let Some((end, handle_is_gone)) = self.converse(reader, &mut log, kill_orders, signals).await {
            // Readers that follow it read what came last, and end.
            drop(log);
            let shared = self.shared.clone();
            let group_end = self.shared.work.run(move || shared.confiner.finish(&shared.recorded.id)).await;
            self.finish(end, group_end.unwrap_or_default());
            if handle_is_gone {
                self.shared.release().await;
            }
        }
    }

    /// Passes on orders and facts until the end, and whether the handle is gone; `None` if it was given up before.
    async fn converse(
        &mut self,
        mut reader: MessageReader,
        log: &mut LiveLog,
        mut kill_orders: watch::Receiver<bool>,
        mut signals: mpsc::Receiver<u8>,
    ) -> Option<(End, bool)> {
        let shared = self.shared.clone();
        let (mut kill_may_come, mut log_may_be_discarded) = (true, true);
        loop {
            tokio::select! {
                // Facts before wishes, so that a kill finds the pidfd.
                biased;
                message = shared.connection.receive(&mut reader) => {
                    let read = message.map_or((Read::Wrong, None), |Received { body, mut descriptors }| {
                        (Fact::decode(&body), descriptors.pop())
                    });
                    let end = match read {
                        (Read::Known(fact), descriptor) => self.learn(fact, descriptor),
                        // A later version's.
                        (Read::Unknown, _) => None,
                        (Read::Wrong, _) => Some(self.shim_ended().await),
                    };
                    if let Some(end) = end {
                        return Some((end, kill_orders.has_changed().is_err()));
                    }
                }
                changed = kill_orders.changed(), if kill_may_come => {
                    kill_may_come = false;
                    if *kill_orders.borrow() {
                        self.kill().await;
                    } else if changed.is_err() {
                        return None;
                    } else {
                        kill_may_come = true;
                    }
                }
                () = until(self.kill_by) => self.kill_shim(),
                Some(signal) = signals.recv() => {
                    let _ = shared.connection.send(&Order::Signal(signal), &[]).await;
                }
                () = log.discarded(), if log_may_be_discarded => {
                    log_may_be_discarded = false;
                    let _ = shared.connection.send(&Order::DiscardLog, &[]).await;
                }
            }
        }
    }

    /// Takes what the shim says; the end, if it is that.
    fn learn(&mut self, fact: Fact, descriptor: Option<OwnedFd>) -> Option<End> {
        let progress = &self.shared.progress;
        match fact {
            Fact::Hello(_) => {
                self.is_born = true;
                let shim = descriptor.as_ref().and_then(sys::pid_of);
                self.shared.shim.store(shim.unwrap_or(0), Ordering::Relaxed);
                self.pidfd = descriptor;
            }
            Fact::NoShim { errno } => {
                let refusal = NotStarted::Refused(Errno::from_raw(errno).into());
                progress.send_modify(|progress| progress.not_started = Some(refusal));
                return Some(End::ShimDied);
            }
            Fact::Started { at } => progress.send_modify(|progress| progress.started_at = Some(time_of(at))),
            Fact::StartFailed(why) => progress.send_modify(|progress| {
                if why.stage == Stage::StartDeadline {
                    progress.not_started = Some(NotStarted::TooLate);
                }
                progress.start_failure = Some(why);
            }),
            Fact::Gone { at } => {
                self.kill_by = None;
                progress.send_modify(|progress| progress.gone_at = Some(time_of(at)));
                self.shared.execs.container_ended();
                self.shared.attaches.container_ended();
            }
            Fact::Ended { end, fenced, log_bytes_dropped } => {
                return Some(End::Ended { end, fenced, log_bytes_dropped });
            }
            Fact::ExecStarted { exec } => self.shared.execs.started(exec),
            Fact::ExecFailed { exec, why } => self.shared.execs.failed(exec, why),
            Fact::ExecEnded { exec, end } => self.shared.execs.ended(exec, end),
            Fact::Attached { attach, terminal } => {
                self.shared.attaches.answered(attach, Ok((descriptor, terminal)));
            }
            Fact::AttachRefused { attach, refusal } => self.shared.attaches.answered(attach, Err(refusal)),
            Fact::InputClosed => self.shared.attaches.input_closed(),
        }
        None
    }

    async fn kill(&mut self) {
        let patience = Duration::from_millis(limits::SHIM_KILL_MS);
        self.kill_by = Some(Instant::now() + patience);
        self.is_killed = true;
        // A shim that doesn't read is killed itself.
        let _ = tokio::time::timeout(patience, self.shared.connection.send(&Order::Kill, &[])).await;
    }

    /// The death of a namespace's init is the death of all, even if that init does not answer any more.
    fn kill_shim(&mut self) {
        self.kill_by = None;
        if self.shared.isolation.is_namespace()
            && let Some(pidfd) = &self.pidfd
        {
            let _ = sys::pidfd_kill(pidfd.as_fd());
        }
    }

    /// The shim closed its socket without a last word: it was killed. Waits until the kernel is done with its tree.
    async fn shim_ended(&mut self) -> End {
        if !self.is_born {
            self.shared.progress.send_modify(|progress| progress.not_started = Some(NotStarted::ShimLost));
            return End::ShimDied;
        }
        match self.pidfd.take().map(|pidfd| sys::watch(pidfd, Interest::READABLE)) {
            Some(Ok(pidfd)) => {
                // One that lives all the same, and has given up a connection that this process did not read, can't be
                // spoken to any more.
                let patience = Duration::from_millis(limits::KILL_CONFIRM_MS);
                if tokio::time::timeout(patience, pidfd.readable()).await.is_err() {
                    let _ = sys::pidfd_kill(pidfd.get_ref().as_fd());
                }
                drop(pidfd.readable().await);
            }
            // A kernel that can't tell.
            _ => tokio::time::sleep(Duration::from_millis(limits::KILL_CONFIRM_MS)).await,
        }
        if self.is_killed { End::Killed } else { End::ShimDied }
    }

    fn finish(&self, end: End, group_end: GroupEnd) {
        let isolation = self.shared.isolation;
        self.shared.execs.container_ended();
        self.shared.attaches.container_ended();
        self.shared.progress.send_modify(|progress| {
            let finished_at = *progress.gone_at.get_or_insert_with(SystemTime::now);
            let why = progress.start_failure.as_ref();
            progress.exit = Some(exit(end, group_end, why, &self.shared.recorded, isolation, finished_at));
        });
    }
}

/// Resolves when the program runs or is known never to.
async fn decided(progress: &mut watch::Receiver<Progress>) {
    // The sender is ours.
    let _ = progress.wait_for(Progress::is_decided).await;
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn exit(
    end: End,
    group_end: GroupEnd,
    start_failure: Option<&NotExecuted>,
    recorded: &Recorded,
    isolation: Isolation,
    finished_at: SystemTime,
) -> Exit {
    let (fenced, log_bytes_dropped) = match end {
        End::Ended { fenced, log_bytes_dropped, .. } => (fenced, log_bytes_dropped),
        End::Killed | End::ShimDied => (false, 0),
    };
    let (exit_code, signal, reason, message) = match (end, start_failure) {
        (End::Ended { end: ChildEnd::Exited(code), .. }, Some(why)) => {
            (code, None, ExitReason::StartError, start_failure_message(why, recorded))
        }
        // A child may have been the one that was killed, and the main process have given up then.
        (End::Ended { end: ChildEnd::Exited(code @ 1..), .. }, None) if group_end.out_of_memory => {
            (code, None, ExitReason::OomKilled, out_of_memory(group_end.memory_limit))
        }
        (End::Ended { end: ChildEnd::Signaled(signal @ 9), fenced: false, .. }, _)
            if group_end.out_of_memory =>
        {
            (128 + signal, Some(signal), ExitReason::OomKilled, out_of_memory(group_end.memory_limit))
        }
        (End::Ended { end: ChildEnd::Exited(0), .. }, None) => {
            (0, None, ExitReason::Completed, String::new())
        }
        (End::Ended { end: ChildEnd::Exited(code), .. }, None) => {
            (code, None, ExitReason::Error, String::new())
        }
        (End::Ended { end: ChildEnd::Signaled(signal), .. }, _) => {
            let message = if fenced { "killed as the lease ran out".to_owned() } else { String::new() };
            (128 + signal, Some(signal), ExitReason::Error, message)
        }
        (End::Killed, _) => (KILLED, Some(9), ExitReason::Error, String::new()),
        (End::ShimDied, _) => {
            let message = match isolation {
                Isolation::Degraded => {
                    "the container's shim was killed from outside; processes in its background may have survived"
                }
                _ => "the container's shim was killed from outside, and with it the container",
            };
            (KILLED, Some(9), ExitReason::Error, message.to_owned())
        }
    };
    Exit { exit_code, signal, reason, message, finished_at, log_bytes_dropped, fenced }
}

fn out_of_memory(limit: Option<u64>) -> String {
    match limit {
        // The kernel counts in pages.
        Some(0) => {
            "a process of the container was killed: its limit of memory is less than a page".to_owned()
        }
        Some(limit) => {
            format!("a process of the container was killed: it needed more than the limit of {limit} bytes")
        }
        None => "a process of the container was killed: the node had no memory left".to_owned(),
    }
}

fn start_failure_message(why: &NotExecuted, recorded: &Recorded) -> String {
    let cause = why.errno.desc().to_lowercase();
    match (why.text.as_str(), why.errno) {
        ("", _) => {}
        // The text says it all.
        (text, Errno::UnknownErrno) => return text.to_owned(),
        (text, _) => return format!("{text}: {cause}"),
    }
    let program = shortened(&recorded.program);
    match why.stage {
        Stage::Confinement => format!("the container's surroundings can't be made: {cause}"),
        Stage::WorkingDirectory => {
            let path = String::from_utf8_lossy(&recorded.working_directory);
            format!("workingDir {:?} can't be used: {cause}", shortened(&path))
        }
        Stage::Fork => format!("no process can be made: {cause}"),
        Stage::Exec => exec_failure_message(why.errno, &program),
        Stage::Container => format!("the container can't be made: {cause}"),
        Stage::StartDeadline => "the moment before which it may start has passed".to_owned(),
    }
}

/// True if the node had no descriptors, processes, memory or room on its disk left. A container with a limit of memory may have
/// run into that.
fn is_of_the_node(why: &NotExecuted, has_memory_limit: bool) -> bool {
    match why.errno {
        Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOSPC | Errno::EDQUOT => true,
        Errno::ENOMEM => !has_memory_limit,
        _ => false,
    }
}

/// Why a program could not be executed.
pub(super) fn exec_failure_message(errno: Errno, program: &str) -> String {
    if errno == Errno::ENOENT && !program.contains('/') {
        return format!("exec {program:?}: no such program in PATH");
    }
    format!("exec {program:?}: {}", errno.desc().to_lowercase())
}

/// A moment of the wall clock, in nanoseconds.
fn time_of(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::Unsupported { runtime: "process", what: what.to_owned() }
}

/// The beginning of a text that may be as long as a user likes.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(limits::SHOWN_PROGRAM_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_lacks_is_told_apart_from_what_a_container_does_wrong() {
        let of_the_node = |stage, errno, has_memory_limit| {
            is_of_the_node(&NotExecuted { stage, errno, text: String::new() }, has_memory_limit)
        };
        assert!(of_the_node(Stage::Fork, Errno::EAGAIN, false));
        assert!(of_the_node(Stage::Confinement, Errno::ENOSPC, true));
        assert!(of_the_node(Stage::Exec, Errno::ENOMEM, false));
        assert!(!of_the_node(Stage::Confinement, Errno::ENOMEM, true), "its own limit");
        assert!(!of_the_node(Stage::Exec, Errno::ENOENT, false));
        assert!(!of_the_node(Stage::Exec, Errno::E2BIG, false));
        assert!(!of_the_node(Stage::WorkingDirectory, Errno::EACCES, false));
    }
}
