//! The shim's side of its connection to the agent.
//!
//! Owns: who may connect, sending without waiting, reading orders. Does not own: what they lead to.

use super::messages::{Fact, Isolation, Order, Read};
use super::sys;
use super::wire::{self, Incoming, MessageReader};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A connection to an agent.
pub(super) struct Link {
    socket: OwnedFd,
    reader: MessageReader,
    /// Something could not be sent.
    is_broken: bool,
}

/// An order, with what came with it.
pub(super) struct Ordered {
    pub order: Order,
    pub descriptors: Vec<OwnedFd>,
}

/// What a connection gives.
pub(super) enum Heard {
    Order(Ordered),
    Nothing,
    /// The agent is gone, or says what no agent says.
    End,
}

impl Link {
    /// Over a socket that the agent has made. It doesn't block from now on.
    pub fn new(socket: OwnedFd) -> Link {
        // Our end only; a kernel that has given the socket does this.
        let _ = fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Link { socket, reader: MessageReader::default(), is_broken: false }
    }

    /// Takes a connection, if it is one of the agent's user from outside of the container.
    pub fn accept(listener: &OwnedFd, isolation: Isolation) -> Option<Link> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = sys::retry(|| accept4(listener.as_raw_fd(), flags)).ok()?;
        let socket = sys::own(raw);
        let peer = getsockopt(&socket, PeerCredentials).ok()?;
        // Who is outside of our namespace has no number in it.
        let is_inside = isolation.is_namespace() && peer.pid() != 0;
        (peer.uid() == geteuid().as_raw() && !is_inside).then(|| Link::new(socket))
    }

    /// Sends a fact, with a descriptor; never waits.
    pub fn tell(&mut self, fact: &Fact, descriptor: Option<BorrowedFd<'_>>) {
        if self.is_broken {
            // What follows half a message would be taken for its rest.
            return;
        }
        let bytes = wire::framed(&fact.encode());
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        // An agent that reads has room for far more than there are facts.
        self.is_broken |= wire::send(self.socket.as_fd(), &bytes, &descriptors) != Ok(bytes.len());
    }

    /// Something could not be sent: the agent has missed it, and is to find the end of the connection.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The next order.
    pub fn hear(&mut self) -> Heard {
        if self.is_broken {
            return Heard::End;
        }
        loop {
            match self.reader.read(self.socket.as_fd()) {
                Incoming::Message(message) => match Order::decode(&message.body) {
                    Read::Known(order) => {
                        return Heard::Order(Ordered { order, descriptors: message.descriptors });
                    }
                    // A later agent's.
                    Read::Unknown => {}
                    Read::Wrong => return Heard::End,
                },
                Incoming::Nothing => return Heard::Nothing,
                Incoming::End => return Heard::End,
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
