//! The Pod object and the template it is made from (job-semantics 1.6, P1–P6).
//!
//! Owns: the types. Does not own: which field is honoured, kept or refused (validation), behaviour (`core`), execution (`runtime`).

use crate::container::Container;
use crate::ids::{CompletionIndex, Revision, Timestamp};
use crate::meta::{ConditionStatus, ObjectMeta, StringMap};
use crate::security::PodSecurityContext;
use crate::volume::Volume;
use std::collections::BTreeMap;

/// Fields of a Pod that mean something inside Kubernetes alone: kept, shown, without effect (table 1.6).
pub const KEPT_POD_FIELDS: [&str; 13] = [
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "imagePullSecrets",
    "os",
    "overhead",
    "preemptionPolicy",
    "readinessGates",
    "schedulerName",
    "serviceAccount",
    "serviceAccountName",
    "setHostnameAsFQDN",
];

/// What may run a Pod: programs of the node as processes, containers of its engine, containers without one.
pub const RUNTIME_CLASSES: [&str; 3] = ["process", "cri", "oci"];

/// What a Job's Pods are made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodTemplateSpec {
    /// Labels of each Pod; the generated ones (M2) are added.
    pub labels: StringMap,
    /// Annotations of each Pod.
    pub annotations: StringMap,
    /// The Pod itself.
    pub spec: PodSpec,
}

/// What a Pod runs and where it may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodSpec {
    /// The programs; at least one.
    pub containers: Vec<Container>,
    /// Run before them, one after another; sidecars stay beside them (P7, P8).
    pub init_containers: Vec<Container>,
    /// Files that the containers share.
    pub volumes: Vec<Volume>,
    /// `Never` or `OnFailure`; required (V16).
    pub restart_policy: Option<RestartPolicy>,
    /// Seconds from SIGTERM to SIGKILL. Default 30.
    pub termination_grace_period_seconds: Option<i64>,
    /// Labels that a node must carry.
    pub node_selector: StringMap,
    /// Higher goes first. Default 0.
    pub priority: Option<i32>,
    /// Users and groups of its containers.
    pub security_context: Option<PodSecurityContext>,
    /// True: the network of the node; only where the node's policy allows it.
    pub host_network: bool,
    /// True: the processes of the node; only where the node's policy allows it.
    pub host_pid: bool,
    /// True: the System V IPC of the node; only where the node's policy allows it.
    pub host_ipc: bool,
    /// True: its containers see each other's processes.
    pub share_process_namespace: Option<bool>,
    /// What runs it: `process`, `cri` or `oci`; unset: the node's first.
    pub runtime_class_name: Option<String>,
    /// Its host name; unset: made of its name.
    pub hostname: Option<String>,
    /// Put behind the host name in the Pod's full name.
    pub subdomain: Option<String>,
    /// What its `/etc/hosts` says besides.
    pub host_aliases: Vec<HostAlias>,
    /// Fields that are stored and shown but have no effect, of [`KEPT_POD_FIELDS`]: name → JSON.
    pub kept_fields: BTreeMap<String, String>,
}

/// Names of a host, for a Pod's `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostAlias {
    /// Its address, IPv4 or IPv6.
    pub ip: String,
    /// What it is called.
    pub hostnames: Vec<String>,
}

/// What happens when a container ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartPolicy {
    /// The Pod ends with it.
    Never,
    /// It is started again in place if it failed (A14, J61).
    OnFailure,
    /// Refused for Jobs (V16); makes an init container a sidecar (P7).
    Always,
    /// What the user wrote is none of these; refused by V17.
    Other(String),
}

impl RestartPolicy {
    /// Kubernetes' text for it.
    pub fn as_str(&self) -> &str {
        match self {
            RestartPolicy::Never => "Never",
            RestartPolicy::OnFailure => "OnFailure",
            RestartPolicy::Always => "Always",
            RestartPolicy::Other(text) => text,
        }
    }
}

impl From<&str> for RestartPolicy {
    fn from(text: &str) -> RestartPolicy {
        match text {
            "Never" => RestartPolicy::Never,
            "OnFailure" => RestartPolicy::OnFailure,
            "Always" => RestartPolicy::Always,
            other => RestartPolicy::Other(other.to_owned()),
        }
    }
}

