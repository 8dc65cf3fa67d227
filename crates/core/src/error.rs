//! What can go wrong outside of `apply`, which never fails.

use stint_api::Revision;

use crate::row::RowKey;

/// Why a state could not be loaded from its rows, or not be made the first one of a new cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// A row under a key of another kind.
    #[error(
        "row {key:?} holds a record of another kind: the rows are damaged; restore this server from a snapshot"
    )]
    WrongKind {
        /// The row's key.
        key: Box<RowKey>,
    },
    /// A row that needs another one which is not there.
    #[error(
        "row {key:?} needs {missing}, which is not there: the rows are damaged; restore this server from a snapshot"
    )]
    Dangling {
        /// The row's key.
        key: Box<RowKey>,
        /// What is missing.
        missing: &'static str,
    },
    /// A row whose text can't be read.
    #[error(
        "row {key:?} has a {field} that can't be read: the rows are damaged; restore this server from a snapshot"
    )]
    Unreadable {
        /// The row's key.
        key: Box<RowKey>,
        /// The field.
        field: &'static str,
    },
    /// Nothing can be restored of a cluster without settings.
    #[error("the cluster was not initialized: there is nothing in it to restore")]
    NotInitialized,
    /// Revisions end at 2^64.
    #[error("revision {revision} can't be raised as far as that: raise it less often, at least once")]
    NoRevisionLeft {
        /// The last one.
        revision: Revision,
    },
}
