//! Limits and fixed times of the lease protocol.

use std::time::Duration;

/// Shortest lease: below, fence margin and kill budget leave nothing.
pub const NODE_LEASE_MIN: Duration = Duration::from_secs(5);
/// Longest lease: as long as a lost host may keep its Pods from running elsewhere.
pub const NODE_LEASE_MAX: Duration = Duration::from_secs(600);
/// From here on the kill budget is 2 s.
pub const NODE_LEASE_FULL: Duration = Duration::from_secs(10);
/// Smallest fence margin, that of the shortest lease.
pub const FENCE_MARGIN_MIN: Duration = Duration::from_millis(1_500);
/// What the fence margin of a lease of 10 s or more has beyond the kill budget and drift, for late timers.
pub const FENCE_SLACK: Duration = Duration::from_millis(980);
/// How much later than the agent's whole lease the leader expires a node.
pub const EXPIRY_GRACE: Duration = Duration::from_millis(500);
/// Clock rates may differ by so many parts per million: twice what NTP slews by.
pub const CLOCK_RATE_DIFFERENCE_PPM: u64 = 1_000;
/// Heartbeats that arrive within this share a quorum round (A5).
pub const ROUND_BATCH: Duration = Duration::from_millis(50);
/// How often the leader looks at its table at least; a longer gap means that it was held up.
pub const TABLE_INTERVAL: Duration = Duration::from_millis(100);
/// A6: a loop delayed by more than this extends every lease by the delay.
pub const LOOP_DELAY_MAX: Duration = Duration::from_millis(500);
/// An expiry that was proposed and did not apply is proposed again after this.
pub const EXPIRE_RETRY: Duration = Duration::from_secs(1);
/// A quorum round without an answer is given up after this, and its heartbeats go into the next.
pub const ROUND_TIMEOUT: Duration = Duration::from_secs(2);
/// Nodes of a cluster.
pub const NODES_MAX: usize = 20_000;
/// Ended Pods whose logs are asked about at once (A8).
pub const ENDED_ASKED_MAX: usize = 1_000;
/// Tombstones of Pods that were stopped before they were known (A9).
pub const TOMBSTONES_MAX: usize = 10_000;
