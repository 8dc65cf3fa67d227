//! Logs of containers.
//!
//! Owns: which part of a log is asked for, the place from which a new stream goes on, lines. Does not own: connections
//! (`stream`).

use std::time::Duration;

use bytes::{Buf, Bytes};
use stint_api::Timestamp;
use stint_proto::v1;
use stint_proto::v1::pods_client::PodsClient;

use crate::connection::{AuthenticatedChannel, Client};
use crate::error::Error;
use crate::limits;
use crate::stream::{Opening, ResumingStream};

/// Which Pod is meant: whose log, or where something is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodTarget {
    /// The Pod of this name.
    Pod(String),
    /// One Pod of the Job of this name: a running one before an ended one, then the newest.
    Job(String),
}

/// Which part of a log.
#[derive(Debug, Clone)]
pub struct LogsRequest {
    /// Namespace; empty: `default`.
    pub namespace: String,
    /// Whose log.
    pub target: PodTarget,
    /// The container; empty: the only one.
    pub container: String,
    /// Which run of the container; unset: the present or last one.
    pub restart_count: Option<u32>,
    /// The run before that.
    pub previous: bool,
    /// Go on until the container has ended.
    pub follow: bool,
    /// Begin so many lines before the end.
    pub tail_lines: Option<u64>,
    /// Leave out lines older than this.
    pub since: Option<Duration>,
    /// Leave out lines written before this moment.
    pub since_time: Option<Timestamp>,
    /// Begin each line with the time at which it was written.
    pub timestamps: bool,
}

impl LogsRequest {
    /// The whole log of a target.
    pub fn new(namespace: &str, target: PodTarget) -> LogsRequest {
        LogsRequest {
            namespace: namespace.to_owned(),
            target,
            container: String::new(),
            restart_count: None,
            previous: false,
            follow: false,
            tail_lines: None,
            since: None,
            since_time: None,
            timestamps: false,
        }
    }

    /// And what comes until the container has ended.
    pub fn follow(mut self) -> LogsRequest {
        self.follow = true;
        self
    }

    /// Only so many lines before the end.
    pub fn tail(mut self, lines: u64) -> LogsRequest {
        self.tail_lines = Some(lines);
        self
    }
}

/// Where output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Not told apart: by an older server, or of a piece that has some of both.
    Unknown,
}

/// A piece of a log: output, or the note that output is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct LogPiece {
    /// Output; not necessarily whole lines, nor UTF-8.
    pub data: Bytes,
    /// Where it was written to.
    pub output: LogOutput,
    /// Output is missing behind `data`: why, and from which node.
    pub cut: Option<v1::LogCut>,
}

/// A log as it comes. A broken connection is mended where it broke.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
/// # fn main() { example(async |client| {
/// # let handle = client.run(stint_client::JobBuilder::new(["echo", "hello"])).await?;
/// # handle.wait().await?;
/// # let job = handle.name().to_owned();
/// use stint_client::{LogsRequest, PodTarget};
///
/// let request = LogsRequest::new("default", PodTarget::Job(job)).follow().tail(100);
/// let mut log = client.logs(&request).await?;
/// while let Some(piece) = log.next_piece().await? {
///     if let Some(cut) = piece.cut {
///         eprintln!("output is missing here: {:?}", cut.reason());
///     }
///     print!("{}", String::from_utf8_lossy(&piece.data));
/// }
/// # handle.delete().await?;
/// # Ok(()) }); }
/// ```
pub struct LogStream {
    stream: ResumingStream<v1::PodLogsRequest, v1::PodLogsChunk>,
    state: LogState,
    has_ended: bool,
    /// Told of and not asked for yet.
    cuts: Vec<v1::LogCut>,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("LogStream").field(&self.state).finish()
    }
}

impl LogStream {
    /// The next piece; `None` at the end. May be given up at any moment, without losing one.
    ///
    /// # Errors
    /// Those of the server, and those of every call; [`Error::LogBroke`].
    pub async fn next_piece(&mut self) -> Result<Option<LogPiece>, Error> {
        while !self.has_ended {
            let state = &mut self.state;
            match self.stream.message(|| state.opened()).await? {
                Some(chunk) => {
                    let (piece, has_advanced) = self.state.take(chunk);
                    // Whose log it is alone, what was given before, and that some is missing lead nowhere if the node is lost
                    // each time.
                    if has_advanced {
                        self.stream.worked();
                    }
                    if piece.is_some() {
                        return Ok(piece);
                    }
                }
                None => self.has_ended = true,
            }
        }
        Ok(None)
    }

    /// The next output; `None` at the end. Where some is missing is in [`LogStream::take_cuts`].
    ///
    /// # Errors
    /// Those of [`LogStream::next_piece`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(piece) = self.next_piece().await? {
            self.cuts.extend(piece.cut);
            if !piece.data.is_empty() {
                return Ok(Some(piece.data));
            }
        }
        Ok(None)
    }

    /// Where output is missing that was asked for, as far as the pieces that came have told; each is given once. A cut with
    /// nothing before it comes with the first piece, one with nothing after it with the end. Only of [`LogStream::next`].
    pub fn take_cuts(&mut self) -> Vec<v1::LogCut> {
        std::mem::take(&mut self.cuts)
    }

    /// The log line by line. Notes of missing output are left out.
    pub fn lines(self) -> LogLines {
        LogLines { stream: self, buffer: Vec::new() }
    }

    /// Name of the Pod that the log is of, once the first piece has come.
    pub fn pod_name(&self) -> Option<&str> {
        self.source().map(|source| source.pod_name.as_str())
    }

    /// Of which run of which container the log is, once the first piece has come.
    pub fn source(&self) -> Option<&v1::LogSource> {
        self.state.source.as_ref()
    }
}

