//! Mount points.
//!
//! Owns: finding the place that a mount is to be seen at, and making it if it does not exist. Does not own: what is mounted.
//!
//! A container engine makes missing mount points in the container's own root. Here the root is the host's, where nothing may
//! be made. So the deepest folder of the path that exists is replaced, in this namespace only, by a file system in memory that
//! has the same entries (links are copied, everything else is the host's, mounted there), and the rest of the path is made
//! in that. Entries that the host adds to that very folder later are not seen; everything deeper is the host's own. For a
//! place directly below `/` it is the root that is replaced.
//!
//! In places that were mounted by us mount points are simply made; links in them, which another container of the Pod may have
//! put there, are never followed when something is made.

use super::Failure;
use super::raw::{self, set_mount_attributes};
use super::view::{Tree, attach, clone_tree, new_folder_mount};
use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::mount::MountAttrFlags;
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Entries of a folder that is replaced to get one more: each is a mount.
const REPLACED_ENTRIES_MAX: usize = 1024;

/// What was mounted by us.
pub(super) struct Places {
    /// Mounts in which missing folders may be made.
    ours: BTreeSet<u64>,
    /// Mounts that are read-only in the end: file systems for mount points, and others.
    made: Vec<OwnedFd>,
}

/// How far a path exists.
struct Found {
    place: OwnedFd,
    rest: Vec<OsString>,
}

impl Places {
    pub fn new() -> Result<Places, Failure> {
        Ok(Places { ours: BTreeSet::new(), made: Vec::new() })
    }

    /// Makes those mount points that are missing on the host. To be called before anything is mounted: what is replaced is
    /// copied with all that is mounted there. What lies below one of `given` waits until that is there.
    pub fn make_missing<'a>(
        &mut self,
        targets: impl Iterator<Item = (&'a Path, bool)>,
        given: &[&Path],
    ) -> Result<(), Failure> {
        let below_given =
            |target: &Path| given.iter().any(|folder| target != *folder && target.starts_with(folder));
        let mut missing = Vec::new();
        for (target, is_folder) in targets {
            if below_given(target) || given.contains(&Path::new("/")) {
                continue;
            }
            let found = find(target)?;
            if !found.rest.is_empty() {
                let depth = target.components().count() - found.rest.len();
                missing.push((depth, target, is_folder));
            }
        }
        // What is nearer to the root first: a copy of a copy would not be known as ours any more.
        missing.sort();
        for (_, target, is_folder) in missing {
            drop(self.place(target, is_folder)?);
        }
        Ok(())
    }

    /// Mounts a tree at a path, which is made if it is missing; `ours` if folders may be made in it.
    pub fn show(&mut self, tree: Tree, target: &Path, ours: bool) -> Result<(), Failure> {
        let place = self.place(target, tree.is_folder)?;
        attach(tree.mount.as_fd(), place.as_fd(), "")
            .map_err(Failure::at(format!("nothing can be mounted at {}", target.display())))?;
        if ours {
            self.ours.insert(mount_id(&tree.mount)?);
        }
        Ok(())
    }

    /// As [`show`](Self::show), unless the path does not exist, such as `/var/tmp` on small systems. Read-only in the end, if
    /// it is to be: mount points may have to be made in it.
    pub fn show_if_there(&mut self, tree: Tree, target: &Path, read_only: bool) -> Result<(), Failure> {
        if !find(target)?.rest.is_empty() {
            return Ok(());
        }
        if read_only {
            let mount = rustix::io::dup(&tree.mount).map_err(Failure::at("no descriptor is left"))?;
            self.made.push(mount);
        }
        self.show(tree, target, true)
    }

    /// Mounts a file system of ours over a folder that exists.
    pub fn show_own(&mut self, mount: OwnedFd, target: &Path) -> Result<(), Failure> {
        let place = find(target)?;
        if !place.rest.is_empty() {
            return Err(Failure {
                what: format!("{} does not exist", target.display()),
                errno: Errno::ENOENT,
            });
        }
        attach(mount.as_fd(), place.place.as_fd(), "")
            .map_err(Failure::at(format!("nothing can be mounted at {}", target.display())))?;
        self.ours.insert(mount_id(&mount)?);
        self.made.push(mount);
        Ok(())
    }

    /// Covers a folder, if it can be seen at all.
    pub fn cover(&mut self, folder: &Path) -> Result<(), Failure> {
        if !find(folder)?.rest.is_empty() {
            return Ok(());
        }
        let mount = new_folder_mount(0o755, 0, 0)
            .map_err(Failure::at(format!("{} can't be covered", folder.display())))?;
        self.show_own(mount, folder)
    }

    /// Nothing more is made.
    pub fn finish(self) -> Result<(), Failure> {
        for mount in self.made {
            let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY.bits();
            set_mount_attributes(mount.as_fd(), c"", false, read_only, raw::Propagation::Kept)
                .map_err(Failure::of("a mount can't be made read-only"))?;
        }
        Ok(())
    }

