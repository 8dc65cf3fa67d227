//! What earlier agents of this node left, and what nobody needs any more.
//!
//! Owns: finding both by labels. Does not own: how containers are looked after.

use super::Shared;
use super::api::{Container, ContainerState, PodSandbox};
use super::config::{PodFacts, container_facts, pod_uid};
use super::container::{CriContainer, Facts, time_of};
use super::engine::Refusal;
use super::sandbox::CriSandbox;
use crate::container_id::check_pod_uid;
use crate::{Error, RecoveredPod, RunningContainer, limits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See [`Runtime::recover`](crate::Runtime::recover).
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Vec<RecoveredPod>, Error> {
    let engine = &shared.engine;
    let sandboxes = engine.sandboxes(shared.labels()).await.map_err(|refusal| engine.error(refusal))?;
    let mut containers = shared.containers().await?;
    if !shared.guard.was_guarded() && !containers.is_empty() {
        // Nobody can tell until when these may run, so they may not.
        tracing::warn!("containers of an earlier agent are killed: their guard is gone");
        let cgroups = shared.cgroups.clone();
        let kill = tokio::task::spawn_blocking(move || {
            let patience = Duration::from_millis(limits::KILL_PATIENCE_MS);
            for uid in cgroups.pods() {
                cgroups.kill_pod(&uid, patience);
            }
        });
        let _ = kill.await;
        for container in
            containers.iter().filter(|container| container.state() == ContainerState::ContainerRunning)
        {
            stop(shared, container).await?;
        }
        containers = shared.containers().await?;
    }
    let mut by_pod: BTreeMap<String, Vec<PodSandbox>> = BTreeMap::new();
    for sandbox in sandboxes {
        match pod_uid(&sandbox.labels).filter(|uid| check_pod_uid(uid).is_ok()) {
            Some(uid) if PodFacts::from_annotations(&sandbox.annotations).is_some() => {
                by_pod.entry(uid.to_owned()).or_default().push(sandbox);
            }
            _ => {
                tracing::warn!(sandbox = sandbox.id, "a sandbox that is not understood is removed");
                engine.remove_sandbox(&sandbox.id).await.map_err(|refusal| engine.error(refusal))?;
            }
        }
    }
    let mut pods = Vec::new();
    for (uid, mut sandboxes) in by_pod {
        let attempt = |sandbox: &PodSandbox| sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        sandboxes.sort_by_key(attempt);
        let Some(facts) = sandboxes.last().and_then(|last| PodFacts::from_annotations(&last.annotations))
        else {
            continue;
        };
        let ids: Vec<_> = sandboxes.into_iter().map(|sandbox| sandbox.id).collect();
        let sandbox = CriSandbox::new(shared, facts, ids.clone());
        if let Err(refusal) = sandbox.find_addresses().await {
            tracing::debug!(pod = uid, message = refusal.message, "addresses are not known");
        }
        let mut found = Vec::new();
        for container in containers.iter().filter(|container| ids.contains(&container.pod_sandbox_id)) {
            if let Some(container) = adopt(shared, &uid, container).await? {
                sandbox.insert(container.clone());
                found.push(container as Arc<dyn RunningContainer>);
            }
        }
        shared.lock_pods().insert(uid.clone(), sandbox.clone());
        pods.push(RecoveredPod { pod_uid: uid, sandbox, containers: found });
    }
    let (sources, known) = (shared.sources.clone(), shared.lock_pods().keys().cloned().collect());
    let _ = tokio::task::spawn_blocking(move || sources.sweep(&known)).await;
    shared.recovered.store(true, Ordering::Release);
    Ok(pods)
}

/// Takes a container over; none if it is not understood or never ran, and so removed.
async fn adopt(
    shared: &Arc<Shared>,
    uid: &str,
    container: &Container,
) -> Result<Option<Arc<CriContainer>>, Error> {
    let facts = container_facts(container).filter(|(id, ..)| id.pod_uid() == uid);
    let mut tries = 0;
    let (status, pid) = loop {
        let (status, pid) = match shared.engine.container_status(&container.id).await {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_not_found() => return Ok(None),
            Err(refusal) => return Err(shared.engine.error(refusal)),
        };
        if facts.is_some() && status.state() != ContainerState::ContainerCreated {
            break (status, pid);
        }
        match shared.engine.remove_container(&container.id).await {
            Ok(()) => return Ok(None),
            // The earlier agent may have told the engine to start it, which it does just now.
            Err(refusal) if !refusal.is_silence() && tries < limits::ENGINE_REMOVE_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(limits::ENGINE_RETRY_MS)).await;
            }
            Err(refusal) => return Err(shared.engine.error(refusal)),
        }
    };
    let Some((id, log_limits, stop_signal)) = facts else { return Ok(None) };
    let started_at = time_of(status.started_at);
    let container_id = container.id.clone();
    let facts = Facts { id, container_id, image_ref: status.image_ref, log_limits, stop_signal, started_at };
    Ok(Some(CriContainer::new(shared, facts, pid)))
}

/// Has the engine end a container whose control group is not known by name.
async fn stop(shared: &Shared, container: &Container) -> Result<(), Error> {
    let uid = pod_uid(&container.labels).unwrap_or_default().to_owned();
    let (cgroups, id) = (shared.cgroups.clone(), container.id.clone());
    let kill = move || cgroups.kill_container(&uid, &id, Duration::from_millis(limits::KILL_PATIENCE_MS));
    let _ = tokio::task::spawn_blocking(kill).await;
    Ok(())
}

/// Removes, from time to time, sandboxes that nobody knows of: what is left of starts that failed half-way; and images.
pub(super) async fn collect(shared: Arc<Shared>) {
    let mut suspects: BTreeSet<String> = BTreeSet::new();
    loop {
        tokio::time::sleep(Duration::from_millis(limits::ENGINE_COLLECT_MS)).await;
        if shared.recovered.load(Ordering::Acquire)
            && let Ok(sandboxes) = shared.engine.sandboxes(shared.labels()).await
        {
            let known: BTreeSet<_> = shared.lock_pods().values().flat_map(|pod| pod.ids()).collect();
            let unknown: BTreeSet<_> =
                sandboxes.into_iter().map(|sandbox| sandbox.id).filter(|id| !known.contains(id)).collect();
            // Seen twice, so that it is none that is just being made.
            for id in unknown.intersection(&suspects) {
                tracing::info!(sandbox = id, "a sandbox of nobody is removed");
                if let Err(refusal) = shared.engine.remove_sandbox(id).await {
                    tracing::warn!(sandbox = id, message = refusal.message, "it can't be removed");
                }
            }
            suspects = unknown;
        }
        if let Err(refusal) = collect_images(&shared).await {
            tracing::warn!(message = refusal.message, "images can't be given up");
        }
    }
}

/// Removes images that no container uses, if their disk is too full.
pub(super) async fn collect_images(shared: &Shared) -> Result<(), Refusal> {
    // Of all users of the engine.
    let containers = shared.engine.containers(BTreeMap::new()).await?;
    let in_use = containers.into_iter().map(|container| container.image_ref).collect();
    shared.images.collect(&in_use).await
}
