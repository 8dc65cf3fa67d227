//! Control groups: what holds containers to their limits and tells what they use.
//!
//! Owns: finding the hierarchies of this host, what is written to a container's groups and read from them, removing them. Does
//! not own: making them and joining them, which the shim does by what is planned here.
//!
//! All groups of an agent are in one parent, named after its node, and each run of a container has its own right below:
//! `stint-<node>/<pod uid>_<container>.<restart>`. With version 1 that is so in the hierarchy of each controller; with version
//! 2 in the one tree: beside the agent's own group if a service manager has made one for it below the group that it leaves to
//! the service, else at the root.
//!
//! The crates for this make a group in every hierarchy there is, one directory after the other whether it is needed or not,
//! and always below `/sys/fs/cgroup`: for Pods that live for milliseconds that would be most of their cost, and nothing could
//! be tested where a controller is absent.
//!
//! Invariant: nothing outside of the parent is ever removed or limited.

mod find;
mod left;
mod v1;
mod v2;

use crate::shim::confine::ControlGroup;
use crate::{ContainerId, ResourceSpec, Usage};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use v1::Version1;
use v2::Version2;

pub(crate) use find::Missing;
pub use left::remove_control_groups;

/// The groups of one agent.
#[derive(Debug)]
pub(crate) enum ControlGroups {
    /// A hierarchy for each controller.
    Version1(Version1),
    /// One for all.
    Version2(Version2),
}

/// What a container's groups say after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupEnd {
    /// The kernel killed some process of it for lack of memory.
    pub out_of_memory: bool,
    /// Bytes of memory that it might have, if that is known.
    pub memory_limit: Option<u64>,
}

impl ControlGroups {
    /// Finds those of this host and makes the parent for `node`; with what limits can't be kept for lack of it.
    pub fn find(node: &str) -> (Option<ControlGroups>, Missing) {
        find::find(node)
    }

    /// What the shim is to make for a container before it starts.
    pub fn plan(&self, id: &ContainerId, resources: &ResourceSpec) -> Vec<ControlGroup> {
        match self {
            ControlGroups::Version1(groups) => groups.plan(&group_name(id), resources),
            ControlGroups::Version2(groups) => groups.plan(&group_name(id), resources),
        }
    }

    /// What a container uses.
    pub fn usage(&self, id: &ContainerId) -> io::Result<Usage> {
        match self {
            ControlGroups::Version1(groups) => groups.usage(&group_name(id)),
            ControlGroups::Version2(groups) => groups.usage(&group_name(id)),
        }
    }

    /// To be called when no process of a container is left: looks once more, and removes its groups.
    pub fn finish(&self, id: &ContainerId) -> GroupEnd {
        let name = group_name(id);
        let out_of_memory = match self {
            ControlGroups::Version1(groups) => groups.out_of_memory(&name),
            ControlGroups::Version2(groups) => groups.out_of_memory(&name),
        };
        let memory_limit = match self {
            _ if !out_of_memory => None,
            ControlGroups::Version1(groups) => groups.memory_limit(&name),
            ControlGroups::Version2(groups) => groups.memory_limit(&name),
        };
        self.parents().iter().for_each(|parent| remove(&parent.join(&name)));
        GroupEnd { out_of_memory, memory_limit }
    }

    /// Removes the groups of all containers but these; those with processes stay.
    pub fn sweep<'a>(&self, kept: impl Iterator<Item = &'a ContainerId>) {
        let kept: BTreeSet<_> = kept.map(group_name).collect();
        for parent in self.parents() {
            for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                let is_kept = entry.file_name().to_str().is_some_and(|name| kept.contains(name));
                if !is_kept && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
        }
    }

    /// 1 or 2.
    pub fn version(&self) -> u32 {
        match self {
            ControlGroups::Version1(_) => 1,
            ControlGroups::Version2(_) => 2,
        }
    }

    fn parents(&self) -> Vec<PathBuf> {
        match self {
            ControlGroups::Version1(groups) => groups.parents(),
            ControlGroups::Version2(groups) => vec![groups.parent().to_owned()],
        }
    }
}

/// Its parts are checked, so it is one name of a folder.
fn group_name(id: &ContainerId) -> String {
    format!("{}_{}.{}", id.pod_uid(), id.container_name(), id.restart_count())
}

/// A group can be removed when it has no process; its files go with it.
fn remove(folder: &Path) {
    match std::fs::remove_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // It goes at the next sweep.
        Err(error) => {
            tracing::debug!(folder = %folder.display(), %error, "a control group can't be removed yet")
        }
    }
}

/// Shares of processor time, as version 1 counts them: 1024 for a core. As in Kubernetes, what is not requested is requested as the
/// limit says, and who says neither gets what others leave.
pub(crate) fn cpu_shares(resources: &ResourceSpec) -> u64 {
    let requested = resources.cpu_request_millis.or(resources.cpu_limit_millis).unwrap_or(0);
    (requested.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// The same as version 2 counts them, in the usual proportion: from 2–262144 to 1–10000.
pub(crate) fn cpu_weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9999 / 262_142
}

/// Microseconds of each period.
pub(crate) const CPU_PERIOD_US: u64 = 100_000;

/// Microseconds of processor time in each period: the kernel takes no less than a thousand.
pub(crate) fn cpu_quota_us(resources: &ResourceSpec) -> Option<u64> {
    resources.cpu_limit_millis.map(|millis| millis.saturating_mul(CPU_PERIOD_US / 1000).max(1000))
}

fn read_number(file: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(file)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no number", file.display())))
}

/// The number behind a word at the beginning of a line; 0 if it is not there.
fn read_field(file: &Path, field: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let value = |line: &str| line.strip_prefix(field)?.strip_prefix(' ')?.trim().parse().ok();
    Ok(text.lines().find_map(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_what_the_kernel_takes() {
        let resources = |cpu_request_millis, cpu_limit_millis| ResourceSpec {
            cpu_request_millis,
            cpu_limit_millis,
            ..ResourceSpec::default()
        };
        assert_eq!(cpu_shares(&resources(Some(1000), None)), 1024);
        assert_eq!(cpu_shares(&resources(Some(0), None)), 2);
        assert_eq!(cpu_shares(&resources(Some(u64::MAX), None)), 262_144);
        assert_eq!(cpu_shares(&resources(None, Some(500))), 512);
        assert_eq!(cpu_shares(&resources(None, None)), 2);
        assert_eq!([2, 262_144].map(cpu_weight), [1, 10_000]);
        assert_eq!(cpu_quota_us(&resources(None, Some(1500))), Some(150_000));
        assert_eq!(cpu_quota_us(&resources(None, Some(1))), Some(1000));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        std::fs::write(&file, "low 1\noom 2\noom_kill 3\n").unwrap();
        assert_eq!(read_field(&file, "oom").unwrap(), 2);
        assert_eq!(read_field(&file, "oom_kill").unwrap(), 3);
        assert_eq!(read_field(&file, "max").unwrap(), 0);
        assert!(read_number(&file).is_err());
    }
}
