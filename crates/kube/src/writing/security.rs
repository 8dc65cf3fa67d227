//! Security contexts.

use serde_json::Value;
use stint_api::{PodSecurityContext, SeccompProfile, SecurityContext};

use super::Object;

pub(super) fn pod_security_context(context: &PodSecurityContext) -> Value {
    let mut object = Object::new();
    object.set_some("runAsUser", context.run_as_user);
    object.set_some("runAsGroup", context.run_as_group);
    object.set_some("runAsNonRoot", context.run_as_non_root);
    object.set_filled("supplementalGroups", context.supplemental_groups.clone());
    object.set_some("fsGroup", context.fs_group);
    object.set_some("fsGroupChangePolicy", context.fs_group_change_policy.as_deref());
    object.set_some("seccompProfile", context.seccomp_profile.as_ref().map(seccomp));
    object.into()
}

pub(super) fn security_context(context: &SecurityContext) -> Value {
    let mut object = Object::new();
    object.set_some("runAsUser", context.run_as_user);
    object.set_some("runAsGroup", context.run_as_group);
    object.set_some("runAsNonRoot", context.run_as_non_root);
    object.set_some("readOnlyRootFilesystem", context.read_only_root_filesystem);
    object.set_some("privileged", context.privileged);
    object.set_some("allowPrivilegeEscalation", context.allow_privilege_escalation);
    let capabilities = context.capabilities.as_ref().map(|set| {
        let mut object = Object::new();
        object.set_filled("add", set.add.clone());
        object.set_filled("drop", set.drop.clone());
        Value::from(object)
    });
    object.set_some("capabilities", capabilities);
    object.set_some("seccompProfile", context.seccomp_profile.as_ref().map(seccomp));
    object.into()
}

fn seccomp(profile: &SeccompProfile) -> Value {
    let mut object = Object::new();
    object.set("type", profile.profile_type.as_str());
    object.set_some("localhostProfile", profile.localhost_profile.as_deref());
    object.into()
}
