//! What earlier agents of this node left, and what nobody needs any more.
//!
//! Owns: finding both: by labels in the engine, and in the ledger, for what the engine does not list: it does not answer, or has
//! lost it. Does not own: how containers are looked after, what nodes left that are no more (`orphans`).
//!
//! An agent tells of a run that it does not get from here as ended, and it is begun elsewhere at once: nothing of it may run then
//! (R6). So what is on record is taken over whether or not the engine lists it: who looks after a container that its engine has no
//! more kills what is left of it before its end is told. Pods of which nothing is known but that they are there are killed before
//! anything is told.
//!
//! An engine gives up a start when the agent that asked for it is gone. What certainly never began then is removed and not told
//! of, and the next agent starts it anew. What may have begun is removed too, and its end is not known: begun anew it could run
//! twice. Whatever state a container is in, and whatever the engine refuses, the agent goes on.

use super::api::{Container, ContainerState, ContainerStatus, PodSandbox};
use super::config::{NODE_UID, PodFacts, ToldFacts, container_facts, pod_uid};
use super::container::{CriContainer, Facts, time_of};
use super::engine::Refusal;
use super::ledger::RunRecord;
use super::logs::EngineLog;
use super::removal::remove_sandbox;
use super::sandbox::{CriSandbox, blocking};
use super::{Shared, orphans};
use crate::container_id::check_pod_uid;
use crate::{BoxFuture, ContainerId, Error, RecoveredPod, RunningContainer, limits};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// A Pod, and the engine's ids of its sandboxes, the last one in use.
type FoundPod = (PodFacts, Vec<String>);

/// See [`Runtime::recover`](crate::Runtime::recover).
///
/// # Errors
/// If what can't be taken over does not end: it could run twice then.
pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Vec<RecoveredPod>, Error> {
    let ledger = shared.ledger.clone();
    let reading = tokio::task::spawn_blocking(move || (ledger.pods(), ledger.pod_uids()));
    let (recorded, mut uids) = reading.await.unwrap_or_default();
    let listed = match shared.health.is_good() {
        true => list(shared).await,
        false => Err(Refusal::not_ready("it did not answer")),
    };
    uids.extend(shared.cgroups.pods());
    if let Ok((sandboxes, containers)) = &listed {
        uids.extend(sandboxes.iter().filter_map(|one| pod_uid(&one.labels).map(str::to_owned)));
        uids.extend(containers.iter().filter_map(|one| pod_uid(&one.labels).map(str::to_owned)));
    }
    if !shared.guard.was_guarded() {
        // Nobody can tell until when these may run, so they may not. What does not end is still there to be taken over, or is
        // killed again below.
        let _ = kill(shared, uids.clone(), "their guard is gone").await;
    }
    let (mut pods, others, containers) = match listed {
        Ok((sandboxes, containers)) => {
            let (pods, others) = understood(sandboxes);
            (pods, others, Some(containers))
        }
        Err(refusal) => {
            let (problem, pods) = (refusal.problem(), recorded.len());
            tracing::warn!(problem, pods, "what an earlier agent left is looked up without the engine");
            (Vec::new(), Vec::new(), None)
        }
    };
    let mut taken: BTreeSet<String> = pods.iter().map(|(facts, _)| facts.uid.clone()).collect();
    let mut runs: BTreeMap<ContainerId, RunRecord> = BTreeMap::new();
    for pod in recorded {
        runs.extend(pod.runs.into_iter().map(|run| (run.id.clone(), run)));
        if taken.insert(pod.facts.uid.clone()) {
            if containers.is_some() {
                tracing::warn!(pod = pod.facts.uid, "a pod that has no sandbox any more is taken over");
            }
            pods.push((pod.facts, pod.sandbox_ids));
        }
    }
    let lost = uids.difference(&taken).cloned().collect();
    let failed = |source| Error::Left { action: "end what can't be taken over", source };
    kill(shared, lost, "nothing is known of them").await.map_err(failed)?;
    for sandbox in others {
        tracing::warn!(sandbox = sandbox.id, "a sandbox that is not understood is removed");
        // If it is refused, the collection tries again.
        let _ = shared.engine.remove_sandbox(&sandbox.id).await;
    }
    let sandboxes: Vec<_> =
        pods.into_iter().map(|(facts, ids)| CriSandbox::new(shared, facts, ids)).collect();
    // Known before its containers are: what is given up of them is given up in its name.
    shared.lock_pods().extend(sandboxes.iter().map(|one| (one.uid.clone(), one.clone())));
    let adopted = adopt_all(shared, &sandboxes, containers.as_deref(), &runs).await;
    let known = shared.lock_pods().keys().cloned().collect();
    let sources = shared.sources.clone();
    let _ = tokio::task::spawn_blocking(move || sources.sweep(&known)).await;
    shared.recovered.store(true, Ordering::Release);
    let pods = sandboxes.into_iter().map(|sandbox| {
        let of_pod = adopted.iter().filter(|container| container.id().pod_uid() == sandbox.uid);
        let containers = of_pod.cloned().map(|container| {
            sandbox.insert(container.clone());
            container as Arc<dyn RunningContainer>
        });
        RecoveredPod {
            pod_uid: sandbox.uid.clone(),
            containers: containers.collect(),
            sandbox: sandbox.clone(),
        }
    });
    Ok(pods.collect())
}

