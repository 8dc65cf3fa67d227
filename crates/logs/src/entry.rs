//! Entries: the format that container engines write and Kubernetes tools read (CRI logging).
//!
//! Owns: parsing entries, their times. Does not own: making entries of a payload's output (crate `runtime`).
//!
//! One entry is `<time> <stdout|stderr> <F|P> <content>\n`. `F` ends a line; `P` is a part of one, continued by the next
//! entry of the same stream, or by nothing if the output ended without a newline. The time is RFC 3339. In entries of our own
//! it is in UTC with nine digits, so that times compare as texts; those of engines are brought to that form.

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
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A parsed entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// RFC 3339.
    pub time: &'a [u8],
    /// Where it was written to.
    pub stream: Stream,
    /// False: a part of a line.
    pub ends_line: bool,
    /// What was written, without the newline.
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
pub fn format_time(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

/// The time of an entry; none if it is no time.
pub fn parse_time(time: &[u8]) -> Option<SystemTime> {
    let time: jiff::Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
    Some(time.into())
}

/// The time of an entry as [`format_time`] writes it. Container engines write it in the host's time zone, and without zeros at
/// its end: neither can be compared as text.
pub fn normal_time(time: &[u8]) -> Cow<'_, [u8]> {
    // `2026-01-02T03:04:05.000000006Z`
    if time.len() == 30 && time.ends_with(b"Z") {
        return Cow::Borrowed(time);
    }
    let parsed = std::str::from_utf8(time).ok().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(Cow::Borrowed(time), |time| Cow::Owned(format!("{time:.9}").into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TIME: &str = "2026-01-02T03:04:05.000000006Z";

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
    fn what_is_no_entry_is_not_parsed() {
        for text in ["", "x", "t stdout F", "t stdin F x", "t stdout X x"] {
            assert_eq!(Entry::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Entry::parse(b"t stdout F ").map(|entry| entry.content), Some(&b""[..]));
    }
}
