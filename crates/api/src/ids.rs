//! Names, uids, revisions and times as types of their own, so that no two of them can be mixed up.
//!
//! Owns: the newtypes and their text forms. Does not own: how ids are drawn (they come with commands).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A text that is not a UUID where one is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a uid: write 32 hexadecimal digits as 8-4-4-4-12")]
pub struct ParseUidError {
    text: String,
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.0;
                write!(
                    formatter,
                    "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                    (value >> 96) as u32,
                    (value >> 80) as u16,
                    (value >> 64) as u16,
                    (value >> 48) as u16,
                    value & 0xffff_ffff_ffff,
                )
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = ParseUidError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_uuid(text).map($name).ok_or_else(|| ParseUidError { text: text.to_owned() })
            }
        }
    };
}

uid!(
    /// Identity of one Job: never reused, also when a Job of the same name is created again.
    JobUid
);
uid!(
    /// Identity of one Pod: never reused.
    PodUid
);
uid!(
    /// Identity of one ConfigMap: never reused, also when one of the same name is created again.
    ConfigMapUid
);
uid!(
    /// Identity of one agent's data folder (agent-protocol rule A1): drawn once, kept for ever.
    NodeUid
);
uid!(
    /// Identity of one cluster, drawn when it is initialized.
    ClusterId
);

/// Position in the sequence of row changes. It is `metadata.resourceVersion`, the cursor of a watch, and, that of a
/// Pod's binding, the fencing token. 0 means "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// One registration of a node: the revision at which it was registered. 0 means "never registered".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

/// Which of an Indexed Job's completions a Pod works on: 0 to completions − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CompletionIndex(pub u32);

/// Id of a control-plane server. Never reused (decision 13); 0 is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(pub u64);

/// A moment of the cluster's replicated time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment plus a number of milliseconds, saturating at the ends of the range.
    pub fn plus_ms(self, duration_ms: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to this moment; negative if `earlier` is later.
    pub fn since_ms(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

macro_rules! display_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    )*};
}
display_number!(Revision, Incarnation, CompletionIndex, MemberId);

/// Name of a node. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Wraps a name without checking it; validation is at the edge.
    pub fn new(name: &str) -> NodeName {
        NodeName(Arc::from(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut value: u128 = 0;
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = (*byte as char).to_digit(16)?;
        value = (value << 4) | u128::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_text_round_trips_and_rejects_what_is_no_uid() {
        let uid = PodUid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(uid.to_string(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(uid.to_string().parse::<PodUid>(), Ok(uid));
        for text in [
            "",
            "0123456789abcdef0011223344556677",
            "01234567-89ab-cdef-0011-22334455667g",
            "../../../../etc/passwd",
        ] {
            assert!(text.parse::<PodUid>().is_err(), "{text}");
        }
    }
}
