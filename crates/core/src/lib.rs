//! The product: a deterministic state machine of Jobs, Pods and Nodes.
//!
//! Owns: `State`, `Command`, `State::apply`; the job controller, the scheduler, node lifecycle, timers, limits.
//! Does not own: IO, clocks, randomness, encodings (crate `raft`), leases in memory (crate `lease`).
//!
//! Invariants: `apply` is total (bad input is a typed rejection) and bounded (long work goes over several entries);
//! the same entries give the same replies, row changes and state on every server; every decision uses the entry's time.

pub mod command;
pub mod order;
pub mod record;
pub mod reply;
pub mod row;

pub use command::*;
pub use order::*;
pub use record::*;
pub use reply::*;
pub use row::*;
