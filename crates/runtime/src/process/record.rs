//! What is kept of a Pod beside its folders, for the agent that comes after this one.
//!
//! Owns: two files, one of who the Pod is and one of what of it has begun. Does not own: who the Pod's processes are (`confiner`).
//!
//! A container that is started in a Pod of an earlier agent must be the same user, with the same groups and name, as those
//! before it. The file is the agent's, in the Pod's own folder, which no process of the Pod can see.

use crate::{ContainerId, PodSandboxSpec, limits};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Below the Pod's own folder.
const FILE: &str = "sandbox";
/// Beside it: a line for each run that a shim came to begin.
const BEGUN: &str = "begun";

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
        "user={}\ngroup={}\nfs_group={}\ngroups={}\nhost_ipc={}\nshares_ipc={}\nother_users={}\nhostname={}\n",
        number(spec.user),
        number(spec.group),
        number(spec.fs_group),
        groups.join(","),
        u8::from(spec.host_ipc),
        u8::from(spec.shares_ipc),
        u8::from(spec.other_users),
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
        other_users: value("other_users") == "1",
        hostname: value("hostname").to_owned(),
        ..PodSandboxSpec::new(uid, directory)
    }
}

/// Writes down that a run is about to begin. To be called by its shim when nothing is left that could keep it from beginning
/// but its own death, so that a run that is not here never ran, whatever became of the agent meanwhile.
///
/// It need not survive the host: of another boot nothing is asked.
pub(crate) fn begin(directory: &Path, run: &ContainerId) -> io::Result<()> {
    // Shims of several containers of the Pod may come at once. Who dies, lets go of it.
    let guard = Flock::lock(File::open(directory)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let path = directory.join(BEGUN);
    let mut begun = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    let line = line_of(run);
    if begun.metadata()?.len() < limits::BEGUN_BYTES_MAX {
        begun.write_all(line.as_bytes())?;
    } else {
        // Of each container the last run is enough.
        let text = fs::read_to_string(&path)?;
        let name = |line: &str| line.rsplit_once('/').map(|(name, _)| name.to_owned());
        let last: std::collections::BTreeMap<_, _> = text.lines().map(|line| (name(line), line)).collect();
        let kept: String = last.values().map(|line| format!("{line}\n")).collect();
        let new = path.with_extension("new");
        fs::write(&new, kept + &line)?;
        fs::rename(&new, &path)?;
    }
    drop(guard);
    Ok(())
}

/// Whether a shim came to begin a run; also if that can't be told.
pub(crate) fn may_have_begun(directory: &Path, run: &ContainerId) -> bool {
    match fs::read_to_string(directory.join(BEGUN)) {
        Ok(text) => text.lines().any(|line| line == line_of(run).trim_end()),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn line_of(run: &ContainerId) -> String {
    format!("{}/{}\n", run.container_name(), run.restart_count())
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
    fn a13_what_has_begun_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let id =
            |name: &str, run| ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", name, run).unwrap();
        assert!(!may_have_begun(folder.path(), &id("main", 0)));
        begin(folder.path(), &id("main", 0)).unwrap();
        begin(folder.path(), &id("side", 7)).unwrap();
        let has = |name, run| may_have_begun(folder.path(), &id(name, run));
        assert!(has("main", 0) && has("side", 7));
        assert!(!has("main", 1) && !has("main", 7) && !has("mai", 0));
        // One that begins again and again takes no more than it may, and the others stay.
        let (mut run, mut largest) = (0, 0);
        while run < 20_000 {
            run += 1;
            begin(folder.path(), &id("main", run)).unwrap();
            largest = largest.max(fs::metadata(folder.path().join(BEGUN)).unwrap().len());
        }
        assert!(has("main", run) && has("side", 7));
        assert!(largest <= limits::BEGUN_BYTES_MAX + 100, "R15: {largest}");
        // What can't be read may have.
        fs::remove_file(folder.path().join(BEGUN)).unwrap();
        fs::create_dir(folder.path().join(BEGUN)).unwrap();
        assert!(has("other", 0));
        assert!(begin(&folder.path().join("missing"), &id("main", 0)).is_err());
    }

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
}
