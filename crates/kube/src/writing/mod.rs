//! From API types to Kubernetes' JSON.
//!
//! Owns: the shape of each object as `kubectl` would show it. Does not own: what is in the objects.

mod config_map;
mod container;
mod event;
mod job;
mod meta;
mod node;
mod pod;
mod security;
mod volume;
mod yaml;

pub use config_map::config_map_to_json;
pub use event::event_to_json;
pub use job::job_to_json;
pub use node::node_to_json;
pub use pod::pod_to_json;
pub use yaml::to_yaml;

use serde_json::{Map, Value, json};

/// Kind `List` of these objects. A `resource_version` of 0 means "none": the objects come from several lists.
pub fn list_to_json(items: Vec<Value>, resource_version: u64) -> Value {
    let resource_version = if resource_version == 0 { String::new() } else { resource_version.to_string() };
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "metadata": { "resourceVersion": resource_version },
        "items": items,
    })
}

/// A JSON object of which only what is there is written.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn new() -> Object {
        Object::default()
    }

    /// Always.
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// If there is a value.
    fn set_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// If the value is not null, and neither an empty text, list nor object.
    fn set_filled(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.set(key, value);
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        Value::Object(object.0)
    }
}
