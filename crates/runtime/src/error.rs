//! What can go wrong before a container runs, or while its output is read.
//!
//! Owns: the crate's error type. Does not own: how a container ended, which is an [`Exit`](crate::Exit), not an error:
//! a program that is missing or not executable is an exit with code 127 or 126.

use crate::limits;
use std::io;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A Pod's uid is not a UUID; it would become a path.
    #[error("pod uid {text:?} is not a uuid in lower-case hexadecimal")]
    PodUid {
        /// What was given.
        text: String,
    },
    /// A container's name is not a DNS label; it would become a path.
    #[error("container name {text:?} is not a DNS label of at most 63 characters")]
    ContainerName {
        /// What was given.
        text: String,
    },
    /// The process runtime does not pull images, so it can't know an image's entrypoint.
    #[error(
        "container {container:?} has no command: runtime \"process\" does not pull images, and the entrypoint is in \
         the image; set command"
    )]
    NoCommand {
        /// Its name.
        container: String,
    },
    /// A command, argument, variable or path can't be given to a program.
    #[error("container {container:?}: {what} {problem}")]
    Unrepresentable {
        /// The container's name.
        container: String,
        /// Which part of it.
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Command, arguments and environment together are larger than the limit.
    #[error(
        "container {container:?}: command, arguments and environment take {bytes} bytes, more than the limit of {}",
        limits::SPEC_BYTES_MAX
    )]
    SpecTooLarge {
        /// The container's name.
        container: String,
        /// Their size.
        bytes: usize,
    },
    /// The shim could not be started, or did not answer.
    #[error("shim program {program}: {action}")]
    Shim {
        /// What was started.
        program: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why, if the system said so.
        #[source]
        source: Option<io::Error>,
    },
    /// The system refused what a container needs to start: descriptors, processes, memory. It may be tried again.
    #[error("container {container:?} can't be started: {action}: {source}")]
    StartResources {
        /// The container's name.
        container: String,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The start was given up because the container is to be killed. Nothing of it is left.
    #[error("container {container:?} was killed before its program ran")]
    StartKilled {
        /// The container's name.
        container: String,
    },
    /// The moment before which the program was to run had passed. Nothing of it ever ran; it may be tried again.
    #[error("container {container:?} was not started: the moment before which it may start has passed")]
    StartTooLate {
        /// The container's name.
        container: String,
    },
    /// A log file or folder can't be read, made or removed.
    #[error("log {path}: {action}: {source}")]
    Log {
        /// The file or folder.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An offset does not name the beginning of an entry of this log.
    #[error(
        "offset {offset} is not in the log of container {container}: read it from the start, or from an offset that a reader returned"
    )]
    LogOffset {
        /// What was asked for.
        offset: u64,
        /// Pod, container and restart.
        container: String,
    },
}
