//! Fields of Pods, containers and volumes: what is refused, with Kubernetes' words.

use super::valid;
use crate::container::*;
use crate::defaulting::set_defaults;
use crate::pod::PodSpec;
use crate::quantity::Quantity;
use crate::security::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};
use crate::validation::{validate_create, validate_update, warnings};
use crate::volume::*;

fn container(name: &str) -> Container {
    Container { name: name.to_owned(), ..valid().spec.template.spec.containers[0].clone() }
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn rule(action: &str, operator: &str, values: &[i32]) -> ContainerRestartRule {
    let codes = RestartRuleExitCodes { operator: operator.into(), values: values.to_vec() };
    ContainerRestartRule { action: action.into(), exit_codes: Some(codes) }
}

fn from(name: &str, value: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.to_owned(), value: value.to_owned(), value_from: Some(source) }
}

fn field(path: &str) -> EnvVarSource {
    EnvVarSource::FieldRef(FieldRef { field_path: path.to_owned() })
}

fn amount(container: &str, resource: &str, divisor: Option<&str>) -> EnvVarSource {
    EnvVarSource::ResourceFieldRef(ResourceFieldRef {
        container_name: container.to_owned(),
        resource: resource.to_owned(),
        divisor: divisor.map(quantity),
    })
}

fn key(name: &str, key: &str) -> EnvVarSource {
    EnvVarSource::ConfigMapKeyRef(ConfigMapKeyRef {
        name: name.to_owned(),
        key: key.to_owned(),
        optional: None,
    })
}

fn probe() -> Probe {
    let exec = ExecAction { command: vec!["true".to_owned()] };
    Probe {
        exec,
        timeout_seconds: 1,
        period_seconds: 10,
        success_threshold: 1,
        failure_threshold: 3,
        ..Probe::default()
    }
}

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.to_owned(), source }
}

fn host(path: &str, path_type: Option<&str>) -> VolumeSource {
    VolumeSource::HostPath(HostPathVolume { path: path.to_owned(), path_type: path_type.map(Into::into) })
}

fn map_volume(name: &str, key: &str, path: &str, mode: Option<i32>) -> VolumeSource {
    let items = vec![KeyToPath { key: key.to_owned(), path: path.to_owned(), mode }];
    VolumeSource::ConfigMap(ConfigMapVolume { name: name.to_owned(), items, ..ConfigMapVolume::default() })
}

fn file(path: &str, field_path: &str) -> DownwardApiFile {
    let source = DownwardApiSource::FieldRef(FieldRef { field_path: field_path.to_owned() });
    DownwardApiFile { path: path.to_owned(), mode: None, source }
}

fn amount_file(path: &str, container: &str) -> DownwardApiFile {
    let source = DownwardApiSource::ResourceFieldRef(ResourceFieldRef {
        container_name: container.to_owned(),
        resource: "limits.cpu".to_owned(),
        divisor: None,
    });
    DownwardApiFile { path: path.to_owned(), mode: None, source }
}

