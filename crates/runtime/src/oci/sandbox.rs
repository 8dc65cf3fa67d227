//! A Pod of containers.

use super::NAME;
use super::bundle::{self, Places};
use super::container::OciContainer;
use super::groups::Groups;
use super::images::{Image, ImageStore};
use super::launch::{Launch, LaunchUser, container_directory};
use crate::payload::Payload;
use crate::process::{Host, ipc};
use crate::shim::confine::{Identity, Profile};
use crate::{
    BoxFuture, ContainerSpec, Error, ImageSpec, NodePolicy, PodSandbox, PodSandboxSpec, Rootfs,
    RunningContainer, Usage,
};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all Pods of a runtime share.
#[derive(Clone)]
pub(super) struct Parts {
    pub host: Arc<Host>,
    pub images: ImageStore,
    pub groups: Groups,
    pub policy: Arc<NodePolicy>,
}

/// What the containers of a Pod share: its folder, and the host's network.
pub(super) struct OciSandbox {
    parts: Parts,
    spec: PodSandboxSpec,
    /// Those that were prepared, so that none of them is collected before it is started.
    prepared: Mutex<BTreeMap<String, Image>>,
    containers: Mutex<Vec<Arc<OciContainer>>>,
    /// Held while what the containers share is made.
    sharing: tokio::sync::Mutex<()>,
}

impl OciSandbox {
    pub fn new(parts: Parts, spec: PodSandboxSpec) -> OciSandbox {
        OciSandbox {
            parts,
            spec,
            prepared: Mutex::default(),
            containers: Mutex::default(),
            sharing: tokio::sync::Mutex::default(),
        }
    }

    /// Keeps a container until the Pod is closed.
    pub fn keep(&self, container: Arc<OciContainer>) {
        let mut containers = lock(&self.containers);
        containers.retain(|container| !container.is_released());
        containers.push(container);
    }

