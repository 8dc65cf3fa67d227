//! Records and the rows that hold them.
//!
//! Owns: conversions of row contents. Does not own: row keys (module `row_key`).

use super::convert::{FromWire, ToWire, enumeration, message};
use crate::error::CodecError;
use crate::wire;
use std::sync::Arc;
use stint_core::{
    ConfigMapRecord, ContainerRecord, ContainerRunState, DecisionRecord, EventRecord, HistoryRecord,
    JobRecord, JobSpecRecord, JobStatusRecord, LeftoverRecord, LogTailRecord, MetaRecord, NodeRecord,
    PodRecord, Row, StopReason, StoredRow, TemplateRecord, TombstoneRecord,
};

message!(StoredRow { revision, row });
message!(MetaRecord {
    machine_version,
    time,
    revision,
    applied_log_index,
    highest_member_id,
    settings,
    n_ended_pods,
    restored_at,
});
message!(JobRecord { uid, metadata, request_id, spec, status });
message!(JobSpecRecord {
    parallelism,
    completions,
    active_deadline_seconds,
    backoff_limit,
    ttl_seconds_after_finished,
    indexed,
    suspend,
    replace_terminating,
    backoff_base_ms,
    backoff_cap_ms,
    managed_by,
    manual_selector,
});
message!(JobStatusRecord {
    conditions,
    start_time,
    completion_time,
    active,
    ready,
    terminating,
    succeeded,
    failed,
    completed_indexes,
    consecutive_failures,
    backoff_until,
    deleting,
    next_pod_slot,
    avoid_node,
    avoid_pods,
    decisions,
});
message!(HistoryRecord { decisions });
message!(DecisionRecord { at, reason, message, pod, count });
message!(TemplateRecord { job, namespace, job_name, owned, indexed, template, leftover });
message!(LeftoverRecord { propagation, scanning, scanned_below, next_pod_slot });
message!(PodRecord {
    uid,
    job,
    created_revision,
    name,
    index,
    created_at,
    phase,
    node,
    binding_revision,
    bound_at,
    started_at,
    finished_at,
    deletion_at,
    deletion_grace_seconds,
    stop_reason,
    counted,
    containers,
    initialized_at,
    ready,
    ready_changed_at,
    sidecars_until,
    restarting_all,
    reason,
    message,
    disruption_reason,
    unschedulable_message,
    avoid_node,
    runtime,
    host_ip,
    pod_ips,
});
message!(ContainerRecord {
    state,
    restart_count,
    restart_at,
    restart_backoff_exponent,
    has_started,
    termination,
    previous_termination,
    container_id,
    image_id,
});
enumeration!(StopReason { ScaleDown, Suspend, JobFailed, JobSucceeded, Deleted, JobDeleted });
message!(NodeRecord {
    name,
    node_uid,
    created_at,
    boot_id,
    registration_number,
    nonce,
    incarnation,
    live,
    live_changed_at,
    unschedulable,
    capacity,
    labels,
    runtimes,
    conditions,
    agent_version,
    features,
    info,
});
message!(EventRecord { regarding, reason, event_type, source, message, count, first_at, last_at });
message!(ConfigMapRecord { uid, map });
message!(LogTailRecord { age, first_offset, is_last, entries });
message!(TombstoneRecord { namespace, name, request_id, uid, expires_at });

impl ToWire<Option<wire::ContainerRunState>> for ContainerRunState {
    fn to_wire(&self) -> Option<wire::ContainerRunState> {
        use wire::container_run_state::State;
        let state = match self {
            ContainerRunState::Blocked => State::Blocked(wire::ContainerBlocked {}),
            ContainerRunState::Waiting { reason, message } => State::Waiting(wire::ContainerWaiting {
                reason: reason.to_wire(),
                message: message.to_wire(),
            }),
            ContainerRunState::Running { since, started_at, started, ready } => {
                State::Running(wire::ContainerRunning {
                    since: since.to_wire(),
                    started_at: started_at.to_wire(),
                    started: *started,
                    ready: *ready,
                })
            }
            ContainerRunState::Ended => State::Ended(wire::ContainerEnded {}),
        };
        Some(wire::ContainerRunState { state: Some(state) })
    }
}

