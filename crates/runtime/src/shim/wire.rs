//! What agent, spawner and shim say to each other.
//!
//! Owns: encoding, and passing descriptors. Does not own: what is done with it.
//!
//! - agent → spawner, SOCK_SEQPACKET: one byte with three descriptors (the shim's socket, stdout, stderr), or a [`fence`].
//! - agent → shim, SOCK_STREAM: length and [`Payload`], then bytes of [`Order`].
//! - shim or spawner → agent: [`Frame`]s, the first one with a descriptor.
//!
//! Both ends are always the same binary, so there are no versions.
#![allow(unsafe_code)]

use super::sys;
use crate::payload::Payload;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A fact for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// First word of a spawner: whether shims get PID namespaces with or without an own `/proc`, else why not.
    Hello { isolation: Isolation, errno: i32 },
    /// First word of a shim, with a pidfd of itself, if the kernel has such.
    Born,
    /// The payload's program runs.
    Started,
    /// The payload's program never ran.
    StartFailed { stage: Stage, errno: i32 },
    /// The main process exited, and nothing of the container is left.
    Exited { code: i32 },
    /// A signal ended the main process, and nothing of the container is left.
    Signaled { signal: i32 },
    /// The spawner could not make a shim; nothing was started.
    NoShim { errno: i32 },
}

/// Bytes of a request to the spawner, for a shim or of a fence.
pub(crate) const SHIM_REQUEST_BYTES: usize = 1;
/// See [`SHIM_REQUEST_BYTES`].
pub(crate) const FENCE_BYTES: usize = 9;

/// Tells the spawner when to end, by CLOCK_BOOTTIME, and its shims with it, unless it is told otherwise before.
pub(crate) fn fence(moment: Option<Duration>) -> [u8; FENCE_BYTES] {
    let nanoseconds = moment.map_or(u64::MAX, |moment| u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX));
    let mut bytes = [0; FENCE_BYTES];
    bytes[1..].copy_from_slice(&nanoseconds.to_le_bytes());
    bytes
}

/// Decodes what [`fence`] made.
pub(crate) fn decode_fence(bytes: [u8; FENCE_BYTES]) -> Option<Duration> {
    let [_, a, b, c, d, e, f, g, h] = bytes;
    let nanoseconds = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    (nanoseconds != u64::MAX).then(|| Duration::from_nanos(nanoseconds))
}

/// What holds a container's processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// A PID namespace, and a mount namespace with its `/proc`.
    NamespaceWithProc,
    /// A PID namespace; `/proc` shows the host's processes.
    NamespaceOnly,
    /// A subreaper.
    Degraded,
}

/// Where the start of a payload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    PodDirectory,
    WorkingDirectory,
    Fork,
    Exec,
    /// The moment before which it may start had passed.
    StartDeadline,
}

impl Stage {
    fn of(number: i32) -> Option<Stage> {
        let stages =
            [Stage::PodDirectory, Stage::WorkingDirectory, Stage::Fork, Stage::Exec, Stage::StartDeadline];
        stages.into_iter().find(|stage| *stage as i32 == number)
    }
}

