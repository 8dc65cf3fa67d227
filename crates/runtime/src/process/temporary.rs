//! What runs see as `/tmp` and `/var/tmp`: folders of their Pod.
//!
//! Owns: their names, their removal. Does not own: making them (`shim::confine`), showing them (`confiner`).
//!
//! They are one run's own, as in a container that is made anew for each run. What a run has left there nobody can see any more,
//! and it would count as its Pod's use of the disk.

use crate::{ContainerId, remove_tree};
use std::io;
use std::path::{Path, PathBuf};

/// As they are called in the Pod's folder, right in which they are: each further one would have to be made and removed too.
const NAMES: [&str; 2] = ["tmp", "var-tmp"];

/// Those of a run, for `/tmp` and `/var/tmp`.
pub(super) fn of_run(pod_directory: &Path, id: &ContainerId) -> [PathBuf; 2] {
    let run = format!("{}.{}", id.container_name(), id.restart_count());
    NAMES.map(|name| pod_directory.join(format!("{name}.{run}")))
}

/// Removes those of a run that has ended. Blocks.
pub(super) fn remove(pod_directory: &Path, id: &ContainerId) -> io::Result<()> {
    of_run(pod_directory, id).iter().try_for_each(|path| remove_tree(path))
}

/// Removes those of all earlier runs of a container. Blocks.
pub(super) fn remove_earlier(pod_directory: &Path, id: &ContainerId) -> io::Result<()> {
    if id.restart_count() == 0 {
        return Ok(());
    }
    let entries = match std::fs::read_dir(pod_directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(|name| run_of(name, id.container_name()))
            .is_some_and(|run| run < id.restart_count())
        {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// The run of a container that a folder is of.
fn run_of(name: &str, container: &str) -> Option<u32> {
    let rest = NAMES.iter().find_map(|kind| name.strip_prefix(kind)?.strip_prefix('.'))?;
    rest.strip_prefix(container)?.strip_prefix('.')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r15_earlier_runs_of_the_same_container_leave_nothing() {
        let pod = tempfile::tempdir().unwrap();
        let id =
            |name: &str, run| ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", name, run).unwrap();
        for (name, run) in [("a", 0), ("a", 7), ("a", 9), ("a", 10), ("a-b", 0), ("b", 3)] {
            for path in of_run(pod.path(), &id(name, run)) {
                std::fs::create_dir_all(path.join("deep/er")).unwrap();
            }
        }
        for other in ["work", "tmp.a", "volumes"] {
            std::fs::create_dir(pod.path().join(other)).unwrap();
        }
        remove_earlier(pod.path(), &id("a", 10)).unwrap();
        let names = std::fs::read_dir(pod.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let expected = [
            "tmp.a",
            "tmp.a-b.0",
            "tmp.a.10",
            "tmp.b.3",
            "var-tmp.a-b.0",
            "var-tmp.a.10",
            "var-tmp.b.3",
            "volumes",
            "work",
        ];
        assert_eq!(names, expected);
        remove(pod.path(), &id("a", 10)).unwrap();
        assert!(!pod.path().join("tmp.a.10").exists() && !pod.path().join("var-tmp.a.10").exists());
    }
}
