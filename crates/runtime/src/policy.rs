//! What Pods may ask for on a node.
//!
//! Owns: the policy, its words on a command line, and judging specs by it. Does not own: carrying anything out; what a runtime
//! can do at all.
//!
//! Safe by default: nothing is allowed that reaches beyond the Pod. In a container that has a root of its own, user 0 and the
//! users of the image are no more than the container's; for processes of the host they are the host's, and must be allowed.

use crate::shim::is_usable_target;
use crate::{ContainerSpec, MountPropagation, PodSandboxSpec, Seccomp, limits};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

/// What Pods may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePolicy {
    /// Processes may be user 0, without capabilities.
    pub root: bool,
    /// Users of the host that processes may be.
    pub users: Vec<RangeInclusive<u32>>,
    /// Folders of the host that volumes may show, with all that is below them.
    pub host_paths: Vec<HostPath>,
    /// Folders of the host that every process Pod may write to, as far as their permissions allow it.
    pub writable: Vec<PathBuf>,
    /// `hostNetwork`.
    pub host_network: bool,
    /// `hostPID`.
    pub host_pid: bool,
    /// `hostIPC`.
    pub host_ipc: bool,
    /// `seccompProfile: Unconfined`: all system calls.
    pub unconfined: bool,
    /// `privileged`, which is all of the above.
    pub privileged: bool,
    /// Capabilities that containers may add, without `CAP_`.
    pub capabilities: BTreeSet<String>,
    /// Bytes that a Pod may keep on the node's disk, if it asks for no less.
    pub disk_bytes_per_pod: Option<u64>,
    /// Processes and threads that a container may have.
    pub processes_per_container: Option<u64>,
}

/// A folder of the host that volumes may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// It and everything below it.
    pub prefix: PathBuf,
    /// Also to be written to.
    pub writable: bool,
}

impl Default for NodePolicy {
    fn default() -> NodePolicy {
        NodePolicy {
            root: false,
            users: Vec::new(),
            host_paths: Vec::new(),
            writable: Vec::new(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            unconfined: false,
            privileged: false,
            capabilities: BTreeSet::new(),
            disk_bytes_per_pod: None,
            processes_per_container: Some(limits::PROCESSES_PER_CONTAINER_DEFAULT),
        }
    }
}

/// What containers are made of, as far as a policy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rootfs {
    /// The host's own files.
    Host,
    /// Those of an image.
    Image,
}

/// What was asked for and is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{asked} is not allowed on this node: its agent was not started with --allow {missing}")]
pub struct PolicyViolation {
    /// What was asked for, in a manifest's words.
    pub asked: String,
    /// The value of `--allow` that is missing.
    pub missing: String,
}

/// A value of `--allow` that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?}: {problem}; one can allow root, user=UID, user=FIRST-LAST, host-path=/PREFIX, host-path=/PREFIX:rw, \
     writable=/PREFIX, host-network, host-pid, host-ipc, capability=NAME, unconfined, privileged"
)]
pub struct PolicyError {
    /// The part that is wrong.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl NodePolicy {
    /// Adds what a value of `--allow` names: one or several, separated by commas.
    ///
    /// # Errors
    /// If one is unknown or wrong; what stands before it is added.
    pub fn allow(&mut self, values: &str) -> Result<(), PolicyError> {
        values
            .split(',')
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .try_for_each(|value| self.allow_one(value))
    }

