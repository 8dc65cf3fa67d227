//! Control groups of containers: libcontainer makes them, this reads and removes them.
//!
//! All groups of an agent's containers are in one parent, in each hierarchy of version 1 that there is, or in the one of
//! version 2: `stint-oci-<of the agent>/<pod uid>_<container>.<restart>`.

use crate::{ContainerId, Usage};
use libcgroups::common::{AnyCgroupManager, CgroupConfig, CgroupManager, create_cgroup_manager};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where version 2 is mounted, if it is the only one.
const UNIFIED: &str = "/sys/fs/cgroup";

/// Files that count processes killed for lack of memory, in version 1 and 2.
const OUT_OF_MEMORY: [&str; 2] = ["memory.oom_control", "memory.events"];

/// The groups of one agent.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    /// Absolute within each hierarchy.
    parent: PathBuf,
}

/// Where the groups of the agent with this folder are, within a hierarchy.
pub(crate) fn parent_group(folder: &Path) -> PathBuf {
    let parent = Groups::of_agent(folder).parent;
    parent.strip_prefix("/").map(Path::to_owned).unwrap_or(parent)
}

impl Groups {
    /// Those of the agent that has this folder, which no other on the host has.
    pub fn of_agent(folder: &Path) -> Groups {
        let digest = Sha256::digest(folder.as_os_str().as_bytes());
        let name =
            digest.iter().take(6).fold("/stint-oci-".to_owned(), |name, byte| format!("{name}{byte:02x}"));
        Groups { parent: name.into() }
    }

    /// Where a container's groups are, in each hierarchy.
    pub fn path(&self, id: &ContainerId) -> PathBuf {
        // Its parts are checked, so this is one name of a folder.
        self.parent.join(format!("{}_{}.{}", id.pod_uid(), id.container_name(), id.restart_count()))
    }

    /// What a container uses; none if its groups are gone.
    pub fn usage(&self, id: &ContainerId) -> Option<Usage> {
        let stats = manager(&self.path(id))?.stats().ok()?;
        // What the kernel would give up first is no use that hurts.
        let inactive = ["total_inactive_file", "inactive_file"];
        let inactive = inactive.iter().find_map(|name| stats.memory.stats.get(*name)).copied().unwrap_or(0);
        Some(Usage {
            cpu_nanoseconds: stats.cpu.usage.usage_total,
            memory_bytes: stats.memory.memory.usage.saturating_sub(inactive),
            processes: stats.pids.current,
            disk_bytes: None,
        })
    }

    /// Whether the kernel has killed a process of it for lack of memory.
    pub fn is_out_of_memory(&self, id: &ContainerId) -> bool {
        let folders = folders(&self.path(id)).into_iter();
        let files = folders.flat_map(|folder| OUT_OF_MEMORY.map(|name| folder.join(name)));
        files.filter_map(|file| std::fs::read_to_string(file).ok()).any(|text| {
            let mut counts = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
            counts.any(|count| count.trim().parse::<u64>().is_ok_and(|count| count > 0))
        })
    }

    /// Removes a container's groups, once it has ended.
    pub fn remove(&self, id: &ContainerId) {
        folders(&self.path(id)).iter().for_each(|folder| remove(folder));
    }

    /// Removes the groups of all containers but these; those with processes stay.
    pub fn sweep<'a>(&self, kept: impl Iterator<Item = &'a ContainerId>) {
        let kept: BTreeSet<_> =
            kept.filter_map(|id| self.path(id).file_name().map(std::ffi::OsStr::to_owned)).collect();
        for parent in folders(&self.parent) {
            for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                if !kept.contains(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
        }
    }
}

/// Puts this process into a container's groups.
pub(crate) fn join(path: &Path) -> Result<(), String> {
    for folder in folders(path) {
        let file = folder.join("cgroup.procs");
        // The number of whoever writes it, whatever namespace that is in.
        match std::fs::write(&file, "0") {
            // Not every hierarchy has one.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where they are on this host.
fn folders(path: &Path) -> Vec<PathBuf> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let unified = Path::new(UNIFIED);
    if unified.join("cgroup.controllers").exists() {
        return vec![unified.join(relative)];
    }
    let mounts = libcgroups::v1::util::list_supported_mount_points().unwrap_or_default();
    // Some hierarchies have several controllers.
    let folders: BTreeSet<_> = mounts.into_values().map(|mount| mount.join(relative)).collect();
    folders.into_iter().collect()
}

/// A group can be removed when it has no process; its files go with it.
fn remove(folder: &Path) {
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            // It goes at the next sweep.
            tracing::debug!(folder = %folder.display(), %error, "a control group can't be removed yet");
        }
        _ => {}
    }
}

fn manager(path: &Path) -> Option<AnyCgroupManager> {
    let config =
        CgroupConfig { cgroup_path: path.to_owned(), systemd_cgroup: false, container_name: String::new() };
    create_cgroup_manager(config).ok()
}
