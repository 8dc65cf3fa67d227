//! One real process of a test: started, signalled, waited for, and ended when dropped.
//!
//! Owns: the child and the file that its output goes to. Does not own: what it runs.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::waiting::wait_until;

/// Path of one of the workspace's binaries, as built beside the running program or test.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its own path");
    // A test runs from `deps` below the folder of binaries, a program from that folder itself.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: cargo build --release -p stint -p stint-agent"))
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with stdin closed and its output appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let output: File =
            OpenOptions::new().create(true).append(true).open(log).expect("the log file can be made");
        let errors = output.try_clone().expect("a file can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        Process { child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the process is ours");
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// SIGTERM, and waits for the end; SIGKILL after the deadline.
    pub fn terminate(&mut self, deadline: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let ended = self.ended_within(deadline);
        if ended.is_none() {
            self.kill();
        }
        ended
    }

    /// Waits for the end.
    pub fn ended_within(&mut self, deadline: Duration) -> Option<ExitStatus> {
        wait_until(deadline, || self.child.try_wait().expect("the process is ours"))
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
