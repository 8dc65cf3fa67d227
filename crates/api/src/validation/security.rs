//! Whether security contexts can be accepted.
//!
//! Owns: ids, profiles, capabilities, what excludes what. Does not own: what a node's policy allows (`agent`).

use super::{check_count, check_word};
use crate::field_error::FieldError;
use crate::limits;
use crate::security::{
    CAPABILITIES, PodSecurityContext, SeccompProfile, SeccompProfileType, SecurityContext, capability_name,
};

pub(super) fn validate_pod(path: &str, context: &PodSecurityContext, errors: &mut Vec<FieldError>) {
    for (field, id) in [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ] {
        check_id(format!("{path}.{field}"), id, errors);
    }
    let groups = &context.supplemental_groups;
    let field = format!("{path}.supplementalGroups");
    if check_count(field.clone(), groups.len(), limits::SUPPLEMENTAL_GROUPS_MAX, errors) {
        for (position, group) in groups.iter().enumerate() {
            check_id(format!("{field}[{position}]"), Some(*group), errors);
        }
    }
    if let Some(policy) = &context.fs_group_change_policy {
        let field = format!("{path}.fsGroupChangePolicy");
        check_word(field, policy, &["Always", "OnRootMismatch"], errors);
    }
    if let Some(profile) = &context.seccomp_profile {
        validate_seccomp(&format!("{path}.seccompProfile"), profile, errors);
    }
}

pub(super) fn validate_container(path: &str, context: &SecurityContext, errors: &mut Vec<FieldError>) {
    check_id(format!("{path}.runAsUser"), context.run_as_user, errors);
    check_id(format!("{path}.runAsGroup"), context.run_as_group, errors);
    let capabilities = context.capabilities.as_ref();
    let added = capabilities.map_or(&[][..], |set| &set.add);
    for (field, names) in [("add", added), ("drop", capabilities.map_or(&[][..], |set| &set.drop))] {
        let field = format!("{path}.capabilities.{field}");
        if !check_count(field.clone(), names.len(), CAPABILITIES.len() + 1, errors) {
            continue;
        }
        for (position, name) in names.iter().enumerate() {
            if capability_name(name).is_none() {
                let detail = "must be ALL or the name of a capability, such as NET_ADMIN";
                errors.push(FieldError::invalid_text(format!("{field}[{position}]"), name, detail));
            }
        }
    }
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, "{…}", detail));
        }
        if added.iter().any(|name| capability_name(name) == Some("SYS_ADMIN")) {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, "{…}", detail));
        }
    }
    if let Some(profile) = &context.seccomp_profile {
        validate_seccomp(&format!("{path}.seccompProfile"), profile, errors);
    }
}

fn check_id(field: String, id: Option<i64>, errors: &mut Vec<FieldError>) {
    if let Some(id) = id.filter(|id| !(0..=limits::ID_MAX).contains(id)) {
        let detail = format!("must be between 0 and {}, inclusive", limits::ID_MAX);
        errors.push(FieldError::invalid(field, id, detail));
    }
}

fn validate_seccomp(path: &str, profile: &SeccompProfile, errors: &mut Vec<FieldError>) {
    check_word(format!("{path}.type"), profile.profile_type.as_str(), SeccompProfileType::KNOWN, errors);
    let field = format!("{path}.localhostProfile");
    let is_local = profile.profile_type == SeccompProfileType::Localhost;
    match &profile.localhost_profile {
        None if is_local => {
            errors.push(FieldError::required(field, "must be set when seccomp type is Localhost"));
        }
        Some(file) if !is_local => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid_text(field, file, detail));
        }
        Some(file) => super::volume::check_relative_path(&field, file, errors),
        None => {}
    }
}
