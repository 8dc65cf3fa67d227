//! The agent's side of the protocol: the real binary against a leader that does what a test tells it.

mod agent_process;
mod ends;
mod fake_leader;
mod leases;
mod logs;
mod orders;