/// Of all Pods at once: each may take a while to be certain, and the lease runs. `listed`: all that the engine has; none if it does
/// not answer.
async fn adopt_all(
    shared: &Arc<Shared>,
    sandboxes: &[Arc<CriSandbox>],
    listed: Option<&[Container]>,
    records: &BTreeMap<ContainerId, RunRecord>,
) -> Vec<Arc<CriContainer>> {
    let containers = listed.unwrap_or_default();
    let of_pod: BTreeMap<&str, &Arc<CriSandbox>> = sandboxes.iter().map(|one| (&*one.uid, one)).collect();
    let mut of_sandbox: BTreeMap<String, &Arc<CriSandbox>> = BTreeMap::new();
    let mut work: Vec<BoxFuture<'_, Option<Arc<CriContainer>>>> = Vec::new();
    for sandbox in sandboxes {
        of_sandbox.extend(sandbox.ids().into_iter().map(|id| (id, sandbox)));
        if listed.is_some() {
            work.push(Box::pin(async {
                if let Err(refusal) = sandbox.find_addresses().await {
                    tracing::debug!(pod = sandbox.uid, message = refusal.message, "addresses are not known");
                }
                None
            }));
        }
    }
    for container in containers {
        // The engine may have lost its sandbox, or that was not understood.
        let by_label = || of_pod.get(pod_uid(&container.labels)?).copied();
        // Of no Pod that is taken over it was killed, and is collected.
        if let Some(sandbox) = of_sandbox.get(&container.pod_sandbox_id).copied().or_else(by_label) {
            work.push(Box::pin(adopt(shared, sandbox, container, records)));
        }
    }
    let listed_ids: BTreeSet<&str> = containers.iter().map(|one| &*one.id).collect();
    for run in records.values().filter(|run| !listed_ids.contains(&*run.container_id)) {
        // All Pods of the ledger are taken over.
        if let Some(sandbox) = of_pod.get(run.id.pod_uid()).copied() {
            work.push(Box::pin(adopt_recorded(shared, sandbox, run, listed.is_none())));
        }
    }
    let done: Vec<_> =
        futures::stream::iter(work).buffer_unordered(limits::ENGINE_LOOKS_CONCURRENT_MAX).collect().await;
    done.into_iter().flatten().collect()
}

async fn list(shared: &Shared) -> Result<(Vec<PodSandbox>, Vec<Container>), Refusal> {
    let engine = &shared.engine;
    Ok((engine.sandboxes(shared.labels()).await?, engine.containers(shared.labels()).await?))
}

