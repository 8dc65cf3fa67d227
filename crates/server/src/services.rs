//! The gRPC services: thin handlers that convert, check, propose, read back and convert again.
//!
//! Owns: what each method does with the parts of this crate. Does not own: decisions about objects (`stint-core`), their
//! validation (`stint-api`), who may call (`auth`), which server answers (`forwarding`).

use std::sync::Arc;

use stint_api::limits::{DNS_LABEL_BYTES_MAX, DNS_SUBDOMAIN_BYTES_MAX};
use stint_core::{Command, Rejection, Reply};
use stint_raft::RaftNode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::error;
use crate::listing::Lists;
use crate::log_archive::LogArchive;
use crate::proposer::Proposer;
use crate::reads::Reads;
use crate::sessions::Sessions;
use crate::settings::GivenSettings;
use crate::watching::Watches;

pub mod access;
pub mod agent;
pub mod cluster;
pub mod config_maps;
pub mod events;
pub mod insight;
pub mod jobs;
pub mod kept_logs;
pub mod logs;
pub mod nodes;
pub mod pods;
pub mod snapshots;
pub mod usage;

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Name of this server.
    pub name: Arc<str>,
    /// The replicated log and state.
    pub raft: Arc<RaftNode>,
    /// Writes.
    pub proposer: Proposer,
    /// Reads.
    pub reads: Reads,
    /// Lists with further pages.
    pub lists: Arc<Lists>,
    /// Streams of changes.
    pub watches: Watches,
    /// Agents.
    pub sessions: Arc<Sessions>,
    /// What this server was started with, of the cluster's settings.
    pub given: Arc<GivenSettings>,
    /// Whole logs.
    pub log_archive: Option<LogArchive>,
    /// Places for those who save a snapshot.
    pub snapshots_saved: Arc<Semaphore>,
    /// Ends all streams.
    pub stop: CancellationToken,
}

impl Context {
    /// Proposes a command; a rejection becomes a status.
    pub async fn propose(&self, command: Command, bytes: usize) -> Result<Reply, Status> {
        let reply = self.proposer.propose(command, bytes).await;
        match reply.map_err(|failed| error::not_proposed(&failed, &self.raft))? {
            Reply::Rejected(rejection) => Err(error::rejected(&rejection)),
            reply => Ok(reply),
        }
    }
}

/// The state machine answered a command with a reply of another command: a defect.
fn wrong_reply(reply: &Reply) -> Status {
    error::internal("applying the request", &format!("unexpected reply {reply:?}"))
}

/// A required name of an object: whatever else it is, it must not be longer than one may be, since commands carry it into
/// the log.
fn required_name(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(error::bad_request("name", "Required value"));
    }
    no_longer_than("name", name, DNS_SUBDOMAIN_BYTES_MAX)
}

/// A namespace; empty is the default one.
fn optional_namespace(namespace: &str) -> Result<(), Status> {
    no_longer_than("namespace", namespace, DNS_LABEL_BYTES_MAX)
}

fn no_longer_than(field: &str, text: &str, bytes_max: usize) -> Result<(), Status> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(error::bad_request(field, format!("must be no more than {bytes_max} bytes")))
}

/// An optional uid precondition.
fn uid_of<U: std::str::FromStr>(field: &str, text: &str) -> Result<Option<U>, Status>
where
    U::Err: std::fmt::Display,
{
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|failed: U::Err| error::bad_request(field, failed.to_string()))
}

/// Rejections that a handler looks at before they become statuses.
fn rejection(reply: &Reply) -> Option<&Rejection> {
    match reply {
        Reply::Rejected(rejection) => Some(rejection),
        _ => None,
    }
}
