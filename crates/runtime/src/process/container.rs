//! One running container, as the agent sees it.
//!
//! Owns: the conversation with its shim, and the words for its end. Does not own: the processes.

use super::output::copy_output;
use super::spawner::SpawnerLink;
use crate::shim::sys;
use crate::shim::wire::{self, Frame, Isolation, Order, Stage};
use crate::{
    BoxFuture, ContainerId, Error, ExecSession, ExecSpec, Exit, ExitReason, RunningContainer, Usage,
};
use crate::{LogWriter, limits};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

/// Exit code of a main process that was killed with its container.
const KILLED: i32 = 128 + 9;

/// Why there is no container. Nothing of it is left, and its log is closed.
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

/// What a container is made of.
pub(super) struct ContainerParts {
    pub id: ContainerId,
    pub program: String,
    pub home: PathBuf,
    pub working_directory: Option<PathBuf>,
    pub isolation: Isolation,
    pub shim: UnixStream,
    pub stdout: pipe::Receiver,
    pub stderr: pipe::Receiver,
    pub log: LogWriter,
    /// The shim dies with its spawner, and that with the last of these.
    pub link: Arc<SpawnerLink>,
}

/// A handle on a container; a task of its own does the work.
pub(super) struct ProcessContainer {
    id: ContainerId,
    started_at: Option<SystemTime>,
    /// Dropped with the handle, which the task takes for [`Wanted::Killed`].
    wanted: watch::Sender<Wanted>,
    /// For the main process.
    signals: mpsc::Sender<u8>,
    progress: watch::Receiver<Progress>,
}

/// When the program began to run, none if it never did; or why nothing was started.
type Started = Result<Option<SystemTime>, NotStarted>;

/// What the agent wants. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Running,
    Killed,
}

#[derive(Debug, Default)]
struct Progress {
    /// No process is left.
    gone: bool,
    /// And all output is kept.
    exit: Option<Exit>,
}

impl ProcessContainer {
    /// Resolves when the program runs or is known never to.
    pub async fn start(
        parts: ContainerParts,
        killed: &mut BoxFuture<'static, ()>,
    ) -> Result<ProcessContainer, NotStarted> {
        let (wanted, wanted_receiver) = watch::channel(Wanted::Running);
        let (progress_sender, progress) = watch::channel(Progress::default());
        let (started_sender, started) = oneshot::channel();
        let (signals, signals_receiver) = mpsc::channel(limits::SIGNALS_WAITING_MAX);
        let id = parts.id.clone();
        tokio::spawn(run(parts, wanted_receiver, signals_receiver, progress_sender, started_sender));
        let container = ProcessContainer { id, started_at: None, wanted, signals, progress };
        let started = tokio::select! {
            biased;
            started = started => started,
            () = killed => {
                container.kill().await;
                container.wait().await;
                return Err(NotStarted::Killed);
            }
        };
        match started {
            Ok(Ok(started_at)) => Ok(ProcessContainer { started_at, ..container }),
            Ok(Err(not_started)) => {
                container.wait().await;
                Err(not_started)
            }
            Err(_) => Err(NotStarted::Refused(io::Error::other("the task that watches the shim has ended"))),
        }
    }

    fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|current| {
            let grows = wanted > *current;
            *current = wanted.max(*current);
            grows
        });
    }
}

impl RunningContainer for ProcessContainer {
    fn id(&self) -> &ContainerId {
        &self.id
    }

    fn runtime_id(&self) -> String {
        format!("process://{}", self.id)
    }

    fn image_id(&self) -> String {
        String::new()
    }

    fn started_at(&self) -> Option<SystemTime> {
        self.started_at
    }

    fn signal(&self, signal: i32) {
        if let Ok(signal) = u8::try_from(signal) {
            // Full: of a flood of signals the first ones are enough.
            let _ = self.signals.try_send(signal);
        }
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        // Also if the future is never polled.
        self.want(Wanted::Killed);
        let mut progress = self.progress.clone();
        Box::pin(async move {
            // An error means that the task is gone, and with it the shim's socket: the shim ends all by itself then.
            let _ = progress.wait_for(|progress| progress.gone).await;
        })
    }

