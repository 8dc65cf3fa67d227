//! Generators of any Pod template that the API types can express, in its canonical form as in [`crate::generators`].
//!
//! The large ones are boxed: a strategy of all of it at once would not fit onto a test's stack.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use stint_api::*;

use crate::generators::{string_map, text};

pub fn pod_template() -> BoxedStrategy<PodTemplateSpec> {
    (string_map(), string_map(), pod_spec())
        .prop_map(|(labels, annotations, spec)| PodTemplateSpec { labels, annotations, spec })
        .boxed()
}

pub fn pod_spec() -> BoxedStrategy<PodSpec> {
    (
        (vec(container(), 0..3), vec(container(), 0..2), vec(volume(), 0..3), vec(host_alias(), 0..2)),
        option::of(word::<RestartPolicy>(&["Never", "OnFailure", "Always"])),
        (option::of(any::<i64>()), option::of(any::<i32>()), option::of(any::<bool>())),
        (string_map(), string_map()),
        option::of(pod_security_context()),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        (option::of(text()), option::of(text()), option::of(text())),
    )
        .prop_map(|(lists, restart_policy, numbers, maps, security_context, host, texts)| PodSpec {
            containers: lists.0,
            init_containers: lists.1,
            volumes: lists.2,
            restart_policy,
            termination_grace_period_seconds: numbers.0,
            node_selector: maps.0,
            priority: numbers.1,
            security_context,
            host_network: host.0,
            host_pid: host.1,
            host_ipc: host.2,
            share_process_namespace: numbers.2,
            runtime_class_name: texts.0,
            hostname: texts.1,
            subdomain: texts.2,
            host_aliases: lists.3,
            kept_fields: maps.1,
        })
        .boxed()
}

fn host_alias() -> impl Strategy<Value = HostAlias> {
    (text(), vec(text(), 0..3)).prop_map(|(ip, hostnames)| HostAlias { ip, hostnames })
}

/// A known word, or any other text.
fn word<Word: for<'a> From<&'a str> + std::fmt::Debug>(
    known: &'static [&'static str],
) -> impl Strategy<Value = Word> {
    prop_oneof![proptest::sample::select(known).prop_map(str::to_owned), text()]
        .prop_map(|text| Word::from(text.as_str()))
}

