//! Control groups of agents that are no more.
//!
//! Owns: which names the runtimes give to the parents of their groups, removing those. Does not own: knowing that an agent will not
//! come back.

use super::find::{above_parents, parent_of};
use crate::limits;
use std::io;
use std::path::{Path, PathBuf};

/// Removes the groups of all runtimes of a node whose agent will not come back, given its uid and the folder of the shims of its
/// runtime `oci`. True if none is left: those with processes stay. Blocks.
pub fn remove_control_groups(node_uid: &str, shims: &Path) -> bool {
    let names = names(node_uid, shims);
    let folders = above_parents();
    let mut is_clean = true;
    for folder in folders {
        for name in &names {
            is_clean &= remove_all(&folder.join(name), limits::CONTROL_GROUP_LEVELS_MAX);
        }
    }
    is_clean
}

/// Where the runtimes put their groups, in each hierarchy.
#[cfg_attr(not(feature = "oci"), expect(unused_variables, reason = "the runtime that has them is not there"))]
fn names(node_uid: &str, shims: &Path) -> Vec<PathBuf> {
    let mut names = vec![PathBuf::from(parent_of(node_uid))];
    #[cfg(feature = "cri")]
    names.extend(crate::cri::parent_groups(node_uid));
    #[cfg(feature = "oci")]
    names.push(crate::oci::parent_group(shims));
    names
}

/// Removes a group with those below it, deepest first. True if it is not there afterwards. The kernel keeps what has processes.
fn remove_all(group: &Path, levels: usize) -> bool {
    let below = match std::fs::read_dir(group) {
        Ok(below) => below,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    if levels > 0 {
        for entry in below.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_all(&entry.path(), levels - 1);
        }
    }
    match std::fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_empty_goes_and_nothing_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("stint-a");
        std::fs::create_dir_all(group.join("pod/container")).unwrap();
        std::fs::create_dir_all(group.join("other/busy")).unwrap();
        std::fs::create_dir(folder.path().join("stint-b")).unwrap();
        // In place of what the kernel keeps.
        let process = group.join("other/busy/process");
        std::fs::write(&process, "").unwrap();
        assert!(!remove_all(&group, 8));
        assert!(!group.join("pod").exists() && process.exists());
        assert!(!remove_all(&group, 1), "not deeper than that");
        std::fs::remove_file(&process).unwrap();
        assert!(remove_all(&group, 8) && remove_all(&group, 8));
        assert!(!group.exists() && folder.path().join("stint-b").exists());
    }

    #[test]
    fn groups_of_all_runtimes_are_known() {
        let names = names("01234567-89ab-cdef-0123-456789abcdef", Path::new("/data/oci/shims"));
        assert_eq!(names.first(), Some(&PathBuf::from("stint-01234567-89ab-cdef-0123-456789abcdef")));
        #[cfg(feature = "cri")]
        assert!(names.contains(&PathBuf::from("stint-0123456789abcdef")), "{names:?}");
        assert!(names.iter().all(|name| name.is_relative()), "{names:?}");
    }
}
