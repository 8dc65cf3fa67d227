//! What can go wrong with what is kept of logs.

/// What is kept can't be read, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not what was compressed, or longer than it may be.
    #[error("an excerpt of a log is damaged, or has more than {max} bytes: {problem}")]
    Damaged {
        /// Most bytes that it may have.
        max: usize,
        /// What zstd says.
        problem: String,
    },
    /// Not the URL of an archive.
    #[error("log archive {url:?}: {problem}: give a URL such as file:///PATH or s3://BUCKET/PATH")]
    #[cfg(feature = "archive")]
    ArchiveUrl {
        /// What was given.
        url: String,
        /// Why it is none.
        problem: String,
    },
    /// The object store failed.
    #[error("log archive: {action} {object}: {problem}")]
    #[cfg(feature = "archive")]
    Archive {
        /// What was tried.
        action: &'static str,
        /// With which object, or objects below which path.
        object: String,
        /// What the store says.
        problem: String,
    },
}
