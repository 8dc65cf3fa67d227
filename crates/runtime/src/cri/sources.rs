//! What of the host is bound into containers, held so that nobody can exchange it.
//!
//! Owns: the places that the engine is told in its stead. Does not own: which mounts there are, what a node shows.
//!
//! A container that has a volume may put a link where the volume's next mount is to come from, at any moment: what the agent has
//! looked at by its path would be another thing when the engine mounts it by its path. So what a container could have changed is
//! opened once, following no link, and mounted in a folder of the agent's, where no container can change it; the engine is told that
//! place. What stands right below one of the Pod's own folders is the agent's alone, and needs no place of its own.
//!
//! The engine must see the agent's mounts: both are to run in the host's mount namespace.

use crate::shim::confine::{Failure, open_source};
use crate::{ContainerId, Error, Mount};
use nix::mount::{MntFlags, umount2};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The places of all Pods of a node.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// Below it a folder for each Pod, with one for each run of a container.
    folder: PathBuf,
}

impl Sources {
    /// Nothing is made until it is needed.
    pub fn new(folder: PathBuf) -> Sources {
        Sources { folder }
    }

    /// Replaces the sources that a container could have changed. Blocks.
    pub fn hold(&self, pod_directory: &Path, id: &ContainerId, mounts: &mut [Mount]) -> Result<(), Error> {
        // By the names of the manifest: a Pod's status is for its owner, whom the node's folders are nothing to.
        let refused = |target: &Path, problem: String| Error::Unrepresentable {
            container: id.container_name().to_owned(),
            what: format!("mount {}: {problem}:", target.display()),
            problem: "can't be shown to it",
        };
        let words = |failure: Failure| format!("{}: {}", failure.what, failure.errno.desc());
        let places = self.places_of(id);
        for (number, mount) in mounts.iter_mut().enumerate() {
            if is_agents(pod_directory, &mount.source) {
                continue;
            }
            let target = mount.target.clone();
            let source = open_source(mount.source.as_os_str().as_bytes(), &target)
                .map_err(|failure| refused(&target, words(failure)))?;
            let place = places.join(number.to_string());
            make(&places, &place, source.is_folder).map_err(|error| refused(&target, error.to_string()))?;
            source.mount_at(&place, &target).map_err(|failure| refused(&target, words(failure)))?;
            mount.source = place;
        }
        Ok(())
    }

    /// Gives up the places of a container that has ended, or was never made. Blocks.
    pub fn release(&self, id: &ContainerId) {
        give_up(&self.places_of(id));
        // Only if it was the last of its Pod.
        let _ = fs::remove_dir(self.folder.join(id.pod_uid()));
    }

    /// Gives up all places of a Pod. Blocks.
    pub fn release_pod(&self, pod_uid: &str) {
        let pod = self.folder.join(pod_uid);
        let Ok(entries) = fs::read_dir(&pod) else { return };
        entries.flatten().for_each(|entry| give_up(&entry.path()));
        let _ = fs::remove_dir(&pod);
    }

    /// Gives up those of Pods that are not known. Blocks.
    pub fn sweep(&self, known: &BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|uid| !known.contains(uid)).for_each(|uid| self.release_pod(&uid));
    }

    fn places_of(&self, id: &ContainerId) -> PathBuf {
        self.folder.join(id.pod_uid()).join(format!("{}.{}", id.container_name(), id.restart_count()))
    }
}

/// Unmounts all places in a folder, and removes it.
fn give_up(places: &Path) {
    let Ok(entries) = fs::read_dir(places) else { return };
    for place in entries.flatten().map(|entry| entry.path()) {
        let unmounted = umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        // Never anything but an empty folder or file: of what is still mounted there neither can be removed.
        let removed = fs::remove_dir(&place).or_else(|_| fs::remove_file(&place));
        if let (Err(errno), Err(_)) = (unmounted, removed) {
            tracing::warn!(place = %place.display(), %errno, "what a container saw of the host can't be given up");
        }
    }
    let _ = fs::remove_dir(places);
}

/// `<pod>/<folder of the agent>/<name>`. Without a Pod's folder nothing is.
fn is_agents(pod_directory: &Path, source: &Path) -> bool {
    !pod_directory.as_os_str().is_empty()
        && source.strip_prefix(pod_directory).is_ok_and(|inner| inner.components().count() <= 2)
}

fn make(places: &Path, place: &Path, is_folder: bool) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(places)?;
    // An earlier try may have got this far.
    if place.symlink_metadata().is_ok() {
        let _ = umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        return Ok(());
    }
    match is_folder {
        true => DirBuilder::new().mode(0o700).create(place),
        false => fs::File::create_new(place).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_below_a_folder_of_the_agents_needs_no_place() {
        let check = |source: &str, expected: bool| {
            assert_eq!(is_agents(Path::new("/data/pods/x"), Path::new(source)), expected, "{source}");
        };
        check("/data/pods/x/volumes/v", true);
        check("/data/pods/x/termination/main.0", true);
        check("/data/pods/x/volumes/v/sub", false);
        check("/data/pods/xy/volumes", false);
        check("/srv", false);
        assert!(!is_agents(Path::new(""), Path::new("a/b")));
    }
}
