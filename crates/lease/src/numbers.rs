//! The lease numbers, all of which follow from one setting.
//!
//! Owns: instants of the boot clock, the arithmetic. Does not own: clocks.

use std::time::Duration;

use crate::error::Error;
use crate::limits;

/// A moment of one machine's CLOCK_BOOTTIME. Moments of different machines can't be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootInstant(pub Duration);

impl BootInstant {
    /// This moment and a while.
    pub fn plus(self, duration: Duration) -> BootInstant {
        BootInstant(self.0.saturating_add(duration))
    }

    /// From `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: BootInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// See the table of the agent protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseNumbers {
    /// L.
    pub node_lease: Duration,
    /// L / 5.
    pub heartbeat_interval: Duration,
    /// Worst case of killing and reaping a Pod.
    pub kill_budget: Duration,
    /// How long before the end of its lease an agent kills everything.
    pub fence_margin: Duration,
    /// How long after the end of a lease the leader expires it.
    pub expiry_grace: Duration,
}

impl LeaseNumbers {
    /// Everything that follows from L.
    ///
    /// Below 10 s the fence margin is 0.3 L, at least 1.5 s. From there on it is `K + 2ρL` and the 0.98 s that this leaves
    /// at 10 s for late timers: a long lease bridges long outages and need not give up a third of itself.
    ///
    /// # Errors
    /// If L is not between 5 s and 10 min.
    pub fn from_node_lease(node_lease: Duration) -> Result<LeaseNumbers, Error> {
        let (min, max) = (limits::NODE_LEASE_MIN, limits::NODE_LEASE_MAX);
        if node_lease < min || node_lease > max {
            return Err(Error::LeaseRange { lease: node_lease, min, max });
        }
        let is_short = node_lease < limits::NODE_LEASE_FULL;
        let kill_budget = if is_short { Duration::from_secs(1) } else { Duration::from_secs(2) };
        let drift = node_lease * 2 * limits::CLOCK_RATE_DIFFERENCE_PPM as u32 / 1_000_000;
        let fence_margin = if is_short {
            (node_lease * 3 / 10).max(limits::FENCE_MARGIN_MIN)
        } else {
            kill_budget + drift + limits::FENCE_SLACK
        };
        Ok(LeaseNumbers {
            node_lease,
            heartbeat_interval: node_lease / 5,
            kill_budget,
            fence_margin,
            expiry_grace: limits::EXPIRY_GRACE,
        })
    }

    /// When the agent kills everything, counted from the sending of what renewed its lease (A4).
    pub fn agent_deadline(&self, sent_at: BootInstant) -> BootInstant {
        sent_at.plus(self.node_lease.saturating_sub(self.fence_margin))
    }

    /// When the leader expires the node, counted from the receipt of what renewed its lease (A6).
    pub fn server_deadline(&self, received_at: BootInstant) -> BootInstant {
        received_at.plus(self.node_lease + self.expiry_grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_protocol() {
        let numbers = LeaseNumbers::from_node_lease(Duration::from_secs(10)).unwrap();
        assert_eq!(numbers.heartbeat_interval, Duration::from_secs(2));
        assert_eq!(numbers.kill_budget, Duration::from_secs(2));
        assert_eq!(numbers.fence_margin, Duration::from_secs(3));
        let sent = BootInstant(Duration::from_secs(100));
        assert_eq!(numbers.agent_deadline(sent), BootInstant(Duration::from_secs(107)));
        assert_eq!(numbers.server_deadline(sent), BootInstant(Duration::from_millis(110_500)));
        let short = LeaseNumbers::from_node_lease(Duration::from_secs(5)).unwrap();
        assert_eq!(
            (short.fence_margin, short.kill_budget),
            (Duration::from_millis(1_500), Duration::from_secs(1))
        );
        for seconds in [0, 4, 601, 100_000] {
            assert!(LeaseNumbers::from_node_lease(Duration::from_secs(seconds)).is_err());
        }
    }

    #[test]
    fn r6_every_lease_leaves_room_for_the_kill_and_for_drift() {
        for seconds in 5..=600 {
            let numbers = LeaseNumbers::from_node_lease(Duration::from_secs(seconds)).unwrap();
            let drift = numbers.node_lease * 2 / 1000;
            let slack = numbers.fence_margin.saturating_sub(numbers.kill_budget + drift);
            assert!(slack >= Duration::from_millis(490), "{seconds} s: {numbers:?}");
            assert!(seconds < 10 || slack >= limits::FENCE_SLACK, "{seconds} s: {numbers:?}");
            assert!(
                numbers.heartbeat_interval * 2 < numbers.node_lease - numbers.fence_margin,
                "{seconds} s"
            );
        }
    }
}
