//! The agent's side of a connection to a shim.
//!
//! Owns: sending orders, receiving facts, the folder of the shims' sockets. Does not own: what is made of them.

use crate::shim::messages::Order;
use crate::shim::wire::{self, Incoming, MessageReader, Received};
use crate::{Error, limits};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket, sockopt,
};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// A connection to a shim.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    /// Messages are sent whole, one after the other.
    sending: Mutex<()>,
}

impl Connection {
    /// Over a socket that doesn't block.
    pub fn new(socket: OwnedFd) -> io::Result<Connection> {
        let socket = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?;
        Ok(Connection { socket, sending: Mutex::new(()) })
    }

    /// Sends an order; waits while the shim doesn't read.
    pub async fn send(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = wire::framed(&order.encode());
        let _guard = self.sending.lock().await;
        let mut sent = 0;
        while sent < bytes.len() {
            // Descriptors travel with the first byte.
            let descriptors = if sent == 0 { descriptors } else { &[] };
            let (socket, rest) = (&self.socket, &bytes[sent..]);
            sent += socket
                .async_io(Interest::WRITABLE, || Ok(wire::send(socket.as_fd(), rest, descriptors)?))
                .await?;
        }
        Ok(())
    }

    /// The next message; `None` at the end. May be cancelled.
    pub async fn receive(&self, reader: &mut MessageReader) -> Option<Received> {
        let received = self.socket.async_io(Interest::READABLE, || match reader.read(self.socket.as_fd()) {
            Incoming::Nothing => Err(io::ErrorKind::WouldBlock.into()),
            Incoming::Message(message) => Ok(Some(message)),
            Incoming::End => Ok(None),
        });
        received.await.ok().flatten()
    }

    /// The process at the other end, as it listened.
    pub fn peer(&self) -> Option<Pid> {
        let peer = getsockopt(&self.socket, sockopt::PeerCredentials).ok()?;
        Some(Pid::from_raw(peer.pid())).filter(|pid| pid.as_raw() > 0)
    }
}

/// Where shims listen for later agents: one socket each.
///
/// Sockets are bound and connected to through the folder's descriptor, as their addresses are short and paths are not.
#[derive(Debug)]
pub(super) struct ShimFolder {
    path: PathBuf,
    folder: File,
    made: AtomicU64,
}

impl ShimFolder {
    /// Makes it, closed to others, if it is missing.
    pub fn open(path: &Path) -> Result<ShimFolder, Error> {
        let failed = |action| move |source| Error::ShimFolder { path: path.to_owned(), action, source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make folder"))?;
        let folder = File::open(path).map_err(failed("open folder"))?;
        Ok(ShimFolder { path: path.to_owned(), folder, made: AtomicU64::new(0) })
    }

    /// A new socket that listens, and its name.
    pub fn listen(&self) -> Result<(OwnedFd, String), Errno> {
        // Names of a process before this one, and of one before the last boot, may still be there.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
        loop {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let name = format!("{:x}.{:x}.{number:x}", now.tv_sec(), now.tv_nsec());
            let listener = stream()?;
            match bind(listener.as_raw_fd(), &self.address(&name)?) {
                Ok(()) => {
                    listen(&listener, Backlog::new(limits::SHIM_BACKLOG)?)?;
                    return Ok((listener, name));
                }
                Err(Errno::EADDRINUSE) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The path of a socket.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A connection to a shim. Needs a tokio runtime.
    pub fn connect(&self, name: &str) -> io::Result<Connection> {
        let socket = stream()?;
        connect(socket.as_raw_fd(), &self.address(name)?)?;
        Connection::new(socket)
    }

    /// Names of all sockets.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |source| Error::ShimFolder { path: self.path.clone(), action: "list folder", source };
        let entries = fs::read_dir(&self.path).map_err(failed)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Removes a socket's name.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path_of(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            // It is found and removed by the next process.
            tracing::warn!(socket = name, %error, "the socket of a shim that has ended can't be removed");
        }
    }

    fn address(&self, name: &str) -> Result<UnixAddr, Errno> {
        UnixAddr::new(format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()).as_str())
    }
}

fn stream() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}
