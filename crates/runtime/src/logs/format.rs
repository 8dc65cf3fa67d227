//! Entries of a log file, made of a payload's output.
//!
//! Owns: splitting output into entries. Does not own: the entries' format (crate `logs`), files.

use crate::limits;

pub use stint_logs::Stream;
pub(super) use stint_logs::format_time;

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
    use stint_logs::Entry;

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
    fn lines_and_parts_are_entries() {
        let (mut assembler, mut out) = (LineAssembler::new(Stream::Stdout), Vec::new());
        assembler.feed(b"one\n\ntw", TIME, &mut out);
        assembler.feed(b"o\nthree", TIME, &mut out);
        assembler.flush(TIME, &mut out);
        let expected =
            format!("{TIME} stdout F one\n{TIME} stdout F \n{TIME} stdout F two\n{TIME} stdout P three\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
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
