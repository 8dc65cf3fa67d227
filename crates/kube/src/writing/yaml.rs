//! YAML.

use serde_json::Value;

/// The value as one YAML document, with a newline at its end.
pub fn to_yaml(value: &Value) -> String {
    // JSON is YAML too: should the writer ever refuse a value, what is printed can still be applied.
    let mut text = serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