/// So many sources that all write the same file.
fn projected(count: usize) -> VolumeSource {
    let items = vec![file("x", "metadata.name")];
    let source = VolumeProjection::DownwardApi(DownwardApiProjection { items });
    VolumeSource::Projected(ProjectedVolume { sources: vec![source; count], default_mode: None })
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn with_volume(pod: &mut PodSpec) {
    pod.volumes = vec![volume("data", VolumeSource::default())];
}

fn seccomp(profile_type: &str, file: Option<&str>) -> SeccompProfile {
    SeccompProfile { profile_type: profile_type.into(), localhost_profile: file.map(str::to_owned) }
}

type Change = fn(&mut PodSpec);

/// The rule, what breaks it, what is said.
const CASES: &[(&str, Change, &str)] = &[
    (
        "names",
        |pod| pod.containers.push(container("main")),
        "spec.template.spec.containers[1].name: Duplicate value: \"main\"",
    ),
    (
        "names",
        |pod| pod.init_containers.push(container("main")),
        "spec.template.spec.containers[0].name: Duplicate value: \"main\"",
    ),
    (
        "limit",
        |pod| pod.containers = (0..65).map(|number| container(&format!("c{number}"))).collect(),
        "spec.template.spec.containers: Too many: 65: must have at most 64 items",
    ),
    (
        "host",
        |pod| {
            pod.host_pid = true;
            pod.share_process_namespace = Some(true)
        },
        "spec.template.spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    (
        "host",
        |pod| pod.hostname = Some("A.b".into()),
        "spec.template.spec.hostname: Invalid value: \"A.b\": a lowercase RFC 1123 label",
    ),
    (
        "host",
        |pod| pod.subdomain = Some("-".into()),
        "spec.template.spec.subdomain: Invalid value: \"-\": a lowercase RFC 1123 label",
    ),
    (
        "runtime",
        |pod| pod.runtime_class_name = Some("gvisor".into()),
        "spec.template.spec.runtimeClassName: Unsupported value: \"gvisor\": supported values: \"process\", \"cri\", \"oci\"",
    ),
    (
        "image",
        |pod| pod.containers[0].image = " perl".into(),
        "containers[0].image: Invalid value: \" perl\": must not have leading or trailing whitespace",
    ),
    (
        "image",
        |pod| pod.containers[0].image_pull_policy = Some("Sometimes".into()),
        "containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
    ),
    (
        "P12",
        |pod| pod.containers[0].termination_message_policy = Some("Logs".into()),
        "terminationMessagePolicy: Unsupported value: \"Logs\": supported values: \"File\", \"FallbackToLogsOnError\"",
    ),
    (
        "P12",
        |pod| pod.containers[0].termination_message_path = "log".into(),
        "terminationMessagePath: Invalid value: \"log\": must be an absolute path",
    ),
    (
        "P12",
        |pod| pod.containers[0].termination_message_path = "/a/../b".into(),
        "terminationMessagePath: Invalid value: \"/a/../b\": must be the path of a file",
    ),
    (
        "P10",
        |pod| pod.containers[0].restart_policy = Some("Maybe".into()),
        "containers[0].restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\"",
    ),
    (
        "P10",
        |pod| pod.containers[0].restart_policy_rules = vec![rule("Restart", "In", &[42])],
        "containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
    ),
    (
        "P10",
        |pod| {
            pod.containers[0].restart_policy = Some("Never".into());
            pod.containers[0].restart_policy_rules = vec![rule("Stop", "In", &[42])]
        },
        "restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"",
    ),
    (
        "P10",
        |pod| {
            pod.containers[0].restart_policy = Some("Never".into());
            pod.containers[0].restart_policy_rules = vec![rule("Restart", "", &[42])]
        },
        "restartPolicyRules[0].exitCodes.operator: Required value: valid values: \"In\", \"NotIn\"",
    ),
    (
        "P10",
        |pod| {
            pod.containers[0].restart_policy = Some("Never".into());
            pod.containers[0].restart_policy_rules = vec![rule("Restart", "In", &[])]
        },
        "restartPolicyRules[0].exitCodes.values: Required value",
    ),
    (
        "P10",
        |pod| {
            pod.containers[0].restart_policy = Some("Never".into());
            pod.containers[0].restart_policy_rules =
                vec![ContainerRestartRule { action: "Restart".into(), exit_codes: None }]
        },
        "restartPolicyRules[0].exitCodes: Required value: must be specified",
    ),
    (
        "P10",
        |pod| {
            pod.containers[0].restart_policy = Some("Never".into());
            pod.containers[0].restart_policy_rules = vec![rule("Restart", "In", &[1]); 21]
        },
        "restartPolicyRules: Too many: 21: must have at most 20 items",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "x", field("metadata.name"))],
        "env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", field(""))],
        "env[0].valueFrom.fieldRef.fieldPath: Required value",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", field("metadata.labels"))],
        "env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \"metadata.name\"",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", field("metadata.name['a']"))],
        "fieldPath: Invalid value: \"metadata.name['a']\": does not support subscript",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", field("metadata.labels['a b']"))],
        "fieldPath: Invalid value: \"a b\": name part must consist",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", amount("", "limits.gpu", None))],
        "resourceFieldRef.resource: Unsupported value: \"limits.gpu\"",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", amount("other", "limits.cpu", None))],
        "resourceFieldRef.containerName: Not found: \"other\"",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", amount("", "limits.cpu", Some("1k")))],
        "resourceFieldRef.divisor: Invalid value: \"1k\": only divisor's values 1m, 1 are supported with the cpu resource",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", key("", "k"))],
        "configMapKeyRef.name: Required value",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", key("A_b", "k"))],
        "configMapKeyRef.name: Invalid value: \"A_b\"",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", key("m", ""))],
        "configMapKeyRef.key: Required value",
    ),
    (
        "env",
        |pod| pod.containers[0].env = vec![from("A", "", key("m", "a/b"))],
        "configMapKeyRef.key: Invalid value: \"a/b\": a valid config key",
    ),
    (
        "env",
        |pod| {
            pod.containers[0].env_from =
                vec![EnvFromSource { prefix: "A=".into(), ..EnvFromSource::default() }]
        },
        "envFrom[0].prefix: Invalid value: \"A=\"",
    ),
    (
        "env",
        |pod| pod.containers[0].env_from = vec![EnvFromSource::default()],
        "envFrom[0].configMapRef.name: Required value",
    ),
    (
        "probe",
        |pod| pod.containers[0].liveness_probe = Some(Probe { exec: ExecAction::default(), ..probe() }),
        "livenessProbe.exec.command: Required value",
    ),
    (
        "probe",
        |pod| pod.containers[0].liveness_probe = Some(Probe { success_threshold: 2, ..probe() }),
        "livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        "probe",
        |pod| pod.containers[0].startup_probe = Some(Probe { success_threshold: 2, ..probe() }),
        "startupProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        "probe",
        |pod| pod.containers[0].readiness_probe = Some(Probe { period_seconds: -1, ..probe() }),
        "readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "probe",
        |pod| {
            pod.containers[0].readiness_probe =
                Some(Probe { termination_grace_period_seconds: Some(1), ..probe() })
        },
        "readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
    ),
    (
        "probe",
        |pod| {
            pod.containers[0].liveness_probe =
                Some(Probe { termination_grace_period_seconds: Some(0), ..probe() })
        },
        "livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        "P8",
        |pod| {
            pod.init_containers = vec![container("init")];
            pod.init_containers[0].readiness_probe = Some(probe())
        },
        "initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    ),
    (
        "P8",
        |pod| {
            pod.init_containers = vec![container("init")];
            pod.init_containers[0].lifecycle = Some(Lifecycle::default())
        },
        "initContainers[0].lifecycle: Forbidden: may not be set for init containers",
    ),
    (
        "hook",
        |pod| {
            pod.containers[0].lifecycle = Some(Lifecycle {
                pre_stop: Some(LifecycleHandler::Sleep(SleepAction { seconds: 31 })),
                ..Lifecycle::default()
            })
        },
        "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
    ),
    (
        "hook",
        |pod| {
            pod.containers[0].lifecycle = Some(Lifecycle {
                post_start: Some(LifecycleHandler::Exec(ExecAction::default())),
                ..Lifecycle::default()
            })
        },
        "lifecycle.postStart.exec.command: Required value",
    ),
    (
        "P6",
        |pod| {
            pod.containers[0].lifecycle =
                Some(Lifecycle { stop_signal: Some("TERM".into()), ..Lifecycle::default() })
        },
        "lifecycle.stopSignal: Invalid value: \"TERM\": must be the name of a signal",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("A", VolumeSource::default())],
        "spec.template.spec.volumes[0].name: Invalid value: \"A\"",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", VolumeSource::default()); 2],
        "spec.template.spec.volumes[1].name: Duplicate value: \"a\"",
    ),
    (
        "limit",
        |pod| pod.volumes = vec![volume("a", VolumeSource::default()); 65],
        "spec.template.spec.volumes: Too many: 65: must have at most 64 items",
    ),
    (
        "volume",
        |pod| {
            pod.volumes = vec![volume(
                "a",
                VolumeSource::EmptyDir(EmptyDirVolume { medium: "HugePages".into(), size_limit: None }),
            )]
        },
        "emptyDir.medium: Unsupported value: \"HugePages\"",
    ),
    (
        "volume",
        |pod| {
            pod.volumes = vec![volume(
                "a",
                VolumeSource::EmptyDir(EmptyDirVolume {
                    medium: String::new(),
                    size_limit: Some(quantity("-1")),
                }),
            )]
        },
        "emptyDir.sizeLimit: Invalid value: \"-1\": must be greater than or equal to 0",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", host("data", None))],
        "hostPath.path: Invalid value: \"data\": must be an absolute path",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", host("/data/../etc", None))],
        "hostPath.path: Invalid value: \"/data/../etc\": must not contain '..'",
    ),
    ("volume", |pod| pod.volumes = vec![volume("a", host("", None))], "hostPath.path: Required value"),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", host("/data", Some("Folder")))],
        "hostPath.type: Unsupported value: \"Folder\": supported values: \"\", \"DirectoryOrCreate\"",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", map_volume("m", "k", "../x", None))],
        "configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", map_volume("m", "k", "/x", None))],
        "configMap.items[0].path: Invalid value: \"/x\": must be a relative path",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", map_volume("m", "k", "..x", None))],
        "configMap.items[0].path: Invalid value: \"..x\": must not start with '..'",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", map_volume("m", "k", "x", Some(0o1777)))],
        "configMap.items[0].mode: Invalid value: 1023: must be a number between 0 and 0777 (octal), both inclusive",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", map_volume("m", "", "x", None))],
        "configMap.items[0].key: Required value",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", map_volume("", "k", "x", None))],
        "configMap.name: Required value",
    ),
    (
        "volume",
        |pod| {
            pod.volumes = vec![volume(
                "a",
                VolumeSource::DownwardApi(DownwardApiVolume {
                    items: vec![file("x", "status.podIP")],
                    default_mode: None,
                }),
            )]
        },
        "downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: \"status.podIP\": supported values: \"metadata.annotations\"",
    ),
    (
        "volume",
        |pod| {
            pod.volumes = vec![volume(
                "a",
                VolumeSource::DownwardApi(DownwardApiVolume {
                    items: vec![amount_file("x", "")],
                    default_mode: Some(-1),
                }),
            )]
        },
        "downwardAPI.items[0].resourceFieldRef.containerName: Required value",
    ),
    (
        "volume",
        |pod| pod.volumes = vec![volume("a", projected(2))],
        "projected.sources[1].downwardAPI.items[0].path: Invalid value: \"x\": conflicting duplicate paths",
    ),
    (
        "limit",
        |pod| pod.volumes = vec![volume("a", projected(65))],
        "projected.sources: Too many: 65: must have at most 64 items",
    ),
    (
        "mount",
        |pod| pod.containers[0].volume_mounts = vec![mount("data", "/data")],
        "volumeMounts[0].name: Not found: \"data\"",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![mount("data", "data")]
        },
        "volumeMounts[0].mountPath: Invalid value: \"data\": must be an absolute path",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![mount("data", "/a:b")]
        },
        "volumeMounts[0].mountPath: Invalid value: \"/a:b\": must not contain ':'",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![mount("data", "/a/../b")]
        },
        "volumeMounts[0].mountPath: Invalid value: \"/a/../b\": must not contain '..'",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![mount("data", "/")]
        },
        "volumeMounts[0].mountPath: Invalid value: \"/\": must not be the root folder",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![mount("data", "//.")]
        },
        "volumeMounts[0].mountPath: Invalid value: \"//.\": must not be the root folder",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![mount("data", "/a"), mount("data", "/a/")]
        },
        "volumeMounts[1].mountPath: Invalid value: \"/a/\": must be unique",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts =
                vec![VolumeMount { sub_path: "../x".into(), ..mount("data", "/a") }]
        },
        "volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts =
                vec![VolumeMount { sub_path: "/x".into(), ..mount("data", "/a") }]
        },
        "volumeMounts[0].subPath: Invalid value: \"/x\": must be a relative path",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts = vec![VolumeMount {
                sub_path: "x".into(),
                sub_path_expr: "$(Y)".into(),
                ..mount("data", "/a")
            }]
        },
        "volumeMounts[0].subPathExpr: Invalid value: \"$(Y)\": subPathExpr and subPath are mutually exclusive",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts =
                vec![VolumeMount { mount_propagation: Some("Bidirectional".into()), ..mount("data", "/a") }]
        },
        "volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged",
    ),
    (
        "mount",
        |pod| {
            with_volume(pod);
            pod.containers[0].volume_mounts =
                vec![VolumeMount { mount_propagation: Some("Both".into()), ..mount("data", "/a") }]
        },
        "volumeMounts[0].mountPropagation: Unsupported value: \"Both\"",
    ),
    (
        "security",
        |pod| pod.security_context = Some(PodSecurityContext { run_as_user: Some(-1), ..Default::default() }),
        "spec.template.spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        "security",
        |pod| {
            pod.security_context =
                Some(PodSecurityContext { supplemental_groups: vec![0, 1 << 31], ..Default::default() })
        },
        "securityContext.supplementalGroups[1]: Invalid value: 2147483648",
    ),
    (
        "security",
        |pod| {
            pod.security_context = Some(PodSecurityContext {
                fs_group_change_policy: Some("Never".into()),
                ..Default::default()
            })
        },
        "securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"",
    ),
    (
        "security",
        |pod| {
            pod.security_context = Some(PodSecurityContext {
                seccomp_profile: Some(seccomp("Localhost", None)),
                ..Default::default()
            })
        },
        "seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
    ),
    (
        "security",
        |pod| {
            pod.security_context = Some(PodSecurityContext {
                seccomp_profile: Some(seccomp("Unconfined", Some("x"))),
                ..Default::default()
            })
        },
        "seccompProfile.localhostProfile: Invalid value: \"x\": can only be set when seccomp type is Localhost",
    ),
    (
        "security",
        |pod| {
            pod.security_context = Some(PodSecurityContext {
                seccomp_profile: Some(seccomp("Localhost", Some("../x"))),
                ..Default::default()
            })
        },
        "seccompProfile.localhostProfile: Invalid value: \"../x\": must not contain '..'",
    ),
    (
        "security",
        |pod| {
            pod.containers[0].security_context =
                Some(SecurityContext { seccomp_profile: Some(seccomp("", None)), ..Default::default() })
        },
        "containers[0].securityContext.seccompProfile.type: Required value: valid values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
    ),
    (
        "security",
        |pod| {
            pod.containers[0].security_context = Some(SecurityContext {
                privileged: Some(true),
                allow_privilege_escalation: Some(false),
                ..Default::default()
            })
        },
        "containers[0].securityContext: Invalid value: {…}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        "security",
        |pod| {
            pod.containers[0].security_context = Some(SecurityContext {
                capabilities: Some(Capabilities { add: vec!["CAP_SYS_ADMIN".into()], drop: Vec::new() }),
                allow_privilege_escalation: Some(false),
                ..Default::default()
            })
        },
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ),
    (
        "security",
        |pod| {
            pod.containers[0].security_context = Some(SecurityContext {
                capabilities: Some(Capabilities { add: Vec::new(), drop: vec!["EVERYTHING".into()] }),
                ..Default::default()
            })
        },
        "capabilities.drop[0]: Invalid value: \"EVERYTHING\": must be ALL or the name of a capability",
    ),
];

