//! What the containers of a Pod share, and how they are started.
//!
//! Owns: the Pod's sandbox in the engine, the steps of a start and what is left when one fails. Does not own: what follows a
//! start (`container`).

use super::api::{CreateContainerRequest, NamespaceMode, PodSandboxConfig, PodSandboxState};
use super::config::{PodFacts, container_config};
use super::container::{CriContainer, Facts, time_of};
use super::engine::Refusal;
use super::guard_process::now;
use super::{NAME, Shared};
use crate::container_id::check_pod_uid;
use crate::{
    BoxFuture, ContainerId, ContainerSpec, Error, Exit, ExitReason, ImageSpec, PodSandbox, PodSandboxSpec,
    Rootfs, RunningContainer, Usage, limits,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Runs of a container whose names are told apart from those of further tries.
const RUNS_BITS: u32 = 20;

/// A Pod in the engine.
pub(super) struct CriSandbox {
    pub uid: String,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// One change of the sandbox at a time.
    changing: tokio::sync::Mutex<()>,
}

struct State {
    facts: PodFacts,
    /// The engine's ids, the last one in use; more than one if a sandbox was killed from outside and another made.
    ids: Vec<String>,
    addresses: Vec<IpAddr>,
    containers: BTreeMap<ContainerId, Arc<CriContainer>>,
    /// How many containers of a run were given up. The engine may have them still, and takes no two of one name.
    discarded: BTreeMap<ContainerId, u32>,
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

    /// Has one of its containers looked after.
    pub fn insert(&self, container: Arc<CriContainer>) {
        self.lock_state().containers.insert(container.id().clone(), container);
    }

    fn config(&self) -> PodSandboxConfig {
        let directory = self.shared.logs.pod_directory(&self.uid);
        let parent = self.shared.cgroups.engine_parent(&self.uid);
        self.lock_state().facts.sandbox_config(&self.shared.node_uid, &directory, parent)
    }

    /// Makes a sandbox in the engine. To be called with `changing` held.
    async fn make(&self) -> Result<(), Error> {
        let engine = &self.shared.engine;
        let refused = |refusal| engine.error(refusal);
        let config = self.config();
        self.make_log_folder()?;
        let id = engine.run_sandbox(config).await.map_err(refused)?;
        self.lock_state().ids.push(id.clone());
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
    async fn ready(&self) -> Result<String, Error> {
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
                return Ok(id);
            }
            self.lock_state().facts.attempt += 1;
        }
        self.make().await?;
        self.lock_state().ids.last().cloned().ok_or_else(|| Error::NotRunning { container: self.uid.clone() })
    }

    /// Everything about a start but giving it up when nobody waits for it any more.
    async fn start_container(
        self: Arc<Self>,
        spec: ContainerSpec,
        mut killed: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn RunningContainer>, Error> {
        let shared = self.shared.clone();
        let container = || spec.id.container_name().to_owned();
        let longest = Duration::from_millis(limits::ENGINE_SANDBOX_MS);
        let patience =
            || spec.start_before.map_or(longest, |moment| moment.saturating_sub(now()).min(longest));
        let prepared = async {
            // Never closed.
            let permit = shared.starts.acquire().await;
            // For one that waited too long the engine need do nothing.
            if patience().is_zero() {
                return Err(Error::StartTooLate { container: container() });
            }
            self.create(&spec).await.map(|created| (permit, created))
        };
        let (_permit, (container_id, stop_signal)) = tokio::select! {
            biased;
            // What was made of it is not started, and goes with its Pod.
            () = &mut killed => return Err(Error::StartKilled { container: container() }),
            prepared = prepared => prepared?,
        };
        let patience = patience();
        if patience.is_zero() {
            self.discard(&spec.id, container_id);
            return Err(Error::StartTooLate { container: container() });
        }
        let started = tokio::select! {
            biased;
            () = &mut killed => None,
            started = shared.engine.start_container(&container_id, patience) => Some(started),
        };
        let refusal = match started {
            Some(Ok(())) => {
                let facts = Facts {
                    id: spec.id.clone(),
                    container_id,
                    image_ref: String::new(),
                    log_limits: spec.log_limits,
                    stop_signal,
                    started_at: None,
                };
                return Ok(self.started(facts).await);
            }
            Some(Err(refusal)) => Some(refusal),
            None => None,
        };
        match refusal {
            Some(refusal) if !refusal.is_silence() => self.not_started(&spec, container_id, refusal).await,
            silence => {
                self.condemn(&spec.id, container_id).await;
                Err(match silence {
                    None => Error::StartKilled { container: container() },
                    Some(_) if spec.start_before.is_some_and(|moment| now() >= moment) => {
                        Error::StartTooLate { container: container() }
                    }
                    Some(refusal) => resources_error(&spec, refusal.message),
                })
            }
        }
    }

    /// Makes a container in the engine; answers the engine's id and its stop signal.
    async fn create(&self, spec: &ContainerSpec) -> Result<(String, Option<i32>), Error> {
        let engine = &self.shared.engine;
        let Some(image) = &spec.image else {
            let what = format!("container {:?} has no image", spec.id.container_name());
            return Err(Error::Unsupported { runtime: NAME, what });
        };
        let policy = &self.shared.policy;
        policy.check_container(Rootfs::Image, spec).map_err(|violation| Error::NotAllowed {
            of: format!("container {:?}", spec.id.container_name()),
            violation,
        })?;
        let image = self.shared.images.get(image).await?;
        let facts = self.lock_state().facts.clone();
        let is_v2 = self.shared.cgroups.is_v2();
        let mut spec = spec.clone();
        let processes = spec.resources.processes_max.into_iter().chain(policy.processes_per_container);
        spec.resources.processes_max = processes.min();
        let (sources, directory) = (self.shared.sources.clone(), facts.directory.clone());
        let holding = tokio::task::spawn_blocking(move || {
            sources.hold(&directory, &spec.id, &mut spec.mounts).map(|()| spec)
        });
        let spec = holding.await.unwrap_or_else(|failure| {
            let source = io::Error::other(failure.to_string());
            let container = self.uid.clone();
            Err(Error::StartResources { container, action: "hold what it sees of the host", source })
        })?;
        let mut config =
            container_config(&facts, &spec, &self.shared.node_uid, &image.id, image.user, is_v2)?;
        let tries = self.lock_state().discarded.get(&spec.id).copied().unwrap_or(0);
        if let Some(metadata) = &mut config.metadata {
            // A part of its name and of nothing else: which run it is stands in its labels.
            metadata.attempt = metadata.attempt.wrapping_add(tries << RUNS_BITS);
        }
        self.remove_earlier_runs(&spec.id).await;
        let request = CreateContainerRequest {
            pod_sandbox_id: self.ready().await?,
            config: Some(config),
            sandbox_config: Some(self.config()),
        };
        match engine.create_container(request).await {
            Ok(id) => Ok((id, spec.stop_signal.or(image.stop_signal))),
            Err(refusal) => Err(engine.error(refusal)),
        }
    }

    /// The engine need not keep those whose end was told.
    async fn remove_earlier_runs(&self, id: &ContainerId) {
        let earlier: Vec<_> = {
            let state = self.lock_state();
            let same =
                state.containers.values().filter(|other| other.id().container_name() == id.container_name());
            same.filter(|other| other.has_ended()).cloned().collect()
        };
        for container in earlier {
            if self.shared.engine.remove_container(container.container_id()).await.is_ok() {
                self.lock_state().containers.remove(container.id());
            }
        }
    }

    async fn started(&self, mut facts: Facts) -> Arc<dyn RunningContainer> {
        let mut pid = None;
        let mut started_at = SystemTime::now();
        // Without an answer it is looked after all the same, by the list.
        if let Ok((status, its_pid)) = self.shared.engine.container_status(&facts.container_id).await {
            pid = its_pid;
            started_at = time_of(status.started_at).unwrap_or(started_at);
            facts.image_ref = status.image_ref;
        }
        facts.started_at = Some(started_at);
        let container = CriContainer::new(&self.shared, facts, pid);
        self.insert(container.clone());
        container
    }

    /// The engine could not start it: for the container's own reasons, which is an end, or for its own.
    async fn not_started(
        &self,
        spec: &ContainerSpec,
        container_id: String,
        refusal: Refusal,
    ) -> Result<Arc<dyn RunningContainer>, Error> {
        // Whatever the reason, nothing of it may be left.
        let Some((exit_code, message)) = start_failure(&refusal.message) else {
            self.condemn(&spec.id, container_id).await;
            return Err(resources_error(spec, refusal.message));
        };
        self.discard(&spec.id, container_id.clone());
        let exit = Exit {
            exit_code,
            signal: None,
            reason: ExitReason::StartError,
            message,
            finished_at: SystemTime::now(),
            log_bytes_dropped: 0,
            fenced: false,
        };
        let facts = Facts {
            id: spec.id.clone(),
            container_id,
            image_ref: String::new(),
            log_limits: spec.log_limits,
            stop_signal: None,
            started_at: None,
        };
        Ok(CriContainer::never_ran(&self.shared, facts, exit))
    }

    /// Resolves when nothing of a container runs, and nothing will, whatever the engine still does.
    async fn condemn(&self, run: &ContainerId, container_id: String) {
        let (cgroups, uid, id) = (self.shared.cgroups.clone(), self.uid.clone(), container_id.clone());
        let condemned = tokio::task::spawn_blocking(move || {
            cgroups.condemn_container(&uid, &id);
            cgroups.kill_container(&uid, &id, Duration::from_millis(limits::KILL_PATIENCE_MS))
        });
        let _ = condemned.await;
        self.discard(run, container_id);
    }

    /// Removes a container in the background, until the engine confirms it; kills what the engine starts of it meanwhile.
    fn discard(&self, run: &ContainerId, container_id: String) {
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        *self.lock_state().discarded.entry(run.clone()).or_default() += 1;
        tokio::spawn(async move {
            let (cgroups, id) = (shared.cgroups.clone(), container_id.clone());
            let remove = async {
                while shared.engine.remove_container(&container_id).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(limits::ENGINE_RETRY_MS)).await;
                }
            };
            // While the engine works too: it waits for the end of what it killed, and what is frozen does not end by that.
            let kill = async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(limits::CONDEMNED_PASS_MS)).await;
                    let (cgroups, uid, id) = (cgroups.clone(), uid.clone(), id.clone());
                    let pass = move || cgroups.kill_container(&uid, &id, Duration::ZERO);
                    let _ = tokio::task::spawn_blocking(pass).await;
                }
            };
            tokio::select! {
                () = remove => {}
                () = kill => {}
            }
        });
    }

    /// An engine that has not yet noticed that something was killed refuses to remove it.
    async fn remove_sandbox(&self, id: &str) -> Result<(), Refusal> {
        let mut tries = 0;
        loop {
            match self.shared.engine.remove_sandbox(id).await {
                Err(refusal) if !refusal.is_silence() && tries < limits::ENGINE_REMOVE_TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(limits::ENGINE_RETRY_MS)).await;
                }
                other => return other,
            }
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
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
        let killed = Box::pin(async move {
            tokio::select! {
                () = killed => {}
                _ = nobody_waits => {}
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
            for id in self.ids() {
                self.remove_sandbox(&id).await.map_err(|refusal| self.shared.engine.error(refusal))?;
            }
            let (sources, uid) = (self.shared.sources.clone(), self.uid.clone());
            let _ = tokio::task::spawn_blocking(move || sources.release_pod(&uid)).await;
            self.shared.cgroups.remove_pod(&self.uid);
            self.lock_state().containers.clear();
            self.shared.lock_pods().remove(&self.uid);
            Ok(())
        })
    }
}

