//! The processes that stand between the agent and a payload (A13).
//!
//! Owns: everything that runs under the name `stint-shim`, the wire between it and the agent, and all unsafe code of the
//! crate. Does not own: what the agent makes of it (`process`).
//!
//! ```text
//! agent ──► shim spawner ──► shim, one per container ──► payload and whatever it starts
//!           one per runtime,  init of its own PID namespace
//!           re-exec of the agent's binary
//! ```
//!
//! The agent is large and has many threads, so forking it is neither cheap nor safe. It is re-executed once, as a small
//! single-threaded *spawner*, which clones itself for each container: a clone shares its memory and costs a tenth of an
//! exec of the agent. The clone, the *shim*, is the init of a new PID namespace with its own `/proc`; it starts the
//! payload in a session of its own, writes its output to the log, forwards signals, reaps, runs further programs, and when
//! the payload's main process has ended or the agent asks for it, kills and reaps all the rest before it reports.
//!
//! It also keeps the other end of the payload's input, or of its terminal, for clients that come and go (`streams`).
//!
//! The spawner ends with its agent. A shim does not: it goes on, listens on a socket below the agent's data folder for the
//! next agent, and keeps what that has to know. What ends a tree: (1) the shim's own exit or death, as the kernel then kills
//! its PID namespace; (2) an agent that asks for it; (3) the *deadline*, which stands in memory that the agent shares with
//! all of its shims (`lease_cell`): whatever the agent does, its containers do not outlive its lease.
//!
//! Without the right to make namespaces (*degraded*) the shim is a subreaper instead: whatever a payload orphans comes
//! back to it, and it kills its descendants until none is left. What is not covered then: a shim that is itself killed or
//! stopped, also by a payload, which runs as the same user.
//!
//! Invariants: no secret is ever in an argument list or in the spawner's environment; every descriptor but 0–2 is
//! closed on exec; the spawner and the shim have all signals blocked, a payload has none blocked or ignored.

pub(crate) mod confine;
#[cfg(feature = "oci")]
mod container;
mod deadline;
mod execs;
mod inherited;
mod link;
pub(crate) mod messages;
mod output;
mod payload;
pub(crate) mod processes;
mod spawner;
mod streams;
mod supervise;
pub(crate) mod sys;
pub(crate) mod wire;

pub(crate) use confine::is_usable_target;
pub(crate) use deadline::now;
pub use sys::give_back_memory;

use std::ffi::OsStr;

/// `argv[0]` of the spawner and its clones.
pub(crate) const SHIM_NAME: &str = "stint-shim";

/// Runs the shim and never returns, if this process was started as one; else returns at once.
///
/// To be called first thing in `main`, before anything that makes threads, opens descriptors or prints.
pub fn maybe_run_shim() {
    #[cfg(feature = "cri")]
    {
        crate::cri::maybe_run_guard();
        crate::cri::maybe_run_relay();
    }
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(SHIM_NAME)) {
        return;
    }
    let mut number = || arguments.next().and_then(|text| text.to_str()?.parse::<u64>().ok());
    // Started by hand, there is nobody to talk to: the spawner finds that out by itself.
    let (agent_pid, force_degraded, open_files) = (number(), number() == Some(1), number());
    std::process::exit(spawner::run(agent_pid.unwrap_or(0), force_degraded, open_files));
}
