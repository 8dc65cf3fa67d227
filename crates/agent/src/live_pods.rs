//! What runs now, for those who want into it: commands, connections, measurements.
//!
//! Owns: which sandboxes and containers there are at this moment. Does not own: their lives (`pod`), who may enter (the
//! servers).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stint_api::PodUid;
use stint_runtime::{PodSandbox, RunningContainer};

/// The Pods of this node whose sandbox is open. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct LivePods {
    pods: Arc<Mutex<BTreeMap<PodUid, LivePod>>>,
}

struct LivePod {
    sandbox: Arc<dyn PodSandbox>,
    containers: BTreeMap<String, Arc<dyn RunningContainer>>,
}

impl LivePods {
    /// A Pod has its sandbox.
    pub fn opened(&self, pod: PodUid, sandbox: Arc<dyn PodSandbox>) {
        self.lock().entry(pod).or_insert_with(|| LivePod { sandbox, containers: BTreeMap::new() });
    }

    /// A run of a container goes on. Nothing of an earlier run is left.
    pub fn started(&self, pod: PodUid, container: Arc<dyn RunningContainer>) {
        if let Some(live) = self.lock().get_mut(&pod) {
            live.containers.insert(container.id().container_name().to_owned(), container);
        }
    }

    /// A run has ended.
    pub fn ended(&self, pod: PodUid, container: &str, restart_count: u32) {
        if let Some(live) = self.lock().get_mut(&pod)
            && live.containers.get(container).is_some_and(|run| run.id().restart_count() == restart_count)
        {
            live.containers.remove(container);
        }
    }

    /// A Pod's sandbox is no more.
    pub fn closed(&self, pod: PodUid) {
        self.lock().remove(&pod);
    }

    /// The container of a Pod, if it runs.
    pub fn container(&self, pod: PodUid, container: &str) -> Option<Arc<dyn RunningContainer>> {
        self.lock().get(&pod)?.containers.get(container).cloned()
    }

    /// The sandbox of a Pod of which something runs.
    pub fn sandbox(&self, pod: PodUid) -> Option<Arc<dyn PodSandbox>> {
        let pods = self.lock();
        let live = pods.get(&pod)?;
        (!live.containers.is_empty()).then(|| live.sandbox.clone())
    }

    /// All Pods of which something runs.
    pub fn sandboxes(&self) -> Vec<(PodUid, Arc<dyn PodSandbox>)> {
        let pods = self.lock();
        let live = pods.iter().filter(|(_, live)| !live.containers.is_empty());
        live.map(|(pod, live)| (*pod, live.sandbox.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodUid, LivePod>> {
        // Each change is one step: a panic elsewhere leaves nothing half done.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
