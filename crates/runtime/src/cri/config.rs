//! What the engine is told, made of what the agent wants; and back.
//!
//! Owns: labels, annotations, the words of the engine's interface. Does not own: when something is asked for. Pure.

use super::api::*;
use super::cgroup::CgroupDriver;
use crate::cgroups::{CPU_PERIOD_US, cpu_quota_us, cpu_shares};
use crate::expand::expand_variables;
use crate::{ContainerId, ContainerSpec, Error, LogLimits, PodSandboxSpec, Seccomp, StreamsSpec, limits};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Labels of everything that is made here.
pub(super) const NODE_UID: &str = "stint.node-uid";
const POD_UID: &str = "stint.pod-uid";
const CONTAINER: &str = "stint.container";
const RUN: &str = "stint.run";
/// Annotation of a sandbox: [`PodFacts`].
const POD: &str = "stint.pod";
/// Annotations of a container.
const LOG_FILE_BYTES: &str = "stint.log-file-bytes";
const LOG_FILES: &str = "stint.log-files";
const STOP_SIGNAL: &str = "stint.stop-signal";
const STREAMS: &str = "stint.streams";

/// What tells a container about the host, or lets it change it, and what no program needs: hidden as Kubernetes does.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What it may look at only.
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where Pods get their network from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CriNetwork {
    /// The host's, for all Pods.
    #[default]
    Host,
    /// What the engine's network plug-in gives each Pod, except those that ask for the host's.
    Pod,
}

/// What of a Pod is needed to start further containers in it. Kept with the sandbox, for a later agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub hostname: String,
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub groups: Vec<u32>,
    /// The Pod's own folder.
    pub directory: PathBuf,
    /// Sandboxes that the Pod had before.
    pub attempt: u32,
}

impl PodFacts {
    pub fn new(spec: &PodSandboxSpec, network: CriNetwork) -> PodFacts {
        let on_host = spec.host_network || network == CriNetwork::Host;
        let node_or = |node: bool, other| if node { NamespaceMode::Node } else { other };
        PodFacts {
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            name: if spec.name.is_empty() { spec.uid.clone() } else { spec.name.clone() },
            // On the host's network the name is the host's too.
            hostname: if on_host { String::new() } else { spec.hostname.clone() },
            network: node_or(on_host, NamespaceMode::Pod),
            pid: node_or(
                spec.host_pid,
                if spec.share_process_namespace { NamespaceMode::Pod } else { NamespaceMode::Container },
            ),
            ipc: node_or(spec.host_ipc, NamespaceMode::Pod),
            user: spec.user,
            group: spec.group,
            groups: spec.fs_group.into_iter().chain(spec.supplemental_groups.iter().copied()).collect(),
            directory: spec.directory.clone(),
            attempt: 0,
        }
    }

    pub fn to_json(&self) -> String {
        json!({
            "uid": self.uid,
            "namespace": self.namespace,
            "name": self.name,
            "hostname": self.hostname,
            "network": self.network as i32,
            "pid": self.pid as i32,
            "ipc": self.ipc as i32,
            "user": self.user,
            "group": self.group,
            "groups": self.groups,
            "directory": self.directory,
            "attempt": self.attempt,
        })
        .to_string()
    }

