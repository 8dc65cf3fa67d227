//! What each process container is confined to.
//!
//! Owns: turning what was asked for, the node's policy and what the host allows into a [`Confinement`]; the users that Pods
//! get. Does not own: carrying it out (`shim::confine`).
//!
//! A container that names no user gets one of the Pod's own, out of a range that no account of the host is in, and a group of
//! the same number. So even where a path of the host is shown to two Pods, neither can touch what the other wrote for itself.
//! An agent that is not root can't do that: all its containers are its own user, in a user namespace where that is allowed.

use super::LeftOut;
use super::uids::UidLease;
use super::{ipc, temporary};
use crate::cgroups::{ControlGroups, GroupEnd, Missing};
use crate::policy::{Rootfs, capability_name};
use crate::shim::confine::{Confinement, Folder, Identity, Place, Profile, Propagation, User, View};
use crate::shim::is_usable_target;
use crate::shim::messages::Isolation;
use crate::{
    Condition, ContainerId, ContainerSpec, Error, Feature, Mount, MountPropagation, NodePolicy,
    PodSandboxSpec, ResourceSpec, Seccomp, Usage,
};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Below the Pod's own folder: the working folder and `HOME` of its processes.
pub(super) const WORK: &str = "work";

/// Makes confinements.
pub(super) struct Confiner {
    pub isolation: Isolation,
    pub left_out: LeftOut,
    pub policy: NodePolicy,
    /// The agent's own folder.
    pub data_directory: PathBuf,
    pub groups: Option<ControlGroups>,
    /// What the host lacks for limits.
    pub missing: Missing,
    /// User and group of the agent.
    pub agent: (u32, u32),
}

/// What is known of a Pod.
pub(super) struct Pod {
    pub spec: PodSandboxSpec,
    /// None if the agent can't make processes other users.
    pub uid: Option<UidLease>,
    /// Held while what its containers share is made.
    making: Mutex<()>,
}

impl Pod {
    /// One with this user.
    pub fn new(spec: PodSandboxSpec, uid: Option<UidLease>) -> Pod {
        Pod { spec, uid, making: Mutex::default() }
    }

    /// Where its processes begin.
    pub fn home(&self) -> PathBuf {
        self.spec.directory.join(WORK)
    }

    /// User and group of containers that name none.
    pub fn owner(&self) -> Option<(u32, u32)> {
        let user = self.spec.user.unwrap_or(self.uid.as_ref()?.uid());
        Some((user, self.spec.group.unwrap_or(user)))
    }

    /// The group that all its containers have, to which its working folder is open. Where they are several users it is one that
    /// no other Pod and no account has, so that the folder need not be open to all.
    fn common_group(&self) -> Option<u32> {
        let own = self.uid.as_ref().filter(|_| self.spec.other_users).map(UidLease::uid);
        self.spec.fs_group.or(own)
    }
}

impl Confiner {
    /// Whether containers can be other users than the agent.
    pub fn has_users(&self) -> bool {
        self.agent.0 == 0 && self.isolation != Isolation::UserNamespace && !self.left_out.identity
    }

    /// Whether containers have a view of their own.
    fn has_view(&self) -> bool {
        matches!(self.isolation, Isolation::NamespaceWithProc | Isolation::UserNamespace)
            && !self.left_out.view
    }

    /// Whether the containers of a Pod share memory of their own. Only root can make it for them.
    pub fn shares_ipc(&self, pod: &Pod) -> bool {
        let can_be_made = self.agent.0 == 0 && self.isolation == Isolation::NamespaceWithProc;
        pod.spec.shares_ipc && !pod.spec.host_ipc && can_be_made
    }

    /// Makes what the containers of a Pod share, as far as it is not there. To be asked of those that do. Blocks.
    pub fn make_shared(&self, pod: &Pod) -> io::Result<()> {
        // Nothing of it is broken by any panic.
        let _one_at_a_time = pod.making.lock().unwrap_or_else(PoisonError::into_inner);
        ipc::make(&pod.spec.directory)
    }

    /// Lets go of it. Blocks.
    pub fn remove_shared(&self, pod: &Pod) -> io::Result<()> {
        ipc::remove(&pod.spec.directory)
    }

