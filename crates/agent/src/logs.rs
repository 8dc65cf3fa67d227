//! Logs that servers ask for (A15).
//!
//! Owns: one reader per request, its credit. Does not own: files (crate `runtime`), who may read (the servers).
//!
//! Invariant: a slow reader holds up its own log only: nothing is read that there is no credit for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use stint_api::PodUid;
use stint_proto::v1;
use stint_runtime::{ContainerId, LogChunk, LogStore, ReadOptions, Stream};
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
    credit: Arc<Credit>,
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
        let credit = Arc::new(Credit::new(credit_of(request.credit_bytes)));
        let task = tokio::spawn(serve(self.store.clone(), pod, request.clone(), credit.clone(), outgoing));
        // Numbers are unique within a session; of a server that says one twice, only the last is served.
        if let Some(older) = self.requests.insert(request_id, Running { credit, task }) {
            older.task.abort();
        }
    }

    /// Lets more of a log come.
    pub fn credit(&mut self, credit: &v1::LogCredit) {
        if let Some(running) = self.requests.get(&credit.request_id) {
            running.credit.give(credit_of(credit.bytes));
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
    credit: Arc<Credit>,
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
    credit: &Credit,
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
        for (bytes, stream, next_offset) in pieces(&chunk) {
            let length = (bytes.len() as u64).min(sent.bytes_left) as usize;
            if !credit.take(length).await {
                return Ok(());
            }
            sent.bytes_left -= length as u64;
            // A piece that a limit has cut ends nowhere: whoever goes on there gets all of it again.
            if let Some(next_offset) = next_offset.filter(|_| length == bytes.len()) {
                sent.next_offset = next_offset;
            }
            let piece = v1::LogChunk {
                request_id: request.request_id,
                data: bytes::Bytes::copy_from_slice(&bytes[..length]),
                next_offset: sent.next_offset,
                stream: wire_stream(stream).into(),
            };
            let message = v1::AgentMessage { message: Some(v1::agent_message::Message::LogChunk(piece)) };
            if outgoing.send(message).await.is_err() || sent.bytes_left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A chunk in pieces of one stream each, of the size that messages may have; the last of each run with where to go on.
fn pieces(chunk: &LogChunk) -> impl Iterator<Item = (&[u8], Stream, Option<u64>)> {
    let begins = std::iter::once(0).chain(chunk.runs.iter().map(|run| run.end));
    chunk.runs.iter().zip(begins).flat_map(|(run, begin)| {
        let bytes = &chunk.bytes[begin..run.end];
        let count = bytes.len().div_ceil(limits::LOG_CHUNK_BYTES_MAX);
        let pieces = bytes.chunks(limits::LOG_CHUNK_BYTES_MAX).enumerate();
        pieces
            .map(move |(number, piece)| (piece, run.stream, (number + 1 == count).then_some(run.next_offset)))
    })
}

fn wire_stream(stream: Stream) -> v1::LogStream {
    match stream {
        Stream::Stdout => v1::LogStream::Stdout,
        Stream::Stderr => v1::LogStream::Stderr,
    }
}

/// What of a log may be sent before its reader has taken more.
#[derive(Debug)]
struct Credit {
    bytes: Semaphore,
    /// Lines that go to both streams in turn are small messages: their number is bounded too.
    messages: Semaphore,
    in_flight: Mutex<InFlight>,
}

/// Messages that were sent and not taken.
#[derive(Debug, Default)]
struct InFlight {
    /// Bytes of each, the oldest first.
    lengths: VecDeque<usize>,
    /// Bytes that were taken of the oldest.
    taken: usize,
}

impl Credit {
    fn new(bytes: usize) -> Credit {
        Credit {
            bytes: Semaphore::new(bytes),
            messages: Semaphore::new(limits::LOG_MESSAGES_IN_FLIGHT_MAX),
            in_flight: Mutex::default(),
        }
    }

    /// Waits until a message of so many bytes may be sent. False: none may any more.
    async fn take(&self, length: usize) -> bool {
        let permits = u32::try_from(length).unwrap_or(u32::MAX);
        let (Ok(bytes), Ok(message)) =
            (self.bytes.acquire_many(permits).await, self.messages.acquire().await)
        else {
            return false;
        };
        bytes.forget();
        message.forget();
        self.in_flight().lengths.push_back(length);
        true
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader has taken so many bytes.
    fn give(&self, bytes: usize) {
        let room = Semaphore::MAX_PERMITS - self.bytes.available_permits();
        self.bytes.add_permits(bytes.min(room));
        let mut in_flight = self.in_flight();
        in_flight.taken = in_flight.taken.saturating_add(bytes);
        while let Some(length) =
            in_flight.lengths.front().copied().filter(|length| *length <= in_flight.taken)
        {
            in_flight.lengths.pop_front();
            in_flight.taken -= length;
            self.messages.add_permits(1);
        }
        if in_flight.lengths.is_empty() {
            // A server that gives more than it took is not followed.
            in_flight.taken = 0;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use stint_runtime::StreamRun;

    #[test]
    fn a_piece_is_of_one_stream_and_fits_into_a_message() {
        let long = limits::LOG_CHUNK_BYTES_MAX;
        let runs =
            [(Stream::Stdout, 3, 10), (Stream::Stderr, 3 + long + 1, 20), (Stream::Stdout, long + 5, 30)];
        let runs = runs.map(|(stream, end, next_offset)| StreamRun { stream, end, next_offset });
        let chunk =
            LogChunk { bytes: vec![b'x'; long + 5], runs: runs.to_vec(), next_offset: 30, skipped_bytes: 0 };
        let pieces: Vec<_> =
            pieces(&chunk).map(|(bytes, stream, next_offset)| (bytes.len(), stream, next_offset)).collect();
        let expected = [
            (3, Stream::Stdout, Some(10)),
            (long, Stream::Stderr, None),
            (1, Stream::Stderr, Some(20)),
            (1, Stream::Stdout, Some(30)),
        ];
        assert_eq!(pieces, expected);
    }

    #[tokio::test]
    async fn messages_are_bounded_in_number_and_go_on_as_they_are_taken() {
        let credit = Credit::new(1 << 20);
        for _ in 0..limits::LOG_MESSAGES_IN_FLIGHT_MAX {
            assert!(credit.take(10).await);
        }
        let mut more = std::pin::pin!(credit.take(10));
        assert!(futures::poll!(more.as_mut()).is_pending(), "there is credit for bytes only");
        credit.give(9);
        assert!(futures::poll!(more.as_mut()).is_pending(), "the first is not wholly taken");
        // Servers may take several at once.
        credit.give(21);
        assert!(more.await && credit.take(10).await && credit.take(10).await);
        assert_eq!(credit.messages.available_permits(), 0);
        credit.give(usize::MAX);
        assert_eq!(credit.messages.available_permits(), limits::LOG_MESSAGES_IN_FLIGHT_MAX);
        assert!(credit.take(1).await);
        assert_eq!(credit.messages.available_permits(), limits::LOG_MESSAGES_IN_FLIGHT_MAX - 1);
    }
}