/// Kills what runs of these Pods, of all at once: the lease runs. Resolves when nothing of them is left.
///
/// # Errors
/// If something still is when that has been tried for long enough.
async fn kill(shared: &Shared, uids: BTreeSet<String>, why: &'static str) -> io::Result<()> {
    let cgroups = shared.cgroups.clone();
    let kill = move || {
        let end = Instant::now() + Duration::from_millis(limits::KILL_PATIENCE_MS);
        let mut left = uids;
        left.retain(|uid| check_pod_uid(uid).is_ok() && cgroups.runs_pod(uid));
        for uid in &left {
            tracing::warn!(pod = uid, why, "containers of an earlier agent are killed");
        }
        loop {
            left.retain(|uid| !cgroups.kill_pod(uid, Duration::ZERO));
            let Some(uid) = left.first() else { return Ok(()) };
            if Instant::now() >= end {
                let problem = format!("processes of pod {uid} were killed and do not end");
                return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
            }
            std::thread::sleep(Duration::from_millis(limits::KILL_LOOP_PAUSE_MS));
        }
    };
    blocking(kill).await
}

/// Pods that these sandboxes are of, and sandboxes that are no Pod's.
fn understood(sandboxes: Vec<PodSandbox>) -> (Vec<FoundPod>, Vec<PodSandbox>) {
    let mut by_pod: BTreeMap<String, Vec<PodSandbox>> = BTreeMap::new();
    let mut others = Vec::new();
    for sandbox in sandboxes {
        let uid = pod_uid(&sandbox.labels).filter(|uid| check_pod_uid(uid).is_ok()).map(str::to_owned);
        let facts = PodFacts::from_annotations(&sandbox.annotations);
        match uid.filter(|uid| facts.is_some_and(|facts| facts.uid == *uid)) {
            Some(uid) => by_pod.entry(uid).or_default().push(sandbox),
            None => others.push(sandbox),
        }
    }
    let pods = by_pod.into_values().filter_map(|mut sandboxes| {
        let attempt = |sandbox: &PodSandbox| sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        sandboxes.sort_by_key(attempt);
        let facts = sandboxes.last().and_then(|last| PodFacts::from_annotations(&last.annotations))?;
        Some((facts, sandboxes.into_iter().map(|sandbox| sandbox.id).collect()))
    });
    (pods.collect(), others)
}

/// Takes a container over; none if it is not understood, or never ran, and so removed.
async fn adopt(
    shared: &Arc<Shared>,
    sandbox: &Arc<CriSandbox>,
    container: &Container,
    records: &BTreeMap<ContainerId, RunRecord>,
) -> Option<Arc<CriContainer>> {
    let facts = container_facts(container).filter(|told| told.id.pod_uid() == sandbox.uid);
    let Some(ToldFacts { id, log_limits, stop_signal, streams }) = facts else {
        // If it is refused, it goes with its Pod, and until then does not run.
        sandbox.kill(&container.id, Duration::from_millis(limits::KILL_PATIENCE_MS)).await;
        let _ = shared.engine.remove_container(&container.id).await;
        return None;
    };
    let record = records.get(&id).filter(|record| record.container_id == container.id);
    let log = record.map(|_| shared.log_of(&id, log_limits));
    match settle(shared, &container.id, log.as_ref()).await {
        Settled::Ran(status, pid) => {
            let facts = Facts {
                id,
                container_id: container.id.clone(),
                image_ref: status.image_ref.clone(),
                log_limits,
                stop_signal,
                streams,
                started_at: time_of(status.started_at),
            };
            Some(CriContainer::new(shared, facts, pid))
        }
        Settled::NeverRan => {
            match record {
                Some(_) => sandbox.never_began(&id, container.id.clone()),
                // What is on record of the run is of another container.
                None => sandbox.discard(&id, container.id.clone()),
            }
            None
        }
        Settled::MayHaveRun => {
            tracing::warn!(container = %id, "its start was given up half way: whether it ran is not known");
            sandbox.give_up(&id, container.id.clone()).await;
            None
        }
        Settled::NotKnown => match record {
            Some(record) => adopt_recorded(shared, sandbox, record, true).await,
            // Nobody is there to look after it.
            None => {
                sandbox.kill(&container.id, Duration::from_millis(limits::KILL_PATIENCE_MS)).await;
                None
            }
        },
    }
}

