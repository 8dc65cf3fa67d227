//! Removal of what a container has left.
//!
//! Owns: removing a folder with everything in it, whatever that is. Does not own: what is to be removed, and when.
//!
//! A container may have made folders in folders, as deep as its disk lets it. Whoever removes those one within the other needs
//! memory, descriptors and a stack of that depth; a program that has not so much ends in the middle of it, and so does the next
//! one. Here what lies deeper than two folders is moved up first, so that no more than two are ever open.
//!
//! Invariants: no link is followed; nothing that is mounted is entered or removed.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Removes a file or folder with all that is in it; nothing if there is none. Nobody may make anything in it meanwhile. To be
/// called where blocking is allowed.
///
/// # Errors
/// What could not be removed, such as what something is mounted at. All else is gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    // What a run leaves is most often an empty folder. Any other outcome is seen again, and told, below.
    if rustix::fs::rmdir(path).is_ok() {
        return Ok(());
    }
    let root = match open_folder(CWD, path) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return done(rustix::fs::unlink(path)),
        Err(errno) => return Err(errno.into()),
    };
    let mut removal = Removal { root: root.as_fd(), n_moved: 0, has_changed: true, failure: None };
    // Until a look finds nothing that can be removed.
    while std::mem::take(&mut removal.has_changed) {
        removal.look()?;
        if removal.failure.is_none() {
            match rustix::fs::rmdir(path) {
                // What came up is still there, or the list had left something out, as it was being changed.
                Err(Errno::NOTEMPTY | Errno::EXIST) if removal.has_changed => {}
                other => return done(other),
            }
        }
    }
    Err(removal.failure.unwrap_or(Errno::NOTEMPTY).into())
}

struct Removal<'a> {
    root: BorrowedFd<'a>,
    /// Folders that were moved into the root, which gave each a name.
    n_moved: u64,
    /// Something was removed or moved since the last look began.
    has_changed: bool,
    /// The last one since then.
    failure: Option<Errno>,
}

impl Removal<'_> {
    /// Removes what is in the root, as far as it is not deeper than two folders; what is comes up.
    fn look(&mut self) -> Result<(), Errno> {
        self.failure = None;
        for entry in Dir::read_from(self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_itself(name) {
                let removed = remove(self.root, name, entry.file_type()).and_then(|is_gone| match is_gone {
                    true => Ok(true),
                    false => self.empty(name),
                });
                self.note(removed);
            }
        }
        Ok(())
    }

    /// Removes a folder of the root and what is in it; false if something must stay.
    fn empty(&mut self, name: &CStr) -> Result<bool, Errno> {
        let folder = open_folder(self.root, name)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let inner = entry.file_name();
            if !is_itself(inner) {
                let removed =
                    remove(folder.as_fd(), inner, entry.file_type()).and_then(|is_gone| match is_gone {
                        true => Ok(true),
                        false => self.move_up(folder.as_fd(), inner).map(|()| true),
                    });
                self.note(removed);
            }
        }
        match rustix::fs::unlinkat(self.root, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            // Something failed; or the list had left something out, as it was being changed, and there is another look.
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn note(&mut self, removed: Result<bool, Errno>) {
        match removed {
            Ok(is_gone) => self.has_changed |= is_gone,
            Err(errno) => self.failure = Some(errno),
        }
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.n_moved += 1;
            let free = format!("removed.{}", self.n_moved);
            match rustix::fs::renameat(folder, name, self.root, free.as_str()) {
                // The container had something of that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(Errno::ACCESS) => {
                    make_accessible(folder, name)?;
                    rustix::fs::renameat(folder, name, self.root, free.as_str())?;
                    return Ok(());
                }
                other => return other,
            }
        }
    }
}

/// Removes a file, or a folder if it is empty; false if it is not. `kind`: what the list of the folder says that it is.
fn remove(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            // A folder; some file systems say the latter.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn open_folder(at: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&at, name, flags, Mode::empty())
    };
    match open() {
        // Of an agent that is not root: its own user has closed it.
        Err(Errno::ACCESS) => make_accessible(at.as_fd(), name).and_then(|()| open()),
        other => other,
    }
}

/// Opens a folder of one's own to oneself.
fn make_accessible(at: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<(), Errno> {
    let facts = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir() {
        return Err(Errno::ACCESS);
    }
    rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())
}

fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn done(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(errno) if errno != Errno::NOENT => Err(errno.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// In memory if there is such a place: what is deep takes a disk its time.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// As a container would make it: each folder in the last one, without a path that could be too long.
    fn make_deep(folder: &Path, depth: u32) {
        let mut at = open_folder(CWD, folder).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            at = open_folder(&at, "d").unwrap();
        }
    }

    #[test]
    fn what_is_deeper_than_any_stack_or_path_goes() {
        let folder = folder();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        make_deep(&tree, 30_000);
        // Names that are taken.
        fs::create_dir_all(tree.join("removed.1/removed.2/removed.3")).unwrap();
        fs::write(tree.join("removed.4"), "").unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn links_lead_nowhere_and_closed_folders_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, other) = (folder.path().join("tree"), folder.path().join("other"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        for link in ["link", "a/link", "a/b/link"] {
            std::os::unix::fs::symlink(&other, tree.join(link)).unwrap();
        }
        for closed in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && other.join("kept").exists());
        std::os::unix::fs::symlink(&other, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err() && other.join("kept").exists());
    }

    #[test]
    fn what_can_not_be_removed_is_said_and_all_else_goes() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("mounted/deep")).unwrap();
        fs::create_dir_all(tree.join("other/deep")).unwrap();
        let mount = |kind: &str, arguments: &[&str]| {
            let run = std::process::Command::new(kind).args(arguments).arg(tree.join("mounted")).status();
            run.is_ok_and(|status| status.success())
        };
        if !mount("mount", &["-t", "tmpfs", "none"]) {
            // Only root can try it.
            return;
        }
        fs::write(tree.join("mounted/kept"), "").unwrap();
        let failure = remove_tree(&tree).unwrap_err();
        let (kept, left) = (tree.join("mounted/kept").exists(), tree.join("other").exists());
        assert!(mount("umount", &[]));
        assert!(kept && !left, "{failure}");
        remove_tree(&tree).unwrap();
    }
}
