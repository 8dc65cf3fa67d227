//! The life of one agent session at the leader (A2, A3, A8, A10).
//!
//! Owns: what each message of an agent sets off, and the order of it. Does not own: when a lease runs out (`leases`), what a
//! registration or a report changes (`stint-core`).
//!
//! Invariants: nothing is said as leader after leadership was lost, but that it was; reports of one agent are proposed in
//! the order in which they came, and acknowledged after apply; heartbeats never wait behind reports, sets or logs; whatever an
//! agent sends, what is kept of it is bounded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use stint_api::limits::{NODE_FEATURE_BYTES_MAX, NODE_FEATURES_MAX};
use stint_api::{Incarnation, NodeCondition, NodeName, NodeUid, PodUid, Revision};
use stint_core::{
    Command, DesiredAction, DesiredPod, PodRecord, RegisterNode, RejectionReason, Reply,
    ReportNodeConditions, ReportPods, TemplateRecord, compose,
};
use stint_proto::limits::{
    HELD_ENDED_PODS_MAX, PAGE_BYTES_MAX, REPORTS_IN_FLIGHT_MAX, REPORTS_PER_MESSAGE_MAX,
};
use stint_proto::v1;
use stint_proto::v1::agent_message::Message as FromAgent;
use stint_proto::v1::server_message::Message as ToAgent;
use stint_proto::{ErrorReason, uid_from_wire, uid_to_wire};
use stint_raft::RaftNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Status, Streaming};

use crate::agent_wire;
use crate::channels::ChannelPiece;
use crate::ended_pods::EndedPods;
use crate::error::{self, LeaderHint};
use crate::leases::Leases;
use crate::limits::{
    LOG_TAIL_MESSAGES_QUEUED, NODE_LABELS_MAX, NODE_WORD_BYTES_MAX, NODE_WORDS_MAX, OVERLOAD_RETRY_MS,
    SESSION_CONDITIONS_QUEUE, SESSION_FIRST_MESSAGE_MS, SESSION_HELD_QUEUE, SESSION_REPORTS_BYTES_MAX,
    SESSION_REPORTS_QUEUE,
};
use crate::log_tails::{self, LogTailIntake, LogTailMessage};
use crate::pod_to_run;
use crate::proposer::ProposalError;
use crate::services::Context;
use crate::sessions::{LogPiece, Outgoing, Session};

/// What sessions work with besides the services' context. Cheap to clone.
#[derive(Clone)]
pub struct SessionContext {
    /// What services work with.
    pub context: Context,
    /// Leases.
    pub leases: Leases,
    /// Which Pods are gone.
    pub ended_pods: Arc<EndedPods>,
    /// Tails of logs.
    pub log_tails: Arc<LogTailIntake>,
    /// Places for streams of agents.
    pub streams: Arc<Semaphore>,
}

/// What a registration or its resumption gave.
struct Opened {
    node: NodeName,
    registered: v1::Registered,
}

/// Serves one stream to its end. Everything that the agent hears goes through `out`.
pub async fn serve(parts: SessionContext, mut incoming: Streaming<v1::AgentMessage>, out: Outgoing) {
    let end = tokio::select! {
        end = run(&parts, &mut incoming, &out) => end,
        () = not_leading(&parts.context) => Err(error::not_leader(&parts.context.raft)),
        () = parts.context.stop.cancelled() => Err(error::stopping()),
        () = out.closed() => Ok(()),
    };
    if let Err(status) = end {
        if matches!(ErrorReason::of(&status), Some(ErrorReason::NotLeader | ErrorReason::NoLeader)) {
            let hint = LeaderHint::of(&parts.context.raft);
            let said = v1::NotLeader { leader_address: hint.address, leader_name: hint.name };
            out.say(ToAgent::NotLeader(said));
        }
        out.end(status);
    }
    out.finish();
}

/// Comes when this server does not lead, or leads in another term than now.
async fn not_leading(context: &Context) {
    let mut leadership = context.raft.leadership();
    let term = leadership.borrow().term;
    // An error means that replication has ended: nobody leads here then.
    let _ = leadership.wait_for(|now| !now.is_leader || !now.established || now.term != term).await;
}

