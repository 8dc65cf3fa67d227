//! What agents say, as commands; what the state wants of them, as messages.
//!
//! Owns: the conversions between the agent's wire and the state machine's types. Does not own: what either means, nor the
//! conversions of objects (`stint-proto`).
//!
//! Invariant: total: whatever an agent sends is a value or an error that names the field.

use stint_api as api;
use stint_api::{ClusterId, Incarnation, NodeName, NodeUid, PodUid, Revision, Timestamp};
use stint_core::{
    ContainerRun, DesiredAction, DesiredContainer, DesiredPod, PodReport, PodReportKind, RegisterNode,
    Rejection, RejectionReason,
};
use stint_proto::limits::REPORTS_PER_MESSAGE_MAX;
use stint_proto::time::timestamp_from_wire;
use stint_proto::{ConversionError, uid_from_wire, uid_to_wire, v1};

use crate::limits::{
    AGENT_MESSAGE_BYTES_MAX, IMAGE_ID_BYTES_MAX, NODE_WORD_BYTES_MAX, NOT_READY_RETRY_MS, POD_ADDRESSES_MAX,
    PREVIOUS_LEASE_RETRY_MS,
};
use crate::pod_to_run::Resolved;

/// A registration as a command.
///
/// # Errors
/// Names the field that cannot be read.
pub fn registration(register: v1::Register) -> Result<RegisterNode, ConversionError> {
    let cluster_id = match register.cluster_id.is_empty() {
        true => None,
        false => Some(uid_from_wire::<ClusterId>("clusterId", &register.cluster_id)?),
    };
    Ok(RegisterNode {
        node: NodeName::new(&register.node_name),
        node_uid: uid_from_wire::<NodeUid>("nodeUid", &register.node_uid)?,
        boot_id: register.boot_id,
        registration_number: register.registration_number,
        nonce: register.nonce,
        previous_incarnation: Incarnation(register.previous_incarnation),
        cluster_id,
        unacknowledged_reports: register
            .unacknowledged_reports
            .into_iter()
            .map(pod_report)
            .collect::<Result<_, _>>()?,
        running_pods: pod_uids("runningPods", &register.running_pods)?,
        started_pods: pod_uids("startedPods", &register.started_pods)?,
        capacity: register.capacity.unwrap_or_default().into(),
        labels: register.labels,
        runtimes: register.runtimes,
        conditions: conditions(register.conditions)?,
        agent_version: register.agent_version,
        features: register.features,
        info: register.info.unwrap_or_default().into(),
    })
}

/// What an agent says of its node. When each has changed is not its to say.
///
/// # Errors
/// Names the field that cannot be read.
pub fn conditions(conditions: Vec<v1::NodeCondition>) -> Result<Vec<api::NodeCondition>, ConversionError> {
    let conditions = conditions.into_iter().map(|condition| {
        let mut condition = api::NodeCondition::try_from(condition)?;
        cut(&mut condition.message, AGENT_MESSAGE_BYTES_MAX);
        Ok(condition)
    });
    conditions.collect()
}

/// Reports and their numbers.
///
/// # Errors
/// Names the field that cannot be read, or the limit.
pub fn reports(reports: v1::Reports) -> Result<(Vec<u64>, Vec<PodReport>), ConversionError> {
    if reports.reports.len() > REPORTS_PER_MESSAGE_MAX {
        return Err(invalid(
            "reports",
            reports.reports.len(),
            format!("at most {REPORTS_PER_MESSAGE_MAX} in a message"),
        ));
    }
    let mut numbers = Vec::with_capacity(reports.reports.len());
    let mut converted = Vec::with_capacity(reports.reports.len());
    for report in reports.reports {
        let content = report.report.ok_or_else(|| required("reports.report"))?;
        numbers.push(report.seq);
        converted.push(pod_report(content)?);
    }
    Ok((numbers, converted))
}

/// Uids of Pods.
///
/// # Errors
/// If one has not 16 bytes.
pub fn pod_uids(field: &str, uids: &[prost::bytes::Bytes]) -> Result<Vec<PodUid>, ConversionError> {
    uids.iter().map(|uid| uid_from_wire(field, uid)).collect()
}

