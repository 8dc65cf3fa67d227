//! What can go wrong in storage, and what to do about it.
//!
//! Owns: errors of opening, reading and writing a data folder, and of decoding. Does not own: errors of peers.

use std::path::PathBuf;

/// Why a data folder can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder can't be used at all.
    #[error("data folder {}: could not {action}: {source}", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process holds the folder.
    #[error(
        "data folder {} is in use by another process: stop that process, or give this one a folder of its own",
        folder.display()
    )]
    InUse {
        /// Which folder.
        folder: PathBuf,
    },
    /// A restore into the folder was cut short.
    #[error(
        "data folder {} holds a restore that was cut short: remove everything in it, then restore again",
        folder.display()
    )]
    Unfinished {
        /// Which folder.
        folder: PathBuf,
    },
    /// A snapshot is restored into a new folder only.
    #[error(
        "data folder {} is not empty, it has {found:?}: restore into a new folder, and keep this one until you need it no more",
        folder.display()
    )]
    NotEmpty {
        /// Which folder.
        folder: PathBuf,
        /// What is in it.
        found: String,
    },
    /// The folder's format is not this program's.
    #[error(
        "data folder {} has format {found:?}, this program writes {expected:?}: start it with the version that wrote the \
         folder, or begin in an empty one: as another member of its cluster by `stint member replace NAME`, or anew, \
         as by `stint dev --data-dir FOLDER`, without its jobs",
        folder.display()
    )]
    Format {
        /// Which folder.
        folder: PathBuf,
        /// What its file FORMAT says.
        found: String,
        /// What it would have to say.
        expected: String,
    },
    /// The folder belongs to another server or cluster.
    #[error(
        "data folder {} belongs to {found}, not to {expected}: check --data-dir and --name; to give this server a new \
         place in the cluster use a fresh folder and `stint member replace NAME`",
        folder.display()
    )]
    Foreign {
        /// Which folder.
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it would have to be.
        expected: String,
    },
    /// The folder is damaged.
    #[error(
        "data folder {} is damaged: {what}. Do not repair it: what this server once promised may be \
         lost. Keep the folder for analysis, and on another server run `stint member replace NAME`, then start this one \
         with a fresh folder",
        folder.display()
    )]
    Damaged {
        /// Which folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The storage engine failed.
    #[error("data folder {}: the storage engine could not {action}: {problem}", folder.display())]
    Engine {
        /// Which folder.
        folder: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the engine said.
        problem: String,
    },
    /// A write or an fsync failed before: nothing is written any more, the process must end (R2).
    #[error("storage has stopped: {cause}: the process must end; start it again once the disk is sound")]
    Stopped {
        /// The first failure.
        cause: String,
    },
    /// A snapshot that was received or saved is not whole, not this cluster's, or of another version; or it could not be made.
    #[error("snapshot refused: {what}")]
    Snapshot {
        /// What is wrong with it.
        what: String,
    },
    /// This server has no place in a cluster and will not get one without a person's help (decision 13).
    #[error("this server has no place in the cluster: {0}")]
    Bootstrap(String),
    /// The peer port can't be used.
    #[error("could not listen on the peer port: {0}: choose another with --peer-listen")]
    Listen(std::io::Error),
    /// openraft did not start.
    #[error("replication did not start: {0}")]
    Raft(String),
    /// Bytes that nothing here writes.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> std::io::Error {
        std::io::Error::other(error)
    }
}

/// Bytes that can't be decoded, and where in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not decode {}: {problem}", path.join("."))]
pub struct CodecError {
    path: Vec<&'static str>,
    problem: CodecProblem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum CodecProblem {
    #[error("it is missing")]
    Missing,
    #[error("format {0} is not known: a newer version wrote it")]
    Format(u8),
    #[error("{0}")]
    Protobuf(prost::DecodeError),
    #[error("it has {found} bytes, not {expected}")]
    Length { found: usize, expected: usize },
    #[error("value {0} is not known: a newer version wrote it")]
    UnknownValue(i32),
    #[error("{0:?} is not valid")]
    Text(String),
    #[error("it is not a row key")]
    RowKey,
    #[error("its checksum is {found:08x}, its content's {expected:08x}")]
    Checksum { expected: u32, found: u32 },
}

impl CodecError {
    /// Says in which field it happened; the outermost is added last.
    pub(crate) fn within(mut self, name: &'static str) -> CodecError {
        self.path.insert(0, name);
        self
    }

    pub(crate) fn missing() -> CodecError {
        CodecProblem::Missing.into()
    }

    pub(crate) fn format(format: u8) -> CodecError {
        CodecProblem::Format(format).into()
    }

    pub(crate) fn protobuf(error: prost::DecodeError) -> CodecError {
        CodecProblem::Protobuf(error).into()
    }

    pub(crate) fn length(found: usize, expected: usize) -> CodecError {
        CodecProblem::Length { found, expected }.into()
    }

    pub(crate) fn unknown_value(value: i32) -> CodecError {
        CodecProblem::UnknownValue(value).into()
    }

    pub(crate) fn text(text: String) -> CodecError {
        CodecProblem::Text(text).into()
    }

    pub(crate) fn row_key() -> CodecError {
        CodecProblem::RowKey.into()
    }

    pub(crate) fn checksum(expected: u32, found: u32) -> CodecError {
        CodecProblem::Checksum { expected, found }.into()
    }
}

impl From<CodecProblem> for CodecError {
    fn from(problem: CodecProblem) -> CodecError {
        CodecError { path: Vec::new(), problem }
    }
}