#[test]
fn bad_pods_are_refused_in_kubernetes_words() {
    for (rule, change, expected) in CASES {
        let mut job = valid();
        change(&mut job.spec.template.spec);
        let errors: Vec<String> = validate_create(&job).iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{rule}: expected {expected:?} in {errors:?}"
        );
    }
}

/// A Pod with something of everything.
fn whole() -> PodSpec {
    let mut pod = valid().spec.template.spec;
    pod.volumes = vec![
        volume("empty", VolumeSource::default()),
        volume("host", host("/data/in", Some("Directory"))),
        volume("map", map_volume("settings", "a.txt", "below/a.txt", Some(0o400))),
        volume(
            "fields",
            VolumeSource::DownwardApi(DownwardApiVolume {
                items: vec![
                    file("labels", "metadata.labels"),
                    file("app", "metadata.labels['app.kubernetes.io/name']"),
                    amount_file("cpu", "main"),
                ],
                default_mode: None,
            }),
        ),
        volume("all", projected(1)),
    ];
    pod.init_containers = vec![
        container("first"),
        Container {
            restart_policy: Some("Always".into()),
            startup_probe: Some(probe()),
            lifecycle: Some(Lifecycle { stop_signal: Some("SIGRTMIN+3".to_owned()), ..Lifecycle::default() }),
            ..container("sidecar")
        },
    ];
    pod.hostname = Some("worker".to_owned());
    pod.subdomain = Some("team".to_owned());
    pod.runtime_class_name = Some("cri".to_owned());
    pod.security_context = Some(PodSecurityContext {
        run_as_user: Some(1000),
        fs_group: Some(0),
        seccomp_profile: Some(seccomp("RuntimeDefault", None)),
        ..PodSecurityContext::default()
    });
    let main = &mut pod.containers[0];
    main.command.clear();
    main.env = vec![
        from("NAME", "", field("metadata.name")),
        from("LABEL", "", field("metadata.labels['app']")),
        from("IP", "", field("status.podIP")),
        from("MEMORY", "", amount("", "limits.memory", Some("1Mi"))),
        from("KEY", "", key("settings", "level")),
    ];
    main.env_from = vec![EnvFromSource {
        prefix: "S_".to_owned(),
        config_map_name: "settings".to_owned(),
        optional: Some(true),
    }];
    main.volume_mounts = vec![
        mount("empty", "/scratch"),
        VolumeMount { read_only: true, sub_path: "a/b".to_owned(), ..mount("host", "/in") },
        VolumeMount { sub_path_expr: "$(NAME)/x".to_owned(), ..mount("empty", "/own/") },
    ];
    main.readiness_probe = Some(Probe { success_threshold: 2, ..probe() });
    main.liveness_probe = Some(Probe { termination_grace_period_seconds: Some(5), ..probe() });
    main.lifecycle = Some(Lifecycle {
        post_start: Some(LifecycleHandler::Exec(ExecAction {
            command: vec!["touch".to_owned(), "/x".to_owned()],
        })),
        pre_stop: Some(LifecycleHandler::Sleep(SleepAction { seconds: 3 })),
        stop_signal: Some("SIGINT".to_owned()),
    });
    main.restart_policy = Some("Never".into());
    main.restart_policy_rules =
        vec![rule("RestartAllContainers", "In", &[42]), rule("Restart", "NotIn", &[0, 1])];
    main.security_context = Some(SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: vec!["NET_BIND_SERVICE".to_owned()],
            drop: vec!["ALL".to_owned()],
        }),
        ..SecurityContext::default()
    });
    pod
}

