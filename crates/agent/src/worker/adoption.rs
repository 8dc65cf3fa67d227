//! What an earlier agent of this folder has left, and what becomes of it (A2, A13).
//!
//! Owns: telling what can be accounted for. Does not own: finding it (the runtime), the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use stint_api::PodUid;
use stint_proto::v1;
use stint_proto::v1::pod_report::Kind;
use stint_runtime::{ContainerId, RecoveredPod, RunningContainer};

use super::{RunKey, Worker};
use crate::error::Error;
use crate::journal::StartedPod;
use crate::pod::{LeftPod, PodHandle, PodTemplate, take_over_last_words, termination_file, unknown_end};

impl Worker {
    /// Takes over what runs, ends what is not known, says what is missing. Before anything else.
    ///
    /// # Errors
    /// If the runtime can't say what is left: something could run twice then.
    pub(super) async fn adopt(&mut self) -> Result<(), Error> {
        let mut recovered = BTreeMap::new();
        let runtimes = self.surroundings.runtimes.clone();
        for runtime in runtimes.iter() {
            for pod in runtime.recover().await? {
                match pod.pod_uid.parse::<PodUid>() {
                    Ok(uid) => drop(recovered.insert(uid, pod)),
                    Err(_) => close_in_background(pod),
                }
            }
        }
        let is_same_boot = self.memory.boot_id == self.boot_id;
        let open: Vec<(PodUid, StartedPod)> =
            self.memory.open_pods().map(|(pod, started)| (pod, started.clone())).collect();
        let (mut adopted, mut missing) = (0, 0);
        for (pod, started) in open {
            // Of another boot nothing is left, and nobody can say how it ended: it is not accounted for, and so lost.
            if is_same_boot {
                let runs_missing = self.adopt_pod(pod, &started, recovered.remove(&pod));
                (adopted, missing) = (adopted + 1, missing + runs_missing);
            }
        }
        for (_, pod) in recovered {
            tracing::warn!(node = %self.config.name, pod.uid = pod.pod_uid, "something ran that the journal does not know: it is killed");
            close_in_background(pod);
        }
        if adopted > 0 {
            tracing::info!(node = %self.config.name, pods = adopted, missing, "took over what an earlier agent left");
        }
        self.leftovers
            .keep_only(|pod| self.pods.contains_key(&pod), |pod| self.memory.started.contains_key(&pod));
        Ok(())
    }

    /// How many runs of the Pod nothing is left of.
    fn adopt_pod(&mut self, pod: PodUid, started: &StartedPod, left: Option<RecoveredPod>) -> usize {
        let folder = self.leftovers.pod_folder(pod);
        if let Err(error) = take_over_last_words(&folder) {
            // Runs that have ended meanwhile end without words.
            tracing::warn!(pod.uid = %pod, %error, "last words of a pod's runs can't be moved to their place");
        }
        let template = PodTemplate::read(&folder).filter(|one| one.uid() == pod);
        let template = template.map(Arc::new);
        let (mut containers, mut rest) = (Vec::new(), Vec::new());
        let mut sandbox = None;
        if let Some(left) = left {
            sandbox = Some(left.sandbox);
            for container in left.containers {
                let name = container.id().container_name();
                let run = started.runs.get(name).filter(|run| !run.has_ended);
                let is_wanted = run.is_some_and(|run| run.restart_count == container.id().restart_count());
                let is_known = template.as_ref().is_some_and(|template| template.index_of(name).is_ok());
                if is_wanted && is_known { containers.push(container) } else { rest.push(container) }
            }
        }
        if template.is_none()
            && let Some(sandbox) = sandbox.take()
        {
            // Nobody knows what it was to be: all of it is in `rest`.
            close_in_background(RecoveredPod {
                pod_uid: pod.to_string(),
                sandbox,
                containers: std::mem::take(&mut rest),
            });
        }
        end_in_background(rest);
        let state = self.pods.entry(pod).or_default();
        for container in &containers {
            let id = container.id();
            state.live.insert(id.container_name().to_owned(), id.restart_count());
        }
        state.template.clone_from(&template);
        if let (Some(template), Some(sandbox)) = (template, sandbox) {
            let left = LeftPod { sandbox, containers };
            let incarnation = self.memory.incarnation;
            state.handle = Some(PodHandle::adopted(template, self.surroundings.clone(), incarnation, left));
        }
        let runtime = state.template.as_deref().and_then(|template| self.surroundings.runtime_of(template));
        if let Some(runtime) = runtime {
            for (name, run) in started.runs.iter().filter(|(name, _)| !state.live.contains_key(*name)) {
                let id = ContainerId::new(&pod.to_string(), name, run.restart_count);
                if id.is_ok_and(|id| !runtime.may_have_run(&folder, &id)) {
                    // It was about to begin. If the file stays, an unknown end is told of it.
                    let _ = std::fs::remove_file(termination_file(&folder, name, run.restart_count));
                }
            }
        }
        // What waited, such as for its image, or was not yet begun by its engine, goes on: it has no end to tell of.
        let is_missing = |name: &String, run: u32| {
            !state.live.contains_key(name) && termination_file(&folder, name, run).exists()
        };
        let missing: Vec<RunKey> = started
            .runs
            .iter()
            .filter(|(name, run)| !run.has_ended && is_missing(name, run.restart_count))
            .map(|(name, run)| RunKey { container: name.clone(), restart_count: run.restart_count })
            .collect();
        let count = missing.len();
        for run in missing {
            let exited = v1::ContainerExited {
                container: run.container.clone(),
                restart_count: run.restart_count,
                termination: Some(unknown_end()),
            };
            self.report_end(pod, vec![(run, None)], Kind::Exited(exited));
        }
        count
    }
}

/// Nobody wants these any more, nor how they end.
fn end_in_background(containers: Vec<Arc<dyn RunningContainer>>) {
    for container in containers {
        tokio::spawn(end(container));
    }
}

/// Nobody wants any of this Pod any more: what its containers shared goes with them.
fn close_in_background(pod: RecoveredPod) {
    tokio::spawn(async move {
        let ends: Vec<_> = pod.containers.into_iter().map(|container| tokio::spawn(end(container))).collect();
        for end in ends {
            // An error is a panic, of which the closing is told by what is left.
            drop(end.await);
        }
        if let Err(error) = pod.sandbox.close().await {
            tracing::warn!(pod.uid = pod.pod_uid, %error, "what a pod's containers shared can't be removed");
        }
    });
}

async fn end(container: Arc<dyn RunningContainer>) {
    container.kill().await;
    container.wait().await;
    container.release().await;
}
