//! When a probe of a container is due, and what its results mean.
//!
//! Owns: delays, periods, thresholds, as in Kubernetes. Does not own: carrying a probe out, what follows.

use stint_lease::BootInstant;

use super::plan::ProbePlan;

/// One probe of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeState {
    plan: ProbePlan,
    first_at: BootInstant,
    due_at: BootInstant,
    is_in_flight: bool,
    /// The result of the last ones, and how many of them in a row.
    streak: Option<(bool, u32)>,
    /// What holds, once a threshold was reached.
    holds: Option<bool>,
}

impl ProbeState {
    /// Of a container that may be probed from now on.
    pub fn new(plan: ProbePlan, now: BootInstant) -> ProbeState {
        let first_at = now.plus(plan.initial_delay);
        ProbeState { plan, first_at, due_at: first_at, is_in_flight: false, streak: None, holds: None }
    }

    /// When and how it is made.
    pub fn plan(&self) -> &ProbePlan {
        &self.plan
    }

    /// When the next is to be made; none while one is under way.
    pub fn due_at(&self) -> Option<BootInstant> {
        (!self.is_in_flight).then_some(self.due_at)
    }

    /// True if one is to be made now; it then counts as under way. The next is due at the next multiple of the period: what
    /// was missed is not made up for.
    pub fn begin(&mut self, now: BootInstant) -> bool {
        if self.is_in_flight || now < self.due_at {
            return false;
        }
        self.is_in_flight = true;
        self.skip_to(now);
        true
    }

    /// What is due by now is left out.
    pub fn skip_to(&mut self, now: BootInstant) {
        if self.due_at <= now {
            let missed = now.since(self.due_at).as_nanos() / self.plan.period.as_nanos().max(1);
            let periods = u32::try_from(missed + 1).unwrap_or(u32::MAX);
            self.due_at = self.due_at.plus(self.plan.period.saturating_mul(periods));
        }
    }

    /// The next is due at once, though not before the first may be made.
    pub fn hasten(&mut self, now: BootInstant) {
        self.due_at = self.first_at.max(now);
    }

    /// One has come to its end. What holds from now on, if that has changed.
    pub fn ended(&mut self, passed: bool) -> Option<bool> {
        if !std::mem::take(&mut self.is_in_flight) {
            return None;
        }
        let count = match self.streak {
            Some((result, count)) if result == passed => count.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((passed, count));
        let threshold = if passed { self.plan.success_threshold } else { self.plan.failure_threshold };
        if count < threshold || self.holds == Some(passed) {
            return None;
        }
        self.holds = Some(passed);
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(milliseconds: u64) -> BootInstant {
        BootInstant(Duration::from_millis(milliseconds))
    }

    fn probe() -> ProbeState {
        let plan = ProbePlan {
            initial_delay: Duration::from_secs(5),
            period: Duration::from_secs(10),
            success_threshold: 2,
            failure_threshold: 3,
            grace: None,
        };
        ProbeState::new(plan, at(1_000))
    }

    #[test]
    fn a_probe_is_made_after_its_delay_then_at_each_period_and_one_at_a_time() {
        let mut probe = probe();
        assert!(!probe.begin(at(5_999)));
        assert!(probe.begin(at(6_000)));
        assert!(!probe.begin(at(17_000)) && probe.due_at().is_none(), "one is under way");
        probe.ended(true);
        assert_eq!(probe.due_at(), Some(at(16_000)));
        assert!(probe.begin(at(47_000)), "late");
        probe.ended(true);
        assert_eq!(probe.due_at(), Some(at(56_000)), "what was missed is not made up for");
    }

    #[test]
    fn only_so_many_results_in_a_row_mean_something_and_are_told_once() {
        let mut probe = probe();
        let mut now = 6_000;
        let mut result = |passed| {
            assert!(probe.begin(at(now)));
            now += 10_000;
            probe.ended(passed)
        };
        assert_eq!(result(true), None);
        assert_eq!(result(false), None);
        assert_eq!(result(true), None);
        assert_eq!(result(true), Some(true));
        assert_eq!(result(true), None);
        assert_eq!([result(false), result(false), result(true)], [None, None, None]);
        assert_eq!([result(false), result(false), result(false)], [None, None, Some(false)]);
        assert_eq!([result(false), result(true), result(true)], [None, None, Some(true)]);
        assert_eq!(probe.ended(false), None, "of none that was begun");
    }
}
