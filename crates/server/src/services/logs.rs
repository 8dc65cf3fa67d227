//! Pods.Logs: finds the log that is meant and passes it on from the agent that holds it (A15), or from where else it is kept.
//!
//! Owns: choosing Pod and run, waiting for a Pod to start, passing pieces on at the reader's pace. Does not own: the log files
//! (agents), the session they come over (`sessions`), what is kept elsewhere (`kept_logs`).
//!
//! Invariants: a log is named by Pod uid, container, run and offset, never by a path; a slow reader holds up its own log
//! only.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use stint_api::{ConditionStatus, JobConditionType, JobUid, NodeName, PodPhase, PodUid, Revision};
use stint_core::{
    ContainerRecord, ContainerRunState, PodKey, PodRecord, Row, RowKey, RowRange, TemplateRecord,
};
use stint_proto::time::timestamp_from_wire;
use stint_proto::{ErrorReason, uid_to_wire, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::error;
use crate::limits::{
    LIST_SCAN_CHUNK_ROWS, LOG_CHUNK_WAIT_MS, LOG_NODE_POLL_MS, LOG_NODE_WAIT_MS, LOG_WAIT_PAUSE_MS,
    WATCH_STREAM_BUFFER,
};
use crate::objects::{RowReader, namespace_of};
use crate::services::kept_logs::{self, KeptLog};
use crate::services::{Context, uid_of};
use crate::sessions::{LogPiece, LogReader};
use crate::watch::{ChangedObject, WatchEvent};

/// The stream of one log.
pub type LogStream = ReceiverStream<Result<v1::PodLogsChunk, Status>>;

/// Whose log, and which run's.
#[derive(Debug)]
pub struct Source {
    /// The node that the Pod was bound to.
    pub node: NodeName,
    /// The Pod.
    pub pod: PodUid,
    /// Its name.
    pub pod_name: String,
    /// The container.
    pub container: String,
    /// Where the container stands in the Pod's record.
    pub place: u32,
    /// Which run of it.
    pub restart_count: u32,
}

impl Source {
    /// The first message of a stream: whose log it is, and where it comes from.
    pub fn message(&self, origin: v1::LogOrigin) -> v1::PodLogsChunk {
        v1::PodLogsChunk {
            source: Some(v1::LogSource {
                pod_name: self.pod_name.clone(),
                pod_uid: self.pod.to_string(),
                container: self.container.clone(),
                restart_count: self.restart_count,
                node_name: self.node.to_string(),
                origin: origin.into(),
            }),
            ..v1::PodLogsChunk::default()
        }
    }
}

/// What was found of what is meant.
enum Found {
    Source(Box<Source>),
    /// Nothing has been started yet.
    NotYet {
        /// What is waited for, for people.
        message: String,
        /// The Job that must change for it.
        job: JobUid,
        /// The one Pod of it that must change; None: any.
        pod: Option<PodUid>,
    },
}

/// Begins to stream a log. What can't be shown is refused at once; a run that has not begun is waited for within the stream,
/// so that waiting looks to nobody like a server that does not answer.
///
/// # Errors
/// As `proto/stint/v1/pods.proto` says of Logs.
pub async fn stream(context: Context, request: v1::PodLogsRequest) -> Result<LogStream, Status> {
    check(&request)?;
    // Before waiting: who waits takes as much as who reads.
    let place = context.sessions.log_place()?;
    let cursor = context.watches.revision();
    let begin = match look(&context, &request, false).await? {
        Found::Source(source) => Begin::Reading(Box::new(open(&context, &request, place, *source).await?)),
        Found::NotYet { message, .. } if !request.follow => {
            return Err(error::refused(ErrorReason::FailedPrecondition, message));
        }
        Found::NotYet { job, pod, .. } => Begin::Waiting(place, job, pod),
    };
    let (sender, receiver) = mpsc::channel(WATCH_STREAM_BUFFER);
    tokio::spawn(async move {
        let stop = context.stop.clone();
        let all = async {
            let (reading, source) = match begin {
                Begin::Reading(reading) => *reading,
                Begin::Waiting(place, job, pod) => {
                    let source = wait_for_source(&context, &request, cursor, job, pod).await?;
                    open(&context, &request, place, source).await?
                }
            };
            let (why, failed) = match reading {
                Reading::Kept(kept, why) => return kept.pass_on(&request, &source, why, &sender).await,
                Reading::Node(reader) => match pass_on(reader, &source, request.follow, &sender).await {
                    Ok(()) => return Ok(()),
                    Err(NotPassedOn::Over(failed)) => return Err(failed),
                    Err(NotPassedOn::NotThere(why, failed)) => (why, failed),
                },
            };
            match kept_logs::find(&context, &source).await? {
                Some(kept) => kept.pass_on(&request, &source, why, &sender).await,
                None => Err(failed),
            }
        };
        let end = tokio::select! {
            end = all => end,
            () = stop.cancelled() => Err(error::stopping()),
            () = sender.closed() => Ok(()),
        };
        if let Err(status) = end {
            // A reader that is gone needs no end; one that does not read gets it when it reads on, or not at all.
            let _ = sender.try_send(Err(status));
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// How a stream begins.
enum Begin {
    /// There is something to read.
    Reading(Box<(Reading, Source)>),
    /// For a change of a Job, or of one Pod of it.
    Waiting(OwnedSemaphorePermit, JobUid, Option<PodUid>),
}

/// Where a log is read.
enum Reading {
    /// The agent was asked.
    Node(LogReader),
    /// What is kept elsewhere, and why.
    Kept(KeptLog, v1::LogCutReason),
}

/// Why a log was not passed on to its end.
enum NotPassedOn {
    /// Nothing was, since it is not to be had from the node: it may be kept elsewhere.
    NotThere(v1::LogCutReason, Status),
    /// For another reason, or a part of it was: the reader goes on with another request.
    Over(Status),
}

/// Asks the agent for the log, or finds what is kept of it elsewhere.
///
/// A node that has a lease and no session may be back in a moment: its agent is being restarted, or another server has just
/// begun to lead. Who follows the log waits for that, by asking again and again.
async fn open(
    context: &Context,
    request: &v1::PodLogsRequest,
    place: OwnedSemaphorePermit,
    source: Source,
) -> Result<(Reading, Source), Status> {
    let is_live =
        || context.raft.with_state(|state| state.node(&source.node).is_some_and(|record| record.live));
    let until = tokio::time::Instant::now() + Duration::from_millis(LOG_NODE_WAIT_MS);
    while !request.follow
        && context.sessions.of(&source.node).is_none()
        && is_live()
        && tokio::time::Instant::now() < until
    {
        tokio::time::sleep(Duration::from_millis(LOG_NODE_POLL_MS)).await;
    }
    if context.sessions.of(&source.node).is_some() {
        let reader = read(context, request, place, &source)?;
        return Ok((Reading::Node(reader), source));
    }
    let why = match is_live() {
        true if request.follow => return Err(error::node_unreachable(&source.node)),
        true => v1::LogCutReason::Unreachable,
        false => v1::LogCutReason::Lost,
    };
    match kept_logs::find(context, &source).await? {
        Some(kept) => Ok((Reading::Kept(kept, why), source)),
        None if why == v1::LogCutReason::Unreachable => Err(error::node_unreachable(&source.node)),
        None => Err(error::refused(
            ErrorReason::NotFound,
            format!(
                "node {} is lost, and no output of container {:?} of pod {:?} is kept elsewhere",
                source.node, source.container, source.pod_name
            ),
        )),
    }
}

/// Asks the agent for the log.
fn read(
    context: &Context,
    request: &v1::PodLogsRequest,
    place: OwnedSemaphorePermit,
    source: &Source,
) -> Result<LogReader, Status> {
    let (since_time, since_ms) = match request.since {
        Some(v1::pod_logs_request::Since::SinceTime(time)) => (Some(time), None),
        Some(v1::pod_logs_request::Since::SinceSeconds(seconds)) => {
            (None, Some(seconds.saturating_mul(1_000)))
        }
        None => (None, None),
    };
    context.sessions.read_log(
        place,
        &source.node,
        v1::LogRequest {
            pod_uid: uid_to_wire(source.pod),
            container: source.container.clone(),
            restart_count: Some(source.restart_count),
            follow: request.follow,
            tail_lines: request.tail_lines,
            since_time,
            since_ms,
            timestamps: request.timestamps,
            offset: request.offset,
            limit_bytes: request.limit_bytes,
            ..v1::LogRequest::default()
        },
    )
}

/// What can be told without looking at anything.
fn check(request: &v1::PodLogsRequest) -> Result<(), Status> {
    if request.offset.is_some() && request.tail_lines.is_some() {
        return Err(error::bad_request("offset", "excludes tailLines"));
    }
    // In another run it would be a position in the middle of something else.
    if request.offset.is_some() && (request.pod_uid.is_empty() || request.restart_count.is_none()) {
        return Err(error::bad_request("offset", "needs podUid and restartCount"));
    }
    if let Some(v1::pod_logs_request::Since::SinceTime(time)) = request.since {
        timestamp_from_wire("sinceTime", Some(time))?;
    }
    Ok(())
}

async fn look(context: &Context, request: &v1::PodLogsRequest, stale: bool) -> Result<Found, Status> {
    let wanted = request.clone();
    context.reads.rows(stale, move |rows| find(rows, &wanted)).await
}

/// Waits for a change of a Job, or of one Pod of it, after which there is something to read. Somebody has looked linearizably
/// after `cursor` was taken: every later change is seen here.
async fn wait_for_source(
    context: &Context,
    request: &v1::PodLogsRequest,
    mut cursor: Revision,
    mut job: JobUid,
    mut pod: Option<PodUid>,
) -> Result<Source, Status> {
    loop {
        cursor = context.watches.changed(cursor, |event| concerns(event, job, pod)).await?;
        tokio::time::sleep(Duration::from_millis(LOG_WAIT_PAUSE_MS)).await;
        match look(context, request, true).await? {
            Found::Source(source) => return Ok(*source),
            Found::NotYet { job: awaited_job, pod: awaited_pod, .. } => {
                (job, pod) = (awaited_job, awaited_pod)
            }
        }
    }
}

/// Whether a change may mean that what is waited for has begun, or never will.
fn concerns(event: &WatchEvent, job: JobUid, pod: Option<PodUid>) -> bool {
    match &event.object {
        ChangedObject::Job { record, .. } => record.uid == job,
        ChangedObject::Pod { record, .. } => record.job == job && pod.is_none_or(|pod| pod == record.uid),
        ChangedObject::Node(_) | ChangedObject::Event(_) | ChangedObject::ConfigMap(_) => false,
    }
}

fn find(rows: &mut RowReader<'_>, request: &v1::PodLogsRequest) -> Result<Found, Status> {
    use v1::pod_logs_request::Target;
    let namespace = namespace_of(request.namespace.clone(), false).unwrap_or_default();
    let expected = uid_of::<PodUid>("podUid", &request.pod_uid)?;
    let record = match &request.target {
        Some(Target::PodName(name)) if !name.is_empty() => {
            let found = rows.pod_by_name(&namespace, name)?;
            found.map(|(record, _)| record).ok_or_else(|| error::not_found("pods", name))?
        }
        Some(Target::JobName(name)) if !name.is_empty() => {
            let job =
                rows.job_by_name(&namespace, name)?.ok_or_else(|| error::not_found("jobs.batch", name))?;
            let uid = rows.job_uid(&namespace, name)?.ok_or_else(|| error::not_found("jobs.batch", name))?;
            match pod_of_job(rows, uid, expected, rank_of_logs)? {
                Some(record) => record,
                None if expected.is_some() => {
                    let message = format!("job {name:?} has no such Pod any more");
                    return Err(error::refused(ErrorReason::NotFound, message));
                }
                None if is_finished(&job) => {
                    let message = format!("job {name:?} is finished and has no Pod");
                    return Err(error::refused(ErrorReason::NotFound, message));
                }
                None => {
                    let message = format!("job {name:?} has no Pod yet");
                    return Ok(Found::NotYet { message, job: uid, pod: None });
                }
            }
        }
        _ => return Err(error::bad_request("target", "Required value: give podName or jobName")),
    };
    if expected.is_some_and(|uid| uid != record.uid) {
        let message = format!("pod {:?} has uid {}: it is another one by now", record.name, record.uid);
        return Err(error::refused(ErrorReason::Conflict, message));
    }
    let template = rows.template(record.job)?.ok_or_else(|| error::not_found("pods", &record.name))?;
    let (place, container) = container_of(&template, &request.container)?;
    let known = record.containers.get(place);
    match source_of(&record, known, (place, container), request)? {
        // Another Pod of the Job may begin before this one.
        Found::NotYet { message, job, .. } if matches!(request.target, Some(Target::JobName(_))) => {
            Ok(Found::NotYet { message, job, pod: expected })
        }
        found => Ok(found),
    }
}

/// `known` is what is known of the container, once the Pod is bound.
fn source_of(
    record: &PodRecord,
    known: Option<&ContainerRecord>,
    (place, container): (usize, String),
    request: &v1::PodLogsRequest,
) -> Result<Found, Status> {
    let name = &record.name;
    let never = || {
        error::refused(
            ErrorReason::NotFound,
            format!("container {container:?} of pod {name:?} was never started"),
        )
    };
    let is_running = known.is_some_and(|known| matches!(known.state, ContainerRunState::Running { .. }));
    let wanted_run = known.map_or(0, |known| known.restart_count);
    let started = is_running || wanted_run > 0 || known.is_some_and(|known| known.termination.is_some());
    let Some(node) = record.node.clone().filter(|_| started || record.phase.is_terminal()) else {
        if record.phase.is_terminal() {
            return Err(never());
        }
        let message = format!("container {container:?} in pod {name:?} is waiting to start");
        return Ok(Found::NotYet { message, job: record.job, pod: Some(record.uid) });
    };
    // The run that is wanted has not begun while the one before it is the last that was reported.
    let has_ended = known.is_some_and(|known| known.state == ContainerRunState::Ended);
    let last_begun = match is_running || has_ended || record.phase.is_terminal() {
        true => wanted_run,
        false => wanted_run.saturating_sub(1),
    };
    let mut restart_count = request.restart_count.unwrap_or(last_begun);
    if request.previous {
        restart_count = restart_count.checked_sub(1).ok_or_else(|| {
            error::refused(
                ErrorReason::NotFound,
                format!("container {container:?} of pod {name:?} has no earlier run"),
            )
        })?;
    }
    if restart_count > wanted_run {
        return Err(never());
    }
    Ok(Found::Source(Box::new(Source {
        node,
        pod: record.uid,
        pod_name: record.name.clone(),
        container,
        place: u32::try_from(place).unwrap_or(u32::MAX),
        restart_count,
    })))
}

/// A running Pod before an ended one before one that waits.
fn rank_of_logs(record: &PodRecord) -> u8 {
    match record.phase {
        PodPhase::Running => 2,
        PodPhase::Succeeded | PodPhase::Failed => 1,
        PodPhase::Pending => 0,
    }
}

/// The Pod of the highest rank; of equals the one created last.
pub(super) fn pod_of_job(
    rows: &RowReader<'_>,
    job: JobUid,
    expected: Option<PodUid>,
    rank: fn(&PodRecord) -> u8,
) -> Result<Option<Arc<PodRecord>>, Status> {
    let last = PodKey { job, created_revision: Revision(u64::MAX) };
    let mut from = Bound::Included(RowKey::Pod(PodKey { job, created_revision: Revision(0) }));
    let mut best: Option<(u8, Arc<PodRecord>)> = None;
    loop {
        let range = RowRange { from, to: Bound::Included(RowKey::Pod(last)), limit: LIST_SCAN_CHUNK_ROWS };
        let page = rows.view().scan(&range).map_err(|failed| error::internal("reading Pods", &failed))?;
        let full = page.len() == LIST_SCAN_CHUNK_ROWS;
        let mut next = None;
        for (key, stored) in page {
            if let Row::Pod(record) = stored.row {
                let rank = rank(&record);
                let meant = expected.is_none_or(|uid| uid == record.uid);
                if meant && best.as_ref().is_none_or(|(best_rank, _)| rank >= *best_rank) {
                    best = Some((rank, record));
                }
            }
            next = Some(key);
        }
        match next.filter(|_| full) {
            Some(key) => from = Bound::Excluded(key),
            None => return Ok(best.map(|(_, record)| record)),
        }
    }
}

fn is_finished(job: &stint_api::Job) -> bool {
    job.status.conditions.iter().any(|condition| {
        matches!(condition.condition_type, JobConditionType::Complete | JobConditionType::Failed)
            && condition.status == ConditionStatus::True
    })
}

/// Where the container stands in the Pod's record, and its name; without one it is the first that is no init container.
pub(super) fn container_of(template: &TemplateRecord, wanted: &str) -> Result<(usize, String), Status> {
    let spec = &template.template.spec;
    let mut all = spec.init_containers.iter().chain(&spec.containers).enumerate();
    let found = match wanted {
        "" => all.nth(spec.init_containers.len()),
        name => all.find(|(_, container)| container.name == name),
    };
    found
        .map(|(place, container)| (place, container.name.clone()))
        .ok_or_else(|| error::not_found("containers", wanted))
}

async fn pass_on(
    mut reader: LogReader,
    source: &Source,
    follow: bool,
    sender: &mpsc::Sender<Result<v1::PodLogsChunk, Status>>,
) -> Result<(), NotPassedOn> {
    let mut first = Some(source.message(v1::LogOrigin::Node));
    // Whoever follows is told at once whose log it is, since output may take its time.
    if follow && sender.send(Ok(first.take().unwrap_or_default())).await.is_err() {
        return Ok(());
    }
    loop {
        let next = reader.next();
        // What there is comes at once; what is yet to be written may take its time.
        let piece = match follow {
            true => next.await,
            false => match tokio::time::timeout(Duration::from_millis(LOG_CHUNK_WAIT_MS), next).await {
                Ok(piece) => piece,
                Err(_) => {
                    let failed = error::read_timeout(&format!("reading the log from node {}", source.node));
                    return Err(not_there(first.is_some(), v1::LogCutReason::Unreachable, failed));
                }
            },
        };
        let chunk = match piece {
            Some(LogPiece::Chunk(chunk)) => chunk,
            Some(LogPiece::End(end)) => {
                let is_gone = end.reason == v1::LogEndReason::NotFound as i32;
                let outcome = ended(&end);
                let outcome = outcome.map_err(|failed| not_there(is_gone, v1::LogCutReason::Lost, failed));
                // A log without output has a first message too.
                if let (Ok(()), Some(first)) = (&outcome, first) {
                    let _ = sender.send(Ok(first)).await;
                }
                return outcome;
            }
            None => {
                let failed = error::node_unreachable(&source.node);
                return Err(not_there(!follow && first.is_some(), v1::LogCutReason::Unreachable, failed));
            }
        };
        let data = chunk.data.clone();
        let message = v1::PodLogsChunk {
            data: chunk.data,
            next_offset: chunk.next_offset,
            stream: chunk.stream,
            ..v1::PodLogsChunk::default()
        };
        for message in first.take().into_iter().chain([message]) {
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        reader.give_credit(&data);
    }
}

fn not_there(may_be_elsewhere: bool, why: v1::LogCutReason, failed: Status) -> NotPassedOn {
    match may_be_elsewhere {
        true => NotPassedOn::NotThere(why, failed),
        false => NotPassedOn::Over(failed),
    }
}

fn ended(end: &v1::LogEnd) -> Result<(), Status> {
    use v1::LogEndReason as Reason;
    match Reason::try_from(end.reason).unwrap_or(Reason::Unspecified) {
        Reason::Complete => Ok(()),
        Reason::NotFound => {
            Err(error::refused(ErrorReason::NotFound, format!("the log is gone: {}", end.message)))
        }
        Reason::NotStarted => Err(error::refused(ErrorReason::FailedPrecondition, end.message.clone())),
        Reason::TooManyRequests => Err(error::overloaded(end.message.clone())),
        Reason::ReadFailed | Reason::Unspecified => Err(error::refused(
            ErrorReason::Internal,
            format!("the agent could not read the log: {}", end.message),
        )),
    }
}
