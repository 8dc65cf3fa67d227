//! The guard: a small process that outlives the agent and kills its Pods when their lease has run out (A13).
//!
//! Owns: everything that runs under the name `stint-guard`. Does not own: how the agent starts and replaces it (`guard`).
//!
//! Containers of an engine are not the agent's children, and the engine knows nothing of leases. So the guard holds the lease
//! cell and a timer on CLOCK_BOOTTIME. When the moment has come and the cell names no later one, everything below the agent's
//! parent control group is killed and left frozen, and so is all that appears there, until a later moment is named. That needs
//! neither the agent nor the engine to answer. Pods of a lease that ran out are not to run again, so nothing is ever thawed.
//!
//! It is single-threaded, talks to nobody, and blocks all signals. It ends by itself when the agent is gone, the moment has
//! passed, and no Pod has had a process for a while.

use super::cgroup::PodCgroups;
use crate::lease_cell::LeaseCell;
use crate::limits;
use crate::shim::sys;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use nix::unistd::{chdir, setsid};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// `argv[0]` of the guard.
pub(super) const GUARD_NAME: &str = "stint-guard";

/// Of the names of guards' locks; the rest is the process id.
pub(super) const LOCK_PREFIX: &str = "guard.";

/// What the guard says once when it holds the cell and the lock.
pub(super) const ARMED: u8 = b'!';

/// Runs the guard and never returns, if this process was started as one; else returns at once.
pub(crate) fn maybe_run_guard() {
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() == Some(OsStr::new(GUARD_NAME)) {
        std::process::exit(if run(arguments.collect()).is_ok() { 0 } else { 1 });
    }
}

/// When everything was killed last: shared with the agent, so that it knows whose kill it was (A12).
#[derive(Debug)]
pub(super) struct KillRecord {
    file: File,
}

impl KillRecord {
    pub fn new(file: File) -> KillRecord {
        KillRecord { file }
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Milliseconds since 1970 of the first and the last kill of the last time that the lease ran out.
    pub fn get(&self) -> Option<(u64, u64)> {
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (first, last) = bytes.split_at(8);
        Some((u64::from_ne_bytes(first.try_into().ok()?), u64::from_ne_bytes(last.try_into().ok()?)))
    }

    pub fn set(&self, first: u64, last: u64) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&first.to_ne_bytes());
        bytes[8..].copy_from_slice(&last.to_ne_bytes());
        self.file.write_all_at(&bytes, 0)
    }
}

/// Arguments: the control groups, the folder of locks. Descriptors: 0 the lease cell, 1 a socket of the agent, 2 the record.
fn run(arguments: Vec<OsString>) -> io::Result<()> {
    let [cgroups, directory] =
        <[OsString; 2]>::try_from(arguments).map_err(|_| io::ErrorKind::InvalidInput)?;
    let cgroups = cgroups.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let cgroups = PodCgroups::from_argument(cgroups)?;
    // Whatever the agent was started with: it would stay open for as long as any container runs.
    sys::close_descriptors_but(&[]);
    // A terminal's Ctrl-C is for the agent.
    let _ = setsid();
    block_signals()?;
    let _ = chdir("/");
    let _ = prctl::set_name(c"stint-guard");
    // Best effort: it needs a right that root may lack. Whoever makes the host run out of memory is not this process.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    let cell = LeaseCell::from_descriptor(io::stdin().as_fd().try_clone_to_owned()?);
    let record = KillRecord::new(io::stderr().as_fd().try_clone_to_owned()?.into());
    let agent = io::stdout();
    // For as long as it lives, the lock says so.
    let lock_path = PathBuf::from(directory).join(format!("{LOCK_PREFIX}{}", std::process::id()));
    let lock = lock_file(&lock_path)?;
    File::from(agent.as_fd().try_clone_to_owned()?).write_all(&[ARMED])?;
    Guard { cgroups: cgroups.clone(), cell, record }.watch(agent.as_fd())?;
    cgroups.remove_parent();
    fs::remove_file(lock_path)?;
    drop(lock);
    Ok(())
}

fn lock_file(path: &Path) -> io::Result<Flock<File>> {
    let mut file = File::create(path)?;
    write!(file, "{}", std::process::id())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

struct Guard {
    cgroups: PodCgroups,
    cell: LeaseCell,
    record: KillRecord,
}

impl Guard {
    fn watch(&self, agent: BorrowedFd<'_>) -> io::Result<()> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let mut kills = Kills::default();
        // Not looked at any more once it is gone, so that a closed socket does not wake it all the time.
        let mut agent_lives = true;
        loop {
            let now = now();
            // A cell that can't be read is an agent that must be taken for lost.
            let deadline = self.cell.get().unwrap_or(Duration::ZERO);
            let pause = if now >= deadline {
                let found = self.cgroups.condemn_all();
                kills.count(found, &self.record);
                if !agent_lives && self.cgroups.is_quiet() && kills.quiet_for() >= limits::GUARD_LINGER_MS {
                    return Ok(());
                }
                if found > 0 { limits::KILL_LOOP_PAUSE_MS } else { limits::GUARD_PASS_MS }
            } else if deadline == Duration::MAX {
                if !agent_lives && self.cgroups.is_quiet() {
                    return Ok(());
                }
                kills = Kills::default();
                limits::GUARD_LOOK_MS
            } else {
                kills = Kills::default();
                u64::try_from((deadline - now).as_millis()).unwrap_or(u64::MAX).saturating_add(1)
            };
            let wake_at = now.saturating_add(Duration::from_millis(pause));
            let wake_at = Expiration::OneShot(TimeSpec::from_duration(wake_at));
            timer.set(wake_at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            let mut watched = vec![PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
            if agent_lives {
                watched.push(PollFd::new(agent, PollFlags::POLLIN));
            }
            sys::retry(|| poll(&mut watched, PollTimeout::NONE))?;
            if watched.get(1).and_then(PollFd::any) == Some(true) {
                // The agent never writes: this is its end.
                agent_lives = false;
            }
            // Read, so that it does not stay readable.
            let mut fired = [0; 8];
            let _ = nix::unistd::read(timer.as_fd(), &mut fired);
        }
    }
}

/// What was killed since the lease ran out.
#[derive(Default)]
struct Kills {
    first: Option<u64>,
    last_found: Option<Duration>,
}

impl Kills {
    fn count(&mut self, found: usize, record: &KillRecord) {
        if self.last_found.is_none() {
            self.last_found = Some(now());
        }
        if found > 0 {
            self.last_found = Some(now());
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
            let first = *self.first.get_or_insert(wall);
            let _ = record.set(first, wall);
        }
    }

    /// Milliseconds since something was found, or since the moment came.
    fn quiet_for(&self) -> u64 {
        let since = self.last_found.map(|then| now().saturating_sub(then)).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Those that can be: what outlives the agent is ended by nothing that is meant for it.
pub(super) fn block_signals() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    Ok(())
}

/// CLOCK_BOOTTIME.
pub(super) fn now() -> Duration {
    match clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => time.into(),
        // Every Linux has this clock.
        Err(_) => Duration::MAX,
    }
}
