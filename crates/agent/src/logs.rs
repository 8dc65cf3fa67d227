//! Logs that servers ask for (A15).
//!
//! Owns: one reader per request, its credit. Does not own: files (crate `runtime`), who may read (the servers).
//!
//! Invariant: a slow reader holds up its own log only: nothing is read that there is no credit for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use stint_api::PodUid;
use stint_proto::v1;
use stint_runtime::{ContainerId, LogStore, ReadOptions};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::limits;

/// The requests of one session.
#[derive(Debug)]
pub struct LogServer {
    store: LogStore,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    requests: HashMap<u64, Running>,
}

/// What the agent knows of a Pod without looking at a disk.
#[derive(Debug, Clone)]
pub struct KnownPod {
    /// Which one.
    pub uid: PodUid,
    /// The container that is meant if none is named; empty: forgotten.
    pub container: String,
    /// The last run of each container that was begun.
    pub begun_runs: BTreeMap<String, u32>,
}

/// Why a request for an earlier run gets nothing.
const NOT_KEPT: &str = "the node keeps the output of the last run of a container and of the one before it";

/// Why a request gets nothing.
const NOT_FOUND: &str = "the node has no such pod, container or run";

#[derive(Debug)]
struct Running {
    credit: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl LogServer {
    /// For a new session.
    pub fn new(store: LogStore, outgoing: mpsc::Sender<v1::AgentMessage>) -> LogServer {
        LogServer { store, outgoing, requests: HashMap::new() }
    }

    /// Begins to serve a request. `pod` is what the agent knows of the Pod; `None` if it has no such Pod.
    pub fn begin(&mut self, request: &v1::LogRequest, pod: Option<KnownPod>) {
        self.requests.retain(|_, running| !running.task.is_finished());
        let refusal = match &pod {
            None => Some((v1::LogEndReason::NotFound, NOT_FOUND)),
            Some(_) if self.requests.len() >= limits::LOG_READERS_MAX => {
                Some((v1::LogEndReason::TooManyRequests, "the node serves as many log requests as it may"))
            }
            Some(_) => None,
        };
        let outgoing = self.outgoing.clone();
        let request_id = request.request_id;
        if let Some((reason, message)) = refusal {
            tokio::spawn(async move { send_end(&outgoing, request_id, reason, message, 0).await });
            return;
        }
        let Some(pod) = pod else { return };
        let credit = Arc::new(Semaphore::new(credit_of(request.credit_bytes)));
        let task = tokio::spawn(serve(self.store.clone(), pod, request.clone(), credit.clone(), outgoing));
        // Numbers are unique within a session; of a server that says one twice, only the last is served.
        if let Some(older) = self.requests.insert(request_id, Running { credit, task }) {
            older.task.abort();
        }
    }

    /// Lets more of a log come.
    pub fn credit(&mut self, credit: &v1::LogCredit) {
        if let Some(running) = self.requests.get(&credit.request_id) {
            let room = Semaphore::MAX_PERMITS - running.credit.available_permits();
            running.credit.add_permits(credit_of(credit.bytes).min(room));
        }
    }

    /// Nobody reads this log any more.
    pub fn cancel(&mut self, request_id: u64) {
        if let Some(running) = self.requests.remove(&request_id) {
            running.task.abort();
        }
    }
}

impl Drop for LogServer {
    fn drop(&mut self) {
        for running in self.requests.values() {
            running.task.abort();
        }
    }
}

async fn serve(
    store: LogStore,
    pod: KnownPod,
    request: v1::LogRequest,
    credit: Arc<Semaphore>,
    outgoing: mpsc::Sender<v1::AgentMessage>,
) {
    let mut sent =
        Sent { next_offset: request.offset.unwrap_or(0), bytes_left: limit_of(request.limit_bytes) };
    let id = match container_id(&store, &pod, &request).await {
        Ok(Some(id)) => id,
        Ok(None) => {
            return send_end(&outgoing, request.request_id, v1::LogEndReason::NotFound, NOT_FOUND, 0).await;
        }
        Err(error) => {
            let (reason, message) = (v1::LogEndReason::ReadFailed, error.to_string());
            return send_end(&outgoing, request.request_id, reason, &message, 0).await;
        }
    };
    // What it has removed may be in an archive, where the servers look if they are told that it is not here.
    let is_early = pod.begun_runs.get(id.container_name()).is_some_and(|last| id.restart_count() + 1 < *last);
    if is_early && !store.has_files(&id).await {
        return send_end(&outgoing, request.request_id, v1::LogEndReason::NotFound, NOT_KEPT, 0).await;
    }
    let (reason, message) = match copy(&store, &id, &request, &credit, &outgoing, &mut sent).await {
        Ok(()) => (v1::LogEndReason::Complete, String::new()),
        Err(error) => (v1::LogEndReason::ReadFailed, error.to_string()),
    };
    send_end(&outgoing, request.request_id, reason, &message, sent.next_offset).await;
}

/// Which log a request means (A15). What it leaves out is taken from the Pod, or from the files of one that has ended.
/// `None`: what it names can't be.
async fn container_id(
    store: &LogStore,
    pod: &KnownPod,
    request: &v1::LogRequest,
) -> Result<Option<ContainerId>, stint_runtime::Error> {
    let uid = pod.uid.to_string();
    let mut container = if request.container.is_empty() { &pod.container } else { &request.container };
    let mut restart_count = request.restart_count.or_else(|| pod.begun_runs.get(container).copied());
    let mut on_disk = None;
    if container.is_empty() || restart_count.is_none() {
        on_disk = store.newest_run(&uid).await?;
    }
    // A Pod without output has no file; any name reads its empty log.
    let nothing = ("none".to_owned(), 0);
    let (file_container, file_run) = on_disk.as_ref().unwrap_or(&nothing);
    if container.is_empty() {
        container = file_container;
    }
    let restart_count = *restart_count.get_or_insert(*file_run);
    Ok(ContainerId::new(&uid, container, restart_count).ok())
}

struct Sent {
    next_offset: u64,
    bytes_left: u64,
}

async fn copy(
    store: &LogStore,
    id: &ContainerId,
    request: &v1::LogRequest,
    credit: &Semaphore,
    outgoing: &mpsc::Sender<v1::AgentMessage>,
    sent: &mut Sent,
) -> Result<(), stint_runtime::Error> {
    let options = ReadOptions {
        tail_lines: request.tail_lines,
        since: since_of(request),
        timestamps: request.timestamps,
        stream: None,
        offset: request.offset,
        follow: request.follow,
    };
    let mut reader = store.reader(id, options).await?;
    while let Some(chunk) = reader.next().await? {
        for (bytes, is_last) in pieces(&chunk.bytes) {
            let length = (bytes.len() as u64).min(sent.bytes_left) as usize;
            let Ok(permits) = credit.acquire_many(length as u32).await else { return Ok(()) };
            permits.forget();
            sent.bytes_left -= length as u64;
            // A piece that a limit has cut ends nowhere: whoever goes on there gets all of it again.
            if is_last && length == bytes.len() {
                sent.next_offset = chunk.next_offset;
            }
            let piece = v1::LogChunk {
                request_id: request.request_id,
                data: bytes::Bytes::copy_from_slice(&bytes[..length]),
                next_offset: sent.next_offset,
                stream: v1::LogStream::Unspecified.into(),
            };
            let message = v1::AgentMessage { message: Some(v1::agent_message::Message::LogChunk(piece)) };
            if outgoing.send(message).await.is_err() || sent.bytes_left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A chunk in pieces of the size that messages may have, each with whether it is the last.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    let count = bytes.len().div_ceil(limits::LOG_CHUNK_BYTES_MAX);
    bytes
        .chunks(limits::LOG_CHUNK_BYTES_MAX)
        .enumerate()
        .map(move |(number, piece)| (piece, number + 1 == count))
}

async fn send_end(
    outgoing: &mpsc::Sender<v1::AgentMessage>,
    request_id: u64,
    reason: v1::LogEndReason,
    message: &str,
    next_offset: u64,
) {
    let end = v1::LogEnd { request_id, reason: reason.into(), message: message.to_owned(), next_offset };
    // If the session is gone, nobody waits for it.
    drop(outgoing.send(v1::AgentMessage { message: Some(v1::agent_message::Message::LogEnd(end)) }).await);
}

fn since_of(request: &v1::LogRequest) -> Option<SystemTime> {
    if let Some(time) = &request.since_time {
        let seconds = u64::try_from(time.seconds).unwrap_or(0);
        let nanoseconds = u32::try_from(time.nanos).unwrap_or(0);
        return SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds.min(999_999_999)));
    }
    request.since_ms.map(|since_ms| {
        SystemTime::now().checked_sub(Duration::from_millis(since_ms)).unwrap_or(SystemTime::UNIX_EPOCH)
    })
}

fn credit_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

fn limit_of(limit_bytes: u64) -> u64 {
    if limit_bytes == 0 { u64::MAX } else { limit_bytes }
}
