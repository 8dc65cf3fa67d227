//! Words for the ends of runs.
//!
//! Owns: what a report says of an exit (P3, P5). Does not own: what follows.

use std::path::Path;
use std::time::SystemTime;
use stint_api::Timestamp;
use stint_proto::v1;
use stint_runtime::{Exit, ExitReason};

use crate::limits;

/// 128 + SIGKILL, of a run that was killed while it was being started.
pub fn killed_at_start() -> v1::ContainerStateTerminated {
    v1::ContainerStateTerminated {
        exit_code: 137,
        signal: 9,
        reason: "Error".to_owned(),
        message: "killed while it was being started".to_owned(),
        ..v1::ContainerStateTerminated::default()
    }
}

/// What is said of a Pod, without the folder that its agent has on the node: that is nothing to the Pod's owner.
pub fn without_folder(message: &str, agents_folder: &Path) -> String {
    match agents_folder.to_str() {
        Some(folder) if folder.len() > 1 => message.replace(folder, "…"),
        _ => message.to_owned(),
    }
}

/// Of a run that could not be started; why.
pub fn start_failed(message: &str) -> v1::ContainerStateTerminated {
    const CANNOT_RUN: i32 = 128;
    let now = wire_time(timestamp_ms(SystemTime::now()));
    v1::ContainerStateTerminated {
        exit_code: CANNOT_RUN,
        reason: ExitReason::StartError.as_str().to_owned(),
        message: shortened(message),
        finished_at: Some(now),
        ..v1::ContainerStateTerminated::default()
    }
}

/// Of a run that was begun in this boot of the host, and of which nothing is left that could tell how it ended (P3).
pub fn unknown() -> v1::ContainerStateTerminated {
    const KILLED: i32 = 137;
    v1::ContainerStateTerminated {
        exit_code: KILLED,
        reason: ExitReason::ContainerStatusUnknown.as_str().to_owned(),
        message: "the agent was started again and found nothing of the container".to_owned(),
        finished_at: Some(wire_time(timestamp_ms(SystemTime::now()))),
        ..v1::ContainerStateTerminated::default()
    }
}

/// Of a run that was started; `left` is what it has left to say itself.
pub fn termination(
    exit: &Exit,
    started_at: Option<Timestamp>,
    left: String,
    agents_folder: &Path,
) -> v1::ContainerStateTerminated {
    let mut message = if left.is_empty() { without_folder(&exit.message, agents_folder) } else { left };
    if exit.log_bytes_dropped > 0 {
        let separator = if message.is_empty() { "" } else { "; " };
        message = format!("{message}{separator}{} bytes of output could not be kept", exit.log_bytes_dropped);
    }
    v1::ContainerStateTerminated {
        exit_code: exit.exit_code,
        signal: exit.signal.unwrap_or(0),
        reason: exit.reason.as_str().to_owned(),
        message: shortened(&message),
        started_at: started_at.map(wire_time),
        finished_at: Some(wire_time(timestamp_ms(exit.finished_at))),
    }
}

/// As much of a message as a report may carry.
pub fn shortened(message: &str) -> String {
    if message.len() <= limits::END_MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let ellipsis = "…";
    let mut end = limits::END_MESSAGE_BYTES_MAX - ellipsis.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ellipsis}", &message[..end])
}

/// A moment of the wall clock.
pub fn timestamp_ms(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A timestamp as it travels.
pub fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.0.div_euclid(1000),
        nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_pod_names_no_folder_of_its_agent() {
        let folder = Path::new("/var/lib/stint-agent");
        let message = "the image can't be read: /var/lib/stint-agent/pods/x/oci/main.0/root: too many links";
        let exit = Exit {
            exit_code: 128,
            signal: None,
            reason: ExitReason::StartError,
            message: message.to_owned(),
            finished_at: SystemTime::UNIX_EPOCH,
            log_bytes_dropped: 0,
            fenced: false,
        };
        let said = termination(&exit, None, String::new(), folder).message;
        assert_eq!(said, "the image can't be read: …/pods/x/oci/main.0/root: too many links");
        // What the container says itself is its own affair.
        let own = "/var/lib/stint-agent/pods/x/work is my home".to_owned();
        assert_eq!(termination(&exit, None, own.clone(), folder).message, own);
        assert_eq!(without_folder("/a", Path::new("/")), "/a");
    }

    #[test]
    fn messages_have_a_limit_and_stay_text() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"ü".repeat(5_000));
        assert!(long.len() <= limits::END_MESSAGE_BYTES_MAX && long.ends_with("ü…"));
    }
}
