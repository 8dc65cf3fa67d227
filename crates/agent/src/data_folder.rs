//! The agent's data folder: that only one agent uses it, and that Pods get to what is theirs in it.
//!
//! Owns: making and locking it, looking at the way to it. Does not own: what is in it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use stint_runtime::Runtime;

use crate::error::Error;
use crate::limits;

/// Makes the folder if it is missing, and holds it for as long as the result lives. Blocks.
///
/// # Errors
/// If it can't be used, or another agent does.
pub fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    let unusable = |problem: String| Error::Folder { path: folder.to_owned(), problem };
    make_private(folder).map_err(|error| {
        unusable(format!("can't be made ({error}): give a folder that this user may write to"))
    })?;
    let file = File::create(folder.join("lock"))
        .map_err(|error| unusable(format!("can't be written to ({error})")))?;
    let begun = Instant::now();
    let mut file = file;
    loop {
        let (unlocked, errno) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err(refused) => refused,
        };
        match errno {
            // One that was killed a moment ago has it until the kernel is through with it.
            Errno::EWOULDBLOCK if begun.elapsed() < limits::FOLDER_LOCK_PATIENCE => {
                file = unlocked;
                std::thread::sleep(limits::FOLDER_LOCK_PAUSE);
            }
            Errno::EWOULDBLOCK => {
                let problem = "is used by another agent: give each agent a folder of its own";
                return Err(unusable(problem.to_owned()));
            }
            errno => {
                let problem = format!("can't be locked ({}): give a folder on a local disk", errno.desc());
                return Err(unusable(problem));
            }
        }
    }
}

/// Those above it are made as everybody makes folders: Pods pass through them.
fn make_private(folder: &Path) -> std::io::Result<()> {
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

/// Refuses a folder to which containers of one of the runtimes have no way: each would fail at its start. `folder` is absolute
/// and without links.
///
/// # Errors
/// Which folder is in the way.
pub fn check_passage(folder: &Path, runtimes: &[Arc<dyn Runtime>]) -> Result<(), Error> {
    let Some(closed) = runtimes.iter().find_map(|runtime| runtime.closed_above(folder)) else {
        return Ok(());
    };
    let mode = std::fs::metadata(&closed).map_or(0, |facts| facts.mode() & 0o7777);
    let closed = closed.display();
    let problem = format!(
        "is out of reach of pods, which are users of their own: {closed} lets none but its owner and group pass (mode {mode:04o}); give a --data-dir elsewhere, such as /var/lib/stint-agent, or run chmod o+x {closed}"
    );
    Err(Error::Folder { path: folder.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("deep/data");
        let held = lock(&folder).unwrap();
        assert!(lock(&folder).unwrap_err().to_string().contains("used by another agent"));
        drop(held);
        assert!(lock(&folder).is_ok());
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let above = std::fs::metadata(root.path().join("deep")).unwrap();
        assert_ne!(above.mode() & 0o077, 0, "pods can't pass through it");
    }
}
