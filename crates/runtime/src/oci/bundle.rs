//! The `config.json` of a container: what it is, in the words of the OCI runtime specification.
//!
//! Owns: the surroundings and rights that a container gets. Does not own: the program (`payload`), the user (`shim`, as only
//! the image knows), who may ask for what.
//!
//! As container engines have it, with three differences, all of them because the network is the host's and device rules are
//! not kept everywhere: no capability to make devices or raw packets unless it is asked for, and devices in images and volumes
//! do not work.

use crate::cgroups::{CPU_PERIOD_US, cpu_quota_us, cpu_shares};
use crate::process::ipc;
use crate::shim::confine::FILTER_RIGHT;
use crate::{ContainerSpec, Error, Mount, MountPropagation, PodSandboxSpec, ResourceSpec, Seccomp};
use serde_json::{Value, json};
use std::path::Path;

/// What a program may do as user 0 of its container. Engines have `MKNOD` and `NET_RAW` besides.
const DEFAULT_CAPABILITIES: [&str; 12] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Of the kernel's, what tells of the host or changes it.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Files of the host that say how to reach others, as its network is the container's too.
const NETWORK_FILES: [&str; 3] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];

/// What is not in the specs.
pub(super) struct Places<'a> {
    /// Where the root is mounted.
    pub root: &'a Path,
    /// In the container, absolute.
    pub working_directory: &'a str,
    /// In each hierarchy.
    pub control_group: &'a Path,
}

/// Whether a container's programs can't gain rights that their parents have not: as in Kubernetes, if it says so.
pub(super) fn gives_up_new_rights(spec: &ContainerSpec) -> bool {
    spec.security.allow_privilege_escalation == Some(false) && !spec.security.privileged
}

/// Whether its system calls are filtered.
pub(super) fn is_filtered(spec: &ContainerSpec) -> bool {
    spec.security.seccomp == Seccomp::RuntimeDefault && !spec.security.privileged
}

/// Makes the document.
pub(super) fn config(
    pod: &PodSandboxSpec,
    spec: &ContainerSpec,
    places: &Places<'_>,
) -> Result<Value, Error> {
    check(pod, spec)?;
    let security = &spec.security;
    let capabilities = capabilities(spec)?;
    let mut held = capabilities.clone();
    if is_filtered(spec) && !gives_up_new_rights(spec) {
        // Who may gain rights can install a filter only with this one. It goes with the filter, before the program is executed, and
        // as it is not in the bounding set nothing brings it back.
        let known = held.iter().any(|name| name == FILTER_RIGHT);
        held.extend((!known).then(|| FILTER_RIGHT.to_owned()));
    }
    let mut namespaces = vec![json!({"type": "pid"}), json!({"type": "mount"}), json!({"type": "uts"})];
    if shares_ipc(pod) {
        namespaces.push(json!({"type": "ipc", "path": ipc::namespace(&pod.directory)}));
    } else if !pod.host_ipc {
        namespaces.push(json!({"type": "ipc"}));
    }
    let privileged = security.privileged;
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": {"path": places.root, "readonly": security.read_only_root},
        "process": {
            "terminal": false,
            // The payload is executed by other means, but something must stand here.
            "args": ["payload"], "env": [], "cwd": places.working_directory,
            "user": {"uid": 0, "gid": 0},
            "capabilities": {
                "bounding": capabilities, "effective": held, "permitted": held,
                "inheritable": [], "ambient": [],
            },
            "noNewPrivileges": gives_up_new_rights(spec),
        },
        "mounts": mounts(pod, spec, privileged),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": places.control_group,
            "resources": resources(&spec.resources),
            "maskedPaths": if privileged { &[] } else { &MASKED_PATHS[..] },
            "readonlyPaths": if privileged { &[] } else { &READ_ONLY_PATHS[..] },
        },
    });
    if !pod.hostname.is_empty() {
        config["hostname"] = json!(pod.hostname);
    }
    Ok(config)
}

