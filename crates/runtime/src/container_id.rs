//! The name of one run of one container.
//!
//! Owns: the check that makes it fit to be part of a path (A15). Does not own: any path.

use crate::Error;
use std::fmt;

/// Which run of which container (A15). Its parts are checked, so it can be made a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId {
    pod_uid: String,
    container_name: String,
    restart_count: u32,
}

impl ContainerId {
    /// Checks that `pod_uid` is a UUID in lower-case hexadecimal and `container_name` a DNS label.
    pub fn new(pod_uid: &str, container_name: &str, restart_count: u32) -> Result<ContainerId, Error> {
        check_pod_uid(pod_uid)?;
        if !is_dns_label(container_name) {
            return Err(Error::ContainerName { text: container_name.to_owned() });
        }
        Ok(ContainerId {
            pod_uid: pod_uid.to_owned(),
            container_name: container_name.to_owned(),
            restart_count,
        })
    }

    /// The Pod.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// The container's name in its Pod.
    pub fn container_name(&self) -> &str {
        &self.container_name
    }

    /// How often it was started before in place.
    pub fn restart_count(&self) -> u32 {
        self.restart_count
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.pod_uid, self.container_name, self.restart_count)
    }
}

/// Checks that a text is a UUID in lower-case hexadecimal, 8-4-4-4-12.
pub(crate) fn check_pod_uid(text: &str) -> Result<(), Error> {
    let well_formed = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if well_formed { Ok(()) } else { Err(Error::PodUid { text: text.chars().take(64).collect() }) }
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn names_that_could_escape_as_paths_are_refused() {
        for uid in
            ["", "..", "../../etc", "01234567-89AB-cdef-0123-456789abcdef", &format!("{UID}/"), &UID[1..]]
        {
            assert!(ContainerId::new(uid, "main", 0).is_err(), "uid {uid:?}");
        }
        let long = "a".repeat(64);
        for name in ["", ".", "..", "a/b", "a.b", "-a", "a-", "A", "a\0", "ä", &long] {
            assert!(ContainerId::new(UID, name, 0).is_err(), "name {name:?}");
        }
        assert!(ContainerId::new(UID, "a-1", 7).is_ok());
    }
}
