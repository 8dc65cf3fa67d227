//! Logs that are kept elsewhere than on their node: read when it is lost, or does not answer.
//!
//! Owns: finding what is kept, showing it as the node would, saying what is missing. Does not own: which Pod and run are meant
//! (`logs`), what is kept (`stint-core`, `log_archive`), the format of entries (`stint-logs`).
//!
//! Invariants: a reader is told where output is missing, unless it did not ask for any of it; of an archived log one part is
//! in memory at a time.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use stint_core::{LogTailKey, Row, RowKey};
use stint_logs::archive::Part;
use stint_logs::limits::TAIL_BYTES_MAX;
use stint_logs::{Excerpt, Renderer, Selection, Stream, TailCounter};
use stint_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use crate::error;
use crate::log_archive::ArchivedLog;
use crate::services::Context;
use crate::services::logs::Source;

/// What is kept of a log.
#[derive(Debug)]
pub struct KeptLog {
    /// In order, none of them twice; the tail last.
    pieces: Vec<Kept>,
    archived: Option<ArchivedLog>,
    /// Nothing came after it.
    is_whole: bool,
}

/// Consecutive entries that are kept in one place.
#[derive(Debug)]
enum Kept {
    Archived(Part),
    Tail(Excerpt),
}

/// What is kept of the log of a run, if anything is.
///
/// # Errors
/// If rows can't be read.
pub async fn find(context: &Context, source: &Source) -> Result<Option<KeptLog>, Status> {
    let archived = match &context.log_archive {
        Some(archive) => archive.find(source.pod, &source.container, source.restart_count).await,
        None => None,
    };
    let is_whole = archived.as_ref().is_some_and(ArchivedLog::is_whole);
    // Of what is archived to its end the tail says nothing new.
    let tail = if is_whole { None } else { tail_of(context, source).await? };
    Ok(KeptLog::new(archived, tail))
}

async fn tail_of(context: &Context, source: &Source) -> Result<Option<(Excerpt, bool)>, Status> {
    let key = RowKey::LogTail(LogTailKey {
        pod: source.pod,
        container: source.place,
        restart_count: source.restart_count,
    });
    let row = context.reads.rows(true, move |rows| {
        rows.view().get(&key).map_err(|failed| error::internal("reading the tail of a log", &failed))
    });
    let Some(Row::LogTail(record)) = row.await?.map(|stored| stored.row) else { return Ok(None) };
    let excerpt = Excerpt::decompress(record.first_offset, &record.entries, TAIL_BYTES_MAX)
        .map_err(|failed| error::internal("reading the tail of a log", &failed))?;
    Ok(Some((excerpt, record.is_last)))
}

impl Kept {
    fn first_offset(&self) -> u64 {
        match self {
            Kept::Archived(part) => part.first_offset,
            Kept::Tail(tail) => tail.first_offset,
        }
    }

    fn end_offset(&self) -> u64 {
        match self {
            Kept::Archived(part) => part.end_offset,
            Kept::Tail(tail) => tail.end_offset(),
        }
    }
}

impl KeptLog {
    /// `tail` with whether its run has ended.
    fn new(archived: Option<ArchivedLog>, tail: Option<(Excerpt, bool)>) -> Option<KeptLog> {
        let mut pieces: Vec<Kept> =
            archived.iter().flat_map(|log| log.parts()).map(|part| Kept::Archived(*part)).collect();
        let mut is_whole = archived.as_ref().is_some_and(ArchivedLog::is_whole);
        if let Some((mut tail, is_last)) = tail {
            // Uploading may have begun before the node was lost.
            tail.skip_to(pieces.last().map_or(0, Kept::end_offset));
            is_whole |= is_last;
            if !tail.entries.is_empty() {
                pieces.push(Kept::Tail(tail));
            }
        }
        (!pieces.is_empty()).then_some(KeptLog { pieces, archived, is_whole })
    }

    /// Passes on what is asked for.
    ///
    /// # Errors
    /// If the archive can't be read.
    pub async fn pass_on(
        &self,
        request: &v1::PodLogsRequest,
        source: &Source,
        reason: v1::LogCutReason,
        sender: &mpsc::Sender<Result<v1::PodLogsChunk, Status>>,
    ) -> Result<(), Status> {
        let now = SystemTime::now();
        self.send(request, source, reason, now, sender).await
    }

