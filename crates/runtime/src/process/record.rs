//! What is kept of a Pod beside its folders, for the agent that comes after this one.
//!
//! Owns: the file. Does not own: who the Pod's processes are (`confiner`).
//!
//! A container that is started in a Pod of an earlier agent must be the same user, with the same groups and name, as those
//! before it. The file is the agent's, in the Pod's own folder, which no process of the Pod can see.

use crate::PodSandboxSpec;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Below the Pod's own folder.
const FILE: &str = "sandbox";

/// Writes it, if it is not there already.
pub(crate) fn write(spec: &PodSandboxSpec) -> io::Result<()> {
    let path = spec.directory.join(FILE);
    if path.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&spec.directory)?;
    let number = |value: Option<u32>| value.map_or(String::new(), |value| value.to_string());
    let groups: Vec<_> = spec.supplemental_groups.iter().map(u32::to_string).collect();
    let text = format!(
        "user={}\ngroup={}\nfs_group={}\ngroups={}\nhost_ipc={}\nshares_ipc={}\nhostname={}\n",
        number(spec.user),
        number(spec.group),
        number(spec.fs_group),
        groups.join(","),
        u8::from(spec.host_ipc),
        u8::from(spec.shares_ipc),
        spec.hostname
    );
    // Whole or not at all: one that was cut would name another user.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, &path)
}

/// Reads it; a Pod that asks for nothing if it is missing.
pub(crate) fn read(uid: &str, directory: PathBuf) -> PodSandboxSpec {
    let text = read_text(&directory.join(FILE));
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let number = |name: &str| value(name).parse().ok();
    PodSandboxSpec {
        user: number("user"),
        group: number("group"),
        fs_group: number("fs_group"),
        supplemental_groups: value("groups").split(',').filter_map(|group| group.parse().ok()).collect(),
        host_ipc: value("host_ipc") == "1",
        shares_ipc: value("shares_ipc") == "1",
        hostname: value("hostname").to_owned(),
        ..PodSandboxSpec::new(uid, directory)
    }
}

fn read_text(path: &Path) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was kept of a pod can't be read");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_pod_is_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let spec = PodSandboxSpec {
            user: Some(1234),
            fs_group: Some(7),
            supplemental_groups: vec![8, 9],
            shares_ipc: true,
            hostname: "pi-0".to_owned(),
            ..PodSandboxSpec::new("01234567-89ab-cdef-0123-456789abcdef", folder.path().join("pod"))
        };
        write(&spec).unwrap();
        // The first one stands.
        write(&PodSandboxSpec { user: None, ..spec.clone() }).unwrap();
        let found = read(&spec.uid, spec.directory.clone());
        assert_eq!((found.user, found.group, found.fs_group), (Some(1234), None, Some(7)));
        assert_eq!(
            (found.supplemental_groups, found.hostname, found.host_ipc, found.shares_ipc),
            (vec![8, 9], "pi-0".to_owned(), false, true)
        );
        assert_eq!(read(&spec.uid, folder.path().join("other")).user, None);
    }
}
