//! Entries of a log file: the format that container engines write and Kubernetes tools read (CRI logging).
//!
//! Owns: splitting output into entries and parsing them back. Does not own: files.
//!
//! One entry is `<time> <stdout|stderr> <F|P> <content>\n`. `F` ends a line; `P` is a part of one, continued by the next
//! entry of the same stream, or by nothing if the output ended without a newline. The time is RFC 3339. In entries of our own
//! it is in UTC with nine digits, so that times compare as texts; those of engines are brought to that form.

use crate::limits;
use std::borrow::Cow;
use std::time::SystemTime;

/// Where a payload wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// As in a log entry.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// 0 or 1, for tables.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A parsed entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub time: &'a [u8],
    pub stream: Stream,
    pub ends_line: bool,
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Parses an entry without its newline; `None` if it is none.
    pub fn parse(entry: &'a [u8]) -> Option<Entry<'a>> {
        let mut parts = entry.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag, content) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let ends_line = match tag {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        Some(Entry { time, stream, ends_line, content })
    }
}

/// A time as entries carry it. What a calendar can't say becomes the epoch.
pub(super) fn format_time(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

/// The time of an entry as [`format_time`] writes it. Container engines write it in the host's time zone, and without zeros at
/// its end: neither can be compared as text.
pub(super) fn normal_time(time: &[u8]) -> Cow<'_, [u8]> {
    // `2026-01-02T03:04:05.000000006Z`
    if time.len() == 30 && time.ends_with(b"Z") {
        return Cow::Borrowed(time);
    }
    let parsed = std::str::from_utf8(time).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(Cow::Borrowed(time), |time| Cow::Owned(format!("{time:.9}").into_bytes()))
}

/// Makes entries of one stream's bytes. Holds at most [`limits::LOG_LINE_BYTES_MAX`] bytes of an unfinished line.
#[derive(Debug)]
pub(super) struct LineAssembler {
    stream: Stream,
    pending: Vec<u8>,
}

impl LineAssembler {
    pub fn new(stream: Stream) -> LineAssembler {
        LineAssembler { stream, pending: Vec::new() }
    }

    /// Appends the entries of all lines that `bytes` ends, and of what is too long to wait for its end.
    pub fn feed(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.feed_line(&bytes[..at], time, out);
            bytes = &bytes[at + 1..];
        }
        self.feed_part(bytes, time, out);
    }

    /// Whether an unfinished line is held.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Appends what is held of an unfinished line.
    pub fn flush(&mut self, time: &str, out: &mut Vec<u8>) {
        if self.has_pending() {
            push_entry(out, time, self.stream, 'P', &self.pending);
            // Given back: an idle container shall hold nothing.
            self.pending = Vec::new();
        }
    }

    fn feed_line(&mut self, line: &[u8], time: &str, out: &mut Vec<u8>) {
        if self.pending.is_empty() && line.len() <= limits::LOG_LINE_BYTES_MAX {
            push_entry(out, time, self.stream, 'F', line);
            return;
        }
        self.feed_part(line, time, out);
        push_entry(out, time, self.stream, 'F', &self.pending);
        self.pending.clear();
    }

    fn feed_part(&mut self, mut part: &[u8], time: &str, out: &mut Vec<u8>) {
        while self.pending.len() + part.len() > limits::LOG_LINE_BYTES_MAX {
            let (head, tail) = part.split_at(limits::LOG_LINE_BYTES_MAX - self.pending.len());
            self.pending.extend_from_slice(head);
            push_entry(out, time, self.stream, 'P', &self.pending);
            self.pending.clear();
            part = tail;
        }
        self.pending.extend_from_slice(part);
    }
}

fn push_entry(out: &mut Vec<u8>, time: &str, stream: Stream, tag: char, content: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(&[b' ', tag as u8, b' ']);
    out.extend_from_slice(content);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const TIME: &str = "2026-01-02T03:04:05.000000006Z";

    fn decode(entries: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let lines = entries.strip_suffix(b"\n").map(|lines| lines.split(|byte| *byte == b'\n'));
        for entry in lines.into_iter().flatten() {
            let entry = Entry::parse(entry).expect("every line is an entry");
            assert_eq!((entry.time, entry.stream), (TIME.as_bytes(), Stream::Stderr));
            assert!(entry.content.len() <= limits::LOG_LINE_BYTES_MAX);
            out.extend_from_slice(entry.content);
            if entry.ends_line {
                out.push(b'\n');
            }
        }
        out
    }

    #[test]
    fn time_has_nine_digits() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_767_323_045_000_000_006);
        assert_eq!(format_time(time), TIME);
        assert_eq!(format_time(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn times_of_engines_are_made_comparable() {
        for (written, normal) in [
            (TIME, TIME),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000Z"),
            ("2026-01-02T04:04:05.1+01:00", "2026-01-02T03:04:05.100000000Z"),
            ("2026-01-01T20:04:05.123456789-07:00", "2026-01-02T03:04:05.123456789Z"),
            ("no time", "no time"),
        ] {
            assert_eq!(*normal_time(written.as_bytes()), *normal.as_bytes(), "{written}");
        }
    }

    #[test]
    fn lines_and_parts_are_entries() {
        let (mut assembler, mut out) = (LineAssembler::new(Stream::Stdout), Vec::new());
        assembler.feed(b"one\n\ntw", TIME, &mut out);
        assembler.feed(b"o\nthree", TIME, &mut out);
        assembler.flush(TIME, &mut out);
        let expected =
            format!("{TIME} stdout F one\n{TIME} stdout F \n{TIME} stdout F two\n{TIME} stdout P three\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_no_entry_is_not_parsed() {
        for text in ["", "x", "t stdout F", "t stdin F x", "t stdout X x"] {
            assert_eq!(Entry::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Entry::parse(b"t stdout F ").map(|entry| entry.content), Some(&b""[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_however_they_were_cut(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..60),
                    (0..3 * limits::LOG_LINE_BYTES_MAX).prop_map(|len| vec![b'x'; len]),
                    prop_oneof![Just(0), Just(1)].prop_map(|more| vec![b'y'; limits::LOG_LINE_BYTES_MAX + more]),
                ],
                0..8,
            ),
            flushes in any::<u8>(),
        ) {
            let (mut assembler, mut out) = (LineAssembler::new(Stream::Stderr), Vec::new());
            for (at, piece) in pieces.iter().enumerate() {
                assembler.feed(piece, TIME, &mut out);
                prop_assert!(assembler.pending.len() <= limits::LOG_LINE_BYTES_MAX);
                if flushes >> at & 1 == 1 {
                    assembler.flush(TIME, &mut out);
                }
            }
            assembler.flush(TIME, &mut out);
            prop_assert_eq!(decode(&out), pieces.concat());
        }
    }
}
