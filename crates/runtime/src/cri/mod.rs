//! The `cri` runtime: containers by the engine of the host, containerd or CRI-O.
//!
//! Owns: Pods and containers as the engine has them, from their making to their removal; the guard that holds the lease for them.
//! Does not own: images' layers, namespaces, output on its way to a file: the engine does all that; when and what is started.
//!
//! ```text
//! agent ── CRI v1, unix socket ──► engine ──► its shim ──► containers, below one control group of this agent's
//!   ├────► relay ── starts ──────────▲                              ▲
//!   └────► guard ────────────────────────── kills ─────────────────┘
//! ```
//!
//! Everything made here carries the node's uid in a label. Containers outlive the agent and the engine; another agent of the
//! same node finds them by that label. What is found and not understood is killed and removed. The engine is asked for
//! everything but two things, which do not wait for it: killing, which goes to the control group, and signals, which go to the
//! main process.
//!
//! A start that the engine does not answer in time may still be carried out, by an engine that was stopped and goes on. Such a
//! container is *condemned*: its control group is frozen, so that what is started in it does not run, until the engine has
//! confirmed its removal (A9); if it has run meanwhile, that was the run, and it is not begun again. The guard does the same to
//! whole Pods when the lease has run out (A13).

mod attach;
mod cgroup;
mod config;
mod container;
mod engine;
mod engine_faults;
mod exec;
mod guard;
mod guard_process;
mod health;
mod images;
mod ledger;
mod logs;
mod meeting;
mod orphans;
mod recovery;
mod relay;
mod removal;
mod sandbox;
mod sources;
mod start;

/// Messages and the client of the engines' interface.
#[allow(missing_docs, clippy::all, reason = "generated")]
mod api {
    tonic::include_proto!("runtime.v1");
}

pub(crate) use cgroup::parent_groups;
pub use config::CriNetwork;
pub(crate) use guard_process::maybe_run_guard;
pub(crate) use relay::maybe_run_relay;

use crate::{
    BoxFuture, Condition, ContainerId, Error, Feature, ImageDisk, LogLimits, LogStore, NodePolicy,
    PodSandbox, PodSandboxSpec, RecoveredPod, RegistryMirror, Runtime, limits,
};
use api::ContainerState;
use cgroup::{CgroupDriver, PodCgroups};
use engine::Engine;
use guard::Guard;
use health::Health;
use images::Images;
use ledger::Ledger;
use logs::EngineLog;
use meeting::Meeting;
use sandbox::CriSandbox;
use sources::Sources;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tonic::Code;

/// What a node calls this runtime.
pub(super) const NAME: &str = "cri";

/// How a [`CriRuntime`] is set up.
#[derive(Debug, Clone)]
pub struct CriRuntimeOptions {
    /// Address of the engine, `unix:///PATH`.
    pub socket: String,
    /// The node's uid: what is labelled with it in the engine is this agent's.
    pub node_uid: String,
    /// Folder of the guard's locks, and of what containers see of the host; made if missing. No volume shows it.
    pub directory: PathBuf,
    /// Where output goes.
    pub logs: LogStore,
    /// A binary that calls [`maybe_run_shim`](crate::maybe_run_shim). `None`: the running one.
    pub guard_program: Option<PathBuf>,
    /// Where Pods get their network from.
    pub network: CriNetwork,
    /// Credentials of registries, a file as `docker login` writes it. It is read at each pull.
    pub credentials: Option<PathBuf>,
    /// Other places to fetch images from, tried before the registries themselves. Whether an address is asked without TLS is the
    /// engine's to know; those of loopback are.
    pub mirrors: Vec<RegistryMirror>,
    /// When images that no container of the engine uses are removed.
    pub image_disk: ImageDisk,
    /// Images that were asked for within this time are not: they may be about to be started.
    pub image_age_min: Duration,
    /// What Pods may ask for.
    pub policy: NodePolicy,
    /// Says whether an agent of this host has a node uid. With it, what nodes that have none left in the engine is removed: those
    /// whose data folder was lost. `None`: it stays.
    pub owners: Option<NodeOwners>,
    /// How often it is looked for what is nobody's, and for images that nobody uses.
    pub collect_pause: Duration,
}

/// Answers whether an agent that lives on this host has a node uid.
pub type NodeOwners = fn(node_uid: &str) -> bool;

impl CriRuntimeOptions {
    /// With the usual choices.
    pub fn new(socket: &str, node_uid: &str, directory: PathBuf, logs: LogStore) -> CriRuntimeOptions {
        CriRuntimeOptions {
            socket: socket.to_owned(),
            node_uid: node_uid.to_owned(),
            directory,
            logs,
            guard_program: None,
            network: CriNetwork::Host,
            credentials: None,
            mirrors: Vec::new(),
            image_disk: ImageDisk::default(),
            image_age_min: Duration::from_millis(limits::IMAGE_UNUSED_MS),
            policy: NodePolicy::default(),
            owners: None,
            collect_pause: Duration::from_millis(limits::ENGINE_COLLECT_MS),
        }
    }
}

/// Runs containers by the engine of the host. Dropping it ends nothing: containers go on, under their guard.
pub struct CriRuntime {
    meeting: Arc<Meeting>,
    logs: LogStore,
}

