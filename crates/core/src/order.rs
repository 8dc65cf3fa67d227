//! What the state machine wants agents to do.
//!
//! Owns: orders as a speed-up (A9) and the desired set as the truth (A8). Does not own: sessions, delivery.

use std::sync::Arc;

use stint_api::{Incarnation, NodeName, PodUid, Revision};

/// A hint for one agent that its desired set has changed. May be lost, doubled or late; the desired set mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which node.
    pub node: NodeName,
    /// Which registration of it.
    pub incarnation: Incarnation,
    /// What it should hold of this Pod.
    pub desired: DesiredPod,
}

/// What an agent should hold of one Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPod {
    /// Which Pod.
    pub pod: PodUid,
    /// Revision of its binding.
    pub binding_revision: Revision,
    /// Whether it should run.
    pub action: DesiredAction,
}

/// See [`DesiredPod`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DesiredAction {
    /// Run it.
    Run {
        /// The containers that may run now.
        containers: Vec<DesiredContainer>,
    },
    /// SIGTERM, then SIGKILL after the grace that remains.
    Stop {
        /// Milliseconds from now.
        grace_ms: u64,
    },
}

/// Which run of a container is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredContainer {
    /// Its name.
    pub name: Arc<str>,
    /// 0 for the first run. The agent acts on a higher one than it has only (A8, A14).
    pub restart_count: u32,
    /// Milliseconds, from now, before that run may start.
    pub delay_ms: u64,
    /// That run is to stop, while the Pod goes on: milliseconds, from now, between SIGTERM and SIGKILL.
    pub stop_grace_ms: Option<u64>,
}
