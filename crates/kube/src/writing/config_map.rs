//! ConfigMaps.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stint_api::ConfigMap;

use super::Object;
use super::meta::{metadata, strings};

/// The ConfigMap as Kubernetes' `v1` ConfigMap.
pub fn config_map_to_json(map: &ConfigMap) -> Value {
    let mut object = Object::new();
    object.set("apiVersion", "v1");
    object.set("kind", "ConfigMap");
    object.set("metadata", metadata(&map.metadata));
    object.set_filled("data", strings(&map.data));
    let bytes: Value = map
        .binary_data
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(STANDARD.encode(value))))
        .collect();
    object.set_filled("binaryData", bytes);
    object.set_some("immutable", map.immutable);
    object.into()
}