fn pod_report(report: v1::PodReport) -> Result<PodReport, ConversionError> {
    use v1::pod_report::Kind;
    let pod = uid_from_wire("podUid", &report.pod_uid)?;
    let kind = match report.kind.ok_or_else(|| required("kind"))? {
        Kind::Running(running) => PodReportKind::Running {
            run: run(running.container, running.restart_count),
            started_at: timestamp_from_wire("startedAt", running.started_at)?.unwrap_or(Timestamp(0)),
            container_id: shortened(running.container_id, NODE_WORD_BYTES_MAX),
            image_id: shortened(running.image_id, IMAGE_ID_BYTES_MAX),
            pod_addresses: addresses(running.pod_addresses),
        },
        Kind::Exited(exited) => PodReportKind::ContainerExited {
            run: run(exited.container, exited.restart_count),
            termination: termination(exited.termination)?,
        },
        Kind::StartFailed(exited) => PodReportKind::StartFailed {
            run: run(exited.container, exited.restart_count),
            termination: termination(exited.termination)?,
        },
        Kind::NotStarted(v1::NotStarted { container, restart_count }) => {
            PodReportKind::NotStarted { run: (!container.is_empty()).then(|| run(container, restart_count)) }
        }
        Kind::LeaseExpired(exited) => PodReportKind::LeaseExpired {
            run: run(exited.container, exited.restart_count),
            termination: exited.termination.map(|ended| termination(Some(ended))).transpose()?,
        },
        Kind::Waiting(waiting) => PodReportKind::Waiting {
            run: run(waiting.container, waiting.restart_count),
            reason: shortened(waiting.reason, NODE_WORD_BYTES_MAX),
            message: shortened(waiting.message, AGENT_MESSAGE_BYTES_MAX),
        },
        Kind::Readiness(readiness) => PodReportKind::Readiness {
            run: run(readiness.container, readiness.restart_count),
            started: readiness.started,
            ready: readiness.ready,
        },
        Kind::Notice(notice) => PodReportKind::Notice {
            event_type: match notice.r#type() {
                v1::EventType::Warning => api::EventType::Warning,
                v1::EventType::Normal | v1::EventType::Unspecified => api::EventType::Normal,
            },
            reason: shortened(notice.reason, NODE_WORD_BYTES_MAX),
            message: shortened(notice.message, AGENT_MESSAGE_BYTES_MAX),
            count: notice.count,
        },
        Kind::PodFailed(failed) => PodReportKind::PodFailed {
            reason: shortened(failed.reason, NODE_WORD_BYTES_MAX),
            message: shortened(failed.message, AGENT_MESSAGE_BYTES_MAX),
            ended: failed
                .ended
                .into_iter()
                .take(api::limits::CONTAINERS_MAX)
                .map(|one| -> Result<_, ConversionError> {
                    Ok((run(one.container, one.restart_count), termination(one.termination)?))
                })
                .collect::<Result<Vec<_>, ConversionError>>()?,
        },
    };
    Ok(PodReport { pod, kind })
}

/// What is no address is nothing that anybody could use.
fn addresses(given: Vec<String>) -> Vec<String> {
    let given = given.into_iter().filter(|address| address.parse::<std::net::IpAddr>().is_ok());
    given.take(POD_ADDRESSES_MAX).collect()
}

fn run(container: String, restart_count: u32) -> ContainerRun {
    ContainerRun { container: shortened(container, NODE_WORD_BYTES_MAX), restart_count }
}

/// What agents say goes into every server's log and memory.
fn shortened(mut text: String, bytes_max: usize) -> String {
    cut(&mut text, bytes_max);
    text
}

fn termination(
    termination: Option<v1::ContainerStateTerminated>,
) -> Result<api::ContainerTermination, ConversionError> {
    let mut termination: api::ContainerTermination =
        termination.ok_or_else(|| required("termination"))?.try_into()?;
    // They go into every server's log and memory.
    cut(&mut termination.reason, NODE_WORD_BYTES_MAX);
    cut(&mut termination.message, AGENT_MESSAGE_BYTES_MAX);
    Ok(termination)
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// What an agent should hold of a Pod. `pod` is what to run, for an agent that does not have it yet.
pub fn desired_pod(desired: &DesiredPod, pod: Option<Resolved>) -> v1::DesiredPod {
    let action = match &desired.action {
        DesiredAction::Run { containers } => v1::desired_pod::Action::Run(v1::RunPod {
            pod: pod.map(|resolved| pod_to_run(desired.pod, resolved)),
            containers: containers.iter().map(container_run).collect(),
        }),
        DesiredAction::Stop { grace_ms } => {
            v1::desired_pod::Action::Stop(v1::StopPod { grace_ms: *grace_ms })
        }
    };
    v1::DesiredPod {
        pod_uid: uid_to_wire(desired.pod),
        binding_revision: desired.binding_revision.0,
        action: Some(action),
    }
}

fn container_run(desired: &DesiredContainer) -> v1::ContainerRun {
    v1::ContainerRun {
        name: desired.name.to_string(),
        restart_count: desired.restart_count,
        delay_ms: desired.delay_ms,
        stop: desired.stop_grace_ms.is_some(),
        grace_ms: desired.stop_grace_ms.unwrap_or(0),
    }
}

fn pod_to_run(uid: PodUid, resolved: Resolved) -> v1::PodToRun {
    let Resolved { pod, volume_files, config_errors } = resolved;
    let grace_seconds = pod.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS);
    v1::PodToRun {
        uid: uid_to_wire(uid),
        namespace: pod.metadata.namespace,
        name: pod.metadata.name,
        termination_grace_period_ms: u64::try_from(grace_seconds).unwrap_or(0).saturating_mul(1_000),
        labels: pod.metadata.labels,
        runtime: pod.spec.runtime_class_name.clone().unwrap_or_default(),
        spec: Some(pod.spec.into()),
        annotations: pod.metadata.annotations,
        volume_files,
        config_errors,
    }
}

