//! The Node object: a host whose agent has registered.
//!
//! Owns: the type. Does not own: leases (crate `lease`), registration rules (`core`).

use crate::ids::{Incarnation, Timestamp};
use crate::meta::{ConditionStatus, ObjectMeta};

/// Type of the condition of a node whose disk is nearly full: no new Pod goes there.
pub const DISK_PRESSURE: &str = "DiskPressure";

/// Type of the condition of a node that is short of memory: no new Pod goes there that asks for no amount of CPU or memory.
pub const MEMORY_PRESSURE: &str = "MemoryPressure";

/// Type of the condition of a node whose agent has ended in good order and left its Pods running: until the next one is there, no
/// new Pod goes there, which nobody would start.
pub const AGENT_STOPPED: &str = "AgentStopped";

/// Type of the condition of a node whose container engine can't be used: no new Pod goes there that it would run.
pub const ENGINE_UNAVAILABLE: &str = "EngineUnavailable";

/// A host that runs Pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Name, labels.
    pub metadata: ObjectMeta,
    /// Cordoned: no new Pod is bound to it.
    pub unschedulable: bool,
    /// What its agent offers.
    pub capacity: NodeCapacity,
    /// What unfinished Pods bound to it have requested.
    pub requested: NodeCapacity,
    /// `Ready` and what its agent reports of itself, such as `FencingDegraded`.
    pub conditions: Vec<NodeCondition>,
    /// Uid of the agent's data folder.
    pub node_uid: String,
    /// Id of the host's current boot.
    pub boot_id: String,
    /// The present registration; 0 once its lease has expired.
    pub incarnation: Incarnation,
    /// Names of the runtimes it offers, the default first: `process`, `cri`, `oci`.
    pub runtimes: Vec<String>,
    /// Version of the agent.
    pub agent_version: String,
    /// What its policy and its runtimes allow a Pod to ask for, in the words of [`NodeOffer`](crate::NodeOffer).
    pub features: Vec<String>,
    /// What kind of host it is.
    pub info: NodeInfo,
}

/// What kind of host a node is; for display only. What is empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeInfo {
    /// As the kernel reports it, such as `6.1.0-18-amd64`.
    pub kernel_version: String,
    /// Name of the distribution.
    pub os_image: String,
    /// Such as `linux`.
    pub operating_system: String,
    /// As Kubernetes calls it: `amd64`, `arm64`.
    pub architecture: String,
    /// Addresses of the host, the preferred one first.
    pub addresses: Vec<String>,
}

/// Amounts of what a node offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NodeCapacity {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Pods.
    pub pods: u32,
}

/// One condition of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCondition {
    /// Such as `Ready`.
    pub condition_type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// When the status last changed.
    pub last_transition_time: Option<Timestamp>,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}
