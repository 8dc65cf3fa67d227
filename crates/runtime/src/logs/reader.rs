//! Reading logs.
//!
//! Owns: the selection of entries and the rebuilding of a payload's bytes. Does not own: who may read what.
//!
//! Invariants: entries are returned whole, in order, once; a reader that goes on at an offset that it was given misses
//! and repeats nothing, except what rotation removed meanwhile, which is counted.

use super::{LiveReceiver, files, run_blocking};
use crate::{ContainerId, Error, limits};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use stint_logs::{Renderer, Selection, Step, Stream, TailCounter};

/// What of a log is wanted. The default is all of it, as the payload wrote it, up to the present end.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<SystemTime>,
    /// Put the time and a space before each line.
    pub timestamps: bool,
    /// Only one of the streams.
    pub stream: Option<Stream>,
    /// Go on at a [`LogChunk::next_offset`]; `tail_lines` is ignored then.
    pub offset: Option<u64>,
    /// Wait for more as long as the container runs.
    pub follow: bool,
}

/// Some output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Never empty.
    pub bytes: Vec<u8>,
    /// Which parts of it were written to which stream, in order; together all of it.
    pub runs: Vec<StreamRun>,
    /// Where to go on after this chunk.
    pub next_offset: u64,
    /// Bytes of entries between the previous chunk and this one that rotation had removed before they were read.
    pub skipped_bytes: u64,
}

/// A part of a [`LogChunk`] that was written to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRun {
    /// Where it was written to.
    pub stream: Stream,
    /// Where it ends in the chunk's bytes.
    pub end: usize,
    /// Where to go on after it.
    pub next_offset: u64,
}

/// Reads one log.
#[derive(Debug)]
pub struct LogReader {
    /// `None` only while a read is under way; if that was cancelled, reading ends.
    cursor: Option<Cursor>,
    /// `None` if nobody was writing the log when it was opened.
    live: Option<LiveReceiver>,
    follow: bool,
}

impl LogReader {
    pub(super) async fn open(
        pod_directory: PathBuf,
        id: ContainerId,
        options: ReadOptions,
        live: Option<LiveReceiver>,
    ) -> Result<LogReader, Error> {
        let follow = options.follow;
        let cursor = run_blocking(move || Cursor::open(pod_directory, id, options)).await?;
        Ok(LogReader { cursor: Some(cursor), live, follow })
    }

    /// The next output; `None` at the end of the log, or at its present end unless it is followed.
    ///
    /// If the future is dropped before it resolves, the reader is at its end: go on with a new one at the last offset.
    pub async fn next(&mut self) -> Result<Option<LogChunk>, Error> {
        loop {
            // Looked at before the files: what was written before the end is found by the read that follows.
            let closed = match (&self.live, self.follow) {
                (Some(live), true) => live.borrow().closed || live.has_changed().is_err(),
                _ => true,
            };
            let Some(mut cursor) = self.cursor.take() else { return Ok(None) };
            let (cursor, chunk) = run_blocking(move || {
                let chunk = cursor.read()?;
                Ok((cursor, chunk))
            })
            .await?;
            self.cursor = Some(cursor);
            if chunk.is_some() || closed {
                return Ok(chunk);
            }
            // Another process writes: it is looked for again and again, and at once at the end.
            if let Some(live) = &mut self.live {
                let pause = Duration::from_millis(limits::LOG_FOLLOW_MS);
                let _ = tokio::time::timeout(pause, live.wait_for(|state| state.closed)).await;
            }
        }
    }
}

/// A place in a log, and the file that it is in.
#[derive(Debug)]
struct Cursor {
    pod_directory: PathBuf,
    id: ContainerId,
    offset: u64,
    skipped_bytes: u64,
    current: Option<(u64, File)>,
    stream: Option<Stream>,
    renderer: Renderer,
}

impl Cursor {
    fn open(pod_directory: PathBuf, id: ContainerId, options: ReadOptions) -> Result<Cursor, Error> {
        let mut cursor = Cursor {
            pod_directory,
            id,
            offset: 0,
            skipped_bytes: 0,
            current: None,
            stream: options.stream,
            renderer: Renderer::new(&Selection {
                since: options.since,
                timestamps: options.timestamps,
                stream: options.stream,
            }),
        };
        let starts = cursor.starts()?;
        match (options.offset, options.tail_lines) {
            (Some(offset), _) => {
                cursor.offset = offset;
                cursor.check_offset(&starts)?;
            }
            (None, Some(lines)) => cursor.offset = cursor.find_tail(&starts, lines)?,
            // Files removed before reading began are not missed by anybody.
            (None, None) => cursor.offset = starts.first().copied().unwrap_or(0),
        }
        Ok(cursor)
    }

