//! Kubernetes' security contexts as ours.
//!
//! Owns: which of their fields are honoured and which refused. Does not own: what a node allows.
//!
//! Invariant: as in [`super::job`], every field of Kubernetes' types is named here.

use k8s_openapi::api::core::v1 as core;
use stint_api::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use super::convert::{Refusals, says, says_object};

pub(super) fn pod_security_context(
    from: core::PodSecurityContext,
    path: &str,
    refusals: &mut Refusals,
) -> PodSecurityContext {
    let core::PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = from;
    let groups_differ = supplemental_groups_policy.is_some_and(|text| !matches!(text.as_str(), "" | "Merge"));
    for (field, is_given) in [
        ("appArmorProfile", says_object(&app_armor_profile)),
        ("seLinuxChangePolicy", says(&se_linux_change_policy)),
        ("seLinuxOptions", says_object(&se_linux_options)),
        ("supplementalGroupsPolicy", groups_differ),
        ("sysctls", says(&sysctls)),
        ("windowsOptions", says_object(&windows_options)),
    ] {
        if is_given {
            refusals.never(&format!("{path}.{field}"));
        }
    }
    PodSecurityContext {
        run_as_user,
        run_as_group,
        run_as_non_root,
        supplemental_groups: supplemental_groups.unwrap_or_default(),
        fs_group,
        fs_group_change_policy: fs_group_change_policy.filter(|text| !text.is_empty()),
        seccomp_profile: seccomp_profile.map(seccomp),
    }
}

pub(super) fn security_context(
    from: core::SecurityContext,
    path: &str,
    refusals: &mut Refusals,
) -> SecurityContext {
    let core::SecurityContext {
        allow_privilege_escalation,
        app_armor_profile,
        capabilities,
        privileged,
        proc_mount,
        read_only_root_filesystem,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = from;
    for (field, is_given) in [
        ("appArmorProfile", says_object(&app_armor_profile)),
        ("procMount", proc_mount.is_some_and(|text| !matches!(text.as_str(), "" | "Default"))),
        ("seLinuxOptions", says_object(&se_linux_options)),
        ("windowsOptions", says_object(&windows_options)),
    ] {
        if is_given {
            refusals.never(&format!("{path}.{field}"));
        }
    }
    let capabilities = capabilities.map(|from| {
        let core::Capabilities { add, drop } = from;
        Capabilities { add: add.unwrap_or_default(), drop: drop.unwrap_or_default() }
    });
    SecurityContext {
        run_as_user,
        run_as_group,
        run_as_non_root,
        read_only_root_filesystem,
        privileged,
        allow_privilege_escalation,
        capabilities: capabilities.filter(|set| *set != Capabilities::default()),
        seccomp_profile: seccomp_profile.map(seccomp),
    }
}

fn seccomp(from: core::SeccompProfile) -> SeccompProfile {
    let core::SeccompProfile { localhost_profile, type_ } = from;
    SeccompProfile { profile_type: type_.as_str().into(), localhost_profile }
}
