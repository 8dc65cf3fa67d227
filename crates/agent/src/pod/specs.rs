//! What a Pod's template becomes for a runtime.
//!
//! Owns: sandbox, containers, images, environment, rights, resources. Does not own: volumes (`volumes`), what a node allows.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use stint_api::{
    Container, EnvVar, EnvVarSource, ImagePullPolicy, Quantity, SeccompProfile, SeccompProfileType,
};
use stint_runtime::{
    ContainerId, ContainerSpec, Error, ImageSpec, Mount, MountPropagation, PodSandboxSpec, PullPolicy,
    ResourceSpec, Seccomp, SecuritySpec, StreamsSpec,
};

use super::last_words;
use super::machine::Index;
use super::template::PodTemplate;

/// Where a container leaves its last words, unless it says otherwise (P12).
const TERMINATION_LOG: &str = "/dev/termination-log";

/// What is known of a Pod and its host when a container of it starts.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Of the Pod; the host's if it has none of its own.
    pub pod: Vec<IpAddr>,
    /// Of the host, the preferred one first.
    pub host: Vec<IpAddr>,
}

/// What the containers of a Pod share.
pub fn sandbox_spec(template: &PodTemplate) -> PodSandboxSpec {
    let (to_run, spec) = (template.to_run(), template.spec());
    let security = spec.security_context.clone().unwrap_or_default();
    PodSandboxSpec {
        namespace: to_run.namespace.clone(),
        name: to_run.name.clone(),
        hostname: template.hostname().to_owned(),
        labels: to_run.labels.clone().into_iter().collect(),
        annotations: to_run.annotations.clone().into_iter().collect(),
        host_network: spec.host_network,
        host_pid: spec.host_pid,
        host_ipc: spec.host_ipc,
        share_process_namespace: spec.share_process_namespace == Some(true),
        shares_ipc: !template.is_single(),
        other_users: template.containers().any(|container| {
            let asked = container.security_context.as_ref().and_then(|security| security.run_as_user);
            asked.is_some() && asked != security.run_as_user
        }),
        fs_group: security.fs_group.and_then(id_of),
        user: security.run_as_user.and_then(id_of),
        group: security.run_as_group.and_then(id_of),
        supplemental_groups: security.supplemental_groups.iter().copied().filter_map(id_of).collect(),
        resources: pod_resources(template.app_containers()),
        ..PodSandboxSpec::new(&template.uid().to_string(), template.folder().to_owned())
    }
}

/// The image of a container, if it names one.
pub fn image_spec(container: &Container) -> Option<ImageSpec> {
    if container.image.is_empty() {
        return None;
    }
    let pull_policy = match &container.image_pull_policy {
        Some(ImagePullPolicy::Always) => PullPolicy::Always,
        Some(ImagePullPolicy::Never) => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None if is_latest(&container.image) => PullPolicy::Always,
        None => PullPolicy::IfNotPresent,
    };
    Some(ImageSpec { reference: container.image.clone(), pull_policy })
}

/// True if an image names the tag `latest`, or none at all.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// One run of one container. With `shows_files` what the container leaves as its last words is a file of the Pod's folder. Without
/// `has_own_host_name` the runtime says what its host is called.
///
/// # Errors
/// If it has no such container, or one whose name can't be that of a container.
pub fn container_spec(
    template: &PodTemplate,
    index: Index,
    run: u32,
    addresses: &Addresses,
    shows_files: bool,
    has_own_host_name: bool,
) -> Result<ContainerSpec, Error> {
    let id = ContainerId::new(&template.uid().to_string(), template.name_of(index), run)?;
    let Some(container) = template.container(index) else {
        return Err(Error::NotRunning { container: id.to_string() });
    };
    let working_directory =
        (!container.working_dir.is_empty()).then(|| PathBuf::from(&container.working_dir));
    let (mut mounts, mut termination_log) = (Vec::new(), None);
    if shows_files {
        let source = termination_file(template.folder(), template.name_of(index), run);
        let target = match container.termination_message_path.as_str() {
            "" => TERMINATION_LOG,
            path => path,
        };
        mounts.push(Mount {
            source: source.clone(),
            target: PathBuf::from(target),
            read_only: false,
            propagation: MountPropagation::Private,
        });
        termination_log = Some(source);
    }
    Ok(ContainerSpec {
        image: image_spec(container),
        command: container.command.clone(),
        args: container.args.clone(),
        env: environment(template, container, addresses, has_own_host_name),
        working_directory,
        mounts,
        security: security_spec(template, container),
        resources: resource_spec(container),
        streams: StreamsSpec {
            stdin: container.stdin,
            stdin_once: container.stdin_once,
            terminal: container.tty,
        },
        stop_signal: template.stop_signal(index),
        termination_log,
        ..ContainerSpec::new(id)
    })
}

