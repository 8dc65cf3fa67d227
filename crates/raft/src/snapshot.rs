//! Snapshots: files that travel between servers.
//!
//! Owns: the folder of snapshot files and their handles. Does not own: the transport.
//!
//! Invariant: a file is deleted when its last handle is dropped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where snapshot files live while they are built, sent or received: `<data>/snapshots`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotFolder {
    inner: Arc<FolderInner>,
}

#[derive(Debug)]
struct FolderInner {
    path: PathBuf,
    next_number: AtomicU64,
}

impl SnapshotFolder {
    /// Creates the folder if it is missing and deletes what an earlier process left in it: no snapshot file outlives its
    /// process, the rows do.
    pub fn open(path: &Path) -> io::Result<SnapshotFolder> {
        fs::create_dir_all(path)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(SnapshotFolder {
            inner: Arc::new(FolderInner { path: path.to_owned(), next_number: AtomicU64::new(1) }),
        })
    }

    /// Begins a new file: for a snapshot that is built, or received from a peer.
    pub fn create(&self) -> io::Result<SnapshotWriter> {
        let number = self.inner.next_number.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.path.join(format!("{number}.snapshot"));
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(SnapshotWriter {
            file: io::BufWriter::new(file),
            len: 0,
            handle: Arc::new(DeletedOnDrop { path }),
        })
    }
}

/// A snapshot file that is being written. Dropped before [`SnapshotWriter::finish`]: the file is deleted.
#[derive(Debug)]
pub struct SnapshotWriter {
    file: io::BufWriter<File>,
    len: u64,
    handle: Arc<DeletedOnDrop>,
}

impl SnapshotWriter {
    /// Appends bytes. Blocks on the disk.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes were appended.
    pub fn written_bytes(&self) -> u64 {
        self.len
    }

    /// Ends the file. What it holds is checked when it is installed.
    pub fn finish(mut self) -> io::Result<SnapshotFile> {
        self.file.flush()?;
        Ok(SnapshotFile { handle: self.handle, len: self.len })
    }
}

/// A finished snapshot file: openraft's snapshot data. Cheap to clone; the file is deleted with the last clone.
///
/// Sending: [`SnapshotFile::open`] and read it in chunks. Receiving: [`SnapshotFolder::create`],
/// [`SnapshotWriter::append`] each chunk, [`SnapshotWriter::finish`], and give it to openraft with the peer's
/// [`crate::types::SnapshotMeta`].
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    handle: Arc<DeletedOnDrop>,
    len: u64,
}

impl SnapshotFile {
    /// Opens it for reading from the start.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.handle.path)
    }

    /// Its length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len
    }
}

#[derive(Debug)]
struct DeletedOnDrop {
    path: PathBuf,
}

impl Drop for DeletedOnDrop {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not delete a snapshot file");
        }
    }
}