    async fn send(
        &self,
        request: &v1::PodLogsRequest,
        source: &Source,
        reason: v1::LogCutReason,
        now: SystemTime,
        sender: &mpsc::Sender<Result<v1::PodLogsChunk, Status>>,
    ) -> Result<(), Status> {
        let since = since_of(request, now);
        let selection = Selection { since, timestamps: request.timestamps, stream: None };
        let cut = |from: Option<SystemTime>, until: Option<SystemTime>| v1::PodLogsChunk {
            cut: Some(v1::LogCut {
                reason: reason.into(),
                node_name: source.node.to_string(),
                from: from.map(Into::into),
                until: until.map(Into::into),
            }),
            ..v1::PodLogsChunk::default()
        };
        let origin = if self.archived.is_some() { v1::LogOrigin::Archive } else { v1::LogOrigin::Tail };
        let mut reader = Reader {
            sender,
            bytes_left: if request.limit_bytes == 0 { u64::MAX } else { request.limit_bytes },
            next_offset: request.offset.unwrap_or(0),
        };
        if !reader.take(source.message(origin)).await {
            return Ok(());
        }
        let (mut at, mut is_missing) = self.begin(request, since).await?;
        let (mut renderer, mut last_at) = (Renderer::new(&selection), None);
        for (number, kept) in self.pieces.iter().enumerate() {
            // The last is looked at for its time, also if the reader has seen all of it.
            if kept.end_offset() <= at && number + 1 < self.pieces.len() {
                continue;
            }
            let excerpt = self.load(kept).await?;
            let first_at = excerpt.first_time();
            // Between what is archived and the tail.
            is_missing |= number > 0 && excerpt.first_offset > at && !is_before(first_at, since);
            if std::mem::take(&mut is_missing) && !reader.take(cut(last_at, first_at)).await {
                return Ok(());
            }
            for piece in excerpt.pieces(at, &mut renderer) {
                if !reader.give(piece.bytes.into(), piece.stream, piece.next_offset).await {
                    return Ok(());
                }
            }
            at = at.max(excerpt.end_offset());
            last_at = excerpt.last_time();
        }
        if !self.is_whole {
            reader.take(cut(last_at, None)).await;
        }
        Ok(())
    }

    /// Where the reader's part begins, and whether something of it before that is missing.
    async fn begin(
        &self,
        request: &v1::PodLogsRequest,
        since: Option<SystemTime>,
    ) -> Result<(u64, bool), Status> {
        let Some(first) = self.pieces.first() else { return Ok((0, false)) };
        // What an archived log begins after its node had not kept either.
        let is_cut = matches!(first, Kept::Tail(tail) if tail.first_offset > 0);
        if let Some(offset) = request.offset {
            return Ok((offset, is_cut && offset < first.first_offset()));
        }
        let Some(lines) = request.tail_lines else {
            let is_missing = is_cut && !is_before(self.load(first).await?.first_time(), since);
            return Ok((first.first_offset(), is_missing));
        };
        let mut counter = TailCounter::new(lines, None);
        let mut begin = u64::MAX;
        for kept in self.pieces.iter().rev() {
            let (tail, is_found) = self.load(kept).await?.find_tail(&mut counter);
            begin = begin.min(tail);
            if is_found {
                return Ok((begin, false));
            }
        }
        Ok((first.first_offset(), is_cut))
    }

    async fn load<'a>(&'a self, kept: &'a Kept) -> Result<Cow<'a, Excerpt>, Status> {
        match (kept, &self.archived) {
            (Kept::Tail(tail), _) => Ok(Cow::Borrowed(tail)),
            (Kept::Archived(part), Some(archived)) => Ok(Cow::Owned(archived.load(*part).await?)),
            (Kept::Archived(_), None) => Ok(Cow::Owned(Excerpt::default())),
        }
    }
}

fn is_before(time: Option<SystemTime>, since: Option<SystemTime>) -> bool {
    since.is_some_and(|since| time.is_some_and(|time| time < since))
}

fn since_of(request: &v1::PodLogsRequest, now: SystemTime) -> Option<SystemTime> {
    use v1::pod_logs_request::Since;
    match request.since? {
        Since::SinceTime(time) => SystemTime::try_from(time).ok(),
        Since::SinceSeconds(seconds) => {
            Some(now.checked_sub(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH))
        }
    }
}

