//! The folder of one layer while it is being filled.
//!
//! A mark that hides something of the layers below is, to overlayfs, a device 0:0; a folder that hides all of them has an
//! attribute.

use super::archive::Place;
use pathrs::Root;
use pathrs::error::ErrorKind;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, futimens, makedev, mkdirat, mknodat, openat, statat, symlinkat, unlinkat,
    utimensat,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Of folders that an archive has things in, but does not name.
const UNNAMED_FOLDER_MODE: u32 = 0o755;

/// What an entry says about its inode.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub user: u32,
    pub group: u32,
    /// Permissions, set-user-id and the like.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: i64,
    pub attributes: Vec<(String, Vec<u8>)>,
}

/// What an entry finds in its place.
#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Folder,
    Whiteout,
}

pub(super) struct Layer {
    root: Root,
    root_fd: OwnedFd,
    /// The folder used last. Archives go folder by folder.
    current: Option<(PathBuf, OwnedFd)>,
    /// Set at the end, because filling a folder changes its time.
    folder_times: Vec<(PathBuf, i64)>,
    owners: bool,
}

impl Layer {
    pub fn open(path: &Path, owners: bool) -> io::Result<Layer> {
        let root = Root::open(path).map_err(from_pathrs)?;
        let root_fd = File::open(path)?.into();
        chmodat(&root_fd, ".", mode(UNNAMED_FOLDER_MODE), AtFlags::empty())?;
        Ok(Layer { root, root_fd, current: None, folder_times: Vec::new(), owners })
    }

    /// What the archive says about the root.
    pub fn root(&mut self, metadata: &Metadata) -> io::Result<()> {
        self.set(&self.root_fd, metadata)?;
        self.folder_times.push((PathBuf::new(), metadata.modified));
        Ok(())
    }

    pub fn folder(&mut self, place: &Place, metadata: &Metadata) -> io::Result<()> {
        let found = self.make_room(place, true)?;
        self.enter(&place.parent)?;
        if found != Found::Folder {
            mkdirat(self.parent(), &*place.name, mode(0o700))?;
        }
        let folder = self.open_folder(&place.name)?;
        self.set(&folder, metadata)?;
        if found == Found::Whiteout {
            self.set_opaque(&folder)?;
        }
        let path = place.parent.join(name(place));
        self.folder_times.push((path, metadata.modified));
        Ok(())
    }

