//! Files: what is damaged, cut short, foreign or of another version is refused, and nothing is left of it.

use std::collections::BTreeSet;
use std::io::Cursor;

use stint_api::MemberId;
use stint_core::testing::Harness;
use stint_core::{ClusterSettings, Command, Entry, PlacementPolicy};

use super::*;
use crate::codec;
use crate::engine::{Batch, Durability, Engine, MemoryEngine, Table};
use crate::log_thread::meta_key;
use crate::place::StorageLocation;
use crate::types::{Membership, StoredMembership, log_id};

const CLUSTER: ClusterId = ClusterId(7);

/// An engine with the rows of a cluster that has its settings and nothing else.
fn engine() -> MemoryEngine {
    let mut harness = Harness::new();
    let settings = ClusterSettings {
        cluster_id: CLUSTER,
        node_lease_ms: 10_000,
        placement_policy: PlacementPolicy::Spread,
        event_retention_ms: 1,
        highest_member_id: MemberId(3),
        default_runtime: String::new(),
        ended_pods_max: 0,
    };
    let commands = vec![Command::SetClusterSettings(settings), Command::ReserveMemberId];
    harness.apply_entry(&Entry { time: Timestamp(5), seed: 1, commands });
    let engine = MemoryEngine::new();
    let mut batch = Batch::default();
    for (key, row) in &harness.rows.map {
        batch.put(Table::RowsA, codec::encode_row_key(key), codec::encode_row(row));
    }
    let members = std::collections::BTreeMap::from([(1, crate::types::MemberInfo::default())]);
    let membership = Membership::new(vec![BTreeSet::from([1])], members).unwrap();
    let applied = codec::Applied {
        log_id: Some(log_id(2, harness.log_index)),
        membership: StoredMembership::new(Some(log_id(1, 0)), membership),
        revision: harness.state.revision(),
    };
    batch.put(Table::Meta, meta_key::APPLIED.to_vec(), codec::encode_applied(&applied));
    engine.write(batch, Durability::Synced).unwrap();
    engine
}

fn origin() -> Origin {
    Origin {
        cluster_id: CLUSTER,
        saved_at: Timestamp(9),
        saved_by: "s2".to_owned(),
        server_version: "1.2.3".to_owned(),
    }
}

fn file() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut saved = None;
    engine()
        .with_view(&mut |view| {
            saved = Some(save(view, &origin(), |piece| {
                bytes.extend_from_slice(&piece);
                Ok(())
            }));
        })
        .unwrap();
    let header = saved.unwrap().unwrap();
    assert_eq!((header.cluster_id, header.log_index, header.term), (CLUSTER, 1, 2));
    assert_eq!((header.time, header.saved_at, header.saved_by.as_str()), (Timestamp(5), Timestamp(9), "s2"));
    assert_eq!(verify(Cursor::new(&bytes)).unwrap(), header);
    assert_eq!(check(Cursor::new(&bytes)).unwrap(), header);
    bytes
}

/// Why a file is refused: the same whether it is looked at or restored, and a restore leaves nothing behind.
fn refusal(bytes: &[u8]) -> String {
    let refused = verify(Cursor::new(bytes)).expect_err("it is refused").to_string();
    assert_eq!(check(Cursor::new(bytes)).unwrap_err().to_string(), refused);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let restored = restore(Cursor::new(bytes), &StorageLocation::Folder(path.clone()), "s1", 1);
    assert_eq!(restored.unwrap_err().to_string(), refused);
    assert!(!path.exists(), "nothing is begun");
    refused
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let bytes = file();
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x20;
        let refused = refusal(&flipped);
        assert!(refused.starts_with("snapshot refused: "), "byte {place}: {refused}");
        let refused = refusal(&bytes[..place]);
        assert!(refused.contains("end is missing") || refused.contains("no snapshot"), "{place}: {refused}");
    }
    let refused = refusal(&[bytes.as_slice(), b"x"].concat());
    assert!(refused.contains("damaged"), "{refused}");
    // A frame that was cut out, whole.
    let mut frames = Cursor::new(&bytes[first_line().len()..]);
    let mut starts = vec![first_line().len()];
    while let Some(frame) = crate::frames::Frame::read(&mut frames).unwrap() {
        starts.push(starts[starts.len() - 1] + frame.bytes.len());
    }
    for pair in starts.windows(2) {
        let without = [&bytes[..pair[0]], &bytes[pair[1]..]].concat();
        refusal(&without);
    }
}

#[test]
fn files_of_others_and_of_other_versions_are_told_apart() {
    for foreign in [b"".as_slice(), b"photo", b"stint snapshot one\n", b"\xff\xfe\n", &[0; 100]] {
        assert!(refusal(foreign).contains("no snapshot that stint has saved"), "{foreign:?}");
    }
    let mut later = file();
    later[FIRST_WORDS.len()] = b'2';
    let refused = refusal(&later);
    assert!(refused.contains("file version 2") && refused.contains("version of stint"), "{refused}");
}

#[test]
fn rows_of_another_data_format_are_refused() {
    let header = verify(Cursor::new(file())).unwrap();
    for (data_format, machine_version) in [(header.data_format + 1, 0), (header.data_format, 1), (1, 0)] {
        let other = SavedSnapshotHeader { data_format, machine_version, ..header.clone() };
        let content = wire::saved_snapshot_frame::Frame::Header(other.to_wire());
        let frame = wire::SavedSnapshotFrame { frame: Some(content) };
        let frame = crate::frames::Frame::of(&frame).unwrap();
        let refused = refusal(&[first_line().as_bytes(), &frame.bytes].concat());
        let expected = format!("data format {data_format}, machine version {machine_version}");
        assert!(refused.contains(&expected) && refused.contains("stint 1.2.3"), "{refused}");
    }
}

#[test]
fn a_restore_that_fails_half_way_leaves_no_server_behind() {
    let folder = tempfile::tempdir().unwrap();
    let engine = MemoryEngine::new();
    let location = StorageLocation::Memory { engine: engine.clone(), snapshots: folder.path().to_owned() };
    // The uid of the place and the rows are written, the positions are not.
    engine.fail_after(2, "no space left");
    let failed = restore(Cursor::new(file()), &location, "s1", 1).unwrap_err();
    assert!(failed.to_string().contains("no space left"), "{failed}");
    engine.crash(usize::MAX);
    assert_eq!(crate::place::Home::open(&location, "s1").unwrap().held(), None);
}

#[test]
fn a_cluster_that_was_never_initialized_has_nothing_to_save() {
    let mut saved = None;
    MemoryEngine::new().with_view(&mut |view| saved = Some(save(view, &origin(), |_| Ok(())))).unwrap();
    assert!(saved.unwrap().unwrap_err().to_string().contains("not initialized"));
}

#[test]
fn who_takes_no_more_ends_it() {
    let (mut saved, mut pieces) = (None, 0);
    engine()
        .with_view(&mut |view| {
            saved = Some(save(view, &origin(), |_| {
                pieces += 1;
                if pieces < 2 { Ok(()) } else { Err(refused("enough")) }
            }));
        })
        .unwrap();
    assert!(saved.unwrap().unwrap_err().to_string().contains("enough"));
    assert_eq!(pieces, 2);
}
