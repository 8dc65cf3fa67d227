//! The agent on each host: leases Pods from the servers, runs them, reports their end.
//!
//! Owns: the session with the leader, the journal, the Pods of the node, what servers ask for: logs, commands in containers,
//! connections, usage, and what of logs is sent to the servers. Does not own: the rules of leases and orders (crate `lease`), how a container is run (crate
//! `runtime`), any decision about Jobs: whether a container starts again is said by the servers (A14).
//!
//! Invariants: nothing starts before it is in the journal, nor without a valid lease at that very moment (A9); when the
//! lease runs out everything is killed, without grace, whatever the disk, the network and the reader of the log do (A4);
//! a terminal report is kept until it was acknowledged (A8); what runs when an agent ends goes on under the lease that it had,
//! and the next agent of the folder takes it over, counting nothing twice (A13).
//!
//! A binary that starts an agent calls [`maybe_run_shim`] first thing in `main`.

mod arguments;
mod attach;
mod channels;
mod claim;
mod command_line;
mod config;
mod data_folder;
mod error;
mod exec;
mod folder_size;
mod host;
mod host_nodes;
mod journal;
mod journal_thread;
mod leftovers;
pub mod limits;
mod live_pods;
#[cfg(feature = "archive")]
mod log_archive;
#[cfg(not(feature = "archive"))]
#[path = "no_log_archive.rs"]
mod log_archive;
mod log_tails;
mod logs;
mod metrics;
mod node_conditions;
mod outbox;
mod pod;
mod port_forward;
mod runtimes;
mod session;
mod usage;
mod worker;

pub use arguments::{AgentArguments, PodArguments};
pub use command_line::{Asked, CommandLineError, agent_settings, read_command_line};
pub use config::{AgentConfig, RuntimeKind};
pub use error::Error;
pub use node_conditions::{FreeDiskMin, PressureThresholds};
pub use stint_runtime::maybe_run_shim;
pub use worker::Agent;
