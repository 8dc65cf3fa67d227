//! Ids that derive from an entry: uids of Pods, starting points of names.
//!
//! Owns: the mixing of (seed, log index, counter). Does not own: the seed, which the proposer draws at random.
//!
//! Invariant: equal entries give equal draws on every server.

use stint_api::PodUid;

/// Draws of one entry, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draw {
    seed: u64,
    log_index: u64,
    counter: u64,
}

impl Draw {
    pub(crate) fn new(seed: u64, log_index: u64) -> Draw {
        Draw { seed, log_index, counter: 0 }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(mix(self.seed ^ mix(self.log_index)).wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// The next uid, in the form of a random UUID (version 4, variant 1).
    pub(crate) fn pod_uid(&mut self) -> PodUid {
        let value = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        let versioned = (value & !(0xf_u128 << 76)) | (0x4_u128 << 76);
        PodUid((versioned & !(0x3_u128 << 62)) | (0x2_u128 << 62))
    }
}

/// Fraction of the golden ratio: the increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: a bijection in which every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn draws_repeat_for_equal_entries_and_differ_otherwise() {
        let first: Vec<PodUid> = (0..3).map(|_| 0).scan(Draw::new(7, 9), |d, _| Some(d.pod_uid())).collect();
        let again: Vec<PodUid> = (0..3).map(|_| 0).scan(Draw::new(7, 9), |d, _| Some(d.pod_uid())).collect();
        assert_eq!(first, again);
        let mut seen: BTreeSet<PodUid> = first.into_iter().collect();
        for (seed, log_index) in [(7, 10), (8, 9), (0, 0), (9, 7)] {
            assert!(seen.insert(Draw::new(seed, log_index).pod_uid()), "{seed} {log_index}");
        }
        for uid in seen {
            assert_eq!(uid.to_string().as_bytes()[14], b'4');
            assert!(matches!(uid.to_string().as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
    }
}