#[test]
fn a_whole_pod_is_accepted_and_its_defaults_are_stable() {
    let mut job = valid();
    job.spec.template.spec = whole();
    set_defaults(&mut job);
    assert_eq!(validate_create(&job), []);
    let once = job.clone();
    set_defaults(&mut job);
    assert_eq!(job, once);
    assert_eq!(validate_update(&once, &job), []);
}

#[test]
fn a_container_without_command_needs_a_runtime_that_reads_images() {
    for (class, accepted) in
        [(None, true), (Some("cri"), true), (Some("oci"), true), (Some("process"), false)]
    {
        let mut job = valid();
        job.spec.template.spec.runtime_class_name = class.map(str::to_owned);
        job.spec.template.spec.containers[0].command.clear();
        assert_eq!(validate_create(&job).is_empty(), accepted, "{class:?}");
    }
}

#[test]
fn only_a_process_needs_no_image() {
    for (class, accepted) in
        [(None, false), (Some("cri"), false), (Some("oci"), false), (Some("process"), true)]
    {
        let mut job = valid();
        job.spec.template.spec.runtime_class_name = class.map(str::to_owned);
        job.spec.template.spec.containers[0].image.clear();
        job.spec.template.spec.containers[0].image_pull_policy = None;
        set_defaults(&mut job);
        assert_eq!(validate_create(&job).is_empty(), accepted, "{class:?}");
        assert!(!accepted || job.spec.template.spec.containers[0].image_pull_policy.is_none());
        assert_eq!(warnings(&job, None).len(), 0, "nothing is said of an image that is not there");
    }
    let mut job = valid();
    job.spec.template.spec.runtime_class_name = Some("process".to_owned());
    job.spec.template.spec.containers[0].image = " ".to_owned();
    assert!(!validate_create(&job).is_empty(), "a blank one is a mistake");
}

