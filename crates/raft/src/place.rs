//! The place in a cluster that a server's storage holds.
//!
//! Owns: opening a data folder or an engine in memory far enough to know whose it is; the rule that a place is taken once
//! and stands in the database as well as in the folder's identity. Does not own: the folder's files (module `folder`),
//! log and rows (module `storage`).
//!
//! Invariant: a server that has a place but an emptied database is refused: under its old id it would deny what it has
//! promised (decision 13).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stint_api::{ClusterId, MemberId};

use crate::bootstrap::{BootstrapRecord, FolderUid, Place, decode_folder_uid, draw_uid, encode_folder_uid};
use crate::engine::{Batch, Durability, Engine, EngineError, MemoryEngine, Table};
use crate::error::Error;
use crate::folder::{ClusterPlace, DataFolder};
use crate::peer::handshake::{decode_cluster_id, encode_cluster_id, member_id};
use crate::state_machine::ApplyObserver;
use crate::storage::Storage;
use crate::wire;

/// Key of the place in the meta table.
const PLACE_KEY: &[u8] = b"place";
/// Key of the uid of storage that has no folder.
const FOLDER_UID_KEY: &[u8] = b"folder_uid";

/// Where a server keeps its log, its vote and its rows.
#[derive(Debug, Clone)]
pub enum StorageLocation {
    /// In a data folder, with RocksDB. Needs the feature `rocksdb`.
    Folder(PathBuf),
    /// In memory. Who starts a server with the same engine again restarts it; with a fresh engine it has lost its disk.
    Memory {
        /// The content.
        engine: MemoryEngine,
        /// For snapshot files while they are built, sent and received.
        snapshots: PathBuf,
    },
}

/// Storage of which nothing was read but whose it is.
pub(crate) struct Home {
    folder: Option<DataFolder>,
    path: PathBuf,
    snapshots: PathBuf,
    engine: Arc<dyn Engine>,
    folder_uid: FolderUid,
    held: Option<HeldPlace>,
}

/// The place that storage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldPlace {
    pub(crate) member_id: MemberId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) record: Option<BootstrapRecord>,
}

impl Home {
    /// Opens the home of the server of this name. Blocks on the disk.
    pub(crate) fn open(location: &StorageLocation, name: &str) -> Result<Home, Error> {
        let (folder, path, engine, snapshots) = match location {
            StorageLocation::Folder(path) => {
                let folder = DataFolder::open(path, name)?;
                let engine = open_database(&folder)?;
                let snapshots = folder.snapshots();
                (Some(folder), path.clone(), engine, snapshots)
            }
            StorageLocation::Memory { engine, snapshots } => {
                let engine: Arc<dyn Engine> = Arc::new(engine.clone());
                (None, snapshots.clone(), engine, snapshots.clone())
            }
        };
        let failed = |action| {
            let folder = path.clone();
            move |error: EngineError| Error::Engine { folder, action, problem: error.to_string() }
        };
        let damaged = |what: &str| Error::Damaged { folder: path.clone(), what: what.to_owned() };
        let stored = engine.get(Table::Meta, PLACE_KEY).map_err(failed("read its place in the cluster"))?;
        let stored = match stored {
            Some(bytes) => Some(decode_place(&bytes).ok_or_else(|| damaged("its place can't be read"))?),
            None => None,
        };
        let folder_uid = match &folder {
            Some(folder) => folder.identity().folder_uid,
            None => memory_uid(engine.as_ref()).map_err(failed("keep its uid"))?,
        };
        if stored.as_ref().is_some_and(|(uid, _)| *uid != folder_uid) {
            return Err(damaged("its database is that of another folder"));
        }
        let held = stored.map(|(_, held)| held);
        let mut home = Home { folder, path: path.clone(), snapshots, engine, folder_uid, held };
        if let Some(folder) = &mut home.folder {
            match (folder.identity().place, home.held.as_ref().map(HeldPlace::in_folder)) {
                (Some(_), None) => {
                    return Err(damaged("it has a place in a cluster, but its database was emptied"));
                }
                (Some(one), Some(other)) if one != other => {
                    return Err(damaged("its identity and its database name different places"));
                }
                // The process ended between the two writes.
                (None, Some(place)) => folder.set_place(place)?,
                _ => {}
            }
        }
        Ok(home)
    }

