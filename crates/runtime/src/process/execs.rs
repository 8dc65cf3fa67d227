//! Further programs in a container, as the agent sees them.
//!
//! Owns: their streams, which lead past the shim, and what is known of their end. Does not own: the processes.

use super::container::{Shared, exec_failure_message, shortened};
use crate::limits;
use crate::shim::messages::{Exec, ExecStreams, NotExecuted, Order, Stage};
use crate::shim::sys::{self, ChildEnd};
use crate::{BoxFuture, Error, ExecInput, ExecOutput, ExecSession, ExecSpec, TerminalSize};
use nix::errno::Errno;
use nix::libc::winsize;
use nix::pty::{OpenptyResult, openpty};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Exit code of a program that ended with its container.
const KILLED: i32 = 128 + 9;

/// Those of a container that have not ended.
#[derive(Default)]
pub(super) struct ExecTable {
    numbers: AtomicU32,
    running: Mutex<HashMap<u32, watch::Sender<State>>>,
}

/// Where one is.
#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Asked,
    Runs,
    Failed(NotExecuted),
    Ended(i32),
}

impl State {
    fn exit_code(&self) -> Option<i32> {
        match self {
            State::Ended(code) => Some(*code),
            _ => None,
        }
    }
}

impl ExecTable {
    pub fn started(&self, exec: u32) {
        self.set(exec, State::Runs);
    }

    pub fn failed(&self, exec: u32, why: NotExecuted) {
        self.set(exec, State::Failed(why));
    }

    pub fn ended(&self, exec: u32, end: ChildEnd) {
        let code = match end {
            ChildEnd::Exited(code) => code,
            ChildEnd::Signaled(signal) => 128 + signal,
        };
        self.set(exec, State::Ended(code));
    }

    /// Nothing of the container is left.
    pub fn container_ended(&self) {
        for (_, state) in self.lock().drain() {
            state.send_replace(State::Ended(KILLED));
        }
    }

