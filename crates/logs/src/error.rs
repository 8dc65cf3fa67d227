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
}
