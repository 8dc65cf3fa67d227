//! Events: what was decided about an object, aggregated by (object, reason) (D14, decision 11).
//!
//! Owns: the type. Does not own: when events are written (`core`).

use crate::ids::Timestamp;
use crate::meta::ObjectMeta;

/// Something that happened to an object, once or several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Name (`<object>.<hash>`), namespace, uid, resourceVersion.
    pub metadata: ObjectMeta,
    /// The object it is about.
    pub regarding: ObjectReference,
    /// Normal or Warning.
    pub event_type: EventType,
    /// One CamelCase word.
    pub reason: String,
    /// The latest message.
    pub message: String,
    /// Component that decided, such as `job-controller`.
    pub source: String,
    /// How often it happened.
    pub count: u32,
    /// When it first happened.
    pub first_timestamp: Timestamp,
    /// When it last happened.
    pub last_timestamp: Timestamp,
}

/// Which object an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ObjectReference {
    /// `Job`, `Pod` or `Node`.
    pub kind: String,
    /// Empty for Nodes.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
}

/// Whether an Event is about something expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// Expected.
    Normal,
    /// Somebody may want to look.
    Warning,
}

impl EventType {
    /// Kubernetes' text for it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}
