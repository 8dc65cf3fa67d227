//! Pieces of logs that are kept elsewhere than on their node.
//!
//! Owns: cutting them at lines, compression, reading them. Does not own: where they are kept.

use crate::entry::{Entry, Stream, parse_time};
use crate::error::Error;
use crate::limits::{COMPRESSION_LEVEL, PIECE_BYTES_MAX};
use crate::selection::{Renderer, Step, TailCounter};
use std::time::SystemTime;

/// Consecutive entries of one log, and where they stand in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Excerpt {
    /// Offset of the first entry.
    pub first_offset: u64,
    /// Whole entries.
    pub entries: Vec<u8>,
}

/// Some output for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Never empty.
    pub bytes: Vec<u8>,
    /// Where to go on after this piece.
    pub next_offset: u64,
    /// Where it was written to.
    pub stream: Stream,
}

impl Excerpt {
    /// Offset after the last entry.
    pub fn end_offset(&self) -> u64 {
        self.first_offset.saturating_add(self.entries.len() as u64)
    }

    /// When the first entry was written; none if there is none, or it says no time.
    pub fn first_time(&self) -> Option<SystemTime> {
        let entry = self.entries.split(|byte| *byte == b'\n').next().and_then(Entry::parse)?;
        parse_time(entry.time)
    }

    /// When the last entry was written.
    pub fn last_time(&self) -> Option<SystemTime> {
        parse_time(entry_before(&self.entries, self.entries.len())?.time)
    }

    /// Leaves out what stands before an offset that is where an entry begins.
    pub fn skip_to(&mut self, offset: u64) {
        let skipped = usize::try_from(offset.saturating_sub(self.first_offset)).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.entries.len());
        self.entries.drain(..skipped);
        self.first_offset = self.first_offset.saturating_add(skipped as u64);
    }

    /// Leaves the last entries, of at most `max` bytes together, and if that cuts something off, from a beginning of a line
    /// on, unless there is none.
    pub fn cut_to_last(&mut self, max: usize) {
        let Some(surplus) = self.entries.len().checked_sub(max).filter(|surplus| *surplus > 0) else {
            return;
        };
        let next_entry = |from: usize| {
            let newline = self.entries[from..].iter().position(|byte| *byte == b'\n');
            newline.map_or(self.entries.len(), |at| from + at + 1)
        };
        // The entry that the cut goes through ends after the byte before it.
        let begin = next_entry(surplus - 1);
        let mut line_start = begin;
        let mut previous_ends_line = entry_before(&self.entries, begin).is_none_or(|entry| entry.ends_line);
        while !previous_ends_line && line_start < self.entries.len() {
            let end = next_entry(line_start);
            let entry = self.entries[line_start..end].strip_suffix(b"\n").and_then(Entry::parse);
            previous_ends_line = entry.is_some_and(|entry| entry.ends_line);
            line_start = end;
        }
        let begin = if line_start < self.entries.len() { line_start } else { begin };
        self.first_offset = self.first_offset.saturating_add(begin as u64);
        self.entries.drain(..begin);
    }

    /// The entries, compressed with zstd.
    pub fn compressed(&self) -> Vec<u8> {
        // Compressing into memory can't fail; an excerpt that did would be an empty one.
        zstd::bulk::compress(&self.entries, COMPRESSION_LEVEL).unwrap_or_default()
    }

    /// An excerpt of compressed entries.
    ///
    /// # Errors
    /// If they are damaged, or more than `max` bytes.
    pub fn decompress(first_offset: u64, compressed: &[u8], max: usize) -> Result<Excerpt, Error> {
        let entries = zstd::bulk::decompress(compressed, max)
            .map_err(|error| Error::Damaged { max, problem: error.to_string() })?;
        Ok(Excerpt { first_offset, entries })
    }

    /// Shows the entries to a counter, last first. The offset at which the tail begins as far as this excerpt tells, and whether
    /// it is found: else it may begin in an earlier excerpt.
    pub fn find_tail(&self, counter: &mut TailCounter) -> (u64, bool) {
        let mut tail = self.end_offset();
        let mut end = self.entries.len();
        while end > 0 {
            let begin =
                self.entries[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            match self.entries[begin..end].strip_suffix(b"\n").map_or(Step::Skip, |entry| counter.step(entry))
            {
                Step::Skip => {}
                Step::Take => tail = self.first_offset.saturating_add(begin as u64),
                Step::Stop => return (tail, true),
            }
            end = begin;
        }
        (tail, false)
    }

    /// What the payload wrote, from an offset on: in pieces of one stream each, of at most [`PIECE_BYTES_MAX`] bytes, or one
    /// entry.
    pub fn pieces<'a>(&'a self, from: u64, renderer: &'a mut Renderer) -> impl Iterator<Item = Piece> + 'a {
        let skipped = usize::try_from(from.saturating_sub(self.first_offset)).unwrap_or(usize::MAX);
        let mut at = skipped.min(self.entries.len());
        std::iter::from_fn(move || {
            let (mut bytes, mut stream) = (Vec::new(), None);
            while at < self.entries.len() && bytes.len() < PIECE_BYTES_MAX / 2 {
                let end = self.entries[at..].iter().position(|byte| *byte == b'\n');
                let end = end.map_or(self.entries.len(), |length| at + length + 1);
                let entry = &self.entries[at..end];
                let entry = entry.strip_suffix(b"\n").unwrap_or(entry);
                if !bytes.is_empty() && Entry::parse(entry).is_some_and(|entry| Some(entry.stream) != stream)
                {
                    break;
                }
                stream = renderer.render(entry, &mut bytes).or(stream);
                at = end;
            }
            let next_offset = self.first_offset.saturating_add(at as u64);
            let stream = stream.filter(|_| !bytes.is_empty())?;
            Some(Piece { bytes, stream, next_offset })
        })
    }
}

