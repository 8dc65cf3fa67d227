//! What people ask when they wonder: why does it not run, what became of it, what goes on.

mod bad_input;
mod drains;
mod screen;
mod stories;
mod terminal;

use std::time::Duration;

/// A slow machine, an election, a grace period together.
const SOON: Duration = Duration::from_secs(120);
