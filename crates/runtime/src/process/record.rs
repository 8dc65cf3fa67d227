//! What is kept of a Pod beside its folders, for the agent that comes after this one.
//!
//! Owns: the attribute, or the file. Does not own: who the Pod's processes are (`confiner`), what of it has begun (`begun`).
//!
//! A container that is started in a Pod of an earlier agent must be the same user, with the same groups and name, as those
//! before it. So that is written down at the Pod's own folder, which no process of the Pod can see: as an attribute of the
//! folder, which most file systems keep where they keep its owner, or else in a file, which has to be made, renamed and
//! removed, and takes a block of the disk.

use crate::PodSandboxSpec;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Of the Pod's own folder.
const ATTRIBUTE: &str = "user.stint.sandbox";

/// Below it, where it has no attributes.
const FILE: &str = "sandbox";

/// Of the attribute; a longer text goes to the file.
const ATTRIBUTE_BYTES_MAX: usize = 2048;

/// Writes it, if it is not there already.
pub(crate) fn write(spec: &PodSandboxSpec) -> io::Result<()> {
    let text = text_of(spec);
    if text.len() > ATTRIBUTE_BYTES_MAX {
        return write_file(spec, &text);
    }
    match write_attribute(&spec.directory, &text) {
        Err(Errno::NOENT) => {
            make_folder(&spec.directory)?;
            write_attribute(&spec.directory, &text).or_else(|_| write_file(spec, &text))
        }
        Err(_) => write_file(spec, &text),
        Ok(()) => Ok(()),
    }
}

/// The first one stands.
fn write_attribute(folder: &Path, text: &str) -> Result<(), Errno> {
    match rustix::fs::setxattr(folder, ATTRIBUTE, text.as_bytes(), XattrFlags::CREATE) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn write_file(spec: &PodSandboxSpec, text: &str) -> io::Result<()> {
    let path = spec.directory.join(FILE);
    if path.exists() {
        return Ok(());
    }
    make_folder(&spec.directory)?;
    // Whole or not at all: one that was cut would name another user.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, &path)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What is not asked for is left out: short texts fit where the folder's owner is kept.
fn text_of(spec: &PodSandboxSpec) -> String {
    let number = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
    let groups: Vec<_> = spec.supplemental_groups.iter().map(u32::to_string).collect();
    let flag = |value: bool| if value { "1".to_owned() } else { String::new() };
    let values = [
        ("user", number(spec.user)),
        ("group", number(spec.group)),
        ("fs_group", number(spec.fs_group)),
        ("groups", groups.join(",")),
        ("host_ipc", flag(spec.host_ipc)),
        ("shares_ipc", flag(spec.shares_ipc)),
        ("other_users", flag(spec.other_users)),
        ("hostname", spec.hostname.clone()),
    ];
    values
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}

/// Reads it; a Pod that asks for nothing if it is missing.
pub(crate) fn read(uid: &str, directory: PathBuf) -> PodSandboxSpec {
    let text = read_text(&directory);
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
        other_users: value("other_users") == "1",
        hostname: value("hostname").to_owned(),
        ..PodSandboxSpec::new(uid, directory)
    }
}

fn read_text(directory: &Path) -> String {
    let mut bytes = [0; ATTRIBUTE_BYTES_MAX];
    if let Ok(length) = rustix::fs::getxattr(directory, ATTRIBUTE, &mut bytes) {
        return String::from_utf8_lossy(&bytes[..length]).into_owned();
    }
    let path = directory.join(FILE);
    match std::fs::read_to_string(&path) {
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
            other_users: true,
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
        assert!(found.other_users);
        assert_eq!(read(&spec.uid, folder.path().join("other")).user, None);
    }

    #[test]
    fn a_folder_without_attributes_has_a_file_and_so_has_a_long_text() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str, groups: u32| PodSandboxSpec {
            user: Some(77),
            supplemental_groups: (0..groups).map(|group| 1_000_000 + group).collect(),
            ..PodSandboxSpec::new("01234567-89ab-cdef-0123-456789abcdef", folder.path().join(name))
        };
        let (short, long) = (spec("short", 2), spec("long", 1_000));
        // As where there are no attributes.
        write_file(&short, &text_of(&short)).unwrap();
        write_file(&PodSandboxSpec { user: None, ..short.clone() }, "").unwrap();
        write(&long).unwrap();
        assert!(long.directory.join(FILE).exists());
        for spec in [short, long] {
            let found = read(&spec.uid, spec.directory.clone());
            assert_eq!((found.user, found.supplemental_groups), (Some(77), spec.supplemental_groups));
        }
    }
}
