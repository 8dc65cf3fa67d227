//! Row keys as bytes, in an encoding that keeps their order.
//!
//! Owns: the encoding of [`RowKey`]. Does not own: the rows' contents.
//!
//! Invariants: `a < b` as keys exactly when `encode(a) < encode(b)` as bytes; no encoded key is a prefix of another one.
//! The order is part of the format: a snapshot is sent in it, and every server must cut it alike.

use crate::error::CodecError;
use std::ops::Bound;
use stint_api::{JobUid, NodeName, PodUid, Revision};
use stint_core::{LogTailKey, PodKey, RowKey};

/// Kinds of keys, in the order of [`RowKey`]'s variants.
mod kind {
    pub(super) const META: u8 = 1;
    pub(super) const NODE: u8 = 2;
    pub(super) const JOB: u8 = 3;
    pub(super) const TEMPLATE: u8 = 4;
    pub(super) const JOB_NAME: u8 = 5;
    pub(super) const POD: u8 = 6;
    pub(super) const POD_NAME: u8 = 7;
    pub(super) const EVENT: u8 = 8;
    pub(super) const TOMBSTONE: u8 = 9;
    pub(super) const CONFIG_MAP: u8 = 10;
    pub(super) const LOG_TAIL: u8 = 11;
    pub(super) const HISTORY: u8 = 12;
}

/// A zero byte within a text is followed by this; it is higher than [`TEXT_END`].
const ZERO_ESCAPE: u8 = 0xff;
/// A text ends with a zero byte followed by this, so that a shorter text sorts before a longer one.
const TEXT_END: u8 = 0x00;

/// Encodes a key.
pub fn encode_row_key(key: &RowKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    match key {
        RowKey::Meta => bytes.push(kind::META),
        RowKey::Node(name) => {
            bytes.push(kind::NODE);
            put_text(&mut bytes, name.as_str());
        }
        RowKey::Job(uid) => {
            bytes.push(kind::JOB);
            bytes.extend_from_slice(&uid.0.to_be_bytes());
        }
        RowKey::Template(uid) => {
            bytes.push(kind::TEMPLATE);
            bytes.extend_from_slice(&uid.0.to_be_bytes());
        }
        RowKey::JobName { namespace, name } => {
            bytes.push(kind::JOB_NAME);
            put_text(&mut bytes, namespace);
            put_text(&mut bytes, name);
        }
        RowKey::Pod(PodKey { job, created_revision }) => {
            bytes.push(kind::POD);
            bytes.extend_from_slice(&job.0.to_be_bytes());
            bytes.extend_from_slice(&created_revision.0.to_be_bytes());
        }
        RowKey::PodName { namespace, name } => {
            bytes.push(kind::POD_NAME);
            put_text(&mut bytes, namespace);
            put_text(&mut bytes, name);
        }
        RowKey::Event { kind: object_kind, object, reason } => {
            bytes.push(kind::EVENT);
            put_text(&mut bytes, object_kind);
            put_text(&mut bytes, object);
            put_text(&mut bytes, reason);
        }
        RowKey::Tombstone { namespace, name, request_id } => {
            bytes.push(kind::TOMBSTONE);
            put_text(&mut bytes, namespace);
            put_text(&mut bytes, name);
            put_text(&mut bytes, request_id);
        }
        RowKey::ConfigMap { namespace, name } => {
            bytes.push(kind::CONFIG_MAP);
            put_text(&mut bytes, namespace);
            put_text(&mut bytes, name);
        }
        RowKey::LogTail(LogTailKey { pod, container, restart_count }) => {
            bytes.push(kind::LOG_TAIL);
            bytes.extend_from_slice(&pod.0.to_be_bytes());
            bytes.extend_from_slice(&container.to_be_bytes());
            bytes.extend_from_slice(&restart_count.to_be_bytes());
        }
        RowKey::History(uid) => {
            bytes.push(kind::HISTORY);
            bytes.extend_from_slice(&uid.0.to_be_bytes());
        }
    }
    bytes
}

/// Decodes a key; fails on anything that [`encode_row_key`] does not write.
pub fn decode_row_key(bytes: &[u8]) -> Result<RowKey, CodecError> {
    let mut rest = bytes;
    let key = match take::<1>(&mut rest)?[0] {
        kind::META => RowKey::Meta,
        kind::NODE => RowKey::Node(NodeName::new(&take_text(&mut rest)?)),
        kind::JOB => RowKey::Job(take_job(&mut rest)?),
        kind::TEMPLATE => RowKey::Template(take_job(&mut rest)?),
        kind::JOB_NAME => RowKey::JobName { namespace: take_text(&mut rest)?, name: take_text(&mut rest)? },
        kind::POD => RowKey::Pod(PodKey {
            job: take_job(&mut rest)?,
            created_revision: Revision(u64::from_be_bytes(take(&mut rest)?)),
        }),
        kind::POD_NAME => RowKey::PodName { namespace: take_text(&mut rest)?, name: take_text(&mut rest)? },
        kind::EVENT => RowKey::Event {
            kind: take_text(&mut rest)?,
            object: take_text(&mut rest)?,
            reason: take_text(&mut rest)?,
        },
        kind::TOMBSTONE => RowKey::Tombstone {
            namespace: take_text(&mut rest)?,
            name: take_text(&mut rest)?,
            request_id: take_text(&mut rest)?,
        },
        kind::CONFIG_MAP => {
            RowKey::ConfigMap { namespace: take_text(&mut rest)?, name: take_text(&mut rest)? }
        }
        kind::LOG_TAIL => RowKey::LogTail(LogTailKey {
            pod: PodUid(u128::from_be_bytes(take(&mut rest)?)),
            container: u32::from_be_bytes(take(&mut rest)?),
            restart_count: u32::from_be_bytes(take(&mut rest)?),
        }),
        kind::HISTORY => RowKey::History(take_job(&mut rest)?),
        _ => return Err(CodecError::row_key()),
    };
    if rest.is_empty() { Ok(key) } else { Err(CodecError::row_key()) }
}

/// Encodes one end of a range.
pub fn encode_bound(bound: &Bound<RowKey>) -> Bound<Vec<u8>> {
    match bound {
        Bound::Included(key) => Bound::Included(encode_row_key(key)),
        Bound::Excluded(key) => Bound::Excluded(encode_row_key(key)),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(ZERO_ESCAPE);
        }
    }
    bytes.extend_from_slice(&[0, TEXT_END]);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or_else(CodecError::row_key)?;
    *rest = tail;
    Ok(*head)
}

fn take_job(rest: &mut &[u8]) -> Result<JobUid, CodecError> {
    Ok(JobUid(u128::from_be_bytes(take(rest)?)))
}

fn take_text(rest: &mut &[u8]) -> Result<String, CodecError> {
    let mut text = Vec::new();
    loop {
        match take::<1>(rest)?[0] {
            0 => match take::<1>(rest)?[0] {
                TEXT_END => return String::from_utf8(text).map_err(|_| CodecError::row_key()),
                ZERO_ESCAPE => text.push(0),
                _ => return Err(CodecError::row_key()),
            },
            byte => text.push(byte),
        }
    }
}
