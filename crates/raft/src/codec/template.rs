//! What a Job's Pods are made from.
//!
//! Owns: its conversions. Does not own: what the fields mean.

use super::convert::{FromWire, ToWire, message, text, union};
use crate::error::CodecError;
use crate::wire;
use stint_api::{
    Capabilities, ConfigMapKeyRef, ConfigMapProjection, ConfigMapVolume, Container, ContainerRestartRule,
    DownwardApiFile, DownwardApiProjection, DownwardApiSource, DownwardApiVolume, EmptyDirVolume,
    EnvFromSource, EnvVar, EnvVarSource, ExecAction, ExitCodeOperator, FieldRef, HostAlias, HostPathType,
    HostPathVolume, ImagePullPolicy, KeyToPath, Lifecycle, LifecycleHandler, MountPropagation,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolume, ResourceFieldRef, RestartPolicy,
    RestartRuleAction, RestartRuleExitCodes, SeccompProfile, SeccompProfileType, SecurityContext,
    SleepAction, TerminationMessagePolicy, Volume, VolumeMount, VolumeProjection, VolumeSource,
};

message!(PodTemplateSpec { labels, annotations, spec });
message!(PodSpec {
    containers,
    init_containers,
    volumes,
    restart_policy,
    termination_grace_period_seconds,
    node_selector,
    priority,
    security_context,
    host_network,
    host_pid,
    host_ipc,
    share_process_namespace,
    runtime_class_name,
    hostname,
    subdomain,
    host_aliases,
    kept_fields,
});
message!(HostAlias { ip, hostnames });
text!(RestartPolicy);

message!(Container {
    name,
    image,
    image_pull_policy,
    command,
    args,
    env,
    env_from,
    working_dir,
    requests,
    limits,
    volume_mounts,
    security_context,
    restart_policy,
    restart_policy_rules,
    lifecycle,
    startup_probe,
    liveness_probe,
    readiness_probe,
    termination_message_path,
    termination_message_policy,
    stdin,
    stdin_once,
    tty,
    kept_fields,
});
text!(ImagePullPolicy);
text!(TerminationMessagePolicy);
message!(EnvVar { name, value, value_from });
union!(EnvVarSource: env_var_source::Source in source { FieldRef, ResourceFieldRef, ConfigMapKeyRef });
message!(FieldRef { field_path });
message!(ResourceFieldRef { container_name, resource, divisor });
message!(ConfigMapKeyRef { name, key, optional });
message!(EnvFromSource { prefix, config_map_name, optional });
message!(ContainerRestartRule { action, exit_codes });
text!(RestartRuleAction);
message!(RestartRuleExitCodes { operator, values });
text!(ExitCodeOperator);
message!(Lifecycle { post_start, pre_stop, stop_signal });
union!(LifecycleHandler: lifecycle_handler::Handler in handler { Exec, Sleep });
message!(ExecAction { command });
message!(SleepAction { seconds });
message!(Probe {
    exec,
    initial_delay_seconds,
    timeout_seconds,
    period_seconds,
    success_threshold,
    failure_threshold,
    termination_grace_period_seconds,
});

message!(VolumeMount { name, mount_path, sub_path, sub_path_expr, read_only, mount_propagation });
text!(MountPropagation);
message!(Volume { name, source });
union!(VolumeSource: volume_source::Source in source { EmptyDir, HostPath, ConfigMap, DownwardApi, Projected });
message!(EmptyDirVolume { medium, size_limit });
message!(HostPathVolume { path, path_type });
text!(HostPathType);
message!(ConfigMapVolume { name, items, default_mode, optional });
message!(KeyToPath { key, path, mode });
message!(DownwardApiVolume { items, default_mode });
message!(DownwardApiFile { path, mode, source });
union!(DownwardApiSource: downward_api_source::Source in source { FieldRef, ResourceFieldRef });
message!(ProjectedVolume { sources, default_mode });
union!(VolumeProjection: volume_projection::Source in source { ConfigMap, DownwardApi });
message!(ConfigMapProjection { name, items, optional });
message!(DownwardApiProjection { items });

message!(PodSecurityContext {
    run_as_user,
    run_as_group,
    run_as_non_root,
    supplemental_groups,
    fs_group,
    fs_group_change_policy,
    seccomp_profile,
});
message!(SecurityContext {
    run_as_user,
    run_as_group,
    run_as_non_root,
    read_only_root_filesystem,
    privileged,
    allow_privilege_escalation,
    capabilities,
    seccomp_profile,
});
message!(Capabilities { add, drop });
message!(SeccompProfile { profile_type, localhost_profile });
text!(SeccompProfileType);
