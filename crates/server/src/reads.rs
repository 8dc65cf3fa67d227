//! Reading: linearizable by default, stale when asked (R10).
//!
//! Owns: how long a read may take and what its failing means to the caller. Does not own: quorum rounds and rows
//! (`stint-raft`), what readers see of them (`objects`).
//!
//! Invariants: a linearizable read uses only a quorum round that began after the read had arrived; rows are read on threads
//! that may block, never on one that serves the network.

use std::sync::Arc;
use std::time::Duration;

use stint_raft::{RaftNode, ReadError};
use tonic::Status;

use crate::error;
use crate::limits::READ_TIMEOUT_MS;
use crate::objects::RowReader;

/// Handle for reads; cheap to clone.
#[derive(Clone)]
pub struct Reads {
    raft: Arc<RaftNode>,
}

impl Reads {
    /// Reads through `raft`.
    pub fn new(raft: Arc<RaftNode>) -> Reads {
        Reads { raft }
    }

    /// Reads a consistent view of all rows: of everything acknowledged before this call, or, if `stale`, of what this
    /// server has applied.
    ///
    /// # Errors
    /// `UNAVAILABLE` if this server does not lead, `DEADLINE_EXCEEDED` if no majority confirmed in time, and what `read` says.
    pub async fn rows<T: Send + 'static>(
        &self,
        stale: bool,
        read: impl FnOnce(&mut RowReader<'_>) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        if !stale {
            self.confirm().await?;
        }
        let raft = Arc::clone(&self.raft);
        let applied = self.raft.applied().borrow().index().unwrap_or(0);
        let outcome =
            self.raft.rows().read(applied, move |view| Ok(read(&mut RowReader::new(view, raft)))).await;
        outcome.map_err(|failed| error::internal("reading rows", &failed))?
    }

    /// Waits until everything that was acknowledged before this call is applied here. Concurrent calls share rounds.
    ///
    /// # Errors
    /// As [`Reads::rows`].
    pub async fn confirm(&self) -> Result<(), Status> {
        let timeout = Duration::from_millis(READ_TIMEOUT_MS);
        let confirmed = async {
            let read_index = self.raft.read_index().await?;
            self.raft.wait_applied(read_index.log_index, timeout).await
        };
        match tokio::time::timeout(timeout, confirmed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ReadError::NotLeader { .. })) => Err(error::not_leader(&self.raft)),
            Ok(Err(ReadError::Fatal(_))) => Err(error::stopping()),
            Ok(Err(ReadError::NoQuorum(_) | ReadError::NotApplied { .. })) | Err(_) => {
                Err(error::read_timeout("the read"))
            }
        }
    }
}
