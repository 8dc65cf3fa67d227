//! Metadata, selectors, quantities, times.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stint_api::{
    LabelOperator, LabelSelector, ObjectMeta, OwnerReference, Quantity, StringMap, Timestamp, time,
};

use super::Object;

pub(super) fn metadata(meta: &ObjectMeta) -> Object {
    let mut object = Object::new();
    object.set_filled("name", meta.name.as_str());
    object.set_filled("generateName", meta.generate_name.as_str());
    object.set_filled("namespace", meta.namespace.as_str());
    object.set_filled("uid", meta.uid.as_str());
    if meta.resource_version.0 > 0 {
        object.set("resourceVersion", meta.resource_version.to_string());
    }
    if meta.generation > 0 {
        object.set("generation", meta.generation);
    }
    object.set_some("creationTimestamp", meta.creation_timestamp.map(seconds));
    object.set_some("deletionTimestamp", meta.deletion_timestamp.map(seconds));
    object.set_some("deletionGracePeriodSeconds", meta.deletion_grace_period_seconds);
    object.set_filled("labels", strings(&meta.labels));
    object.set_filled("annotations", strings(&meta.annotations));
    object
        .set_filled("ownerReferences", meta.owner_references.iter().map(owner_reference).collect::<Vec<_>>());
    object
}

fn owner_reference(owner: &OwnerReference) -> Value {
    let mut object = Object::new();
    object.set("apiVersion", owner.api_version.as_str());
    object.set("kind", owner.kind.as_str());
    object.set("name", owner.name.as_str());
    object.set("uid", owner.uid.as_str());
    object.set_some("controller", owner.controller.then_some(true));
    object.set_some("blockOwnerDeletion", owner.block_owner_deletion.then_some(true));
    object.into()
}

pub(super) fn selector(selector: &LabelSelector) -> Value {
    let mut object = Object::new();
    object.set_filled("matchLabels", strings(&selector.match_labels));
    let requirements = selector.match_expressions.iter().map(|requirement| {
        let mut object = Object::new();
        object.set("key", requirement.key.as_str());
        object.set(
            "operator",
            match requirement.operator {
                LabelOperator::In => "In",
                LabelOperator::NotIn => "NotIn",
                LabelOperator::Exists => "Exists",
                LabelOperator::DoesNotExist => "DoesNotExist",
            },
        );
        object.set_filled("values", requirement.values.clone());
        Value::from(object)
    });
    object.set_filled("matchExpressions", requirements.collect::<Vec<_>>());
    object.into()
}

pub(super) fn strings(map: &StringMap) -> Value {
    map.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
}

pub(super) fn quantities(amounts: &BTreeMap<String, Quantity>) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.as_str()))).collect()
}

/// Puts fields that are kept as JSON text back; a text that is no JSON is shown as it is.
pub(super) fn set_kept(object: &mut Object, kept: &BTreeMap<String, String>) {
    for (name, text) in kept {
        let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        object.0.entry(name.as_str()).or_insert(value);
    }
}

/// A time of whole seconds, as `metav1.Time` has it.
pub(super) fn seconds(at: Timestamp) -> Value {
    time::format_seconds(at).into()
}
