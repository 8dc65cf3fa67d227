//! The contract between the agent and whatever executes Pods.
//!
//! Owns: the traits. Does not own: any way of running a container.
//!
//! Containers outlive the process that started them: another one finds them by [`Runtime::recover`]. What nobody looks after
//! ends at the deadline (A13).

use crate::{
    AttachSession, AttachSpec, ContainerId, ContainerSpec, Error, ExecSession, ExecSpec, Exit, ImageSpec,
    PodSandboxSpec,
};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;

/// A future that can be held by a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What executes Pods on a host.
///
/// One suite of tests is meant to hold for every implementation.
pub trait Runtime: Send + Sync + 'static {
    /// What the node calls it, such as `process`.
    fn name(&self) -> &'static str;

    /// What this runtime can't guarantee on this host, as of now. Asked every few seconds; never blocks.
    fn conditions(&self) -> Vec<Condition>;

    /// Folders on whose file systems its images are, and what containers write over them. Never blocks.
    fn image_folders(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// A folder of the host above this one, absolute and without links, that keeps containers from reaching what is given to
    /// them below it; none: they can. Blocks for a moment.
    fn closed_above(&self, folder: &Path) -> Option<PathBuf> {
        let _ = folder;
        None
    }

    /// What this runtime can do on this host. Constant for the life of the runtime.
    fn features(&self) -> BTreeSet<Feature>;

    /// What an earlier process of this data folder left: Pods with containers that run, or that have ended and were not
    /// collected. To be called once, before any other method. What can't be understood is killed and removed, and so is all
    /// that is left when a later process does not keep what it got.
    ///
    /// # Errors
    /// If it can't be said what is left, or what can't be taken over does not end: it could run twice then.
    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>>;

    /// Whether anything of a run that [`Self::recover`] has not given may ever have run. False only if it is certain that nothing
    /// did: then it can still be started. The folder is the Pod's, as it was given to [`Self::open_pod`]. Blocks for a moment.
    fn may_have_run(&self, pod_directory: &Path, run: &ContainerId) -> bool {
        let _ = (pod_directory, run);
        true
    }

    /// Everything of this runtime is killed at this moment of CLOCK_BOOTTIME by processes other than this one, whatever holds
    /// this one up, unless a later one is named before (A13). A second line: whoever can, kills by itself and before. Until
    /// the first call it is what an earlier process has named; [`Duration::MAX`] changes nothing. Never blocks. Best effort
    /// where a condition says so.
    fn set_deadline(&self, moment: Duration);

    /// This process ends, and leaves what runs to the next one. From now on the end of whoever waits for something gives nothing up:
    /// what is being started goes on too, or never begins (A13).
    fn let_go(&self) {}

    /// Makes what the containers of a Pod share. For a Pod that is open already it answers the same.
    fn open_pod(&self, spec: PodSandboxSpec) -> BoxFuture<'_, Result<Arc<dyn PodSandbox>, Error>>;
}

/// What the containers of a Pod share, and where they are started.
pub trait PodSandbox: Send + Sync + 'static {
    /// The Pod.
    fn pod_uid(&self) -> &str;

    /// Its addresses; none: those of the host.
    fn addresses(&self) -> Vec<IpAddr>;

    /// User and group that its containers are, unless they say otherwise, where that is known and is not the agent's: what is
    /// made for the Pod belongs to them.
    fn owner(&self) -> Option<(u32, u32)> {
        None
    }

    /// Whether its containers have a host name of their own, the Pod's. Else it is the host's, and the runtime tells them.
    fn has_own_host_name(&self) -> bool {
        true
    }

    /// Fetches what a container needs before it can be started, if anything.
    ///
    /// # Errors
    /// [`Error::Image`]; the caller may try again later.
    fn prepare<'a>(&'a self, image: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>>;

    /// Starts a container. Whether it may run at all (lease, incarnation, A9) is the caller's business, and is to be
    /// checked right before the call; until when it may is part of the spec.
    ///
    /// Resolves when its program runs. A program that can't be executed is no error here but an [`Exit`] with reason
    /// `StartError`. If `killed` resolves before that, whatever was begun is killed, and the answer is
    /// [`Error::StartKilled`] once nothing of it is left. If the returned future is dropped before it resolves, the
    /// container is killed in the background.
    fn start(
        &self,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, Result<Arc<dyn RunningContainer>, Error>>;

    /// What all of its containers use.
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>>;

    /// Bytes that its containers have written to the node's disk elsewhere than in the Pod's folder, as far as somebody knows.
    fn disk_bytes_elsewhere(&self) -> BoxFuture<'_, u64> {
        Box::pin(std::future::ready(0))
    }

    /// Processes of the host that all processes of its containers descend from, as far as the runtime knows them.
    fn ancestors(&self) -> Vec<i32> {
        Vec::new()
    }

    /// Connects to a port that something in the Pod listens at, if only for programs of the Pod: on its own loopback, or on the
    /// host's if it has the host's network.
    ///
    /// # Errors
    /// As the system has it: nobody listens, no answer in time.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(crate::network::connect(None, port))
    }

    /// Removes what the runtime made for the Pod, its folder excepted, once all containers have ended. May be repeated.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A container that was started. Who wants it no more kills it: if the last handle is only dropped, it goes on, for a later
