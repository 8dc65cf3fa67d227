//! How agent, spawner and shim pass messages and descriptors.
//!
//! Owns: sending, receiving, the framing. Does not own: what is said (`messages`).
//!
//! A message is its length in four bytes, its kind in one, and its fields. Descriptors travel with its first byte.
//!
//! Invariant: a shim never waits for its agent: what it can't send at once, it sends never, and gives the connection up.
#![allow(unsafe_code)]

use super::sys;
use crate::limits;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors of one message.
pub(crate) const DESCRIPTORS_MAX: usize = 4;

/// Bytes of a message's length.
const HEADER_BYTES: usize = 4;

/// Puts the length before a message's kind and fields.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    push_number(&mut bytes, body.len() as u32);
    bytes.extend_from_slice(body);
    bytes
}

/// A message, as it came.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its kind and fields.
    pub body: Vec<u8>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// What a socket gives.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A whole message.
    Message(Received),
    /// Nothing more at the moment.
    Nothing,
    /// The peer is gone, or is none of ours.
    End,
}

/// Collects messages; may be left and taken up again at any byte.
#[derive(Debug, Default)]
pub(crate) struct MessageReader {
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    body: Vec<u8>,
    body_filled: usize,
    descriptors: Vec<OwnedFd>,
}

impl MessageReader {
    /// Reads on. On a socket that blocks, it waits for a whole message.
    pub fn read(&mut self, socket: BorrowedFd<'_>) -> Incoming {
        loop {
            let room = if self.header_filled < HEADER_BYTES {
                &mut self.header[self.header_filled..]
            } else {
                &mut self.body[self.body_filled..]
            };
            let (count, descriptors) = match receive(socket, room) {
                Ok((0, _)) => return Incoming::End,
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Incoming::Nothing,
                Err(_) => return Incoming::End,
            };
            self.descriptors.extend(descriptors);
            if self.descriptors.len() > DESCRIPTORS_MAX {
                return Incoming::End;
            }
            if self.header_filled < HEADER_BYTES {
                self.header_filled += count;
                if self.header_filled < HEADER_BYTES {
                    continue;
                }
                let length = u32::from_le_bytes(self.header) as usize;
                if length == 0 || length > limits::SHIM_MESSAGE_BYTES_MAX {
                    return Incoming::End;
                }
                self.body = vec![0; length];
                self.body_filled = 0;
                continue;
            }
            self.body_filled += count;
            if self.body_filled == self.body.len() {
                self.header_filled = 0;
                let body = std::mem::take(&mut self.body);
                return Incoming::Message(Received {
                    body,
                    descriptors: std::mem::take(&mut self.descriptors),
                });
            }
        }
    }
}

/// Sends bytes in one go, with descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    // A closed peer shall be an error, not SIGPIPE.
    sys::retry(|| {
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
    })
}

/// Receives some descriptors with some bytes; 0 bytes are the end.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut buffers = [IoSliceMut::new(bytes)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            // Borrowed until here: made again for the one use below.
            Err(errno) => return Err(errno),
            Ok(message) => break (message.bytes, owned_descriptors(message.cmsgs()?)),
        }
    };
    Ok(message)
}

fn owned_descriptors(messages: nix::sys::socket::CmsgIterator<'_>) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    for message in messages {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just installed these descriptors in this process for this message, and the message is
            // looked at once, so nothing else owns them.
            descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    descriptors
}

pub(crate) fn push_number(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn push_long(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    push_number(bytes, text.len() as u32);
    bytes.extend_from_slice(text);
}

pub(crate) fn push_texts(bytes: &mut Vec<u8>, texts: &[Vec<u8>]) {
    push_number(bytes, texts.len() as u32);
    texts.iter().for_each(|text| push_text(bytes, text));
}

pub(crate) fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*number))
}

pub(crate) fn take_long(rest: &mut &[u8]) -> Option<u64> {
    let (number, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*number))
}

pub(crate) fn take_text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_number(rest)? as usize;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(text.to_vec())
}

pub(crate) fn take_texts(rest: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let length = take_number(rest)?;
    (0..length).map(|_| take_text(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap()
    }

    #[test]
    fn messages_come_whole_however_they_were_cut_and_with_their_descriptors() {
        let (ours, theirs) = pair();
        let mut reader = MessageReader::default();
        let (first, second) = (framed(b"first"), framed(&[7; 1000]));
        let null = std::fs::File::open("/dev/null").unwrap();
        for at in 0..first.len() {
            assert!(matches!(reader.read(ours.as_fd()), Incoming::Nothing));
            let with = if at == 0 { vec![null.as_fd(), null.as_fd()] } else { Vec::new() };
            send(theirs.as_fd(), &first[at..=at], &with).unwrap();
        }
        let Incoming::Message(message) = reader.read(ours.as_fd()) else { panic!("none") };
        assert_eq!((message.body.as_slice(), message.descriptors.len()), (&b"first"[..], 2));
        // Two at once: the descriptor belongs to the second.
        send(theirs.as_fd(), &first, &[]).unwrap();
        send(theirs.as_fd(), &second, &[null.as_fd()]).unwrap();
        let Incoming::Message(message) = reader.read(ours.as_fd()) else { panic!("none") };
        assert_eq!((message.body.len(), message.descriptors.len()), (5, 0));
        let Incoming::Message(message) = reader.read(ours.as_fd()) else { panic!("none") };
        assert_eq!((message.body.len(), message.descriptors.len()), (1000, 1));
        drop(theirs);
        assert!(matches!(reader.read(ours.as_fd()), Incoming::End));
    }

    #[test]
    fn a_length_beyond_the_limit_ends_the_connection() {
        for length in [0, limits::SHIM_MESSAGE_BYTES_MAX as u32 + 1, u32::MAX] {
            let (ours, theirs) = pair();
            send(theirs.as_fd(), &length.to_le_bytes(), &[]).unwrap();
            assert!(matches!(MessageReader::default().read(ours.as_fd()), Incoming::End), "{length}");
        }
    }
}
