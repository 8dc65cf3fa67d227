//! Frames of SPDY/3.1, as far as the streaming servers of container engines speak it.
//!
//! Owns: bytes to frames and back. Does not own: the connection. Pure.
//!
//! Engines have the server of Kubernetes, which takes no window updates and sends none, and of whose headers nothing is needed
//! here: they are not read. Headers that are sent are compressed in name only: zlib may store bytes as they are, which needs
//! neither a compressor nor the dictionary of the protocol.

/// Bytes of the head of any frame.
pub(super) const HEAD_BYTES: usize = 8;
/// Largest body of a data frame that the format allows.
const BODY_BYTES_MAX: usize = (1 << 24) - 1;

const VERSION: u16 = 3;
const CONTROL: u16 = 1 << 15;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const FLAG_FIN: u8 = 1;

/// The head of a frame, which says what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Bytes of a stream.
    Data { stream: u32, is_last: bool, bytes: usize },
    /// Something about streams, or about the connection.
    Control { kind: u16, bytes: usize },
}

impl Head {
    pub fn decode(head: [u8; HEAD_BYTES]) -> Head {
        let [a, b, c, d, flags, x, y, z] = head;
        let bytes = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            Head::Data { stream, is_last: flags & FLAG_FIN != 0, bytes }
        } else {
            Head::Control { kind: u16::from_be_bytes([c, d]), bytes }
        }
    }
}

/// What a control frame says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// A stream that was opened is taken up.
    Reply,
    /// Is to be sent back as it is.
    Ping(u32),
    /// The stream has ended, badly.
    Reset {
        stream: u32,
    },
    Other,
}

impl Control {
    pub fn decode(kind: u16, body: &[u8]) -> Control {
        let Some(number) = body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) else {
            return Control::Other;
        };
        match kind {
            SYN_REPLY => Control::Reply,
            PING => Control::Ping(number),
            RST_STREAM => Control::Reset { stream: number },
            _ => Control::Other,
        }
    }
}

/// Makes the frames that a client sends.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The beginning of the compressed headers was sent: they are one zlib stream over the whole connection.
    has_begun: bool,
}

impl Encoder {
    /// Opens a stream. Names are in lower case.
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.extend((headers.len() as u32).to_be_bytes());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut body = Vec::new();
        body.extend(stream.to_be_bytes());
        // No stream that it belongs to, the highest priority, no credential.
        body.extend([0; 6]);
        if !std::mem::replace(&mut self.has_begun, true) {
            // A window of 32 KiB, no dictionary, the fastest level.
            body.extend([0x78, 0x01]);
        }
        push_stored(&mut body, &plain);
        // An empty block is where the other end may stop reading.
        push_stored(&mut body, &[]);
        control(SYN_STREAM, &body)
    }

    /// Answers a ping.
    pub fn ping(number: u32) -> Vec<u8> {
        control(PING, &number.to_be_bytes())
    }

    /// Bytes of a stream, at most 16 MiB.
    pub fn data(stream: u32, bytes: &[u8], is_last: bool) -> Vec<u8> {
        debug_assert!(bytes.len() <= BODY_BYTES_MAX);
        let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
        frame.extend(stream.to_be_bytes());
        push_flags_and_size(&mut frame, if is_last { FLAG_FIN } else { 0 }, bytes.len());
        frame.extend(bytes);
        frame
    }
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend((CONTROL | VERSION).to_be_bytes());
    frame.extend(kind.to_be_bytes());
    push_flags_and_size(&mut frame, 0, body.len());
    frame.extend(body);
    frame
}

fn push_flags_and_size(frame: &mut Vec<u8>, flags: u8, bytes: usize) {
    frame.extend(((bytes as u32) | (u32::from(flags) << 24)).to_be_bytes());
}

/// A block of a deflated stream that holds bytes as they are, and is not the last.
fn push_stored(body: &mut Vec<u8>, bytes: &[u8]) {
    let size = bytes.len() as u16;
    body.push(0);
    body.extend(size.to_le_bytes());
    body.extend((!size).to_le_bytes());
    body.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn data_frames_are_read_as_they_are_written() {
        for (stream, bytes, is_last) in [(1, &b"abc"[..], false), (7, b"", true), (0x7fff_ffff, b"x", true)] {
            let frame = Encoder::data(stream, bytes, is_last);
            let head = Head::decode(*frame.first_chunk().unwrap());
            assert_eq!(head, Head::Data { stream, is_last, bytes: bytes.len() });
            assert_eq!(&frame[HEAD_BYTES..], bytes);
        }
        // Of a size that takes all three bytes.
        let head = Head::decode([0, 0, 0, 3, 0, 0x12, 0x34, 0x56]);
        assert_eq!(head, Head::Data { stream: 3, is_last: false, bytes: 0x12_3456 });
    }

    #[test]
    fn control_frames_are_told_apart() {
        let frame = Encoder::ping(6);
        assert_eq!(frame, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 6]);
        assert_eq!(Head::decode(*frame.first_chunk().unwrap()), Head::Control { kind: PING, bytes: 4 });
        assert_eq!(Control::decode(PING, &frame[HEAD_BYTES..]), Control::Ping(6));
        assert_eq!(Control::decode(RST_STREAM, &[0, 0, 0, 3, 0, 0, 0, 1]), Control::Reset { stream: 3 });
        assert_eq!(Control::decode(SYN_REPLY, &[0, 0, 0, 3, 0, 0]), Control::Reply);
        assert_eq!(Control::decode(7, &[0; 8]), Control::Other);
        assert_eq!(Control::decode(PING, &[1]), Control::Other);
    }

    #[test]
    fn headers_are_one_zlib_stream_that_any_reader_of_it_understands() {
        let mut encoder = Encoder::default();
        let mut compressed = Vec::new();
        for (stream, kind) in [(1, "error"), (3, "stdin")] {
            let frame = encoder.open(stream, &[("streamtype", kind)]);
            let Head::Control { kind: SYN_STREAM, bytes } = Head::decode(*frame.first_chunk().unwrap())
            else {
                panic!("{frame:?}");
            };
            assert_eq!(bytes, frame.len() - HEAD_BYTES);
            assert_eq!(frame[HEAD_BYTES..HEAD_BYTES + 4], u32::to_be_bytes(stream));
            compressed.extend(&frame[HEAD_BYTES + 10..]);
        }
        let mut plain = vec![0; 2 * (4 + 4 + 10 + 4 + 5)];
        flate2::read::ZlibDecoder::new(&compressed[..]).read_exact(&mut plain).unwrap();
        let pair =
            |kind: &[u8]| [&[0, 0, 0, 1, 0, 0, 0, 10][..], b"streamtype", &[0, 0, 0, 5], kind].concat();
        assert_eq!(plain, [pair(b"error"), pair(b"stdin")].concat());
    }
}
