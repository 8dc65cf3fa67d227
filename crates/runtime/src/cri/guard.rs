//! The agent's side of the guard: starting it, feeding it, replacing it.
//!
//! Owns: the folder of locks, the lease cell. Does not own: what the guard does (`guard_process`).
//!
//! A guard is of the agent that started it: a new agent starts its own, gives it the moment that the old one held, and then
//! ends the old one, so that there is no gap and after an upgrade no old code. A guard that was killed is replaced at once.

use super::cgroup::PodCgroups;
use super::guard_process::{ARMED, GUARD_NAME, KillRecord, LOCK_PREFIX};
use crate::lease_cell::LeaseCell;
use crate::shim::sys;
use crate::{Error, limits};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;

/// The guard of a runtime. It stays when this is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    cell: LeaseCell,
    record: KillRecord,
    /// An earlier agent's guard was alive, so that what runs was never without one.
    was_guarded: bool,
    /// Tells whoever looks after it that it is not needed any more.
    keeper: tokio::task::JoinHandle<()>,
}

/// Whether the guard of an earlier agent of this folder lives.
pub(super) fn is_there(directory: &Path) -> bool {
    OldGuard::find_all(directory).is_ok_and(|found| !found.is_empty())
}

/// Whether a guard lives on this host that guards the control groups of `cgroups`, of whatever folder. Looks at all processes
/// that are seen here. Blocks.
pub(super) fn guards(cgroups: &PodCgroups) -> bool {
    !find_guards(cgroups).is_empty()
}

/// Numbers and folders of the guards of these control groups.
fn find_guards(cgroups: &PodCgroups) -> Vec<(Pid, PathBuf)> {
    let argument = cgroups.to_argument();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let guards = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let is_guard =
            words.next() == Some(GUARD_NAME.as_bytes()) && words.next() == Some(argument.as_bytes());
        let folder = PathBuf::from(OsStr::from_bytes(words.next().filter(|_| is_guard)?));
        Some((Pid::from_raw(pid), folder))
    });
    guards.collect()
}

/// What is needed to start one.
struct Parts {
    program: PathBuf,
    directory: PathBuf,
    cgroups: PodCgroups,
    cell: OwnedFd,
    record: OwnedFd,
}

impl Guard {
    /// Starts one in place of any that an earlier agent of this folder left.
    pub async fn start(program: PathBuf, directory: &Path, cgroups: PodCgroups) -> Result<Guard, Error> {
        let failed = {
            let program = program.clone();
            move |action: &'static str| {
                let program = program.clone();
                move |source: io::Error| Error::Guard { program, action, source }
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make its folder"))?;
        let mut old = OldGuard::find_all(directory).map_err(failed("look for an earlier one"))?;
        // Of a folder that this one is a copy of: it would end what is started from now on.
        let groups = cgroups.clone();
        let others = tokio::task::spawn_blocking(move || find_guards(&groups)).await.unwrap_or_default();
        for (pid, folder) in others {
            if !old.iter().any(|known| known.pid == pid) {
                old.extend(OldGuard::find(pid, folder.join(format!("{LOCK_PREFIX}{pid}"))));
            }
        }
        // The latest: each is a moment that a server granted.
        let moment = old.iter().filter_map(|old| old.moment).max();
        let cell = LeaseCell::new(moment.unwrap_or(Duration::MAX))
            .map_err(|errno| failed("make the lease cell")(errno.into()))?;
        let record: File = memfd_create(c"stint-kills", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| failed("make the record of kills")(errno.into()))?
            .into();
        let record = KillRecord::new(record);
        let (first, last) = old.iter().filter_map(OldGuard::kills).max().unwrap_or((0, 0));
        record.set(first, last).map_err(failed("write the record of kills"))?;
        let clone = |descriptor: std::os::fd::BorrowedFd<'_>| {
            descriptor.try_clone_to_owned().map_err(failed("copy a descriptor"))
        };
        let parts = Parts {
            program,
            directory: directory.to_owned(),
            cgroups,
            cell: clone(cell.as_fd())?,
            record: clone(record.as_fd())?,
        };
        let link = parts.start().await?;
        for old in &old {
            old.end().await;
            // What it has killed while its successor was being started.
            if let (Some(earlier), known) = (old.kills(), record.get().unwrap_or((0, 0))) {
                let (first, last) = merged(earlier, known);
                record.set(first, last).map_err(failed("write the record of kills"))?;
            }
        }
        let keeper = tokio::spawn(keep(Arc::new(parts), link));
        Ok(Guard { cell, record, was_guarded: moment.is_some(), keeper })
    }

