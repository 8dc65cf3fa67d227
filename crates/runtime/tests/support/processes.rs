//! Finding processes of containers from outside.

use std::sync::atomic::{AtomicU32, Ordering};

/// A number that no other process has in its arguments: for `sleep`, and to find it again.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 70_000 + NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// Processes that have a marker in their arguments; zombies have none.
pub fn alive(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes())).count()
}
