//! Processor time of processes and all that they start, by control groups.
//!
//! Owns: groups of its own, and reading those that agents make for Pods. Does not own: what runs in them.
//!
//! Waiting for a child tells its time only to whoever waits, and most of a Pod's processes are nobody's children here. What a
//! group says is exact, and free of whatever else the machine does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where groups are that count processor time: version 1 if it has the controller, else version 2.
const VERSION_1: &str = "/sys/fs/cgroup/cpuacct";
const VERSION_2: &str = "/sys/fs/cgroup";

/// A group that processes begin in while this process is in it. Removed when dropped, once nothing is left in it.
#[derive(Debug)]
pub struct CpuGroup {
    folder: PathBuf,
    /// Where this process was before.
    outside: PathBuf,
}

impl CpuGroup {
    /// A new one; none without the rights.
    pub fn new(name: &str) -> Option<CpuGroup> {
        let root = root();
        let own = group_of(std::process::id())?;
        let outside = root.join(own.trim_start_matches('/'));
        let folder = root.join(format!("stint-bench.{}.{name}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        Some(CpuGroup { folder, outside })
    }

    /// Moves this process there, until the result is dropped: what it starts meanwhile stays.
    pub fn enter(&self) -> Inside<'_> {
        move_to(&self.folder);
        Inside(self)
    }

    /// What was used in it so far.
    pub fn used(&self) -> Duration {
        used(&self.folder)
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        // One that still has processes stays: it does no harm.
        drop(std::fs::remove_dir(&self.folder));
    }
}

/// See [`CpuGroup::enter`].
pub struct Inside<'a>(&'a CpuGroup);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        move_to(&self.0.outside);
    }
}

/// The groups that agents make: each has one folder for all of its Pods, beside the groups of other agents.
#[derive(Debug, Default)]
pub struct PodGroups {
    parents: BTreeSet<PathBuf>,
}

impl PodGroups {
    /// Of those Pods that run now, below these processes.
    pub fn find(ancestors: &[u32]) -> PodGroups {
        let groups = descendants(ancestors).into_iter().filter_map(group_of);
        let parents = groups.filter_map(|group| {
            let parent = Path::new(&group).parent()?;
            let is_of_pods = parent.file_name()?.to_str()?.starts_with("stint-");
            is_of_pods.then(|| root().join(parent.strip_prefix("/").unwrap_or(parent)))
        });
        PodGroups { parents: parents.collect() }
    }

    /// Takes others too.
    pub fn add(&mut self, others: PodGroups) {
        self.parents.extend(others.parents);
    }

    /// What was used in them so far, also by Pods that have ended.
    pub fn used(&self) -> Duration {
        self.parents.iter().map(|parent| used(parent)).sum()
    }

    /// Removes the empty folder of an agent that has ended, in every hierarchy.
    pub fn remove(&self) {
        for name in self.parents.iter().filter_map(|parent| parent.file_name()) {
            for controller in ["cpu", "cpuacct", "memory", "pids", "."] {
                drop(std::fs::remove_dir(Path::new(VERSION_2).join(controller).join(name)));
            }
        }
    }
}

/// All processes below some others, those included.
pub fn descendants(ancestors: &[u32]) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut found = ancestors.to_vec();
    let mut looked_at = 0;
    while let Some(ancestor) = found.get(looked_at).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == ancestor).map(|(pid, _)| *pid));
        looked_at += 1;
    }
    found
}

/// The parent of a process, if that runs.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn is_version_1() -> bool {
    Path::new(VERSION_1).join("cpuacct.usage").exists()
}

fn root() -> &'static Path {
    Path::new(if is_version_1() { VERSION_1 } else { VERSION_2 })
}

/// The path of a process's group in the hierarchy that counts.
fn group_of(pid: u32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let counts = |controllers: &str| match is_version_1() {
        true => controllers.split(',').any(|controller| controller == "cpuacct"),
        false => controllers.is_empty(),
    };
    groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        counts(controllers).then(|| path.to_owned())
    })
}

fn move_to(folder: &Path) {
    // All threads of this process.
    std::fs::write(folder.join("cgroup.procs"), "0").unwrap();
}

fn used(folder: &Path) -> Duration {
    if is_version_1() {
        let nanoseconds = std::fs::read_to_string(folder.join("cpuacct.usage")).unwrap_or_default();
        return Duration::from_nanos(nanoseconds.trim().parse().unwrap_or(0));
    }
    let stat = std::fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
    let field = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
    Duration::from_micros(field.unwrap_or(0))
}
