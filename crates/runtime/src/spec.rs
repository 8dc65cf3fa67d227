//! What is to be run, as the agent says it to any runtime.
//!
//! Owns: the types. Does not own: whether it may run (the agent's policy), what a runtime makes of it.
//!
//! Everything has a default that asks for nothing, so that a field which a runtime can't honour is refused by it when it is
//! set, never ignored.

use crate::{ContainerId, LogLimits};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the containers of a Pod share.
#[derive(Debug, Clone)]
pub struct PodSandboxSpec {
    /// The Pod's uid, a UUID in lower-case hexadecimal.
    pub uid: String,
    /// The Pod's namespace, for labels and messages.
    pub namespace: String,
    /// The Pod's name, for labels and messages.
    pub name: String,
    /// What its containers call the host, if the runtime gives them a name of their own; empty: the host's.
    pub hostname: String,
    /// The Pod's own folder, absolute. The runtime makes what it needs below it, with mode 0700 and with its parents; removing
    /// it is the caller's business. Processes begin in `work` below it.
    pub directory: PathBuf,
    /// Labels of the Pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Pod.
    pub annotations: BTreeMap<String, String>,
    /// The host's network is wanted explicitly.
    pub host_network: bool,
    /// The host's processes are to be visible.
    pub host_pid: bool,
    /// The host's shared memory and queues are to be usable.
    pub host_ipc: bool,
    /// The containers see each other's processes.
    pub share_process_namespace: bool,
    /// There are several containers, which share memory and queues: a Pod of one is cheaper without.
    pub shares_ipc: bool,
    /// Some container names a user that is not the Pod's, and is to work in the Pod's folder all the same.
    pub other_users: bool,
    /// Group that owns the Pod's volumes, and that every process has besides its own.
    pub fs_group: Option<u32>,
    /// User of containers that name none.
    pub user: Option<u32>,
    /// Group of containers that name none.
    pub group: Option<u32>,
    /// Further groups of every process.
    pub supplemental_groups: Vec<u32>,
    /// What all containers together may use.
    pub resources: ResourceSpec,
    /// Bytes that the Pod may keep on the node's disk, if there is a limit.
    pub disk_bytes_max: Option<u64>,
}

impl PodSandboxSpec {
    /// A Pod that asks for nothing.
    pub fn new(uid: &str, directory: PathBuf) -> PodSandboxSpec {
        PodSandboxSpec {
            uid: uid.to_owned(),
            namespace: String::new(),
            name: String::new(),
            hostname: String::new(),
            directory,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            shares_ipc: false,
            other_users: false,
            fs_group: None,
            user: None,
            group: None,
            supplemental_groups: Vec::new(),
            resources: ResourceSpec::default(),
            disk_bytes_max: None,
        }
    }
}

/// What to run. Texts are as the user wrote them: `$(VAR)` is expanded by the runtime.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Which run of which container; also the address of its log.
    pub id: ContainerId,
    /// The image, for runtimes that run images; others ignore it, as it names no program of the host.
    pub image: Option<ImageSpec>,
    /// Program and first arguments. Without a `/` the program is looked for in the payload's own `PATH`. Empty: the image's.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Working folder, which must exist; a relative one is below the Pod's. `None`: the image's, or the Pod's working folder.
    pub working_directory: Option<PathBuf>,
    /// What of the host is to be seen where. Sources exist.
    pub mounts: Vec<Mount>,
    /// As whom, and with which rights.
    pub security: SecuritySpec,
    /// What it may use.
    pub resources: ResourceSpec,
    /// What it reads and writes.
    pub streams: StreamsSpec,
    /// How much output is kept.
    pub log_limits: LogLimits,
    /// What its image says is sent to stop it is replaced by this signal.
    pub stop_signal: Option<i32>,
    /// File of the host that the container leaves its last words in. It is among the mounts, unless the runtime shows the
    /// host's files anyway.
    pub termination_log: Option<PathBuf>,
    /// By CLOCK_BOOTTIME: at or after this moment the program is not executed any more (A9). It is looked at by the process
    /// that executes it, as its very last step, so that nothing that holds up the agent can make a start too late.
    pub start_before: Option<Duration>,
}

impl ContainerSpec {
    /// A container without anything, to be filled in.
    pub fn new(id: ContainerId) -> ContainerSpec {
        ContainerSpec {
            id,
            image: None,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            working_directory: None,
            mounts: Vec::new(),
            security: SecuritySpec::default(),
            resources: ResourceSpec::default(),
            streams: StreamsSpec::default(),
            log_limits: LogLimits::default(),
            stop_signal: None,
            termination_log: None,
            start_before: None,
        }
    }
}

/// What a container's program reads and writes; its output goes to its log in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamsSpec {
    /// Clients may write to its standard input, which waits for them, and for its whole life unless `stdin_once` says otherwise.
    /// Else it is `/dev/null`, or a terminal that nobody writes to.
    pub stdin: bool,
    /// Standard input is for one client: it ends when the first one that came with input has ended that, or is gone. Means
    /// nothing without `stdin`, nor with a terminal, which has no end.
    pub stdin_once: bool,
    /// All its streams are a terminal of its own. `TERM` is `xterm` unless something else is given.
    pub terminal: bool,
}

impl StreamsSpec {
    /// Whether standard input ends with its first client.
    pub(crate) fn ends_with_client(self) -> bool {
        self.stdin && self.stdin_once && !self.terminal
    }
}

/// A file or folder of the host, seen in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// The container can't change it.
    pub read_only: bool,
    /// What of later mounts below it is seen on the other side.
    pub propagation: MountPropagation,
}

/// See [`Mount::propagation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountPropagation {
    /// Nothing.
    #[default]
    Private,
    /// The host's are seen in the container.
    HostToContainer,
    /// And the container's on the host.
    Bidirectional,
}

/// As whom a container runs, and with which rights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecuritySpec {
    /// User id. `None`: the Pod's, the image's, or the runtime's choice.
    pub user: Option<u32>,
    /// Group id. `None`: as with the user.
    pub group: Option<u32>,
    /// Not to be started as user 0, wherever that comes from.
    pub run_as_non_root: bool,
    /// Further groups, besides those of the Pod.
    pub supplemental_groups: Vec<u32>,
    /// Nothing but its mounts can be written to.
    pub read_only_root: bool,
    /// All rights of the host.
    pub privileged: bool,
    /// Whether a program may gain rights that its parent has not. `None`: it may not.
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities besides the runtime's default, such as `NET_ADMIN`; `ALL`.
    pub capabilities_add: Vec<String>,
    /// Capabilities less than the runtime's default; `ALL`.
    pub capabilities_drop: Vec<String>,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// Those that programs need and that do the host no harm.
    #[default]
    RuntimeDefault,
    /// All.
    Unconfined,
    /// Those of a profile of this host.
    Localhost(String),
}

/// What a container, or a whole Pod, may use. `None`: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceSpec {
    /// Thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// Thousandths of a core that it is sure to get when there are too few.
    pub cpu_request_millis: Option<u64>,
    /// Bytes of memory; more is an `OOMKilled`.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads at once.
    pub processes_max: Option<u64>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// As the user wrote it.
    pub reference: String,
    /// When it is fetched.
    pub pull_policy: PullPolicy,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every start; what the node has is used if it is the same.
    Always,
    /// If the node has none of that name.
    IfNotPresent,
    /// Never: it is an error if the node has none of that name.
    Never,
}
