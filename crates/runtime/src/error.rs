//! What can go wrong before a container runs, or while its output is read.
//!
//! Owns: the crate's error type. Does not own: how a container ended, which is an [`Exit`](crate::Exit), not an error:
//! a program that is missing or not executable is an exit with code 127 or 126.

use crate::{AttachRefusal, PolicyViolation, limits};
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
    /// Neither the Pod nor the image names a program.
    #[error(
        "container {container:?} has no command, and its image {image:?} has neither an entrypoint nor a command; set command"
    )]
    NoCommandInImage {
        /// Its name.
        container: String,
        /// As the Pod names it.
        image: String,
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
    /// The folder of the shims' sockets can't be used.
    #[error("the folder of shims {path}: {action}: {source}")]
    ShimFolder {
        /// Which one.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
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
    /// The image of a container can't be had. The reason is Kubernetes' word.
    #[error("image {reference:?}: {message}")]
    Image {
        /// As the user wrote it.
        reference: String,
        /// Such as `ErrImagePull`.
        reason: ImageReason,
        /// Why, for people.
        message: String,
    },
    /// The store of images can't be used.
    #[error("images in {path}: can't {action}: {source}")]
    Images {
        /// Its folder.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// This runtime can't do what is asked of it on this host.
    #[error("runtime {runtime:?} can't do this here: {what}")]
    Unsupported {
        /// Its name.
        runtime: &'static str,
        /// What was asked for, and what would mend it.
        what: String,
    },
    /// The node's policy refuses it.
    #[error("{of}: {violation}")]
    NotAllowed {
        /// The Pod or container.
        of: String,
        /// What was asked for, and what would allow it.
        violation: PolicyViolation,
    },
    /// All users for Pods are taken.
    #[error("no user is left for another pod: start the agent with a larger --pod-uids")]
    NoPodUid,
    /// The container has ended, or never ran.
    #[error("container {container} does not run")]
    NotRunning {
        /// Pod, container and restart.
        container: String,
    },
    /// A further program could not be executed in a container.
    #[error("container {container}: {message}")]
    ExecStart {
        /// Pod, container and restart.
        container: String,
        /// 126 or 127, as shells have it; 128 if its surroundings could not be made.
        exit_code: i32,
        /// Why, for people.
        message: String,
    },
    /// A client can't have the container's own streams.
    #[error("container {container}: {refusal}")]
    Attach {
        /// Pod, container and restart.
        container: String,
        /// Why.
        refusal: AttachRefusal,
    },
    /// The container engine refused, or does not answer.
    #[error("container engine at {socket}: {action}: {message}")]
    Engine {
        /// Its address.
        socket: String,
        /// What was asked of it.
        action: &'static str,
        /// Why, in its words.
        message: String,
    },
    /// The guard of the engine's containers could not be started.
    #[error("guard program {program}: {action}: {source}")]
    Guard {
        /// What was started.
        program: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What an earlier process left can neither be taken over nor ended: begun anew it could run twice.
    #[error("what an earlier agent left: {action}: {source}")]
    Left {
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
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

/// Why there is no image, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageReason {
    /// It could not be fetched; it may be tried again.
    ErrImagePull,
    /// Its name is none.
    InvalidImageName,
    /// The node has none of that name, and may not fetch it.
    ErrImageNeverPull,
}

impl ImageReason {
    /// Kubernetes' word.
    pub fn as_str(self) -> &'static str {
        match self {
            ImageReason::ErrImagePull => "ErrImagePull",
            ImageReason::InvalidImageName => "InvalidImageName",
            ImageReason::ErrImageNeverPull => "ErrImageNeverPull",
        }
    }
}
