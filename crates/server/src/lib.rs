//! The server process: proposer, watch hub, agent sessions, gRPC services, forwarding.
//!
//! Owns: everything between the network and the replicated state: who may call, which server answers, batching, reads,
//! streams, sessions, leases in memory. Does not own: decisions about Jobs, Pods and Nodes (`stint-core`), replication and
//! storage (`stint-raft`), the wire (`stint-proto`), the rules of leases (`stint-lease`).
//!
//! Invariants: every request has an identity; every queue and stream is bounded; what the caller is told about a write is
//! what is known of it (decision 10).

mod agent_wire;
mod auth;
mod channels;
mod config;
mod connections;
mod ended_pods;
mod error;
mod forwarding;
mod grpc;
mod identity;
mod intake;
mod leases;
mod life_traces;
pub mod limits;
mod listing;
mod log_archive;
mod log_tails;
mod metrics;
mod objects;
mod pod_collection;
mod pod_to_run;
mod proposer;
mod reads;
mod server;
mod services;
mod session;
mod sessions;
mod settings;
mod timers;
mod usage;
mod watch;
mod watching;

pub use config::{InitialMember, Listen, ServerConfig, check_name as check_server_name};
pub use error::Error;
pub use identity::{ClusterToken, Identity, IdentityKind};
pub use log_archive::check as check_log_archive;
pub use server::{RunningServer, Server};
pub use settings::GivenSettings;
pub use stint_core::PlacementPolicy;
pub use stint_raft::StorageLocation;
pub use stint_raft::engine::MemoryEngine;
pub use stint_raft::saved_snapshot;
