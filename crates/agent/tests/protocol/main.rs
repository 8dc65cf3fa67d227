//! The agent's side of the protocol: the real binary against a leader that does what a test tells it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panics and tell figures"
)]

mod adoption;
mod agent_process;
mod channels;
mod conditions;
mod disk;
mod ends;
#[cfg(feature = "cri")]
mod engines;
mod fake_leader;
mod hosts;
mod leases;
#[cfg(feature = "archive")]
mod log_archive;
mod log_tails;
mod logs;
mod orders;
#[path = "../../../runtime/tests/support/stops.rs"]
mod stops;
mod whole_pods;
