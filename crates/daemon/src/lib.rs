//! What servers and agents have in common as processes: their settings, their log, their traces, their metrics and their health.
//!
//! Owns: putting flags, environment and file together; the log's form and its way out; that of traces; the port over which
//! metrics and health are read; what the system knows of the process. Does not own: which settings a server or an agent has, what
//! they log, trace and measure.
//!
//! Invariants: whoever logs or ends a span never waits; whoever reads metrics holds nothing up; there is no setting that is a flag
//! and not a key of the file and a variable.

mod arguments;
pub mod endpoint;
pub mod figures;
pub mod limits;
mod log_output;
pub mod logging;
pub mod near;
mod process;
pub mod settings;
pub mod traces;

pub use arguments::{Discreet, LogFormat, ProcessArguments};
