//! Durations in Go's text form, such as `1m30s` or `500ms`.
//!
//! Owns: parsing and formatting. Does not own: what a duration is for.

use std::fmt;
use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseDurationError {
    text: String,
}

impl fmt::Display for ParseDurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} is not a duration: write a number with a unit, such as 500ms, 10s or 1m30s",
            self.text
        )
    }
}

impl std::error::Error for ParseDurationError {}

/// Units and their nanoseconds; longer texts first where one begins with another.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration: one or more numbers, each with a unit (`h`, `m`, `s`, `ms`, `us`, `ns`); `0` needs none. Not negative.
///
/// # Errors
/// For any other text, and for more than about 584 years.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    nanoseconds(text)
        .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| ParseDurationError { text: text.to_owned() })
}

/// Formats as Go does, with a precision of milliseconds: `1h0m0s`, `1m30s`, `1.5s`, `500ms`, `0s`.
pub fn format_ms(milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (seconds, fraction) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&seconds.to_string());
    if fraction > 0 {
        text.push_str(format!(".{fraction:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

fn nanoseconds(text: &str) -> Option<u128> {
    /// Digits before or after the point; more would overflow or be beyond a nanosecond.
    const DIGITS_MAX: usize = 18;
    let mut rest = text;
    let mut total: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let length = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at(length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let has_digits = !whole.is_empty() || !fraction.is_empty();
        if !has_digits || fraction.contains('.') || whole.len() > DIGITS_MAX || fraction.len() > DIGITS_MAX {
            return None;
        }
        let unit_length = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &after[..unit_length])?;
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        total = total.checked_add(digits.checked_mul(*factor)? / 10_u128.pow(fraction.len() as u32))?;
        rest = &after[unit_length..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("2h45m", 9_900_000),
            ("1h0m0.25s", 3_600_250),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for milliseconds in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_250] {
            assert_eq!(parse(&format_ms(milliseconds)), Ok(Duration::from_millis(milliseconds)));
        }
    }

    #[test]
    fn texts_that_are_no_durations() {
        for text in ["", "10", "s", "-1s", "1 s", "1x", "soon", "1..5s", "9999999999999h", "1s1", ".s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
