//! Stopping a process by SIGSTOP.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Stops a process, and returns when none of its threads runs any more: one of them has to get its turn to stop the others, and on a
/// busy machine those do a good deal until then.
pub fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_stopped(pid) {
        assert!(Instant::now() < deadline, "{pid} does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_stopped(pid: Pid) -> bool {
    let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    threads.all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}