    async fn start_container(
        &self,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> Result<Arc<OciContainer>, Error> {
        let container = spec.id.container_name().to_owned();
        let wanted = spec.image.as_ref().ok_or_else(|| Error::Unsupported {
            runtime: NAME,
            what: format!("container {container:?} without an image"),
        })?;
        let prepared = lock(&self.prepared).get(&wanted.reference).cloned();
        let image = match prepared {
            Some(image) => image,
            None => self.parts.images.prepare(&wanted.reference, wanted.pull_policy).await?,
        };
        let directory = container_directory(&self.spec.directory, &spec.id);
        let (spec, payload) = self.payload(spec, &image, &directory)?;
        let refused = |source| Error::StartResources {
            container: container.clone(),
            action: "make the container's folder",
            source,
        };
        OciContainer::record(&directory, &image).map_err(refused)?;
        self.make_shared().await.map_err(|source| Error::StartResources {
            container: container.clone(),
            action: "make what the containers of the pod share",
            source,
        })?;
        let started = self.parts.host.start_payload(&self.spec.directory, &spec, &payload, killed).await?;
        let container = Arc::new(OciContainer::started(started, image, directory, self.parts.groups.clone()));
        self.keep(container.clone());
        Ok(container)
    }

    /// Makes the memory that the containers share, as far as it is not there.
    async fn make_shared(&self) -> io::Result<()> {
        if !bundle::shares_ipc(&self.spec) {
            return Ok(());
        }
        let _one_at_a_time = self.sharing.lock().await;
        let directory = self.spec.directory.clone();
        let made = tokio::task::spawn_blocking(move || ipc::make(&directory)).await;
        made.unwrap_or_else(|failure| Err(io::Error::other(failure)))
    }

    /// Lets go of it.
    async fn remove_shared(&self) {
        if !bundle::shares_ipc(&self.spec) {
            return;
        }
        let _one_at_a_time = self.sharing.lock().await;
        let directory = self.spec.directory.clone();
        let removed = tokio::task::spawn_blocking(move || ipc::remove(&directory)).await;
        if let Err(error) = removed.unwrap_or_else(|failure| Err(io::Error::other(failure))) {
            tracing::warn!(pod = self.spec.uid, %error, "what the containers of a pod shared can't be removed");
        }
    }

    /// What the shim is given, and the container as the image completes it.
    fn payload(
        &self,
        mut spec: ContainerSpec,
        image: &Image,
        directory: &Path,
    ) -> Result<(ContainerSpec, Payload), Error> {
        let policy = &self.parts.policy;
        policy.check_container(Rootfs::Image, &spec).map_err(|violation| Error::NotAllowed {
            of: format!("container {:?}", spec.id.container_name()),
            violation,
        })?;
        let processes = spec.resources.processes_max.into_iter().chain(policy.processes_per_container);
        spec.resources.processes_max = processes.min();
        let config = image.config();
        spec.command = config.command_line(&spec.command, &spec.args);
        spec.args = Vec::new();
        if spec.command.is_empty() {
            let image = spec.image.as_ref().map(|image| image.reference.clone()).unwrap_or_default();
            return Err(Error::NoCommandInImage { container: spec.id.container_name().to_owned(), image });
        }
        let mut env = config.env.clone();
        env.append(&mut spec.env);
        let has_home = env.iter().any(|(name, _)| name == "HOME");
        spec.env = env;
        let working_directory = match &spec.working_directory {
            Some(path) => Path::new("/").join(path),
            None => Path::new("/").join(&config.working_directory),
        };
        // It is the launch that says where the program begins.
        spec.working_directory = None;
        let mut payload = Payload::new(&spec, directory)?;
        if !has_home {
            // Only the image knows where its users are at home.
            payload.environment.retain(|entry| !entry.starts_with(b"HOME="));
        }
        let security = &spec.security;
        if bundle::is_filtered(&spec) {
            payload.confinement.profile = Some(Profile::Usual);
            // What is held until the filter is there is given up with it.
            let capabilities =
                (!bundle::gives_up_new_rights(&spec)).then(|| bundle::capabilities(&spec)).transpose()?;
            payload.confinement.identity = capabilities
                .map(|capabilities| Identity { capabilities: Some(capabilities), ..Identity::default() });
        }
        let groups = self.spec.supplemental_groups.iter().chain(&security.supplemental_groups);
        let places = Places {
            root: &directory.join("root"),
            working_directory: &working_directory.to_string_lossy(),
            control_group: &self.parts.groups.path(&spec.id),
        };
        let launch = Launch {
            directory: directory.to_owned(),
            layers_directory: image.layers_directory(),
            layers: image.layer_names(),
            volumes: config.volumes.clone(),
            config: bundle::config(&self.spec, &spec, &places)?,
            user: LaunchUser {
                uid: security.user.or(self.spec.user),
                gid: security.group.or(self.spec.group),
                groups: groups.copied().chain(self.spec.fs_group).collect(),
                image: config.user.clone(),
                is_root_refused: security.run_as_non_root,
            },
        };
        payload.launch = serde_json::to_vec(&launch).map_err(|error| Error::Unrepresentable {
            container: spec.id.container_name().to_owned(),
            what: error.to_string(),
            problem: "can't be written down",
        })?;
        Ok((spec, payload))
    }
}

impl PodSandbox for OciSandbox {
    fn pod_uid(&self) -> &str {
        &self.spec.uid
    }

    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    fn owner(&self) -> Option<(u32, u32)> {
        // Who an image is by itself is known when it is there.
        self.spec.user.map(|user| (user, self.spec.group.unwrap_or(0)))
    }

    fn prepare<'a>(&'a self, image: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let found = self.parts.images.prepare(&image.reference, image.pull_policy).await?;
            lock(&self.prepared).insert(image.reference.clone(), found);
            Ok(())
        })
    }

    fn start(
        &self,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, Result<Arc<dyn RunningContainer>, Error>> {
        Box::pin(async move { Ok(self.start_container(spec, killed).await? as Arc<dyn RunningContainer>) })
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async move {
            let mut sum = Usage::default();
            let containers = lock(&self.containers).clone();
            for container in containers {
                // Those that have ended use nothing.
                let Ok(usage) = container.usage().await else { continue };
                sum.cpu_nanoseconds += usage.cpu_nanoseconds;
                sum.memory_bytes += usage.memory_bytes;
                sum.processes += usage.processes;
            }
            Ok(sum)
        })
    }

    fn ancestors(&self) -> Vec<i32> {
        lock(&self.containers).iter().filter_map(|container| container.ancestor()).collect()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let containers = std::mem::take(&mut *lock(&self.containers));
            for container in containers {
                container.release().await;
            }
            self.remove_shared().await;
            lock(&self.prepared).clear();
            Ok(())
        })
    }
}

/// A list or a map is whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