    /// Refuses Pods that ask for what is not allowed, or can't be had here.
    pub fn check_pod(&self, spec: &PodSandboxSpec) -> Result<(), Error> {
        self.policy
            .check_pod(Rootfs::Host, spec)
            .map_err(|violation| Error::NotAllowed { of: format!("pod {:?}", spec.name), violation })?;
        if spec.host_pid || spec.share_process_namespace {
            let what =
                "hostPID or shareProcessNamespace: a container is held together by its own process ids";
            return Err(unsupported(what.to_owned()));
        }
        let asks_for_users = spec.user.is_some_and(|user| user != self.agent.0)
            || spec.group.is_some_and(|group| group != self.agent.1)
            || spec.fs_group.is_some()
            || !spec.supplemental_groups.is_empty();
        if asks_for_users && !self.has_users() {
            return Err(unsupported(format!(
                "users and groups of pod {:?}: run the agent as root",
                spec.name
            )));
        }
        Ok(())
    }

    /// What a container is confined to.
    pub fn confine(&self, pod: &Pod, spec: &ContainerSpec) -> Result<Confinement, Error> {
        let name = spec.id.container_name();
        let not_allowed = |violation| Error::NotAllowed { of: format!("container {name:?}"), violation };
        self.policy.check_container(Rootfs::Host, spec).map_err(not_allowed)?;
        let security = &spec.security;
        let user = self.user(pod, spec)?;
        let uid = user.as_ref().map_or(self.agent.0, |user| user.uid);
        if security.run_as_non_root && uid == 0 {
            return Err(unsupported(format!("runAsNonRoot of container {name:?}, which would be user 0")));
        }
        let profile = match &security.seccomp {
            _ if security.privileged || self.left_out.filter => None,
            Seccomp::RuntimeDefault if self.isolation == Isolation::Degraded => Some(Profile::NoTracing),
            Seccomp::RuntimeDefault => Some(Profile::Usual),
            Seccomp::Unconfined => None,
            Seccomp::Localhost(profile) => {
                return Err(unsupported(format!("seccompProfile {profile:?} of container {name:?}")));
            }
        };
        let capabilities = if security.privileged { None } else { Some(kept_capabilities(spec)) };
        let no_new_privileges = !security.privileged && security.allow_privilege_escalation != Some(true);
        let resources = ResourceSpec {
            processes_max: least(spec.resources.processes_max, self.policy.processes_per_container),
            ..spec.resources
        };
        let groups = self.groups.as_ref();
        Ok(Confinement {
            control_groups: groups.map_or_else(Vec::new, |groups| groups.plan(&spec.id, &resources)),
            folders: self.folders(pod, spec),
            view: if self.has_view() { Some(self.view(pod, spec, uid)?) } else { self.no_view(spec)? },
            identity: (!self.left_out.identity).then_some(Identity { user, capabilities, no_new_privileges }),
            profile,
        })
    }

    fn user(&self, pod: &Pod, spec: &ContainerSpec) -> Result<Option<User>, Error> {
        let security = &spec.security;
        let asked = (security.user.or(pod.spec.user), security.group.or(pod.spec.group));
        let Some(own) = &pod.uid else {
            let same = asked.0.is_none_or(|user| user == self.agent.0)
                && asked.1.is_none_or(|group| group == self.agent.1)
                && security.supplemental_groups.is_empty();
            if same {
                return Ok(None);
            }
            let name = spec.id.container_name();
            return Err(unsupported(format!(
                "users and groups of container {name:?}: run the agent as root"
            )));
        };
        let uid = asked.0.unwrap_or(own.uid());
        let groups = pod.spec.supplemental_groups.iter().chain(&security.supplemental_groups);
        let groups: BTreeSet<_> = groups.copied().chain(pod.common_group()).collect();
        Ok(Some(User { uid, gid: asked.1.unwrap_or(uid), groups: groups.into_iter().collect() }))
    }

