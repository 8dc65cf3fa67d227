//! Conversion of Events.

use stint_api as api;

use crate::error::ConversionError;
use crate::meta::metadata;
use crate::time::{timestamp_from_wire, timestamp_to_wire};
use crate::v1;

const TYPES: &[&str] = &["Normal", "Warning"];

impl From<api::Event> for v1::Event {
    fn from(event: api::Event) -> v1::Event {
        let event_type = match event.event_type {
            api::EventType::Normal => v1::EventType::Normal,
            api::EventType::Warning => v1::EventType::Warning,
        };
        v1::Event {
            metadata: Some(event.metadata.into()),
            regarding: Some(event.regarding.into()),
            r#type: event_type.into(),
            reason: event.reason,
            message: event.message,
            source: event.source,
            count: event.count,
            first_timestamp: Some(timestamp_to_wire(event.first_timestamp)),
            last_timestamp: Some(timestamp_to_wire(event.last_timestamp)),
        }
    }
}

impl TryFrom<v1::Event> for api::Event {
    type Error = ConversionError;

    fn try_from(event: v1::Event) -> Result<api::Event, ConversionError> {
        let event_type = match v1::EventType::try_from(event.r#type) {
            Ok(v1::EventType::Normal) => api::EventType::Normal,
            Ok(v1::EventType::Warning) => api::EventType::Warning,
            Ok(v1::EventType::Unspecified) | Err(_) => {
                return Err(ConversionError::unsupported("type", event.r#type.to_string(), TYPES));
            }
        };
        Ok(api::Event {
            metadata: metadata(event.metadata)?,
            regarding: event.regarding.ok_or_else(|| ConversionError::required("regarding"))?.into(),
            event_type,
            reason: event.reason,
            message: event.message,
            source: event.source,
            count: event.count,
            first_timestamp: moment("firstTimestamp", event.first_timestamp)?,
            last_timestamp: moment("lastTimestamp", event.last_timestamp)?,
        })
    }
}

impl From<api::ObjectReference> for v1::ObjectReference {
    fn from(reference: api::ObjectReference) -> v1::ObjectReference {
        v1::ObjectReference {
            kind: reference.kind,
            namespace: reference.namespace,
            name: reference.name,
            uid: reference.uid,
        }
    }
}

impl From<v1::ObjectReference> for api::ObjectReference {
    fn from(reference: v1::ObjectReference) -> api::ObjectReference {
        api::ObjectReference {
            kind: reference.kind,
            namespace: reference.namespace,
            name: reference.name,
            uid: reference.uid,
        }
    }
}

fn moment(field: &str, moment: Option<prost_types::Timestamp>) -> Result<api::Timestamp, ConversionError> {
    timestamp_from_wire(field, moment)?.ok_or_else(|| ConversionError::required(field))
}
