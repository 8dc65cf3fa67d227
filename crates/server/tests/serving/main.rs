//! Whole servers in this process, over real gRPC on loopback, with storage in memory and scripted agents.

mod agent;
mod cluster;

mod access;
mod authentication;
mod bad_input;
mod config_maps;
mod discovery;
mod forwarding;
mod hostile;
mod leases;
mod lists;
mod log_tails;
mod node_conditions;
mod nodes;
mod running_jobs;
mod settings;
mod watches;
