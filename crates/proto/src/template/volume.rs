//! Volumes and their mounts.

use stint_api as api;

use crate::error::{ConversionError, Within, each};
use crate::template::{quantity_from_wire, quantity_to_wire};
use crate::v1;
use crate::v1::{downward_api_volume_file, volume_projection, volume_source};

impl From<api::Volume> for v1::Volume {
    fn from(volume: api::Volume) -> v1::Volume {
        use volume_source::Source;
        let source = match volume.source {
            api::VolumeSource::EmptyDir(empty) => Source::EmptyDir(v1::EmptyDirVolumeSource {
                medium: empty.medium,
                size_limit: quantity_to_wire(empty.size_limit),
            }),
            api::VolumeSource::HostPath(host) => Source::HostPath(v1::HostPathVolumeSource {
                path: host.path,
                r#type: host.path_type.map(|path_type| path_type.as_str().to_owned()),
            }),
            api::VolumeSource::ConfigMap(map) => Source::ConfigMap(v1::ConfigMapVolumeSource {
                name: map.name,
                items: map.items.into_iter().map(Into::into).collect(),
                default_mode: map.default_mode,
                optional: map.optional,
            }),
            api::VolumeSource::DownwardApi(fields) => Source::DownwardApi(v1::DownwardApiVolumeSource {
                items: fields.items.into_iter().map(Into::into).collect(),
                default_mode: fields.default_mode,
            }),
            api::VolumeSource::Projected(projected) => Source::Projected(v1::ProjectedVolumeSource {
                sources: projected.sources.into_iter().map(Into::into).collect(),
                default_mode: projected.default_mode,
            }),
        };
        v1::Volume { name: volume.name, volume_source: Some(v1::VolumeSource { source: Some(source) }) }
    }
}

impl TryFrom<v1::Volume> for api::Volume {
    type Error = ConversionError;

    fn try_from(volume: v1::Volume) -> Result<api::Volume, ConversionError> {
        use volume_source::Source;
        let source = match volume.volume_source.and_then(|source| source.source) {
            None => api::VolumeSource::default(),
            Some(Source::EmptyDir(empty)) => api::VolumeSource::EmptyDir(api::EmptyDirVolume {
                medium: empty.medium,
                size_limit: quantity_from_wire("emptyDir.sizeLimit", empty.size_limit)?,
            }),
            Some(Source::HostPath(host)) => api::VolumeSource::HostPath(api::HostPathVolume {
                path: host.path,
                path_type: host.r#type.as_deref().map(Into::into),
            }),
            Some(Source::ConfigMap(map)) => api::VolumeSource::ConfigMap(api::ConfigMapVolume {
                name: map.name,
                items: map.items.into_iter().map(Into::into).collect(),
                default_mode: map.default_mode,
                optional: map.optional,
            }),
            Some(Source::DownwardApi(fields)) => api::VolumeSource::DownwardApi(api::DownwardApiVolume {
                items: each("downwardAPI.items", fields.items, TryInto::try_into)?,
                default_mode: fields.default_mode,
            }),
            Some(Source::Projected(projected)) => api::VolumeSource::Projected(api::ProjectedVolume {
                sources: each("projected.sources", projected.sources, TryInto::try_into)?,
                default_mode: projected.default_mode,
            }),
        };
        Ok(api::Volume { name: volume.name, source })
    }
}

impl From<api::KeyToPath> for v1::KeyToPath {
    fn from(item: api::KeyToPath) -> v1::KeyToPath {
        v1::KeyToPath { key: item.key, path: item.path, mode: item.mode }
    }
}

impl From<v1::KeyToPath> for api::KeyToPath {
    fn from(item: v1::KeyToPath) -> api::KeyToPath {
        api::KeyToPath { key: item.key, path: item.path, mode: item.mode }
    }
}

impl From<api::DownwardApiFile> for v1::DownwardApiVolumeFile {
    fn from(file: api::DownwardApiFile) -> v1::DownwardApiVolumeFile {
        use downward_api_volume_file::Source;
        let source = match file.source {
            api::DownwardApiSource::FieldRef(field) => Source::FieldRef(field.into()),
            api::DownwardApiSource::ResourceFieldRef(field) => Source::ResourceFieldRef(field.into()),
        };
        v1::DownwardApiVolumeFile { path: file.path, mode: file.mode, source: Some(source) }
    }
}

impl TryFrom<v1::DownwardApiVolumeFile> for api::DownwardApiFile {
    type Error = ConversionError;

    fn try_from(file: v1::DownwardApiVolumeFile) -> Result<api::DownwardApiFile, ConversionError> {
        use downward_api_volume_file::Source;
        let source = match file.source {
            Some(Source::FieldRef(field)) => api::DownwardApiSource::FieldRef(field.into()),
            Some(Source::ResourceFieldRef(field)) => {
                api::DownwardApiSource::ResourceFieldRef(field.try_into().within("resourceFieldRef")?)
            }
            None => return Err(ConversionError::required("fieldRef")),
        };
        Ok(api::DownwardApiFile { path: file.path, mode: file.mode, source })
    }
}

impl From<api::VolumeProjection> for v1::VolumeProjection {
    fn from(projection: api::VolumeProjection) -> v1::VolumeProjection {
        use volume_projection::Source;
        let source = match projection {
            api::VolumeProjection::ConfigMap(map) => Source::ConfigMap(v1::ConfigMapProjection {
                name: map.name,
                items: map.items.into_iter().map(Into::into).collect(),
                optional: map.optional,
            }),
            api::VolumeProjection::DownwardApi(fields) => Source::DownwardApi(v1::DownwardApiProjection {
                items: fields.items.into_iter().map(Into::into).collect(),
            }),
        };
        v1::VolumeProjection { source: Some(source) }
    }
}

impl TryFrom<v1::VolumeProjection> for api::VolumeProjection {
    type Error = ConversionError;

    fn try_from(projection: v1::VolumeProjection) -> Result<api::VolumeProjection, ConversionError> {
        use volume_projection::Source;
        match projection.source {
            Some(Source::ConfigMap(map)) => Ok(api::VolumeProjection::ConfigMap(api::ConfigMapProjection {
                name: map.name,
                items: map.items.into_iter().map(Into::into).collect(),
                optional: map.optional,
            })),
            Some(Source::DownwardApi(fields)) => {
                let items = each("downwardAPI.items", fields.items, TryInto::try_into)?;
                Ok(api::VolumeProjection::DownwardApi(api::DownwardApiProjection { items }))
            }
            None => Err(ConversionError::required("")),
        }
    }
}

impl From<api::VolumeMount> for v1::VolumeMount {
    fn from(mount: api::VolumeMount) -> v1::VolumeMount {
        v1::VolumeMount {
            name: mount.name,
            read_only: mount.read_only,
            mount_path: mount.mount_path,
            sub_path: mount.sub_path,
            mount_propagation: mount.mount_propagation.map(|propagation| propagation.as_str().to_owned()),
            sub_path_expr: mount.sub_path_expr,
        }
    }
}

impl From<v1::VolumeMount> for api::VolumeMount {
    fn from(mount: v1::VolumeMount) -> api::VolumeMount {
        api::VolumeMount {
            name: mount.name,
            mount_path: mount.mount_path,
            sub_path: mount.sub_path,
            sub_path_expr: mount.sub_path_expr,
            read_only: mount.read_only,
            mount_propagation: mount.mount_propagation.as_deref().map(Into::into),
        }
    }
}
