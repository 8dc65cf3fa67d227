//! The agent's connection to the shim's spawner.
//!
//! Owns: starting it, from the one thread that may, and asking it for shims. Does not own: the shims' own sockets.

use super::ProcessRuntimeOptions;
use super::own_binary::OwnBinary;
use crate::shim::messages::{Isolation, SHIM_REQUEST_BYTES, SpawnerHello};
use crate::shim::wire;
use crate::shim::{SHIM_NAME, sys};
use crate::{Error, limits};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// A running spawner. Dropping it ends the spawner; its shims go on.
pub(super) struct SpawnerLink {
    socket: AsyncFd<OwnedFd>,
    isolation: Isolation,
    errno: i32,
}

impl SpawnerLink {
    /// Starts one and waits for its first word.
    pub async fn start(options: &ProcessRuntimeOptions, open_files: u64) -> Result<SpawnerLink, Error> {
        // The link `/proc/self/exe` names the running binary even after its file was replaced.
        let program = options.shim_program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        match Self::try_start(&program, options, open_files).await {
            Ok(link) => Ok(link),
            Err((action, source)) => Err(Error::Shim { program, action, source }),
        }
    }

    async fn try_start(
        program: &Path,
        options: &ProcessRuntimeOptions,
        open_files: u64,
    ) -> Result<SpawnerLink, (&'static str, Option<io::Error>)> {
        let failed = |action| move |error: io::Error| (action, Some(error));
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| ("can't make a socket pair", Some(errno.into())))?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| ("can't prepare a socket", Some(errno.into())))?;
        let (reply, started) = oneshot::channel();
        let program = OwnBinary::of(program).map_err(failed("can't be copied"))?;
        let (force_degraded, owner) = (options.force_degraded, options.owner.clone());
        request_spawn(SpawnRequest { program, force_degraded, open_files, owner, socket: theirs, reply })
            .map_err(failed("can't start the spawning thread"))?;
        started
            .await
            .map_err(|_| ("the spawning thread is gone", None))?
            .map_err(failed("can't be started"))?;
        let socket = sys::watch(ours, Interest::READABLE | Interest::WRITABLE)
            .map_err(failed("can't watch a socket"))?;
        let hello = receive_hello(&socket);
        let (isolation, errno) =
            match tokio::time::timeout(Duration::from_millis(limits::SHIM_HELLO_MS), hello).await {
                Err(_) => return Err(("did not answer in time", None)),
                Ok(Err(error)) => return Err(("does not answer", Some(error))),
                Ok(Ok(Some(hello))) => hello,
                Ok(Ok(None)) => {
                    return Err(("does not answer as a shim: its main must call maybe_run_shim first", None));
                }
            };
        Ok(SpawnerLink { socket, isolation, errno })
    }

    /// What shims have to hold their processes together, and the reason if it is not a namespace.
    pub fn isolation(&self) -> (Isolation, i32) {
        (self.isolation, self.errno)
    }

    /// Asks for a shim: its connection, its listening socket, the lease cell. It answers over the connection.
    pub async fn request(&self, descriptors: &[BorrowedFd<'_>; 3]) -> Result<(), Errno> {
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| {
            Ok(wire::send(socket.as_fd(), &[1; SHIM_REQUEST_BYTES], descriptors)?)
        });
        match sent.await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        }
    }
}

async fn receive_hello(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<(Isolation, i32)>> {
    let mut bytes = [0; SpawnerHello::BYTES];
    let received =
        socket.async_io(Interest::READABLE, |socket| Ok(wire::receive(socket.as_fd(), &mut bytes)?.0));
    let count = received.await?;
    Ok(SpawnerHello::decode(&bytes[..count]).map(|hello| (hello.isolation, hello.errno)))
}

struct SpawnRequest {
    program: OwnBinary,
    force_degraded: bool,
    open_files: u64,
    owner: Option<String>,
    socket: OwnedFd,
    reply: oneshot::Sender<io::Result<()>>,
}

/// Passes a request to the thread that makes spawners.
///
/// PDEATHSIG fires at the end of the *thread* that made a child. So all spawners of this process are made by one thread
/// that never ends; one of an async runtime's threads would end whenever it is idle.
fn request_spawn(request: SpawnRequest) -> io::Result<()> {
    static REQUESTS: Mutex<Option<mpsc::Sender<SpawnRequest>>> = Mutex::new(None);
    // An option is whole after any panic.
    let mut requests = REQUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match &*requests {
        Some(sender) => sender.clone(),
        None => {
            let (sender, receiver) = mpsc::channel();
            std::thread::Builder::new()
                .name("shim-spawner".to_owned())
                .spawn(move || spawn_all(&receiver))?;
            // The sender in the static keeps the thread's loop alive for as long as the process.
            requests.insert(sender).clone()
        }
    };
    sender.send(request).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
}

fn spawn_all(requests: &mpsc::Receiver<SpawnRequest>) {
    let mut children: Vec<Child> = Vec::new();
    while let Ok(request) = requests.recv() {
        // Spawners end only with their runtime, so there are few, and their remains may wait until here.
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let mut command = Command::new(request.program.path());
        command
            .arg0(SHIM_NAME)
            .args(
                [u64::from(std::process::id()), u64::from(request.force_degraded), request.open_files]
                    .map(|n| n.to_string()),
            )
            // Only to be seen there.
            .args(request.owner)
            .env_clear()
            .stdin(Stdio::from(request.socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let result = command.spawn().map(|child| children.push(child));
        // Whoever asked may have given up; then the socket's end ends the spawner.
        let _ = request.reply.send(result);
    }
}
