//! The host's processes, as `/proc` lists them.
//!
//! Owns: the search for parents and descendants, for shims that have no namespace. Does not own: when they are killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;

/// Numbers of all that can be seen.
pub(crate) fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// None if it is gone.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    parent_in_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Sends SIGKILL to every descendant of a process. Says whether there was one.
pub(crate) fn kill_descendants(ancestor: Pid) -> bool {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in pids() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let has_some = children.contains_key(&ancestor.as_raw());
    let mut parents = vec![ancestor.as_raw()];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            // A child of ours keeps its id until we reap it. A deeper one could end, and its id be given to a stranger,
            // between the listing and this line: one more reason why this mode is called degraded.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            parents.push(child);
        }
    }
    has_some
}

/// The parent's id in a line of `/proc/<pid>/stat`: second field after the name, which may contain anything.
fn parent_in_stat(line: &[u8]) -> Option<i32> {
    let after_name = line.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&line[after_name..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat(b"12 (true) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat(b"12 (a) S 3 (b)) R 9 1"), Some(9));
        assert_eq!(parent_in_stat(b"12 (\xff)) R 9 1"), Some(9));
        assert_eq!(parent_in_stat(b""), None);
    }
}