/// Where the last words of a run are. The file is there from the moment on at which the run is begun.
pub fn termination_file(folder: &Path, container: &str, run: u32) -> PathBuf {
    folder.join(format!("{}{container}.{run}", last_words::PREFIX))
}

fn environment(
    template: &PodTemplate,
    container: &Container,
    addresses: &Addresses,
    has_own_host_name: bool,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> =
        container.env.iter().map(|variable| (variable.name.clone(), value_of(variable, addresses))).collect();
    if has_own_host_name && !env.iter().any(|(name, _)| name == "HOSTNAME") {
        env.insert(0, ("HOSTNAME".to_owned(), template.hostname().to_owned()));
    }
    env
}

/// What the servers could not know. Everything else that comes from elsewhere they have looked up.
fn value_of(variable: &EnvVar, addresses: &Addresses) -> String {
    let Some(EnvVarSource::FieldRef(field)) = &variable.value_from else { return variable.value.clone() };
    let joined = |all: &[IpAddr]| all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    match field.field_path.as_str() {
        "status.podIP" => joined(&addresses.pod[..addresses.pod.len().min(1)]),
        "status.podIPs" => joined(&addresses.pod),
        "status.hostIP" => joined(&addresses.host[..addresses.host.len().min(1)]),
        "status.hostIPs" => joined(&addresses.host),
        _ => variable.value.clone(),
    }
}

fn security_spec(template: &PodTemplate, container: &Container) -> SecuritySpec {
    let pod = template.spec().security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    SecuritySpec {
        user: own.run_as_user.and_then(id_of),
        group: own.run_as_group.and_then(id_of),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root) == Some(true),
        supplemental_groups: Vec::new(),
        read_only_root: own.read_only_root_filesystem == Some(true),
        privileged: own.privileged == Some(true),
        allow_privilege_escalation: own.allow_privilege_escalation,
        capabilities_add: capabilities.add,
        capabilities_drop: capabilities.drop,
        seccomp: seccomp(own.seccomp_profile.or(pod.seccomp_profile)),
    }
}

fn seccomp(profile: Option<SeccompProfile>) -> Seccomp {
    let Some(profile) = profile else { return Seccomp::RuntimeDefault };
    match profile.profile_type {
        SeccompProfileType::Unconfined => Seccomp::Unconfined,
        SeccompProfileType::Localhost => Seccomp::Localhost(profile.localhost_profile.unwrap_or_default()),
        _ => Seccomp::RuntimeDefault,
    }
}