    fn wait(&self) -> BoxFuture<'_, Exit> {
        let mut progress = self.progress.clone();
        Box::pin(async move {
            match progress
                .wait_for(|progress| progress.exit.is_some())
                .await
                .map(|progress| progress.exit.clone())
            {
                Ok(Some(exit)) => exit,
                _ => Exit {
                    exit_code: KILLED,
                    signal: Some(9),
                    reason: ExitReason::Error,
                    message: "the agent stopped watching the container's shim".to_owned(),
                    finished_at: SystemTime::now(),
                    log_bytes_dropped: 0,
                    fenced: false,
                },
            }
        })
    }

    fn exec(&self, _: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>> {
        Box::pin(async { Err(unsupported("to run a further program in a container")) })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async { Err(unsupported("to measure what a container uses")) })
    }
}

/// The task of one container, from the request for a shim to the last byte of output.
async fn run(
    parts: ContainerParts,
    wanted: watch::Receiver<Wanted>,
    signals: mpsc::Receiver<u8>,
    progress: watch::Sender<Progress>,
    started: oneshot::Sender<Started>,
) {
    let ContainerParts {
        program, home, working_directory, isolation, shim, stdout, stderr, log, link, ..
    } = parts;
    let (ended_sender, ended) = oneshot::channel();
    let conversation = async {
        let mut conversation = Conversation {
            shim,
            isolation,
            born: false,
            pidfd: None,
            start_failure: None,
            started: Some(started),
            kill_sent: false,
        };
        let end = conversation.hold(wanted, signals).await;
        let finished_at = SystemTime::now();
        progress.send_modify(|progress| progress.gone = true);
        conversation.tell_started(Ok(None));
        let _ = ended_sender.send(());
        (end, conversation.start_failure, finished_at)
    };
    let ((end, start_failure, finished_at), log_bytes_dropped) =
        tokio::join!(conversation, copy_output(stdout, stderr, log, ended));
    drop(link);
    let (exit_code, signal, reason, message) = match (end, start_failure) {
        (End::Exited(code), Some((stage, errno))) => {
            let message = start_failure_message(stage, errno, &program, &home, working_directory.as_ref());
            (code, None, ExitReason::StartError, message)
        }
        (End::Exited(0), None) => (0, None, ExitReason::Completed, String::new()),
        (End::Exited(code), None) => (code, None, ExitReason::Error, String::new()),
        (End::Signaled(signal), _) => (128 + signal, Some(signal), ExitReason::Error, String::new()),
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
    let exit = Exit { exit_code, signal, reason, message, finished_at, log_bytes_dropped, fenced: false };
    progress.send_modify(|progress| progress.exit = Some(exit));
}

/// How the conversation with a shim came to its end.
enum End {
    /// The shim said so.
    Exited(i32),
    /// The shim said so.
    Signaled(i32),
    /// The shim was killed by us, with its namespace.
    Killed,
    /// The shim ended without a word.
    ShimDied,
}

struct Conversation {
    shim: UnixStream,
    isolation: Isolation,
    /// The shim exists. Before that it starts nothing.
    born: bool,
    /// Of the shim.
    pidfd: Option<OwnedFd>,
    start_failure: Option<(Stage, i32)>,
    started: Option<oneshot::Sender<Started>>,
    kill_sent: bool,
}

impl Conversation {
    /// Passes orders on until no process of the container is left.
    async fn hold(&mut self, mut wanted: watch::Receiver<Wanted>, mut signals: mpsc::Receiver<u8>) -> End {
        let mut frames = FrameReader::default();
        loop {
            tokio::select! {
                // Facts before wishes, so that a kill finds the pidfd.
                biased;
                frame = frames.next(&self.shim) => match frame {
                    Some((Frame::Born, descriptor)) => {
                        self.born = true;
                        self.pidfd = descriptor;
                        if self.kill_sent {
                            // The order may find a shim that hangs in a file system.
                            self.pass_on(Wanted::Killed);
                        }
                    }
                    Some((Frame::Started, _)) => self.tell_started(Ok(Some(SystemTime::now()))),
                    Some((Frame::StartFailed { stage: Stage::StartDeadline, .. }, _)) => {
                        self.tell_started(Err(NotStarted::TooLate));
                    }
                    Some((Frame::StartFailed { stage, errno }, _)) => self.start_failure = Some((stage, errno)),
                    Some((Frame::Exited { code }, _)) => return End::Exited(code),
                    Some((Frame::Signaled { signal }, _)) => return End::Signaled(signal),
                    Some((Frame::NoShim { errno }, _)) => {
                        self.tell_started(Err(NotStarted::Refused(Errno::from_raw(errno).into())));
                        return End::ShimDied;
                    }
                    Some((Frame::Hello { .. }, _)) | None => return self.shim_ended().await,
                },
                changed = wanted.changed(), if !self.kill_sent => {
                    // Nobody holds the container any more: nobody could end it later.
                    let wanted = if changed.is_ok() { *wanted.borrow_and_update() } else { Wanted::Killed };
                    self.pass_on(wanted);
                }
                // The socket's buffer holds hundreds of orders; a signal that finds it full is one of a flood.
                Some(signal) = signals.recv(), if !self.kill_sent => {
                    drop(self.shim.try_write(&Order::Signal(signal).encode()));
                }
            }
        }
    }

    fn tell_started(&mut self, result: Started) {
        if let Some(started) = self.started.take() {
            // If the caller has given up, its end of `wanted` is gone too, which kills.
            let _ = started.send(result);
        }
    }

    fn pass_on(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Running => {}
            Wanted::Killed => {
                self.kill_sent = true;
                let namespace = match self.isolation {
                    Isolation::NamespaceWithProc | Isolation::NamespaceOnly => self.pidfd.as_ref(),
                    // The shim must live to kill the rest.
                    Isolation::Degraded => None,
                };
                // The death of a namespace's init is the death of all, even if that init does not answer any more.
                if namespace.is_none_or(|pidfd| sys::pidfd_kill(pidfd.as_fd()).is_err()) {
                    let _ = self.shim.try_write(&Order::Kill.encode());
                }
            }
        }
    }

    /// The shim closed its socket without a last word: it was killed. Waits until the kernel is done with its tree.
    async fn shim_ended(&mut self) -> End {
        if !self.born {
            self.tell_started(Err(NotStarted::ShimLost));
            return End::ShimDied;
        }
        match self.pidfd.take().map(|pidfd| sys::watch(pidfd, Interest::READABLE)) {
            Some(Ok(pidfd)) => drop(pidfd.readable().await),
            // A kernel that can't tell.
            _ => tokio::time::sleep(Duration::from_millis(limits::KILL_CONFIRM_MS)).await,
        }
        if self.kill_sent { End::Killed } else { End::ShimDied }
    }
}