/// Whether the containers of a Pod have shared memory of their own together; else each has its own, or the host's.
pub(super) fn shares_ipc(pod: &PodSandboxSpec) -> bool {
    pod.shares_ipc && !pod.host_ipc
}

/// Refuses what this runtime has not.
fn check(pod: &PodSandboxSpec, spec: &ContainerSpec) -> Result<(), Error> {
    let unsupported = |what: String| Err(Error::Unsupported { runtime: super::NAME, what });
    let name = spec.id.container_name();
    if pod.host_pid || pod.share_process_namespace {
        return unsupported(
            "hostPID and shareProcessNamespace: each container has its own process ids".to_owned(),
        );
    }
    if let Seccomp::Localhost(profile) = &spec.security.seccomp {
        return unsupported(format!("seccompProfile {profile:?} of container {name:?}"));
    }
    for mount in &spec.mounts {
        if mount.propagation == MountPropagation::Bidirectional && !spec.security.privileged {
            return unsupported(format!(
                "mountPropagation Bidirectional of container {name:?}, which is not privileged"
            ));
        }
    }
    Ok(())
}

/// What it may do as user 0; with their prefix, sorted.
pub(super) fn capabilities(spec: &ContainerSpec) -> Result<Vec<String>, Error> {
    let security = &spec.security;
    let all = || caps::all().into_iter().map(|capability| capability.to_string());
    if security.privileged {
        return Ok(all().collect());
    }
    let named = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let with_prefix = |name: &str| {
        let name = name.to_ascii_uppercase();
        if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let known: std::collections::BTreeSet<String> = all().collect();
    let each = |names: &[String]| -> Result<Vec<String>, Error> {
        let names = names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"));
        names
            .map(|name| {
                let full = with_prefix(name);
                if known.contains(&full) { Ok(full) } else { Err(unknown_capability(spec, name)) }
            })
            .collect()
    };
    let (added, dropped) = (each(&security.capabilities_add)?, each(&security.capabilities_drop)?);
    let mut kept: std::collections::BTreeSet<String> = if named(&security.capabilities_drop) {
        std::collections::BTreeSet::new()
    } else if named(&security.capabilities_add) {
        known.clone()
    } else {
        DEFAULT_CAPABILITIES.iter().map(|name| with_prefix(name)).collect()
    };
    dropped.iter().for_each(|name| {
        kept.remove(name);
    });
    kept.extend(added);
    Ok(kept.into_iter().collect())
}

fn unknown_capability(spec: &ContainerSpec, name: &str) -> Error {
    let container = spec.id.container_name();
    Error::Unsupported {
        runtime: super::NAME,
        what: format!("capability {name:?} of container {container:?}: there is none of that name"),
    }
}

fn mounts(pod: &PodSandboxSpec, spec: &ContainerSpec, privileged: bool) -> Vec<Value> {
    let special = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let sys: &[&str] =
        if privileged { &["nosuid", "noexec", "nodev"] } else { &["nosuid", "noexec", "nodev", "ro"] };
    let mut mounts = vec![
        special("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        special("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        special(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        special("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        special("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        special("/sys", "sysfs", sys),
    ];
    if pod.host_ipc {
        mounts.retain(|mount| mount["destination"] != "/dev/shm" && mount["destination"] != "/dev/mqueue");
        for path in ["/dev/shm", "/dev/mqueue"].map(Path::new).iter().filter(|path| path.exists()) {
            mounts.push(
                json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "rw"]}),
            );
        }
    }
    if shares_ipc(pod) {
        mounts.retain(|mount| mount["destination"] != "/dev/shm");
        let options = ["rbind", "rw", "nosuid", "noexec", "nodev"];
        mounts.push(json!({
            "destination": "/dev/shm", "type": "bind", "source": ipc::memory(&pod.directory), "options": options,
        }));
    }
    let is_mounted = |path: &str| spec.mounts.iter().any(|mount| mount.target == Path::new(path));
    for path in NETWORK_FILES {
        // Often a link to somewhere that the container has not.
        if let Ok(source) = std::fs::canonicalize(path)
            && source.is_file()
            && !is_mounted(path)
        {
            let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
            mounts.push(json!({"destination": path, "type": "bind", "source": source, "options": options}));
        }
    }
    // What lies in another comes after it.
    let mut own: Vec<&Mount> = spec.mounts.iter().collect();
    own.sort_by_key(|mount| mount.target.components().count());
    mounts.extend(own.into_iter().map(volume));
    mounts
}

fn volume(mount: &Mount) -> Value {
    let access = if mount.read_only { "ro" } else { "rw" };
    let propagation = match mount.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let options = ["rbind", access, "nosuid", "nodev", propagation];
    json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": options})
}

fn resources(spec: &ResourceSpec) -> Value {
    let mut resources = json!({"cpu": {"shares": cpu_shares(spec)}});
    if let Some(quota) = cpu_quota_us(spec) {
        resources["cpu"]["quota"] = json!(quota);
        resources["cpu"]["period"] = json!(CPU_PERIOD_US);
    }
    if let Some(bytes) = spec.memory_limit_bytes {
        resources["memory"] = json!({"limit": bytes});
    }
    if let Some(count) = spec.processes_max {
        resources["pids"] = json!({"limit": count});
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerId;
    use oci_spec::runtime::Spec;

    fn specs() -> (PodSandboxSpec, ContainerSpec) {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        let id = ContainerId::new(uid, "main", 0).unwrap();
        (PodSandboxSpec::new(uid, "/pods/x".into()), ContainerSpec::new(id))
    }

    fn places() -> Places<'static> {
        Places { root: Path::new("/root"), working_directory: "/srv", control_group: Path::new("/group") }
    }

    fn made(pod: &PodSandboxSpec, spec: &ContainerSpec) -> Value {
        let config = config(pod, spec, &places()).unwrap();
        // The library's own reader takes it.
        serde_json::from_value::<Spec>(config.clone()).unwrap();
        config
    }

    fn names(value: &Value) -> Vec<&str> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
    }

    #[test]
    fn a_container_that_asks_for_nothing_gets_few_rights() {
        let (pod, spec) = specs();
        let config = made(&pod, &spec);
        let process = &config["process"];
        assert_eq!(process["noNewPrivileges"], false);
        let bounding = names(&process["capabilities"]["bounding"]);
        assert_eq!(bounding.len(), 12);
        assert!(!bounding.contains(&"CAP_SYS_ADMIN") && !bounding.contains(&"CAP_MKNOD"));
        assert_eq!(process["capabilities"]["ambient"], json!([]));
        // Until the filter is there.
        let held = names(&process["capabilities"]["permitted"]);
        assert!(held.len() == 13 && held.contains(&FILTER_RIGHT), "{held:?}");
        let linux = &config["linux"];
        assert_eq!(linux["namespaces"].as_array().unwrap().len(), 4);
        assert!(names(&linux["maskedPaths"]).contains(&"/proc/kcore"));
        assert!(names(&linux["readonlyPaths"]).contains(&"/proc/sys"));
        assert_eq!(config["hostname"], Value::Null);
    }

    #[test]
    fn containers_of_a_pod_share_memory_unless_it_is_the_hosts() {
        let (mut pod, spec) = specs();
        let of = |pod: &PodSandboxSpec| {
            let config = made(pod, &spec);
            let find = |list: &Value, key: &str, value: &str| {
                list.as_array().unwrap().iter().find(|one| one[key] == value).cloned().unwrap_or_default()
            };
            let memory = find(&config["mounts"], "destination", "/dev/shm")["source"].clone();
            (find(&config["linux"]["namespaces"], "type", "ipc"), memory)
        };
        assert_eq!(of(&pod), (json!({"type": "ipc"}), json!("tmpfs")));
        pod.shares_ipc = true;
        assert_eq!(of(&pod), (json!({"type": "ipc", "path": "/pods/x/ipc"}), json!("/pods/x/shm")));
        pod.host_ipc = true;
        assert_eq!(of(&pod), (Value::Null, json!("/dev/shm")));
    }

    #[test]
    fn capabilities_are_added_and_dropped_by_name() {
        let (pod, mut spec) = specs();
        let bounding = |spec: &ContainerSpec| -> Vec<String> {
            let config = made(&pod, spec);
            names(&config["process"]["capabilities"]["bounding"])
                .iter()
                .map(|name| (*name).to_owned())
                .collect()
        };
        spec.security.capabilities_drop = vec!["all".to_owned()];
        assert!(bounding(&spec).is_empty());
        spec.security.capabilities_add = vec!["NET_ADMIN".to_owned(), "cap_kill".to_owned()];
        assert_eq!(bounding(&spec), ["CAP_KILL", "CAP_NET_ADMIN"]);
        spec.security.capabilities_drop = vec!["KILL".to_owned()];
        spec.security.capabilities_add = vec!["ALL".to_owned()];
        let all = bounding(&spec);
        assert!(all.len() > 30 && !all.contains(&"CAP_KILL".to_owned()));
        spec.security.capabilities_add = vec!["FLY".to_owned()];
        let error = config(&pod, &spec, &places()).unwrap_err();
        assert!(error.to_string().contains("FLY"), "{error}");
    }

    #[test]
    fn what_is_asked_for_is_in_the_document() {
        let (mut pod, mut spec) = specs();
        pod.hostname = "pi-0".to_owned();
        pod.host_ipc = true;
        spec.security.read_only_root = true;
        spec.security.allow_privilege_escalation = Some(false);
        spec.resources = ResourceSpec {
            cpu_limit_millis: Some(250),
            cpu_request_millis: Some(100),
            memory_limit_bytes: Some(64 << 20),
            processes_max: Some(50),
        };
        let mount = |target: &str, read_only| Mount {
            source: "/pods/x/volumes/v".into(),
            target: target.into(),
            read_only,
            propagation: MountPropagation::Private,
        };
        spec.mounts = vec![mount("/data/inner", true), mount("/data", false), mount("/etc/hosts", false)];
        let config = made(&pod, &spec);
        assert_eq!(config["hostname"], "pi-0");
        assert_eq!(config["root"]["readonly"], true);
        assert_eq!(config["process"]["noNewPrivileges"], true);
        let rights = &config["process"]["capabilities"];
        assert_eq!(rights["permitted"], rights["bounding"]);
        let resources = &config["linux"]["resources"];
        assert_eq!(resources["cpu"], json!({"quota": 25_000, "period": 100_000, "shares": 102}));
        assert_eq!(resources["memory"]["limit"], 64 << 20);
        assert_eq!(resources["pids"]["limit"], 50);
        assert_eq!(config["linux"]["namespaces"].as_array().unwrap().len(), 3);
        let targets: Vec<_> = config["mounts"].as_array().unwrap().iter().collect();
        let at = |path: &str| targets.iter().position(|mount| mount["destination"] == path).unwrap();
        assert!(at("/data") < at("/data/inner"));
        assert!(names(&targets[at("/data/inner")]["options"]).contains(&"ro"));
        // The Pod's own comes instead of the host's.
        assert_eq!(targets[at("/etc/hosts")]["source"], "/pods/x/volumes/v");
    }

    #[test]
    fn what_this_runtime_has_not_is_refused() {
        let (mut pod, mut spec) = specs();
        spec.security.seccomp = Seccomp::Localhost("x.json".to_owned());
        assert!(config(&pod, &spec, &places()).is_err());
        spec.security.seccomp = Seccomp::RuntimeDefault;
        pod.share_process_namespace = true;
        assert!(config(&pod, &spec, &places()).is_err());
    }
}
