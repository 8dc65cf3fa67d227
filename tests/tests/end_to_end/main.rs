//! End-to-end tests: real servers, real agents, the real command line, Jobs that really run.

mod bad_input;
mod cluster_loss;
mod dev;
mod isolation;
mod job_behaviour;
mod leader_loss;
mod manifests;
mod node_loss;
mod pi;
