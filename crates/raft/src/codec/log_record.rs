//! Log records: entries as they are stored, each with a checksum that covers the record before it.
//!
//! Owns: the checksum chain of the log (decision 12). Does not own: reading and writing of records.
//!
//! Invariant: a record that was cut out, moved, exchanged, altered or taken from another cluster is found when the log is
//! read from one end to the other.

use super::{decode, encode};
use crate::error::CodecError;
use crate::types::LogEntry;
use crate::wire;
use bytes::Bytes;
use stint_api::ClusterId;

/// Who writes a record, and after what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RecordSource {
    /// None: not known yet.
    pub(crate) cluster_id: Option<ClusterId>,
    /// Checksum of the record before it; 0 if there is none.
    pub(crate) previous_checksum: u32,
}

/// A record whose own checksum is right.
#[derive(Debug)]
pub(crate) struct CheckedRecord {
    /// The entry.
    pub(crate) entry: LogEntry,
    /// To be compared with the record before it.
    pub(crate) previous_checksum: u32,
    /// Its own.
    pub(crate) checksum: u32,
    /// None: was not known when it was written.
    pub(crate) cluster_id: Option<ClusterId>,
}

/// Encodes an entry as a record; also returns the record's checksum, the next one's `previous_checksum`.
pub(crate) fn encode_record(entry: &LogEntry, source: RecordSource) -> (Bytes, u32) {
    let encoded = super::encode_log_entry(entry);
    let cluster_id = cluster_bytes(source.cluster_id);
    let checksum = checksum(source.previous_checksum, entry.log_id.index(), &cluster_id, &encoded);
    let record =
        wire::LogRecord { previous_checksum: source.previous_checksum, checksum, cluster_id, entry: encoded };
    (encode(&record), checksum)
}

/// Decodes a record and checks that it is whole and stands where it belongs.
pub(crate) fn check_record(index: u64, bytes: Bytes) -> Result<CheckedRecord, CodecError> {
    let record: wire::LogRecord = decode(bytes, "log record")?;
    let expected = checksum(record.previous_checksum, index, &record.cluster_id, &record.entry);
    if expected != record.checksum {
        return Err(CodecError::checksum(expected, record.checksum).within("log record"));
    }
    let cluster_id = match record.cluster_id.len() {
        0 => None,
        _ => Some(super::convert::FromWire::from_wire(record.cluster_id)?),
    };
    let entry = super::decode_log_entry(record.entry)?;
    if entry.log_id.index() != index {
        return Err(CodecError::text(entry.log_id.to_string()).within("log record"));
    }
    Ok(CheckedRecord {
        entry,
        previous_checksum: record.previous_checksum,
        checksum: record.checksum,
        cluster_id,
    })
}

fn cluster_bytes(cluster_id: Option<ClusterId>) -> Bytes {
    cluster_id.map(|id| Bytes::copy_from_slice(&id.0.to_be_bytes())).unwrap_or_default()
}

fn checksum(previous: u32, index: u64, cluster_id: &[u8], entry: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&previous.to_be_bytes());
    hasher.update(&index.to_be_bytes());
    hasher.update(cluster_id);
    hasher.update(entry);
    hasher.finalize()
}