    /// The place that a path names, made if it is missing.
    fn place(&mut self, target: &Path, is_folder: bool) -> Result<OwnedFd, Failure> {
        let failed = |what: &str| format!("the mount point {} {what}", target.display());
        let Found { mut place, rest } = find(target)?;
        let kind = rustix::fs::fstat(&place).map_err(Failure::at(failed("can't be looked at")))?;
        let exists_as_folder = FileType::from_raw_mode(kind.st_mode).is_dir();
        if rest.is_empty() {
            if exists_as_folder == is_folder {
                return Ok(place);
            }
            let (what, errno) = if is_folder {
                ("exists as a file, and a folder is to be mounted there", Errno::ENOTDIR)
            } else {
                ("exists as a folder, and a file is to be mounted there", Errno::EISDIR)
            };
            return Err(Failure { what: failed(what), errno });
        }
        if !exists_as_folder {
            return Err(Failure { what: failed("lies below a file"), errno: Errno::ENOTDIR });
        }
        if !self.ours.contains(&mount_id(&place)?) {
            place = self.replace(place, target)?;
        }
        let last = rest.len() - 1;
        for (at, name) in rest.iter().enumerate() {
            let made = if at < last || is_folder {
                rustix::fs::mkdirat(&place, name, Mode::from_raw_mode(0o755))
            } else {
                rustix::fs::mknodat(&place, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
            };
            match made {
                // Made by another container of the Pod at the same time.
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(Failure::at(failed("can't be made"))(errno)),
            }
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
            place = rustix::fs::openat2(&place, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
                .map_err(Failure::at(failed("can't be opened without following links")))?;
        }
        Ok(place)
    }

    /// Puts a file system of ours, with the same entries, in place of a folder.
    fn replace(&mut self, folder: OwnedFd, target: &Path) -> Result<OwnedFd, Failure> {
        let failed =
            || format!("the mount point {} does not exist, and can't be made to appear", target.display());
        let at = |errno| Failure::at(failed())(errno);
        let names = entries(&folder).map_err(at)?;
        if names.len() > REPLACED_ENTRIES_MAX {
            let what = format!(
                "{}: the folder that it would be in has more than {REPLACED_ENTRIES_MAX} entries",
                failed()
            );
            return Err(Failure { what, errno: Errno::E2BIG });
        }
        let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(at)?;
        let is_root = same_place(&root, &folder)?;
        let like = rustix::fs::fstat(&folder).map_err(at)?;
        let mount = new_folder_mount(like.st_mode & 0o7777, like.st_uid, like.st_gid)
            // A user that does not exist here.
            .or_else(|_| new_folder_mount(like.st_mode & 0o7777, 0, 0))
            .map_err(at)?;
        // The folder's own descriptor still leads to what was there.
        attach(mount.as_fd(), folder.as_fd(), "").map_err(at)?;
        for name in names {
            match copy_entry(&folder, &mount, &name) {
                // Gone since the folder was read.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(at(errno)),
            }
        }
        if is_root {
            rustix::process::fchdir(&mount).map_err(at)?;
            rustix::process::chroot(".").map_err(at)?;
        }
        let place =
            rustix::fs::openat(&mount, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(at)?;
        self.ours.insert(mount_id(&mount)?);
        self.made.push(mount);
        Ok(place)
    }
}

/// Follows a path as far as it exists.
fn find(target: &Path) -> Result<Found, Failure> {
    let failed = |what: &str| format!("the mount point {} {what}", target.display());
    let open = |folder: &OwnedFd, name: &OsStr, flags: OFlags| {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(folder, name, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    };
    let mut place = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at("the root can't be opened"))?;
    let mut rest = target.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    });
    while let Some(name) = rest.next() {
        match open(&place, &name, OFlags::empty()) {
            Ok(next) => place = next,
            Err(rustix::io::Errno::NOENT) => {
                if open(&place, &name, OFlags::NOFOLLOW).is_ok() {
                    return Err(Failure {
                        what: failed("leads through a dangling link"),
                        errno: Errno::ENOENT,
                    });
                }
                return Ok(Found { place, rest: std::iter::once(name).chain(rest).collect() });
            }
            Err(errno) => return Err(Failure::at(failed("can't be opened"))(errno)),
        }
    }
    Ok(Found { place, rest: Vec::new() })
}

fn entries(folder: &OwnedFd) -> Result<Vec<CString>, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(folder)? {
        let name = entry?.file_name().to_owned();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            names.push(name);
            // One more than is allowed tells enough.
            if names.len() > REPLACED_ENTRIES_MAX {
                break;
            }
        }
    }
    Ok(names)
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CString) -> Result<(), rustix::io::Errno> {
    let kind = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(kind.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            return rustix::fs::symlinkat(&target, to, name);
        }
        FileType::Directory => rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o755))?,
        _ => rustix::fs::mknodat(to, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?,
    }
    attach(clone_tree(from.as_fd(), name)?.as_fd(), to.as_fd(), name)
}

fn same_place(a: &OwnedFd, b: &OwnedFd) -> Result<bool, Failure> {
    let stat = |fd| rustix::fs::fstat(fd).map_err(Failure::at("a folder can't be looked at"));
    let (first, second) = (stat(a)?, stat(b)?);
    Ok((first.st_dev, first.st_ino) == (second.st_dev, second.st_ino) && mount_id(a)? == mount_id(b)?)
}

fn mount_id(place: &OwnedFd) -> Result<u64, Failure> {
    rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map(|facts| facts.stx_mnt_id)
        .map_err(Failure::at("a mount can't be looked at"))
}

/// Whether a path is one that something can be mounted at: absolute, not `/`, without `.` and `..`.
pub(crate) fn is_usable_target(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.clone().next().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !path.as_os_str().as_bytes().contains(&0)
}