async fn run(
    parts: &SessionContext,
    incoming: &mut Streaming<v1::AgentMessage>,
    out: &Outgoing,
) -> Result<(), Status> {
    let patience = Duration::from_millis(SESSION_FIRST_MESSAGE_MS);
    let first = match tokio::time::timeout(patience, incoming.message()).await {
        Ok(first) => first?.and_then(|message| message.message),
        Err(_) => return Err(error::read_timeout("the first message of the session")),
    };
    let opened = match first {
        Some(FromAgent::Register(register)) => register_node(parts, register).await?,
        Some(FromAgent::Resume(resume)) => resume_node(parts, resume).await?,
        Some(_) => return Err(error::bad_request("message", "the first message must be register or resume")),
        None => return Ok(()),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(refused) => {
            tracing::info!(reason = refused.reason, message = refused.message, "an agent was refused");
            out.say(ToAgent::Refused(refused));
            return Ok(());
        }
    };
    let incarnation = Incarnation(opened.registered.incarnation);
    let sessions = &parts.context.sessions;
    let first = ToAgent::Registered(opened.registered);
    // Ends with this scope, also if the caller stops waiting for it: that is how a lost leadership and a closed stream end it.
    let session = sessions.open(opened.node, incarnation, out.clone(), first)?;
    tracing::info!(node = %session.node, incarnation = incarnation.0, "agent session begins");
    let end = tokio::select! {
        end = listen(parts, incoming, &session) => end,
        () = session.ended.cancelled() => Ok(()),
    };
    tracing::info!(node = %session.node, incarnation = incarnation.0, "agent session ends");
    end
}

/// A2. The inner error is a refusal for the agent.
async fn register_node(
    parts: &SessionContext,
    register: v1::Register,
) -> Result<Result<Opened, v1::Refused>, Status> {
    let bytes = register.encoded_len();
    let command = match agent_wire::registration(register) {
        Ok(command) => command,
        Err(failed) => return Ok(Err(agent_wire::invalid_registration(&failed))),
    };
    if let Err(message) = check_registration(&command) {
        let reason = v1::RefusalReason::Invalid.into();
        return Ok(Err(v1::Refused { reason, message, retry_after_ms: 0 }));
    }
    let node = command.node.clone();
    let command = Command::RegisterNode(Box::new(command));
    let reply = parts.context.proposer.propose(command, bytes).await;
    match reply.map_err(|failed| error::not_proposed(&failed, &parts.context.raft))? {
        Reply::NodeRegistered { incarnation, cluster_id, node_lease_ms, revision } => {
            let holds = parts.context.raft.with_state(|state| {
                state.node(&node).is_some_and(|record| record.live && record.incarnation == incarnation)
            });
            // The answer to a registration that came before and has expired since (A2): nothing may run under it.
            if !holds {
                let message = format!(
                    "this registration of node {node} has expired already: register with a new number"
                );
                let reason = v1::RefusalReason::StaleRegistration.into();
                return Ok(Err(v1::Refused { reason, message, retry_after_ms: 0 }));
            }
            parts.leases.registered(node.clone(), incarnation).await;
            let registered = v1::Registered {
                incarnation: incarnation.0,
                node_lease_ms,
                cluster_id: uid_to_wire(cluster_id),
                revision: revision.0,
                server_addresses: server_addresses(&parts.context.raft),
                log_archive: log_archive(&parts.context),
            };
            Ok(Ok(Opened { node, registered }))
        }
        Reply::Rejected(rejection) => Ok(Err(agent_wire::refusal(&rejection))),
        reply => Err(error::internal("registering a node", &format!("unexpected reply {reply:?}"))),
    }
}

fn check_registration(command: &RegisterNode) -> Result<(), String> {
    stint_api::names::check_dns_subdomain(command.node.as_str())
        .map_err(|problem| format!("node name {:?}: {problem}", command.node.as_str()))?;
    let info = &command.info;
    check_conditions(&command.conditions)?;
    let words = [("boot id", &command.boot_id), ("agent version", &command.agent_version)]
        .into_iter()
        .chain(command.runtimes.iter().map(|runtime| ("runtime", runtime)))
        .chain([
            ("kernel version", &info.kernel_version),
            ("os image", &info.os_image),
            ("operating system", &info.operating_system),
            ("architecture", &info.architecture),
        ])
        .chain(info.addresses.iter().map(|address| ("address", address)));
    for (what, word) in words {
        check_word(what, word)?;
    }
    let long_feature = command.features.iter().find(|feature| feature.len() > NODE_FEATURE_BYTES_MAX);
    if let Some(feature) = long_feature {
        return Err(format!(
            "feature: {} bytes are more than {NODE_FEATURE_BYTES_MAX}: allow a folder above",
            feature.len()
        ));
    }
    for (what, found, most) in [
        ("labels", command.labels.len(), NODE_LABELS_MAX),
        ("runtimes", command.runtimes.len(), NODE_WORDS_MAX),
        ("features", command.features.len(), NODE_FEATURES_MAX),
        ("addresses", info.addresses.len(), NODE_WORDS_MAX),
    ] {
        if found > most {
            return Err(format!("{what}: {found} are more than {most}: give fewer"));
        }
    }
    for (key, value) in &command.labels {
        stint_api::names::check_qualified_name(key).map_err(|problem| format!("label {key:?}: {problem}"))?;
        stint_api::names::check_label_value(value)
            .map_err(|problem| format!("label {key}={value:?}: {problem}"))?;
    }
    Ok(())
}