/// process or until the deadline.
pub trait RunningContainer: Send + Sync + 'static {
    /// Which run of which container.
    fn id(&self) -> &ContainerId;

    /// What the runtime calls it, such as `containerd://3f4e…`, for the status of its Pod.
    fn runtime_id(&self) -> String;

    /// Digest of its image; empty if it has none.
    fn image_id(&self) -> String;

    /// When its program began to run, by the wall clock; none if it never did.
    fn started_at(&self) -> Option<SystemTime>;

    /// Sends a signal to the container's main process (P6), such as SIGTERM or its stop signal. Does nothing after the end.
    fn signal(&self, signal: i32);

    /// Sends SIGKILL to every process of the container; resolves when none is left. Output may still be on its way to
    /// the log then, which [`wait`](Self::wait) waits for.
    fn kill(&self) -> BoxFuture<'_, ()>;

    /// Resolves when the main process has ended, every other process of the container is gone, and all output that
    /// it wrote has reached the log files. May be called often; the answer stays the same.
    fn wait(&self) -> BoxFuture<'_, Exit>;

    /// Its end is recorded elsewhere: what is kept of it, for a process that comes after this one, may go. Does nothing before
    /// the end. Without it the end is kept, and given by [`Runtime::recover`], until a while after the deadline.
    fn release(&self) -> BoxFuture<'_, ()>;

    /// Runs a further program inside the container.
    ///
    /// # Errors
    /// [`Error::ExecStart`] if it can't be executed, [`Error::NotRunning`] if the container has ended.
    fn exec(&self, spec: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>>;

    /// Begins to talk with its own program. Works for containers of an earlier process too.
    ///
    /// # Errors
    /// [`Error::Attach`] if it was started without what is wanted, or that was for another; [`Error::NotRunning`] if it has
    /// ended.
    fn attach(&self, spec: AttachSpec) -> BoxFuture<'_, Result<AttachSession, Error>>;

    /// What it uses.
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>>;
}

/// A Pod that an earlier process left.
pub struct RecoveredPod {
    /// The Pod.
    pub pod_uid: String,
    /// Where further containers of it are started.
    pub sandbox: Arc<dyn PodSandbox>,
    /// Its containers; those that have ended answer [`RunningContainer::wait`] at once.
    pub containers: Vec<Arc<dyn RunningContainer>>,
}

/// What processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on processors since the beginning.
    pub cpu_nanoseconds: u64,
    /// Memory that can't be given up without harm.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Bytes on the node's disk, where that is known.
    pub disk_bytes: Option<u64>,
}

/// Something that a runtime can do on this host, or can't: for messages, for the registration of the node, and for tests that
/// say what they did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Containers have process ids of their own, and end with their first process.
    PidNamespaces,
    /// Containers have mounts of their own.
    MountNamespaces,
    /// Limits are kept by control groups of version 1.
    CgroupsV1,
    /// Limits are kept by control groups of version 2.
    CgroupsV2,
    /// Containers can be other users than the agent.
    Users,
    /// Images are run.
    Images,
    /// Further programs can be run in a container.
    Exec,
}

impl Feature {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Feature::PidNamespaces => "pid-namespaces",
            Feature::MountNamespaces => "mount-namespaces",
            Feature::CgroupsV1 => "cgroups-v1",
            Feature::CgroupsV2 => "cgroups-v2",
            Feature::Users => "users",
            Feature::Images => "images",
            Feature::Exec => "exec",
        }
    }
}

/// Something the node should say about itself. Its status is `True`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Such as `FencingDegraded`.
    pub kind: &'static str,
    /// Why, and what would mend it.
    pub message: String,
}
