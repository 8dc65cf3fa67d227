//! What can keep an agent from working.
//!
//! Owns: the error type. Does not own: why a Pod failed (reports).

use std::path::PathBuf;

/// Why an agent can't start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument can't be used.
    #[error("{argument} {value:?}: {problem}")]
    Argument {
        /// Such as `--name`.
        argument: &'static str,
        /// As given.
        value: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The data folder can't be used.
    #[error("the data folder {}: {problem}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The journal can't be read or written.
    #[error("the journal {} can't be read or written: {source}", path.display())]
    Journal {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no room for the journal. What waits for it waits on.
    #[error("the journal {} can't grow: its disk is full or a quota is used up; make room", path.display())]
    JournalFull {
        /// Which file.
        path: PathBuf,
    },
    /// The journal is damaged.
    #[error(
        "the journal {} is damaged at byte {offset} ({what}): once no process of its Pods is left, give the agent an empty data folder",
        path.display()
    )]
    JournalDamaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The journal is of an earlier version.
    #[error(
        "the journal {} is of format {format}, which this version can't read: once no process of its Pods is left, give the agent an empty data folder",
        path.display()
    )]
    JournalFormat {
        /// Which file.
        path: PathBuf,
        /// Of what is there.
        format: u8,
    },
    /// The runtime can't be used on this host.
    #[error("a runtime can't be used: {0}")]
    Runtime(#[from] stint_runtime::Error),
    /// A defect of the agent.
    #[error("the agent has stopped because of a defect of its own: {0}")]
    Panicked(String),
    /// The servers will never take this agent.
    #[error("the servers refuse this agent: {message}")]
    Refused {
        /// What they said.
        message: String,
    },
}
