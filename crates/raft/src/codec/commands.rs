//! Commands and the entry that carries them.
//!
//! Owns: their conversions. Does not own: the raft entry around them (module `raft`).

use super::convert::{FromWire, ToWire, enumeration, message};
use crate::error::CodecError;
use crate::wire;
use stint_core::{
    ClusterSettings, Command, CreateConfigMap, CreateJob, DeleteConfigMap, DeleteJob, DeletePod,
    DeletePropagation, Entry, ExpireNode, PlacementPolicy, PodKey, PodReport, PodReportKind, RegisterNode,
    ReportPods, UpdateConfigMap, UpdateJob,
};

message!(Entry { time, seed, commands });
message!(CreateJob { job, uid, request_id });
message!(UpdateJob { job, uid, resource_version });
message!(DeleteJob { namespace, name, uid, resource_version, propagation });
message!(CreateConfigMap { map, uid });
message!(UpdateConfigMap { map, uid, resource_version });
message!(DeleteConfigMap { namespace, name, uid, resource_version });
enumeration!(DeletePropagation { Background, Foreground, Orphan });
message!(DeletePod { namespace, name, uid, grace_period_seconds, key });
message!(PodKey { job, created_revision });
message!(RegisterNode {
    node,
    node_uid,
    boot_id,
    registration_number,
    nonce,
    previous_incarnation,
    cluster_id,
    unacknowledged_reports,
    running_pods,
    started_pods,
    capacity,
    labels,
    runtimes,
    conditions,
    agent_version,
});
message!(ReportPods { node, incarnation, reports });
message!(PodReport { pod, kind });
message!(ExpireNode { node, incarnation, term });
message!(ClusterSettings {
    cluster_id,
    node_lease_ms,
    placement_policy,
    event_retention_ms,
    highest_member_id
});
enumeration!(PlacementPolicy { Spread, Pack });

impl ToWire<wire::Command> for Command {
    fn to_wire(&self) -> wire::Command {
        use wire::command::Command as Kind;
        let command = match self {
            Command::CreateJob(create) => Kind::CreateJob(create.as_ref().to_wire()),
            Command::UpdateJob(update) => Kind::UpdateJob(update.as_ref().to_wire()),
            Command::DeleteJob(delete) => Kind::DeleteJob(delete.to_wire()),
            Command::DeletePod(delete) => Kind::DeletePod(delete.to_wire()),
            Command::RegisterNode(register) => Kind::RegisterNode(register.as_ref().to_wire()),
            Command::ReportPods(report) => Kind::ReportPods(report.to_wire()),
            Command::ExpireNode(expire) => Kind::ExpireNode(expire.to_wire()),
            Command::CordonNode { node, unschedulable } => {
                Kind::CordonNode(wire::CordonNode { node: node.to_wire(), unschedulable: *unschedulable })
            }
            Command::DrainNode { node } => Kind::DrainNode(wire::DrainNode { node: node.to_wire() }),
            Command::DeleteNode { node } => Kind::DeleteNode(wire::DeleteNode { node: node.to_wire() }),
            Command::Tick => Kind::Tick(wire::Tick {}),
            Command::Continue => Kind::ContinueWork(wire::Continue {}),
            Command::ReserveMemberId => Kind::ReserveMemberId(wire::ReserveMemberId {}),
            Command::SetClusterSettings(settings) => Kind::SetClusterSettings(settings.to_wire()),
            Command::CreateConfigMap(create) => Kind::CreateConfigMap(create.as_ref().to_wire()),
            Command::UpdateConfigMap(update) => Kind::UpdateConfigMap(update.as_ref().to_wire()),
            Command::DeleteConfigMap(delete) => Kind::DeleteConfigMap(delete.to_wire()),
        };
        wire::Command { command: Some(command) }
    }
}

