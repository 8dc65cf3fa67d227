//! Control groups of version 1.
//!
//! Owns: the files of its controllers. Does not own: where they are mounted (`find`).

use super::{CPU_PERIOD_US, cpu_quota_us, cpu_shares, read_field, read_number};
use crate::shim::confine::ControlGroup;
use crate::{ResourceSpec, Usage};
use std::io;
use std::path::PathBuf;

/// Our parent in the hierarchy of each controller; several may share one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Version1 {
    pub cpu: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub memory: Option<PathBuf>,
    pub pids: Option<PathBuf>,
}

impl Version1 {
    /// Without doubles.
    pub fn parents(&self) -> Vec<PathBuf> {
        let all = [&self.cpu, &self.cpuacct, &self.memory, &self.pids].into_iter().flatten().cloned();
        all.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    pub fn plan(&self, name: &str, resources: &ResourceSpec) -> Vec<ControlGroup> {
        let parents = self.parents();
        let mut groups: Vec<_> = parents.iter().map(|parent| ControlGroup::new(&parent.join(name))).collect();
        let mut set = |parent: &Option<PathBuf>, file: &str, value: Option<u64>| {
            if let (Some(parent), Some(value)) = (parent, value)
                && let Some(at) = parents.iter().position(|one| one == parent)
            {
                groups[at].set(file, value);
            }
        };
        set(&self.cpu, "cpu.shares", Some(cpu_shares(resources)));
        if let Some(quota) = cpu_quota_us(resources) {
            set(&self.cpu, "cpu.cfs_period_us", Some(CPU_PERIOD_US));
            set(&self.cpu, "cpu.cfs_quota_us", Some(quota));
        }
        set(&self.memory, "memory.limit_in_bytes", resources.memory_limit_bytes);
        // Memory and swap together: none. Not there if the kernel does not count swap.
        set(&self.memory, "?memory.memsw.limit_in_bytes", resources.memory_limit_bytes);
        set(&self.pids, "pids.max", resources.processes_max);
        groups
    }

    pub fn usage(&self, name: &str) -> io::Result<Usage> {
        let file = |parent: &Option<PathBuf>, file: &str| {
            let parent = parent.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
            Ok::<_, io::Error>(parent.join(name).join(file))
        };
        let memory = read_number(&file(&self.memory, "memory.usage_in_bytes")?)?;
        // Can be given up at once.
        let cache = read_field(&file(&self.memory, "memory.stat")?, "total_inactive_file")?;
        Ok(Usage {
            cpu_nanoseconds: read_number(&file(&self.cpuacct, "cpuacct.usage")?)?,
            memory_bytes: memory.saturating_sub(cache),
            processes: read_number(&file(&self.pids, "pids.current")?)?,
            disk_bytes: None,
        })
    }

    pub fn out_of_memory(&self, name: &str) -> bool {
        let Some(parent) = &self.memory else { return false };
        read_field(&parent.join(name).join("memory.oom_control"), "oom_kill").is_ok_and(|killed| killed > 0)
    }

    /// None if there is none: the kernel writes a number larger than any memory then.
    pub fn memory_limit(&self, name: &str) -> Option<u64> {
        let file = self.memory.as_ref()?.join(name).join("memory.limit_in_bytes");
        read_number(&file).ok().filter(|bytes| *bytes < 1 << 62)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Version1 {
        let parent = |name: &str| Some(PathBuf::from(format!("/cg/{name}/stint-n")));
        Version1 {
            cpu: parent("cpu,cpuacct"),
            cpuacct: parent("cpu,cpuacct"),
            memory: parent("memory"),
            pids: parent("pids"),
        }
    }

    #[test]
    fn controllers_that_share_a_hierarchy_share_a_group() {
        let resources = ResourceSpec {
            cpu_limit_millis: Some(500),
            cpu_request_millis: Some(250),
            memory_limit_bytes: Some(1 << 20),
            processes_max: Some(9),
        };
        let plan = groups().plan("x", &resources);
        let told: Vec<_> = plan.iter().map(ControlGroup::to_string).collect();
        assert_eq!(
            told,
            [
                "/cg/cpu,cpuacct/stint-n/x cpu.shares=256 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000",
                "/cg/memory/stint-n/x memory.limit_in_bytes=1048576 ?memory.memsw.limit_in_bytes=1048576",
                "/cg/pids/stint-n/x pids.max=9",
            ]
        );
        let plain = groups().plan("x", &ResourceSpec::default());
        let told: Vec<_> = plain.iter().map(ControlGroup::to_string).collect();
        assert_eq!(
            told,
            ["/cg/cpu,cpuacct/stint-n/x cpu.shares=2", "/cg/memory/stint-n/x", "/cg/pids/stint-n/x"]
        );
    }

    #[test]
    fn use_and_end_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let parent = Some(folder.path().to_owned());
        let groups = Version1 { cpu: None, cpuacct: parent.clone(), memory: parent.clone(), pids: parent };
        std::fs::create_dir(folder.path().join("x")).unwrap();
        let write =
            |file: &str, text: &str| std::fs::write(folder.path().join("x").join(file), text).unwrap();
        write("memory.usage_in_bytes", "5000\n");
        write("memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n");
        write("cpuacct.usage", "77\n");
        write("pids.current", "3\n");
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        let usage = groups.usage("x").unwrap();
        assert_eq!((usage.cpu_nanoseconds, usage.memory_bytes, usage.processes), (77, 3000, 3));
        assert!(!groups.out_of_memory("x"));
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
        assert!(groups.out_of_memory("x"));
        assert!(groups.usage("y").is_err() && !groups.out_of_memory("y"));
    }
}
