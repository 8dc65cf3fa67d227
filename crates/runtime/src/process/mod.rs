//! The `process` runtime: a container is a process tree of the host, held together by a shim.
//!
//! Owns: the agent's side of the shim. Does not own: what runs inside it (`shim`), where output is kept (`logs`).
//!
//! Images are not pulled: a container's command is a program of the host.

mod attach;
pub(crate) mod begun;
mod confiner;
mod connection;
mod container;
mod execs;
pub(crate) mod ipc;
mod own_binary;
mod passage;
pub(crate) mod record;
pub(crate) mod recover;
mod sandbox;
mod spawner;
mod strays;
mod temporary;
mod uids;

pub use uids::PodUids;

use crate::cgroups::ControlGroups;
use crate::lease_cell::LeaseCell;
use crate::payload::Payload;
use crate::shim::messages::{Order, Recorded, Start, WIRE_VERSION};
use crate::shim::wire::MessageReader;
use crate::{
    BoxFuture, Condition, ContainerId, ContainerSpec, Error, Feature, LogStore, NodePolicy, PodSandbox,
    PodSandboxSpec, RecoveredPod, Runtime, ShortWork, limits,
};
use confiner::{Confiner, Pod, WORK};
use connection::{Connection, ShimFolder};
pub(crate) use container::ProcessContainer;
use container::{ContainerParts, NotStarted};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getegid, geteuid};
use sandbox::ProcessSandbox;
use spawner::SpawnerLink;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use uids::UidPool;

/// How a [`ProcessRuntime`] is set up.
#[derive(Debug, Clone)]
pub struct ProcessRuntimeOptions {
    /// Where output goes.
    pub logs: LogStore,
    /// Where shims listen for the process that comes after this one: a folder of one agent's own, absolute, on a local disk.
    /// It is made with mode 0700 if missing.
    pub shims: PathBuf,
    /// A binary that calls [`maybe_run_shim`](crate::maybe_run_shim). `None`: the running one.
    pub shim_program: Option<PathBuf>,
    /// Do without namespaces even where they are allowed, as on hosts without those rights.
    pub force_degraded: bool,
    /// The agent's own folder, absolute and without links: hidden from containers.
    pub data_directory: PathBuf,
    /// What Pods may ask for.
    pub policy: NodePolicy,
    /// Users that Pods get.
    pub pod_uids: PodUids,
    /// Names the control groups of this agent: a text that no other agent of this host has, of letters, digits and `-`. `None`:
    /// no limits are kept.
    pub node_uid: Option<String>,
    /// What shims say in their command line of whose they are: a text that no other runtime of this host has. Of one agent's after
    /// the other those that can't be taken over are ended by it. `None`: those are not looked for.
    pub owner: Option<String>,
    /// Nothing, but where the cost of the isolation is measured.
    pub left_out: LeftOut,
}

/// Parts of the isolation that containers do without, so that the cost of each can be measured. What is left out is no longer
/// kept apart from the host: of use for nothing but programs of one's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Namespaces for mounts, shared memory and names, and what is mounted there.
    pub view: bool,
    /// A user of the Pod's own, and the loss of all rights.
    pub identity: bool,
    /// The filter of system calls.
    pub filter: bool,
}

impl ProcessRuntimeOptions {
    /// The usual ones for an agent's folder, with shims in `shims` below it, and without limits.
    pub fn new(logs: LogStore, data_directory: PathBuf) -> ProcessRuntimeOptions {
        ProcessRuntimeOptions {
            logs,
            shims: data_directory.join("shims"),
            shim_program: None,
            force_degraded: false,
            data_directory,
            policy: NodePolicy::default(),
            pod_uids: PodUids::default(),
            node_uid: None,
            owner: None,
            left_out: LeftOut::default(),
        }
    }
}

/// Runs containers as processes. Dropping it ends nothing that it started, and neither does the end of this process.
pub struct ProcessRuntime {
    host: Arc<Host>,
}

