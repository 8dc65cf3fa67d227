//! What the containers of a Pod share in memory: `/dev/shm`, and one IPC namespace (shared memory, semaphores and queues by
//! number or name).
//!
//! Owns: making both, and letting go of them. Does not own: how a container joins them (`shim::confine` for processes,
//! `oci::bundle` for containers).
//!
//! Nobody holds them: they are mounts in the Pod's own folder, so they outlive every container and every agent, and go when
//! they are unmounted. Every mount of the host is copied into each container that starts, so only Pods that need it have them. An agent that sees other mounts than the one before it, as in a new mount namespace, makes new ones.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of shared memory, as container engines have it, for everybody.
const SHARED_MEMORY: &str = "size=67108864,mode=1777";

/// Below the Pod's own folder: what is seen as `/dev/shm`.
pub(crate) fn memory(directory: &Path) -> PathBuf {
    directory.join("shm")
}

/// Below the Pod's own folder: the namespace.
pub(crate) fn namespace(directory: &Path) -> PathBuf {
    directory.join("ipc")
}

/// Makes what is not there. Not to be called twice at once for a Pod. Needs root's rights. Blocks.
pub(crate) fn make(directory: &Path) -> io::Result<()> {
    let (memory, namespace) = (memory(directory), namespace(directory));
    if !is_mounted(directory, &memory) {
        DirBuilder::new().recursive(true).mode(0o700).create(&memory)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("shm"), &memory, Some("tmpfs"), flags, Some(SHARED_MEMORY))?;
    }
    if !is_mounted(directory, &namespace) {
        File::options().write(true).create(true).truncate(false).mode(0o600).open(&namespace)?;
        // A thread can move to another namespace by itself; this one ends there.
        let thread = std::thread::Builder::new().name("ipc".to_owned()).spawn(move || {
            unshare(CloneFlags::CLONE_NEWIPC)?;
            let nothing = None::<&str>;
            mount(Some("/proc/thread-self/ns/ipc"), &namespace, nothing, MsFlags::MS_BIND, nothing)
        })?;
        thread.join().map_err(|_| io::Error::other("a thread has panicked"))??;
    }
    Ok(())
}

/// Lets go of both, if they are there. What still uses them keeps them. Blocks.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    for mounted in [memory(directory), namespace(directory)] {
        match umount2(&mounted, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Not mounted, or not there.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// True if something else than the folder's own file system is there.
fn is_mounted(directory: &Path, path: &Path) -> bool {
    let device = |path: &Path| path.symlink_metadata().ok().map(|facts| facts.dev());
    device(path).is_some_and(|own| Some(own) != device(directory))
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "tells what could not be shown")]
mod tests {
    use super::*;

    #[test]
    fn both_are_made_once_and_let_go() {
        let folder = tempfile::tempdir().unwrap();
        match make(folder.path()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("not shown: this user may not mount");
                return;
            }
            made => made.unwrap(),
        }
        let own = std::fs::metadata("/proc/thread-self/ns/ipc").unwrap().ino();
        let made = || std::fs::metadata(namespace(folder.path())).unwrap().ino();
        let first = made();
        assert_ne!(first, own, "this thread stays where it is");
        std::fs::write(memory(folder.path()).join("kept"), "").unwrap();
        make(folder.path()).unwrap();
        assert_eq!(made(), first);
        assert!(memory(folder.path()).join("kept").exists());
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
        assert!(!memory(folder.path()).join("kept").exists() && made() != first);
    }
}
