//! What of a log is wanted, and how it is shown.
//!
//! Owns: the decision about each entry. Does not own: where entries come from.

use crate::entry::{Entry, Stream, format_time, normal_time};
use std::time::SystemTime;

/// What of a log is wanted. The default is all of it, as the payload wrote it.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only what was written at or after this time.
    pub since: Option<SystemTime>,
    /// Put the time and a space before each line.
    pub timestamps: bool,
    /// Only one of the streams.
    pub stream: Option<Stream>,
}

/// Gives back what the payload wrote, entry by entry, in order.
#[derive(Debug)]
pub struct Renderer {
    since: Option<String>,
    timestamps: bool,
    stream: Option<Stream>,
    /// Per stream: the next entry begins a line.
    at_line_start: [bool; 2],
}

impl Renderer {
    /// For a log that is read from a place where lines begin.
    pub fn new(selection: &Selection) -> Renderer {
        Renderer {
            since: selection.since.map(format_time),
            timestamps: selection.timestamps,
            stream: selection.stream,
            at_line_start: [true; 2],
        }
    }

    /// Appends what an entry, without its newline, contributes to the output. Gives the stream that it was written to, if it
    /// contributes.
    pub fn render(&mut self, entry: &[u8], out: &mut Vec<u8>) -> Option<Stream> {
        let entry = Entry::parse(entry)?;
        if self.stream.is_some_and(|stream| stream != entry.stream) {
            return None;
        }
        let time =
            if self.since.is_some() || self.timestamps { normal_time(entry.time) } else { entry.time.into() };
        if self.since.as_ref().is_some_and(|since| *time < *since.as_bytes()) {
            return None;
        }
        let at_line_start = &mut self.at_line_start[entry.stream.index()];
        if self.timestamps && *at_line_start {
            out.extend_from_slice(&time);
            out.push(b' ');
        }
        out.extend_from_slice(entry.content);
        if entry.ends_line {
            out.push(b'\n');
        }
        *at_line_start = entry.ends_line;
        Some(entry.stream)
    }
}

/// Finds where the last lines of a log begin: shown its entries from the last one backwards.
#[derive(Debug)]
pub struct TailCounter {
    lines: u64,
    stream: Option<Stream>,
    found: u64,
    /// Per stream: an entry after this one was seen, so that a part is no end of a line.
    seen: [bool; 2],
}

/// What an entry is to a [`TailCounter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Not wanted, wherever the tail begins.
    Skip,
    /// The tail begins here or before.
    Take,
    /// The tail begins after it: it is found.
    Stop,
}

impl TailCounter {
    /// For the last `lines` lines of one stream, or of both.
    pub fn new(lines: u64, stream: Option<Stream>) -> TailCounter {
        TailCounter { lines, stream, found: 0, seen: [false; 2] }
    }

    /// Looks at the next entry, without its newline.
    pub fn step(&mut self, entry: &[u8]) -> Step {
        let Some(entry) = Entry::parse(entry) else { return Step::Skip };
        if self.stream.is_some_and(|stream| stream != entry.stream) {
            return Step::Skip;
        }
        let followed = std::mem::replace(&mut self.seen[entry.stream.index()], true);
        if entry.ends_line || !followed {
            self.found += 1;
            if self.found > self.lines {
                return Step::Stop;
            }
        }
        Step::Take
    }
}
