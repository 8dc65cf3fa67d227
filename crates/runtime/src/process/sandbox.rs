//! A Pod of processes.
//!
//! Owns: where its processes begin. Does not own: the containers.

use super::Host;
use super::container::{Shared, unsupported};
use crate::container_id::check_pod_uid;
use crate::{
    BoxFuture, ContainerSpec, Error, ImageSpec, PodSandbox, PodSandboxSpec, RunningContainer, Usage,
};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Below the Pod's own folder: the working folder and `HOME` of its processes.
const WORK: &str = "work";

/// What the processes of a Pod share.
pub(super) struct ProcessSandbox {
    host: Arc<Host>,
    pod_uid: String,
    home: PathBuf,
    /// Whose end was not taken yet.
    containers: Mutex<Vec<Arc<Shared>>>,
}

impl ProcessSandbox {
    pub fn new(host: Arc<Host>, spec: PodSandboxSpec) -> Result<ProcessSandbox, Error> {
        check_pod_uid(&spec.uid)?;
        Ok(ProcessSandbox::recovered(host, spec.uid, spec.directory.join(WORK)))
    }

    /// One whose uid was checked before.
    pub fn recovered(host: Arc<Host>, pod_uid: String, home: PathBuf) -> ProcessSandbox {
        ProcessSandbox { host, pod_uid, home, containers: Mutex::default() }
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
        &self.pod_uid
    }

    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
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
            let container = self.host.start_container(&self.home, spec, killed).await?;
            self.keep(container.shared().clone());
            Ok(Arc::new(container) as Arc<dyn RunningContainer>)
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async { Err(unsupported("to measure what a pod uses")) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let containers = std::mem::take(&mut *self.lock());
            for container in containers {
                container.release().await;
            }
            Ok(())
        })
    }
}
