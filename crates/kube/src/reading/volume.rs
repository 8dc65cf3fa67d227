//! Kubernetes' volumes and mounts as ours.
//!
//! Owns: which kinds of volumes are honoured and which refused. Does not own: their values' validity (crate `api`).
//!
//! Invariant: as in [`super::job`], every field of Kubernetes' types is named here.

use k8s_openapi::api::core::v1 as core;
use stint_api::{
    ConfigMapProjection, ConfigMapVolume, DownwardApiFile, DownwardApiProjection, DownwardApiSource,
    DownwardApiVolume, EmptyDirVolume, FieldError, HostPathVolume, KeyToPath, ProjectedVolume, Volume,
    VolumeMount, VolumeProjection, VolumeSource,
};

use super::container::{field_of, resource_of};
use super::convert::{Refusals, only_one, quantity};

/// Converts a volume; `None` if its kind is refused.
pub(super) fn volume(from: core::Volume, path: &str, refusals: &mut Refusals) -> Option<Volume> {
    let core::Volume {
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map,
        csi,
        downward_api,
        empty_dir,
        ephemeral,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path,
        image,
        iscsi,
        name,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        projected,
        quobyte,
        rbd,
        scale_io,
        secret,
        storageos,
        vsphere_volume,
    } = from;
    let others = [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("csi", csi.is_some()),
        ("ephemeral", ephemeral.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("image", image.is_some()),
        ("iscsi", iscsi.is_some()),
        ("nfs", nfs.is_some()),
        ("persistentVolumeClaim", persistent_volume_claim.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ];
    let mut refused = false;
    for (field, _) in others.into_iter().filter(|(_, is_given)| *is_given) {
        refusals.never(&format!("{path}.{field}"));
        refused = true;
    }
    if secret.is_some() {
        refusals.not_yet(&format!("{path}.secret"));
        refused = true;
    }
    if refused {
        return None;
    }
    let mut sources = [
        (
            "emptyDir",
            empty_dir.map(|from| {
                VolumeSource::EmptyDir(empty_folder(from, &format!("{path}.emptyDir"), refusals))
            }),
        ),
        (
            "hostPath",
            host_path.map(|from| {
                let core::HostPathVolumeSource { path, type_ } = from;
                VolumeSource::HostPath(HostPathVolume { path, path_type: type_.as_deref().map(Into::into) })
            }),
        ),
        ("configMap", config_map.map(|from| VolumeSource::ConfigMap(config_map_volume(from)))),
        (
            "downwardAPI",
            downward_api.map(|from| {
                let path = format!("{path}.downwardAPI");
                let core::DownwardAPIVolumeSource { default_mode, items } = from;
                let items = files(items, &path, refusals);
                VolumeSource::DownwardApi(DownwardApiVolume { items, default_mode })
            }),
        ),
        (
            "projected",
            projected.map(|from| {
                VolumeSource::Projected(projection(from, &format!("{path}.projected"), refusals))
            }),
        ),
    ];
    if sources.iter().all(|(_, source)| source.is_none()) {
        sources[0].1 = Some(VolumeSource::default());
    }
    let none = || FieldError::required(path, "must specify a volume type");
    let several = |name: &str| {
        FieldError::forbidden(format!("{path}.{name}"), "may not specify more than 1 volume type")
    };
    let source = only_one(sources, none, several, refusals)?;
    Some(Volume { name, source })
}

fn empty_folder(from: core::EmptyDirVolumeSource, path: &str, refusals: &mut Refusals) -> EmptyDirVolume {
    let core::EmptyDirVolumeSource { medium, size_limit } = from;
    EmptyDirVolume {
        medium: medium.unwrap_or_default(),
        size_limit: quantity(size_limit, &format!("{path}.sizeLimit"), refusals),
    }
}

fn config_map_volume(from: core::ConfigMapVolumeSource) -> ConfigMapVolume {
    let core::ConfigMapVolumeSource { default_mode, items, name, optional } = from;
    ConfigMapVolume { name, items: keys(items), default_mode, optional }
}

fn projection(from: core::ProjectedVolumeSource, path: &str, refusals: &mut Refusals) -> ProjectedVolume {
    let core::ProjectedVolumeSource { default_mode, sources } = from;
    let source = |(index, from): (usize, core::VolumeProjection)| {
        let path = format!("{path}.sources[{index}]");
        let core::VolumeProjection {
            cluster_trust_bundle,
            config_map,
            downward_api,
            pod_certificate,
            secret,
            service_account_token,
        } = from;
        let mut refused = false;
        for (field, is_given) in [
            ("clusterTrustBundle", cluster_trust_bundle.is_some()),
            ("podCertificate", pod_certificate.is_some()),
            ("serviceAccountToken", service_account_token.is_some()),
        ] {
            if is_given {
                refusals.never(&format!("{path}.{field}"));
                refused = true;
            }
        }
        if secret.is_some() {
            refusals.not_yet(&format!("{path}.secret"));
            refused = true;
        }
        if refused {
            return None;
        }
        let sources = [
            (
                "configMap",
                config_map.map(|from| {
                    let core::ConfigMapProjection { items, name, optional } = from;
                    VolumeProjection::ConfigMap(ConfigMapProjection { name, items: keys(items), optional })
                }),
            ),
            (
                "downwardAPI",
                downward_api.map(|from| {
                    let items = files(from.items, &format!("{path}.downwardAPI"), refusals);
                    VolumeProjection::DownwardApi(DownwardApiProjection { items })
                }),
            ),
        ];
        let detail = "must specify one of: `configMap` or `downwardAPI`";
        let none = || FieldError::required(path.as_str(), detail);
        let detail = "may not specify more than 1 volume type per source";
        let several = |name: &str| FieldError::forbidden(format!("{path}.{name}"), detail);
        only_one(sources, none, several, refusals)
    };
    let sources = sources.unwrap_or_default().into_iter().enumerate().filter_map(source).collect();
    ProjectedVolume { sources, default_mode }
}

fn keys(from: Option<Vec<core::KeyToPath>>) -> Vec<KeyToPath> {
    let item = |from: core::KeyToPath| {
        let core::KeyToPath { key, mode, path } = from;
        KeyToPath { key, path, mode }
    };
    from.unwrap_or_default().into_iter().map(item).collect()
}

fn files(
    from: Option<Vec<core::DownwardAPIVolumeFile>>,
    path: &str,
    refusals: &mut Refusals,
) -> Vec<DownwardApiFile> {
    let file = |(index, from): (usize, core::DownwardAPIVolumeFile)| {
        let path = format!("{path}.items[{index}]");
        let core::DownwardAPIVolumeFile { field_ref, mode, path: file, resource_field_ref } = from;
        let sources = [
            (
                "fieldRef",
                field_ref.map(|from| {
                    DownwardApiSource::FieldRef(field_of(from, &format!("{path}.fieldRef"), refusals))
                }),
            ),
            (
                "resourceFieldRef",
                resource_field_ref.map(|from| {
                    let path = format!("{path}.resourceFieldRef");
                    DownwardApiSource::ResourceFieldRef(resource_of(from, &path, refusals))
                }),
            ),
        ];
        let detail = "one of fieldRef and resourceFieldRef is required";
        let none = || FieldError::required(path.as_str(), detail);
        let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
        let several = |_: &str| FieldError::invalid_text(path.as_str(), "resource", detail);
        let source = only_one(sources, none, several, refusals)?;
        Some(DownwardApiFile { path: file, mode, source })
    };
    from.unwrap_or_default().into_iter().enumerate().filter_map(file).collect()
}

/// Converts a mount; what is refused is noted.
pub(super) fn volume_mount(from: core::VolumeMount, path: &str, refusals: &mut Refusals) -> VolumeMount {
    let core::VolumeMount {
        mount_path,
        mount_propagation,
        name,
        read_only,
        recursive_read_only,
        sub_path,
        sub_path_expr,
    } = from;
    if recursive_read_only.is_some_and(|text| !matches!(text.as_str(), "" | "Disabled")) {
        refusals.never(&format!("{path}.recursiveReadOnly"));
    }
    VolumeMount {
        name,
        mount_path,
        sub_path: sub_path.unwrap_or_default(),
        sub_path_expr: sub_path_expr.unwrap_or_default(),
        read_only: read_only.unwrap_or_default(),
        mount_propagation: mount_propagation.filter(|text| !text.is_empty()).as_deref().map(Into::into),
    }
}