    /// Reads on until there is something to return; `None` at the present end.
    fn read(&mut self) -> Result<Option<LogChunk>, Error> {
        let mut buffer = Vec::new();
        loop {
            if self.current.is_none() && !self.open_current()? {
                return Ok(None);
            }
            if self.fill(&mut buffer)? == 0 {
                // The writer ends a file before it begins the next one: once the next one is seen, this one is
                // complete, and what is left of it is the torn end of a write that a crash cut.
                let Some((start, _)) = &self.current else { return Ok(None) };
                let Some(next) = self.starts()?.into_iter().find(|other| other > start) else {
                    return Ok(None);
                };
                if self.fill(&mut buffer)? == 0 {
                    self.skipped_bytes += next.saturating_sub(self.offset);
                    self.offset = next;
                    self.current = None;
                    continue;
                }
            }
            let mut bytes = Vec::with_capacity(buffer.len());
            let mut runs = Vec::<StreamRun>::new();
            for entry in buffer.split_inclusive(|byte| *byte == b'\n') {
                let begin = bytes.len();
                let stream = self.renderer.render(entry.strip_suffix(b"\n").unwrap_or(entry), &mut bytes);
                self.offset += entry.len() as u64;
                let (end, next_offset) = (bytes.len(), self.offset);
                match (runs.last_mut(), stream.filter(|_| end > begin)) {
                    // Nothing of it is shown: what came before it ends here all the same.
                    (Some(run), None) => run.next_offset = next_offset,
                    (Some(run), Some(stream)) if run.stream == stream => {
                        *run = StreamRun { stream, end, next_offset };
                    }
                    (_, Some(stream)) => runs.push(StreamRun { stream, end, next_offset }),
                    (None, None) => {}
                }
            }
            if !bytes.is_empty() {
                let skipped_bytes = std::mem::take(&mut self.skipped_bytes);
                return Ok(Some(LogChunk { bytes, runs, next_offset: self.offset, skipped_bytes }));
            }
        }
    }

    /// Opens the file that holds the offset; false if there is none yet.
    fn open_current(&mut self) -> Result<bool, Error> {
        loop {
            let starts = self.starts()?;
            let Some(first) = starts.first() else { return Ok(false) };
            if self.offset < *first {
                self.skipped_bytes += first - self.offset;
                self.offset = *first;
            }
            let start = starts.iter().rev().find(|start| **start <= self.offset).copied().unwrap_or(*first);
            match File::open(files::path(&self.pod_directory, &self.id, start)) {
                Ok(file) => {
                    self.current = Some((start, file));
                    return Ok(true);
                }
                // Removed since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.error("open file", error)),
            }
        }
    }

    /// Reads whole entries at the offset; returns how many bytes they take.
    fn fill(&self, buffer: &mut Vec<u8>) -> Result<usize, Error> {
        let Some((start, file)) = &self.current else { return Ok(0) };
        buffer.resize(limits::LOG_READ_BYTES_MAX, 0);
        let mut filled = 0;
        while filled < buffer.len() {
            let at = self.offset - start + filled as u64;
            match file.read_at(&mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error("read file", error)),
            }
        }
        let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A full buffer without a newline is no log of ours: pass over it rather than stand still.
        let taken = if whole == 0 && filled == limits::LOG_READ_BYTES_MAX { filled } else { whole };
        buffer.truncate(taken);
        Ok(taken)
    }

    /// Where the last `lines` lines of the wanted streams begin.
    fn find_tail(&self, starts: &[u64], lines: u64) -> Result<u64, Error> {
        let mut counter = TailCounter::new(lines, self.stream);
        let mut tail = None;
        for start in starts.iter().rev() {
            let file = match File::open(files::path(&self.pod_directory, &self.id, *start)) {
                Ok(file) => file,
                // Removed since the folder was listed, and with it all that is older.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(self.error("open file", error)),
            };
            let bytes = file.metadata().map_err(|error| self.error("measure file", error))?.len();
            // If nothing is wanted of it, reading begins at its end.
            tail.get_or_insert(start + bytes);
            let mut blocks = Backwards { file, position: bytes, carry: Vec::new() };
            while let Some((at, block)) = blocks.next().map_err(|error| self.error("read file", error))? {
                let mut end = block.len();
                while end > 0 {
                    let begin =
                        block[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    let entry = block[begin..end].strip_suffix(b"\n");
                    end = begin;
                    match entry.map_or(Step::Skip, |entry| counter.step(entry)) {
                        Step::Skip => {}
                        Step::Take => tail = Some(start + at + begin as u64),
                        Step::Stop => return Ok(tail.unwrap_or(0)),
                    }
                }
            }
        }
        Ok(tail.unwrap_or(0))
    }

    fn check_offset(&self, starts: &[u64]) -> Result<(), Error> {
        let wrong = || Error::LogOffset { offset: self.offset, container: self.id.to_string() };
        let Some(start) = starts.iter().rev().find(|start| **start <= self.offset) else {
            // Older than the oldest file: skipped over. Without any file only the beginning exists.
            return if starts.is_empty() && self.offset > 0 { Err(wrong()) } else { Ok(()) };
        };
        let within = self.offset - start;
        if within == 0 {
            return Ok(());
        }
        let path = files::path(&self.pod_directory, &self.id, *start);
        let file = File::open(path).map_err(|error| self.error("open file", error))?;
        let mut last = [0];
        match file.read_at(&mut last, within - 1) {
            Ok(1) if last == *b"\n" => Ok(()),
            Ok(_) => Err(wrong()),
            Err(error) => Err(self.error("read file", error)),
        }
    }

    fn starts(&self) -> Result<Vec<u64>, Error> {
        files::starts(&self.pod_directory, &self.id).map_err(|error| self.error("list folder", error))
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::Log { path: self.pod_directory.clone(), action, source }
    }
}

