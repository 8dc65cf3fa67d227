//! The data folder: whose it is, in which format, and that only one process uses it.
//!
//! Owns: the files FORMAT, IDENTITY and LOCK, and the names of the folders beside them. Does not own: what is in those.
//!
//! Invariants: a folder's name and uid never change, its member id and cluster id are set once; each file is replaced as a
//! whole or not at all.

use crate::error::Error;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stint_api::{ClusterId, MemberId};

/// What FORMAT holds: [`DATA_FORMAT`] and [`MACHINE_VERSION`].
pub const FORMAT: &str = "stint data folder 6, machine version 0\n";
/// Id of the format of everything in a folder: log records, rows, places.
pub const DATA_FORMAT: u32 = 6;
/// Version of the logic of `apply` (decision 1).
pub const MACHINE_VERSION: u32 = 0;
/// What FORMAT holds until a restore into the folder has come to its end.
const UNFINISHED: &str = "stint data folder of which a restore was not finished\n";

const FORMAT_FILE: &str = "FORMAT";
const IDENTITY_FILE: &str = "IDENTITY";
const LOCK_FILE: &str = "LOCK";
const DATABASE_FOLDER: &str = "db";
const SNAPSHOT_FOLDER: &str = "snapshots";
/// Permissions of folders with what the cluster keeps.
const OWNER_ONLY: u32 = 0o700;

/// Whose a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderIdentity {
    /// `--name` of its server.
    pub name: String,
    /// Random, drawn when the folder was created: tells a wiped folder from the one before it.
    pub folder_uid: u128,
    /// The place in a cluster; none: belongs to none yet.
    pub place: Option<ClusterPlace>,
}

/// A server's place in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterPlace {
    /// Never used by another folder.
    pub member_id: MemberId,
    /// Which cluster.
    pub cluster_id: ClusterId,
}

/// A data folder that this process holds.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    identity: FolderIdentity,
    /// Released when the process ends, however it ends.
    _lock: Flock<File>,
}

impl DataFolder {
    /// Opens a folder for the server of this name; creates it if it is missing or empty.
    ///
    /// Refuses a folder in use, of another format, of another name, or with content that is not stint's.
    pub fn open(path: &Path, name: &str) -> Result<DataFolder, Error> {
        create_private(path)?;
        let lock = take_lock(path)?;
        check_format(path)?;
        let identity = match read_optional(path, IDENTITY_FILE)? {
            Some(text) => parse_identity(path, &text)?,
            None => create_identity(path, name)?,
        };
        if identity.name != name {
            return Err(Error::Foreign {
                folder: path.to_owned(),
                found: format!("server {:?}", identity.name),
                expected: format!("server {name:?}"),
            });
        }
        make_content_private(path)?;
        Ok(DataFolder { path: path.to_owned(), identity, _lock: lock })
    }

    /// Takes an empty folder for a snapshot to be restored into; creates it if it is missing. Until
    /// [`DataFolder::finish_restore`] nobody can open it.
    ///
    /// # Errors
    /// If something is in it, or it can't be written.
    pub(crate) fn begin_restore(path: &Path, name: &str) -> Result<DataFolder, Error> {
        check_empty(path)?;
        create_private(path)?;
        let lock = take_lock(path)?;
        // Another restore may have come to its end meanwhile.
        if read_optional(path, FORMAT_FILE)?.is_some() {
            return Err(Error::NotEmpty { folder: path.to_owned(), found: FORMAT_FILE.to_owned() });
        }
        let begun = replace_file(path, FORMAT_FILE, UNFINISHED.as_bytes())
            .and_then(|()| create_identity(path, name))
            .and_then(|identity| make_content_private(path).map(|()| identity));
        match begun {
            Ok(identity) => Ok(DataFolder { path: path.to_owned(), identity, _lock: lock }),
            Err(error) => {
                remove_restored(path);
                Err(error)
            }
        }
    }

    /// The snapshot is there as a whole: from now on a server can be started with the folder.
    pub(crate) fn finish_restore(&self) -> Result<(), Error> {
        replace_file(&self.path, FORMAT_FILE, FORMAT.as_bytes())
    }

    /// Removes everything that a restore that has failed has put into the folder, and the folder, if it can.
    pub(crate) fn give_restore_up(&self) {
        remove_restored(&self.path);
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    pub fn identity(&self) -> &FolderIdentity {
        &self.identity
    }

    /// Where the database is.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FOLDER)
    }