    /// The Pod's folders, which nobody but the agent can enter from outside the container.
    fn folders(&self, pod: &Pod, spec: &ContainerSpec) -> Vec<Folder> {
        let folder = |path: &Path, mode, owner| Folder { path: bytes(path), mode, owner };
        let directory = &pod.spec.directory;
        // Without a view of their own, processes must get through to where they begin.
        let outer = if self.has_view() { 0o700 } else { 0o711 };
        let owner = pod.owner().map(|(user, group)| (user, pod.common_group().unwrap_or(group)));
        let work_mode = if pod.common_group().is_some() { 0o2770 } else { 0o700 };
        let mut folders = vec![folder(directory, outer, None), folder(&pod.home(), work_mode, owner)];
        if self.has_view() {
            // Files in them belong to whoever makes them, as everywhere.
            folders.extend(temporary::of_run(directory, &spec.id).map(|path| folder(&path, 0o1777, None)));
        }
        folders
    }

    fn view(&self, pod: &Pod, spec: &ContainerSpec, uid: u32) -> Result<View, Error> {
        let mut places = Vec::new();
        for path in self.policy.writable.iter().filter_map(|path| std::fs::canonicalize(path).ok()) {
            if path.starts_with(&self.data_directory) {
                tracing::warn!(path = %path.display(), "not shown to pods, as it is in the agent's own folder");
                continue;
            }
            places.push(Place {
                source: bytes(&path),
                target: bytes(&path),
                read_only: false,
                propagation: Propagation::HostToContainer,
            });
        }
        // One of those places: what is mounted above the agent's folder, as at /tmp or /var, must not cover it.
        let home = Mount {
            source: pod.home(),
            target: pod.home(),
            read_only: false,
            propagation: MountPropagation::Private,
        };
        let mut mounts: Vec<_> = std::iter::once(&home).chain(&spec.mounts).collect();
        mounts.sort_by_key(|mount| mount.target.components().count());
        for mount in mounts {
            if !is_usable_target(&mount.target) {
                let name = spec.id.container_name();
                let path = mount.target.display();
                return Err(unsupported(format!(
                    "mountPath {path} of container {name:?}: give a plain absolute path"
                )));
            }
            places.push(Place {
                source: bytes(&self.source(pod, spec, &mount.source, mount.read_only)?),
                target: bytes(&mount.target),
                read_only: mount.read_only,
                propagation: match mount.propagation {
                    MountPropagation::Private => Propagation::Private,
                    MountPropagation::HostToContainer => Propagation::HostToContainer,
                    MountPropagation::Bidirectional => {
                        return Err(unsupported("mountPropagation: Bidirectional".to_owned()));
                    }
                },
            });
        }
        let (shares, directory) = (self.shares_ipc(pod), &pod.spec.directory);
        Ok(View {
            hidden: bytes(&self.data_directory),
            temporary: temporary::of_run(directory, &spec.id).iter().map(|path| bytes(path)).collect(),
            read_only_temporary: spec.security.read_only_root,
            places,
            hostname: pod.spec.hostname.clone().into_bytes(),
            privileged: spec.security.privileged,
            host_devices: self.isolation == Isolation::UserNamespace,
            root: uid == 0,
            host_ipc: pod.spec.host_ipc,
            ipc_namespace: if shares { bytes(&ipc::namespace(directory)) } else { Vec::new() },
            shared_memory: if shares { bytes(&ipc::memory(directory)) } else { Vec::new() },
        })
    }

    /// Where a mount really comes from: the Pod's own folder, or a path of the host that is allowed.
    fn source(
        &self,
        pod: &Pod,
        spec: &ContainerSpec,
        source: &Path,
        read_only: bool,
    ) -> Result<PathBuf, Error> {
        let is_plain = is_usable_target(source);
        if is_plain && source.starts_with(&pod.spec.directory) {
            return Ok(source.to_owned());
        }
        self.policy.host_path(source, read_only, &self.data_directory).map_err(|violation| {
            Error::NotAllowed { of: format!("container {:?}", spec.id.container_name()), violation }
        })
    }

    /// Refuses what would need one.
    fn no_view(&self, spec: &ContainerSpec) -> Result<Option<View>, Error> {
        let name = spec.id.container_name();
        let lacks = |what: &str| {
            Err(unsupported(format!(
                "{what} of container {name:?}: this host gives the agent no mount namespaces; run it as root, or \
                 allow user namespaces"
            )))
        };
        let is_needed = |source: &Path| spec.termination_log.as_deref() != Some(source);
        if spec.mounts.iter().any(|mount| is_needed(&mount.source)) {
            return lacks("volumes");
        }
        if spec.security.read_only_root {
            return lacks("readOnlyRootFilesystem");
        }
        Ok(None)
    }

