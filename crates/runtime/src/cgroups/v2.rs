//! Control groups of version 2.
//!
//! Owns: the files of its controllers. Does not own: where our part of the tree is (`find`).

use super::{CPU_PERIOD_US, cpu_quota_us, cpu_shares, cpu_weight, read_field, read_number};
use crate::shim::confine::ControlGroup;
use crate::{ResourceSpec, Usage};
use std::io;
use std::path::{Path, PathBuf};

/// Our parent in the tree. Its controllers are handed on to the groups below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version2 {
    parent: PathBuf,
}

impl Version2 {
    pub fn new(parent: PathBuf) -> Version2 {
        Version2 { parent }
    }

    pub fn parent(&self) -> &Path {
        &self.parent
    }

    pub fn plan(&self, name: &str, resources: &ResourceSpec) -> Vec<ControlGroup> {
        let mut group = ControlGroup::new(&self.parent.join(name));
        group.set("cpu.weight", cpu_weight(cpu_shares(resources)));
        if let Some(quota) = cpu_quota_us(resources) {
            group.set("cpu.max", format!("{quota} {CPU_PERIOD_US}"));
        }
        if let Some(bytes) = resources.memory_limit_bytes {
            group.set("memory.max", bytes);
            // Not there if the kernel does not count swap.
            group.set("?memory.swap.max", 0);
            // A container without one of its processes is seldom of use.
            group.set("?memory.oom.group", 1);
        }
        if let Some(processes) = resources.processes_max {
            group.set("pids.max", processes);
        }
        vec![group]
    }

    pub fn usage(&self, name: &str) -> io::Result<Usage> {
        let group = self.parent.join(name);
        let memory = read_number(&group.join("memory.current"))?;
        // Can be given up at once.
        let cache = read_field(&group.join("memory.stat"), "inactive_file")?;
        Ok(Usage {
            cpu_nanoseconds: read_field(&group.join("cpu.stat"), "usage_usec")?.saturating_mul(1000),
            memory_bytes: memory.saturating_sub(cache),
            processes: read_number(&group.join("pids.current"))?,
            disk_bytes: None,
        })
    }

    pub fn out_of_memory(&self, name: &str) -> bool {
        let events = self.parent.join(name).join("memory.events");
        read_field(&events, "oom_kill").is_ok_and(|killed| killed > 0)
    }

    /// None if there is none, for which the kernel has a word.
    pub fn memory_limit(&self, name: &str) -> Option<u64> {
        read_number(&self.parent.join(name).join("memory.max")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_words_of_this_version() {
        let resources = ResourceSpec {
            cpu_limit_millis: Some(1500),
            cpu_request_millis: Some(1000),
            memory_limit_bytes: Some(1 << 20),
            processes_max: Some(9),
        };
        let plan = Version2::new(PathBuf::from("/cg/stint-n")).plan("x", &resources);
        let told: Vec<_> = plan.iter().map(ControlGroup::to_string).collect();
        let expected = "/cg/stint-n/x cpu.weight=39 cpu.max=150000 100000 memory.max=1048576 ?memory.swap.max=0 \
                        ?memory.oom.group=1 pids.max=9";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn use_and_end_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let groups = Version2::new(folder.path().to_owned());
        std::fs::create_dir(folder.path().join("x")).unwrap();
        let write =
            |file: &str, text: &str| std::fs::write(folder.path().join("x").join(file), text).unwrap();
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1\ninactive_file 2000\n");
        write("cpu.stat", "usage_usec 77\nuser_usec 1\n");
        write("pids.current", "3\n");
        write("memory.events", "oom 5\noom_kill 0\noom_group_kill 0\n");
        let usage = groups.usage("x").unwrap();
        assert_eq!((usage.cpu_nanoseconds, usage.memory_bytes, usage.processes), (77_000, 3000, 3));
        assert!(!groups.out_of_memory("x"));
        write("memory.events", "oom 5\noom_kill 1\n");
        assert!(groups.out_of_memory("x"));
    }
}
