//! The moment at which a shim kills its container, whatever its agent does (A13).
//!
//! Owns: the timer, and what it means when it fires. Does not own: the cell's bytes (`lease_cell`), killing.
//!
//! Nothing wakes a shim when the moment is put off: it looks at the cell when the moment that it knows has come, so a lease that
//! is renewed for hours costs one look per lease. A cell that names no moment, as that of an agent which has just adopted the
//! shim and has no lease yet, changes nothing: a moment that was known once stands until a later one is named.

use crate::lease_cell::LeaseCell;
use crate::limits;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A shim's deadline. Readable, as a descriptor, when it is to be looked at.
pub(super) struct Deadline {
    cell: LeaseCell,
    timer: TimerFd,
    /// The last moment that was named, by this cell or one before it.
    known: Option<Duration>,
}

impl Deadline {
    pub fn new(cell: LeaseCell) -> Result<Deadline, Errno> {
        // On this clock it fires in time also if the host slept.
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Deadline { cell, timer, known: None })
    }

    /// Another agent names the moments from now on.
    pub fn replace_cell(&mut self, cell: LeaseCell) {
        self.cell = cell;
    }

    /// True if it has passed. If not, the timer fires when it is to be looked at again.
    pub fn has_passed(&mut self) -> bool {
        let now = now();
        let named = self.cell.get();
        match named {
            Some(Duration::MAX) => {}
            // An agent that was killed in the midst of a write, or a clock that can't be read: what was known stands.
            None => {}
            Some(moment) => self.known = Some(moment),
        }
        let look_at = match self.known {
            Some(moment) if now >= moment => return true,
            Some(moment) => moment,
            None => next_look(),
        };
        self.arm(look_at);
        false
    }

    /// The moment from which an end that nobody has asked for is not kept any more, if it came now.
    pub fn keep_until(&self) -> Duration {
        let named = self.cell.get().filter(|moment| *moment != Duration::MAX).or(self.known);
        now().max(named.unwrap_or_default()).saturating_add(Duration::from_millis(limits::EXIT_KEPT_MS))
    }

    /// Does not fire any more until it is armed again.
    pub fn rest(&self) {
        let _ = self.timer.unset();
    }

    /// Fires at a moment, once.
    pub fn arm(&self, moment: Duration) {
        // Zero would mean never. A kernel that has given the timer takes any moment.
        let moment = TimeSpec::from_duration(moment.max(Duration::from_nanos(1)));
        let _ = self.timer.set(Expiration::OneShot(moment), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }
}

impl AsFd for Deadline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// When it is to be looked again for what nobody tells.
pub(super) fn next_look() -> Duration {
    now().saturating_add(Duration::from_millis(limits::DEADLINE_LOOK_MS))
}

/// CLOCK_BOOTTIME. Without a clock nothing may run: the end of time is after every deadline.
pub(crate) fn now() -> Duration {
    clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, poll};

    fn fires_within(deadline: &Deadline, milliseconds: u16) -> bool {
        let mut watched = [PollFd::new(deadline.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, milliseconds).unwrap() > 0
    }

    fn cell(moment: Duration) -> (LeaseCell, LeaseCell) {
        let cell = LeaseCell::new(moment).unwrap();
        let copy = LeaseCell::from_descriptor(cell.as_fd().try_clone_to_owned().unwrap());
        (cell, copy)
    }

    #[test]
    fn a13_a_moment_that_was_put_off_is_found_when_the_old_one_comes() {
        let (agents, shims) = cell(now() + Duration::from_secs(1));
        let mut deadline = Deadline::new(shims).unwrap();
        assert!(!deadline.has_passed());
        let later = now() + Duration::from_secs(4);
        agents.set(later).unwrap();
        assert!(fires_within(&deadline, 10_000));
        assert!(!deadline.has_passed(), "it was put off");
        assert!(fires_within(&deadline, 10_000));
        assert!(deadline.has_passed() && now() >= later);
    }

    #[test]
    fn a13_an_agent_that_names_nothing_changes_nothing() {
        let soon = now() + Duration::from_secs(1);
        let (_, shims) = cell(soon);
        let mut deadline = Deadline::new(shims).unwrap();
        assert!(!deadline.has_passed());
        deadline.replace_cell(cell(Duration::MAX).1);
        assert!(fires_within(&deadline, 10_000));
        assert!(deadline.has_passed());
        let (later, shims) = cell(Duration::MAX);
        deadline.replace_cell(shims);
        later.set(now() + Duration::from_secs(60)).unwrap();
        assert!(!deadline.has_passed());
        assert!(!fires_within(&deadline, 0));
    }

    #[test]
    fn without_any_deadline_it_never_passes() {
        let mut deadline = Deadline::new(cell(Duration::MAX).1).unwrap();
        assert!(!deadline.has_passed());
        assert!(!fires_within(&deadline, 0));
    }
}
