//! What Pods may ask for on a node, and what they are held to.
//!
//! Owns: the values of `--allow`, and putting what runtimes are given before the policy. Does not own: the judgement itself
//! (crate `api`, the same as the scheduler's); carrying anything out; what a runtime can do at all.

use crate::shim::is_usable_target;
use crate::{ContainerSpec, MountPropagation, PodSandboxSpec, Seccomp, limits};
use std::path::{Component, Path, PathBuf};
use stint_api::{Allowed, Ask};

pub use stint_api::Rootfs;

/// What Pods may ask for, and what they are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePolicy {
    /// What they may ask for.
    pub allowed: Allowed,
    /// Folders of the host that every process Pod may write to, as far as their permissions allow it.
    pub writable: Vec<PathBuf>,
    /// Bytes that a Pod may keep on the node's disk, if it asks for no less.
    pub disk_bytes_per_pod: Option<u64>,
    /// Processes and threads that a container may have.
    pub processes_per_container: Option<u64>,
}

impl Default for NodePolicy {
    fn default() -> NodePolicy {
        NodePolicy {
            allowed: Allowed::default(),
            writable: Vec::new(),
            disk_bytes_per_pod: None,
            processes_per_container: Some(limits::PROCESSES_PER_CONTAINER_DEFAULT),
        }
    }
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
        match value.split_once('=') {
            Some(("writable", path)) => {
                let path = absolute(path).filter(|path| is_usable_target(path));
                self.writable
                    .push(path.ok_or_else(|| wrong("needs an absolute path without .., and not /"))?);
                Ok(())
            }
            None if value == "writable" => Err(wrong("needs a value after =")),
            _ if self.allowed.allow(value).map_err(wrong)? => Ok(()),
            _ => Err(wrong("can't be allowed")),
        }
    }

    /// What is allowed, for the servers: folders also by where links lead, as Pods may be given either name. Blocks.
    pub fn allowed_as_told(&self) -> Allowed {
        let mut told = self.allowed.clone();
        for path in &self.allowed.host_paths {
            let real = std::fs::canonicalize(&path.prefix).ok();
            if let Some(real) = real.as_deref().and_then(Path::to_str).filter(|real| *real != path.prefix) {
                let mode = if path.writable { ":rw" } else { ":ro" };
                // If it is too much to tell, the other name has to do.
                let _ = told.allow(&format!("host-path={real}{mode}"));
            }
        }
        told
    }

    /// Judges what the containers of a Pod share.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check_pod(&self, rootfs: Rootfs, spec: &PodSandboxSpec) -> Result<(), PolicyViolation> {
        let flags = [
            (spec.host_network, Ask::HostNetwork),
            (spec.host_pid, Ask::HostPid),
            (spec.host_ipc, Ask::HostIpc),
        ];
        flags
            .into_iter()
            .filter(|(is_asked, _)| *is_asked)
            .try_for_each(|(_, ask)| self.check(rootfs, None, &ask))?;
        let further = spec.supplemental_groups.iter().copied().map(Ask::FurtherGroup);
        let ids = spec.user.map(Ask::User).into_iter().chain(spec.group.map(Ask::Group));
        ids.chain(further)
            .chain(spec.fs_group.map(Ask::FsGroup))
            .try_for_each(|ask| self.check(rootfs, Some("the pod's securityContext"), &ask))
    }

    /// Judges a container. Its mounts are judged by [`host_path`](Self::host_path) when they are made of volumes.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check_container(&self, rootfs: Rootfs, spec: &ContainerSpec) -> Result<(), PolicyViolation> {
        let security = &spec.security;
        let of = format!("container {:?}", spec.id.container_name());
        let is_bidirectional = |mount: &crate::Mount| mount.propagation == MountPropagation::Bidirectional;
        let flags = [
            (security.privileged, Ask::Privileged),
            (security.seccomp == Seccomp::Unconfined, Ask::Unconfined),
            (spec.mounts.iter().any(is_bidirectional), Ask::Bidirectional),
            (security.allow_privilege_escalation == Some(true), Ask::PrivilegeEscalation),
        ];
        let flags = flags.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, ask)| ask);
        let capabilities = security.capabilities_add.iter().map(|name| Ask::capability(name));
        let ids = security.user.map(Ask::User).into_iter().chain(security.group.map(Ask::Group));
        let further = security.supplemental_groups.iter().copied().map(Ask::FurtherGroup);
        flags
            .chain(capabilities)
            .chain(ids)
            .chain(further)
            .try_for_each(|ask| self.check(rootfs, Some(&of), &ask))
    }

    /// Judges one thing; `of`: who asks for it, if that has to be said.
    ///
    /// # Errors
    /// If it is not allowed.
    pub fn check(&self, rootfs: Rootfs, of: Option<&str>, ask: &Ask) -> Result<(), PolicyViolation> {
        let Some(missing) = self.allowed.missing(rootfs, ask) else { return Ok(()) };
        let asked = of.map_or_else(|| ask.to_string(), |of| format!("{of}: {ask}"));
        Err(PolicyViolation { asked, missing })
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
        let ask =
            |path: &Path| Ask::HostPath { path: path.to_string_lossy().into_owned(), writable: !read_only };
        let asked = ask(path);
        let missing = || format!("host-path={}{}", path.display(), if read_only { "" } else { ":rw" });
        let refused = || PolicyViolation { asked: asked.to_string(), missing: missing() };
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
        let mut by_place = self.allowed.clone();
        for allowed in &mut by_place.host_paths {
            let prefix = std::fs::canonicalize(&allowed.prefix).ok();
            if let Some(prefix) = prefix.as_deref().and_then(Path::to_str) {
                prefix.clone_into(&mut allowed.prefix);
            }
        }
        match by_place.missing(Rootfs::Host, &ask(&real)) {
            None => Ok(real),
            Some(_) => Err(refused()),
        }
    }
}

/// With `CAP_`, in capitals.
pub(crate) fn capability_name(text: &str) -> String {
    let name = text.to_ascii_uppercase();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
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
    use stint_api::HostPath;

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
        let allowed = &policy.allowed;
        assert!(allowed.root && !allowed.privileged && !allowed.host_network);
        assert_eq!(allowed.users, [7..=7, 1000..=1999]);
        let path = |prefix: &str, writable| HostPath { prefix: prefix.into(), writable };
        assert_eq!(allowed.host_paths, [path("/data", true), path("/ro", false)]);
        assert!(allowed.capabilities.contains("NET_ADMIN"));
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
            (PodSandboxSpec { supplemental_groups: vec![0], ..pod() }, "root"),
            (PodSandboxSpec { fs_group: Some(42), ..pod() }, "user=42"),
            (PodSandboxSpec { fs_group: Some(0), ..pod() }, "root"),
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
        let spec = PodSandboxSpec {
            user: Some(0),
            group: Some(0),
            fs_group: Some(0),
            supplemental_groups: vec![0, 6],
            ..pod()
        };
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