/// Collects frames; may be cancelled between bytes.
#[derive(Default)]
struct FrameReader {
    bytes: [u8; Frame::BYTES],
    filled: usize,
    descriptor: Option<OwnedFd>,
}

impl FrameReader {
    /// The next frame with its descriptor; `None` at the end.
    async fn next(&mut self, shim: &UnixStream) -> Option<(Frame, Option<OwnedFd>)> {
        while self.filled < Frame::BYTES {
            let received = shim.async_io(Interest::READABLE, || {
                Ok(wire::receive(shim.as_fd(), &mut self.bytes[self.filled..])?)
            });
            let (count, mut descriptors) = received.await.ok()?;
            if count == 0 {
                return None;
            }
            self.filled += count;
            if let Some(descriptor) = descriptors.pop() {
                self.descriptor = Some(descriptor);
            }
        }
        self.filled = 0;
        Some((Frame::decode(&self.bytes)?, self.descriptor.take()))
    }
}

fn start_failure_message(
    stage: Stage,
    errno: i32,
    program: &str,
    home: &std::path::Path,
    working_directory: Option<&PathBuf>,
) -> String {
    let cause = Errno::from_raw(errno).desc().to_lowercase();
    let program = shortened(program);
    match stage {
        Stage::PodDirectory => format!("the Pod's folder {} can't be used: {cause}", home.display()),
        Stage::WorkingDirectory => {
            let path = working_directory.map(|path| path.display().to_string()).unwrap_or_default();
            format!("workingDir {:?} can't be used: {cause}", shortened(&path))
        }
        Stage::Fork => format!("no process can be made: {cause}"),
        Stage::Exec if errno == Errno::ENOENT as i32 && !program.contains('/') => {
            format!("exec {program:?}: no such program in PATH")
        }
        Stage::Exec => format!("exec {program:?}: {cause}"),
        Stage::StartDeadline => "the moment before which it may start has passed".to_owned(),
    }
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::Unsupported { runtime: "process", what: what.to_owned() }
}

/// The beginning of a text that may be as long as a user likes.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(limits::SHOWN_PROGRAM_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