impl FromWire<wire::Command> for Command {
    fn from_wire(wire: wire::Command) -> Result<Self, CodecError> {
        use wire::command::Command as Kind;
        Ok(match wire.command.ok_or_else(CodecError::missing)? {
            Kind::CreateJob(create) => Command::CreateJob(Box::new(FromWire::from_wire(create)?)),
            Kind::UpdateJob(update) => Command::UpdateJob(Box::new(FromWire::from_wire(update)?)),
            Kind::DeleteJob(delete) => Command::DeleteJob(FromWire::from_wire(delete)?),
            Kind::DeletePod(delete) => Command::DeletePod(FromWire::from_wire(delete)?),
            Kind::RegisterNode(register) => Command::RegisterNode(Box::new(FromWire::from_wire(register)?)),
            Kind::ReportPods(report) => Command::ReportPods(FromWire::from_wire(report)?),
            Kind::ExpireNode(expire) => Command::ExpireNode(FromWire::from_wire(expire)?),
            Kind::CordonNode(cordon) => Command::CordonNode {
                node: FromWire::from_wire(cordon.node)?,
                unschedulable: cordon.unschedulable,
            },
            Kind::DrainNode(drain) => Command::DrainNode { node: FromWire::from_wire(drain.node)? },
            Kind::DeleteNode(delete) => Command::DeleteNode { node: FromWire::from_wire(delete.node)? },
            Kind::Tick(wire::Tick {}) => Command::Tick,
            Kind::ContinueWork(wire::Continue {}) => Command::Continue,
            Kind::ReserveMemberId(wire::ReserveMemberId {}) => Command::ReserveMemberId,
            Kind::SetClusterSettings(settings) => Command::SetClusterSettings(FromWire::from_wire(settings)?),
            Kind::CreateConfigMap(create) => Command::CreateConfigMap(Box::new(FromWire::from_wire(create)?)),
            Kind::UpdateConfigMap(update) => Command::UpdateConfigMap(Box::new(FromWire::from_wire(update)?)),
            Kind::DeleteConfigMap(delete) => Command::DeleteConfigMap(FromWire::from_wire(delete)?),
        })
    }
}

impl ToWire<Option<wire::pod_report::Kind>> for PodReportKind {
    fn to_wire(&self) -> Option<wire::pod_report::Kind> {
        use wire::pod_report::Kind;
        Some(match self {
            PodReportKind::Running { restart_count, started_at } => Kind::Running(wire::PodRunning {
                restart_count: *restart_count,
                started_at: started_at.to_wire(),
            }),
            PodReportKind::ContainerExited { restart_count, termination } => {
                Kind::ContainerExited(wire::PodContainerExited {
                    restart_count: *restart_count,
                    termination: termination.to_wire(),
                })
            }
            PodReportKind::StartFailed { restart_count, termination } => {
                Kind::StartFailed(wire::PodContainerExited {
                    restart_count: *restart_count,
                    termination: termination.to_wire(),
                })
            }
            PodReportKind::NotStarted => Kind::NotStarted(wire::PodNotStarted {}),
            PodReportKind::LeaseExpired { termination } => Kind::LeaseExpired(termination.to_wire()),
        })
    }
}

impl FromWire<Option<wire::pod_report::Kind>> for PodReportKind {
    fn from_wire(wire: Option<wire::pod_report::Kind>) -> Result<Self, CodecError> {
        use wire::pod_report::Kind;
        Ok(match wire.ok_or_else(CodecError::missing)? {
            Kind::Running(running) => PodReportKind::Running {
                restart_count: running.restart_count,
                started_at: FromWire::from_wire(running.started_at)?,
            },
            Kind::ContainerExited(exited) => PodReportKind::ContainerExited {
                restart_count: exited.restart_count,
                termination: FromWire::from_wire(exited.termination)?,
            },
            Kind::StartFailed(failed) => PodReportKind::StartFailed {
                restart_count: failed.restart_count,
                termination: FromWire::from_wire(failed.termination)?,
            },
            Kind::NotStarted(wire::PodNotStarted {}) => PodReportKind::NotStarted,
            Kind::LeaseExpired(termination) => {
                PodReportKind::LeaseExpired { termination: FromWire::from_wire(termination)? }
            }
        })
    }
}