/// Kubernetes' default; defaulting has set it long before.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// Why a registration does not hold, for the agent.
pub fn refusal(rejection: &Rejection) -> v1::Refused {
    use v1::RefusalReason as Reason;
    let (reason, retry_after_ms) = match rejection.reason {
        RejectionReason::NodeNameTaken => (Reason::NodeNameTaken, PREVIOUS_LEASE_RETRY_MS),
        RejectionReason::StaleRegistration => (Reason::StaleRegistration, 0),
        RejectionReason::ClonedFolder => (Reason::ClonedFolder, 0),
        RejectionReason::PreviousLeaseAlive => (Reason::PreviousLeaseAlive, PREVIOUS_LEASE_RETRY_MS),
        RejectionReason::OtherCluster => (Reason::OtherCluster, 0),
        RejectionReason::StaleIncarnation => (Reason::StaleIncarnation, 0),
        RejectionReason::LimitExceeded => (Reason::LimitExceeded, PREVIOUS_LEASE_RETRY_MS),
        RejectionReason::FailedPrecondition => (Reason::NotReady, NOT_READY_RETRY_MS),
        // Another try can't help: what was sent is at fault.
        RejectionReason::Invalid
        | RejectionReason::NotFound
        | RejectionReason::AlreadyExists
        | RejectionReason::Conflict
        | RejectionReason::StaleTerm => (Reason::Invalid, 0),
    };
    v1::Refused { reason: reason.into(), message: rejection.message.clone(), retry_after_ms }
}

/// A registration whose fields cannot be read.
pub fn invalid_registration(failed: &ConversionError) -> v1::Refused {
    v1::Refused { reason: v1::RefusalReason::Invalid.into(), message: failed.to_string(), retry_after_ms: 0 }
}

/// One part of a desired set.
pub fn desired_set(
    revision: Revision,
    pods: Vec<v1::DesiredPod>,
    gone: &[PodUid],
    more: bool,
) -> v1::ServerMessage {
    message(v1::server_message::Message::DesiredSet(v1::DesiredSet {
        revision: revision.0,
        pods,
        gone_pods: gone.iter().map(|uid| uid_to_wire(*uid)).collect(),
        more,
    }))
}

/// Wraps a message to an agent.
pub fn message(message: v1::server_message::Message) -> v1::ServerMessage {
    v1::ServerMessage { message: Some(message) }
}

fn required(field: &str) -> ConversionError {
    ConversionError::Required { field: field.to_owned() }
}

fn invalid(field: &str, value: impl ToString, detail: String) -> ConversionError {
    ConversionError::Invalid { field: field.to_owned(), value: value.to_string(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_that_cannot_be_read_names_its_field() {
        let good = v1::Register {
            node_name: "w1".to_owned(),
            node_uid: vec![1; 16].into(),
            ..v1::Register::default()
        };
        assert!(registration(good.clone()).is_ok());
        let cases = [
            (v1::Register { node_uid: vec![1; 15].into(), ..good.clone() }, "nodeUid"),
            (v1::Register { cluster_id: vec![1; 3].into(), ..good.clone() }, "clusterId"),
            (v1::Register { running_pods: vec![vec![1; 17].into()], ..good.clone() }, "runningPods"),
            (v1::Register { started_pods: vec![vec![].into()], ..good.clone() }, "startedPods"),
            (v1::Register { unacknowledged_reports: vec![v1::PodReport::default()], ..good }, "podUid"),
        ];
        for (register, field) in cases {
            assert_eq!(registration(register).expect_err(field).field(), field);
        }
    }

    #[test]
    fn what_an_agent_says_of_an_end_is_cut() {
        let long = "ü".repeat(AGENT_MESSAGE_BYTES_MAX);
        let said = v1::ContainerStateTerminated {
            reason: long.clone(),
            message: long,
            ..v1::ContainerStateTerminated::default()
        };
        let kept = termination(Some(said)).expect("a termination");
        assert_eq!((kept.reason.len(), kept.message.len()), (NODE_WORD_BYTES_MAX, AGENT_MESSAGE_BYTES_MAX));
    }

    #[test]
    fn reports_are_bounded_and_whole() {
        let report = v1::SequencedReport { seq: 1, report: None };
        let many = v1::Reports { incarnation: 1, reports: vec![report.clone(); REPORTS_PER_MESSAGE_MAX + 1] };
        assert!(reports(many).is_err());
        assert!(reports(v1::Reports { incarnation: 1, reports: vec![report] }).is_err());
    }
}