/// What has become of a container.
enum Settled {
    /// It runs, or has run.
    Ran(Box<ContainerStatus>, Option<i32>),
    /// It does not run, and never did.
    NeverRan,
    /// Its engine is still about to start it, or has given that up without saying how far it was.
    MayHaveRun,
    /// The engine does not say, or has it no more.
    NotKnown,
}

/// Waits a little for the end of a start that an earlier agent has asked for; there was none without a `log`.
async fn settle(shared: &Shared, container_id: &str, log: Option<&EngineLog>) -> Settled {
    let engine = &shared.engine;
    let end = Instant::now() + Duration::from_millis(limits::ENGINE_SETTLE_MS);
    let mut is_killed = false;
    loop {
        let Ok((status, pid)) = engine.container_status(container_id).await else { return Settled::NotKnown };
        match status.state() {
            ContainerState::ContainerCreated => {
                let is_begun = async || match log {
                    Some(log) => log.is_begun().await,
                    None => false,
                };
                // Refused while it is being started. Of one that begins to run just now engines remove what they kill, and say
                // nothing of that: but its log was begun.
                if !is_begun().await && engine.remove_unstarted(container_id).await.is_ok() {
                    return if is_begun().await { Settled::MayHaveRun } else { Settled::NeverRan };
                }
            }
            // Engines note the beginning when they have heard of it, and give up waiting for that.
            ContainerState::ContainerExited if time_of(status.started_at).is_none() => {
                return if had_no_program(&status.message) { Settled::NeverRan } else { Settled::MayHaveRun };
            }
            // The engine has lost sight of it: killed, it has an end.
            ContainerState::ContainerUnknown if !is_killed => {
                is_killed = true;
                let _ = engine.kill_container(container_id).await;
            }
            _ => return Settled::Ran(Box::new(status), pid),
        }
        if Instant::now() >= end {
            return Settled::MayHaveRun;
        }
        tokio::time::sleep(Duration::from_millis(limits::ENGINE_SETTLE_PAUSE_MS)).await;
    }
}

/// Whether it is certain by what an engine says of a start that failed that it was before the container's program could begin.
fn had_no_program(message: &str) -> bool {
    ["failed to create containerd task", "OCI runtime create failed"]
        .iter()
        .any(|text| message.contains(text))
}

/// Takes over what is known to have been started; none if that is not certain. The end of that is not known either, so nothing of
/// it may run: what its engine still could start, as `may_begin` says, is given up.
async fn adopt_recorded(
    shared: &Arc<Shared>,
    sandbox: &Arc<CriSandbox>,
    run: &RunRecord,
    may_begin: bool,
) -> Option<Arc<CriContainer>> {
    let (started_at, image_ref, pid) = match &run.started {
        Some(started) => (started.at, started.image_ref.clone(), started.pid),
        // The earlier agent has not lived to hear of it.
        None if shared.cgroups.count_processes(&sandbox.uid, &run.container_id) > 0 => {
            (SystemTime::now(), String::new(), None)
        }
        None => {
            if may_begin {
                sandbox.give_up(&run.id, run.container_id.clone()).await;
            }
            return None;
        }
    };
    let facts = Facts {
        id: run.id.clone(),
        container_id: run.container_id.clone(),
        image_ref,
        log_limits: run.log_limits,
        stop_signal: run.stop_signal,
        streams: run.streams,
        started_at: Some(started_at),
    };
    Some(CriContainer::new(shared, facts, pid))
}

