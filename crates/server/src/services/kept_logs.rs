//! Logs that are kept elsewhere than on their node: read when it is lost, or does not answer.
//!
//! Owns: finding what is kept, showing it as the node would, saying what is missing. Does not own: which Pod and run are meant
//! (`logs`), what is kept (`stint-core`), the format of entries (`stint-logs`).
//!
//! Invariant: a reader is told where output is missing, unless it did not ask for any of it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use stint_core::{LogTailKey, Row, RowKey};
use stint_logs::{Excerpt, Renderer, Selection, TailCounter, limits::TAIL_BYTES_MAX};
use stint_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use crate::error;
use crate::services::Context;
use crate::services::logs::Source;

/// What is kept of a log.
#[derive(Debug)]
pub struct KeptLog {
    excerpt: Excerpt,
    /// Nothing came after it.
    is_last: bool,
}

/// What is kept of the log of a run, if anything is.
///
/// # Errors
/// If rows can't be read.
pub async fn find(context: &Context, source: &Source) -> Result<Option<KeptLog>, Status> {
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
    Ok(Some(KeptLog { excerpt, is_last: record.is_last }))
}

impl KeptLog {
    /// Passes on what is asked for.
    ///
    /// # Errors
    /// None: the reader may be gone, which ends it.
    pub async fn pass_on(
        &self,
        request: &v1::PodLogsRequest,
        source: &Source,
        reason: v1::LogCutReason,
        sender: &mpsc::Sender<Result<v1::PodLogsChunk, Status>>,
    ) -> Result<(), Status> {
        for message in self.messages(request, source, reason, SystemTime::now()) {
            if sender.send(Ok(message)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn messages(
        &self,
        request: &v1::PodLogsRequest,
        source: &Source,
        reason: v1::LogCutReason,
        now: SystemTime,
    ) -> Vec<v1::PodLogsChunk> {
        let excerpt = &self.excerpt;
        let selection =
            Selection { since: since_of(request, now), timestamps: request.timestamps, stream: None };
        let (first_at, last_at) = (excerpt.first_time(), excerpt.last_time());
        let begins_late = excerpt.first_offset > 0;
        let (from, is_missing_before) = match (request.offset, request.tail_lines) {
            (Some(offset), _) => (offset, offset < excerpt.first_offset),
            (None, Some(lines)) => {
                let (from, is_found) = excerpt.find_tail(&mut TailCounter::new(lines, None));
                (from, begins_late && !is_found)
            }
            (None, None) => {
                let is_old_enough =
                    selection.since.is_some_and(|since| first_at.is_some_and(|at| at < since));
                (excerpt.first_offset, begins_late && !is_old_enough)
            }
        };
        let cut = |from: Option<SystemTime>, until: Option<SystemTime>| v1::PodLogsChunk {
            cut: Some(v1::LogCut {
                reason: reason.into(),
                node_name: source.node.to_string(),
                from: from.map(Into::into),
                until: until.map(Into::into),
            }),
            ..v1::PodLogsChunk::default()
        };
        let mut messages = vec![source.message(v1::LogOrigin::Tail)];
        if is_missing_before {
            messages.push(cut(None, first_at));
        }
        let mut bytes_left = match request.limit_bytes {
            0 => u64::MAX,
            limit => limit,
        };
        let mut renderer = Renderer::new(&selection);
        let mut next_offset = request.offset.unwrap_or(0);
        for piece in excerpt.pieces(from, &mut renderer) {
            let mut data = Bytes::from(piece.bytes);
            // A piece that a limit has cut ends nowhere: whoever goes on there gets all of it again.
            if data.len() as u64 > bytes_left {
                data.truncate(usize::try_from(bytes_left).unwrap_or(usize::MAX));
            } else {
                next_offset = piece.next_offset;
            }
            bytes_left -= data.len() as u64;
            messages.push(v1::PodLogsChunk { data, next_offset, ..v1::PodLogsChunk::default() });
            if bytes_left == 0 {
                return messages;
            }
        }
        if !self.is_last {
            messages.push(cut(last_at, None));
        }
        messages
    }
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

    fn kept(first_offset: u64, is_last: bool) -> KeptLog {
        let line = |second| format!("1970-01-01T00:00:{second}.000000000Z stdout F {second}\n");
        let entries = (10..15).map(line).collect::<String>().into_bytes();
        KeptLog { excerpt: Excerpt { first_offset, entries }, is_last }
    }

    /// The text, with `<` where output is missing before and `>` where it is missing after.
    fn read(kept: &KeptLog, request: &v1::PodLogsRequest) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20);
        let messages = kept.messages(request, &source(), v1::LogCutReason::Lost, now);
        assert_eq!(messages[0].source.as_ref().map(|source| source.origin()), Some(v1::LogOrigin::Tail));
        let text = messages.iter().map(|message| match &message.cut {
            Some(cut) => {
                assert_eq!(cut.node_name, "w2");
                if cut.from.is_none() { "<" } else { ">" }.to_owned()
            }
            None => String::from_utf8_lossy(&message.data).replace('\n', " "),
        });
        text.collect()
    }

    #[test]
    fn r13_readers_are_told_what_is_missing_of_what_they_asked_for() {
        use v1::pod_logs_request::Since;
        let all = v1::PodLogsRequest::default();
        assert_eq!(read(&kept(0, true), &all), "10 11 12 13 14 ");
        assert_eq!(read(&kept(100, true), &all), "<10 11 12 13 14 ");
        assert_eq!(read(&kept(100, false), &all), "<10 11 12 13 14 >");
        let tail = |lines| v1::PodLogsRequest { tail_lines: Some(lines), ..all.clone() };
        assert_eq!(read(&kept(100, true), &tail(2)), "13 14 ");
        assert_eq!(read(&kept(100, true), &tail(9)), "<10 11 12 13 14 ");
        assert_eq!(read(&kept(0, true), &tail(9)), "10 11 12 13 14 ");
        let since = |seconds| v1::PodLogsRequest { since: Some(Since::SinceSeconds(seconds)), ..all.clone() };
        assert_eq!(read(&kept(100, true), &since(8)), "12 13 14 ");
        assert_eq!(read(&kept(100, true), &since(15)), "<10 11 12 13 14 ");
        let time = prost_types::Timestamp { seconds: 13, nanos: 0 };
        let since_time = v1::PodLogsRequest { since: Some(Since::SinceTime(time)), ..all.clone() };
        assert_eq!(read(&kept(100, true), &since_time), "13 14 ");
        let length = kept(0, true).excerpt.entries.len() as u64 / 5;
        let offset = |offset| v1::PodLogsRequest { offset: Some(offset), ..all.clone() };
        assert_eq!(read(&kept(100, false), &offset(100 + 3 * length)), "13 14 >");
        assert_eq!(read(&kept(100, false), &offset(7)), "<10 11 12 13 14 >");
        // It was read further while the node was there.
        assert_eq!(read(&kept(100, false), &offset(10_000)), ">");
        let limited = v1::PodLogsRequest { limit_bytes: 4, ..all.clone() };
        assert_eq!(read(&kept(100, false), &limited), "<10 1");
        let times = v1::PodLogsRequest { timestamps: true, ..tail(1) };
        assert_eq!(read(&kept(100, true), &times), "1970-01-01T00:00:14.000000000Z 14 ");
    }
}
