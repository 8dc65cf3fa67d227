//! Starts real stint processes for end-to-end tests, talks to them with the real command line, and ends them.
//!
//! Owns: processes, their folders and ports, waiting for a condition with a deadline.
//! Does not own: what is right or wrong about one feature: that stands in each test.
//!
//! Every process that a [`Cluster`] or a [`HostedCluster`] starts is ended when it is dropped, by pid; ports come from the system, on a loopback
//! address of the test process's own, so that tests can run side by side.

pub mod abilities;
pub mod cluster;
#[path = "../../crates/runtime/tests/support/engine.rs"]
#[allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "it is part of tests"
)]
pub mod engine;
pub mod folder;
pub mod hosted_cluster;
pub mod hosts;
#[path = "../../crates/runtime/tests/support/images/mod.rs"]
#[allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "it is part of tests")]
pub mod images;
pub mod process;
pub mod scrape;
pub mod served_images;
pub mod waiting;

pub use cluster::{AgentUser, Cluster, ClusterOptions, Outcome};
pub use hosted_cluster::{HostedCluster, HostedOptions};
pub use process::{Process, binary};
pub use served_images::{BUSYBOX_IMAGE, ServedImages};
pub use waiting::{boot_time_ms, eventually, wait_until};