/// Where messages go.
struct Reader<'a> {
    sender: &'a mpsc::Sender<Result<v1::PodLogsChunk, Status>>,
    bytes_left: u64,
    next_offset: u64,
}

impl Reader<'_> {
    /// False: the reader is gone.
    async fn take(&self, message: v1::PodLogsChunk) -> bool {
        self.sender.send(Ok(message)).await.is_ok()
    }

    /// False: the reader is gone, or has as much as it wants.
    async fn give(&mut self, mut data: Bytes, stream: Stream, next_offset: u64) -> bool {
        // A piece that a limit has cut ends nowhere: whoever goes on there gets all of it again.
        if data.len() as u64 > self.bytes_left {
            data.truncate(usize::try_from(self.bytes_left).unwrap_or(usize::MAX));
        } else {
            self.next_offset = next_offset;
        }
        self.bytes_left -= data.len() as u64;
        let stream = match stream {
            Stream::Stdout => v1::LogStream::Stdout,
            Stream::Stderr => v1::LogStream::Stderr,
        };
        let message = v1::PodLogsChunk {
            data,
            next_offset: self.next_offset,
            stream: stream.into(),
            ..v1::PodLogsChunk::default()
        };
        self.take(message).await && self.bytes_left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{NodeName, PodUid};

    fn source() -> Source {
        Source {
            node: NodeName::new("w2"),
            pod: PodUid(1),
            pod_name: "p".to_owned(),
            container: "main".to_owned(),
            place: 0,
            restart_count: 0,
        }
    }

    /// Bytes of the entry of each second.
    const ENTRY: u64 = 43;

    fn excerpt(first_offset: u64, seconds: std::ops::Range<u32>) -> Excerpt {
        let line = |second| format!("1970-01-01T00:00:{second}.000000000Z stdout F {second}\n");
        let entries = seconds.map(line).collect::<String>().into_bytes();
        Excerpt { first_offset, entries }
    }

    fn kept(first_offset: u64, is_last: bool) -> KeptLog {
        KeptLog::new(None, Some((excerpt(first_offset, 10..15), is_last))).expect("a tail")
    }

    /// The text, with `<` where output is missing before, `>` where it is missing after, and `|` where it is missing between.
    async fn read_from(kept: &KeptLog, request: &v1::PodLogsRequest, origin: v1::LogOrigin) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20);
        let (sender, mut messages) = mpsc::channel(100);
        kept.send(request, &source(), v1::LogCutReason::Lost, now, &sender).await.expect("sent");
        drop(sender);
        let first = messages.recv().await.expect("a message").expect("no error");
        assert_eq!(first.source.map(|source| source.origin()), Some(origin));
        let mut text = String::new();
        while let Some(message) = messages.recv().await {
            let message = message.expect("no error");
            if let Some(cut) = message.cut {
                assert_eq!(cut.node_name, "w2");
                text.push(match (cut.from, cut.until) {
                    (None, _) => '<',
                    (Some(_), None) => '>',
                    (Some(_), Some(_)) => '|',
                });
            }
            text.push_str(&String::from_utf8_lossy(&message.data).replace('\n', " "));
        }
        text
    }

    async fn read(kept: &KeptLog, request: &v1::PodLogsRequest) -> String {
        read_from(kept, request, v1::LogOrigin::Tail).await
    }

    #[tokio::test]
    async fn r13_readers_are_told_what_is_missing_of_what_they_asked_for() {
        use v1::pod_logs_request::Since;
        let all = v1::PodLogsRequest::default();
        assert_eq!(read(&kept(0, true), &all).await, "10 11 12 13 14 ");
        assert_eq!(read(&kept(100, true), &all).await, "<10 11 12 13 14 ");
        assert_eq!(read(&kept(100, false), &all).await, "<10 11 12 13 14 >");
        let tail = |lines| v1::PodLogsRequest { tail_lines: Some(lines), ..all.clone() };
        assert_eq!(read(&kept(100, true), &tail(2)).await, "13 14 ");
        assert_eq!(read(&kept(100, true), &tail(9)).await, "<10 11 12 13 14 ");
        assert_eq!(read(&kept(0, true), &tail(9)).await, "10 11 12 13 14 ");
        let since = |seconds| v1::PodLogsRequest { since: Some(Since::SinceSeconds(seconds)), ..all.clone() };
        assert_eq!(read(&kept(100, true), &since(8)).await, "12 13 14 ");
        assert_eq!(read(&kept(100, true), &since(15)).await, "<10 11 12 13 14 ");
        let time = prost_types::Timestamp { seconds: 13, nanos: 0 };
        let since_time = v1::PodLogsRequest { since: Some(Since::SinceTime(time)), ..all.clone() };
        assert_eq!(read(&kept(100, true), &since_time).await, "13 14 ");
        let offset = |offset| v1::PodLogsRequest { offset: Some(offset), ..all.clone() };
        assert_eq!(read(&kept(100, false), &offset(100 + 3 * ENTRY)).await, "13 14 >");
        assert_eq!(read(&kept(100, false), &offset(7)).await, "<10 11 12 13 14 >");
        // It was read further while the node was there.
        assert_eq!(read(&kept(100, false), &offset(10_000)).await, ">");
        let limited = v1::PodLogsRequest { limit_bytes: 4, ..all.clone() };
        assert_eq!(read(&kept(100, false), &limited).await, "<10 1");
        let times = v1::PodLogsRequest { timestamps: true, ..tail(1) };
        assert_eq!(read(&kept(100, true), &times).await, "1970-01-01T00:00:14.000000000Z 14 ");
    }

    #[tokio::test]
    async fn r13_an_archived_log_is_read_as_a_whole_and_the_tail_mends_what_is_missing_of_it() {
        use crate::log_archive::LogArchive;
        use stint_logs::archive::{Archive, Run};
        use v1::pod_logs_request::Since;
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("file://{}", folder.path().display());
        let (writing, reading) =
            (Archive::open(&url).expect("opened"), LogArchive::open(&url).expect("opened"));
        let run = |restart_count| Run {
            pod_uid: PodUid(1).to_string(),
            container: "main".to_owned(),
            restart_count,
        };
        let first = 1_000;
        let parts = [excerpt(first, 10..13), excerpt(first + 3 * ENTRY, 13..20)];
        for (number, part) in parts.iter().enumerate() {
            writing.put(&run(0), part, number == 1).await.expect("uploaded");
        }
        writing.put(&run(1), &parts[0], false).await.expect("uploaded");
        let find = async |run, tail| {
            KeptLog::new(reading.find(PodUid(1), "main", run).await, tail).expect("something")
        };
        let read = async |kept: &KeptLog, request: &v1::PodLogsRequest| {
            read_from(kept, request, v1::LogOrigin::Archive).await
        };
        let all = v1::PodLogsRequest::default();
        let whole = find(0, None).await;
        // What rotation had removed on the node is not what was lost.
        assert_eq!(read(&whole, &all).await, "10 11 12 13 14 15 16 17 18 19 ");
        for (lines, expected) in [(2, "18 19 "), (8, "12 13 14 15 16 17 18 19 "), (0, "")] {
            let tail = v1::PodLogsRequest { tail_lines: Some(lines), ..all.clone() };
            assert_eq!(read(&whole, &tail).await, expected);
        }
        let since = v1::PodLogsRequest { since: Some(Since::SinceSeconds(2)), ..all.clone() };
        assert_eq!(read(&whole, &since).await, "18 19 ");
        for (entries, expected) in [(1, "11 12 13 14 15 16 17 18 19 "), (4, "14 15 16 17 18 19 "), (10, "")] {
            let offset = v1::PodLogsRequest { offset: Some(first + entries * ENTRY), ..all.clone() };
            assert_eq!(read(&whole, &offset).await, expected);
        }
        // Uploading was cut short: what comes after it is the tail, each line once.
        let overlapping = find(1, Some((excerpt(first + 2 * ENTRY, 12..15), true))).await;
        assert_eq!(read(&overlapping, &all).await, "10 11 12 13 14 ");
        let behind = find(1, Some((excerpt(first + 9 * ENTRY, 19..21), false))).await;
        assert_eq!(read(&behind, &all).await, "10 11 12 |19 20 >");
        let tail = v1::PodLogsRequest { tail_lines: Some(3), ..all.clone() };
        assert_eq!(read(&behind, &tail).await, "12 |19 20 >");
        assert_eq!(read(&find(1, None).await, &all).await, "10 11 12 >");
        assert!(reading.find(PodUid(2), "main", 0).await.is_none());
    }
}
