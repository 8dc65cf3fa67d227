//! Shims of a node that nobody can reach any more: their sockets were removed, or are in a folder that this one is a copy of.
//!
//! Owns: finding them by what they say in their command line, and their end. Does not own: those that can be taken over
//! (`recover`).
//!
//! An agent tells of a run that it does not find as ended, and it is begun elsewhere at once: nothing of it may run then (R6).

use crate::limits;
use crate::shim::{SHIM_NAME, processes, sys};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::io::Interest;

/// Place in a shim's command line of the node that it is of.
const OWNER_AT: usize = 4;

/// Ends every shim of `owner` but these, and those of spawners of this process. Resolves when nothing of them is left.
///
/// # Errors
/// If one does not end in time.
pub(super) async fn end(owner: String, adopted: BTreeSet<i32>) -> io::Result<()> {
    let finding = tokio::task::spawn_blocking(move || find(&owner, &adopted));
    let strays = finding.await.map_err(|failure| io::Error::other(failure.to_string()))?;
    for (pid, shim) in strays {
        tracing::warn!(pid, "a shim of this node that can't be taken over is killed: its socket is not here");
        end_one(pid, shim).await?;
    }
    Ok(())
}

async fn end_one(pid: i32, shim: OwnedFd) -> io::Result<()> {
    // With a namespace all goes with the shim; without one, what it has started would go on without it.
    let below = tokio::task::spawn_blocking(move || kill_below(pid));
    drop(below.await);
    let _ = sys::pidfd_kill(shim.as_fd());
    let shim = sys::watch(shim, Interest::READABLE)?;
    match tokio::time::timeout(Duration::from_millis(limits::KILL_CONFIRM_MS), shim.readable()).await {
        Ok(ended) => ended.map(drop),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {pid} was killed and does not end")))
        }
    }
}

fn find(owner: &str, adopted: &BTreeSet<i32>) -> Vec<(i32, OwnedFd)> {
    let here = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = Vec::new();
    for pid in processes::pids().into_iter().filter(|pid| !adopted.contains(pid)) {
        // First of all, so that what is read is of the process that is opened.
        let Ok(shim) = sys::pidfd_open(Pid::from_raw(pid)) else { continue };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // A spawner is a child of its agent's, and a payload for a moment a copy of its shim.
        let is_ours = |parent: i32| parent == here || adopted.contains(&parent);
        if is_shim_of(&line, owner) && processes::parent_of(pid).is_some_and(|parent| !is_ours(parent)) {
            found.push((pid, shim));
        }
    }
    found
}

/// Kills all descendants of a process, until there are none or that has been tried for long enough.
fn kill_below(pid: i32) {
    let end = Instant::now() + Duration::from_millis(limits::KILL_CONFIRM_MS);
    while processes::kill_descendants(Pid::from_raw(pid)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(limits::KILL_LOOP_PAUSE_MS));
    }
}

/// Whether a command line, as `/proc` shows it, is that of a shim of this owner, or of its spawner.
fn is_shim_of(line: &[u8], owner: &str) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    words.next() == Some(SHIM_NAME.as_bytes()) && words.nth(OWNER_AT - 1) == Some(owner.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_the_owner_are_meant() {
        assert!(is_shim_of(b"stint-shim\x0017\x000\x001024\x00process/a\0", "process/a"));
        assert!(!is_shim_of(b"stint-shim\x0017\x000\x001024\x00process/ab\0", "process/a"));
        assert!(!is_shim_of(b"stint-shim\x0017\x000\x001024\0", "process/a"));
        assert!(!is_shim_of(b"sh\x0017\x000\x001024\x00process/a\0", "process/a"));
        assert!(!is_shim_of(b"", ""));
    }
}
