//! Commands and the entry that carries them.
//!
//! Owns: their conversions. Does not own: the raft entry around them (module `raft`).

use super::convert::{FromWire, ToWire, enumeration, message};
use crate::error::CodecError;
use crate::wire;
use stint_api::ContainerTermination;
use stint_core::{
    ClusterSettings, ClusterSettingsChange, Command, ContainerRun, CreateConfigMap, CreateJob,
    DeleteConfigMap, DeleteJob, DeletePod, DeletePropagation, Entry, ExpireNode, LogTail, PlacementPolicy,
    PodKey, PodReport, PodReportKind, RegisterNode, ReportNodeConditions, ReportPods, StoreLogTails,
    UpdateConfigMap, UpdateJob,
};

message!(Entry { time, seed, commands });
message!(CreateJob { job, uid, request_id, other_names });
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
    features,
    info,
});
message!(StoreLogTails { node, incarnation, tails });
message!(LogTail { pod, key, container, restart_count, first_offset, is_last, entries });
message!(ReportNodeConditions { node, incarnation, conditions });
message!(ReportPods { node, incarnation, reports });
message!(PodReport { pod, kind });
message!(ContainerRun { container, restart_count });
message!(ExpireNode { node, incarnation, term });
message!(ClusterSettings {
    cluster_id,
    node_lease_ms,
    placement_policy,
    event_retention_ms,
    highest_member_id,
    default_runtime,
    ended_pods_max,
});
message!(ClusterSettingsChange { placement_policy, event_retention_ms, default_runtime, ended_pods_max });
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
            Command::ReportNodeConditions(report) => Kind::ReportNodeConditions(report.to_wire()),
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
            Command::ChangeClusterSettings(change) => Kind::ChangeClusterSettings(change.to_wire()),
            Command::CreateConfigMap(create) => Kind::CreateConfigMap(create.as_ref().to_wire()),
            Command::UpdateConfigMap(update) => Kind::UpdateConfigMap(update.as_ref().to_wire()),
            Command::DeleteConfigMap(delete) => Kind::DeleteConfigMap(delete.to_wire()),
            Command::StoreLogTails(store) => Kind::StoreLogTails(store.to_wire()),
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
            Kind::ReportNodeConditions(report) => Command::ReportNodeConditions(FromWire::from_wire(report)?),
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
            Kind::ChangeClusterSettings(change) => {
                Command::ChangeClusterSettings(FromWire::from_wire(change)?)
            }
            Kind::CreateConfigMap(create) => Command::CreateConfigMap(Box::new(FromWire::from_wire(create)?)),
            Kind::UpdateConfigMap(update) => Command::UpdateConfigMap(Box::new(FromWire::from_wire(update)?)),
            Kind::DeleteConfigMap(delete) => Command::DeleteConfigMap(FromWire::from_wire(delete)?),
            Kind::StoreLogTails(store) => Command::StoreLogTails(FromWire::from_wire(store)?),
        })
    }
}

impl ToWire<Option<wire::pod_report::Kind>> for PodReportKind {
    fn to_wire(&self) -> Option<wire::pod_report::Kind> {
        use wire::pod_report::Kind;
        let exited = |run: &ContainerRun, termination: &ContainerTermination| wire::PodContainerExited {
            run: run.to_wire(),
            termination: termination.to_wire(),
        };
        Some(match self {
            PodReportKind::Running { run, started_at, container_id, image_id, pod_addresses } => {
                Kind::Running(wire::PodRunning {
                    run: run.to_wire(),
                    started_at: started_at.to_wire(),
                    container_id: container_id.to_wire(),
                    image_id: image_id.to_wire(),
                    pod_addresses: pod_addresses.to_wire(),
                })
            }
            PodReportKind::ContainerExited { run, termination } => {
                Kind::ContainerExited(exited(run, termination))
            }
            PodReportKind::StartFailed { run, termination } => Kind::StartFailed(exited(run, termination)),
            PodReportKind::NotStarted { run } => Kind::NotStarted(wire::PodNotStarted { run: run.to_wire() }),
            PodReportKind::LeaseExpired { run, termination } => {
                Kind::LeaseExpired(wire::PodContainerExited {
                    run: run.to_wire(),
                    termination: termination.to_wire(),
                })
            }
            PodReportKind::Waiting { run, reason, message } => Kind::Waiting(wire::PodWaiting {
                run: run.to_wire(),
                reason: reason.to_wire(),
                message: message.to_wire(),
            }),
            PodReportKind::Readiness { run, started, ready } => {
                Kind::Readiness(wire::PodReadiness { run: run.to_wire(), started: *started, ready: *ready })
            }
            PodReportKind::Notice { event_type, reason, message, count } => Kind::Notice(wire::PodNotice {
                event_type: event_type.to_wire(),
                reason: reason.to_wire(),
                message: message.to_wire(),
                count: *count,
            }),
            PodReportKind::PodFailed { reason, message, ended } => Kind::PodFailed(wire::PodFailed {
                reason: reason.to_wire(),
                message: message.to_wire(),
                ended: ended.iter().map(|(run, termination)| exited(run, termination)).collect(),
            }),
        })
    }
}

impl FromWire<Option<wire::pod_report::Kind>> for PodReportKind {
    fn from_wire(wire: Option<wire::pod_report::Kind>) -> Result<Self, CodecError> {
        use wire::pod_report::Kind;
        Ok(match wire.ok_or_else(CodecError::missing)? {
            Kind::Running(running) => PodReportKind::Running {
                run: FromWire::from_wire(running.run)?,
                started_at: FromWire::from_wire(running.started_at)?,
                container_id: running.container_id,
                image_id: running.image_id,
                pod_addresses: running.pod_addresses,
            },
            Kind::ContainerExited(exited) => PodReportKind::ContainerExited {
                run: FromWire::from_wire(exited.run)?,
                termination: FromWire::from_wire(exited.termination)?,
            },
            Kind::StartFailed(failed) => PodReportKind::StartFailed {
                run: FromWire::from_wire(failed.run)?,
                termination: FromWire::from_wire(failed.termination)?,
            },
            Kind::NotStarted(wire::PodNotStarted { run }) => {
                PodReportKind::NotStarted { run: FromWire::from_wire(run)? }
            }
            Kind::LeaseExpired(exited) => PodReportKind::LeaseExpired {
                run: FromWire::from_wire(exited.run)?,
                termination: FromWire::from_wire(exited.termination)?,
            },
            Kind::Waiting(waiting) => PodReportKind::Waiting {
                run: FromWire::from_wire(waiting.run)?,
                reason: waiting.reason,
                message: waiting.message,
            },
            Kind::Readiness(readiness) => PodReportKind::Readiness {
                run: FromWire::from_wire(readiness.run)?,
                started: readiness.started,
                ready: readiness.ready,
            },
            Kind::Notice(notice) => PodReportKind::Notice {
                event_type: FromWire::from_wire(notice.event_type)?,
                reason: notice.reason,
                message: notice.message,
                count: notice.count,
            },
            Kind::PodFailed(wire::PodFailed { reason, message, ended }) => {
                let one = |exited: wire::PodContainerExited| -> Result<_, CodecError> {
                    Ok((FromWire::from_wire(exited.run)?, FromWire::from_wire(exited.termination)?))
                };
                let ended = ended.into_iter().map(one).collect::<Result<Vec<_>, CodecError>>()?;
                PodReportKind::PodFailed { reason, message, ended }
            }
        })
    }
}