fn container() -> BoxedStrategy<Container> {
    (
        (text(), text(), text(), text()),
        (vec(text(), 0..3), vec(text(), 0..3)),
        (vec(variable(), 0..3), vec(variables(), 0..2), vec(volume_mount(), 0..2)),
        (quantities(), quantities(), string_map()),
        option::of(security_context()),
        (
            option::of(word::<RestartPolicy>(&["Never", "OnFailure", "Always"])),
            vec(restart_rule(), 0..2),
            option::of(word::<ImagePullPolicy>(ImagePullPolicy::KNOWN)),
            option::of(word::<TerminationMessagePolicy>(TerminationMessagePolicy::KNOWN)),
        ),
        option::of(lifecycle()),
        (option::of(probe()), option::of(probe()), option::of(probe())),
        (any::<bool>(), any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |(texts, arguments, lists, maps, security_context, policies, lifecycle, probes, streams)| {
                Container {
                    name: texts.0,
                    image: texts.1,
                    image_pull_policy: policies.2,
                    command: arguments.0,
                    args: arguments.1,
                    env: lists.0,
                    env_from: lists.1,
                    working_dir: texts.2,
                    requests: maps.0,
                    limits: maps.1,
                    volume_mounts: lists.2,
                    security_context,
                    restart_policy: policies.0,
                    restart_policy_rules: policies.1,
                    lifecycle,
                    startup_probe: probes.0,
                    liveness_probe: probes.1,
                    readiness_probe: probes.2,
                    termination_message_path: texts.3,
                    termination_message_policy: policies.3,
                    stdin: streams.0,
                    stdin_once: streams.1,
                    tty: streams.2,
                    kept_fields: maps.2,
                }
            },
        )
        .boxed()
}

fn quantity() -> impl Strategy<Value = Quantity> {
    "[0-9]{1,6}(\\.[0-9]{1,3})?(m|k|M|Gi|e3)?"
        .prop_map(|text| Quantity::parse(&text).expect("generated to be a quantity"))
}

fn quantities() -> impl Strategy<Value = BTreeMap<String, Quantity>> {
    btree_map(text(), quantity(), 0..3)
}

fn field_ref() -> impl Strategy<Value = FieldRef> {
    text().prop_map(|field_path| FieldRef { field_path })
}

fn resource_field_ref() -> impl Strategy<Value = ResourceFieldRef> {
    (text(), text(), option::of(quantity())).prop_map(|(container_name, resource, divisor)| {
        ResourceFieldRef { container_name, resource, divisor }
    })
}

fn variable() -> BoxedStrategy<EnvVar> {
    let key = (text(), text(), option::of(any::<bool>())).prop_map(|(name, key, optional)| ConfigMapKeyRef {
        name,
        key,
        optional,
    });
    let source = prop_oneof![
        field_ref().prop_map(EnvVarSource::FieldRef),
        resource_field_ref().prop_map(EnvVarSource::ResourceFieldRef),
        key.prop_map(EnvVarSource::ConfigMapKeyRef),
    ];
    (text(), text(), option::of(source))
        .prop_map(|(name, value, value_from)| EnvVar { name, value, value_from })
        .boxed()
}

fn variables() -> impl Strategy<Value = EnvFromSource> {
    (text(), text(), option::of(any::<bool>()))
        .prop_map(|(prefix, config_map_name, optional)| EnvFromSource { prefix, config_map_name, optional })
}

fn restart_rule() -> BoxedStrategy<ContainerRestartRule> {
    let codes = (word::<ExitCodeOperator>(ExitCodeOperator::KNOWN), vec(any::<i32>(), 0..3))
        .prop_map(|(operator, values)| RestartRuleExitCodes { operator, values });
    (word::<RestartRuleAction>(RestartRuleAction::KNOWN), option::of(codes))
        .prop_map(|(action, exit_codes)| ContainerRestartRule { action, exit_codes })
        .boxed()
}

fn exec() -> impl Strategy<Value = ExecAction> {
    vec(text(), 0..3).prop_map(|command| ExecAction { command })
}

fn lifecycle() -> BoxedStrategy<Lifecycle> {
    let handler = || {
        prop_oneof![
            exec().prop_map(LifecycleHandler::Exec),
            any::<i64>().prop_map(|seconds| LifecycleHandler::Sleep(SleepAction { seconds })),
        ]
    };
    (option::of(handler()), option::of(handler()), option::of(text()))
        .prop_map(|(post_start, pre_stop, stop_signal)| Lifecycle { post_start, pre_stop, stop_signal })
        .boxed()
}

fn probe() -> BoxedStrategy<Probe> {
    (exec(), (any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>()), option::of(any::<i64>()))
        .prop_map(|(exec, numbers, termination_grace_period_seconds)| Probe {
            exec,
            initial_delay_seconds: numbers.0,
            timeout_seconds: numbers.1,
            period_seconds: numbers.2,
            success_threshold: numbers.3,
            failure_threshold: numbers.4,
            termination_grace_period_seconds,
        })
        .boxed()
}

fn volume_mount() -> BoxedStrategy<VolumeMount> {
    (
        (text(), text(), text(), text()),
        any::<bool>(),
        option::of(word::<MountPropagation>(MountPropagation::KNOWN)),
    )
        .prop_map(|(texts, read_only, mount_propagation)| VolumeMount {
            name: texts.0,
            mount_path: texts.1,
            sub_path: texts.2,
            sub_path_expr: texts.3,
            read_only,
            mount_propagation,
        })
        .boxed()
}

fn volume() -> BoxedStrategy<Volume> {
    let mode = || option::of(any::<i32>());
    let optional = || option::of(any::<bool>());
    let keys =
        || vec((text(), text(), mode()).prop_map(|(key, path, mode)| KeyToPath { key, path, mode }), 0..2);
    let file_source = prop_oneof![
        field_ref().prop_map(DownwardApiSource::FieldRef),
        resource_field_ref().prop_map(DownwardApiSource::ResourceFieldRef),
    ];
    let file =
        (text(), mode(), file_source).prop_map(|(path, mode, source)| DownwardApiFile { path, mode, source });
    let files = vec(file, 0..2).boxed();
    let projection = prop_oneof![
        (text(), keys(), optional()).prop_map(|(name, items, optional)| {
            VolumeProjection::ConfigMap(ConfigMapProjection { name, items, optional })
        }),
        files.clone().prop_map(|items| VolumeProjection::DownwardApi(DownwardApiProjection { items })),
    ];
    let source = prop_oneof![
        (text(), option::of(quantity())).prop_map(|(medium, size_limit)| {
            VolumeSource::EmptyDir(EmptyDirVolume { medium, size_limit })
        }),
        (text(), option::of(word::<HostPathType>(HostPathType::KNOWN)))
            .prop_map(|(path, path_type)| VolumeSource::HostPath(HostPathVolume { path, path_type })),
        (text(), keys(), mode(), optional()).prop_map(|(name, items, default_mode, optional)| {
            VolumeSource::ConfigMap(ConfigMapVolume { name, items, default_mode, optional })
        }),
        (files, mode()).prop_map(|(items, default_mode)| {
            VolumeSource::DownwardApi(DownwardApiVolume { items, default_mode })
        }),
        (vec(projection, 0..3), mode()).prop_map(|(sources, default_mode)| {
            VolumeSource::Projected(ProjectedVolume { sources, default_mode })
        }),
    ];
    (text(), source).prop_map(|(name, source)| Volume { name, source }).boxed()
}

fn seccomp_profile() -> impl Strategy<Value = SeccompProfile> {
    (word::<SeccompProfileType>(SeccompProfileType::KNOWN), option::of(text()))
        .prop_map(|(profile_type, localhost_profile)| SeccompProfile { profile_type, localhost_profile })
}

fn pod_security_context() -> BoxedStrategy<PodSecurityContext> {
    (
        (option::of(any::<i64>()), option::of(any::<i64>()), option::of(any::<i64>())),
        option::of(any::<bool>()),
        vec(any::<i64>(), 0..3),
        option::of(text()),
        option::of(seccomp_profile()),
    )
        .prop_map(|(ids, run_as_non_root, supplemental_groups, change_policy, seccomp_profile)| {
            PodSecurityContext {
                run_as_user: ids.0,
                run_as_group: ids.1,
                run_as_non_root,
                supplemental_groups,
                fs_group: ids.2,
                fs_group_change_policy: change_policy,
                seccomp_profile,
            }
        })
        .boxed()
}

fn security_context() -> BoxedStrategy<SecurityContext> {
    let flag = || option::of(any::<bool>());
    let capabilities =
        (vec(text(), 0..3), vec(text(), 0..3)).prop_map(|(add, drop)| Capabilities { add, drop });
    (
        (option::of(any::<i64>()), option::of(any::<i64>())),
        (flag(), flag(), flag(), flag()),
        option::of(capabilities),
        option::of(seccomp_profile()),
    )
        .prop_map(|(ids, flags, capabilities, seccomp_profile)| SecurityContext {
            run_as_user: ids.0,
            run_as_group: ids.1,
            run_as_non_root: flags.0,
            read_only_root_filesystem: flags.1,
            privileged: flags.2,
            allow_privilege_escalation: flags.3,
            capabilities,
            seccomp_profile,
        })
        .boxed()
}