impl FromWire<Option<wire::ContainerRunState>> for ContainerRunState {
    fn from_wire(wire: Option<wire::ContainerRunState>) -> Result<Self, CodecError> {
        use wire::container_run_state::State;
        Ok(match wire.and_then(|wire| wire.state).ok_or_else(CodecError::missing)? {
            State::Blocked(wire::ContainerBlocked {}) => ContainerRunState::Blocked,
            State::Waiting(wire::ContainerWaiting { reason, message }) => {
                ContainerRunState::Waiting { reason, message }
            }
            State::Running(running) => ContainerRunState::Running {
                since: FromWire::from_wire(running.since)?,
                started_at: FromWire::from_wire(running.started_at)?,
                started: running.started,
                ready: running.ready,
            },
            State::Ended(wire::ContainerEnded {}) => ContainerRunState::Ended,
        })
    }
}

impl ToWire<Option<wire::stored_row::Row>> for Row {
    fn to_wire(&self) -> Option<wire::stored_row::Row> {
        use wire::stored_row::Row as Kind;
        Some(match self {
            Row::Meta(record) => Kind::Meta(record.as_ref().to_wire()),
            Row::Node(record) => Kind::Node(record.as_ref().to_wire()),
            Row::Job(record) => Kind::Job(record.as_ref().to_wire()),
            Row::Template(record) => Kind::Template(record.as_ref().to_wire()),
            Row::JobName(uid) => Kind::JobName(uid.to_wire()),
            Row::Pod(record) => Kind::Pod(record.as_ref().to_wire()),
            Row::PodName(key) => Kind::PodName(key.to_wire()),
            Row::Event(record) => Kind::Event(record.as_ref().to_wire()),
            Row::Tombstone(record) => Kind::Tombstone(record.as_ref().to_wire()),
            Row::ConfigMap(record) => Kind::ConfigMap(record.as_ref().to_wire()),
            Row::LogTail(record) => Kind::LogTail(record.as_ref().to_wire()),
            Row::History(record) => Kind::History(record.as_ref().to_wire()),
        })
    }
}

impl FromWire<Option<wire::stored_row::Row>> for Row {
    fn from_wire(wire: Option<wire::stored_row::Row>) -> Result<Self, CodecError> {
        use wire::stored_row::Row as Kind;
        Ok(match wire.ok_or_else(CodecError::missing)? {
            Kind::Meta(record) => Row::Meta(Arc::new(FromWire::from_wire(record)?)),
            Kind::Node(record) => Row::Node(Arc::new(FromWire::from_wire(record)?)),
            Kind::Job(record) => Row::Job(Arc::new(FromWire::from_wire(record)?)),
            Kind::Template(record) => Row::Template(Arc::new(FromWire::from_wire(record)?)),
            Kind::JobName(uid) => Row::JobName(FromWire::from_wire(uid)?),
            Kind::Pod(record) => Row::Pod(Arc::new(FromWire::from_wire(record)?)),
            Kind::PodName(key) => Row::PodName(FromWire::from_wire(key)?),
            Kind::Event(record) => Row::Event(Arc::new(FromWire::from_wire(record)?)),
            Kind::Tombstone(record) => Row::Tombstone(Arc::new(FromWire::from_wire(record)?)),
            Kind::ConfigMap(record) => Row::ConfigMap(Arc::new(FromWire::from_wire(record)?)),
            Kind::LogTail(record) => Row::LogTail(Arc::new(FromWire::from_wire(record)?)),
            Kind::History(record) => Row::History(Arc::new(FromWire::from_wire(record)?)),
        })
    }
}
