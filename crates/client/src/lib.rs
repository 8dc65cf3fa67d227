//! Rust client of the cluster.