    fn allow_one(&mut self, value: &str) -> Result<(), PolicyError> {
        let wrong = |problem| PolicyError { value: value.to_owned(), problem };
        let (name, of) = match value.split_once('=') {
            Some((name, of)) => (name, Some(of)),
            None => (value, None),
        };
        match (name, of) {
            ("root", None) => self.root = true,
            ("host-network", None) => self.host_network = true,
            ("host-pid", None) => self.host_pid = true,
            ("host-ipc", None) => self.host_ipc = true,
            ("unconfined", None) => self.unconfined = true,
            ("privileged", None) => self.privileged = true,
            ("user", Some(range)) => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let number =
                    |text: &str| text.parse::<u32>().map_err(|_| wrong("is no user id, or range of such"));
                let (first, last) = (number(first)?, number(last)?);
                if first == 0 {
                    return Err(wrong("includes user 0, which is allowed by root"));
                }
                if first > last || last == u32::MAX {
                    return Err(wrong("is no range of user ids"));
                }
                self.users.push(first..=last);
            }
            ("host-path", Some(path)) => {
                let (path, writable) = match path.strip_suffix(":rw") {
                    Some(path) => (path, true),
                    None => (path.strip_suffix(":ro").unwrap_or(path), false),
                };
                let prefix = absolute(path).ok_or_else(|| wrong("needs an absolute path without .."))?;
                self.host_paths.push(HostPath { prefix, writable });
            }
            ("writable", Some(path)) => {
                let path = absolute(path).filter(|path| is_usable_target(path));
                self.writable
                    .push(path.ok_or_else(|| wrong("needs an absolute path without .., and not /"))?);
            }
            ("capability", Some(capability)) => {
                let capability = capability_name(capability);
                if capability.parse::<caps::Capability>().is_err() {
                    return Err(wrong("is no capability"));
                }
                self.capabilities.insert(capability.trim_start_matches("CAP_").to_owned());
            }
            ("user" | "host-path" | "writable" | "capability", None) => {
                return Err(wrong("needs a value after ="));
            }
            _ => return Err(wrong("can't be allowed")),
        }
        Ok(())
    }

    /// Judges what the containers of a Pod share.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check_pod(&self, rootfs: Rootfs, spec: &PodSandboxSpec) -> Result<(), PolicyViolation> {
        let flag = |asked: bool, allowed: bool, what: &str, missing: &str| {
            if asked && !allowed && !self.privileged { Err(violation(what, missing)) } else { Ok(()) }
        };
        // A process container has the host's network in any case.
        let network_matters = rootfs == Rootfs::Image;
        flag(spec.host_network && network_matters, self.host_network, "hostNetwork: true", "host-network")?;
        flag(spec.host_pid, self.host_pid, "hostPID: true", "host-pid")?;
        flag(spec.host_ipc, self.host_ipc, "hostIPC: true", "host-ipc")?;
        if rootfs == Rootfs::Host {
            self.check_user("the pod's securityContext", spec.user)?;
            self.check_groups("the pod's securityContext", spec.group, &spec.supplemental_groups)?;
        }
        Ok(())
    }

    /// Judges a container. Its mounts are judged by [`host_path`](Self::host_path) when they are made of volumes.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check_container(&self, rootfs: Rootfs, spec: &ContainerSpec) -> Result<(), PolicyViolation> {
        let security = &spec.security;
        let of = format!("container {:?}", spec.id.container_name());
        if self.privileged {
            return Ok(());
        }
        if security.privileged {
            return Err(violation(&format!("{of}: privileged: true"), "privileged"));
        }
        for capability in &security.capabilities_add {
            let name = capability_name(capability);
            let name = name.trim_start_matches("CAP_");
            if name == "ALL" {
                return Err(violation(&format!("{of}: all capabilities"), "privileged"));
            }
            if !self.capabilities.contains(name) {
                let asked = format!("{of}: capability {capability}");
                return Err(violation(&asked, &format!("capability={name}")));
            }
        }
        if security.seccomp == Seccomp::Unconfined && !self.unconfined {
            return Err(violation(&format!("{of}: seccompProfile: Unconfined"), "unconfined"));
        }
        if spec.mounts.iter().any(|mount| mount.propagation == MountPropagation::Bidirectional) {
            return Err(violation(&format!("{of}: mountPropagation: Bidirectional"), "privileged"));
        }
        if rootfs == Rootfs::Host {
            self.check_user(&of, security.user)?;
            self.check_groups(&of, security.group, &security.supplemental_groups)?;
            if security.allow_privilege_escalation == Some(true) && !self.root {
                return Err(violation(&format!("{of}: allowPrivilegeEscalation: true"), "root"));
            }
        }
        Ok(())
    }

    /// Judges a path that a volume shows, and answers where it really is, with all links followed. The agent's own folder is
    /// never shown, nor what it is in.
    ///
    /// # Errors
    /// If it is not allowed, or can't be found.
    pub fn host_path(
        &self,
        path: &Path,
        read_only: bool,
        data_directory: &Path,
    ) -> Result<PathBuf, PolicyViolation> {
        let asked =
            format!("hostPath {}{}", path.display(), if read_only { "" } else { ", to be written to," });
        let mode = if read_only { "" } else { ":rw" };
        let refused = || violation(&asked, &format!("host-path={}{mode}", path.display()));
        if absolute(path.as_os_str().to_str().unwrap_or_default()).is_none() {
            return Err(refused());
        }
        // One that does not exist is judged as written: whoever makes it does so where it is allowed.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if real.starts_with(data_directory) || data_directory.starts_with(&real) {
            return Err(PolicyViolation {
                asked: format!("{asked} which shows the agent's own folder,"),
                missing: format!("host-path={}, and would not be if it were", path.display()),
            });
        }
        let allows = |allowed: &HostPath| {
            let prefix = std::fs::canonicalize(&allowed.prefix).unwrap_or_else(|_| allowed.prefix.clone());
            real.starts_with(prefix) && (read_only || allowed.writable)
        };
        if self.privileged || self.host_paths.iter().any(allows) { Ok(real) } else { Err(refused()) }
    }

    /// What of it other nodes may lack, in the words of `--allow`: for the registration of the node.
    pub fn features(&self) -> Vec<&'static str> {
        [
            ("root", self.root),
            ("host-network", self.host_network),
            ("host-pid", self.host_pid),
            ("host-ipc", self.host_ipc),
            ("host-path", !self.host_paths.is_empty()),
            ("privileged", self.privileged),
        ]
        .into_iter()
        .filter_map(|(name, allowed)| (allowed || self.privileged).then_some(name))
        .collect()
    }

    fn check_user(&self, of: &str, user: Option<u32>) -> Result<(), PolicyViolation> {
        match user {
            Some(0) if !self.root && !self.privileged => {
                Err(violation(&format!("{of}: runAsUser: 0"), "root"))
            }
            Some(user) if user > 0 && !self.is_user(user) => {
                Err(violation(&format!("{of}: runAsUser: {user}"), &format!("user={user}")))
            }
            _ => Ok(()),
        }
    }

    /// Groups open files of the host just as users do, and are judged by the same numbers.
    fn check_groups(&self, of: &str, group: Option<u32>, further: &[u32]) -> Result<(), PolicyViolation> {
        for group in group.iter().chain(further) {
            let allowed = if *group == 0 { self.root || self.privileged } else { self.is_user(*group) };
            if !allowed {
                let missing = if *group == 0 { "root".to_owned() } else { format!("user={group}") };
                return Err(violation(&format!("{of}: group {group}"), &missing));
            }
        }
        Ok(())
    }

    fn is_user(&self, user: u32) -> bool {
        self.privileged || self.users.iter().any(|range| range.contains(&user))
    }
}

