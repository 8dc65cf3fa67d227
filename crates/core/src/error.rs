//! What can go wrong outside of `apply`, which never fails.

use crate::row::RowKey;

/// Why a state could not be loaded from its rows.
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
}