    /// Where snapshot files are while they are built or received.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join(SNAPSHOT_FOLDER)
    }

    /// Gives the folder its place in a cluster, durably; refuses to change one.
    pub fn set_place(&mut self, place: ClusterPlace) -> Result<(), Error> {
        match self.identity.place {
            Some(found) if found == place => Ok(()),
            Some(found) => Err(Error::Foreign {
                folder: self.path.clone(),
                found: describe(found),
                expected: describe(place),
            }),
            None => {
                let identity = FolderIdentity { place: Some(place), ..self.identity.clone() };
                self.write_file(IDENTITY_FILE, format_identity(&identity).as_bytes())?;
                self.identity = identity;
                Ok(())
            }
        }
    }

    /// Replaces a file of the folder as a whole, durably.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        replace_file(&self.path, name, content)
    }

    /// Reads a file of the folder; none if it is not there.
    pub fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match fs::read(self.path.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&self.path, "read one of its files")(error)),
        }
    }
}

fn describe(place: ClusterPlace) -> String {
    format!("member {} of cluster {}", place.member_id, place.cluster_id)
}

/// Where a file of the folder is until it is there as a whole.
fn half_written(name: &str) -> String {
    format!("{name}.new")
}

fn remove_restored(path: &Path) {
    let files =
        [FORMAT_FILE, IDENTITY_FILE].into_iter().flat_map(|file| [file.to_owned(), half_written(file)]);
    let removed = files.chain([LOCK_FILE.to_owned()]).map(|file| fs::remove_file(path.join(file)));
    let removed =
        removed.chain([DATABASE_FOLDER, SNAPSHOT_FOLDER].map(|folder| fs::remove_dir_all(path.join(folder))));
    for error in removed.filter_map(Result::err).filter(|error| error.kind() != io::ErrorKind::NotFound) {
        tracing::warn!(folder = %path.display(), %error, "something is left of a restore that has failed");
    }
    // Stays if it is a mount point.
    let _ = fs::remove_dir(path);
}

fn take_lock(path: &Path) -> Result<Flock<File>, Error> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(failed(path, "open its file LOCK"))?;
    match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Error::InUse { folder: path.to_owned() }),
        Err((_, errno)) => Err(failed(path, "lock it")(errno.into())),
    }
}

/// Makes a folder that only its owner can look into, unless it is there: then it is as whoever made it wants it.
fn create_private(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        // The folder that was asked for is named, not the one above it.
        fs::create_dir_all(parent).map_err(failed(path, "create it"))?;
    }
    match DirBuilder::new().mode(OWNER_ONLY).create(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed(path, "create it")),
    }
}

/// Specs, ConfigMaps and output may hold secrets, and Pods and others of the host may pass through the data folder.
fn make_content_private(path: &Path) -> Result<(), Error> {
    for name in [DATABASE_FOLDER, SNAPSHOT_FOLDER] {
        let folder = path.join(name);
        create_private(&folder)?;
        let metadata = fs::metadata(&folder).map_err(failed(&folder, "look at it"))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&folder, Permissions::from_mode(OWNER_ONLY))
                .map_err(failed(&folder, "keep others out of it"))?;
        }
    }
    Ok(())
}

/// Nothing is in it, or it is not there.
fn check_empty(path: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, "list it")(error)),
    };
    if read_optional(path, FORMAT_FILE)?.is_some_and(|found| found == UNFINISHED) {
        return Err(Error::Unfinished { folder: path.to_owned() });
    }
    for entry in entries {
        let name = entry.map_err(failed(path, "list it"))?.file_name();
        if name != "lost+found" {
            let found = name.to_string_lossy().into_owned();
            return Err(Error::NotEmpty { folder: path.to_owned(), found });
        }
    }
    Ok(())
}

fn check_format(path: &Path) -> Result<(), Error> {
    match read_optional(path, FORMAT_FILE)? {
        Some(found) if found == FORMAT => Ok(()),
        Some(found) if found == UNFINISHED => Err(Error::Unfinished { folder: path.to_owned() }),
        Some(found) => Err(Error::Format {
            folder: path.to_owned(),
            found: found.trim_end().to_owned(),
            expected: FORMAT.trim_end().to_owned(),
        }),
        None => {
            for entry in fs::read_dir(path).map_err(failed(path, "list it"))? {
                let name = entry.map_err(failed(path, "list it"))?.file_name();
                let ours = name == LOCK_FILE || name.to_string_lossy().starts_with(FORMAT_FILE);
                if !ours && name != "lost+found" {
                    return Err(Error::Foreign {
                        folder: path.to_owned(),
                        found: format!("something else (it has {name:?} and no file {FORMAT_FILE})"),
                        expected: "stint".to_owned(),
                    });
                }
            }
            replace_file(path, FORMAT_FILE, FORMAT.as_bytes())
        }
    }
}

