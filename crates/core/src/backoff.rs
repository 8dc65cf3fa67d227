//! Delays: before the replacement of a failed Pod (J50) and before a restart in place (P9).
//!
//! Owns: the arithmetic. Does not own: the counters it is fed with.

use crate::limits::{
    BACKOFF_BASE_DEFAULT_MS, BACKOFF_CAP_DEFAULT_MS, RESTART_BACKOFF_BASE_MS, RESTART_BACKOFF_CAP_MS,
};
use crate::record::JobSpecRecord;

/// J50: milliseconds to wait after `failures` failures in a row; 0 after none.
pub(crate) fn replacement_delay_ms(spec: &JobSpecRecord, failures: u32) -> i64 {
    match failures.checked_sub(1) {
        None => 0,
        Some(doublings) => doubled(spec.backoff_base_ms, spec.backoff_cap_ms, doublings),
    }
}

/// P9: milliseconds to wait before a restart in place that follows `exponent` others without ten healthy minutes.
/// D4: a base or cap that the Job sets holds here too; the defaults of J50 and P9 differ in the cap.
pub(crate) fn restart_delay_ms(spec: Option<&JobSpecRecord>, exponent: u32) -> i64 {
    let (base, cap) = match spec {
        None => (RESTART_BACKOFF_BASE_MS, RESTART_BACKOFF_CAP_MS),
        Some(spec) => (
            if spec.backoff_base_ms == BACKOFF_BASE_DEFAULT_MS {
                RESTART_BACKOFF_BASE_MS
            } else {
                spec.backoff_base_ms
            },
            if spec.backoff_cap_ms == BACKOFF_CAP_DEFAULT_MS {
                RESTART_BACKOFF_CAP_MS
            } else {
                spec.backoff_cap_ms
            },
        ),
    };
    doubled(base, cap, exponent)
}

fn doubled(base_ms: u64, cap_ms: u64, doublings: u32) -> i64 {
    let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
    let delay_ms = base_ms.saturating_mul(factor).min(cap_ms);
    i64::try_from(delay_ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(backoff_base_ms: u64, backoff_cap_ms: u64) -> JobSpecRecord {
        JobSpecRecord {
            parallelism: 1,
            completions: Some(1),
            active_deadline_seconds: None,
            backoff_limit: 6,
            ttl_seconds_after_finished: None,
            indexed: false,
            suspend: false,
            replace_terminating: false,
            backoff_base_ms,
            backoff_cap_ms,
            managed_by: None,
            manual_selector: None,
        }
    }

    #[test]
    fn j50_doubles_from_10_s_to_600_s() {
        let spec = spec(10_000, 600_000);
        let seconds: Vec<i64> = (0..9).map(|f| replacement_delay_ms(&spec, f) / 1000).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(replacement_delay_ms(&spec, u32::MAX), 600_000);
    }

    #[test]
    fn p9_doubles_from_10_s_to_300_s_unless_the_job_says_otherwise() {
        let seconds: Vec<i64> =
            (0..7).map(|n| restart_delay_ms(Some(&spec(10_000, 600_000)), n) / 1000).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart_delay_ms(Some(&spec(100, 250)), 1), 200);
        assert_eq!(restart_delay_ms(Some(&spec(100, 250)), 2), 250);
        assert_eq!(restart_delay_ms(None, 64), 300_000);
        assert_eq!(restart_delay_ms(Some(&spec(u64::MAX, u64::MAX)), 64), i64::MAX);
    }
}
