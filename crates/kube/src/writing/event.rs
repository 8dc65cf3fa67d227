//! Events.

use serde_json::{Value, json};
use stint_api::{Event, ObjectReference};

use super::Object;
use super::meta::{metadata, seconds};

/// The Event as Kubernetes' `v1` Event.
pub fn event_to_json(event: &Event) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": Value::from(metadata(&event.metadata)),
        "involvedObject": regarding(&event.regarding),
        "type": event.event_type.as_str(),
        "reason": event.reason,
        "message": event.message,
        "source": { "component": event.source },
        "reportingComponent": event.source,
        "reportingInstance": "",
        "count": event.count,
        "firstTimestamp": seconds(event.first_timestamp),
        "lastTimestamp": seconds(event.last_timestamp),
        "eventTime": Value::Null,
    })
}

fn regarding(reference: &ObjectReference) -> Value {
    let mut object = Object::new();
    object.set("apiVersion", if reference.kind == "Job" { "batch/v1" } else { "v1" });
    object.set("kind", reference.kind.as_str());
    object.set_filled("namespace", reference.namespace.as_str());
    object.set("name", reference.name.as_str());
    object.set_filled("uid", reference.uid.as_str());
    object.into()
}