/// User and group ids are below 2^31 (validation).
fn id_of(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

fn resource_spec(container: &Container) -> ResourceSpec {
    let (requests, limits) = (&container.requests, &container.limits);
    ResourceSpec {
        cpu_limit_millis: limits.get("cpu").and_then(millis_of),
        cpu_request_millis: requests.get("cpu").and_then(millis_of),
        memory_limit_bytes: limits.get("memory").and_then(units_of),
        processes_max: None,
    }
}

/// Bytes of memory that all containers together may use, sidecars included; none if one of them has no limit.
pub fn memory_limit(template: &PodTemplate) -> Option<u64> {
    let spec = template.spec();
    let all = || spec.containers.iter().chain(&spec.init_containers).map(resource_spec);
    all().map(|one| one.memory_limit_bytes).sum()
}

/// What the containers may use together: a limit only if all of them have one.
fn pod_resources(containers: &[Container]) -> ResourceSpec {
    let all: Vec<ResourceSpec> = containers.iter().map(resource_spec).collect();
    let sum_of_all = |of: fn(&ResourceSpec) -> Option<u64>| all.iter().map(of).sum::<Option<u64>>();
    let requested: u64 = all.iter().filter_map(|one| one.cpu_request_millis).sum();
    ResourceSpec {
        cpu_limit_millis: sum_of_all(|one| one.cpu_limit_millis).filter(|sum| *sum > 0),
        cpu_request_millis: Some(requested).filter(|sum| *sum > 0),
        memory_limit_bytes: sum_of_all(|one| one.memory_limit_bytes).filter(|sum| *sum > 0),
        processes_max: None,
    }
}

fn millis_of(quantity: &Quantity) -> Option<u64> {
    u64::try_from(quantity.millis()).ok().filter(|millis| *millis > 0)
}

/// Bytes of a quantity.
pub fn units_of(quantity: &Quantity) -> Option<u64> {
    u64::try_from(quantity.units()).ok().filter(|units| *units > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{FieldRef, PodSecurityContext, PodSpec, SecurityContext};
    use stint_proto::v1;

    fn template(spec: PodSpec) -> PodTemplate {
        let to_run = v1::PodToRun {
            uid: vec![7; 16].into(),
            name: "a-pod".to_owned(),
            spec: Some(spec.into()),
            ..v1::PodToRun::default()
        };
        PodTemplate::new(to_run, PathBuf::from("/data/pods/x"))
    }

    #[test]
    fn images_are_fetched_as_their_tag_says() {
        let pulled = |image: &str| {
            image_spec(&Container { image: image.to_owned(), ..Container::default() })
                .map(|it| it.pull_policy)
        };
        for (image, policy) in [
            ("perl", PullPolicy::Always),
            ("host:5000/perl", PullPolicy::Always),
            ("perl:latest", PullPolicy::Always),
            ("perl:5.34", PullPolicy::IfNotPresent),
            ("perl@sha256:00", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(pulled(image), Some(policy), "{image}");
        }
        assert_eq!(pulled(""), None);
    }

    #[test]
    fn environment_rights_and_resources_are_what_the_template_says() {
        let field = |path: &str| EnvVar {
            name: path.to_owned(),
            value_from: Some(EnvVarSource::FieldRef(FieldRef { field_path: path.to_owned() })),
            ..EnvVar::default()
        };
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        let container = Container {
            name: "app".to_owned(),
            env: vec![field("status.podIP"), field("status.hostIPs")],
            limits: [("cpu".to_owned(), quantity("1500m")), ("memory".to_owned(), quantity("64Mi"))].into(),
            security_context: Some(SecurityContext { run_as_user: Some(7), ..SecurityContext::default() }),
            ..Container::default()
        };
        let other = Container { limits: [("cpu".to_owned(), quantity("1"))].into(), ..container.clone() };
        let pod = PodSecurityContext {
            run_as_user: Some(9),
            run_as_non_root: Some(true),
            fs_group: Some(11),
            ..PodSecurityContext::default()
        };
        let template = template(PodSpec {
            containers: vec![container, other],
            security_context: Some(pod),
            ..PodSpec::default()
        });
        let host: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|text| text.parse().unwrap()).into();
        let addresses = Addresses { pod: vec!["10.1.0.7".parse().unwrap()], host };
        let spec = container_spec(&template, 0, 3, &addresses, true, true).unwrap();
        let expected =
            [("HOSTNAME", "a-pod"), ("status.podIP", "10.1.0.7"), ("status.hostIPs", "10.0.0.1,fd00::1")];
        assert_eq!(spec.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let on_the_host = container_spec(&template, 0, 3, &addresses, true, false).unwrap();
        assert_eq!(on_the_host.env, spec.env[1..], "the runtime says what the host is called");
        assert_eq!((spec.security.user, spec.security.run_as_non_root), (Some(7), true));
        assert_eq!(spec.resources.memory_limit_bytes, Some(64 << 20));
        assert_eq!(spec.termination_log, Some(PathBuf::from("/data/pods/x/termination.app.3")));
        assert_eq!(spec.mounts[0].target, PathBuf::from("/dev/termination-log"));
        let sandbox = sandbox_spec(&template);
        assert_eq!((sandbox.user, sandbox.fs_group), (Some(9), Some(11)));
        assert_eq!(sandbox.resources.cpu_limit_millis, Some(2_500));
        assert_eq!(sandbox.resources.memory_limit_bytes, None, "one of them has no limit");
    }
}
