//! The `process` runtime: a container is a process tree of the host, held together by a shim.
//!
//! Owns: the agent's side of the shim. Does not own: what runs inside it (`shim`), where output is kept (`logs`).
//!
//! Images are not pulled: a container's command is a program of the host.

mod container;
mod output;
mod sandbox;
mod spawner;

use crate::payload::Payload;
use crate::shim::wire::{self, Isolation};
use crate::{
    BoxFuture, Condition, ContainerSpec, Error, Feature, LogStore, PodSandbox, PodSandboxSpec, RecoveredPod,
    Runtime, limits,
};
use container::{ContainerParts, NotStarted, ProcessContainer};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::pipe2;
use sandbox::ProcessSandbox;
use spawner::SpawnerLink;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, Semaphore};

/// How a [`ProcessRuntime`] is set up.
#[derive(Debug, Clone)]
pub struct ProcessRuntimeOptions {
    /// Where output goes.
    pub logs: LogStore,
    /// A binary that calls [`maybe_run_shim`](crate::maybe_run_shim). `None`: the running one.
    pub shim_program: Option<PathBuf>,
    /// Do without namespaces even where they are allowed, as on hosts without those rights.
    pub force_degraded: bool,
}

/// Runs containers as processes. Dropping it does not end what it started: that ends with the last handle, or with the
/// process.
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
    /// The same, for what must not wait.
    fenced: std::sync::Mutex<Fenced>,
    starts: Semaphore,
}

/// The spawner that is told of the fence, and what it was told.
struct Fenced {
    link: Arc<SpawnerLink>,
    moment: Option<Duration>,
}

impl ProcessRuntime {
    /// Starts the shim's spawner and finds out what this host allows.
    ///
    /// Raises this process's soft limit of open files to its hard limit; payloads get the old one. Must be called
    /// within a tokio runtime, which must live as long as the result.
    pub async fn new(options: ProcessRuntimeOptions) -> Result<ProcessRuntime, Error> {
        let open_files = raise_open_files();
        let link = SpawnerLink::start(&options, open_files).await?;
        let (isolation, errno) = link.isolation();
        let link = Arc::new(link);
        let host = Host {
            options,
            isolation,
            conditions: conditions(isolation, errno),
            open_files,
            fenced: std::sync::Mutex::new(Fenced { link: link.clone(), moment: None }),
            link: Mutex::new(link),
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
            match self.try_start(home, &spec, &payload, &mut killed).await? {
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
        home: &Path,
        spec: &ContainerSpec,
        payload: &Payload,
        killed: &mut BoxFuture<'static, ()>,
    ) -> Result<Result<ProcessContainer, NotStarted>, Error> {
        let name = spec.id.container_name();
        let refused =
            |action| move |source| Error::StartResources { container: name.to_owned(), action, source };
        let log = self.options.logs.writer(&spec.id, spec.log_limits)?;
        let (stdout, payload_stdout) = output_pipe().map_err(refused("make a pipe"))?;
        let (stderr, payload_stderr) = output_pipe().map_err(refused("make a pipe"))?;
        let (ours, shims) = std::os::unix::net::UnixStream::pair().map_err(refused("make a socket pair"))?;
        ours.set_nonblocking(true).map_err(refused("prepare a socket"))?;
        let mut shim = UnixStream::from_std(ours).map_err(refused("watch a socket"))?;
        let descriptors = [shims.as_fd(), payload_stdout.as_fd(), payload_stderr.as_fd()];
        // Until the whole payload has been written, the end of our socket is the end of a shim that started nothing.
        let link = tokio::select! {
            biased;
            () = &mut *killed => return Ok(Err(NotStarted::Killed)),
            link = self.request_shim(&descriptors, spec) => link?,
        };
        // Only the shim may hold these now, so that their end is its end.
        drop((shims, payload_stdout, payload_stderr));
        let payload_bytes = wire::encode_payload(payload);
        tokio::select! {
            biased;
            () = &mut *killed => return Ok(Err(NotStarted::Killed)),
            // A shim that died early is found when reading.
            _ = shim.write_all(&payload_bytes) => {}
        }
        drop(payload_bytes);
        let program = payload.arguments.first().map(|text| String::from_utf8_lossy(text).into_owned());
        let parts = ContainerParts {
            id: spec.id.clone(),
            program: program.unwrap_or_default(),
            home: home.to_owned(),
            working_directory: spec.working_directory.clone(),
            isolation: self.isolation,
            shim,
            stdout,
            stderr,
            log,
            link,
        };
        Ok(ProcessContainer::start(parts, killed).await)
    }

    /// Hands the descriptors to the spawner; makes a new spawner once if that one is gone.
    async fn request_shim(
        &self,
        descriptors: &[std::os::fd::BorrowedFd<'_>; 3],
        spec: &ContainerSpec,
    ) -> Result<Arc<SpawnerLink>, Error> {
        let mut link = self.link.lock().await;
        let mut result = link.request(descriptors).await;
        if matches!(result, Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN)) {
            tracing::warn!("the shim spawner was killed; starting another");
            *link = Arc::new(SpawnerLink::start(&self.options, self.open_files).await?);
            self.fence_by(link.clone());
            result = link.request(descriptors).await;
        }
        match result {
            Ok(()) => Ok(link.clone()),
            Err(errno) => Err(Error::StartResources {
                container: spec.id.container_name().to_owned(),
                action: "ask for a shim",
                source: errno.into(),
            }),
        }
    }
}

impl Host {
    /// A new spawner is told what the old one was.
    fn fence_by(&self, link: Arc<SpawnerLink>) {
        let mut fenced = self.lock_fenced();
        link.fence(fenced.moment);
        fenced.link = link;
    }

    fn lock_fenced(&self) -> std::sync::MutexGuard<'_, Fenced> {
        // Whole after any panic.
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner)
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
            Isolation::NamespaceWithProc => [Feature::PidNamespaces, Feature::MountNamespaces].into(),
            Isolation::NamespaceOnly => [Feature::PidNamespaces].into(),
            Isolation::Degraded => BTreeSet::new(),
        }
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>> {
        // Containers die with the process that started them.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn set_deadline(&self, moment: Duration) {
        let moment = Some(moment).filter(|moment| *moment != Duration::MAX);
        let mut fenced = self.host.lock_fenced();
        fenced.moment = moment;
        fenced.link.fence(moment);
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
                     processes that it put in the background may survive, and containers of an agent that is \
                     stopped go on; run the agent as root or with CAP_SYS_ADMIN"
                ),
            }]
        }
    }
}

/// A pipe for output: our end never blocks, the payload's does, and neither survives an exec by accident.
fn output_pipe() -> io::Result<(pipe::Receiver, std::os::fd::OwnedFd)> {
    let (ours, payloads) = pipe2(OFlag::O_CLOEXEC)?;
    // Sets O_NONBLOCK on this end only.
    Ok((pipe::Receiver::from_owned_fd(ours)?, payloads))
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