    /// Takes an empty place for a snapshot to be restored into.
    pub(crate) fn begin_restore(location: &StorageLocation, name: &str) -> Result<Home, Error> {
        match location {
            StorageLocation::Folder(path) => {
                let folder = DataFolder::begin_restore(path, name)?;
                let engine = match open_database(&folder) {
                    Ok(engine) => engine,
                    Err(error) => {
                        folder.give_restore_up();
                        return Err(error);
                    }
                };
                let folder_uid = folder.identity().folder_uid;
                let (path, snapshots) = (path.clone(), folder.snapshots());
                Ok(Home { folder: Some(folder), path, snapshots, engine, folder_uid, held: None })
            }
            StorageLocation::Memory { .. } => {
                let home = Home::open(location, name)?;
                match home.held {
                    None => Ok(home),
                    Some(_) => Err(Error::NotEmpty { folder: home.path, found: "a server".to_owned() }),
                }
            }
        }
    }

    /// See [`DataFolder::finish_restore`].
    pub(crate) fn finish_restore(self) -> Result<(), Error> {
        // The database is closed before the folder becomes a server's.
        drop(self.engine);
        let Some(folder) = self.folder else { return Ok(()) };
        folder.finish_restore().inspect_err(|_| folder.give_restore_up())
    }

    /// See [`DataFolder::give_restore_up`].
    pub(crate) fn give_restore_up(self) {
        drop(self.engine);
        if let Some(folder) = self.folder {
            folder.give_restore_up();
        }
    }

    /// Where its rows are. Only a restore writes here by itself.
    pub(crate) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// What messages name.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Identity of the folder.
    pub(crate) fn folder_uid(&self) -> FolderUid {
        self.folder_uid
    }

    /// None: it belongs to no cluster yet.
    pub(crate) fn held(&self) -> Option<&HeldPlace> {
        self.held.as_ref()
    }

    /// Takes a place for good. Blocks on the disk.
    pub(crate) fn take(&mut self, place: &Place) -> Result<(), Error> {
        let held = HeldPlace {
            member_id: place.member_id,
            cluster_id: place.cluster_id,
            record: place.record.clone(),
        };
        let mut batch = Batch::default();
        batch.put(Table::Meta, PLACE_KEY.to_vec(), encode_place(self.folder_uid, &held));
        // The log thread has not started: nobody else writes.
        self.engine.write(batch, Durability::Synced).map_err(|error| Error::Engine {
            folder: self.path.clone(),
            action: "keep its place in the cluster",
            problem: error.to_string(),
        })?;
        if let Some(folder) = &mut self.folder {
            folder.set_place(held.in_folder())?;
        }
        self.held = Some(held);
        Ok(())
    }

    /// Reads and checks everything, and starts to write. Blocks on the disk. The folder stays locked as long as what is
    /// returned with the storage lives.
    pub(crate) fn open_storage(
        self,
        observer: Arc<dyn ApplyObserver>,
    ) -> Result<(Storage, Option<DataFolder>), Error> {
        let cluster_id = self.held.as_ref().map(|held| held.cluster_id);
        let storage = Storage::open_engine(self.engine, &self.path, &self.snapshots, cluster_id, observer)?;
        Ok((storage, self.folder))
    }
}

impl HeldPlace {
    fn in_folder(&self) -> ClusterPlace {
        ClusterPlace { member_id: self.member_id, cluster_id: self.cluster_id }
    }
}

#[cfg(feature = "rocksdb")]
fn open_database(folder: &DataFolder) -> Result<Arc<dyn Engine>, Error> {
    let engine = crate::engine::RocksEngine::open(&folder.database())
        .map_err(|error| crate::view::engine_error(folder.path(), error))?;
    Ok(Arc::new(engine))
}

#[cfg(not(feature = "rocksdb"))]
fn open_database(folder: &DataFolder) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::Engine {
        folder: folder.path().to_owned(),
        action: "open its database",
        problem: "this program was built without the feature rocksdb".to_owned(),
    })
}

