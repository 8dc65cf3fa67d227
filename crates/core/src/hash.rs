//! The hash of a state: equal on every server that applied the same entries (R14), and after loading from rows.
//!
//! Owns: what goes into it: everything in memory but caches. It is made from the records' debug text, so that no field
//! can be forgotten; compare it between equal builds only.

use std::fmt::{self, Write};

use xxhash_rust::xxh3::Xxh3;

use crate::state::State;

struct HashWriter(Xxh3);

impl Write for HashWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl State {
    /// A hash over everything in memory. Takes a few microseconds per object.
    pub fn hash(&self) -> u64 {
        let mut writer = HashWriter(Xxh3::new());
        // Writing into a hash can't fail.
        let _ = self.describe(&mut writer);
        writer.0.digest()
    }

    /// Everything that must be equal on all servers, as text; what [`State::hash`] hashes.
    pub fn describe(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "{:?}", self.meta)?;
        for node in self.nodes.values() {
            writeln!(out, "{:?} {:?} {:?} {:?}", node.record, node.revision, node.pods, node.requested)?;
        }
        for job in self.jobs.values() {
            let ActiveJob { record, revision, completed, restart_sum, history, .. } = job;
            writeln!(out, "{record:?} {revision:?} {completed} {restart_sum} {:?}", history.decisions)?;
        }
        writeln!(out, "{:?} {:?}", self.finished, self.job_names)?;
        for (uid, group) in &self.groups {
            writeln!(out, "{uid} {:?} {:?} {:?}", group.template, group.pods, group.indexes)?;
        }
        for pod in self.pods.values() {
            writeln!(out, "{:?} {:?}", pod.record, pod.revision)?;
        }
        writeln!(out, "{:?} {:?} {}", self.leftover_names, self.pod_names, self.n_running_pods)?;
        for event in self.events.contents() {
            writeln!(out, "{event:?}")?;
        }
        for tombstone in self.tombstones.records() {
            writeln!(out, "{tombstone:?}")?;
        }
        writeln!(out, "{:?} {:?}", self.config_maps, self.log_tails)?;
        writeln!(out, "{:?} {:?}", self.timers.queue(), self.ttl_queue)?;
        writeln!(out, "{:?} {:?} {:?}", self.create_backlog, self.remove_backlog, self.stop_backlog)?;
        writeln!(out, "{:?} {:?}", self.deletion_backlog, self.lost_nodes)?;
        writeln!(out, "{:?}", self.old_cluster)?;
        for (class, queue) in &self.scheduler.classes {
            writeln!(out, "{class:?} {:?}", queue.pods)?;
        }
        writeln!(out, "{:?} {} {}", self.scheduler.candidates(), self.scheduler.n_pending, self.n_decisions)
    }
}

use crate::state::ActiveJob;
