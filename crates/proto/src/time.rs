//! Moments and durations on the wire.
//!
//! Owns: milliseconds ↔ `google.protobuf.Timestamp` and `Duration`. Does not own: clocks.

use stint_api::Timestamp;

use crate::error::ConversionError;

const NANOS_PER_MS: i32 = 1_000_000;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// A moment as it is written on the wire. Every moment can be.
pub fn timestamp_to_wire(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.0.div_euclid(1000),
        // Below 1,000 by the meaning of a remainder.
        nanos: moment.0.rem_euclid(1000) as i32 * NANOS_PER_MS,
    }
}

/// A moment as it was read; `None` stays `None`. Fractions of a millisecond are dropped. `field` is for the error.
pub fn timestamp_from_wire(
    field: &str,
    moment: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, ConversionError> {
    let Some(moment) = moment else {
        return Ok(None);
    };
    if !(0..NANOS_PER_SECOND).contains(&moment.nanos) {
        let value = format!("{}s {}ns", moment.seconds, moment.nanos);
        return Err(ConversionError::invalid(field, value, "nanos must be between 0 and 999,999,999"));
    }
    let millis = moment
        .seconds
        .checked_mul(1000)
        .and_then(|millis| millis.checked_add(i64::from(moment.nanos / NANOS_PER_MS)))
        .or_else(|| last_second_before_minimum(&moment));
    match millis {
        Some(millis) => Ok(Some(Timestamp(millis))),
        None => {
            let value = format!("{}s", moment.seconds);
            Err(ConversionError::invalid(field, value, "must fit into 64 bits as milliseconds since 1970"))
        }
    }
}

/// A duration as it is written on the wire.
pub fn duration_to_wire(duration_ms: u64) -> prost_types::Duration {
    prost_types::Duration {
        // A 1,000th of 64 bits fits into 63.
        seconds: (duration_ms / 1000) as i64,
        nanos: (duration_ms % 1000) as i32 * NANOS_PER_MS,
    }
}

/// A duration as it was read, in milliseconds; `None` stays `None`. Fractions of a millisecond are rounded up, so that a
/// wish for "some" never becomes "none". `field` is for the error.
pub fn duration_from_wire(
    field: &str,
    duration: Option<prost_types::Duration>,
) -> Result<Option<u64>, ConversionError> {
    let Some(duration) = duration else {
        return Ok(None);
    };
    let invalid = |detail| {
        ConversionError::invalid(field, format!("{}s {}ns", duration.seconds, duration.nanos), detail)
    };
    if duration.seconds < 0 || duration.nanos < 0 {
        return Err(invalid("must be greater than or equal to 0"));
    }
    if duration.nanos >= NANOS_PER_SECOND {
        return Err(invalid("nanos must be between 0 and 999,999,999"));
    }
    let nanos = duration.nanos.unsigned_abs();
    let millis = u64::from(nanos.div_ceil(NANOS_PER_MS.unsigned_abs()));
    match duration.seconds.unsigned_abs().checked_mul(1000).and_then(|whole| whole.checked_add(millis)) {
        Some(millis) => Ok(Some(millis)),
        None => Err(invalid("must fit into 64 bits as milliseconds")),
    }
}

/// The second in which the smallest moment lies begins before it; its product alone overflows.
fn last_second_before_minimum(moment: &prost_types::Timestamp) -> Option<i64> {
    if moment.seconds >= 0 {
        return None;
    }
    let next_second = moment.seconds.checked_add(1)?.checked_mul(1000)?;
    next_second.checked_sub(1000 - i64::from(moment.nanos / NANOS_PER_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_round_trip_to_the_ends_of_the_range() {
        for millis in [0, 1, -1, 999, -999, 1000, -1000, 1_700_000_000_123, i64::MAX, i64::MIN, i64::MIN + 1]
        {
            let moment = Timestamp(millis);
            assert_eq!(
                timestamp_from_wire("t", Some(timestamp_to_wire(moment))),
                Ok(Some(moment)),
                "{millis}"
            );
        }
    }

    #[test]
    fn moments_that_are_none() {
        for (seconds, nanos) in
            [(0, -1), (0, NANOS_PER_SECOND), (i64::MAX, 0), (i64::MIN, 0), (i64::MAX / 1000 + 1, 0)]
        {
            let error =
                timestamp_from_wire("status.startTime", Some(prost_types::Timestamp { seconds, nanos }));
            assert_eq!(error.unwrap_err().field(), "status.startTime", "{seconds} {nanos}");
        }
    }

    #[test]
    fn durations_round_trip_and_round_up() {
        for millis in [0, 1, 999, 1000, 600_000, u64::MAX] {
            assert_eq!(duration_from_wire("d", Some(duration_to_wire(millis))), Ok(Some(millis)));
        }
        let short = prost_types::Duration { seconds: 0, nanos: 1 };
        assert_eq!(duration_from_wire("d", Some(short)), Ok(Some(1)));
    }

    #[test]
    fn durations_that_are_none() {
        for (seconds, nanos) in
            [(-1, 0), (0, -1), (0, NANOS_PER_SECOND), (i64::MAX, 0), (i64::MIN, i32::MIN), (1, i32::MAX)]
        {
            let error = duration_from_wire("d", Some(prost_types::Duration { seconds, nanos }));
            assert!(error.is_err(), "{seconds} {nanos}");
        }
    }
}
