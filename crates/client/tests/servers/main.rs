//! The client against servers that answer as a script says, and against what no server should do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod calls;
mod fake;
mod hostile;
mod logs;
mod submits;
mod watches;