/// What was seen to be nobody's, once: it may be just being made.
#[derive(Default)]
struct Suspects {
    sandboxes: BTreeSet<String>,
    containers: BTreeSet<String>,
    /// Pods of the ledger.
    pods: BTreeSet<String>,
    nodes: BTreeSet<String>,
}

/// Removes, from time to time, sandboxes that nobody knows of: what is left of starts that failed half-way, and of Pods that could
/// not be closed; what nodes left that are no more; and images.
pub(super) async fn collect(shared: Arc<Shared>) {
    let mut suspects = Suspects::default();
    // Soon after the start, and again soon after something was found.
    let short = shared.collect_pause.min(Duration::from_millis(limits::ENGINE_SECOND_LOOK_MS));
    let begun = Instant::now();
    loop {
        let is_suspicious =
            [&suspects.sandboxes, &suspects.containers, &suspects.nodes].iter().any(|some| !some.is_empty());
        let is_early = begun.elapsed() < shared.collect_pause;
        tokio::time::sleep(if is_early || is_suspicious { short } else { shared.collect_pause }).await;
        if !shared.recovered.load(Ordering::Acquire) || !shared.health.is_good() {
            continue;
        }
        match Holdings::of_engine(&shared).await {
            Ok((own, others)) => {
                collect_sandboxes(&shared, own.sandboxes, &mut suspects.sandboxes).await;
                collect_containers(&shared, own.strays, &mut suspects.containers).await;
                orphans::collect(&shared, others, &mut suspects.nodes).await;
            }
            Err(refusal) => {
                tracing::warn!(message = refusal.message, "what nobody needs any more can't be looked for");
            }
        }
        if !is_early {
            forget_pods(&shared, &mut suspects.pods).await;
        }
        if let Err(refusal) = collect_images(&shared).await {
            tracing::warn!(message = refusal.message, "images can't be given up");
        }
    }
}

/// What a node has in the engine.
#[derive(Default)]
pub(super) struct Holdings {
    pub sandboxes: Vec<PodSandbox>,
    /// Containers that are of no sandbox. An engine removes with a sandbox those that it has by then; one that it was still asked
    /// to make by an agent that died is there afterwards, and nothing else would come for it.
    pub strays: Vec<Container>,
}

impl Holdings {
    /// Those of this node, and those of others by the nodes' uids.
    async fn of_engine(shared: &Shared) -> Result<(Holdings, BTreeMap<String, Holdings>), Refusal> {
        // Containers first: one whose sandbox is not there afterwards has none any more.
        let containers = shared.engine.containers(BTreeMap::new()).await?;
        let sandboxes = shared.engine.sandboxes(BTreeMap::new()).await?;
        let ids: BTreeSet<String> = sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        let mut by_node: BTreeMap<String, Holdings> = BTreeMap::new();
        // Others use the engine too, and have no such label.
        for container in containers.into_iter().filter(|one| !ids.contains(&one.pod_sandbox_id)) {
            if let Some(node_uid) = container.labels.get(NODE_UID) {
                by_node.entry(node_uid.clone()).or_default().strays.push(container);
            }
        }
        for sandbox in sandboxes {
            if let Some(node_uid) = sandbox.labels.get(NODE_UID) {
                by_node.entry(node_uid.clone()).or_default().sandboxes.push(sandbox);
            }
        }
        Ok((by_node.remove(&shared.node_uid).unwrap_or_default(), by_node))
    }
}