fn create_identity(path: &Path, name: &str) -> Result<FolderIdentity, Error> {
    if path.join(DATABASE_FOLDER).exists() {
        return Err(Error::Damaged {
            folder: path.to_owned(),
            what: format!("there is a database, but no file {IDENTITY_FILE}"),
        });
    }
    let mut uid = [0; 16];
    getrandom::fill(&mut uid)
        .map_err(|error| failed(path, "draw its uid")(io::Error::other(error.to_string())))?;
    let identity =
        FolderIdentity { name: name.to_owned(), folder_uid: u128::from_be_bytes(uid), place: None };
    replace_file(path, IDENTITY_FILE, format_identity(&identity).as_bytes())?;
    Ok(identity)
}

fn format_identity(identity: &FolderIdentity) -> String {
    let mut text = format!("name={}\nfolder={:032x}\n", identity.name, identity.folder_uid);
    if let Some(ClusterPlace { member_id, cluster_id }) = identity.place {
        text.push_str(&format!("member={member_id}\ncluster={cluster_id}\n"));
    }
    let checksum = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("checksum={checksum:08x}\n"));
    text
}

fn parse_identity(path: &Path, text: &str) -> Result<FolderIdentity, Error> {
    let damaged = || Error::Damaged {
        folder: path.to_owned(),
        what: format!("its file {IDENTITY_FILE} is not what was written"),
    };
    let value = |line: Option<&str>, key: &str| {
        line.and_then(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    };
    let mut lines = text.lines();
    let name = value(lines.next(), "name").ok_or_else(damaged)?;
    let folder = value(lines.next(), "folder").ok_or_else(damaged)?;
    let folder_uid = u128::from_str_radix(&folder, 16).map_err(|_| damaged())?;
    let place = match value(lines.next(), "member") {
        None => None,
        Some(member) => {
            let cluster = value(lines.next(), "cluster").ok_or_else(damaged)?;
            Some(ClusterPlace {
                member_id: MemberId(member.parse().map_err(|_| damaged())?),
                cluster_id: cluster.parse().map_err(|_| damaged())?,
            })
        }
    };
    let identity = FolderIdentity { name, folder_uid, place };
    // Covers the checksum too.
    if format_identity(&identity) == text { Ok(identity) } else { Err(damaged()) }
}

fn read_optional(path: &Path, name: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(path.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Error::Damaged { folder: path.to_owned(), what: format!("its file {name} is not text") })
        }
        Err(error) => Err(failed(path, "read one of its files")(error)),
    }
}

/// Writes beside, syncs, renames, syncs the folder: after a crash the old or the new content is there, as a whole.
fn replace_file(folder: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let action = "write one of its files";
    let temporary = folder.join(half_written(name));
    let mut file = File::create(&temporary).map_err(failed(folder, action))?;
    file.write_all(content).map_err(failed(folder, action))?;
    file.sync_all().map_err(failed(folder, action))?;
    fs::rename(&temporary, folder.join(name)).map_err(failed(folder, action))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder, action))
}

