//! What people may want to know of a Pod and nothing is decided by: it becomes an Event (D14).
//!
//! Owns: how often the same is told. Does not own: what is worth telling, the Event.
//!
//! Invariant: of each reason the first is told at once, and the pause before the next one doubles: a probe that fails every
//! second for a day costs the cluster some hundred reports.

use std::collections::BTreeMap;
use std::time::Duration;
use stint_lease::BootInstant;

use crate::limits::{NOTICE_PAUSE_MAX, NOTICE_PAUSE_MIN, NOTICE_REASONS_MAX};

/// What of a Pod was told, by reason.
#[derive(Debug, Default)]
pub struct Notices {
    told: BTreeMap<&'static str, Told>,
}

#[derive(Debug)]
struct Told {
    at: BootInstant,
    pause: Duration,
    /// Since then, and not told.
    kept_back: u32,
}

impl Notices {
    /// How often it has happened since it was told last, if it is to be told now.
    pub fn count(&mut self, reason: &'static str, now: BootInstant) -> Option<u32> {
        let Some(told) = self.told.get_mut(reason) else {
            if self.told.len() < NOTICE_REASONS_MAX {
                self.told.insert(reason, Told { at: now, pause: NOTICE_PAUSE_MIN, kept_back: 0 });
            }
            return Some(1);
        };
        told.kept_back = told.kept_back.saturating_add(1);
        if now.since(told.at) < told.pause {
            return None;
        }
        told.at = now;
        told.pause = (told.pause * 2).min(NOTICE_PAUSE_MAX);
        Some(std::mem::take(&mut told.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    #[test]
    fn what_happens_again_and_again_is_told_ever_more_rarely_and_counted() {
        let mut notices = Notices::default();
        let mut told = Vec::new();
        for second in 0..86_400 {
            told.extend(notices.count("Unhealthy", at(second)).map(|count| (second, count)));
        }
        assert_eq!(told[..3], [(0, 1), (30, 30), (90, 60)]);
        assert!(told.len() < 110, "{} reports in a day", told.len());
        let last = told.last().unwrap().0;
        assert_eq!(told.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(), last + 1, "each is counted");
        assert_eq!(notices.count("Pulling", at(86_400)), Some(1), "another reason is told at once");
    }
}
