//! The `process` runtime: a container is a process tree of the host, held together by a shim.
//!
//! Owns: the agent's side of the shim. Does not own: what runs inside it (`shim`), where output is kept (`logs`).
//!
//! Images are not pulled: a container's command is a program of the host.

mod connection;
mod container;
mod execs;
mod recover;
mod sandbox;
mod spawner;

use crate::lease_cell::LeaseCell;
use crate::payload::Payload;
use crate::shim::messages::{Isolation, Order, Recorded, Start};
use crate::shim::wire::MessageReader;
use crate::{
    BoxFuture, Condition, ContainerSpec, Error, Feature, LogStore, PodSandbox, PodSandboxSpec, RecoveredPod,
    Runtime, limits,
};
use connection::{Connection, ShimFolder};
use container::{ContainerParts, NotStarted, ProcessContainer};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sandbox::ProcessSandbox;
use spawner::SpawnerLink;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

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
}

/// Runs containers as processes. Dropping it ends nothing that it started, and neither does the end of this process.
pub struct ProcessRuntime {
    host: Arc<Host>,
}

/// What all Pods of a runtime share.
struct Host {
    options: ProcessRuntimeOptions,
    isolation: Isolation,
    conditions: Vec<Condition>,
    /// Soft limit of open files that payloads get: that of this process before it raised its own.
    open_files: u64,
    /// Replaced if the spawner was killed from outside.
    link: Mutex<Arc<SpawnerLink>>,
    folder: Arc<ShimFolder>,
    /// What all shims look at.
    cell: LeaseCell,
    starts: Semaphore,
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
        let open_files = raise_open_files();
        let link = SpawnerLink::start(&options, open_files).await?;
        let (isolation, errno) = link.isolation();
        let link = Arc::new(link);
        let host = Host {
            options,
            isolation,
            conditions: conditions(isolation, errno),
            open_files,
            link: Mutex::new(link),
            folder,
            cell,
            starts: Semaphore::new(limits::STARTS_CONCURRENT_MAX),
        };
        Ok(ProcessRuntime { host: Arc::new(host) })
    }

    /// Where output goes.
    pub fn logs(&self) -> &LogStore {
        &self.host.options.logs
    }
}

impl Host {
    async fn start_container(
        &self,
        home: &Path,
        spec: ContainerSpec,
        mut killed: BoxFuture<'static, ()>,
    ) -> Result<ProcessContainer, Error> {
        let payload = Payload::new(&spec, home)?;
        let container = || spec.id.container_name().to_owned();
        let _permit = tokio::select! {
            biased;
            () = &mut killed => return Err(Error::StartKilled { container: container() }),
            // Never closed.
            permit = self.starts.acquire() => permit,
        };
        let mut is_second_try = false;
        loop {
            match self.try_start(&spec, &payload, &mut killed).await? {
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
            log_directory: self.options.logs.pod_directory(spec.id.pod_uid()).into_os_string().into_vec(),
            log_limits: spec.log_limits,
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
            isolation: self.isolation,
            connection,
            folder: self.folder.clone(),
            name: socket_name,
            log,
            pidfd: None,
            facts: Vec::new(),
            reader: MessageReader::default(),
        });
        Ok(container.started(killed).await)
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

    fn features(&self) -> BTreeSet<Feature> {
        match self.host.isolation {
            Isolation::NamespaceWithProc => {
                [Feature::Exec, Feature::PidNamespaces, Feature::MountNamespaces].into()
            }
            Isolation::NamespaceOnly => [Feature::Exec, Feature::PidNamespaces].into(),
            Isolation::Degraded => [Feature::Exec].into(),
        }
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>> {
        Box::pin(recover::recover(&self.host))
    }

    fn set_deadline(&self, moment: Duration) {
        if let Err(error) = self.host.cell.set(moment) {
            // Memory that was given can be written to; if not, the last deadline stands.
            tracing::error!(%error, "the lease cell can't be written");
        }
    }

    fn open_pod(&self, spec: PodSandboxSpec) -> BoxFuture<'_, Result<Arc<dyn PodSandbox>, Error>> {
        Box::pin(async move {
            let sandbox = ProcessSandbox::new(self.host.clone(), spec)?;
            Ok(Arc::new(sandbox) as Arc<dyn PodSandbox>)
        })
    }
}

fn conditions(isolation: Isolation, errno: i32) -> Vec<Condition> {
    match isolation {
        Isolation::NamespaceWithProc => Vec::new(),
        Isolation::NamespaceOnly => vec![Condition {
            kind: "ProcShared",
            message: "containers see the host's processes in /proc, and /proc/self does not work in them: this host \
                      does not allow to mount proc"
                .to_owned(),
        }],
        Isolation::Degraded => {
            let cause = match errno {
                0 => "turned off".to_owned(),
                errno => Errno::from_raw(errno).desc().to_owned(),
            };
            vec![Condition {
                kind: "FencingDegraded",
                message: format!(
                    "containers have no PID namespace ({cause}): if a container's shim is killed from outside, \
                     processes that it put in the background may survive, also beyond the lease; run the agent as \
                     root or with CAP_SYS_ADMIN"
                ),
            }]
        }
    }
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
