//! The agent on each host: leases Pods, runs them, reports their end.
