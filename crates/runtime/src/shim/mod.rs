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
//! payload in a session of its own, forwards SIGTERM, reaps, and when the payload's main process has ended or the agent
//! asks for it, kills and reaps all the rest before it reports.
//!
//! What ends a tree: (1) the shim's own exit or death, as the kernel then kills its PID namespace; (2) the end of the
//! spawner, as the shim has PDEATHSIG on it, and of the agent, as the spawner has PDEATHSIG on the agent; (3) the end of the
//! shim's socket to the agent, which only the agent holds: it also closes the race between a start and PDEATHSIG; (4) the
//! *fence*: a moment at which the spawner ends by itself, unless the agent moves it, so that the containers of an agent that
//! is stopped do not outlive its lease.
//!
//! Without the right to make namespaces (*degraded*) the shim is a subreaper instead: whatever a payload orphans comes
//! back to it, and it kills its descendants until none is left. It has no PDEATHSIG, which would kill it before it has
//! done that, but sees the end of its socket. What is not covered: a shim that is itself killed from outside, and the fence.
//!
//! Invariants: no secret is ever in an argument list or in the spawner's environment; every descriptor but 0–2 is
//! closed on exec; the spawner and the shim have all signals blocked, a payload has none blocked or ignored.

mod payload;
mod spawner;
mod supervise;
pub(crate) mod sys;
pub(crate) mod wire;

use std::ffi::OsStr;

/// `argv[0]` of the spawner and its clones.
pub(crate) const SHIM_NAME: &str = "stint-shim";

/// Runs the shim and never returns, if this process was started as one; else returns at once.
///
/// To be called first thing in `main`, before anything that makes threads, opens descriptors or prints.
pub fn maybe_run_shim() {
    #[cfg(feature = "cri")]
    crate::cri::maybe_run_guard();
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(SHIM_NAME)) {
        return;
    }
    let mut number = || arguments.next().and_then(|text| text.to_str()?.parse::<u64>().ok());
    // Started by hand, there is nobody to talk to: the spawner finds that out by itself.
    let (agent_pid, force_degraded, open_files) = (number(), number() == Some(1), number());
    std::process::exit(spawner::run(agent_pid.unwrap_or(0), force_degraded, open_files));
}
