//! Removing sandboxes, also those that their engine holds on to.
//!
//! Owns: how often it is tried, and what is done when that does not help. Does not own: when a sandbox is to go (`sandbox`,
//! `recovery`, `orphans`), containers that are removed before their Pod (`start`).
//!
//! When the agent that asked for a start dies, containerd gives the start up half way, and can lose sight of what its shim has
//! made until then. It refuses to remove such a container ("cannot delete running task") whether anything of it runs or not,
//! until it is restarted, or until the shim is gone: then it forgets whatever the shim had. A shim is of one Pod, of which nothing
//! is to run any more, so it is ended. It is the engine's process, not the Pod's, and so in none of the Pod's control groups.

use super::engine::{Engine, Refusal};
use crate::limits;
use crate::shim::sys;
use nix::libc;
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Removes a sandbox with its containers, of which nothing is to run any more. None of that id is a success.
///
/// # Errors
/// If the engine does not answer, or still refuses when all has been tried.
pub(super) async fn remove_sandbox(engine: &Engine, id: &str) -> Result<(), Refusal> {
    let Err(refusal) = try_to_remove(engine, id).await else { return Ok(()) };
    if refusal.is_silence() {
        return Err(refusal);
    }
    let sandbox = id.to_owned();
    let ended = tokio::task::spawn_blocking(move || end_shims(&sandbox)).await.unwrap_or_default();
    if ended == 0 {
        return Err(refusal);
    }
    tracing::warn!(
        sandbox = id,
        message = refusal.message,
        "the engine's shim of a pod is ended, as the engine can't remove it"
    );
    try_to_remove(engine, id).await
}

/// An engine that has not yet noticed that something was killed refuses to remove it.
async fn try_to_remove(engine: &Engine, id: &str) -> Result<(), Refusal> {
    let mut tries = 0;
    loop {
        match engine.remove_sandbox(id).await {
            Err(refusal) if !refusal.is_silence() && tries < limits::ENGINE_REMOVE_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(limits::ENGINE_RETRY_MS)).await;
            }
            other => return other,
        }
    }
}

/// Kills the shims that containerd has for a sandbox; how many there were. Blocks.
fn end_shims(sandbox_id: &str) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let shims = pids.filter_map(|pid| shim(pid, sandbox_id));
    shims.filter(|shim| sys::pidfd_signal(shim.as_fd(), libc::SIGKILL).is_ok()).count()
}

/// Opens a process, if it is a shim of a sandbox.
fn shim(pid: i32, sandbox_id: &str) -> Option<OwnedFd> {
    // First of all, so that the number is not another's when it is used.
    let pidfd = sys::pidfd_open(Pid::from_raw(pid)).ok()?;
    let is_ours = fs::metadata(format!("/proc/{pid}")).ok()?.uid() == geteuid().as_raw();
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    (is_ours && is_shim_of(&line, sandbox_id)).then_some(pidfd)
}

/// Whether a command line, as `/proc` shows it, is that of a shim of a sandbox.
fn is_shim_of(line: &[u8], sandbox_id: &str) -> bool {
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program = arguments.first().and_then(|program| program.rsplit(|byte| *byte == b'/').next());
    let is_shim = program.is_some_and(|program| program.starts_with(b"containerd-shim-"));
    let names_it = |pair: &[&[u8]]| matches!(pair, [b"-id", id] if *id == sandbox_id.as_bytes());
    is_shim && !sandbox_id.is_empty() && arguments.windows(2).any(names_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_the_sandbox_are_meant() {
        let is_meant = |words: &[&str]| is_shim_of(words.join("\0").as_bytes(), "abc");
        let usual = "/usr/bin/containerd-shim-runc-v2";
        assert!(is_meant(&[usual, "-namespace", "k8s.io", "-id", "abc", "-address", "/run/x", ""]));
        assert!(!is_meant(&[usual, "-namespace", "k8s.io", "-id", "abcd", ""]));
        assert!(!is_meant(&[usual, "-namespace", "abc", "-id", "def", ""]));
        assert!(!is_meant(&["sh", "-id", "abc", ""]));
        assert!(!is_meant(&["/x/containerd-shim-runc-v2/sh", "-id", "abc", ""]));
        assert!(!is_shim_of(format!("{usual}\0-id\0\0").as_bytes(), ""));
        assert_eq!(end_shims("of no sandbox"), 0);
    }
}
