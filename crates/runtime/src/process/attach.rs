//! Clients of a container's own streams, as the agent sees them.
//!
//! Owns: the way of their input and output past the shim. Does not own: the other ends (the shim), who may be a client.
//!
//! Output comes through two pipes of each client's. Of the input each client gets the shim's end, and writes to it here: what is
//! under way is bounded by the pipe or terminal itself, and a program that does not read holds up nobody else.

use super::container::{Shared, unsupported};
use super::execs::Terminal;
use crate::shim::messages::{Attach, Order, WIRE_VERSION_ATTACH};
use crate::shim::sys;
use crate::{AttachRefusal, AttachSession, AttachSpec, Error, ExecInput, limits};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, DuplexStream, Interest};
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

/// What the shim says to a client: the other end of the input, if it gets one, and whether that is a terminal.
type Answer = Result<(Option<OwnedFd>, bool), AttachRefusal>;

/// Those of a container.
#[derive(Default)]
pub(super) struct AttachTable {
    numbers: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Answer>>>,
    /// The container's input has ended for all.
    is_closed: watch::Sender<bool>,
}

impl AttachTable {
    /// The shim has decided about a client.
    pub fn answered(&self, attach: u32, answer: Answer) {
        if let Some(waiting) = self.lock().remove(&attach) {
            // Nobody wants it any more: that was told, too.
            let _ = waiting.send(answer);
        }
    }

    /// The input has ended: no copy of its end may be kept.
    pub fn input_closed(&self) {
        self.is_closed.send_replace(true);
    }

    /// Nothing of the container is left.
    pub fn container_ended(&self) {
        self.lock().clear();
        self.input_closed();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Answer>>> {
        // A map is whole after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one more client; resolves when it gets all output.
pub(super) async fn begin(shared: Arc<Shared>, spec: AttachSpec) -> Result<AttachSession, Error> {
    let container = || shared.recorded.id.to_string();
    let refused = |refusal| Error::Attach { container: container(), refusal };
    if shared.version < WIRE_VERSION_ATTACH {
        return Err(unsupported(
            "to attach to a container that an earlier version of the agent has started, without input",
        ));
    }
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from);
    let made = || -> io::Result<_> { Ok((pipe()?, pipe()?)) };
    let ((stdout, to_stdout), (stderr, to_stderr)) = made().map_err(|_| refused(AttachRefusal::Failed))?;
    let attach = shared.attaches.numbers.fetch_add(1, Ordering::Relaxed);
    let (waiting, answer) = oneshot::channel();
    shared.attaches.lock().insert(attach, waiting);
    // From here on the shim is told that it is over, whatever happens.
    let mut client = Client { shared: shared.clone(), attach, pump: None };
    // After the table has it: an end of the container after this is found there.
    if !shared.runs() {
        return Err(Error::NotRunning { container: container() });
    }
    let order = Order::Attach(Attach { attach, stdin: spec.stdin, terminal: spec.terminal.is_some() });
    let asked = async {
        shared.connection.send(&order, &[to_stdout.as_fd(), to_stderr.as_fd()]).await.ok()?;
        answer.await.ok()
    };
    let answer = tokio::time::timeout(Duration::from_millis(limits::ATTACH_ANSWER_MS), asked).await;
    // Only the shim may hold these now, so that their end is its end.
    drop((to_stdout, to_stderr));
    let (end, is_terminal) = match answer {
        Ok(Some(Ok(given))) => given,
        Ok(Some(Err(refusal))) if shared.runs() => return Err(refused(refusal)),
        Ok(_) => return Err(Error::NotRunning { container: container() }),
        Err(_) => return Err(refused(AttachRefusal::Failed)),
    };
    let failed = |_| refused(AttachRefusal::Failed);
    let end = end.map(|end| sys::watch(end, Interest::WRITABLE)).transpose().map_err(failed)?;
    let end = end.map(Arc::new);
    let stdin = match &end {
        Some(end) if spec.stdin => Some(client.pump(end.clone(), is_terminal)),
        _ => None,
    };
    let terminal = end.filter(|_| is_terminal).map(Terminal);
    if let (Some(terminal), Some(size)) = (&terminal, spec.terminal) {
        terminal.resize(size);
    }
    let stdout = pipe::Receiver::from_owned_fd(stdout).map_err(failed)?;
    let stderr = pipe::Receiver::from_owned_fd(stderr).map_err(failed)?;
    let stderr = (!is_terminal).then(|| Box::new(stderr) as crate::ExecOutput);
    let resize = move |size| {
        if let Some(terminal) = &terminal {
            terminal.resize(size);
        }
    };
    Ok(AttachSession::new(stdin, Box::new(stdout), stderr, resize, client))
}

/// One client. The shim is told when it goes.
struct Client {
    shared: Arc<Shared>,
    attach: u32,
    pump: Option<AbortHandle>,
}

impl Client {
    /// What the client writes to. A task takes it to the container.
    fn pump(&mut self, end: Arc<AsyncFd<OwnedFd>>, is_terminal: bool) -> ExecInput {
        let (ours, input) = tokio::io::duplex(limits::ATTACH_INPUT_BYTES);
        let (shared, attach) = (self.shared.clone(), self.attach);
        let pump = tokio::spawn(async move {
            let mut is_closed = shared.attaches.is_closed.subscribe();
            let is_ended = tokio::select! {
                // Nobody may hold the end of an input that has ended.
                _ = is_closed.wait_for(|closed| *closed) => false,
                is_ended = pass(input, &end) => is_ended,
            };
            drop(end);
            // A terminal has no end that could be told.
            if is_ended && !is_terminal {
                // A shim that is gone needs no end of its input.
                let _ = shared.connection.send(&Order::EndInput { attach }, &[]).await;
            }
        });
        self.pump = Some(pump.abort_handle());
        Box::new(ours)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
        self.shared.attaches.lock().remove(&self.attach);
        let (shared, attach) = (self.shared.clone(), self.attach);
        // Outside of an async runtime, as at its end, the connection ends and with it the client.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move { shared.connection.send(&Order::Detach { attach }, &[]).await });
        }
    }
}

/// Writes what comes; true at the client's end of it, false if nobody takes it any more.
async fn pass(mut input: DuplexStream, end: &AsyncFd<OwnedFd>) -> bool {
    let mut buffer = vec![0; limits::ATTACH_INPUT_BYTES];
    loop {
        // What is here in memory can't fail.
        let count = input.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return true;
        }
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let written = end
                .async_io(Interest::WRITABLE, |end| Ok(sys::retry(|| nix::unistd::write(end, left))?))
                .await;
            match written {
                Ok(count) => left = &left[count..],
                // The program has closed its input. The client finds that out by its next write.
                Err(_) => return false,
            }
        }
    }
}
