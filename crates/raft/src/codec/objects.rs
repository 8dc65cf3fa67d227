//! Objects of crate `api` that commands and rows carry.
//!
//! Owns: their conversions, but for Pod templates (module `template`). Does not own: what the fields mean.

use super::convert::{FromWire, ToWire, enumeration, message, text};
use crate::error::CodecError;
use crate::wire;
use stint_api::{
    CompletionMode, ConditionStatus, ConfigMap, ContainerTermination, EventType, Job, JobCondition,
    JobConditionType, JobSpec, JobStatus, LabelOperator, LabelRequirement, LabelSelector, NodeCapacity,
    NodeCondition, NodeInfo, ObjectMeta, ObjectReference, OwnerReference, PodPhase, PodReplacementPolicy,
};

message!(ObjectMeta {
    name,
    generate_name,
    namespace,
    uid,
    labels,
    annotations,
    resource_version,
    generation,
    creation_timestamp,
    deletion_timestamp,
    deletion_grace_period_seconds,
    owner_references,
});
message!(OwnerReference { api_version, kind, name, uid, controller, block_owner_deletion });
enumeration!(ConditionStatus { True, False, Unknown });
message!(LabelSelector { match_labels, match_expressions });
message!(LabelRequirement { key, operator, values });
enumeration!(LabelOperator { In, NotIn, Exists, DoesNotExist });

message!(ConfigMap { metadata, data, binary_data, immutable });

message!(Job { metadata, spec, status });
message!(JobSpec {
    parallelism,
    completions,
    active_deadline_seconds,
    backoff_limit,
    selector,
    manual_selector,
    template,
    ttl_seconds_after_finished,
    completion_mode,
    suspend,
    pod_replacement_policy,
    managed_by,
    backoff_base_ms,
    backoff_cap_ms,
});
text!(CompletionMode);
text!(PodReplacementPolicy);
message!(JobStatus {
    conditions,
    start_time,
    completion_time,
    active,
    ready,
    terminating,
    succeeded,
    failed,
    completed_indexes,
});
message!(JobCondition { condition_type, status, last_probe_time, last_transition_time, reason, message });
enumeration!(JobConditionType { Suspended, SuccessCriteriaMet, Complete, FailureTarget, Failed });

enumeration!(PodPhase { Pending, Running, Succeeded, Failed });
message!(ContainerTermination { exit_code, signal, reason, message, started_at, finished_at });

message!(NodeInfo { kernel_version, os_image, operating_system, architecture, addresses });
message!(NodeCapacity { cpu_millis, memory_bytes, pods });
message!(NodeCondition { condition_type, status, last_transition_time, reason, message });
message!(ObjectReference { kind, namespace, name, uid });
enumeration!(EventType { Normal, Warning });