/// What all Pods of a runtime share.
pub(crate) struct Host {
    options: ProcessRuntimeOptions,
    confiner: Arc<Confiner>,
    conditions: Vec<Condition>,
    uids: Arc<UidPool>,
    /// Soft limit of open files that payloads get: that of this process before it raised its own.
    open_files: u64,
    /// Replaced if the spawner was killed from outside.
    link: Mutex<Arc<SpawnerLink>>,
    folder: Arc<ShimFolder>,
    /// What all shims look at.
    cell: LeaseCell,
    starts: Semaphore,
    /// For what is done with control groups: no disk holds that up.
    work: ShortWork,
}

impl ProcessRuntime {
    /// Starts the shim's spawner and finds out what this host allows.
    ///
    /// Raises this process's soft limit of open files to its hard limit; payloads get the old one. Must be called
    /// within a tokio runtime, which must live as long as the result.
    pub async fn new(options: ProcessRuntimeOptions) -> Result<ProcessRuntime, Error> {
        let folder = Arc::new(ShimFolder::open(&options.shims)?);
        let failed = |errno: Errno| Error::ShimFolder {
            path: options.shims.clone(),
            action: "make the lease cell",
            source: errno.into(),
        };
        let cell = LeaseCell::new(Duration::MAX).map_err(failed)?;
        let work = ShortWork::start("groups").map_err(|source| Error::ShimFolder {
            path: options.shims.clone(),
            action: "start threads beside",
            source,
        })?;
        let open_files = raise_open_files();
        let link = SpawnerLink::start(&options, open_files).await?;
        let (isolation, errno) = link.isolation();
        let link = Arc::new(link);
        let (groups, missing) = match &options.node_uid {
            Some(node_uid) => ControlGroups::find(node_uid),
            None => Default::default(),
        };
        let confiner = Confiner {
            isolation,
            left_out: options.left_out,
            policy: options.policy.clone(),
            data_directory: options.data_directory.clone(),
            groups,
            missing,
            agent: (geteuid().as_raw(), getegid().as_raw()),
        };
        let host = Host {
            uids: Arc::new(UidPool::new(options.pod_uids)),
            options,
            conditions: confiner.conditions(errno),
            confiner: Arc::new(confiner),
            open_files,
            link: Mutex::new(link),
            folder,
            cell,
            starts: Semaphore::new(limits::STARTS_CONCURRENT_MAX),
            work,
        };
        Ok(ProcessRuntime { host: Arc::new(host) })
    }

    #[cfg(feature = "oci")]
    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Where output goes.
    pub fn logs(&self) -> &LogStore {
        &self.host.options.logs
    }
}

impl Host {
    /// Checks what a Pod asks for, and gives it a user.
    fn pod(&self, spec: PodSandboxSpec) -> Result<Pod, Error> {
        self.confiner.check_pod(&spec)?;
        self.pod_as_it_is(spec)
    }

    /// One that was allowed before.
    fn pod_as_it_is(&self, spec: PodSandboxSpec) -> Result<Pod, Error> {
        let has_users = self.confiner.has_users();
        let uid = has_users.then(|| self.uids.lease(&spec.uid, &spec.directory.join(WORK))).transpose()?;
        Ok(Pod::new(spec, uid))
    }

