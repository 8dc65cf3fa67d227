//! End-to-end tests: real servers, real agents, the real command line, Jobs that really run.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking and print what they measured"
)]

mod access;
mod agent_restart;
mod bad_input;
mod cluster_loss;
mod dev;
mod fencing;
mod image_pulls;
mod insight;
mod isolation;
mod job_behaviour;
mod leader_loss;
mod long_runs;
mod lost_logs;
mod manifests;
mod members;
mod node_loss;
mod nodes;
mod operation;
mod pi;
mod pods;
mod restoring;
mod runtimes;
mod rust_client;
mod traces;