/// The lines of a log, in the order in which they were written.
#[derive(Debug)]
pub struct LogLines {
    stream: LogStream,
    /// What has come of lines that were not given.
    buffer: Vec<u8>,
}

impl LogLines {
    /// The next line without its end; `None` at the end of the log. What is not UTF-8 is replaced; a line of more than 1 MiB
    /// is given in pieces.
    ///
    /// # Errors
    /// Those of [`LogStream::next_piece`].
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        // What was searched already has no line end.
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.take(searched + end, 1)));
            }
            searched = self.buffer.len();
            if searched >= limits::LINE_BYTES_MAX {
                return Ok(Some(self.take(searched, 0)));
            }
            match self.stream.next_piece().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece.data),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(self.take(searched, 0))),
            }
        }
    }

    /// So many bytes as text; what ends them goes too.
    fn take(&mut self, length: usize, end: usize) -> String {
        let line = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
        self.buffer.drain(..length + end);
        line
    }
}

/// How far a log is read.
#[derive(Debug)]
struct LogState {
    /// What a new stream asks for.
    request: v1::PodLogsRequest,
    source: Option<v1::LogSource>,
    /// Bytes given after the last place that the stream has named: a new stream begins with them again.
    given_since_offset: usize,
    /// Bytes that a new stream repeats and that are not given again.
    repeated: usize,
}

impl LogState {
    fn new(request: v1::PodLogsRequest) -> LogState {
        LogState { request, source: None, given_since_offset: 0, repeated: 0 }
    }

    /// What a new stream asks for.
    ///
    /// # Errors
    /// If it could begin at another place than this one did.
    fn opened(&mut self) -> Result<v1::PodLogsRequest, Error> {
        let begins_elsewhere = self.request.tail_lines.is_some() || self.request.since.is_some();
        if self.given_since_offset > 0 && begins_elsewhere {
            return Err(Error::LogBroke);
        }
        self.repeated = self.given_since_offset;
        Ok(self.request.clone())
    }

    /// What a message gives, and whether the log is further now than any stream has been.
    fn take(&mut self, chunk: v1::PodLogsChunk) -> (Option<LogPiece>, bool) {
        let output = match chunk.stream() {
            v1::LogStream::Stdout => LogOutput::Stdout,
            v1::LogStream::Stderr => LogOutput::Stderr,
            v1::LogStream::Unspecified => LogOutput::Unknown,
        };
        if let Some(source) = chunk.source {
            // From now on this very run.
            self.request.pod_uid = source.pod_uid.clone();
            self.request.restart_count = Some(source.restart_count);
            self.request.previous = false;
            self.request.target = Some(v1::pod_logs_request::Target::PodName(source.pod_name.clone()));
            self.source = Some(source);
        }
        let mut data = chunk.data;
        let repeated = self.repeated.min(data.len());
        self.repeated -= repeated;
        data.advance(repeated);
        self.given_since_offset += data.len();
        let mut has_advanced = !data.is_empty();
        if chunk.next_offset > self.request.offset.unwrap_or(0) {
            // And from this very place: what is there is neither too old nor before the tail.
            self.request.offset = Some(chunk.next_offset);
            self.request.tail_lines = None;
            self.request.since = None;
            self.given_since_offset = 0;
            self.repeated = 0;
            has_advanced = true;
        }
        let is_piece = !data.is_empty() || chunk.cut.is_some();
        (is_piece.then_some(LogPiece { data, output, cut: chunk.cut }), has_advanced)
    }
}

impl Client {
    /// Reads a log; resolves once a server has begun to answer.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn logs(&self, wanted: &LogsRequest) -> Result<LogStream, Error> {
        let open = |channel: AuthenticatedChannel, request| -> Opening<v1::PodLogsChunk> {
            Box::pin(async move { PodsClient::new(channel).logs(request).await })
        };
        let mut state = LogState::new(request_of(wanted));
        let mut stream = ResumingStream::new(self, Box::new(open));
        stream.opened(|| state.opened()).await?;
        Ok(LogStream { stream, state, has_ended: false, cuts: Vec::new() })
    }
}

fn request_of(wanted: &LogsRequest) -> v1::PodLogsRequest {
    let target = match &wanted.target {
        PodTarget::Pod(name) => v1::pod_logs_request::Target::PodName(name.clone()),
        PodTarget::Job(name) => v1::pod_logs_request::Target::JobName(name.clone()),
    };
    let since = match (wanted.since_time, wanted.since) {
        (Some(time), _) => Some(v1::pod_logs_request::Since::SinceTime(prost_types::Timestamp {
            seconds: time.0.div_euclid(1000),
            nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
        })),
        // Rounded up: rather a little more than a line too few.
        (None, Some(since)) => Some(v1::pod_logs_request::Since::SinceSeconds(
            since.as_secs().saturating_add(u64::from(since.subsec_nanos() > 0)),
        )),
        (None, None) => None,
    };
    v1::PodLogsRequest {
        namespace: wanted.namespace.clone(),
        target: Some(target),
        pod_uid: String::new(),
        container: wanted.container.clone(),
        restart_count: wanted.restart_count,
        previous: wanted.previous,
        follow: wanted.follow,
        tail_lines: wanted.tail_lines,
        since,
        timestamps: wanted.timestamps,
        offset: None,
        limit_bytes: 0,
    }
}