    /// Whether an earlier agent's guard was found alive.
    pub fn was_guarded(&self) -> bool {
        self.was_guarded
    }

    /// See [`Runtime::set_deadline`](crate::Runtime::set_deadline).
    pub fn set_deadline(&self, moment: Duration) {
        if moment == Duration::MAX {
            // Says nothing about what an earlier agent was granted.
            return;
        }
        if let Err(error) = self.cell.set(moment) {
            // Memory: can't fail while the process is sound. The guard kills at the old moment then.
            tracing::error!(%error, "the lease cell can't be written");
        }
    }

    /// The moment that was named last, if any was.
    pub fn deadline(&self) -> Option<Duration> {
        self.cell.get().filter(|moment| *moment != Duration::MAX)
    }

    /// Whether a container that ended by SIGKILL at this time was killed by a guard.
    pub fn has_killed_at(&self, finished_at: SystemTime) -> bool {
        let finished_at = finished_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let finished_at = u64::try_from(finished_at.as_millis()).unwrap_or(u64::MAX);
        let Some((first, last)) = self.record.get() else { return false };
        first > 0
            && finished_at >= first.saturating_sub(limits::FENCE_CLOCK_MS)
            && finished_at <= last.saturating_add(limits::FENCE_CLOCK_MS)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // With it goes the socket, whose end the guard sees.
        self.keeper.abort();
    }
}

impl Parts {
    /// Starts a guard; resolves when it holds its lock.
    async fn start(&self) -> Result<UnixStream, Error> {
        match self.try_start().await {
            Ok(link) => Ok(link),
            Err((action, source)) => Err(Error::Guard { program: self.program.clone(), action, source }),
        }
    }

    async fn try_start(&self) -> Result<UnixStream, (&'static str, io::Error)> {
        let failed = |action| move |error: io::Error| (action, error);
        let (ours, theirs) = UnixStream::pair().map_err(failed("make a socket pair"))?;
        let theirs = theirs.into_std().map_err(failed("prepare a socket"))?;
        // The guard writes its word whether or not anybody listens.
        theirs.set_nonblocking(false).map_err(failed("prepare a socket"))?;
        let copy = |descriptor: &OwnedFd| descriptor.try_clone().map(Stdio::from);
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg0(GUARD_NAME)
            .arg(self.cgroups.to_argument())
            .arg(&self.directory)
            .env_clear()
            .stdin(copy(&self.cell).map_err(failed("copy a descriptor"))?)
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(copy(&self.record).map_err(failed("copy a descriptor"))?);
        // Dropped at once: it outlives this process, and is reaped in the background if it does not.
        drop(command.spawn().map_err(failed("start it"))?);
        // With the command goes our copy of its end of the socket.
        drop(command);
        let mut ours = ours;
        let mut word = [0];
        let patience = Duration::from_millis(limits::GUARD_HELLO_MS);
        match tokio::time::timeout(patience, ours.read_exact(&mut word)).await {
            Err(_) => Err(("wait for it", io::ErrorKind::TimedOut.into())),
            Ok(Err(error)) => Err(("wait for it", error)),
            Ok(Ok(_)) if word == [ARMED] => Ok(ours),
            Ok(Ok(_)) => Err((
                "talk to it",
                io::Error::other("the program is no guard: its main must call maybe_run_shim first"),
            )),
        }
    }
}