    /// Of the annotations of a sandbox. `None` if they are not ours.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<PodFacts> {
        PodFacts::from_json(annotations.get(POD)?)
    }

    /// Of what [`Self::to_json`] gave.
    pub fn from_json(text: &str) -> Option<PodFacts> {
        let facts: Value = serde_json::from_str(text).ok()?;
        let text = |key: &str| facts[key].as_str().map(str::to_owned);
        let number = |key: &str| facts[key].as_u64().and_then(|number| u32::try_from(number).ok());
        let mode = |key: &str| NamespaceMode::try_from(i32::try_from(facts[key].as_i64()?).ok()?).ok();
        let groups = facts["groups"].as_array()?.iter();
        Some(PodFacts {
            uid: text("uid")?,
            namespace: text("namespace")?,
            name: text("name")?,
            hostname: text("hostname")?,
            network: mode("network")?,
            pid: mode("pid")?,
            ipc: mode("ipc")?,
            user: number("user"),
            group: number("group"),
            groups: groups.map(|group| u32::try_from(group.as_u64()?).ok()).collect::<Option<_>>()?,
            // Missing with agents of before: then nothing counts as being in it.
            directory: text("directory").unwrap_or_default().into(),
            attempt: number("attempt")?,
        })
    }

    fn namespaces(&self) -> NamespaceOption {
        NamespaceOption { network: self.network.into(), pid: self.pid.into(), ipc: self.ipc.into() }
    }

    /// What the engine is told about the sandbox.
    pub fn sandbox_config(
        &self,
        node_uid: &str,
        log_directory: &Path,
        cgroup_parent: String,
    ) -> PodSandboxConfig {
        let security_context = LinuxSandboxSecurityContext {
            namespace_options: Some(self.namespaces()),
            seccomp: Some(SecurityProfile::default()),
            ..Default::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                namespace: self.namespace.clone(),
                attempt: self.attempt,
            }),
            hostname: self.hostname.clone(),
            log_directory: log_directory.display().to_string(),
            labels: [(NODE_UID, node_uid), (POD_UID, &self.uid)].map(owned).into(),
            annotations: [(POD.to_owned(), self.to_json())].into(),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent, security_context: Some(security_context) }),
            ..Default::default()
        }
    }
}

/// As whom an image wants to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageUser {
    Number(u32),
    /// A name that only the image's own files make a number of.
    Name,
}

impl ImageUser {
    pub fn of(image: &Image) -> ImageUser {
        match &image.uid {
            Some(uid) => u32::try_from(uid.value).map_or(ImageUser::Name, ImageUser::Number),
            None if image.username.is_empty() => ImageUser::Number(0),
            None => ImageUser::Name,
        }
    }
}

/// What the engine is told about a container.
///
/// # Errors
/// If the container can't be described to it, or asks not to be root and may be.
pub(super) fn container_config(
    pod: &PodFacts,
    spec: &ContainerSpec,
    node_uid: &str,
    image_id: &str,
    image_user: ImageUser,
    unified_cgroups: bool,
) -> Result<ContainerConfig, Error> {
    let container = || spec.id.container_name().to_owned();
    let mut known = HashMap::with_capacity(spec.env.len());
    let mut envs = Vec::with_capacity(spec.env.len());
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            let what = format!("environment variable {name:?}");
            return Err(Error::Unrepresentable {
                container: container(),
                what,
                problem: "has no usable name",
            });
        }
        let value = expand_variables(value, &known);
        known.insert(name.clone(), value.clone());
        // Of two with one name engines take the last.
        envs.push(KeyValue { key: name.clone(), value });
    }
    let expanded =
        |texts: &[String]| texts.iter().map(|text| expand_variables(text, &known)).collect::<Vec<_>>();
    let mut mounts = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        mounts.push(Mount {
            container_path: utf8(&spec.id, &mount.target)?,
            host_path: utf8(&spec.id, &mount.source)?,
            readonly: mount.read_only,
            propagation: match mount.propagation {
                crate::MountPropagation::Private => MountPropagation::PropagationPrivate,
                crate::MountPropagation::HostToContainer => MountPropagation::PropagationHostToContainer,
                crate::MountPropagation::Bidirectional => MountPropagation::PropagationBidirectional,
            }
            .into(),
        });
    }
    let (file_bytes, files) = (spec.log_limits.file_bytes.to_string(), spec.log_limits.files.to_string());
    let mut annotations: BTreeMap<_, _> =
        [(LOG_FILE_BYTES, &*file_bytes), (LOG_FILES, &*files)].map(owned).into();
    if let Some(signal) = spec.stop_signal {
        annotations.insert(STOP_SIGNAL.to_owned(), signal.to_string());
    }
    let streams = streams_to_text(spec.streams);
    if !streams.is_empty() {
        annotations.insert(STREAMS.to_owned(), streams);
    }
    let run = spec.id.restart_count().to_string();
    let labels =
        [(NODE_UID, node_uid), (POD_UID, &pod.uid), (CONTAINER, spec.id.container_name()), (RUN, &run)];
    let working_dir = spec.working_directory.as_deref().map(|path| utf8(&spec.id, path)).transpose()?;
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: spec.id.container_name().to_owned(),
            attempt: spec.id.restart_count(),
        }),
        image: Some(ImageSpec { image: image_id.to_owned() }),
        command: expanded(&spec.command),
        args: expanded(&spec.args),
        working_dir: working_dir.unwrap_or_default(),
        envs,
        mounts,
        labels: labels.map(owned).into(),
        annotations,
        log_path: super::logs::current_name(&spec.id),
        stdin: spec.streams.stdin,
        stdin_once: spec.streams.ends_with_client(),
        tty: spec.streams.terminal,
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(spec, unified_cgroups)),
            security_context: Some(security_context(pod, spec, image_user)?),
        }),
    })
}

