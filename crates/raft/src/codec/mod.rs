//! The format of everything that this crate writes to disk or gives a peer: versioned protobuf behind a format byte.
//!
//! Owns: encoding and decoding of commands, log entries, log records, rows and their keys, votes, memberships, snapshot
//! descriptions. Does not own: where they are stored, messages between peers (`proto/stint/internal/v1/peer.proto`).
//!
//! Invariants: decoding is total (bad bytes are a [`CodecError`], never a panic); `decode(encode(x)) == x`; equal values
//! have equal bytes.

mod commands;
pub(crate) mod convert;
mod log_record;
mod objects;
mod raft;
mod row_key;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use log_record::{RecordSource, check_record, encode_record};
pub use row_key::{decode_row_key, encode_bound, encode_row_key};

use crate::error::CodecError;
use crate::types::{LogEntry, LogId, SnapshotMeta, StoredMembership, Vote};
use crate::wire;
use bytes::{BufMut, Bytes, BytesMut};
use convert::{FromWire, ToWire};
use prost::Message;
use stint_api::Revision;
use stint_core::{Entry, StoredRow};

/// In front of each value: which version of the format it is in.
pub const FORMAT_BYTE: u8 = 1;

/// Encodes commands: once, by their proposer.
pub fn encode_commands(entry: &Entry) -> Bytes {
    let message: wire::Entry = entry.to_wire();
    encode(&message)
}

/// Decodes commands.
pub fn decode_commands(bytes: Bytes) -> Result<Entry, CodecError> {
    let message: wire::Entry = decode(bytes, "commands")?;
    Entry::from_wire(message).map_err(|error| error.within("commands"))
}

/// Encodes a log entry, for disk and wire.
pub fn encode_log_entry(entry: &LogEntry) -> Bytes {
    encode(&entry.to_wire())
}

/// Decodes a log entry.
pub fn decode_log_entry(bytes: Bytes) -> Result<LogEntry, CodecError> {
    LogEntry::from_wire(decode(bytes, "log entry")?).map_err(|error| error.within("log entry"))
}

/// Encodes what a snapshot covers.
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Bytes {
    encode(&meta.to_wire())
}

/// Decodes what a snapshot covers.
pub fn decode_snapshot_meta(bytes: Bytes) -> Result<SnapshotMeta, CodecError> {
    SnapshotMeta::from_wire(decode(bytes, "snapshot description")?)
        .map_err(|error| error.within("snapshot description"))
}

/// Encodes a row's content.
pub fn encode_row(row: &StoredRow) -> Bytes {
    let message: wire::StoredRow = row.to_wire();
    encode(&message)
}

/// Decodes a row's content.
pub fn decode_row(bytes: Bytes) -> Result<StoredRow, CodecError> {
    let message: wire::StoredRow = decode(bytes, "row")?;
    StoredRow::from_wire(message).map_err(|error| error.within("row"))
}

/// Encodes a vote.
pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    encode(&vote.to_wire())
}

/// Decodes a vote.
pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, CodecError> {
    Vote::from_wire(decode(bytes, "vote")?).map_err(|error| error.within("vote"))
}

/// Encodes a log id.
pub(crate) fn encode_log_id(log_id: &LogId) -> Bytes {
    encode(&log_id.to_wire())
}

/// Decodes a log id.
pub(crate) fn decode_log_id(bytes: Bytes) -> Result<LogId, CodecError> {
    LogId::from_wire(decode(bytes, "log id")?).map_err(|error| error.within("log id"))
}

/// Up to where the log was applied to the rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// The last applied entry; none: nothing was applied yet.
    pub(crate) log_id: Option<LogId>,
    /// The membership as of that entry.
    pub(crate) membership: StoredMembership,
    /// Revision of the last row change.
    pub(crate) revision: Revision,
}

/// Encodes the applied position.
pub(crate) fn encode_applied(applied: &Applied) -> Bytes {
    encode(&wire::AppliedRecord {
        log_id: applied.log_id.to_wire(),
        membership: Some(applied.membership.to_wire()),
        revision: applied.revision.to_wire(),
    })
}

/// Decodes the applied position.
pub(crate) fn decode_applied(bytes: Bytes) -> Result<Applied, CodecError> {
    let record: wire::AppliedRecord = decode(bytes, "applied position")?;
    let membership =
        record.membership.ok_or_else(CodecError::missing).map_err(|error| error.within("membership"))?;
    Ok(Applied {
        log_id: FromWire::from_wire(record.log_id)?,
        membership: FromWire::from_wire(membership)?,
        revision: FromWire::from_wire(record.revision)?,
    })
}

/// Puts the format byte in front of a message.
pub(crate) fn encode<M>(message: &M) -> Bytes
where
    M: Message,
{
    let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
    bytes.put_u8(FORMAT_BYTE);
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Checks the format byte and decodes the message behind it. `what` is named in the error.
pub(crate) fn decode<M>(mut bytes: Bytes, what: &'static str) -> Result<M, CodecError>
where
    M: Message + Default,
{
    if bytes.is_empty() {
        return Err(CodecError::missing().within(what));
    }
    let format = bytes.split_to(1)[0];
    if format != FORMAT_BYTE {
        return Err(CodecError::format(format).within(what));
    }
    M::decode(bytes).map_err(|error| CodecError::protobuf(error).within(what))
}
