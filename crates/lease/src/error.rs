//! What can be wrong with lease settings.

use std::time::Duration;

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The lease is too short or too long.
    #[error("a node lease of {lease:?} can't be used: --node-lease must be between {min:?} and {max:?}")]
    LeaseRange {
        /// As given.
        lease: Duration,
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
}