fn failed(folder: &Path, action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Folder { folder: folder.to_owned(), action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: ClusterPlace = ClusterPlace { member_id: MemberId(3), cluster_id: ClusterId(7) };

    #[test]
    fn a_folder_keeps_its_identity_and_its_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut data = DataFolder::open(folder.path(), "s1").expect("a fresh folder opens");
        assert_eq!(data.identity().place, None);
        let uid = data.identity().folder_uid;
        data.set_place(PLACE).expect("a first place");
        data.set_place(PLACE).expect("the same place again");
        let other = ClusterPlace { member_id: MemberId(4), ..PLACE };
        assert!(matches!(data.set_place(other), Err(Error::Foreign { .. })));
        drop(data);
        let data = DataFolder::open(folder.path(), "s1").expect("it opens again");
        assert_eq!(data.identity().folder_uid, uid);
        assert_eq!(data.identity().place, Some(PLACE));
    }

    #[test]
    fn only_the_owner_can_look_into_what_is_kept() {
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let parent = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let made = parent.path().join("a/s1");
        drop(DataFolder::open(&made, "s1").expect("a fresh folder opens"));
        assert_eq!(mode(&made), 0o700);
        let restored = parent.path().join("restored");
        drop(DataFolder::begin_restore(&restored, "s1").expect("it is new"));
        for folder in [&made, &restored] {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("it is ours");
            let content = [DATABASE_FOLDER, SNAPSHOT_FOLDER].map(|name| folder.join(name));
            content.iter().for_each(|path| assert_eq!(mode(path), 0o700));
        }
        fs::set_permissions(made.join(DATABASE_FOLDER), Permissions::from_mode(0o755)).expect("it is ours");
        drop(DataFolder::open(&made, "s1").expect("it opens again"));
        assert_eq!((mode(&made), mode(&made.join(DATABASE_FOLDER))), (0o755, 0o700));
    }

    #[test]
    fn what_is_in_a_format_is_what_snapshots_are_compared_by() {
        assert_eq!(FORMAT, format!("stint data folder {DATA_FORMAT}, machine version {MACHINE_VERSION}\n"));
    }

    #[test]
    fn a_folder_opens_only_once_a_restore_into_it_has_come_to_its_end() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("data");
        let begun = DataFolder::begin_restore(&path, "s1").expect("it is not there");
        drop(begun);
        for error in [
            DataFolder::open(&path, "s1").expect_err("it is cut short"),
            DataFolder::begin_restore(&path, "s1").expect_err("it is not empty"),
        ] {
            assert!(matches!(error, Error::Unfinished { .. }), "{error}");
        }
        fs::remove_dir_all(&path).expect("removed");

        fs::create_dir(&path).expect("created");
        let begun = DataFolder::begin_restore(&path, "s1").expect("an empty folder");
        fs::write(begun.database().join("1.sst"), "").expect("written");
        begun.give_restore_up();
        assert!(!path.exists(), "nothing is left");

        DataFolder::begin_restore(&path, "s1").and_then(|begun| begun.finish_restore()).expect("to the end");
        assert!(DataFolder::open(&path, "s1").is_ok());
        let error = DataFolder::begin_restore(&path, "s1").expect_err("it is a server's");
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let _data = DataFolder::open(folder.path(), "s1").expect("a fresh folder opens");
        assert!(matches!(DataFolder::open(folder.path(), "s1"), Err(Error::InUse { .. })));
    }

    #[test]
    fn foreign_and_damaged_folders_are_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        drop(DataFolder::open(folder.path(), "s1").expect("a fresh folder opens"));
        let error = DataFolder::open(folder.path(), "s2").expect_err("another name");
        assert!(error.to_string().contains("stint member replace"), "{error}");

        let identity = fs::read_to_string(folder.path().join(IDENTITY_FILE)).expect("it is there");
        fs::write(folder.path().join(IDENTITY_FILE), identity.replace("name=s1", "name=s2"))
            .expect("written");
        let error = DataFolder::open(folder.path(), "s2").expect_err("a changed identity");
        assert!(matches!(error, Error::Damaged { .. }), "{error}");

        // Of a later version, and of one whose rows and entries this one would not know all of, or know otherwise.
        for other in ["stint data folder 9\n", "stint data folder 3, machine version 0\n"] {
            fs::write(folder.path().join(FORMAT_FILE), other).expect("written");
            let error = DataFolder::open(folder.path(), "s1").expect_err("another format");
            assert!(matches!(error, Error::Format { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains(other.trim_end()) && said.contains("the version that wrote"), "{said}");
            let left = fs::read_to_string(folder.path().join(FORMAT_FILE)).expect("it is there");
            assert_eq!(left, other, "a folder that was refused is as it was");
        }

        let other = tempfile::tempdir().expect("a temporary folder");
        fs::write(other.path().join("photo.jpg"), "x").expect("written");
        let error = DataFolder::open(other.path(), "s1").expect_err("not ours");
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_database_without_identity_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        drop(DataFolder::open(folder.path(), "s1").expect("a fresh folder opens"));
        fs::remove_file(folder.path().join(IDENTITY_FILE)).expect("removed");
        assert!(matches!(DataFolder::open(folder.path(), "s1"), Err(Error::Damaged { .. })));
    }
}
