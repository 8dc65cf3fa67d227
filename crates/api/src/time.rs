//! Timestamps as RFC 3339 text.
//!
//! Owns: formatting and parsing, in UTC. Does not own: clocks.

use crate::ids::Timestamp;

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time: write RFC 3339, such as 2026-01-31T12:00:00Z")]
pub struct ParseTimeError {
    text: String,
}

/// `2026-01-31T12:00:00Z`: what Kubernetes' objects carry.
pub fn format_seconds(time: Timestamp) -> String {
    jiff_of(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-31T12:00:00.123000Z`: what Kubernetes' MicroTime fields carry.
pub fn format_micros(time: Timestamp) -> String {
    jiff_of(time).strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Parses an RFC 3339 time of any precision and offset; below a millisecond is cut off.
///
/// # Errors
/// For any other text.
pub fn parse(text: &str) -> Result<Timestamp, ParseTimeError> {
    text.parse::<jiff::Timestamp>()
        .map(|time| Timestamp(time.as_millisecond()))
        .map_err(|_| ParseTimeError { text: text.to_owned() })
}

/// A moment beyond what can be written (year 9999) is shown as the last that can.
fn jiff_of(time: Timestamp) -> jiff::Timestamp {
    let end = if time.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(time.0).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        let time = Timestamp(1_769_860_800_123);
        assert_eq!(format_seconds(time), "2026-01-31T12:00:00Z");
        assert_eq!(format_micros(time), "2026-01-31T12:00:00.123000Z");
        assert_eq!(parse("2026-01-31T12:00:00.123Z"), Ok(time));
        assert_eq!(parse("2026-01-31T13:00:00.123999+01:00"), Ok(time));
        assert_eq!(format_seconds(Timestamp(0)), "1970-01-01T00:00:00Z");
        // Beyond every calendar, and still no panic.
        assert!(format_seconds(Timestamp(i64::MAX)).starts_with("9999-"));
        assert!(!format_seconds(Timestamp(i64::MIN)).is_empty());
        for text in ["", "yesterday", "2026-01-31", "2026-13-31T12:00:00Z"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
