//! The product: a deterministic state machine of Jobs, Pods and Nodes.
//!
//! Owns: `State`, `Command`, `State::apply`; the job controller, the scheduler, node lifecycle, timers, limits.
//! Does not own: IO, clocks, randomness, encodings (crate `raft`), leases in memory (crate `lease`).
//!
//! Invariants: `apply` is total (bad input is a typed rejection) and bounded (long work goes over several entries);
//! the same entries give the same replies, row changes and state on every server; every decision uses the entry's time.
//!
//! For each committed entry: [`State::begin_entry`]; for each of its commands [`State::keys_needed`], reading those rows,
//! [`State::apply`]; then [`State::finish_entry`].

pub mod apply;
mod backoff;
pub mod command;
pub mod compose;
mod config_maps;
mod controller;
mod deletion;
mod draw;
pub mod error;
mod events;
pub mod explain;
mod hash;
pub mod history;
mod idempotency;
mod job_commands;
pub mod limits;
mod log_tails;
mod names;
mod node_conditions;
mod node_lifecycle;
pub mod order;
pub mod overview;
mod pod_reports;
mod pods;
mod progress;
pub mod record;
pub mod reply;
mod restore;
pub mod row;
mod scheduler;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timers;
mod traits;

pub use apply::{Applied, Ended, Finished};
pub use command::*;
pub use error::CoreError;
pub use order::*;
pub use record::*;
pub use reply::*;
pub use row::*;
pub use state::{State, StateCounts};
