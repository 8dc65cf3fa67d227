//! A Pod of processes.
//!
//! Owns: where its processes begin. Does not own: the containers.

use super::Host;
use super::container::unsupported;
use crate::container_id::check_pod_uid;
use crate::{
    BoxFuture, ContainerSpec, Error, ImageSpec, PodSandbox, PodSandboxSpec, RunningContainer, Usage,
};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Below the Pod's own folder: the working folder and `HOME` of its processes.
const WORK: &str = "work";

/// What the processes of a Pod share.
pub(super) struct ProcessSandbox {
    host: Arc<Host>,
    pod_uid: String,
    home: PathBuf,
}

impl ProcessSandbox {
    pub fn new(host: Arc<Host>, spec: PodSandboxSpec) -> Result<ProcessSandbox, Error> {
        check_pod_uid(&spec.uid)?;
        Ok(ProcessSandbox { host, home: spec.directory.join(WORK), pod_uid: spec.uid })
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
            Ok(Arc::new(container) as Arc<dyn RunningContainer>)
        })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async { Err(unsupported("to measure what a pod uses")) })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}
