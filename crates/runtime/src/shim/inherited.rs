//! What a payload would have of the agent's own standing on its host, and must not.
//!
//! Owns: taking it back. Does not own: what a payload gets instead of rights and surroundings (`confine`), signals, descriptors,
//! umask and environment (`payload`, `spawner`).
//!
//! An agent is started as one of the host's own services: spared when memory runs out, perhaps first at the processors and the
//! disks. Its shims keep that, or the host would lose those that look after containers before the containers. What stays is
//! what an administrator uses to bound the whole node: the processors that the agent may use, which it counts as the node's,
//! and its limits of resources.

use super::sys;
use crate::limits;
use nix::sys::prctl;

/// This process's score, by which the kernel chooses what to kill when memory runs out.
const SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// Takes it back, in a copy of the shim that is on its way to become a payload and has none of the shim's descriptors any more.
///
/// What the kernel refuses an agent that is not root stays as it was: no start fails for it.
pub(super) fn give_up() {
    let score = limits::OOM_SCORE.to_string();
    if std::fs::write(SCORE_FILE, &score).is_err() {
        // Files of a process that nobody may look into are root's, and a copy of the shim is one.
        let _ = prctl::set_dumpable(true);
        let _ = std::fs::write(SCORE_FILE, &score);
        let _ = prctl::set_dumpable(false);
    }
    sys::be_scheduled_as_usual();
}
