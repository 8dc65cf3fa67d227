//! Frames of snapshot files: a message with its length and its CRC-32 in front.
//!
//! Owns: writing one and reading one. Does not own: which frames a file has, and in what order.
//!
//! Invariant: what is read is what was written, or an error.

use crate::codec;
use crate::error::{CodecError, Error};
use crate::limits::SNAPSHOT_FRAME_BYTES_MAX;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use std::io::{self, Read};

/// A frame as it stands in a file.
pub(crate) struct Frame {
    /// With its head.
    pub(crate) bytes: Bytes,
    /// CRC-32 of its content.
    pub(crate) checksum: u32,
}

impl Frame {
    /// Bytes of length and checksum.
    const HEAD_BYTES: usize = 8;

    /// The frame of a message.
    pub(crate) fn of<M: Message>(message: &M) -> Result<Frame, Error> {
        let content = codec::encode(message);
        let length = u32::try_from(content.len())
            .ok()
            .filter(|_| content.len() <= SNAPSHOT_FRAME_BYTES_MAX)
            .ok_or_else(|| refused("one of its rows is larger than a frame may be"))?;
        let checksum = crc32fast::hash(&content);
        let mut bytes = BytesMut::with_capacity(Frame::HEAD_BYTES + content.len());
        bytes.put_u32_le(length);
        bytes.put_u32_le(checksum);
        bytes.put(content);
        Ok(Frame { bytes: bytes.freeze(), checksum })
    }

    /// Reads the next one; none at the end of the file.
    pub(crate) fn read(file: &mut impl Read) -> Result<Option<Frame>, Error> {
        let mut head = [0; Frame::HEAD_BYTES];
        let begun = loop {
            match file.read(&mut head[..1]) {
                Ok(begun) => break begun,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(file_error(error)),
            }
        };
        if begun == 0 {
            return Ok(None);
        }
        file.read_exact(&mut head[1..]).map_err(file_error)?;
        let [a, b, c, d, checksum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > SNAPSHOT_FRAME_BYTES_MAX {
            return Err(refused("one of its frames is longer than any that is written"));
        }
        let mut bytes = vec![0; Frame::HEAD_BYTES + length];
        bytes[..Frame::HEAD_BYTES].copy_from_slice(&head);
        file.read_exact(&mut bytes[Frame::HEAD_BYTES..]).map_err(file_error)?;
        let checksum = u32::from_le_bytes(checksum);
        let expected = crc32fast::hash(&bytes[Frame::HEAD_BYTES..]);
        if checksum != expected {
            return Err(CodecError::checksum(expected, checksum).within("snapshot frame").into());
        }
        Ok(Some(Frame { bytes: bytes.into(), checksum }))
    }

    /// Its message.
    pub(crate) fn decode<M: Message + Default>(&self) -> Result<M, Error> {
        Ok(codec::decode(self.bytes.slice(Frame::HEAD_BYTES..), "snapshot frame")?)
    }
}

pub(crate) fn refused(what: &str) -> Error {
    Error::Snapshot { what: what.to_owned() }
}

pub(crate) fn file_error(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return refused("its end is missing");
    }
    Error::Snapshot { what: format!("its file: {error}") }
}
