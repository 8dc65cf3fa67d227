//! The way from the root to where Pods keep what is theirs, as the users that they are go it.
//!
//! Owns: which folders of the host are on it. Does not own: where it leads.

use crate::shim::confine::TEMPORARY;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The outermost folder above this one that others than its owner and group can't pass. `folder` is absolute and without
/// links.
///
/// Not in the way are: the folder itself, in whose place Pods see another; what is below places that each Pod has of its own,
/// where the way is made anew; and what can't be looked at.
pub(super) fn closed_parent(folder: &Path) -> Option<PathBuf> {
    closed_parent_beside(folder, &TEMPORARY.map(Path::new))
}

fn closed_parent_beside(folder: &Path, made_anew: &[&Path]) -> Option<PathBuf> {
    const OTHERS_PASS: u32 = 0o001;
    let parents: Vec<&Path> = folder.ancestors().skip(1).collect();
    let of_host = |parent: &&Path| !made_anew.iter().any(|place| parent.starts_with(place));
    let closed = parents
        .into_iter()
        .rev()
        .filter(of_host)
        .find(|parent| std::fs::metadata(parent).is_ok_and(|facts| facts.mode() & OTHERS_PASS == 0));
    closed.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_outermost_folder_that_others_may_not_pass_is_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (inner, data) = (root.join("inner"), root.join("inner/data"));
        std::fs::create_dir_all(&data).unwrap();
        let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let closed = |made_anew: &[&Path]| closed_parent_beside(&data, made_anew);
        set(&root, 0o711);
        set(&inner, 0o755);
        // Its own bits do not matter.
        set(&data, 0o700);
        assert_eq!(closed(&[]), None);
        set(&inner, 0o770);
        assert_eq!(closed(&[]), Some(inner.clone()));
        set(&root, 0o700);
        assert_eq!(closed(&[]), Some(root.clone()));
        assert_eq!(closed(&[&root]), None, "Pods have one of their own there");
        assert_eq!(closed(&[&inner]), Some(root.clone()));
    }
}