fn check_conditions(conditions: &[NodeCondition]) -> Result<(), String> {
    if conditions.len() > NODE_WORDS_MAX {
        let found = conditions.len();
        return Err(format!("conditions: {found} are more than {NODE_WORDS_MAX}: give fewer"));
    }
    let words = conditions.iter().flat_map(|condition| [&condition.condition_type, &condition.reason]);
    words.into_iter().try_for_each(|word| check_word("condition", word))
}

fn check_word(what: &str, word: &str) -> Result<(), String> {
    match word.len() {
        bytes if bytes > NODE_WORD_BYTES_MAX => {
            Err(format!("{what}: {bytes} bytes are more than {NODE_WORD_BYTES_MAX}: shorten it"))
        }
        _ => Ok(()),
    }
}

async fn resume_node(
    parts: &SessionContext,
    resume: v1::Resume,
) -> Result<Result<Opened, v1::Refused>, Status> {
    let node_uid: NodeUid = match uid_from_wire("nodeUid", &resume.node_uid) {
        Ok(node_uid) => node_uid,
        Err(failed) => return Ok(Err(agent_wire::invalid_registration(&failed))),
    };
    parts.context.reads.confirm().await?;
    let node = NodeName::new(&resume.node_name);
    let incarnation = Incarnation(resume.incarnation);
    let (settings, holds) = parts.context.raft.with_state(|state| {
        let holds = state.node(&node).is_some_and(|record| {
            record.live && record.incarnation == incarnation && record.node_uid == node_uid
        });
        (state.settings().cloned(), holds)
    });
    let Some(settings) = settings else { return Err(error::not_leader(&parts.context.raft)) };
    let refused = |reason: v1::RefusalReason, message: String| {
        Ok(Err(v1::Refused { reason: reason.into(), message, retry_after_ms: 0 }))
    };
    if !resume.cluster_id.is_empty() && resume.cluster_id != uid_to_wire(settings.cluster_id) {
        let message =
            format!("this is cluster {}: drop what is kept of another one and register", settings.cluster_id);
        return refused(v1::RefusalReason::OtherCluster, message);
    }
    if !holds {
        let message = format!("incarnation {incarnation} of node {node} is over: register anew");
        return refused(v1::RefusalReason::StaleIncarnation, message);
    }
    let registered = v1::Registered {
        incarnation: incarnation.0,
        node_lease_ms: settings.node_lease_ms,
        cluster_id: uid_to_wire(settings.cluster_id),
        revision: incarnation.0,
        server_addresses: server_addresses(&parts.context.raft),
        log_archive: log_archive(&parts.context),
    };
    Ok(Ok(Opened { node, registered }))
}

/// Where logs go, as agents are told it.
fn log_archive(context: &Context) -> String {
    context.log_archive.as_ref().map(|archive| archive.url().to_owned()).unwrap_or_default()
}

/// Where agents reach the servers, the leader first.
pub fn server_addresses(raft: &RaftNode) -> Vec<String> {
    let status = raft.status();
    // One that was just restored has not told its address yet.
    let leader = status.leader.map(|leader| leader.client_address).filter(|address| !address.is_empty());
    let others = status.members.into_iter().map(|member| member.address);
    let mut addresses: Vec<String> = leader.iter().cloned().collect();
    addresses.extend(others.filter(|address| !address.is_empty() && Some(address) != leader.as_ref()));
    addresses
}