    /// Answers the bytes written.
    pub fn file(&mut self, place: &Place, metadata: &Metadata, content: &mut impl Read) -> io::Result<u64> {
        self.make_room(place, false)?;
        self.enter(&place.parent)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(self.parent(), &*place.name, flags, mode(0o600))?);
        let written = io::copy(content, &mut file)?;
        self.set(&file, metadata)?;
        futimens(&file, &times(metadata.modified))?;
        Ok(written)
    }

    pub fn symlink(&mut self, place: &Place, metadata: &Metadata, target: &OsStr) -> io::Result<()> {
        self.make_room(place, false)?;
        self.enter(&place.parent)?;
        symlinkat(target, self.parent(), &*place.name)?;
        self.set_owner_and_time(place, metadata)
    }

    /// `target` is a path of this layer.
    pub fn hard_link(&mut self, place: &Place, target: &Path) -> io::Result<()> {
        let path = place.parent.join(name(place));
        if path == target {
            return Ok(());
        }
        self.make_room(place, false)?;
        self.enter(&place.parent)?;
        let kind = pathrs::InodeType::Hardlink(target.to_owned());
        self.root.create(path, &kind).map_err(from_pathrs)
    }

    pub fn fifo(&mut self, place: &Place, metadata: &Metadata) -> io::Result<()> {
        self.node(place, metadata, FileType::Fifo, (0, 0))
    }

    /// Without root there are no devices, and images are left without them.
    pub fn device(
        &mut self,
        place: &Place,
        metadata: &Metadata,
        is_block: bool,
        number: (u32, u32),
    ) -> io::Result<()> {
        if !self.owners {
            return Ok(());
        }
        let kind = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
        self.node(place, metadata, kind, number)
    }

    /// Hides what the layers below have there. What this layer itself has stays.
    pub fn whiteout(&mut self, place: &Place) -> io::Result<()> {
        self.enter(&place.parent)?;
        match self.stat(&place.name)? {
            None => Ok(mknodat(
                self.parent(),
                &*place.name,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(0, 0),
            )?),
            Some(stat) if is_folder(&stat) => {
                let folder = self.open_folder(&place.name)?;
                self.set_opaque(&folder)
            }
            Some(_) => Ok(()),
        }
    }

    /// Hides everything that the layers below have in this folder.
    pub fn opaque(&mut self, folder: &Path) -> io::Result<()> {
        self.enter(folder)?;
        let folder = self.open_folder(b".")?;
        self.set_opaque(&folder)
    }

    pub fn finish(self) -> io::Result<()> {
        for (path, modified) in self.folder_times.iter().rev() {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            match self.root.resolve(path).map_err(from_pathrs) {
                Ok(handle) => utimensat(handle.as_fd(), c"", &times(*modified), AtFlags::EMPTY_PATH)?,
                // Replaced by something else later in the archive.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        place: &Place,
        metadata: &Metadata,
        kind: FileType,
        number: (u32, u32),
    ) -> io::Result<()> {
        self.make_room(place, false)?;
        self.enter(&place.parent)?;
        mknodat(self.parent(), &*place.name, kind, mode(0o600), makedev(number.0, number.1))?;
        self.set_owner_and_time(place, metadata)?;
        // Follows links, and this is none: nobody else can reach the folder.
        Ok(chmodat(self.parent(), &*place.name, mode(metadata.mode), AtFlags::empty())?)
    }

    /// Makes `path` the current folder; makes it if the archive did not.
    fn enter(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            self.current = None;
            return Ok(());
        }
        if self.current.as_ref().is_some_and(|(current, _)| current == path) {
            return Ok(());
        }
        let fd = match self.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_all(path)?,
            fd => fd?,
        };
        self.current = Some((path.to_owned(), fd));
        Ok(())
    }

    fn make_all(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut so_far = PathBuf::new();
        let mut folder = self.root_fd.try_clone()?;
        for component in path {
            so_far.push(component);
            folder = match self.resolve(&so_far) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&folder, component, mode(UNNAMED_FOLDER_MODE))?;
                    // Whatever the umask is.
                    chmodat(&folder, component, mode(UNNAMED_FOLDER_MODE), AtFlags::empty())?;
                    self.resolve(&so_far)?
                }
                next => next?,
            };
        }
        Ok(folder)
    }

    /// Follows links, which can't lead out of the root.
    fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(self.root.resolve(path).map_err(from_pathrs)?.into())
    }

    fn parent(&self) -> &OwnedFd {
        self.current.as_ref().map_or(&self.root_fd, |(_, fd)| fd)
    }

    fn stat(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        match statat(self.parent(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is in the way. `keep_folder`: a folder is not.
    fn make_room(&mut self, place: &Place, keep_folder: bool) -> io::Result<Found> {
        self.enter(&place.parent)?;
        let Some(stat) = self.stat(&place.name)? else { return Ok(Found::Nothing) };
        if is_folder(&stat) {
            if keep_folder {
                return Ok(Found::Folder);
            }
            // May be the current one, or above it.
            self.current = None;
            let path = place.parent.join(name(place));
            self.root.remove_all(path).map_err(from_pathrs)?;
            return Ok(Found::Nothing);
        }
        unlinkat(self.parent(), &*place.name, AtFlags::empty())?;
        // A link to a folder may have led to the current one.
        self.current = None;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        Ok(if is_device && stat.st_rdev == 0 { Found::Whiteout } else { Found::Nothing })
    }

    fn open_folder(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(self.parent(), name, flags, Mode::empty())?)
    }

    fn set_opaque(&self, folder: &OwnedFd) -> io::Result<()> {
        let attribute = if self.owners { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        Ok(fsetxattr(folder, attribute, b"y", XattrFlags::empty())?)
    }

    /// In this order, because a new owner clears set-user-id and capabilities.
    fn set(&self, inode: impl AsFd, metadata: &Metadata) -> io::Result<()> {
        if self.owners {
            fchown(&inode, Some(Uid::from_raw(metadata.user)), Some(Gid::from_raw(metadata.group)))?;
        }
        fchmod(&inode, mode(metadata.mode))?;
        for (name, value) in &metadata.attributes {
            match fsetxattr(&inode, name.as_str(), value, XattrFlags::empty()) {
                // File systems without attributes, and those that only root may set.
                Err(rustix::io::Errno::NOTSUP) => {}
                Err(rustix::io::Errno::PERM) if !self.owners => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn set_owner_and_time(&self, place: &Place, metadata: &Metadata) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.owners {
            let (user, group) = (Uid::from_raw(metadata.user), Gid::from_raw(metadata.group));
            chownat(self.parent(), &*place.name, Some(user), Some(group), flags)?;
        }
        Ok(utimensat(self.parent(), &*place.name, &times(metadata.modified), flags)?)
    }
}

fn name(place: &Place) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(&place.name)
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// With the number of the system call's error, which says more than its text.
fn from_pathrs(error: pathrs::error::Error) -> io::Error {
    match error.kind() {
        ErrorKind::OsError(Some(number)) => io::Error::from_raw_os_error(number),
        _ => io::Error::other(error),
    }
}