/// With `CAP_`, in capitals.
pub(crate) fn capability_name(text: &str) -> String {
    let name = text.to_ascii_uppercase();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

fn violation(asked: &str, missing: &str) -> PolicyViolation {
    PolicyViolation { asked: asked.to_owned(), missing: missing.to_owned() }
}

fn absolute(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain =
        path.components().all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
    (path.is_absolute() && plain).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerId, Mount};

    fn policy(allowed: &str) -> NodePolicy {
        let mut policy = NodePolicy::default();
        policy.allow(allowed).unwrap();
        policy
    }

    fn pod() -> PodSandboxSpec {
        PodSandboxSpec::new("01234567-89ab-cdef-0123-456789abcdef", PathBuf::from("/data/pods/x"))
    }

    fn container() -> ContainerSpec {
        ContainerSpec::new(ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", "main", 0).unwrap())
    }

    #[test]
    fn what_can_be_allowed_is_understood() {
        let policy =
            policy("root,user=7, user=1000-1999,host-path=/data:rw,host-path=/ro,capability=net_admin,");
        assert!(policy.root && !policy.privileged && !policy.host_network);
        assert_eq!(policy.users, [7..=7, 1000..=1999]);
        let path = |prefix: &str, writable| HostPath { prefix: prefix.into(), writable };
        assert_eq!(policy.host_paths, [path("/data", true), path("/ro", false)]);
        assert!(policy.capabilities.contains("NET_ADMIN"));
        assert_eq!(policy.features(), ["root", "host-path"]);
    }

    #[test]
    fn what_can_not_be_allowed_is_named() {
        for wrong in [
            "all",
            "root=1",
            "user",
            "user=0",
            "user=0-9",
            "user=9-8",
            "user=x",
            "user=4294967295",
            "host-path",
            "host-path=data",
            "host-path=/a/../b",
            "writable=/",
            "capability=FLY",
        ] {
            let error = NodePolicy::default().allow(wrong).unwrap_err();
            assert_eq!(error.value, wrong);
            assert!(error.to_string().contains("host-path=/PREFIX:rw"), "{error}");
        }
    }

    #[test]
    fn nothing_beyond_the_pod_is_allowed_by_default() {
        let none = NodePolicy::default();
        assert_eq!(none.check_pod(Rootfs::Host, &pod()), Ok(()));
        assert_eq!(none.check_container(Rootfs::Host, &container()), Ok(()));
        let pods = [
            (PodSandboxSpec { host_pid: true, ..pod() }, "host-pid"),
            (PodSandboxSpec { host_ipc: true, ..pod() }, "host-ipc"),
            (PodSandboxSpec { user: Some(0), ..pod() }, "root"),
            (PodSandboxSpec { user: Some(1000), ..pod() }, "user=1000"),
            (PodSandboxSpec { group: Some(0), ..pod() }, "root"),
            (PodSandboxSpec { supplemental_groups: vec![6], ..pod() }, "user=6"),
        ];
        for (spec, missing) in pods {
            let refused = none.check_pod(Rootfs::Host, &spec).unwrap_err();
            assert_eq!(refused.missing, missing);
            assert!(refused.to_string().contains("--allow"), "{refused}");
            assert_eq!(policy(missing).check_pod(Rootfs::Host, &spec), Ok(()), "{missing}");
        }
        type Change = fn(&mut ContainerSpec);
        let containers: [(Change, &str); 8] = [
            (|spec| spec.security.privileged = true, "privileged"),
            (|spec| spec.security.seccomp = Seccomp::Unconfined, "unconfined"),
            (|spec| spec.security.capabilities_add = vec!["ALL".to_owned()], "privileged"),
            (|spec| spec.security.user = Some(0), "root"),
            (|spec| spec.security.user = Some(8), "user=8"),
            (|spec| spec.security.allow_privilege_escalation = Some(true), "root"),
            (|spec| spec.security.capabilities_add = vec!["SYS_TIME".to_owned()], "capability=SYS_TIME"),
            (
                |spec| {
                    spec.mounts.push(Mount {
                        source: "/a".into(),
                        target: "/b".into(),
                        read_only: true,
                        propagation: MountPropagation::Bidirectional,
                    });
                },
                "privileged",
            ),
        ];
        for (change, missing) in containers {
            let mut spec = container();
            change(&mut spec);
            assert_eq!(none.check_container(Rootfs::Host, &spec).unwrap_err().missing, missing);
            assert_eq!(policy(missing).check_container(Rootfs::Host, &spec), Ok(()), "{missing}");
        }
    }

    #[test]
    fn users_of_an_image_are_its_own_business() {
        let none = NodePolicy::default();
        let spec = PodSandboxSpec { user: Some(0), group: Some(0), ..pod() };
        assert_eq!(none.check_pod(Rootfs::Image, &spec), Ok(()));
        let spec = PodSandboxSpec { host_network: true, ..pod() };
        assert_eq!(none.check_pod(Rootfs::Image, &spec).unwrap_err().missing, "host-network");
        assert_eq!(none.check_pod(Rootfs::Host, &spec), Ok(()));
    }

    #[test]
    fn host_paths_are_judged_by_where_they_lead() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        for name in ["open", "open/deep", "closed", "data"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("closed"), root.join("open/link")).unwrap();
        let policy = policy(&format!("host-path={}", root.join("open").display()));
        let ask = |name: &str, read_only| policy.host_path(&root.join(name), read_only, &root.join("data"));
        assert_eq!(ask("open", true), Ok(root.join("open")));
        assert_eq!(ask("open/deep", true), Ok(root.join("open/deep")));
        assert_eq!(ask("open/new", true), Ok(root.join("open/new")));
        for refused in ["open/link", "closed", "opened", "open/../closed", "data", ""] {
            assert!(ask(refused, true).is_err(), "{refused}");
        }
        let refused = ask("open", false).unwrap_err();
        assert!(refused.missing.ends_with("open:rw"), "{refused}");
        let mut all = NodePolicy::default();
        all.allow("host-path=/:rw").unwrap();
        assert!(all.host_path(&root.join("closed"), false, &root.join("data")).is_ok());
        assert!(all.host_path(Path::new("/"), true, &root.join("data")).is_err());
    }
}