/// What Pods and containers need of their runtime.
struct Shared {
    engine: Engine,
    /// Such as `containerd`.
    engine_name: String,
    cgroups: PodCgroups,
    guard: Guard,
    images: Images,
    logs: LogStore,
    node_uid: String,
    network: CriNetwork,
    policy: NodePolicy,
    sources: Sources,
    ledger: Ledger,
    owners: Option<NodeOwners>,
    collect_pause: Duration,
    pods: Mutex<HashMap<String, Arc<CriSandbox>>>,
    starts: Semaphore,
    /// State of all containers of this node, by the engine's ids, as it was listed last.
    states: watch::Sender<Arc<HashMap<String, ContainerState>>>,
    /// Somebody knows that a list would show something new.
    list_now: Notify,
    /// What an earlier agent left was looked for: what nobody knows since then is nobody's.
    recovered: AtomicBool,
    /// This process ends, and what it has asked for goes on.
    is_let_go: AtomicBool,
    /// How the engine is.
    health: Health,
}

impl CriRuntime {
    /// Connects to the engine and starts the guard. An engine that can't be used just now is waited for, in the background: the
    /// node says so meanwhile, no Pod can be opened, and what an earlier agent left goes on under its guard.
    ///
    /// Must be called within a tokio runtime, which must live as long as the result. Needs root: the engine's socket and
    /// control groups are root's.
    ///
    /// # Errors
    /// If the socket is no address, the guard can't be started, or the engine does not answer and it is not known what it runs.
    pub async fn new(options: CriRuntimeOptions) -> Result<CriRuntime, Error> {
        let logs = options.logs.clone();
        Ok(CriRuntime { meeting: Meeting::begin(options).await?, logs })
    }

    /// Removes images that no container uses, oldest use first, if their disk is too full: what is done from time to time anyway.
    pub async fn collect_images(&self) -> Result<(), Error> {
        let shared = self.meeting.shared()?;
        recovery::collect_images(shared).await.map_err(|refusal| shared.engine.error(refusal))
    }

    /// Where output goes.
    pub fn logs(&self) -> &LogStore {
        &self.logs
    }
}

impl Drop for CriRuntime {
    fn drop(&mut self) {
        self.meeting.end();
    }
}

impl Runtime for CriRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn conditions(&self) -> Vec<Condition> {
        self.meeting.conditions()
    }

    fn image_folders(&self) -> Vec<PathBuf> {
        self.meeting.shared().map(|shared| shared.health.image_folders()).unwrap_or_default()
    }

    fn features(&self) -> BTreeSet<Feature> {
        let cgroups = if self.meeting.has_unified_groups { Feature::CgroupsV2 } else { Feature::CgroupsV1 };
        [
            Feature::PidNamespaces,
            Feature::MountNamespaces,
            cgroups,
            Feature::Users,
            Feature::Images,
            Feature::Exec,
        ]
        .into()
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>> {
        Box::pin(async move {
            match self.meeting.shared() {
                Ok(shared) => recovery::recover(shared).await,
                // It never was met.
                Err(_) => Ok(Vec::new()),
            }
        })
    }

    fn may_have_run(&self, _: &Path, run: &ContainerId) -> bool {
        self.meeting.shared().is_ok_and(|shared| shared.ledger.has_run(run))
    }

    fn let_go(&self) {
        if let Ok(shared) = self.meeting.shared() {
            shared.is_let_go.store(true, Ordering::Release);
        }
    }

    fn set_deadline(&self, moment: Duration) {
        self.meeting.set_deadline(moment);
    }

    fn open_pod(&self, spec: PodSandboxSpec) -> BoxFuture<'_, Result<Arc<dyn PodSandbox>, Error>> {
        Box::pin(async move {
            let sandbox = CriSandbox::open(self.meeting.shared()?, spec).await?;
            Ok(sandbox as Arc<dyn PodSandbox>)
        })
    }
}

impl Shared {
    fn labels(&self) -> BTreeMap<String, String> {
        [(config::NODE_UID.to_owned(), self.node_uid.clone())].into()
    }

    /// What the engine writes of a run.
    fn log_of(&self, run: &ContainerId, log_limits: LogLimits) -> EngineLog {
        EngineLog::new(self.logs.pod_directory(run.pod_uid()), run, log_limits)
    }

    /// Nothing of a Pod is left in the engine: what stood around it goes, and what the engine had lost sight of.
    async fn forget_pod(&self, uid: String) {
        let (sources, cgroups, ledger) = (self.sources.clone(), self.cgroups.clone(), self.ledger.clone());
        let forget = move || {
            if cgroups.runs_pod(&uid) {
                cgroups.kill_pod(&uid, Duration::from_millis(limits::KILL_PATIENCE_MS));
            }
            sources.release_pod(&uid);
            cgroups.remove_pod(&uid);
            ledger.forget_pod(&uid);
        };
        let _ = tokio::task::spawn_blocking(forget).await;
    }

    fn lock_pods(&self) -> MutexGuard<'_, HashMap<String, Arc<CriSandbox>>> {
        // A map is whole after any panic.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the states of all containers fresh, for those that nothing faster tells of.
async fn list_states(shared: Arc<Shared>) {
    loop {
        // Nobody waits: nothing to ask for.
        if shared.states.receiver_count() > 0
            && let Ok(containers) = shared.engine.containers(shared.labels()).await
        {
            let states = containers.into_iter().map(|container| {
                let state = container.state();
                (container.id, state)
            });
            shared.states.send_replace(Arc::new(states.collect()));
        }
        let pause = tokio::time::sleep(Duration::from_millis(limits::ENGINE_LIST_MS));
        tokio::select! {
            () = pause => {}
            () = shared.list_now.notified() => {}
        }
    }
}

/// Has the states listed when the engine tells of a container, if it can.
async fn follow_events(shared: Arc<Shared>) {
    loop {
        match shared.engine.events().await {
            Ok(mut events) => {
                while let Ok(Some(_)) = events.message().await {
                    shared.list_now.notify_one();
                }
            }
            Err(refusal) if refusal.code == Code::Unimplemented => return,
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(limits::ENGINE_LIST_MS)).await;
    }
}
