//! The Pod object and the template it is made from (job-semantics 1.6, P1–P6).
//!
//! Owns: the types. Does not own: which field is honoured, kept or refused (validation), behaviour (`core`), execution (`runtime`).

use crate::ids::{CompletionIndex, Revision, Timestamp};
use crate::meta::{ConditionStatus, ObjectMeta, StringMap};
use crate::quantity::Quantity;
use std::collections::BTreeMap;

/// Fields of a Pod that mean something inside Kubernetes alone: kept, shown, without effect (table 1.6).
pub const KEPT_POD_FIELDS: [&str; 14] = [
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
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

/// Such fields of a container.
pub const KEPT_CONTAINER_FIELDS: [&str; 2] = ["imagePullPolicy", "ports"];

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
    /// Exactly one for now.
    pub containers: Vec<Container>,
    /// `Never` or `OnFailure`; required (V16).
    pub restart_policy: Option<RestartPolicy>,
    /// Seconds from SIGTERM to SIGKILL. Default 30.
    pub termination_grace_period_seconds: Option<i64>,
    /// Labels that a node must carry.
    pub node_selector: StringMap,
    /// Higher goes first. Default 0.
    pub priority: Option<i32>,
    /// Fields that are stored and shown but have no effect, of [`KEPT_POD_FIELDS`]: name → JSON.
    pub kept_fields: BTreeMap<String, String>,
}

/// One program of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Unique within the Pod; a DNS label.
    pub name: String,
    /// Kept; not pulled by the process runtime.
    pub image: String,
    /// Program and first arguments; `$(VAR)` is expanded.
    pub command: Vec<String>,
    /// Further arguments; `$(VAR)` is expanded.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<EnvVar>,
    /// Working folder; empty: one of the Pod's own.
    pub working_dir: String,
    /// What the scheduler sets aside: `cpu`, `memory`.
    pub requests: BTreeMap<String, Quantity>,
    /// Kept; a limit without a request sets the request.
    pub limits: BTreeMap<String, Quantity>,
    /// Fields that are stored and shown but have no effect, of [`KEPT_CONTAINER_FIELDS`]: name → JSON.
    pub kept_fields: BTreeMap<String, String>,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; `$(VAR)` of earlier variables is expanded.
    pub value: String,
}

/// What happens when a container ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartPolicy {
    /// The Pod ends with it.
    Never,
    /// It is started again in place if it failed (A14, J61).
    OnFailure,
    /// Refused for Jobs (V16).
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// One per container.
    pub container_statuses: Vec<ContainerStatus>,
}

/// Phases of a Pod (P1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodPhase {
    /// Accepted; not yet started.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: String,
    /// What it does now.
    pub state: ContainerState,
    /// How its previous run ended.
    pub last_state: Option<ContainerState>,
    /// True while it runs.
    pub ready: bool,
    /// How often it was started again in place.
    pub restart_count: u32,
    /// As in the spec.
    pub image: String,
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
