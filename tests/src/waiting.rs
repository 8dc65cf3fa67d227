//! Waiting with a deadline, and the clock that leases are measured by.
//!
//! Owns: polling. Does not own: what is waited for.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Waits until `condition` gives something; `None` after the deadline.
pub fn wait_until<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if begun.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until `condition` gives something.
///
/// # Panics
/// After the deadline, naming what was waited for.
pub fn eventually<T>(what: &str, deadline: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(deadline, condition).unwrap_or_else(|| panic!("not within {deadline:?}: {what}"))
}

/// CLOCK_BOOTTIME in milliseconds: the clock of leases, and of the stamps that test Pods write.
pub fn boot_time_ms() -> u64 {
    let time =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("the kernel has CLOCK_BOOTTIME");
    time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000
}