    fn begin(&self) -> (u32, watch::Receiver<State>) {
        let exec = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, state) = watch::channel(State::Asked);
        self.lock().insert(exec, sender);
        (exec, state)
    }

    fn set(&self, exec: u32, state: State) {
        let mut running = self.lock();
        let is_over = matches!(state, State::Failed(_) | State::Ended(_));
        if let Some(sender) = running.get(&exec) {
            sender.send_replace(state);
        }
        if is_over {
            running.remove(&exec);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, watch::Sender<State>>> {
        // A map is whole after any panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a program in a container; resolves when it runs.
pub(super) async fn begin(shared: Arc<Shared>, spec: ExecSpec) -> Result<Box<dyn ExecSession>, Error> {
    let container = || shared.recorded.id.to_string();
    spec.check(&shared.recorded.id)?;
    let failed = |message: String| Error::ExecStart { container: container(), exit_code: 128, message };
    let streams =
        Streams::make(&spec).map_err(|error| failed(format!("its streams can't be made: {error}")))?;
    let (exec, mut state) = shared.execs.begin();
    let Streams { wanted, theirs, ours, terminal } = streams;
    let session =
        Session { shared: shared.clone(), exec, state: state.clone(), ours: Mutex::new(ours), terminal };
    let environment = spec.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    let order = Order::Exec(Exec {
        exec,
        arguments: spec.command.iter().map(|text| text.clone().into_bytes()).collect(),
        environment: environment.collect(),
        streams: wanted,
    });
    // After the table has it: an end of the container after this is found in the state.
    if !shared.runs() {
        return Err(Error::NotRunning { container: container() });
    }
    let descriptors: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    if shared.connection.send(&order, &descriptors).await.is_err() {
        return Err(Error::NotRunning { container: container() });
    }
    drop(descriptors);
    // Only the program may hold these now, so that their end is its end.
    drop(theirs);
    let outcome = state.wait_for(|state| !matches!(state, State::Asked)).await;
    let outcome = outcome.map(|state| state.clone());
    match outcome {
        Ok(State::Failed(why)) if why.errno == Errno::ESRCH => {
            Err(Error::NotRunning { container: container() })
        }
        Ok(State::Failed(why)) => Err(start_error(container(), &spec, why)),
        Ok(_) => Ok(Box::new(session)),
        Err(_) => Err(Error::NotRunning { container: container() }),
    }
}

fn start_error(container: String, spec: &ExecSpec, why: NotExecuted) -> Error {
    let program = shortened(spec.command.first().map(String::as_str).unwrap_or_default());
    let (exit_code, message) = match (why.stage, why.errno) {
        (Stage::Exec, Errno::ENOENT) => (127, exec_failure_message(why.errno, &program)),
        (Stage::Exec, errno) => (126, exec_failure_message(errno, &program)),
        (_, errno) if why.text.is_empty() => (128, format!("no process can be made: {}", errno.desc())),
        (_, errno) => (128, format!("{}: {}", why.text, errno.desc())),
    };
    Error::ExecStart { container, exit_code, message }
}

/// A program that runs.
struct Session {
    shared: Arc<Shared>,
    exec: u32,
    state: watch::Receiver<State>,
    /// Streams can't be shared, sessions can.
    ours: Mutex<Ours>,
    terminal: Option<Terminal>,
}

/// The agent's ends of its streams.
#[derive(Default)]
struct Ours {
    stdin: Option<ExecInput>,
    stdout: Option<ExecOutput>,
    stderr: Option<ExecOutput>,
}

impl Session {
    fn take<T>(&mut self, of: impl FnOnce(&mut Ours) -> &mut Option<T>) -> Option<T> {
        of(self.ours.get_mut().unwrap_or_else(PoisonError::into_inner)).take()
    }
}

impl ExecSession for Session {
    fn stdin(&mut self) -> Option<ExecInput> {
        self.take(|ours| &mut ours.stdin)
    }

    fn stdout(&mut self) -> Option<ExecOutput> {
        self.take(|ours| &mut ours.stdout)
    }

    fn stderr(&mut self) -> Option<ExecOutput> {
        self.take(|ours| &mut ours.stderr)
    }

    fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            terminal.resize(size);
        }
    }

    fn kill(&self) {
        if self.state.borrow().exit_code().is_some() {
            return;
        }
        let (shared, exec) = (self.shared.clone(), self.exec);
        // Outside of an async runtime, as at its end, the connection ends and with it the program.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move { shared.connection.send(&Order::ExecKill { exec }, &[]).await });
        }
    }

    fn wait(&self) -> BoxFuture<'_, i32> {
        let mut state = self.state.clone();
        Box::pin(async move {
            let ended = state.wait_for(|state| state.exit_code().is_some()).await;
            ended.ok().and_then(|state| state.exit_code()).unwrap_or(KILLED)
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The streams of a program: what is sent to it, and what stays here.
struct Streams {
    wanted: ExecStreams,
    theirs: Vec<OwnedFd>,
    ours: Ours,
    terminal: Option<Terminal>,
}

impl Streams {
    fn make(spec: &ExecSpec) -> io::Result<Streams> {
        if let Some(size) = spec.terminal {
            return Streams::terminal(spec, size);
        }
        let wanted =
            ExecStreams { terminal: false, stdin: spec.stdin, stdout: spec.stdout, stderr: spec.stderr };
        let mut streams = Streams { wanted, theirs: Vec::new(), ours: Ours::default(), terminal: None };
        if spec.stdin {
            let (theirs, ours) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
            streams.theirs.push(theirs);
            streams.ours.stdin = Some(Box::new(pipe::Sender::from_owned_fd(ours)?));
        }
        if spec.stdout {
            streams.ours.stdout = Some(streams.output()?);
        }
        if spec.stderr {
            streams.ours.stderr = Some(streams.output()?);
        }
        Ok(streams)
    }

    fn output(&mut self) -> io::Result<ExecOutput> {
        let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        self.theirs.push(theirs);
        Ok(Box::new(pipe::Receiver::from_owned_fd(ours)?))
    }

    fn terminal(spec: &ExecSpec, size: TerminalSize) -> io::Result<Streams> {
        let OpenptyResult { master, slave } = openpty(&window(size), None)?;
        for end in [&master, &slave] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&master, flags)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let terminal = Terminal(Arc::new(sys::watch(master, both)?));
        let ours = Ours {
            stdin: spec.stdin.then(|| Box::new(terminal.clone()) as ExecInput),
            stdout: spec.stdout.then(|| Box::new(TerminalOutput::of(terminal.clone())) as ExecOutput),
            stderr: None,
        };
        let wanted = ExecStreams { terminal: true, ..ExecStreams::default() };
        Ok(Streams { wanted, theirs: vec![slave], ours, terminal: Some(terminal) })
    }
}

fn window(size: TerminalSize) -> winsize {
    winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The agent's end of a terminal. The program's session is hung up when the last copy is gone.
#[derive(Clone)]
pub(super) struct Terminal(pub Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub fn resize(&self, size: TerminalSize) {
        // A terminal whose program has ended needs no size.
        let _ = sys::set_terminal_size(self.0.get_ref().as_fd(), &window(size));
    }
}

/// What is read from a terminal.
///
/// That nobody has the other end open any more is no proof that all was read: a kernel may say so while the last output is
/// still on its way to this end. So it is asked once more, a moment later.
struct TerminalOutput {
    terminal: Terminal,
    second_look: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl TerminalOutput {
    fn of(terminal: Terminal) -> TerminalOutput {
        TerminalOutput { terminal, second_look: None }
    }
}

impl AsyncRead for TerminalOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let is_second_look = match &mut self.second_look {
                Some(moment) => {
                    ready!(moment.as_mut().poll(context));
                    true
                }
                None => false,
            };
            let mut guard = ready!(self.terminal.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|end| Ok(sys::retry(|| nix::unistd::read(end.get_ref(), unfilled))?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    self.second_look = None;
                    return Poll::Ready(Ok(()));
                }
                // Nobody has the other end open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                    if is_second_look {
                        return Poll::Ready(Ok(()));
                    }
                    self.second_look = Some(Box::pin(tokio::time::sleep(limits::TERMINAL_SECOND_LOOK)));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            let written = guard.try_io(|end| Ok(sys::retry(|| nix::unistd::write(end.get_ref(), bytes))?));
            if let Ok(result) = written {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
