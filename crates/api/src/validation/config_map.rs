//! Whether a ConfigMap can be accepted.
//!
//! Owns: its keys, its size, what of an immutable one may change. Does not own: who refers to it.

use super::validate_metadata;
use crate::config_map::{ConfigMap, check_key};
use crate::field_error::{FieldError, FieldErrorKind};
use crate::limits;

/// All that is wrong with a ConfigMap, as it will be stored.
pub fn validate_config_map(map: &ConfigMap) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_metadata(&map.metadata, &mut errors);
    for key in map.data.keys() {
        if let Err(problem) = check_key(key) {
            errors.push(FieldError::invalid_text(format!("data[{key}]"), key, problem));
        }
        if map.binary_data.contains_key(key) {
            let detail = format!("duplicate of key present in data[{key}]");
            errors.push(FieldError::invalid_text(format!("binaryData[{key}]"), key, detail));
        }
    }
    for key in map.binary_data.keys() {
        if let Err(problem) = check_key(key) {
            errors.push(FieldError::invalid_text(format!("binaryData[{key}]"), key, problem));
        }
    }
    let keys = map.data.len() + map.binary_data.len();
    if keys > limits::CONFIG_MAP_KEYS_MAX {
        let kind = FieldErrorKind::TooMany { count: keys, count_max: limits::CONFIG_MAP_KEYS_MAX };
        errors.push(FieldError { field: "data".to_owned(), kind });
    }
    if map.content_bytes() > limits::CONFIG_MAP_BYTES_MAX {
        let kind = FieldErrorKind::TooLong { bytes_max: limits::CONFIG_MAP_BYTES_MAX };
        errors.push(FieldError { field: "data".to_owned(), kind });
    }
    errors
}

/// All that is wrong with replacing `old` by `new`. Includes what is wrong with `new` by itself.
pub fn validate_config_map_update(old: &ConfigMap, new: &ConfigMap) -> Vec<FieldError> {
    let mut errors = validate_config_map(new);
    if old.immutable == Some(true) {
        let detail = "field is immutable when `immutable` is set";
        if new.immutable != Some(true) {
            errors.push(FieldError::forbidden("immutable", detail));
        }
        if old.data != new.data {
            errors.push(FieldError::forbidden("data", detail));
        }
        if old.binary_data != new.binary_data {
            errors.push(FieldError::forbidden("binaryData", detail));
        }
    }
    errors
}