fn memory_uid(engine: &dyn Engine) -> Result<FolderUid, EngineError> {
    let failed = |problem: String| EngineError::failure("draw a uid", problem);
    if let Some(bytes) = engine.get(Table::Meta, FOLDER_UID_KEY)? {
        return decode_folder_uid(&bytes).ok_or_else(|| failed("what is kept is no uid".to_owned()));
    }
    let uid = draw_uid().map_err(|error| failed(error.to_string()))?;
    let mut batch = Batch::default();
    batch.put(Table::Meta, FOLDER_UID_KEY.to_vec(), encode_folder_uid(uid));
    engine.write(batch, Durability::Synced)?;
    Ok(uid)
}

fn encode_place(folder_uid: FolderUid, held: &HeldPlace) -> Bytes {
    let place = wire::PeerPlace {
        folder_uid: encode_folder_uid(folder_uid),
        member_id: held.member_id.0,
        cluster_id: encode_cluster_id(Some(held.cluster_id)),
        bootstrap: held.record.as_ref().map(BootstrapRecord::to_wire),
    };
    place.encode_to_vec().into()
}

fn decode_place(bytes: &[u8]) -> Option<(FolderUid, HeldPlace)> {
    let place = wire::PeerPlace::decode(bytes).ok()?;
    let record = match &place.bootstrap {
        Some(record) => Some(BootstrapRecord::from_wire(record)?),
        None => None,
    };
    let held = HeldPlace {
        member_id: member_id(place.member_id)?,
        cluster_id: decode_cluster_id(&place.cluster_id)??,
        record,
    };
    Some((decode_folder_uid(&place.folder_uid)?, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(engine: &MemoryEngine, folder: &tempfile::TempDir) -> StorageLocation {
        StorageLocation::Memory { engine: engine.clone(), snapshots: folder.path().join("snapshots") }
    }

    fn place(member: u64) -> Place {
        Place {
            member_id: MemberId(member),
            cluster_id: ClusterId(7),
            record: Some(BootstrapRecord { cluster_id: ClusterId(7), members: Vec::new() }),
            initializes: false,
        }
    }

    #[test]
    fn a_place_is_kept_and_survives_a_power_failure() {
        let folder = tempfile::tempdir().unwrap();
        let engine = MemoryEngine::new();
        let mut home = Home::open(&memory(&engine, &folder), "s1").unwrap();
        let uid = home.folder_uid();
        assert_eq!(home.held(), None);
        home.take(&place(3)).unwrap();
        drop(home);
        engine.crash(0);
        let home = Home::open(&memory(&engine, &folder), "s1").unwrap();
        assert_eq!(home.folder_uid(), uid);
        let held = home.held().unwrap();
        assert_eq!((held.member_id, held.cluster_id), (MemberId(3), ClusterId(7)));
        assert!(held.record.is_some());
    }

    #[test]
    fn another_engine_is_another_folder() {
        let folder = tempfile::tempdir().unwrap();
        let one = Home::open(&memory(&MemoryEngine::new(), &folder), "s1").unwrap();
        let other = Home::open(&memory(&MemoryEngine::new(), &folder), "s1").unwrap();
        assert_ne!(one.folder_uid(), other.folder_uid());
    }

    #[test]
    fn an_unreadable_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let engine = MemoryEngine::new();
        Home::open(&memory(&engine, &folder), "s1").unwrap().take(&place(3)).unwrap();
        engine.tamper(crate::engine::Change::Put {
            table: Table::Meta,
            key: PLACE_KEY.to_vec(),
            value: Bytes::from_static(b"\xff\xff"),
        });
        let reopened = Home::open(&memory(&engine, &folder), "s1");
        assert!(matches!(reopened, Err(Error::Damaged { .. })));
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn a_place_without_its_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let location = StorageLocation::Folder(folder.path().to_owned());
        Home::open(&location, "s1").unwrap().take(&place(3)).unwrap();
        assert!(Home::open(&location, "s1").unwrap().held().is_some());
        std::fs::remove_dir_all(folder.path().join("db")).unwrap();
        let reopened = Home::open(&location, "s1");
        assert!(matches!(&reopened, Err(Error::Damaged { .. })));
    }
}