/// Starts another guard whenever one is gone.
async fn keep(parts: Arc<Parts>, mut link: UnixStream) {
    loop {
        // It says nothing more: this is its end.
        let mut nothing = [0];
        let _ = link.read(&mut nothing).await;
        tracing::warn!("the guard of containers was killed; starting another");
        link = loop {
            match parts.start().await {
                Ok(link) => break link,
                Err(error) => {
                    tracing::error!(%error, "containers are without a guard");
                    tokio::time::sleep(Duration::from_millis(limits::GUARD_RESTART_MS)).await;
                }
            }
        };
    }
}

/// A guard that an earlier agent left.
struct OldGuard {
    pidfd: Option<OwnedFd>,
    pid: Pid,
    moment: Option<Duration>,
    record: Option<KillRecord>,
    lock: PathBuf,
}

/// First and last kill of two guards of one lease; 0 is none.
fn merged(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    let first = [one.0, other.0].into_iter().filter(|first| *first > 0).min().unwrap_or(0);
    (first, one.1.max(other.1))
}

impl OldGuard {
    /// Removes the locks of those that are gone.
    fn find_all(directory: &Path) -> io::Result<Vec<OldGuard>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if !path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(LOCK_PREFIX))
            {
                continue;
            }
            if !is_locked(&path)? {
                fs::remove_file(&path)?;
                continue;
            }
            let Some(pid) = fs::read_to_string(&path)?.trim().parse().ok().map(Pid::from_raw) else {
                continue;
            };
            let Some(guard) = OldGuard::find(pid, path) else { continue };
            // Still locked: the number was the guard's all the time.
            if is_locked(&guard.lock)? {
                found.push(guard);
            }
        }
        Ok(found)
    }

    /// None if there is no such process.
    fn find(pid: Pid, lock: PathBuf) -> Option<OldGuard> {
        let pidfd = match sys::pidfd_open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ESRCH) => return None,
            // Linux before 5.3.
            Err(_) => None,
        };
        let open = |number: u8| File::open(format!("/proc/{pid}/fd/{number}"));
        let moment = open(0).ok().and_then(|file| LeaseCell::from_descriptor(file.into()).get());
        let record = open(2).ok().map(KillRecord::new);
        Some(OldGuard { pidfd, pid, moment, record, lock })
    }

    /// Also when it has ended.
    fn kills(&self) -> Option<(u64, u64)> {
        self.record.as_ref()?.get()
    }

    /// Kills it, and waits a little for its end. It has nothing to put in order.
    async fn end(&self) {
        let result = match &self.pidfd {
            Some(pidfd) => sys::pidfd_kill(pidfd.as_fd()),
            None => nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL),
        };
        match result {
            Ok(()) | Err(Errno::ESRCH) => {
                let copy = self.pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
                if let Some(Ok(ended)) = copy.map(|pidfd| sys::watch(pidfd, Interest::READABLE)) {
                    let patience = Duration::from_millis(limits::KILL_CONFIRM_MS);
                    let _ = tokio::time::timeout(patience, ended.readable()).await;
                }
                drop(fs::remove_file(&self.lock));
            }
            Err(error) => tracing::warn!(%error, pid = self.pid.as_raw(), "an earlier guard can't be ended"),
        }
    }
}

fn is_locked(path: &Path) -> io::Result<bool> {
    match Flock::lock(File::open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_of_two_guards_are_one_story() {
        assert_eq!(merged((0, 0), (0, 0)), (0, 0));
        assert_eq!(merged((5, 9), (0, 0)), (5, 9));
        assert_eq!(merged((5, 9), (7, 8)), (5, 9));
        assert_eq!(merged((8, 12), (5, 9)), (5, 12));
    }
}
