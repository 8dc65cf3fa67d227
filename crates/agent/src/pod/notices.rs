//! What people may want to know of a Pod and nothing is decided by: it becomes an Event (D14).
//!
//! Owns: how often the same is told. Does not own: what is worth telling, the Event.
//!
//! Invariant: of each subject the first is told at once, and the pause before the next one doubles: a probe that fails every
//! second for a day costs the cluster some hundred reports.

use std::collections::BTreeMap;
use std::time::Duration;
use stint_lease::BootInstant;

use super::machine::Index;
use crate::limits::{NOTICE_PAUSE_MAX, NOTICE_PAUSE_MIN, NOTICE_SUBJECTS_MAX};

/// What is told again and again: of one, another that says something else must not hide behind the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// In Kubernetes' words, such as `Unhealthy`.
    pub reason: &'static str,
    /// Which container, if it is about one.
    pub container: Option<Index>,
    /// What about it where a reason has several, such as which probe; else empty.
    pub kind: &'static str,
}

impl Subject {
    /// Of the Pod as a whole.
    pub fn of_pod(reason: &'static str) -> Subject {
        Subject { reason, container: None, kind: "" }
    }

    /// Of a container.
    pub fn of(container: Index, reason: &'static str, kind: &'static str) -> Subject {
        Subject { reason, container: Some(container), kind }
    }
}

/// What of a Pod was told, by subject.
#[derive(Debug, Default)]
pub struct Notices {
    told: BTreeMap<Subject, Told>,
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
    pub fn count(&mut self, subject: Subject, now: BootInstant) -> Option<u32> {
        let Some(told) = self.told.get_mut(&subject) else {
            // More than there are of a Pod that is not made to tell much: it tells no more of new ones.
            if self.told.len() >= NOTICE_SUBJECTS_MAX {
                return None;
            }
            self.told.insert(subject, Told { at: now, pause: NOTICE_PAUSE_MIN, kept_back: 0 });
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
        let subject = Subject::of(0, "Unhealthy", "Readiness");
        let mut told = Vec::new();
        for second in 0..86_400 {
            told.extend(notices.count(subject, at(second)).map(|count| (second, count)));
        }
        assert_eq!(told[..3], [(0, 1), (30, 30), (90, 60)]);
        assert!(told.len() < 110, "{} reports in a day", told.len());
        let last = told.last().unwrap().0;
        assert_eq!(told.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(), last + 1, "each is counted");
        assert_eq!(notices.count(Subject::of_pod("Pulling"), at(86_400)), Some(1), "another reason");
    }

    #[test]
    fn a_probe_does_not_hide_the_failure_of_another() {
        let mut notices = Notices::default();
        let mut is_told = |container: Index, reason, kind| {
            notices.count(Subject::of(container, reason, kind), at(0)).is_some()
        };
        assert!(is_told(0, "Unhealthy", "Readiness"));
        assert!(!is_told(0, "Unhealthy", "Readiness"));
        assert!(is_told(0, "Unhealthy", "Liveness"), "another probe of the same container");
        assert!(is_told(1, "Unhealthy", "Readiness"), "the same probe of another container");
        assert!(is_told(1, "Killing", "") && !is_told(1, "Killing", ""));
    }

    #[test]
    fn what_is_kept_of_a_pod_is_bounded() {
        let mut notices = Notices::default();
        let told = (0..10 * NOTICE_SUBJECTS_MAX)
            .filter(|container| notices.count(Subject::of(*container, "Unhealthy", ""), at(0)).is_some());
        assert_eq!(told.count(), NOTICE_SUBJECTS_MAX);
    }
}
