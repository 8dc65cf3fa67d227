//! `decode(encode(x)) == x` for everything; decoding of bytes that nobody wrote; the order of row keys.

use super::sample::{Sample, Sampler};
use super::*;
use crate::types::{StoredMembership, log_id};
use proptest::prelude::*;
use stint_api::ClusterId;
use stint_core::RowKey;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn commands_round_trip(seed: u64) {
        let entry = Entry::sample(&mut Sampler::new(seed));
        prop_assert_eq!(decode_commands(encode_commands(&entry)), Ok(entry));
    }

    #[test]
    fn rows_round_trip(seed: u64) {
        let row = StoredRow::sample(&mut Sampler::new(seed));
        prop_assert_eq!(decode_row(encode_row(&row)), Ok(row));
    }

    #[test]
    fn raft_data_round_trips(seed: u64) {
        let mut sampler = Sampler::new(seed);
        let entry = LogEntry::sample(&mut sampler);
        prop_assert_eq!(decode_log_entry(encode_log_entry(&entry)), Ok(entry));
        let position = log_id(sampler.next(), sampler.next());
        prop_assert_eq!(decode_log_id(encode_log_id(&position)), Ok(position));
        for vote in [Vote::new(sampler.next(), 3), Vote::new_committed(sampler.next(), 4)] {
            prop_assert_eq!(decode_vote(encode_vote(&vote)), Ok(vote));
        }
        let membership = StoredMembership::sample(&mut sampler);
        let meta = SnapshotMeta { last_log_id: Some(position), last_membership: membership.clone() };
        prop_assert_eq!(decode_snapshot_meta(encode_snapshot_meta(&meta)), Ok(meta));
        let applied = Applied { log_id: None, membership, revision: Revision(sampler.next()) };
        prop_assert_eq!(decode_applied(encode_applied(&applied)), Ok(applied));
    }

    #[test]
    fn log_records_round_trip_and_every_altered_byte_is_found(seed: u64, position: usize, bit in 0_u8..8) {
        let mut sampler = Sampler::new(seed);
        let entry = LogEntry::sample(&mut sampler);
        let index = entry.log_id.index();
        let source = RecordSource {
            cluster_id: Option::<ClusterId>::sample(&mut sampler),
            previous_checksum: sampler.next() as u32,
        };
        let (bytes, checksum) = encode_record(&entry, source);
        let record = check_record(index, bytes.clone()).expect("it is as it was written");
        prop_assert_eq!(&record.entry, &entry);
        prop_assert_eq!(record.checksum, checksum);
        prop_assert_eq!(record.previous_checksum, source.previous_checksum);
        prop_assert_eq!(record.cluster_id, source.cluster_id);
        prop_assert!(check_record(index.wrapping_add(1), bytes.clone()).is_err(), "moved to another index");

        let mut altered = bytes.to_vec();
        let position = position % altered.len();
        altered[position] ^= 1 << bit;
        if let Ok(record) = check_record(index, Bytes::from(altered)) {
            // Protobuf may read altered bytes as the same message, such as a longer form of a number; nothing else.
            prop_assert_eq!(record.entry, entry);
            prop_assert_eq!(record.checksum, checksum);
            prop_assert_eq!(record.previous_checksum, source.previous_checksum);
            prop_assert_eq!(record.cluster_id, source.cluster_id);
        }
    }

    #[test]
    fn decoding_of_any_bytes_never_panics(bytes: Vec<u8>, seed: u64, cut: usize) {
        let mut candidates = vec![Bytes::from(bytes.clone())];
        let mut behind_format = vec![FORMAT_BYTE];
        behind_format.extend(bytes);
        candidates.push(Bytes::from(behind_format));
        let mut cut_short = encode_commands(&Entry::sample(&mut Sampler::new(seed)));
        cut_short.truncate(cut % (cut_short.len() + 1));
        candidates.push(cut_short);
        for bytes in candidates {
            let _ = decode_commands(bytes.clone());
            let _ = decode_log_entry(bytes.clone());
            let _ = decode_row(bytes.clone());
            let _ = decode_vote(bytes.clone());
            let _ = decode_log_id(bytes.clone());
            let _ = decode_applied(bytes.clone());
            let _ = decode_snapshot_meta(bytes.clone());
            let _ = check_record(1, bytes.clone());
            if let Ok(key) = decode_row_key(&bytes) {
                prop_assert_eq!(encode_row_key(&key), bytes.to_vec(), "one key has one encoding");
            }
        }
    }

    #[test]
    fn row_keys_round_trip_and_keep_their_order(seed: u64) {
        let mut sampler = Sampler::new(seed);
        let mut keys: Vec<RowKey> = (0..40).map(|_| RowKey::sample(&mut sampler)).collect();
        for key in &keys {
            prop_assert_eq!(decode_row_key(&encode_row_key(key)), Ok(key.clone()));
        }
        let mut by_bytes = keys.clone();
        by_bytes.sort_by_key(encode_row_key);
        keys.sort();
        prop_assert_eq!(by_bytes, keys);
    }
}

#[test]
fn an_unknown_format_is_named() {
    let error = decode_vote(Bytes::from_static(&[9, 1])).expect_err("format 9 does not exist");
    assert_eq!(error.to_string(), "could not decode vote: format 9 is not known: a newer version wrote it");
}

#[test]
fn a_missing_field_is_named_with_its_path() {
    let command = wire::Command {
        command: Some(wire::command::Command::CreateJob(wire::CreateJob {
            job: None,
            uid: Bytes::from_static(&[0; 16]),
            request_id: String::new(),
            other_names: Vec::new(),
        })),
    };
    let bytes = encode(&wire::Entry { time: 0, seed: 0, commands: vec![command] });
    let error = decode_commands(bytes).expect_err("the Job is missing");
    assert_eq!(error.to_string(), "could not decode commands.commands.job: it is missing");
}

/// The format: a change of these bytes makes folders of earlier versions unreadable.
#[test]
fn encodings_are_what_they_always_were() {
    let entry = LogEntry { log_id: log_id(2, 7), payload: crate::types::EntryPayload::Blank };
    assert_eq!(encode_log_entry(&entry).as_ref(), [1, 0x0a, 4, 0x08, 2, 0x10, 7, 0x12, 0]);
    let key = RowKey::JobName { namespace: "a\0".to_owned(), name: String::new() };
    assert_eq!(encode_row_key(&key), [5, b'a', 0, 0xff, 0, 0, 0, 0]);
}