/// Blocks of whole entries of a file, last first.
struct Backwards {
    file: File,
    position: u64,
    /// The end of an entry whose beginning is in an earlier block.
    carry: Vec<u8>,
}

impl Backwards {
    /// A block and where in the file it begins.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        while self.position > 0 {
            let step = self.position.min(limits::LOG_TAIL_BLOCK_BYTES as u64);
            self.position -= step;
            let mut block = vec![0; step as usize];
            self.file.read_exact_at(&mut block, self.position)?;
            block.append(&mut self.carry);
            if self.position == 0 {
                return Ok(Some((0, block)));
            }
            match block.iter().position(|byte| *byte == b'\n') {
                // The first entry's beginning is not read yet; what follows its newline is whole.
                Some(at) if at + 1 < block.len() => {
                    let whole = block.split_off(at + 1);
                    self.carry = block;
                    return Ok(Some((self.position + at as u64 + 1, whole)));
                }
                _ => self.carry = block,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogLimits, LogStore, LogWriter};
    use super::*;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    struct Fixture {
        store: LogStore,
        id: ContainerId,
        root: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let store = LogStore::open(&root.path().join("logs")).unwrap();
        Fixture { store, id: ContainerId::new(UID, "main", 0).unwrap(), root }
    }

    fn time(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    impl Fixture {
        async fn read(&self, options: ReadOptions) -> Vec<u8> {
            let mut reader = self.store.reader(&self.id, options).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.next().await.unwrap() {
                assert!(!chunk.bytes.is_empty());
                bytes.extend(chunk.bytes);
            }
            bytes
        }

        async fn text(&self, options: ReadOptions) -> String {
            String::from_utf8(self.read(options).await).unwrap()
        }

        fn writer(&self) -> LogWriter {
            LogWriter::new(self.store.pod_directory(UID), self.id.clone(), small())
        }

        fn file_count(&self) -> usize {
            files::starts(&self.root.path().join("logs").join(UID), &self.id).unwrap().len()
        }
    }

    fn small() -> LogLimits {
        LogLimits { file_bytes: limits::LOG_FILE_BYTES_MIN, files: 3 }
    }

    #[tokio::test]
    async fn a_log_without_output_has_no_file_and_is_empty() {
        let fixture = fixture();
        let mut writer = fixture.writer();
        writer.append(Stream::Stdout, b"", time(0));
        writer.write();
        assert_eq!(fixture.text(ReadOptions::default()).await, "");
        assert_eq!(std::fs::read_dir(fixture.root.path().join("logs")).unwrap().count(), 0);
        let tail = ReadOptions { tail_lines: Some(3), ..ReadOptions::default() };
        assert_eq!(fixture.text(tail).await, "");
    }

    #[tokio::test]
    async fn tail_since_timestamps_and_stream_select() {
        let fixture = fixture();
        let mut writer = fixture.writer();
        for at in 1..=5 {
            writer.append(Stream::Stdout, format!("out {at}\n").as_bytes(), time(at));
            writer.append(Stream::Stderr, format!("err {at}\n").as_bytes(), time(at));
        }
        writer.append(Stream::Stdout, b"open", time(6));
        writer.flush_unfinished_lines(time(6));
        writer.write();
        let all = ReadOptions::default();
        let out = ReadOptions { stream: Some(Stream::Stdout), ..all.clone() };
        let tail = |lines, options: &ReadOptions| ReadOptions { tail_lines: Some(lines), ..options.clone() };
        assert_eq!(fixture.text(tail(2, &all)).await, "err 5\nopen");
        assert_eq!(fixture.text(tail(2, &out)).await, "out 5\nopen");
        assert_eq!(fixture.text(tail(0, &all)).await, "");
        assert_eq!(fixture.text(tail(99, &out)).await, fixture.text(out.clone()).await);
        let since = ReadOptions { since: Some(time(5)), ..out.clone() };
        assert_eq!(fixture.text(since).await, "out 5\nopen");
        let times = ReadOptions { timestamps: true, ..tail(2, &out) };
        let expected = "1970-01-01T00:00:05.000000000Z out 5\n1970-01-01T00:00:06.000000000Z open";
        assert_eq!(fixture.text(times).await, expected);
        // The line goes on: no second timestamp, and still one line.
        writer.append(Stream::Stdout, b" end\nlast\n", time(7));
        writer.write();
        let times = ReadOptions { timestamps: true, ..tail(2, &out) };
        let expected = "1970-01-01T00:00:06.000000000Z open end\n1970-01-01T00:00:07.000000000Z last\n";
        assert_eq!(fixture.text(times).await, expected);
    }

    #[tokio::test]
    async fn each_part_of_a_chunk_says_its_stream_and_where_to_go_on() {
        let fixture = fixture();
        let mut writer = fixture.writer();
        for (at, stream, text) in [
            (1, Stream::Stdout, "one\n"),
            (2, Stream::Stdout, "two\n"),
            (3, Stream::Stderr, "three\n"),
            (4, Stream::Stdout, "four\n"),
            (0, Stream::Stderr, "too old\n"),
        ] {
            writer.append(stream, text.as_bytes(), time(at));
        }
        writer.write();
        let options = ReadOptions { since: Some(time(1)), ..ReadOptions::default() };
        let mut reader = fixture.store.reader(&fixture.id, options).await.unwrap();
        let chunk = reader.next().await.unwrap().unwrap();
        let mut begin = 0;
        let mut parts = Vec::new();
        for run in &chunk.runs {
            parts.push((run.stream, String::from_utf8_lossy(&chunk.bytes[begin..run.end]).into_owned()));
            begin = run.end;
        }
        let expected =
            [(Stream::Stdout, "one\ntwo\n"), (Stream::Stderr, "three\n"), (Stream::Stdout, "four\n")];
        assert_eq!(parts, expected.map(|(stream, text)| (stream, text.to_owned())));
        assert_eq!((begin, chunk.runs[2].next_offset), (chunk.bytes.len(), chunk.next_offset));
        // Whoever goes on behind a part gets what is left.
        let options = ReadOptions {
            offset: Some(chunk.runs[0].next_offset),
            since: Some(time(1)),
            ..Default::default()
        };
        assert_eq!(fixture.text(options).await, "three\nfour\n");
    }

    #[tokio::test]
    async fn rotation_keeps_the_newest_files_and_offsets() {
        let fixture = fixture();
        let mut writer = fixture.writer();
        let line = |at: usize| format!("{at:06} {}\n", "x".repeat(500));
        let early = {
            writer.append(Stream::Stdout, line(0).as_bytes(), time(0));
            writer.write();
            let mut reader = fixture.store.reader(&fixture.id, ReadOptions::default()).await.unwrap();
            reader.next().await.unwrap().unwrap().next_offset
        };
        for at in 1..1000 {
            writer.append(Stream::Stdout, line(at).as_bytes(), time(0));
            if at % 7 == 0 {
                writer.write();
            }
        }
        writer.write();
        assert_eq!(fixture.file_count(), 3);
        let text = fixture.text(ReadOptions::default()).await;
        let first: usize = text[..6].parse().unwrap();
        assert!((600..990).contains(&first), "{first}");
        assert_eq!(text, (first..1000).map(line).collect::<String>());
        for lines in [1, 50, 120, 200] {
            let tail = ReadOptions { tail_lines: Some(lines), ..ReadOptions::default() };
            assert_eq!(fixture.text(tail).await, (1000 - lines as usize..1000).map(line).collect::<String>());
        }
        // Going on at an offset whose file is gone says how much was missed.
        let options = ReadOptions { offset: Some(early), ..ReadOptions::default() };
        let mut reader = fixture.store.reader(&fixture.id, options).await.unwrap();
        let chunk = reader.next().await.unwrap().unwrap();
        assert!(chunk.skipped_bytes > 0 && chunk.bytes.starts_with(line(first).as_bytes()));
        // And at one in the middle misses nothing.
        let options = ReadOptions { offset: Some(chunk.next_offset), ..ReadOptions::default() };
        let rest = fixture.text(options).await;
        assert_eq!([String::from_utf8(chunk.bytes).unwrap(), rest].concat(), text);
        let options = ReadOptions { offset: Some(chunk.next_offset + 1), ..ReadOptions::default() };
        assert!(matches!(fixture.store.reader(&fixture.id, options).await, Err(Error::LogOffset { .. })));
    }

    #[tokio::test]
    async fn follow_goes_on_across_rotation_until_the_log_has_ended() {
        let fixture = fixture();
        let live = fixture.store.begin(&fixture.id).unwrap();
        let mut writer = fixture.writer();
        let mut reader = fixture
            .store
            .reader(&fixture.id, ReadOptions { follow: true, ..ReadOptions::default() })
            .await
            .unwrap();
        let mut all = Vec::new();
        let mut read = Vec::new();
        for at in 0..200 {
            let line = format!("{at} {}\n", "y".repeat(2000)).into_bytes();
            writer.append(Stream::Stderr, &line, time(0));
            all.extend(line);
            writer.write();
            read.extend(reader.next().await.unwrap().unwrap().bytes);
        }
        assert_eq!(fixture.file_count(), 3);
        // Written right before the end.
        writer.append(Stream::Stderr, b"last\n", time(0));
        all.extend(b"last\n");
        writer.write();
        writer.sync();
        assert_eq!(writer.dropped_bytes(), 0);
        drop(live);
        read.extend(reader.next().await.unwrap().unwrap().bytes);
        assert_eq!(reader.next().await.unwrap(), None);
        assert_eq!(read, all);
    }

    #[tokio::test]
    async fn a_writer_goes_on_where_an_earlier_one_ended_and_a_torn_end_is_passed_over() {
        let fixture = fixture();
        let mut writer = fixture.writer();
        let live = fixture.store.begin(&fixture.id).unwrap();
        assert!(fixture.store.begin(&fixture.id).is_err(), "a second writer");
        drop(live);
        assert!(fixture.store.begin(&fixture.id).is_ok());
        writer.append(Stream::Stdout, b"one\n", time(1));
        writer.write();
        drop(writer);
        let path = files::path(&fixture.root.path().join("logs").join(UID), &fixture.id, 0);
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"1970-01-01T00:00:02.000000000Z stdout F tor");
        std::fs::write(&path, torn).unwrap();
        assert_eq!(fixture.text(ReadOptions::default()).await, "one\n");
        let mut writer = fixture.writer();
        writer.append(Stream::Stdout, b"two\n", time(3));
        writer.write();
        assert_eq!(fixture.text(ReadOptions::default()).await, "one\ntwo\n");
        let tail = ReadOptions { tail_lines: Some(2), ..ReadOptions::default() };
        assert_eq!(fixture.text(tail).await, "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_disk_that_refuses_drops_and_counts_and_recovers() {
        let fixture = fixture();
        let logs = fixture.root.path().join("logs");
        let mut writer = fixture.writer();
        // A file where the Pod's folder should be: every open fails, for root too.
        std::fs::write(logs.join(UID), "").unwrap();
        writer.append(Stream::Stdout, b"lost\n", time(0));
        writer.write();
        assert!(writer.dropped_bytes() > 0);
        std::fs::remove_file(logs.join(UID)).unwrap();
        writer.append(Stream::Stdout, b"kept\n", time(0));
        writer.write();
        assert_eq!(fixture.text(ReadOptions::default()).await, "kept\n");
    }

    #[tokio::test]
    async fn deleted_logs_do_not_come_back() {
        let fixture = fixture();
        let mut writer = fixture.writer();
        writer.append(Stream::Stdout, b"one\n", time(0));
        writer.write();
        assert_eq!(fixture.store.pods().await.unwrap(), [UID]);
        let mut live = fixture.store.begin(&fixture.id).unwrap();
        fixture.store.delete_pod(UID).await.unwrap();
        live.discarded().await;
        writer.discard();
        writer.append(Stream::Stdout, b"two\n", time(0));
        writer.write();
        assert_eq!(fixture.text(ReadOptions::default()).await, "");
        assert!(fixture.store.pods().await.unwrap().is_empty());
        fixture.store.delete_pod(UID).await.unwrap();
        assert!(fixture.store.delete_pod("../logs").await.is_err());
    }
}
