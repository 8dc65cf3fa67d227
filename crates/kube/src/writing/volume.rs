//! Volumes and their mounts.

use serde_json::{Value, json};
use stint_api::{
    DownwardApiFile, DownwardApiSource, HostPathType, KeyToPath, MountPropagation, Volume, VolumeMount,
    VolumeProjection, VolumeSource,
};

use super::Object;
use super::container::{field_ref, resource_field_ref};

pub(super) fn volume(volume: &Volume) -> Value {
    let mut source = Object::new();
    let kind = match &volume.source {
        VolumeSource::EmptyDir(empty) => {
            source.set_filled("medium", empty.medium.as_str());
            source.set_some("sizeLimit", empty.size_limit.as_ref().map(|limit| limit.as_str()));
            "emptyDir"
        }
        VolumeSource::HostPath(host) => {
            source.set("path", host.path.as_str());
            source.set_some("type", host.path_type.as_ref().map(HostPathType::as_str));
            "hostPath"
        }
        VolumeSource::ConfigMap(map) => {
            source.set_filled("name", map.name.as_str());
            source.set_filled("items", map.items.iter().map(key_to_path).collect::<Vec<_>>());
            source.set_some("defaultMode", map.default_mode);
            source.set_some("optional", map.optional);
            "configMap"
        }
        VolumeSource::DownwardApi(fields) => {
            source.set_filled("items", fields.items.iter().map(file).collect::<Vec<_>>());
            source.set_some("defaultMode", fields.default_mode);
            "downwardAPI"
        }
        VolumeSource::Projected(projected) => {
            source.set_filled("sources", projected.sources.iter().map(projection).collect::<Vec<_>>());
            source.set_some("defaultMode", projected.default_mode);
            "projected"
        }
    };
    let mut object = Object::new();
    object.set("name", volume.name.as_str());
    object.set(kind, source);
    object.into()
}

fn projection(projection: &VolumeProjection) -> Value {
    let mut source = Object::new();
    let kind = match projection {
        VolumeProjection::ConfigMap(map) => {
            source.set_filled("name", map.name.as_str());
            source.set_filled("items", map.items.iter().map(key_to_path).collect::<Vec<_>>());
            source.set_some("optional", map.optional);
            "configMap"
        }
        VolumeProjection::DownwardApi(fields) => {
            source.set_filled("items", fields.items.iter().map(file).collect::<Vec<_>>());
            "downwardAPI"
        }
    };
    json!({ kind: Value::from(source) })
}

fn key_to_path(item: &KeyToPath) -> Value {
    let mut object = Object::new();
    object.set("key", item.key.as_str());
    object.set("path", item.path.as_str());
    object.set_some("mode", item.mode);
    object.into()
}

fn file(file: &DownwardApiFile) -> Value {
    let mut object = Object::new();
    object.set("path", file.path.as_str());
    match &file.source {
        DownwardApiSource::FieldRef(field) => object.set("fieldRef", field_ref(field)),
        DownwardApiSource::ResourceFieldRef(field) => {
            object.set("resourceFieldRef", resource_field_ref(field));
        }
    }
    object.set_some("mode", file.mode);
    object.into()
}

pub(super) fn volume_mount(mount: &VolumeMount) -> Value {
    let mut object = Object::new();
    object.set("name", mount.name.as_str());
    object.set("mountPath", mount.mount_path.as_str());
    object.set_filled("subPath", mount.sub_path.as_str());
    object.set_filled("subPathExpr", mount.sub_path_expr.as_str());
    object.set_some("readOnly", mount.read_only.then_some(true));
    let propagation = mount.mount_propagation.as_ref().map(MountPropagation::as_str);
    object.set_some("mountPropagation", propagation);
    object.into()
}
