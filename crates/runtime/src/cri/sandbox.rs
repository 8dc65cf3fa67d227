//! What the containers of a Pod share.
//!
//! Owns: the Pod's sandbox in the engine, and what is known of its containers. Does not own: the steps of a start (`start`), what
//! follows one (`container`).

use super::api::{NamespaceMode, PodSandboxConfig, PodSandboxState};
use super::config::PodFacts;
use super::container::CriContainer;
use super::engine::Refusal;
use super::removal::remove_sandbox;
use super::{NAME, Shared};
use crate::cgroups::cpu_shares;
use crate::container_id::check_pod_uid;
use crate::{
    BoxFuture, ContainerId, ContainerSpec, Error, ImageSpec, PodSandbox, PodSandboxSpec, Rootfs,
    RunningContainer, Usage, limits,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// A Pod in the engine.
pub(super) struct CriSandbox {
    pub uid: String,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
    /// One change of the sandbox at a time.
    changing: tokio::sync::Mutex<()>,
}

pub(super) struct State {
    pub facts: PodFacts,
    /// The engine's ids, the last one in use; more than one if a sandbox was killed from outside and another made.
    pub ids: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub containers: BTreeMap<ContainerId, Arc<CriContainer>>,
    /// How many containers of a run were given up. The engine may have them still, and takes no two of one name.
    pub discarded: BTreeMap<ContainerId, u32>,
}

impl CriSandbox {
    /// Makes a Pod's sandbox, or answers the one that there is.
    pub async fn open(shared: &Arc<Shared>, spec: PodSandboxSpec) -> Result<Arc<CriSandbox>, Error> {
        check_pod_uid(&spec.uid)?;
        let policy = &shared.policy;
        policy
            .check_pod(Rootfs::Image, &spec)
            .map_err(|violation| Error::NotAllowed { of: format!("pod {:?}", spec.name), violation })?;
        let facts = PodFacts::new(&spec, shared.network);
        let sandbox = {
            let mut pods = shared.lock_pods();
            let sandbox =
                pods.entry(spec.uid.clone()).or_insert_with(|| CriSandbox::new(shared, facts, Vec::new()));
            sandbox.clone()
        };
        let changing = sandbox.changing.lock().await;
        if sandbox.lock_state().ids.is_empty() {
            // Of all its containers together, where the engine is not told of each.
            if let Some(processes_max) = spec.resources.processes_max.or(policy.processes_per_container) {
                shared.cgroups.limit_processes(&spec.uid, processes_max).map_err(|source| {
                    Error::StartResources {
                        container: spec.uid.clone(),
                        action: "limit the processes of its Pod",
                        source,
                    }
                })?;
            }
            if let Err(error) = sandbox.make().await {
                drop(changing);
                shared.lock_pods().remove(&spec.uid);
                shared.cgroups.remove_pod(&spec.uid);
                return Err(error);
            }
            let shares = cpu_shares(&spec.resources);
            if let Err(error) = shared.cgroups.set_cpu_shares(&spec.uid, shares) {
                tracing::warn!(pod.uid = spec.uid, %error, "a pod gets as much processor time as any, whatever it requests");
            }
        }
        drop(changing);
        Ok(sandbox)
    }

    /// One that an earlier agent made, or none yet.
    pub fn new(shared: &Arc<Shared>, facts: PodFacts, ids: Vec<String>) -> Arc<CriSandbox> {
        Arc::new(CriSandbox {
            uid: facts.uid.clone(),
            shared: shared.clone(),
            state: Mutex::new(State {
                facts,
                ids,
                addresses: Vec::new(),
                containers: BTreeMap::new(),
                discarded: BTreeMap::new(),
            }),
            changing: tokio::sync::Mutex::new(()),
        })
    }

    /// The engine's ids of its sandboxes.
    pub fn ids(&self) -> Vec<String> {
        self.lock_state().ids.clone()
    }

    /// The engine's ids of its containers that are looked after.
    pub fn container_ids(&self) -> Vec<String> {
        self.lock_state().containers.values().map(|one| one.container_id().to_owned()).collect()
    }

    /// Has one of its containers looked after.
    pub fn insert(&self, container: Arc<CriContainer>) {
        self.lock_state().containers.insert(container.id().clone(), container);
    }

    pub(super) fn config(&self) -> PodSandboxConfig {
        let directory = self.shared.logs.pod_directory(&self.uid);
        let parent = self.shared.cgroups.engine_parent(&self.uid);
        self.lock_state().facts.sandbox_config(&self.shared.node_uid, &directory, parent)
    }

    /// Makes a sandbox in the engine. To be called with `changing` held.
    async fn make(&self) -> Result<(), Error> {
        let engine = &self.shared.engine;
        let refused = |refusal| engine.error(refusal);
        let config = self.config();
        self.reprieve().await?;
        self.make_log_folder()?;
        let id = engine.run_sandbox(config).await.map_err(refused)?;
        self.lock_state().ids.push(id.clone());
        if let Err(source) = self.keep().await {
            let _ = engine.remove_sandbox(&id).await;
            self.lock_state().ids.pop();
            let container = self.uid.clone();
            return Err(Error::StartResources { container, action: "write down its sandbox", source });
        }
        if !self.shared.cgroups.has_pod(&self.uid) {
            // The guard would never find it.
            let _ = engine.remove_sandbox(&id).await;
            self.lock_state().ids.pop();
            let what = format!(
                "the engine does not put Pods below the control group {:?} that it was told: leases would not hold",
                self.shared.cgroups.engine_parent(&self.uid)
            );
            return Err(Error::Unsupported { runtime: NAME, what });
        }
        self.find_addresses().await.map_err(refused)
    }

    /// A lease that ran out before anything of the Pod began is no reason why nothing may begin under the next one. But what the
    /// engine would put into a group that is frozen is never through, and holds the engine up.
    ///
    /// # Errors
    /// If something has begun: that lease was its last.
    async fn reprieve(&self) -> Result<(), Error> {
        let (cgroups, ledger, uid) =
            (self.shared.cgroups.clone(), self.shared.ledger.clone(), self.uid.clone());
        let reprieved = move || {
            if !cgroups.is_condemned(&uid) {
                return true;
            }
            if ledger.has_runs(&uid) {
                return false;
            }
            cgroups.reprieve_pod(&uid, Duration::from_millis(limits::KILL_PATIENCE_MS));
            true
        };
        match tokio::task::spawn_blocking(reprieved).await {
            Ok(true) | Err(_) => Ok(()),
            Ok(false) => Err(Error::NotRunning { container: self.uid.clone() }),
        }
    }

    /// Writes down what an agent needs to know that finds the engine down.
    async fn keep(&self) -> io::Result<()> {
        let (facts, ids) = {
            let state = self.lock_state();
            (state.facts.clone(), state.ids.clone())
        };
        let ledger = self.shared.ledger.clone();
        blocking(move || ledger.keep_pod(&facts, &ids)).await
    }

    /// Asks which addresses the Pod has.
    pub async fn find_addresses(&self) -> Result<(), Refusal> {
        let Some(id) = self.lock_state().ids.last().cloned() else { return Ok(()) };
        let network = self.shared.engine.sandbox_status(&id).await?.0.network.unwrap_or_default();
        let texts = [network.ip].into_iter().chain(network.additional_ips.into_iter().map(|ip| ip.ip));
        self.lock_state().addresses = texts.filter_map(|text| text.parse().ok()).collect();
        Ok(())
    }

    /// Its network namespace, if that is its own.
    async fn network(&self) -> io::Result<Option<OwnedFd>> {
        let (id, on_host) = {
            let state = self.lock_state();
            (state.ids.last().cloned(), state.facts.network == NamespaceMode::Node)
        };
        if on_host {
            return Ok(None);
        }
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "nothing of the pod runs");
        let id = id.ok_or_else(gone)?;
        let refused = |refusal: Refusal| io::Error::other(refusal.message);
        let (_, pid) = self.shared.engine.sandbox_status(&id).await.map_err(refused)?;
        let pid = pid.ok_or_else(gone)?;
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        // Looked at afterwards, so that the number was not another's when the file was opened.
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        if groups.contains(&id) { Ok(Some(namespace.into())) } else { Err(gone()) }
    }

    /// The engine makes missing folders for anybody to read.
    fn make_log_folder(&self) -> Result<(), Error> {
        use std::os::unix::fs::DirBuilderExt;
        let path = self.shared.logs.pod_directory(&self.uid);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| Error::Log { path, action: "make folder", source })
    }

    /// Id of a sandbox in which containers can be started: another one, if the last was killed from outside.
    pub(super) async fn ready(&self) -> Result<String, Error> {
        let engine = &self.shared.engine;
        let _changing = self.changing.lock().await;
        let last = self.lock_state().ids.last().cloned();
        if let Some(id) = last {
            let state = match engine.sandbox_status(&id).await {
                Ok((status, _)) => status.state(),
                Err(refusal) if refusal.is_not_found() => PodSandboxState::SandboxNotready,
                Err(refusal) => return Err(engine.error(refusal)),
            };
            if state == PodSandboxState::SandboxReady {
                let lacks_addresses = {
                    let state = self.lock_state();
                    state.addresses.is_empty() && state.facts.network == NamespaceMode::Pod
                };
                if lacks_addresses {
                    // The engine was silent when it was taken over.
                    self.find_addresses().await.map_err(|refusal| engine.error(refusal))?;
                }
                return Ok(id);
            }
            self.lock_state().facts.attempt += 1;
        }
        self.make().await?;
        self.lock_state().ids.last().cloned().ok_or_else(|| Error::NotRunning { container: self.uid.clone() })
    }

    pub(super) fn lock_state(&self) -> MutexGuard<'_, State> {
        // Whole after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodSandbox for CriSandbox {
    fn pod_uid(&self) -> &str {
        &self.uid
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.lock_state().addresses.clone()
    }

    fn prepare<'a>(&'a self, image: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { self.shared.images.prepare(image).await.map(drop) })
    }

    fn start(
        &self,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, Result<Arc<dyn RunningContainer>, Error>> {
        // A task of its own, so that it comes to a clean end when nobody waits for it any more.
        let (waits, nobody_waits) = oneshot::channel::<()>();
        let shared = self.shared.clone();
        let killed = Box::pin(async move {
            tokio::select! {
                () = killed => {}
                _ = nobody_waits => {}
            }
            if shared.is_let_go.load(Ordering::Acquire) {
                // What the engine was asked for goes on by itself, and nothing more is asked for.
                std::future::pending::<()>().await;
            }
        });
        let container = spec.id.container_name().to_owned();
        let sandbox = self.shared.lock_pods().get(&self.uid).cloned();
        Box::pin(async move {
            let Some(sandbox) = sandbox else {
                return Err(Error::NotRunning { container: self.uid.clone() });
            };
            let started = tokio::spawn(sandbox.start_container(spec, killed)).await;
            drop(waits);
            started.unwrap_or_else(|failure| {
                let source = io::Error::other(failure.to_string());
                Err(Error::StartResources { container, action: "start it", source })
            })
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async move {
            let containers: Vec<_> = self.lock_state().containers.values().cloned().collect();
            let mut sum = Usage::default();
            for container in containers.iter().filter(|container| !container.has_ended()) {
                let usage = container.usage().await?;
                sum.cpu_nanoseconds += usage.cpu_nanoseconds;
                sum.memory_bytes += usage.memory_bytes;
                sum.processes += usage.processes;
                sum.disk_bytes = Some(sum.disk_bytes.unwrap_or(0) + usage.disk_bytes.unwrap_or(0));
            }
            Ok(sum)
        })
    }

    fn disk_bytes_elsewhere(&self) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            let containers: Vec<_> = self.lock_state().containers.values().cloned().collect();
            let mut sum = 0_u64;
            for container in containers.iter().filter(|container| !container.has_ended()) {
                // An engine that does not say is asked again soon.
                let used = container.usage().await.ok().and_then(|usage| usage.disk_bytes);
                sum = sum.saturating_add(used.unwrap_or(0));
            }
            sum
        })
    }

    fn has_own_host_name(&self) -> bool {
        // On the host's network engines leave containers the host's name, and say so in HOSTNAME themselves.
        self.lock_state().facts.network != NamespaceMode::Node
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move { crate::network::connect(self.network().await?, port).await })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let _changing = self.changing.lock().await;
            let (cgroups, uid) = (self.shared.cgroups.clone(), self.uid.clone());
            // What is frozen does not end by the engine's signals.
            let kill = move || {
                if cgroups.is_condemned(&uid) {
                    cgroups.kill_pod(&uid, Duration::from_millis(limits::KILL_PATIENCE_MS));
                }
            };
            let _ = tokio::task::spawn_blocking(kill).await;
            let mut removed = Ok(());
            for id in self.ids() {
                removed = removed.and(remove_sandbox(&self.shared.engine, &id).await);
            }
            self.lock_state().containers.clear();
            // What the engine refuses now, or is not there to do, is nobody's from now on, and collected.
            self.shared.lock_pods().remove(&self.uid);
            removed.map_err(|refusal| self.shared.engine.error(refusal))?;
            self.shared.forget_pod(self.uid.clone()).await;
            Ok(())
        })
    }
}

/// Does something with files.
pub(super) async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(what)
        .await
        .unwrap_or_else(|failure| Err(io::Error::other(failure.to_string())))
}
