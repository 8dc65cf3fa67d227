//! Named places at which a test can end the process.
//!
//! Owns: the names. Does not own: what is tested; without feature `failpoints` nothing here does anything.

/// The environment variable that names the place; with `name:N` the process ends when it is reached for the Nth time.
#[cfg(feature = "failpoints")]
pub const FAILPOINT_VARIABLE: &str = "STINT_STORAGE_ABORT_AT";

/// All places, in the order in which a snapshot install reaches them.
pub const FAILPOINTS: [&str; 9] = [
    "log.before_write",
    "log.after_write",
    "install.before_clear",
    "install.after_clear",
    "install.after_rows",
    "install.before_flip",
    "install.after_flip",
    "install.before_drop",
    "install.after_drop",
];

/// Ends the process without any cleaning up if a test asked for it here.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    debug_assert!(FAILPOINTS.contains(&name), "failpoint {name} is not listed");
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var(FAILPOINT_VARIABLE).ok()?;
        Some(match text.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    if let Some((wanted, count)) = wanted
        && wanted == name
        && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn failpoint(_name: &'static str) {}
