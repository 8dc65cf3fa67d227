//! A Pod of processes.
//!
//! Owns: where its processes begin. Does not own: the containers.

use super::Host;
use super::confiner::Pod;
use super::container::{Shared, unsupported};
use crate::container_id::check_pod_uid;
use crate::{
    BoxFuture, ContainerSpec, Error, ImageSpec, PodSandbox, PodSandboxSpec, RunningContainer, Usage,
    disk_usage,
};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the processes of a Pod share.
pub(super) struct ProcessSandbox {
    host: Arc<Host>,
    pod: Arc<Pod>,
    /// Whose end was not taken yet.
    containers: Mutex<Vec<Arc<Shared>>>,
}

impl ProcessSandbox {
    pub fn new(host: Arc<Host>, spec: PodSandboxSpec) -> Result<ProcessSandbox, Error> {
        check_pod_uid(&spec.uid)?;
        let pod = host.pod(spec)?;
        Ok(ProcessSandbox::of(host, pod))
    }

    pub fn of(host: Arc<Host>, pod: Pod) -> ProcessSandbox {
        ProcessSandbox { host, pod: Arc::new(pod), containers: Mutex::default() }
    }

    /// Keeps a container until its end was taken.
    pub fn keep(&self, container: Arc<Shared>) {
        let mut containers = self.lock();
        containers.retain(|container| !container.is_released());
        containers.push(container);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Shared>>> {
        // A list is whole after any panic.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodSandbox for ProcessSandbox {
    fn pod_uid(&self) -> &str {
        &self.pod.spec.uid
    }

    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    fn owner(&self) -> Option<(u32, u32)> {
        self.pod.owner()
    }

    fn prepare<'a>(&'a self, _: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
        // Programs are the host's.
        Box::pin(async { Ok(()) })
    }

    fn start(
        &self,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, Result<Arc<dyn RunningContainer>, Error>> {
        Box::pin(async move {
            let container = self.host.start_container(&self.pod, spec, killed).await?;
            self.keep(container.shared().clone());
            Ok(Arc::new(container) as Arc<dyn RunningContainer>)
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        let running: Vec<_> = self.lock().iter().map(|container| container.recorded.id.clone()).collect();
        let (confiner, directory) = (self.host.confiner.clone(), self.pod.spec.directory.clone());
        Box::pin(async move {
            let measured = super::blocking(move || {
                let mut sum = Usage::default();
                // Those that have ended use nothing any more.
                for one in running.iter().filter_map(|id| confiner.usage(id).ok().flatten()) {
                    sum.cpu_nanoseconds += one.cpu_nanoseconds;
                    sum.memory_bytes += one.memory_bytes;
                    sum.processes += one.processes;
                }
                sum.disk_bytes = disk_usage(&directory, u64::MAX).ok().map(|found| found.bytes);
                sum
            });
            measured.await.ok_or_else(|| unsupported("to measure what a pod uses"))
        })
    }

    fn ancestors(&self) -> Vec<i32> {
        self.lock().iter().filter_map(|container| container.shim()).collect()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let containers = std::mem::take(&mut *self.lock());
            for container in containers {
                container.release().await;
            }
            let (confiner, pod) = (self.host.confiner.clone(), self.pod.clone());
            if confiner.shares_ipc(&pod)
                && let Some(Err(error)) = super::blocking(move || confiner.remove_shared(&pod)).await
            {
                // Whoever removes the Pod's folder unmounts what is in it first.
                tracing::warn!(pod.uid = self.pod_uid(), %error, "what its containers shared can't be unmounted");
            }
            Ok(())
        })
    }
}