#[test]
fn images_that_may_not_be_used_are_said() {
    for (class, expected) in [(None, 1), (Some("process"), 1), (Some("cri"), 0)] {
        let mut job = valid();
        job.spec.template.spec.runtime_class_name = class.map(str::to_owned);
        let warnings = warnings(&job, None);
        let count = warnings
            .iter()
            .filter(|one| one.contains("containers[0].image: image \"none\" is not pulled"))
            .count();
        assert_eq!(count, expected, "{class:?}: {warnings:?}");
    }
    let mut job = valid();
    job.spec.template.spec.containers[0].restart_policy = Some("Always".into());
    assert_eq!(validate_create(&job), [], "P10");
    assert!(
        warnings(&job, None).iter().any(|one| one.contains("containers[0].restartPolicy: with Always")),
        "P10"
    );
}

#[test]
fn what_was_stored_before_a_default_existed_can_be_updated() {
    let mut old = valid();
    old.spec.template.spec.containers[0].image_pull_policy = None;
    old.spec.template.spec.containers[0].termination_message_path.clear();
    assert_eq!(validate_update(&old, &valid()), []);
}

#[test]
fn a_suspended_job_may_change_resources_of_init_containers_too() {
    let mut old = valid();
    old.spec.suspend = Some(true);
    old.spec.template.spec.init_containers = vec![container("init")];
    let mut new = old.clone();
    new.spec.template.spec.init_containers[0].requests.insert("cpu".to_owned(), quantity("1"));
    assert_eq!(validate_update(&old, &new), [], "1.4");
    new.spec.template.spec.init_containers[0].image = "other".to_owned();
    assert_ne!(validate_update(&old, &new), []);
}

#[test]
fn everything_that_is_written_counts() {
    let mut job = valid();
    job.spec.template.spec = whole();
    let large = "x".repeat(crate::limits::JOB_BYTES_MAX);
    let changes: [fn(&mut PodSpec, String); 7] = [
        |pod, large| pod.init_containers[0].args = vec![large],
        |pod, large| pod.containers[0].volume_mounts[0].sub_path = large,
        |pod, large| pod.containers[0].liveness_probe.as_mut().unwrap().exec.command.push(large),
        |pod, large| {
            pod.volumes[1].source = VolumeSource::HostPath(HostPathVolume { path: large, path_type: None })
        },
        |pod, large| pod.containers[0].env[3] = from("A", "", key("m", &large)),
        |pod, large| pod.hostname = Some(large),
        |pod, large| pod.security_context.as_mut().unwrap().fs_group_change_policy = Some(large),
    ];
    for (position, change) in changes.iter().enumerate() {
        let mut job = job.clone();
        change(&mut job.spec.template.spec, large.clone());
        let errors = validate_create(&job);
        assert!(
            errors.iter().any(|error| error.to_string().starts_with("spec: Forbidden: the object has")),
            "{position}"
        );
    }
}
