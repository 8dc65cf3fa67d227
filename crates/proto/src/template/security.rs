//! Users, groups and privileges.

use stint_api as api;

use crate::v1;

impl From<api::PodSecurityContext> for v1::PodSecurityContext {
    fn from(context: api::PodSecurityContext) -> v1::PodSecurityContext {
        v1::PodSecurityContext {
            run_as_user: context.run_as_user,
            run_as_non_root: context.run_as_non_root,
            supplemental_groups: context.supplemental_groups,
            fs_group: context.fs_group,
            run_as_group: context.run_as_group,
            fs_group_change_policy: context.fs_group_change_policy,
            seccomp_profile: context.seccomp_profile.map(Into::into),
        }
    }
}

impl From<v1::PodSecurityContext> for api::PodSecurityContext {
    fn from(context: v1::PodSecurityContext) -> api::PodSecurityContext {
        api::PodSecurityContext {
            run_as_user: context.run_as_user,
            run_as_group: context.run_as_group,
            run_as_non_root: context.run_as_non_root,
            supplemental_groups: context.supplemental_groups,
            fs_group: context.fs_group,
            fs_group_change_policy: context.fs_group_change_policy,
            seccomp_profile: context.seccomp_profile.map(Into::into),
        }
    }
}

impl From<api::SecurityContext> for v1::SecurityContext {
    fn from(context: api::SecurityContext) -> v1::SecurityContext {
        let capabilities = context.capabilities;
        v1::SecurityContext {
            capabilities: capabilities.map(|set| v1::Capabilities { add: set.add, drop: set.drop }),
            privileged: context.privileged,
            run_as_user: context.run_as_user,
            run_as_non_root: context.run_as_non_root,
            read_only_root_filesystem: context.read_only_root_filesystem,
            allow_privilege_escalation: context.allow_privilege_escalation,
            run_as_group: context.run_as_group,
            seccomp_profile: context.seccomp_profile.map(Into::into),
        }
    }
}

impl From<v1::SecurityContext> for api::SecurityContext {
    fn from(context: v1::SecurityContext) -> api::SecurityContext {
        let capabilities = context.capabilities;
        api::SecurityContext {
            run_as_user: context.run_as_user,
            run_as_group: context.run_as_group,
            run_as_non_root: context.run_as_non_root,
            read_only_root_filesystem: context.read_only_root_filesystem,
            privileged: context.privileged,
            allow_privilege_escalation: context.allow_privilege_escalation,
            capabilities: capabilities.map(|set| api::Capabilities { add: set.add, drop: set.drop }),
            seccomp_profile: context.seccomp_profile.map(Into::into),
        }
    }
}

impl From<api::SeccompProfile> for v1::SeccompProfile {
    fn from(profile: api::SeccompProfile) -> v1::SeccompProfile {
        v1::SeccompProfile {
            r#type: profile.profile_type.as_str().to_owned(),
            localhost_profile: profile.localhost_profile,
        }
    }
}

impl From<v1::SeccompProfile> for api::SeccompProfile {
    fn from(profile: v1::SeccompProfile) -> api::SeccompProfile {
        api::SeccompProfile {
            profile_type: profile.r#type.as_str().into(),
            localhost_profile: profile.localhost_profile,
        }
    }
}