async fn collect_sandboxes(shared: &Shared, sandboxes: Vec<PodSandbox>, suspects: &mut BTreeSet<String>) {
    let pods: BTreeMap<_, _> = shared.lock_pods().iter().map(|(uid, pod)| (uid.clone(), pod.ids())).collect();
    let known: BTreeSet<&String> = pods.values().flatten().collect();
    let unknown: Vec<_> = sandboxes.into_iter().filter(|sandbox| !known.contains(&sandbox.id)).collect();
    for sandbox in unknown.iter().filter(|sandbox| suspects.contains(&sandbox.id)) {
        tracing::info!(sandbox = sandbox.id, "a sandbox of nobody is removed");
        let of_nobody =
            pod_uid(&sandbox.labels).filter(|uid| check_pod_uid(uid).is_ok() && !pods.contains_key(*uid));
        if let Some(uid) = of_nobody {
            let (cgroups, uid) = (shared.cgroups.clone(), uid.to_owned());
            // What is frozen does not end by the engine's signals.
            let kill = move || cgroups.kill_pod(&uid, Duration::from_millis(limits::KILL_PATIENCE_MS));
            let _ = tokio::task::spawn_blocking(kill).await;
        }
        match (remove_sandbox(&shared.engine, &sandbox.id).await, of_nobody) {
            (Ok(()), Some(uid)) => shared.forget_pod(uid.to_owned()).await,
            (Ok(()), None) => {}
            (Err(refusal), _) => {
                tracing::warn!(sandbox = sandbox.id, message = refusal.message, "it can't be removed");
            }
        }
    }
    *suspects = unknown.into_iter().map(|sandbox| sandbox.id).collect();
}

async fn collect_containers(shared: &Shared, strays: Vec<Container>, suspects: &mut BTreeSet<String>) {
    let known: BTreeSet<String> = shared.lock_pods().values().flat_map(|pod| pod.container_ids()).collect();
    let strays: Vec<_> = strays.into_iter().filter(|one| !known.contains(&one.id)).collect();
    for container in strays.iter().filter(|one| suspects.contains(&one.id)) {
        tracing::info!(container = container.id, "a container without a sandbox is removed");
        remove_stray(shared, container).await;
    }
    *suspects = strays.into_iter().map(|container| container.id).collect();
}

/// If it is refused, the next look finds it again.
pub(super) async fn remove_stray(shared: &Shared, container: &Container) {
    if let Err(refusal) = shared.engine.remove_container(&container.id).await {
        tracing::warn!(container = container.id, message = refusal.message, "it can't be removed");
    }
}

/// Of Pods that had no sandbox any more the ledger is needed only until somebody has asked for their runs. Of some there is a group
/// with what an engine was caught in when it was frozen.
async fn forget_pods(shared: &Shared, suspects: &mut BTreeSet<String>) {
    let (ledger, cgroups) = (shared.ledger.clone(), shared.cgroups.clone());
    let looking = tokio::task::spawn_blocking(move || {
        let mut found = ledger.pod_uids();
        found.extend(cgroups.pods().into_iter().filter(|uid| check_pod_uid(uid).is_ok()));
        found
    });
    let found = looking.await.unwrap_or_default();
    let known: BTreeSet<_> = shared.lock_pods().keys().cloned().collect();
    let unknown: BTreeSet<_> = found.difference(&known).cloned().collect();
    for uid in unknown.intersection(suspects) {
        let (cgroups, of_pod) = (shared.cgroups.clone(), uid.clone());
        let kill = move || cgroups.kill_pod(&of_pod, Duration::from_millis(limits::KILL_PATIENCE_MS));
        let _ = tokio::task::spawn_blocking(kill).await;
        shared.forget_pod(uid.clone()).await;
    }
    *suspects = unknown;
}

/// Removes images that no container uses, if their disk is too full.
pub(super) async fn collect_images(shared: &Shared) -> Result<(), Refusal> {
    // Of all users of the engine.
    let containers = shared.engine.containers(BTreeMap::new()).await?;
    let in_use = containers.into_iter().map(|container| container.image_ref).collect();
    shared.images.collect(&in_use).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_created_certainly_never_ran() {
        assert!(had_no_program("failed to create containerd task: context canceled"));
        assert!(had_no_program("OCI runtime create failed: runc create failed: exec: \"x\": not found"));
        for message in
            ["failed to start containerd task \"x\": context canceled: unknown", "context canceled", ""]
        {
            assert!(!had_no_program(message), "{message}");
        }
    }
}
