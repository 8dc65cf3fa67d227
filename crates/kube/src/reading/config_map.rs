//! Kubernetes' ConfigMap as ours.
//!
//! Owns: its fields. Does not own: keys and sizes that are allowed (crate `api`).

use k8s_openapi::api::core::v1 as core;
use stint_api::ConfigMap;

use super::convert::{Refusals, metadata};

/// Converts a ConfigMap; what is refused is noted.
pub(super) fn config_map_of(from: core::ConfigMap, refusals: &mut Refusals) -> ConfigMap {
    let core::ConfigMap { binary_data, data, immutable, metadata: meta } = from;
    let bytes = binary_data.unwrap_or_default();
    ConfigMap {
        metadata: metadata(meta, refusals),
        data: data.unwrap_or_default(),
        binary_data: bytes.into_iter().map(|(key, value)| (key, value.0)).collect(),
        immutable,
    }
}