    async fn start_container(
        &self,
        pod: &Arc<Pod>,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> Result<ProcessContainer, Error> {
        let mut payload = Payload::new(&spec, &pod.home())?;
        payload.confinement = self.confiner.confine(pod, &spec)?;
        let shares_ipc = self.confiner.shares_ipc(pod);
        if shares_ipc || spec.id.restart_count() > 0 {
            let (confiner, of_pod, id) = (self.confiner.clone(), pod.clone(), spec.id.clone());
            let made = blocking(move || {
                if let Err(error) = temporary::remove_earlier(&of_pod.spec.directory, &id) {
                    // There is another try with the next run.
                    tracing::warn!(container = %id, %error, "temporary files of earlier runs can't be removed");
                }
                if shares_ipc { confiner.make_shared(&of_pod) } else { Ok(()) }
            })
            .await;
            made.unwrap_or_else(|| Err(io::Error::other("making it has panicked"))).map_err(|source| {
                let (container, action) = (spec.id.container_name().to_owned(), "make what its Pod shares");
                Error::StartResources { container, action, source }
            })?;
        }
        self.start_shim(Some(pod), &pod.spec.directory, &spec, &payload, killed).await
    }

    /// The same, for one whose payload was made by others, and whose Pod is theirs.
    #[cfg(feature = "oci")]
    pub(crate) async fn start_payload(
        &self,
        pod_directory: &Path,
        spec: &ContainerSpec,
        payload: &Payload,
        killed: BoxFuture<'static, ()>,
    ) -> Result<ProcessContainer, Error> {
        self.start_shim(None, pod_directory, spec, payload, killed).await
    }

    async fn start_shim(
        &self,
        pod: Option<&Arc<Pod>>,
        pod_directory: &Path,
        spec: &ContainerSpec,
        payload: &Payload,
        mut killed: BoxFuture<'static, ()>,
    ) -> Result<ProcessContainer, Error> {
        let container = || spec.id.container_name().to_owned();
        let _permit = tokio::select! {
            biased;
            () = &mut killed => return Err(Error::StartKilled { container: container() }),
            // Never closed.
            permit = self.starts.acquire() => permit,
        };
        // For one that waited too long there need not be a shim.
        if spec.start_before.is_some_and(|moment| crate::shim::now() >= moment) {
            return Err(Error::StartTooLate { container: container() });
        }
        if let Err(error) = self.options.logs.remove_earlier_runs(&spec.id).await {
            // There is another try with the next run.
            tracing::warn!(container = %spec.id, %error, "logs of earlier runs can't be removed");
        }
        let mut is_second_try = false;
        loop {
            match self.try_start(pod, pod_directory, spec, payload, &mut killed).await? {
                Ok(started) => return Ok(started),
                Err(NotStarted::Killed) => return Err(Error::StartKilled { container: container() }),
                Err(NotStarted::TooLate) => return Err(Error::StartTooLate { container: container() }),
                // The spawner was killed with the request in its socket: the next one finds it gone and makes another.
                Err(NotStarted::ShimLost) if !std::mem::replace(&mut is_second_try, true) => {}
                Err(not_started) => {
                    let source = match not_started {
                        NotStarted::Refused(source) => source,
                        _ => io::Error::other("the shim ended before it could start anything"),
                    };
                    let action = "make a process";
                    return Err(Error::StartResources { container: container(), action, source });
                }
            }
        }
    }

    async fn try_start(
        &self,
        pod: Option<&Arc<Pod>>,
        pod_directory: &Path,
        spec: &ContainerSpec,
        payload: &Payload,
        killed: &mut BoxFuture<'static, ()>,
    ) -> Result<Result<ProcessContainer, NotStarted>, Error> {
        let name = spec.id.container_name();
        let refused =
            |action| move |source| Error::StartResources { container: name.to_owned(), action, source };
        let log = self.options.logs.begin(&spec.id)?;
        let (ours, shims) = std::os::unix::net::UnixStream::pair().map_err(refused("make a socket pair"))?;
        ours.set_nonblocking(true).map_err(refused("prepare a socket"))?;
        let connection = Connection::new(ours.into()).map_err(refused("watch a socket"))?;
        let listening = self.folder.listen();
        let (listener, socket_name) = listening.map_err(|errno| refused("make a socket")(errno.into()))?;
        let descriptors = [shims.as_fd(), listener.as_fd(), self.cell.as_fd()];
        // Until the whole order has been written, the end of our connection is the end of a shim that started nothing.
        let requested = tokio::select! {
            biased;
            () = &mut *killed => Err(NotStarted::Killed),
            requested = self.request_shim(&descriptors, spec) => Ok(requested),
        };
        // Only the shim may hold these now, so that their end is its end.
        drop((shims, listener));
        let order = Order::Start(Box::new(Start {
            id: spec.id.clone(),
            socket_path: self.folder.path_of(&socket_name).into_os_string().into_vec(),
            pod_directory: pod_directory.as_os_str().as_bytes().to_vec(),
            log_directory: self.options.logs.pod_directory(spec.id.pod_uid()).into_os_string().into_vec(),
            log_limits: spec.log_limits,
            streams: spec.streams,
            payload: payload.clone(),
        }));
        let ordered = match requested {
            Ok(Ok(())) => tokio::select! {
                biased;
                () = &mut *killed => Err(NotStarted::Killed),
                // A shim that died early is found when reading.
                _ = connection.send(&order, &[]) => Ok(()),
            },
            Ok(Err(error)) => {
                self.folder.remove(&socket_name);
                return Err(error);
            }
            Err(killed) => Err(killed),
        };
        if let Err(not_started) = ordered {
            self.folder.remove(&socket_name);
            return Ok(Err(not_started));
        }
        drop(order);
        let program = payload.arguments.first().map(|text| String::from_utf8_lossy(text).into_owned());
        let container = ProcessContainer::attend(ContainerParts {
            recorded: Recorded {
                id: spec.id.clone(),
                program: program.unwrap_or_default(),
                home: payload.home.clone(),
                working_directory: payload.working_directory.clone(),
            },
            isolation: self.confiner.isolation,
            confiner: self.confiner.clone(),
            work: self.work.clone(),
            pod: pod.cloned(),
            connection,
            folder: self.folder.clone(),
            name: socket_name,
            log,
            pidfd: None,
            facts: Vec::new(),
            reader: MessageReader::default(),
            version: WIRE_VERSION,
        });
        Ok(container.started(killed, spec.resources.memory_limit_bytes.is_some()).await)
    }

    /// Hands the descriptors to the spawner; makes a new spawner once if that one is gone.
    async fn request_shim(
        &self,
        descriptors: &[std::os::fd::BorrowedFd<'_>; 3],
        spec: &ContainerSpec,
    ) -> Result<(), Error> {
        let mut link = self.link.lock().await;
        let mut result = link.request(descriptors).await;
        if matches!(result, Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN)) {
            tracing::warn!("the shim spawner was killed; starting another");
            *link = Arc::new(SpawnerLink::start(&self.options, self.open_files).await?);
            result = link.request(descriptors).await;
        }
        match result {
            Ok(()) => Ok(()),
            Err(errno) => Err(Error::StartResources {
                container: spec.id.container_name().to_owned(),
                action: "ask for a shim",
                source: errno.into(),
            }),
        }
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn conditions(&self) -> Vec<Condition> {
        self.host.conditions.clone()
    }

    fn closed_above(&self, folder: &Path) -> Option<PathBuf> {
        let features = self.features();
        // Else they are the agent's own user, or see more of the host than a look at the way could tell.
        let are_others = features.contains(&Feature::Users) && features.contains(&Feature::MountNamespaces);
        if are_others { passage::closed_parent(folder) } else { None }
    }

    fn features(&self) -> BTreeSet<Feature> {
        self.host.confiner.features()
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>> {
        Box::pin(recover::recover(&self.host))
    }

    fn may_have_run(&self, pod_directory: &Path, run: &ContainerId) -> bool {
        begun::may_have_begun(pod_directory, run)
    }

    fn set_deadline(&self, moment: Duration) {
        if let Err(error) = self.host.cell.set(moment) {
            // Memory that was given can be written to; if not, the last deadline stands.
            tracing::error!(%error, "the lease cell can't be written");
        }
    }

    fn open_pod(&self, spec: PodSandboxSpec) -> BoxFuture<'_, Result<Arc<dyn PodSandbox>, Error>> {
        Box::pin(async move {
            let sandbox = ProcessSandbox::new(self.host.clone(), spec.clone())?;
            // A folder that can't be written to is the business of the start.
            if let Some(Err(error)) = blocking(move || record::write(&spec)).await {
                tracing::warn!(%error, "who a pod is can't be written down for the next agent");
            }
            Ok(Arc::new(sandbox) as Arc<dyn PodSandbox>)
        })
    }
}

/// Runs what may wait for the kernel or a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn raise_open_files() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => {
            if soft < hard
                && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            {
                tracing::warn!(%error, soft, "the limit of open files can't be raised: fewer containers will fit");
            }
            soft
        }
        Err(_) => 1024,
    }
}