async fn listen(
    parts: &SessionContext,
    incoming: &mut Streaming<v1::AgentMessage>,
    session: &Arc<Session>,
) -> Result<(), Status> {
    let (reports, waiting_reports) = mpsc::channel(SESSION_REPORTS_QUEUE);
    let room = ReportsRoom::new();
    let (held, waiting_held) = mpsc::channel(SESSION_HELD_QUEUE);
    let (conditions, waiting_conditions) = mpsc::channel(SESSION_CONDITIONS_QUEUE);
    let (log_tails, waiting_log_tails) = mpsc::channel(LOG_TAIL_MESSAGES_QUEUED);
    let read = async {
        while let Some(message) = incoming.message().await? {
            match message.message {
                Some(FromAgent::Heartbeat(heartbeat))
                    if Incarnation(heartbeat.incarnation) == session.incarnation =>
                {
                    parts.leases.heartbeat(session, heartbeat.seq).await;
                }
                // Of another registration: an answer would renew the wrong one.
                Some(FromAgent::Heartbeat(_)) => {}
                Some(FromAgent::HeldPods(pods)) => {
                    // The agent asks again; an answer to an older question is as good.
                    let _ = held.try_send(pods);
                }
                Some(FromAgent::Reports(message)) => {
                    let place = room.take(&message)?;
                    reports.try_send((message, place)).map_err(|_| too_many_reports())?;
                }
                Some(FromAgent::LogChunk(chunk)) => {
                    session.take_log_piece(chunk.request_id, LogPiece::Chunk(chunk));
                }
                Some(FromAgent::LogEnd(end)) => session.take_log_piece(end.request_id, LogPiece::End(end)),
                Some(FromAgent::OrderCredits(credits)) => session.add_order_credits(credits.orders),
                Some(FromAgent::ChannelOpened(opened)) => {
                    session.channels.take(&session.node, opened.channel_id, ChannelPiece::Opened);
                }
                Some(FromAgent::ChannelOutput(output)) => {
                    session.channels.take(&session.node, output.channel_id, ChannelPiece::Output(output));
                }
                Some(FromAgent::ChannelCredit(credit)) => {
                    let piece = ChannelPiece::InputCredit(credit.bytes);
                    session.channels.take(&session.node, credit.channel_id, piece);
                }
                Some(FromAgent::ChannelEnd(end)) => {
                    session.channels.take(&session.node, end.channel_id, ChannelPiece::End(end));
                }
                // Without room it says the same again, or more than it may.
                Some(FromAgent::LogTailOffer(_)) => {
                    let _ = log_tails.try_send(LogTailMessage::Offer);
                }
                Some(FromAgent::LogTails(tails)) => {
                    let _ = log_tails.try_send(LogTailMessage::Tails(tails));
                }
                Some(FromAgent::NodeConditions(said)) => {
                    // Without room it says the same again, or what has become of it.
                    let _ = conditions.try_send(said);
                }
                Some(FromAgent::UsageAnswer(answer)) => session.usage_questions.answer(answer),
                Some(FromAgent::Register(_) | FromAgent::Resume(_)) => {
                    return Err(error::bad_request("message", "register and resume come first in a session"));
                }
                None => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        end = read => end,
        end = take_reports(parts, session, waiting_reports) => end,
        end = answer_held(parts, session, waiting_held) => end,
        end = take_conditions(parts, session, waiting_conditions) => end,
        end = log_tails::take(
            &parts.context, &parts.log_tails, &parts.ended_pods, session, waiting_log_tails,
        ) => end,
    }
}

/// What an agent may have without acknowledgement (A10).
struct ReportsRoom {
    reports: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Held until a message of reports is acknowledged.
type ReportsPlace = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl ReportsRoom {
    fn new() -> ReportsRoom {
        ReportsRoom {
            reports: Arc::new(Semaphore::new(REPORTS_IN_FLIGHT_MAX)),
            bytes: Arc::new(Semaphore::new(SESSION_REPORTS_BYTES_MAX)),
        }
    }

    fn take(&self, message: &v1::Reports) -> Result<ReportsPlace, Status> {
        let n_reports = message.reports.len();
        if n_reports > REPORTS_PER_MESSAGE_MAX {
            let message = format!("{n_reports} in a message are more than {REPORTS_PER_MESSAGE_MAX}");
            return Err(error::bad_request("reports", message));
        }
        let take = |room: &Arc<Semaphore>, places: usize| {
            let places = u32::try_from(places).unwrap_or(u32::MAX);
            Arc::clone(room).try_acquire_many_owned(places).map_err(|_| too_many_reports())
        };
        Ok((take(&self.reports, n_reports)?, take(&self.bytes, message.encoded_len())?))
    }
}

fn too_many_reports() -> Status {
    error::overloaded(format!(
        "more than {REPORTS_IN_FLIGHT_MAX} reports or {SESSION_REPORTS_BYTES_MAX} bytes of them are without acknowledgement"
    ))
}

/// A10: proposes reports one message after the other and acknowledges them.
async fn take_reports(
    parts: &SessionContext,
    session: &Arc<Session>,
    mut waiting: mpsc::Receiver<(v1::Reports, ReportsPlace)>,
) -> Result<(), Status> {
    while let Some((message, _place)) = waiting.recv().await {
        let bytes = message.encoded_len();
        let incarnation = Incarnation(message.incarnation);
        let (numbers, reports) = agent_wire::reports(message)?;
        if reports.is_empty() {
            continue;
        }
        let command = ReportPods { node: session.node.clone(), incarnation, reports };
        let accepted = loop {
            match parts.context.proposer.propose(Command::ReportPods(command.clone()), bytes).await {
                Ok(Reply::Reported { accepted }) => break accepted,
                Ok(Reply::Rejected(rejection)) if incarnation_is_over(rejection.reason) => {
                    session.send(ToAgent::Refused(v1::Refused {
                        reason: v1::RefusalReason::StaleIncarnation.into(),
                        message: rejection.message.clone(),
                        retry_after_ms: 0,
                    }));
                    return Err(error::rejected(&rejection));
                }
                Ok(Reply::Rejected(rejection)) => return Err(error::rejected(&rejection)),
                Ok(reply) => {
                    return Err(error::internal("taking reports", &format!("unexpected reply {reply:?}")));
                }
                // Not proposed: the same command may be proposed again.
                Err(ProposalError::QueueFull | ProposalError::NotProposed) => {
                    tokio::time::sleep(Duration::from_millis(OVERLOAD_RETRY_MS)).await;
                }
                // Reports are idempotent: the agent sends them again in its next session.
                Err(
                    failed @ (ProposalError::NotLeader | ProposalError::Unknown | ProposalError::Stopped),
                ) => {
                    return Err(error::not_proposed(&failed, &parts.context.raft));
                }
            }
        };
        let (mut counted, mut ignored) = (Vec::new(), Vec::new());
        for (position, number) in numbers.into_iter().enumerate() {
            let list =
                if accepted.get(position).copied().unwrap_or(false) { &mut counted } else { &mut ignored };
            list.push(number);
        }
        session.send(ToAgent::ReportAck(v1::ReportAck { counted, ignored }));
    }
    std::future::pending().await
}

/// Proposes what the node says of itself, and acknowledges it.
async fn take_conditions(
    parts: &SessionContext,
    session: &Arc<Session>,
    mut waiting: mpsc::Receiver<v1::NodeConditions>,
) -> Result<(), Status> {
    while let Some(said) = waiting.recv().await {
        if Incarnation(said.incarnation) != session.incarnation {
            continue;
        }
        let bytes = said.encoded_len();
        let conditions = agent_wire::conditions(said.conditions)?;
        check_conditions(&conditions).map_err(|message| error::bad_request("conditions", message))?;
        let report =
            ReportNodeConditions { node: session.node.clone(), incarnation: session.incarnation, conditions };
        match parts.context.proposer.propose(Command::ReportNodeConditions(report), bytes).await {
            Ok(Reply::Done { .. }) => {
                let number = said.number;
                session.send(ToAgent::NodeConditionsAck(v1::NodeConditionsAck { number }));
            }
            // Reports and desired sets tell the agent if its incarnation is over; else it says the same again.
            failed => {
                tracing::debug!(node = %session.node, ?failed, "conditions of a node were not taken");
            }
        }
    }
    std::future::pending().await
}

fn incarnation_is_over(reason: RejectionReason) -> bool {
    matches!(reason, RejectionReason::StaleIncarnation | RejectionReason::NotFound)
}

/// A8: answers what the agent holds with what it should hold.
async fn answer_held(
    parts: &SessionContext,
    session: &Arc<Session>,
    mut waiting: mpsc::Receiver<v1::HeldPods>,
) -> Result<(), Status> {
    while let Some(held) = waiting.recv().await {
        if Incarnation(held.incarnation) != session.incarnation {
            continue;
        }
        if held.ended_pods.len() > HELD_ENDED_PODS_MAX {
            let message = format!("at most {HELD_ENDED_PODS_MAX} Pods may be asked about at once");
            return Err(error::bad_request("endedPods", message));
        }
        let unfinished = agent_wire::pod_uids("unfinishedPods", &held.unfinished_pods)?;
        let ended = agent_wire::pod_uids("endedPods", &held.ended_pods)?;
        // Without a majority there is no answer; the agent asks again, and its session need not end for that.
        if let Err(failed) = parts.context.reads.confirm().await {
            tracing::debug!(node = %session.node, %failed, "a desired set could not be confirmed");
            continue;
        }
        let Some((revision, desired)) = desired_set(parts, session) else {
            session.send(ToAgent::Refused(v1::Refused {
                reason: v1::RefusalReason::StaleIncarnation.into(),
                message: format!("incarnation {} of node {} is over", session.incarnation, session.node),
                retry_after_ms: 0,
            }));
            return Err(error::refused(ErrorReason::Conflict, "the incarnation is over: register anew"));
        };
        let gone = parts.ended_pods.gone_among(&ended);
        let held: HashSet<PodUid> = unfinished.into_iter().collect();
        send_set(&parts.context.raft, session, revision, &desired, &held, &gone).await?;
    }
    std::future::pending().await
}

type Desired = Vec<(DesiredPod, Option<(Arc<PodRecord>, Arc<TemplateRecord>)>)>;

/// What the node should hold, as of a revision; None if the incarnation is over.
fn desired_set(parts: &SessionContext, session: &Session) -> Option<(Revision, Desired)> {
    parts.context.raft.with_state(|state| {
        let node = state.node(&session.node)?;
        if !node.live || node.incarnation != session.incarnation {
            return None;
        }
        let desired = state
            .desired_pods(&session.node)
            .into_iter()
            .map(|desired| {
                let wanted = matches!(desired.action, DesiredAction::Run { .. });
                let record = state.pod(&desired.pod).filter(|_| wanted).map(Arc::clone);
                let template = record.as_ref().and_then(|record| state.template(&record.job)).map(Arc::clone);
                (desired, record.zip(template))
            })
            .collect();
        Some((state.revision(), desired))
    })
}

async fn send_set(
    raft: &Arc<RaftNode>,
    session: &Session,
    revision: Revision,
    desired: &Desired,
    held: &HashSet<PodUid>,
    gone: &[PodUid],
) -> Result<(), Status> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    for (desired, records) in desired {
        // Composed one by one, and only for an agent that does not have it: sets are asked for again and again.
        let missing = records.as_ref().filter(|_| !held.contains(&desired.pod));
        let resolved = match missing {
            None => None,
            Some((record, template)) => {
                let pod = compose::pod(record, template, record.binding_revision);
                Some(pod_to_run::for_node(raft, pod).await?)
            }
        };
        let pod = agent_wire::desired_pod(desired, resolved);
        let pod_bytes = pod.encoded_len();
        if bytes + pod_bytes > PAGE_BYTES_MAX && !part.is_empty() {
            let full = std::mem::take(&mut part);
            bytes = 0;
            if !session.send_set(agent_wire::desired_set(revision, full, &[], true)).await {
                return Ok(());
            }
        }
        bytes += pod_bytes;
        part.push(pod);
    }
    session.send_set(agent_wire::desired_set(revision, part, gone, false)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(n_reports: usize, bytes_each: usize) -> v1::Reports {
        let report = v1::SequencedReport {
            seq: 1,
            report: Some(v1::PodReport { pod_uid: vec![1; bytes_each].into(), kind: None }),
        };
        v1::Reports { incarnation: 1, reports: vec![report; n_reports] }
    }

    #[test]
    fn a10_reports_without_acknowledgement_are_bounded_in_number_and_bytes() {
        let room = ReportsRoom::new();
        let mut places = Vec::new();
        for _ in 0..REPORTS_IN_FLIGHT_MAX / REPORTS_PER_MESSAGE_MAX {
            places.push(room.take(&reports(REPORTS_PER_MESSAGE_MAX, 16)).expect("room"));
        }
        let refused = room.take(&reports(1, 16)).expect_err("full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        // An acknowledgement makes room.
        places.pop();
        assert!(room.take(&reports(1, 16)).is_ok());
        assert_eq!(
            room.take(&reports(REPORTS_PER_MESSAGE_MAX + 1, 16)).expect_err("too many").code(),
            tonic::Code::InvalidArgument
        );
        let room = ReportsRoom::new();
        let large = reports(1, SESSION_REPORTS_BYTES_MAX / 2 + 1);
        let _first = room.take(&large).expect("room");
        assert!(room.take(&large).is_err());
    }
}