fn resources_error(spec: &ContainerSpec, message: String) -> Error {
    let container = spec.id.container_name().to_owned();
    Error::StartResources { container, action: "have the engine start it", source: io::Error::other(message) }
}

/// Exit code and message, if the container itself is the reason why it can't be started (as shells have it: 127 if there is no
/// such program, 126 if it can't be executed). `None`: the host lacks something, and another try may succeed.
fn start_failure(message: &str) -> Option<(i32, String)> {
    let has = |text: &str| message.contains(text);
    let lacks = [
        "resource temporarily unavailable",
        "cannot allocate memory",
        "too many open files",
        "no space left",
    ];
    if lacks.iter().any(|text| has(text)) {
        return None;
    }
    // The engine's own words come last.
    let shown = message.rsplit("runc create failed: ").next().unwrap_or(message).to_owned();
    let exit_code = if has("executable file not found") || (has("exec") && has("no such file or directory")) {
        127
    } else if has("permission denied") || has("exec format error") || has("is a directory") {
        126
    } else {
        128
    };
    Some((exit_code, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_the_container_are_ends_and_those_of_the_host_are_not() {
        let runc = |text: &str| {
            format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: {text}: unknown"
            )
        };
        let check = |text: &str, expected: Option<i32>| {
            assert_eq!(start_failure(&runc(text)).map(|(code, _)| code), expected, "{text}");
        };
        check(
            r#"unable to start container process: exec: "nope": executable file not found in $PATH"#,
            Some(127),
        );
        check(
            r#"unable to start container process: exec: "/nope": stat /nope: no such file or directory"#,
            Some(127),
        );
        check(r#"unable to start container process: exec: "/etc/passwd": permission denied"#, Some(126));
        check("error mounting \"/x\" to rootfs at \"/y\": not a directory", Some(128));
        check(
            "unable to start container process: fork/exec /proc/self/exe: resource temporarily unavailable",
            None,
        );
        let (_, shown) = start_failure(&runc("exec: \"nope\": executable file not found in $PATH")).unwrap();
        assert!(shown.starts_with("exec: \"nope\""), "{shown}");
    }
}