/// What the process that was to become the payload tells its shim about a failure.
pub(crate) fn encode_failure(stage: Stage, errno: Errno) -> [u8; FAILURE_BYTES] {
    let [a, b] = [stage as i32, errno as i32].map(i32::to_le_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

/// Decodes what [`encode_failure`] made.
pub(crate) fn decode_failure(bytes: [u8; FAILURE_BYTES]) -> Option<(Stage, i32)> {
    let [a, b, c, d, e, f, g, h] = bytes;
    Some((Stage::of(i32::from_le_bytes([a, b, c, d]))?, i32::from_le_bytes([e, f, g, h])))
}

/// Bytes of an encoded failure.
pub(crate) const FAILURE_BYTES: usize = 8;

/// What the agent wants of a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// To the main process.
    Signal(u8),
    Kill,
}

impl Frame {
    /// Bytes of any frame.
    pub const BYTES: usize = 12;

    fn encode(self) -> [u8; Frame::BYTES] {
        let (kind, a, b) = match self {
            Frame::Hello { isolation, errno } => (1, isolation as i32, errno),
            Frame::Born => (2, 0, 0),
            Frame::Started => (3, 0, 0),
            Frame::StartFailed { stage, errno } => (4, stage as i32, errno),
            Frame::Exited { code } => (5, code, 0),
            Frame::Signaled { signal } => (6, signal, 0),
            Frame::NoShim { errno } => (7, errno, 0),
        };
        let mut bytes = [0; Frame::BYTES];
        for (part, value) in bytes.chunks_exact_mut(4).zip([kind, a, b]) {
            part.copy_from_slice(&i32::to_le_bytes(value));
        }
        bytes
    }

    /// `None` if it is no frame.
    pub fn decode(bytes: &[u8; Frame::BYTES]) -> Option<Frame> {
        let value = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (kind, a, b) = (value(0), value(4), value(8));
        let isolations = [Isolation::NamespaceWithProc, Isolation::NamespaceOnly, Isolation::Degraded];
        match kind {
            1 => {
                let isolation = isolations.into_iter().find(|isolation| *isolation as i32 == a)?;
                Some(Frame::Hello { isolation, errno: b })
            }
            2 => Some(Frame::Born),
            3 => Some(Frame::Started),
            4 => Some(Frame::StartFailed { stage: Stage::of(a)?, errno: b }),
            5 => Some(Frame::Exited { code: a }),
            6 => Some(Frame::Signaled { signal: a }),
            7 => Some(Frame::NoShim { errno: a }),
            _ => None,
        }
    }
}

impl Order {
    /// Bytes of any order.
    pub const BYTES: usize = 2;

    pub fn encode(self) -> [u8; Order::BYTES] {
        match self {
            Order::Signal(number) => [b'S', number],
            Order::Kill => [b'K', 0],
        }
    }

    pub fn decode(bytes: [u8; Order::BYTES]) -> Option<Order> {
        match bytes {
            [b'S', number] => Some(Order::Signal(number)),
            [b'K', _] => Some(Order::Kill),
            _ => None,
        }
    }
}

/// Encodes what to run, with its length before it.
pub(crate) fn encode_payload(payload: &Payload) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&payload.start_before.unwrap_or(u64::MAX).to_le_bytes());
    let singles = [&payload.home, &payload.working_directory];
    singles.iter().for_each(|text| push_text(&mut bytes, text));
    for list in [&payload.arguments, &payload.environment] {
        push_length(&mut bytes, list.len());
        list.iter().for_each(|text| push_text(&mut bytes, text));
    }
    let length = bytes.len() - 4;
    // Fits: payloads have a limit of a few MiB.
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes
}

/// Decodes what [`encode_payload`] made, without the length; `None` if it is cut or has more than that.
pub(crate) fn decode_payload(bytes: &[u8]) -> Option<Payload> {
    let (start_before, mut rest) = bytes.split_first_chunk::<8>()?;
    let start_before = Some(u64::from_le_bytes(*start_before)).filter(|moment| *moment != u64::MAX);
    let home = take_text(&mut rest)?;
    let working_directory = take_text(&mut rest)?;
    let mut list = || {
        let length = take_length(&mut rest)?;
        (0..length).map(|_| take_text(&mut rest)).collect::<Option<Vec<_>>>()
    };
    let (arguments, environment) = (list()?, list()?);
    rest.is_empty().then_some(Payload { arguments, environment, home, working_directory, start_before })
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
}

fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    push_length(bytes, text.len());
    bytes.extend_from_slice(text);
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*length) as usize)
}

fn take_text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_length(rest)?;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(text.to_vec())
}

/// Sends a frame, with descriptors. The peer's end is not an error worth telling: it is seen when reading.
pub(crate) fn send_frame(socket: BorrowedFd<'_>, frame: Frame, descriptor: Option<BorrowedFd<'_>>) {
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    let _ = send(socket, &frame.encode(), &descriptors);
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

/// Receives up to three descriptors with some bytes; 0 bytes are the end.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([RawFd; 3]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let frames = [
            Frame::Hello { isolation: Isolation::Degraded, errno: 1 },
            Frame::Born,
            Frame::Started,
            Frame::StartFailed { stage: Stage::Exec, errno: 2 },
            Frame::StartFailed { stage: Stage::StartDeadline, errno: 62 },
            Frame::Exited { code: 255 },
            Frame::Signaled { signal: 64 },
            Frame::NoShim { errno: 11 },
        ];
        for frame in frames {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
        assert_eq!(Frame::decode(&[0xff; Frame::BYTES]), None);
    }

    #[test]
    fn fences_come_back() {
        for moment in [None, Some(Duration::ZERO), Some(Duration::new(1_234_567, 890_123_456))] {
            assert_eq!(decode_fence(fence(moment)), moment);
        }
        assert_eq!(decode_fence(fence(Some(Duration::MAX))), None);
    }

    #[test]
    fn payloads_come_back_and_cut_ones_do_not() {
        let payload = Payload {
            arguments: vec![b"sh".to_vec(), Vec::new(), vec![0xff]],
            environment: vec![b"A=1".to_vec()],
            home: b"/pod".to_vec(),
            working_directory: Vec::new(),
            start_before: Some(7),
        };
        let bytes = encode_payload(&payload);
        assert_eq!(bytes[..4], ((bytes.len() - 4) as u32).to_le_bytes());
        assert_eq!(decode_payload(&bytes[4..]), Some(payload));
        for cut in 4..bytes.len() {
            assert_eq!(decode_payload(&bytes[4..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode_payload(&[&bytes[4..], &[0]].concat()), None);
        assert_eq!(decode_payload(&[0xff; 64]), None);
    }
}