fn resources(spec: &ContainerSpec, unified_cgroups: bool) -> LinuxContainerResources {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let wanted = &spec.resources;
    let mut unified = BTreeMap::new();
    if let Some(processes_max) = wanted.processes_max.filter(|_| unified_cgroups) {
        unified.insert("pids.max".to_owned(), processes_max.to_string());
    }
    LinuxContainerResources {
        cpu_period: signed(CPU_PERIOD_US),
        cpu_quota: cpu_quota_us(wanted).map_or(0, signed),
        cpu_shares: signed(cpu_shares(wanted)),
        memory_limit_in_bytes: wanted.memory_limit_bytes.map_or(0, signed),
        oom_score_adj: limits::OOM_SCORE,
        unified,
    }
}

fn security_context(
    pod: &PodFacts,
    spec: &ContainerSpec,
    image_user: ImageUser,
) -> Result<LinuxContainerSecurityContext, Error> {
    let wanted = &spec.security;
    let refused = |what: String| Error::Unsupported { runtime: super::NAME, what };
    let name = spec.id.container_name();
    let mut user = wanted.user.or(pod.user);
    let group = wanted.group.or(pod.group);
    if user.is_none() && group.is_some() {
        // Engines take a group only with a user.
        user = match image_user {
            ImageUser::Number(user) => Some(user),
            ImageUser::Name => {
                let what = format!(
                    "container {name:?}: runAsGroup with an image whose user is a name; set runAsUser"
                );
                return Err(refused(what));
            }
        };
    }
    if wanted.run_as_non_root {
        match (user, image_user) {
            (Some(0), _) | (None, ImageUser::Number(0)) => {
                return Err(refused(format!(
                    "container {name:?}: runAsNonRoot, and its user is root; set runAsUser"
                )));
            }
            (None, ImageUser::Name) => {
                let what =
                    "runAsNonRoot with an image whose user is a name that may be root's; set runAsUser";
                return Err(refused(format!("container {name:?}: {what}")));
            }
            _ => {}
        }
    }
    let bare = |names: &[String]| {
        names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned()).collect::<Vec<_>>()
    };
    let paths = |paths: &[&str]| {
        if wanted.privileged { Vec::new() } else { paths.iter().map(|path| (*path).to_owned()).collect() }
    };
    let (profile_type, localhost_ref) = match &wanted.seccomp {
        Seccomp::RuntimeDefault => (security_profile::ProfileType::RuntimeDefault, String::new()),
        Seccomp::Unconfined => (security_profile::ProfileType::Unconfined, String::new()),
        Seccomp::Localhost(path) => (security_profile::ProfileType::Localhost, path.clone()),
    };
    let number = |number: u32| Int64Value { value: number.into() };
    let added = bare(&wanted.capabilities_add);
    let mut dropped = bare(&wanted.capabilities_drop);
    let is_added = |name: &str| added.iter().any(|added| added.eq_ignore_ascii_case(name));
    // On the host's network raw packets are the host's: everything that passes could be read and made up.
    if pod.network == NamespaceMode::Node && !is_added("NET_RAW") && !is_added("ALL") {
        dropped.push("NET_RAW".to_owned());
    }
    Ok(LinuxContainerSecurityContext {
        capabilities: Some(Capability { add_capabilities: added, drop_capabilities: dropped }),
        privileged: wanted.privileged,
        namespace_options: Some(pod.namespaces()),
        run_as_user: user.map(number),
        run_as_group: group.map(number),
        readonly_rootfs: wanted.read_only_root,
        supplemental_groups: pod
            .groups
            .iter()
            .chain(&wanted.supplemental_groups)
            .map(|group| (*group).into())
            .collect(),
        // As in Kubernetes, programs of an image may gain rights within those of their container, unless that is forbidden.
        no_new_privs: !wanted.privileged && wanted.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READ_ONLY_PATHS),
        seccomp: Some(SecurityProfile { profile_type: profile_type.into(), localhost_ref }),
    })
}

