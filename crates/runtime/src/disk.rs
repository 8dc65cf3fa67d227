//! How much of the disk a folder takes.
//!
//! Owns: the measurement. Does not own: what follows from it.

use crate::limits;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a look at a folder found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes on the disk, as blocks that are taken; holes of files take none, and a file with several names counts once.
    pub bytes: u64,
    /// The look ended early, because what it had found was above the limit, or it was too much or too deep to look at.
    pub is_partial: bool,
}

/// Adds up what is below a folder, at most until it is more than `bytes_max` or
/// [`DISK_ENTRIES_MAX`](limits::DISK_ENTRIES_MAX) entries were seen, or one whose path is longer than paths can be. No link is followed, no other file system entered.
/// Whatever changes meanwhile is counted or not. To be called where blocking is allowed.
///
/// # Errors
/// If the folder itself can't be read.
pub fn disk_usage(folder: &Path, bytes_max: u64) -> io::Result<DiskUse> {
    let root = std::fs::symlink_metadata(folder)?;
    let mut bytes = root.blocks() * 512;
    let mut entries = 0;
    // Only files with several names, so this is small, and bounded by the entries.
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let mut waiting: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let listed = match std::fs::read_dir(&folder) {
            Err(error) if is_too_deep(&error) => return Ok(DiskUse { bytes, is_partial: true }),
            // Gone or closed meanwhile: nothing to add.
            Err(_) => continue,
            Ok(listed) => listed,
        };
        for entry in listed.flatten() {
            let facts = match entry.metadata() {
                Err(error) if is_too_deep(&error) => return Ok(DiskUse { bytes, is_partial: true }),
                Err(_) => continue,
                Ok(facts) => facts,
            };
            entries += 1;
            if facts.dev() != root.dev()
                || (facts.nlink() > 1 && !facts.is_dir() && !seen.insert(facts.ino()))
            {
                continue;
            }
            bytes += facts.blocks() * 512;
            if facts.is_dir() {
                waiting.push(entry.path());
            }
            if bytes > bytes_max || entries >= limits::DISK_ENTRIES_MAX {
                return Ok(DiskUse { bytes, is_partial: true });
            }
        }
    }
    Ok(DiskUse { bytes, is_partial: false })
}

/// Deeper than the longest path: whoever stores something there shall not be the one whose use is not seen.
fn is_too_deep(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidFilename
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_once_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let empty = disk_usage(path, u64::MAX).unwrap();
        assert!(!empty.is_partial);
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::write(path.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        let one = disk_usage(path, u64::MAX).unwrap().bytes;
        assert!(one >= empty.bytes + (1 << 20), "{one}");
        std::fs::hard_link(path.join("a/b/file"), path.join("a/other")).unwrap();
        std::os::unix::fs::symlink("/usr", path.join("link")).unwrap();
        let again = disk_usage(path, u64::MAX).unwrap().bytes;
        assert!(again < one + (1 << 16), "{again} after {one}");
    }

    #[test]
    fn what_is_too_deep_to_be_looked_at_is_said() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = openat(CWD, &tree, flags, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", flags, Mode::empty()).unwrap();
        }
        assert!(disk_usage(&tree, u64::MAX).unwrap().is_partial);
        crate::remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_look_ends_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        for name in 0..10 {
            std::fs::write(folder.path().join(name.to_string()), vec![1; 1 << 16]).unwrap();
        }
        let found = disk_usage(folder.path(), 1 << 17).unwrap();
        assert!(found.is_partial && found.bytes > 1 << 17 && found.bytes < 5 << 16, "{found:?}");
        assert!(disk_usage(&folder.path().join("missing"), 1).is_err());
    }
}
