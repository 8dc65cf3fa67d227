//! Whether volumes and their mounts can be accepted.
//!
//! Owns: names, kinds, paths, modes. Does not own: what a node's policy allows (`agent`).

use super::environment::{check_config_map_key, check_config_map_name, check_file_field, check_resource};
use super::{NOT_NEGATIVE, check_count, check_dns_label, check_no_nul, check_word};
use crate::container::Container;
use crate::field_error::{FieldError, FieldErrorKind};
use crate::limits;
use crate::volume::{
    DownwardApiFile, DownwardApiSource, HostPathType, KeyToPath, MountPropagation, Volume, VolumeProjection,
    VolumeSource,
};
use std::collections::BTreeSet;

/// Names of a Pod's volumes.
pub(super) struct VolumeNames<'a>(BTreeSet<&'a str>);

impl<'a> VolumeNames<'a> {
    pub(super) fn of(volumes: &'a [Volume]) -> VolumeNames<'a> {
        VolumeNames(volumes.iter().map(|volume| volume.name.as_str()).collect())
    }
}

pub(super) fn validate_all(
    path: &str,
    volumes: &[Volume],
    containers: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    if !check_count(path.to_owned(), volumes.len(), limits::VOLUMES_MAX, errors) {
        return;
    }
    let mut names = BTreeSet::new();
    for (position, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{position}]");
        if volume.name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if let Err(problem) = check_dns_label(&volume.name) {
            errors.push(FieldError::invalid_text(format!("{path}.name"), &volume.name, problem));
        } else if !names.insert(volume.name.as_str()) {
            let kind = FieldErrorKind::Duplicate { value: volume.name.clone() };
            errors.push(FieldError { field: format!("{path}.name"), kind });
        }
        validate_source(&path, &volume.source, containers, errors);
    }
}

fn validate_source(
    path: &str,
    source: &VolumeSource,
    containers: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    match source {
        VolumeSource::EmptyDir(empty) => {
            if !matches!(empty.medium.as_str(), "" | "Memory") {
                let field = format!("{path}.emptyDir.medium");
                errors.push(FieldError::unsupported(field, &empty.medium, &["", "Memory"]));
            }
            if let Some(limit) = empty.size_limit.as_ref().filter(|limit| limit.millis() < 0) {
                let field = format!("{path}.emptyDir.sizeLimit");
                errors.push(FieldError::invalid_text(field, limit.as_str(), NOT_NEGATIVE));
            }
        }
        VolumeSource::HostPath(host) => {
            let field = format!("{path}.hostPath.path");
            if host.path.is_empty() {
                errors.push(FieldError::required(field, ""));
            } else if !host.path.starts_with('/') {
                errors.push(FieldError::invalid_text(field, &host.path, "must be an absolute path"));
            } else if host.path.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid_text(field, &host.path, "must not contain '..'"));
            } else {
                check_no_nul(field, &host.path, errors);
            }
            if let Some(HostPathType::Other(text)) = &host.path_type {
                let field = format!("{path}.hostPath.type");
                errors.push(FieldError::unsupported(field, text, HostPathType::KNOWN));
            }
        }
        VolumeSource::ConfigMap(map) => {
            let path = format!("{path}.configMap");
            check_config_map_name(format!("{path}.name"), &map.name, errors);
            check_mode(format!("{path}.defaultMode"), map.default_mode, errors);
            validate_keys(&path, &map.items, &mut BTreeSet::new(), errors);
        }
        VolumeSource::DownwardApi(fields) => {
            let path = format!("{path}.downwardAPI");
            check_mode(format!("{path}.defaultMode"), fields.default_mode, errors);
            validate_files(&path, &fields.items, containers, &mut BTreeSet::new(), errors);
        }
        VolumeSource::Projected(projected) => {
            let path = format!("{path}.projected");
            check_mode(format!("{path}.defaultMode"), projected.default_mode, errors);
            let field = format!("{path}.sources");
            if !check_count(field, projected.sources.len(), limits::PROJECTIONS_MAX, errors) {
                return;
            }
            let mut paths = BTreeSet::new();
            for (position, source) in projected.sources.iter().enumerate() {
                let path = format!("{path}.sources[{position}]");
                match source {
                    VolumeProjection::ConfigMap(map) => {
                        let path = format!("{path}.configMap");
                        check_config_map_name(format!("{path}.name"), &map.name, errors);
                        validate_keys(&path, &map.items, &mut paths, errors);
                    }
                    VolumeProjection::DownwardApi(fields) => {
                        let path = format!("{path}.downwardAPI");
                        validate_files(&path, &fields.items, containers, &mut paths, errors);
                    }
                }
            }
        }
    }
}