/// The entry that ends at a place.
fn entry_before(entries: &[u8], end: usize) -> Option<Entry<'_>> {
    let entry = entries[..end].strip_suffix(b"\n")?;
    let begin = entry.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Entry::parse(&entry[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::Selection;
    use proptest::prelude::*;
    use std::time::Duration;

    fn entries(lines: &[(&str, &str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (second, (stream, tag, content)) in lines.iter().enumerate() {
            bytes.extend(
                format!("1970-01-01T00:00:{second:02}.000000000Z {stream} {tag} {content}\n").bytes(),
            );
        }
        bytes
    }

    fn excerpt() -> Excerpt {
        let entries = entries(&[
            ("stdout", "F", "zero"),
            ("stdout", "P", "on"),
            ("stderr", "F", "error"),
            ("stdout", "F", "e"),
            ("stdout", "F", "two"),
            ("stdout", "P", "open"),
        ]);
        Excerpt { first_offset: 1_000, entries }
    }

    fn text(excerpt: &Excerpt, from: u64, selection: &Selection) -> String {
        let mut renderer = Renderer::new(selection);
        let bytes = excerpt.pieces(from, &mut renderer).flat_map(|piece| piece.bytes).collect();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn what_was_written_comes_back_as_it_is_asked_for() {
        let excerpt = excerpt();
        let all = Selection::default();
        assert_eq!(text(&excerpt, 0, &all), "zero\nonerror\ne\ntwo\nopen");
        let second = |second| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        assert_eq!((excerpt.first_time(), excerpt.last_time()), (second(0), second(5)));
        assert_eq!(Excerpt::default().first_time().or(Excerpt::default().last_time()), None);
        let out = Selection { stream: Some(crate::Stream::Stdout), ..Selection::default() };
        assert_eq!(text(&excerpt, 0, &out), "zero\none\ntwo\nopen");
        let since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4));
        let late = Selection { since, timestamps: true, ..Selection::default() };
        let expected = "1970-01-01T00:00:04.000000000Z two\n1970-01-01T00:00:05.000000000Z open";
        assert_eq!(text(&excerpt, 0, &late), expected);
        for (lines, expected) in [(0, ""), (1, "open"), (2, "two\nopen"), (3, "e\ntwo\nopen")] {
            let mut counter = TailCounter::new(lines, None);
            let (from, is_found) = excerpt.find_tail(&mut counter);
            assert!(is_found && text(&excerpt, from, &all) == expected, "{lines}");
        }
        let (from, is_found) = excerpt.find_tail(&mut TailCounter::new(99, None));
        assert_eq!((from, is_found), (1_000, false));
    }

    #[test]
    fn reading_goes_on_where_it_stopped() {
        let line = ("stdout", "F", "x".repeat(100));
        let many: Vec<_> = (0..1_000).map(|_| (line.0, line.1, line.2.as_str())).collect();
        let excerpt = Excerpt { first_offset: 7, entries: entries(&many) };
        let mut renderer = Renderer::new(&Selection::default());
        let pieces: Vec<Piece> = excerpt.pieces(0, &mut renderer).collect();
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.bytes.len() <= PIECE_BYTES_MAX));
        assert_eq!(pieces.last().map(|piece| piece.next_offset), Some(excerpt.end_offset()));
        let rest: Vec<u8> = pieces[1..].iter().flat_map(|piece| piece.bytes.clone()).collect();
        let mut renderer = Renderer::new(&Selection::default());
        let again: Vec<u8> =
            excerpt.pieces(pieces[0].next_offset, &mut renderer).flat_map(|piece| piece.bytes).collect();
        assert!(rest == again);
    }

    #[test]
    fn a_piece_is_of_one_stream() {
        let lines = [("stdout", "F", "a"), ("stdout", "F", "b"), ("stderr", "P", ""), ("stderr", "F", "c")];
        let excerpt = Excerpt { first_offset: 7, entries: entries(&lines) };
        let mut renderer = Renderer::new(&Selection::default());
        let pieces: Vec<Piece> = excerpt.pieces(0, &mut renderer).collect();
        let parts: Vec<_> = pieces.iter().map(|piece| (piece.stream, piece.bytes.as_slice())).collect();
        assert_eq!(parts, [(Stream::Stdout, &b"a\nb\n"[..]), (Stream::Stderr, &b"c\n"[..])]);
        let mut renderer = Renderer::new(&Selection::default());
        let rest: Vec<Piece> = excerpt.pieces(pieces[0].next_offset, &mut renderer).collect();
        assert_eq!(rest, pieces[1..]);
    }

    #[test]
    fn a_cut_is_where_a_line_begins() {
        let whole = excerpt();
        let two = entries(&[("stdout", "F", "zero"), ("stdout", "P", "on")]).len();
        // Within the entry that continues a line.
        let mut cut = whole.clone();
        cut.cut_to_last(whole.entries.len() - two);
        assert_eq!(text(&cut, 0, &Selection::default()), "e\ntwo\nopen");
        assert_eq!(cut.end_offset(), whole.end_offset());
        let mut cut = whole.clone();
        cut.cut_to_last(whole.entries.len());
        assert_eq!(cut, whole);
        let mut skipped = whole.clone();
        skipped.skip_to(1_000 + two as u64);
        assert_eq!(text(&skipped, 0, &Selection::default()), "error\ne\ntwo\nopen");
        skipped.skip_to(9_999);
        assert_eq!((skipped.entries.len(), skipped.first_offset), (0, whole.end_offset()));
        // Nothing but a line that is too long.
        let parts = vec![("stdout", "P", "part"); 10];
        let mut cut = Excerpt { first_offset: 0, entries: entries(&parts) };
        cut.cut_to_last(100);
        assert_eq!(text(&cut, 0, &Selection::default()), "partpart");
    }

    #[test]
    fn compression_is_undone_within_its_bound() {
        let excerpt = excerpt();
        let compressed = excerpt.compressed();
        let length = excerpt.entries.len();
        assert_eq!(Excerpt::decompress(1_000, &compressed, length).expect("whole"), excerpt);
        assert!(Excerpt::decompress(0, &compressed, length - 1).is_err());
        assert!(Excerpt::decompress(0, b"no zstd", 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_and_read_without_panic(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'F'), any::<u8>()], 0..300),
            max in 0..400usize,
            from in 0..400u64,
        ) {
            let mut excerpt = Excerpt { first_offset: 5, entries: bytes };
            let end = excerpt.end_offset();
            excerpt.cut_to_last(max);
            prop_assert!(excerpt.entries.len() <= max);
            prop_assert_eq!(excerpt.end_offset(), end);
            excerpt.find_tail(&mut TailCounter::new(3, None));
            let mut renderer = Renderer::new(&Selection::default());
            for piece in excerpt.pieces(from, &mut renderer) {
                prop_assert!(!piece.bytes.is_empty() && piece.next_offset <= end);
            }
        }
    }
}