/// One execution of a Job's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Name, labels, owner.
    pub metadata: ObjectMeta,
    /// The template's spec, with what the Job adds (J31, D11).
    pub spec: PodSpec,
    /// The node it is bound to.
    pub node_name: Option<String>,
    /// For a Pod of an Indexed Job.
    pub completion_index: Option<CompletionIndex>,
    /// Revision of the binding: the fencing token (D11).
    pub binding_revision: Option<Revision>,
    /// Where it is in its life.
    pub status: PodStatus,
}

/// Where a Pod is in its life (P1–P4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodStatus {
    /// The phase.
    pub phase: PodPhase,
    /// `PodScheduled`, `Ready`, `DisruptionTarget`, …
    pub conditions: Vec<PodCondition>,
    /// Why it failed as a whole, such as `NodeLost`; else empty.
    pub reason: String,
    /// A sentence for people; else empty.
    pub message: String,
    /// When the agent first took it on.
    pub start_time: Option<Timestamp>,
    /// One per init container.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// One per container.
    pub container_statuses: Vec<ContainerStatus>,
    /// Address of its node; unset before it is bound.
    pub host_ip: Option<String>,
    /// Its own addresses, the preferred one first; the node's if it has the node's network. Empty before they are known.
    pub pod_ips: Vec<String>,
}

/// Phases of a Pod (P1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodPhase {
    /// Accepted; not yet started.
    #[default]
    Pending,
    /// Started on its node.
    Running,
    /// Ended with exit code 0; terminal.
    Succeeded,
    /// Ended otherwise; terminal.
    Failed,
}

impl PodPhase {
    /// Kubernetes' text for it.
    pub fn as_str(self) -> &'static str {
        match self {
            PodPhase::Pending => "Pending",
            PodPhase::Running => "Running",
            PodPhase::Succeeded => "Succeeded",
            PodPhase::Failed => "Failed",
        }
    }

    /// True for Succeeded and Failed.
    pub fn is_terminal(self) -> bool {
        matches!(self, PodPhase::Succeeded | PodPhase::Failed)
    }
}

/// One condition of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCondition {
    /// Such as `PodScheduled`.
    pub condition_type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// When the status last changed.
    pub last_transition_time: Option<Timestamp>,
    /// One CamelCase word or empty.
    pub reason: String,
    /// A sentence for people or empty.
    pub message: String,
}

/// State of one container of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: String,
    /// What it does now.
    pub state: ContainerState,
    /// How its previous run ended.
    pub last_state: Option<ContainerState>,
    /// True while it runs and its readiness probe, if any, succeeds.
    pub ready: bool,
    /// Whether it runs and its startup probe and `postStart`, if any, have succeeded; unset: not known.
    pub started: Option<bool>,
    /// How often it was started again in place.
    pub restart_count: u32,
    /// As in the spec.
    pub image: String,
    /// What the image turned out to be, such as a digest; empty: no image is used, or not known yet.
    pub image_id: String,
    /// Of its run, such as `containerd://…`; empty: none yet.
    pub container_id: String,
}

/// What a container does (P2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Not running yet, or not running again yet.
    Waiting {
        /// Such as `ContainerCreating`, `CrashLoopBackOff`.
        reason: String,
        /// A sentence for people or empty.
        message: String,
    },
    /// Running.
    Running {
        /// By the agent's clock; for display only.
        started_at: Option<Timestamp>,
    },
    /// Ended.
    Terminated(ContainerTermination),
}

impl Default for ContainerState {
    /// Waiting, for no reason that is known.
    fn default() -> ContainerState {
        ContainerState::Waiting { reason: String::new(), message: String::new() }
    }
}

/// How a container ended (P3, P5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerTermination {
    /// 0–255; 128 + n if signal n ended it.
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// `Completed`, `Error`, `StartError`, …
    pub reason: String,
    /// A sentence for people or empty.
    pub message: String,
    /// By the agent's clock; for display only.
    pub started_at: Option<Timestamp>,
    /// By the agent's clock; for display only.
    pub finished_at: Option<Timestamp>,
}
