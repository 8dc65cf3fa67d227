//! Restoring: a data folder for the first server of a new cluster.

use super::SavedSnapshotHeader;
use super::reading::{Reading, load, meta_of, not_a_state};
use crate::bootstrap::{BootstrapMember, BootstrapRecord, Place, draw_uid};
use crate::codec::{self, Applied};
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::error::Error;
use crate::frames::{file_error, refused};
use crate::log_thread::meta_key;
use crate::place::{Home, StorageLocation};
use crate::types::{LogId, MemberInfo, Membership, StoredMembership, Vote, log_id};
use crate::view::engine_error;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use stint_api::{ClusterId, MemberId, Revision};
use stint_core::{MetaRecord, Row, RowKey, StoredRow};

/// Id of the only member that a restored cluster begins with.
const FIRST_MEMBER: MemberId = MemberId(1);

/// What a restore has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was restored.
    pub header: SavedSnapshotHeader,
    /// The new cluster.
    pub cluster_id: ClusterId,
    /// Revision with which it begins.
    pub revision: Revision,
}

/// Makes the server of this name the only member of a new cluster that begins with the rows of a saved snapshot. Revisions
/// are raised `raises` times (decision 6): 1, and one more for each cluster that was restored from the same snapshot, or one
/// before it, and used. The place must be empty. Blocks on the disk.
///
/// The server learns where it is reached when it is started; others join as they would join any cluster.
///
/// # Errors
/// Those of [`super::check`], and if the place is not empty or can't be written. Nothing is left in a folder then.
pub fn restore(
    mut file: impl Read + Seek,
    location: &StorageLocation,
    name: &str,
    raises: u32,
) -> Result<Restored, Error> {
    let mut reading = Reading::begin(&mut file)?;
    let state = load(&mut reading)?;
    let (header, checked) = (reading.header.clone(), reading.end);
    let drawn = draw_uid().map_err(|error| Error::Bootstrap(format!("no random bytes: {error}")))?;
    let cluster_id = ClusterId(drawn);
    let meta = state.meta().restored(cluster_id, raises).map_err(|error| not_a_state(&error))?;
    drop(state);
    let restored = Restored { header, cluster_id, revision: meta.revision };
    let mut home = Home::begin_restore(location, name)?;
    let written = file.seek(SeekFrom::Start(0)).map_err(file_error).and_then(|_| {
        let again = write_rows(&mut file, home.engine(), home.path(), &meta)?;
        if again != checked {
            return Err(refused("it was altered meanwhile"));
        }
        write_positions(home.engine(), home.path(), &restored, name)?;
        home.take(&place(name, cluster_id, home.folder_uid()))
    });
    match written {
        Ok(()) => home.finish_restore().map(|()| restored),
        Err(error) => {
            home.give_restore_up();
            Err(error)
        }
    }
}

/// Gives the checksum of what was written.
fn write_rows(
    file: impl Read,
    engine: &dyn Engine,
    folder: &Path,
    meta: &MetaRecord,
) -> Result<Option<[u8; 32]>, Error> {
    let meta_key = codec::encode_row_key(&RowKey::Meta);
    let mut reading = Reading::begin(file)?;
    while let Some(rows) = reading.next_rows()? {
        let mut batch = Batch::default();
        for (key, value) in rows {
            let value = if key == meta_key {
                // It is what it was when it was checked, or the checksums differ in the end.
                meta_of(value)?;
                let row = Row::Meta(std::sync::Arc::new(meta.clone()));
                codec::encode_row(&StoredRow { revision: Revision(0), row })
            } else {
                value
            };
            batch.put(Table::RowsA, key, value);
        }
        engine.write(batch, Durability::Queued).map_err(|error| engine_error(folder, error))?;
    }
    Ok(reading.end)
}

/// The log is empty and ends with the last entry of the old cluster: ids of members are never used again (decision 13).
fn write_positions(engine: &dyn Engine, folder: &Path, restored: &Restored, name: &str) -> Result<(), Error> {
    let SavedSnapshotHeader { term, log_index, .. } = restored.header;
    let last: LogId = log_id(term, log_index);
    let info = MemberInfo { name: name.to_owned(), ..MemberInfo::default() };
    let id = FIRST_MEMBER.0;
    let membership = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, info)]))
        .map_err(|error| Error::Raft(error.to_string()))?;
    let applied = Applied {
        log_id: Some(last),
        membership: StoredMembership::new(Some(last), membership),
        revision: restored.revision,
    };
    let mut batch = Batch::default();
    batch.put(Table::Meta, meta_key::VOTE.to_vec(), codec::encode_vote(&Vote::new(term, id)));
    batch.put(Table::Meta, meta_key::COMMITTED.to_vec(), codec::encode_log_id(&last));
    batch.put(Table::Meta, meta_key::PURGED.to_vec(), codec::encode_log_id(&last));
    batch.put(Table::Meta, meta_key::APPLIED.to_vec(), codec::encode_applied(&applied));
    let written: Result<(), EngineError> = engine.write(batch, Durability::Queued);
    written.map_err(|error| engine_error(folder, error))
}

/// Synced, and all that was written before it.
fn place(name: &str, cluster_id: ClusterId, folder_uid: u128) -> Place {
    let member = BootstrapMember {
        member_id: FIRST_MEMBER,
        name: name.to_owned(),
        // Told by the server when it is started.
        peer_address: String::new(),
        client_address: String::new(),
        folder_uid,
    };
    let record = BootstrapRecord { cluster_id, members: vec![member] };
    Place { member_id: FIRST_MEMBER, cluster_id, record: Some(record), initializes: true }
}
