//! The host's processes, as `/proc` lists them.
//!
//! Owns: the search for descendants, for shims that have no namespace. Does not own: when they are killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;

/// Sends SIGKILL to every descendant of a process.
pub(super) fn kill_descendants(ancestor: Pid) {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Gone since the folder was listed, if it can't be read.
        let Ok(status) = std::fs::read(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent_in_stat(&status) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut parents = vec![ancestor.as_raw()];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            // A child of ours keeps its id until we reap it. A deeper one could end, and its id be given to a stranger,
            // between the listing and this line: one more reason why this mode is called degraded.
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            parents.push(child);
        }
    }
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