    /// What can't be guaranteed; `errno` says why a view of its own can't be made, 0 if that was turned off.
    pub fn conditions(&self, errno: i32) -> Vec<Condition> {
        let cause = match errno {
            0 => "turned off".to_owned(),
            errno => Errno::from_raw(errno).desc().to_lowercase(),
        };
        let mut conditions = Vec::new();
        match self.isolation {
            Isolation::NamespaceWithProc => {}
            Isolation::UserNamespace => conditions.push(Condition {
                kind: "IsolationDegraded",
                message: format!(
                    "the agent is not root: all containers are its own user, {}, though in namespaces of their own; \
                     runAsUser, groups and fsGroup are refused; run the agent as root",
                    self.agent.0
                ),
            }),
            Isolation::NamespaceOnly => conditions.push(Condition {
                kind: "IsolationDegraded",
                message: format!(
                    "containers see the host's files and, in /proc, its processes, and have no volumes: mounts of \
                     their own can't be made ({cause}); Linux 5.12 is needed, and the right to mount"
                ),
            }),
            Isolation::Degraded => {
                conditions.push(Condition {
                    kind: "FencingDegraded",
                    message: format!(
                        "containers have no PID namespace ({cause}): if a container's shim is killed from outside, \
                         processes that it put in the background may survive, also beyond the lease; run the agent as \
                         root or with CAP_SYS_ADMIN"
                    ),
                });
                conditions.push(Condition {
                    kind: "IsolationDegraded",
                    message: format!(
                        "containers see the host's files and processes, and have no volumes: namespaces can't be made \
                         ({cause}); run the agent as root, or allow user namespaces"
                    ),
                });
            }
        }
        if self.left_out != LeftOut::default() {
            let message = "parts of the isolation are left out, to measure what they cost".to_owned();
            conditions.push(Condition { kind: "IsolationDegraded", message });
        }
        if !self.missing.controllers.is_empty() {
            conditions.push(Condition {
                kind: "LimitsNotEnforced",
                message: format!(
                    "limits of {} are not kept: {}",
                    self.missing.controllers.join(", "),
                    self.missing.cause
                ),
            });
        }
        conditions
    }

    /// What a container uses; none without control groups.
    pub fn usage(&self, id: &ContainerId) -> io::Result<Option<Usage>> {
        self.groups.as_ref().map(|groups| groups.usage(id)).transpose()
    }

    /// Looks at a container's groups for the last time, when nothing of it is left.
    pub fn finish(&self, id: &ContainerId) -> GroupEnd {
        self.groups.as_ref().map_or(GroupEnd::default(), |groups| groups.finish(id))
    }

    /// What can be done here.
    pub fn features(&self) -> BTreeSet<Feature> {
        let mut features = BTreeSet::from([Feature::Exec]);
        if self.isolation != Isolation::Degraded {
            features.insert(Feature::PidNamespaces);
        }
        if self.has_view() {
            features.insert(Feature::MountNamespaces);
        }
        if self.has_users() {
            features.insert(Feature::Users);
        }
        match self.groups.as_ref().map(ControlGroups::version) {
            Some(1) => drop(features.insert(Feature::CgroupsV1)),
            Some(_) => drop(features.insert(Feature::CgroupsV2)),
            None => {}
        }
        features
    }
}

/// None but those that were added, and not dropped again.
fn kept_capabilities(spec: &ContainerSpec) -> Vec<String> {
    let names = |list: &[String]| -> BTreeSet<String> {
        let all = list.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        let all = if all { caps::all() } else { caps::CapsHashSet::default() };
        let named =
            list.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")).map(|name| capability_name(name));
        all.into_iter().map(|capability| capability.to_string()).chain(named).collect()
    };
    let added = names(&spec.security.capabilities_add);
    // Dropping all means the runtime's own, of which there are none.
    let dropped: Vec<_> = spec.security.capabilities_drop.iter().map(|name| capability_name(name)).collect();
    added.into_iter().filter(|name| !dropped.contains(name)).collect()
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn unsupported(what: String) -> Error {
    Error::Unsupported { runtime: "process", what }
}