/// Words for what a container reads and writes, none if that is nothing special.
pub(super) fn streams_to_text(streams: StreamsSpec) -> String {
    let words =
        [("stdin", streams.stdin), ("stdin-once", streams.stdin_once), ("terminal", streams.terminal)];
    words.into_iter().filter_map(|(word, holds)| holds.then_some(word)).collect::<Vec<_>>().join(",")
}

/// Of what [`streams_to_text`] gave.
pub(super) fn streams_of_text(text: &str) -> StreamsSpec {
    let has = |word| text.split(',').any(|one| one == word);
    StreamsSpec { stdin: has("stdin"), stdin_once: has("stdin-once"), terminal: has("terminal") }
}

/// What a container's labels and annotations say.
pub(super) struct ToldFacts {
    pub id: ContainerId,
    pub log_limits: LogLimits,
    pub stop_signal: Option<i32>,
    pub streams: StreamsSpec,
}

/// Reads them. `None` if they are not ours.
pub(super) fn container_facts(container: &Container) -> Option<ToldFacts> {
    let label = |key| container.labels.get(key).map(String::as_str);
    let id = ContainerId::new(label(POD_UID)?, label(CONTAINER)?, label(RUN)?.parse().ok()?).ok()?;
    let annotation = |key| container.annotations.get(key).map(String::as_str);
    let log_limits = LogLimits {
        file_bytes: annotation(LOG_FILE_BYTES)?.parse().ok()?,
        files: annotation(LOG_FILES)?.parse().ok()?,
    };
    let stop_signal = annotation(STOP_SIGNAL).map(str::parse).transpose().ok()?;
    let streams = annotation(STREAMS).map(streams_of_text).unwrap_or_default();
    Some(ToldFacts { id, log_limits, stop_signal, streams })
}

/// The Pod of a container or a sandbox.
pub(super) fn pod_uid(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(POD_UID).map(String::as_str)
}

/// Which main process a container has, of the verbose part of its status: the engines here all tell it, in JSON.
pub(super) fn pid_of_info(info: &BTreeMap<String, String>) -> Option<i32> {
    let info: Value = serde_json::from_str(info.get("info")?).ok()?;
    info["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
}

/// The image that containerd makes sandboxes of, which older versions of it do not protect from being removed.
pub(super) fn sandbox_image_of_info(info: &BTreeMap<String, String>) -> Option<String> {
    let config: Value = serde_json::from_str(info.get("config")?).ok()?;
    config["sandboxImage"].as_str().map(str::to_owned)
}

/// How older versions of containerd say which cgroup driver they use.
pub(super) fn cgroup_driver_of_info(info: &BTreeMap<String, String>) -> CgroupDriver {
    let config: Value =
        info.get("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let runtime = config["containerd"]["defaultRuntimeName"].as_str().unwrap_or("runc");
    let options = &config["containerd"]["runtimes"][runtime]["options"];
    let is_systemd =
        options["SystemdCgroup"].as_bool() == Some(true) || config["systemdCgroup"].as_bool() == Some(true);
    if is_systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }
}

/// The signal that an image wants to be stopped by, of the verbose part of its status; `None`: SIGTERM.
pub(super) fn stop_signal_of_info(info: &BTreeMap<String, String>) -> Option<i32> {
    let info: Value = serde_json::from_str(info.get("info")?).ok()?;
    let text = info["imageSpec"]["config"]["StopSignal"].as_str()?;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

fn utf8(id: &ContainerId, path: &Path) -> Result<String, Error> {
    match path.to_str() {
        Some(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(Error::Unrepresentable {
            container: id.container_name().to_owned(),
            what: format!("path {}", path.display()),
            problem: "is not text, which container engines need",
        }),
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
