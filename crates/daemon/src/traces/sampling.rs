//! Which traces are exported.
//!
//! Owns: the decision, by the trace's id alone. Does not own: that a span follows its parent (the SDK).
//!
//! Invariant: whoever decides about a trace by the same share decides the same, without a word between them: so all of a Pod is
//! exported or none of it, though a server and an agent tell of it that share nothing but its uid.

use opentelemetry::trace::{Link, SpanKind, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};
use std::fmt;

/// The bits of a trace's id that are random by W3C's Trace Context: the last 56. Those before them are not in a uid, which has its
/// version and its variant there.
const RANDOM_BITS: u32 = 56;

/// A share of all traces, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// Every trace. What is asked for by hand is to be seen at once, and the bounds of the way out hold back what is too much: a
    /// cluster that starts hundreds of Pods a second is given less.
    pub const ALL: Ratio = Ratio(1.0);

    /// None if it is no number from 0 to 1.
    pub fn new(ratio: f64) -> Option<Ratio> {
        (0.0..=1.0).contains(&ratio).then_some(Ratio(ratio))
    }

    /// Whether a trace is in it. The greatest of the random bits are: collectors that sample by the same bits, as OpenTelemetry
    /// describes it, take a part of these and not of others.
    pub(super) fn has(self, trace: TraceId) -> bool {
        let range = 1_u64 << RANDOM_BITS;
        let random = (u128::from_be_bytes(trace.to_bytes()) as u64) & (range - 1);
        let left_out = ((1.0 - self.0) * range as f64).round() as u64;
        random >= left_out
    }
}

impl Default for Ratio {
    fn default() -> Ratio {
        Ratio::ALL
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Of spans without a parent.
impl ShouldSample for Ratio {
    fn should_sample(
        &self,
        _parent: Option<&Context>,
        trace: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let decision =
            if self.has(trace) { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uids of version 4, evenly spread.
    fn uids(count: u64) -> impl Iterator<Item = TraceId> {
        (0..count).map(|number| {
            let low = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & !(0x3 << 62)) | (0x2 << 62);
            TraceId::from_bytes(((0x1234_5678_9abc_4def_u128 << 64) | u128::from(low)).to_be_bytes())
        })
    }

    #[test]
    fn a_share_of_uids_is_taken_and_a_smaller_one_is_a_part_of_it() {
        let count = 10_000;
        let taken = |ratio| {
            let ratio = Ratio::new(ratio).unwrap();
            uids(count).filter(|uid| ratio.has(*uid)).collect::<Vec<_>>()
        };
        for (ratio, at_least, at_most) in
            [(0.0, 0, 0), (0.01, 80, 120), (0.5, 4_900, 5_100), (1.0, count as usize, count as usize)]
        {
            let taken = taken(ratio).len();
            assert!((at_least..=at_most).contains(&taken), "{taken} of {ratio}");
        }
        let more = taken(0.5);
        assert!(taken(0.01).iter().all(|uid| more.contains(uid)));
        assert_eq!([f64::NAN, -0.1, 1.1].map(Ratio::new), [None; 3]);
        assert_eq!(
            (Ratio::ALL.to_string(), Ratio::new(0.01).unwrap().to_string()),
            ("1".into(), "0.01".into())
        );
    }
}
