//! Conversion of ConfigMaps.

use stint_api as api;

use crate::error::ConversionError;
use crate::meta::metadata;
use crate::v1;

impl From<api::ConfigMap> for v1::ConfigMap {
    fn from(map: api::ConfigMap) -> v1::ConfigMap {
        v1::ConfigMap {
            metadata: Some(map.metadata.into()),
            data: map.data,
            binary_data: map.binary_data.into_iter().map(|(key, value)| (key, value.into())).collect(),
            immutable: map.immutable,
        }
    }
}

impl TryFrom<v1::ConfigMap> for api::ConfigMap {
    type Error = ConversionError;

    fn try_from(map: v1::ConfigMap) -> Result<api::ConfigMap, ConversionError> {
        Ok(api::ConfigMap {
            metadata: metadata(map.metadata)?,
            data: map.data,
            binary_data: map.binary_data.into_iter().map(|(key, value)| (key, value.into())).collect(),
            immutable: map.immutable,
        })
    }
}
