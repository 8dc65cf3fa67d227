//! The Job object: spec as the user wrote it, status as the cluster sees it (job-semantics 1.1, 1.5).
//!
//! Owns: the types. Does not own: defaulting and validation (their own modules), behaviour (crate `core`).

use crate::ids::Timestamp;
use crate::meta::{ConditionStatus, LabelSelector, ObjectMeta};
use crate::pod::PodTemplateSpec;

/// A Job: a template of Pods and how many of them must succeed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    /// Name, labels, versions.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: JobSpec,
    /// What became of it; ignored in requests (M1).
    pub status: JobStatus,
}

/// What is asked of a Job. `None` means "not given"; defaulting fills in what Kubernetes fills in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobSpec {
    /// Most Pods running at once. Default 1. Mutable, also to 0 (J22).
    pub parallelism: Option<i32>,
    /// Pods that must succeed. Default 1 if parallelism is unset too; else unset: a work queue (J20).
    pub completions: Option<i32>,
    /// Seconds after start at which an unfinished Job fails with DeadlineExceeded (J63).
    pub active_deadline_seconds: Option<i64>,
    /// Failures beyond which the Job fails (J60). Default 6.
    pub backoff_limit: Option<i32>,
    /// The selector; generated (M2) and immutable. One given by the user must equal the generated one.
    pub selector: Option<LabelSelector>,
    /// Only `false` is accepted (D9).
    pub manual_selector: Option<bool>,
    /// What each Pod is made from.
    pub template: PodTemplateSpec,
    /// Seconds after its end at which the Job and its Pods are deleted (J121). Unset: never.
    pub ttl_seconds_after_finished: Option<i32>,
    /// NonIndexed (default) or Indexed.
    pub completion_mode: Option<CompletionMode>,
    /// True: no Pod runs (J100–J104).
    pub suspend: Option<bool>,
    /// When a replacement may start; always defaults to Failed (D3).
    pub pod_replacement_policy: Option<PodReplacementPolicy>,
    /// Who runs the Job; only unset or `kubernetes.io/job-controller` (D10).
    pub managed_by: Option<String>,
    /// First back-off delay in milliseconds (D4). Default 10,000.
    pub backoff_base_ms: Option<u64>,
    /// Longest back-off delay in milliseconds (D4). Default 600,000.
    pub backoff_cap_ms: Option<u64>,
}

/// How completions are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletionMode {
    /// Any success is as good as any other.
    NonIndexed,
    /// Each index from 0 to completions − 1 must succeed once.
    Indexed,
    /// What the user wrote is neither; refused by V7.
    Other(String),
}

impl CompletionMode {
    /// Kubernetes' text for it.
    pub fn as_str(&self) -> &str {
        match self {
            CompletionMode::NonIndexed => "NonIndexed",
            CompletionMode::Indexed => "Indexed",
            CompletionMode::Other(text) => text,
        }
    }
}

impl From<&str> for CompletionMode {
    fn from(text: &str) -> CompletionMode {
        match text {
            "NonIndexed" => CompletionMode::NonIndexed,
            "Indexed" => CompletionMode::Indexed,
            other => CompletionMode::Other(other.to_owned()),
        }
    }
}

/// When the replacement of a Pod may be created (D3, J27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodReplacementPolicy {
    /// Only when the old Pod is certainly dead.
    Failed,
    /// Also while the old Pod is still stopping.
    TerminatingOrFailed,
    /// What the user wrote is neither; refused by V20.
    Other(String),
}

impl PodReplacementPolicy {
    /// Kubernetes' text for it.
    pub fn as_str(&self) -> &str {
        match self {
            PodReplacementPolicy::Failed => "Failed",
            PodReplacementPolicy::TerminatingOrFailed => "TerminatingOrFailed",
            PodReplacementPolicy::Other(text) => text,
        }
    }
}

impl From<&str> for PodReplacementPolicy {
    fn from(text: &str) -> PodReplacementPolicy {
        match text {
            "Failed" => PodReplacementPolicy::Failed,
            "TerminatingOrFailed" => PodReplacementPolicy::TerminatingOrFailed,
            other => PodReplacementPolicy::Other(other.to_owned()),
        }
    }
}

/// What became of a Job (job-semantics 1.5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobStatus {
    /// In the order in which they came true.
    pub conditions: Vec<JobCondition>,
    /// When the Job was first seen unsuspended; cleared on suspend, set anew on resume (J101, J102).
    pub start_time: Option<Timestamp>,
    /// Only for a Complete Job (J92).
    pub completion_time: Option<Timestamp>,
    /// Pods Pending or Running that are not being deleted (J11).
    pub active: i32,
    /// Active Pods that are ready.
    pub ready: Option<i32>,
    /// Pods Pending or Running that are being deleted.
    pub terminating: Option<i32>,
    /// Pods that succeeded and were counted; for an Indexed Job the number of succeeded indexes (J15).
    pub succeeded: i32,
    /// Pods that failed and were counted.
    pub failed: i32,
    /// Indexed only: the succeeded indexes, such as `1,3-5,7`.
    pub completed_indexes: Option<String>,
}

/// One condition of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCondition {
    /// Which condition.
    pub condition_type: JobConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Equal to `last_transition_time`.
    pub last_probe_time: Timestamp,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// The conditions of a Job (J90, J100).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobConditionType {
    /// The Job is suspended.
    Suspended,
    /// The Job will complete once its last Pod has ended.
    SuccessCriteriaMet,
    /// The Job is complete; terminal.
    Complete,
    /// The Job will fail once its last Pod has ended.
    FailureTarget,
    /// The Job has failed; terminal.
    Failed,
}

impl JobConditionType {
    /// Kubernetes' text for it.
    pub fn as_str(self) -> &'static str {
        match self {
            JobConditionType::Suspended => "Suspended",
            JobConditionType::SuccessCriteriaMet => "SuccessCriteriaMet",
            JobConditionType::Complete => "Complete",
            JobConditionType::FailureTarget => "FailureTarget",
            JobConditionType::Failed => "Failed",
        }
    }
}