fn validate_keys<'a>(
    path: &str,
    items: &'a [KeyToPath],
    paths: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    for (position, item) in items.iter().enumerate() {
        let path = format!("{path}.items[{position}]");
        check_config_map_key(format!("{path}.key"), &item.key, errors);
        check_file(&path, &item.path, item.mode, paths, errors);
    }
}

fn validate_files<'a>(
    path: &str,
    items: &'a [DownwardApiFile],
    containers: &BTreeSet<&str>,
    paths: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    for (position, item) in items.iter().enumerate() {
        let path = format!("{path}.items[{position}]");
        check_file(&path, &item.path, item.mode, paths, errors);
        match &item.source {
            DownwardApiSource::FieldRef(field) => {
                check_file_field(&format!("{path}.fieldRef"), field, errors);
            }
            DownwardApiSource::ResourceFieldRef(field) => {
                let path = format!("{path}.resourceFieldRef");
                if field.container_name.is_empty() {
                    errors.push(FieldError::required(format!("{path}.containerName"), ""));
                }
                check_resource(&path, field, containers, errors);
            }
        }
    }
}

fn check_file<'a>(
    path: &str,
    file: &'a str,
    mode: Option<i32>,
    paths: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let field = format!("{path}.path");
    check_relative_path(&field, file, errors);
    if file.starts_with("..") && !file.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid_text(field.as_str(), file, "must not start with '..'"));
    }
    if !file.is_empty() && !paths.insert(file) {
        errors.push(FieldError::invalid_text(field, file, "conflicting duplicate paths"));
    }
    check_mode(format!("{path}.mode"), mode, errors);
}

fn check_mode(field: String, mode: Option<i32>, errors: &mut Vec<FieldError>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(field, mode, detail));
    }
}

/// A path that stays below the folder that it starts from.
pub(super) fn check_relative_path(field: &str, path: &str, errors: &mut Vec<FieldError>) {
    if path.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if path.starts_with('/') {
        errors.push(FieldError::invalid_text(field, path, "must be a relative path"));
    } else if path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid_text(field, path, "must not contain '..'"));
    } else if path.split('/').all(|part| matches!(part, "" | ".")) {
        errors.push(FieldError::invalid_text(field, path, "must name a file or folder"));
    } else {
        check_no_nul(field.to_owned(), path, errors);
    }
}

pub(super) fn validate_mounts(
    path: &str,
    container: &Container,
    volumes: &VolumeNames<'_>,
    errors: &mut Vec<FieldError>,
) {
    let mounts = &container.volume_mounts;
    let path = format!("{path}.volumeMounts");
    if !check_count(path.clone(), mounts.len(), limits::VOLUME_MOUNTS_MAX, errors) {
        return;
    }
    let context = container.security_context.as_ref();
    let is_privileged = context.is_some_and(|context| context.privileged == Some(true));
    let mut targets = BTreeSet::new();
    for (position, mount) in mounts.iter().enumerate() {
        let path = format!("{path}[{position}]");
        if mount.name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.0.contains(mount.name.as_str()) {
            let kind = FieldErrorKind::NotFound { value: mount.name.clone() };
            errors.push(FieldError { field: format!("{path}.name"), kind });
        }
        check_target(&format!("{path}.mountPath"), &mount.mount_path, &mut targets, errors);
        for (field, text) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if !text.is_empty() {
                check_relative_path(&format!("{path}.{field}"), text, errors);
            }
        }
        if !mount.sub_path.is_empty() && !mount.sub_path_expr.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            let field = format!("{path}.subPathExpr");
            errors.push(FieldError::invalid_text(field, &mount.sub_path_expr, detail));
        }
        let Some(propagation) = &mount.mount_propagation else { continue };
        let field = format!("{path}.mountPropagation");
        if *propagation == MountPropagation::Bidirectional && !is_privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(field, detail));
        } else {
            check_word(field, propagation.as_str(), MountPropagation::KNOWN, errors);
        }
    }
}

fn check_target<'a>(
    field: &str,
    path: &'a str,
    targets: &mut BTreeSet<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    if path.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    let detail = if !path.starts_with('/') {
        Some("must be an absolute path")
    } else if path.contains(':') {
        Some("must not contain ':'")
    } else if path.split('/').any(|part| part == "..") {
        Some("must not contain '..'")
    } else if path.split('/').all(|part| matches!(part, "" | ".")) {
        Some("must not be the root folder")
    } else if !targets.insert(path.trim_end_matches('/')) {
        Some("must be unique")
    } else {
        None
    };
    match detail {
        Some(detail) => errors.push(FieldError::invalid_text(field, path, detail)),
        None => check_no_nul(field.to_owned(), path, errors),
    }
}
