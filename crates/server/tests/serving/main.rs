//! Whole servers in this process, over real gRPC on loopback, with storage in memory and scripted agents.

mod agent;
mod cluster;

mod authentication;
mod bad_input;
mod forwarding;
mod leases;
mod lists;
mod running_jobs;
mod watches;
