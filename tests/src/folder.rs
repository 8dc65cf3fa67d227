//! A temporary folder of a test.
//!
//! Owns: its removal. Does not own: what is in it.

use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Goes when it is dropped, with what an agent that was killed has left mounted in it.
#[derive(Debug)]
pub struct TestFolder(TempDir);

impl TestFolder {
    /// A new one, whose name begins with `prefix`.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new(prefix: &str) -> TestFolder {
        TestFolder::new_in(&std::env::temp_dir(), prefix)
    }

    /// The same below another folder.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn new_in(below: &Path, prefix: &str) -> TestFolder {
        TestFolder(TempDir::with_prefix_in(prefix, below).expect("a temporary folder can be made"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(self.path())).collect();
        below.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
        for point in below {
            let _ = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
    }
}
