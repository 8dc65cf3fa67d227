//! Leases and sessions between agents and servers, as pure state machines (rules A1–A14 of the agent protocol).
//!
//! Owns: the lease numbers, the leader's table of leases, the agent's view of its own lease, what an agent holds and does
//! about orders and desired sets. Does not own: clocks, messages, journals, Raft: whoever drives these machines gives them
//! the time and carries out their effects. The same code runs in production and under the model checker.
//!
//! Invariant (R6): an agent's deadline, `t_send + L − fence_margin`, comes before the leader's, `t_receive + L +
//! expiry_grace`, by more than the kill budget, as long as clock rates differ by at most 1,000 ppm.

mod agent_lease;
mod error;
mod held_pods;
pub mod limits;
mod numbers;
mod table;

pub use agent_lease::{AgentLease, LeaseState};
pub use error::Error;
pub use held_pods::{DesiredAction, DesiredPod, DesiredRun, HeldEffect, HeldPods};
pub use numbers::{BootInstant, LeaseNumbers};
pub use table::{HeartbeatRefusal, LeaseTable, RoundId, TableEffect};
