//! The runtime itself: shims and images.

use super::NAME;
use super::container::OciContainer;
use super::groups::Groups;
use super::images::{ImageStore, ImageStoreOptions};
use super::sandbox::{OciSandbox, Parts};
use crate::process::begun;
use crate::process::record;
use crate::process::recover::adopt_all;
use crate::{
    BoxFuture, Condition, ContainerId, Error, Feature, LogStore, NodePolicy, PodSandbox, PodSandboxSpec,
    ProcessRuntime, ProcessRuntimeOptions, RecoveredPod, Rootfs, RunningContainer, Runtime, limits,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How an [`OciRuntime`] is set up.
#[derive(Debug, Clone)]
pub struct OciRuntimeOptions {
    /// Where output goes.
    pub logs: LogStore,
    /// Where shims listen for the process that comes after this one: a folder of this runtime's own, absolute, on a local disk.
    pub shims: PathBuf,
    /// A binary that calls [`maybe_run_shim`](crate::maybe_run_shim). `None`: the running one.
    pub shim_program: Option<PathBuf>,
    /// See [`ProcessRuntimeOptions::owner`].
    pub owner: Option<String>,
    /// Images.
    pub images: ImageStoreOptions,
    /// What Pods may ask for.
    pub policy: NodePolicy,
}

/// Runs containers out of images, needing no daemon.
pub struct OciRuntime {
    shims: ProcessRuntime,
    parts: Parts,
}

impl OciRuntime {
    /// Opens the store of images and starts the shim's spawner. Must be called within a tokio runtime, which must live as long
    /// as the result.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this host does not allow containers.
    pub async fn new(options: OciRuntimeOptions) -> Result<OciRuntime, Error> {
        let unsupported = |what: &str| Err(Error::Unsupported { runtime: NAME, what: what.to_owned() });
        if !nix::unistd::geteuid().is_root() {
            return unsupported("containers need overlayfs and users: run the agent as root");
        }
        let file_systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !file_systems.lines().any(|line| line.ends_with("\toverlay")) {
            return unsupported("this kernel has no overlayfs: load the module overlay");
        }
        let image_options = options.images;
        let opening = tokio::task::spawn_blocking(move || ImageStore::open(image_options));
        let images = match opening.await {
            Ok(images) => images?,
            Err(error) => return unsupported(&format!("the store of images could not be opened: {error}")),
        };
        let groups = Groups::of_agent(&options.shims);
        // Views, users and limits are the containers' own here; of processes only the shim is needed.
        let shims = ProcessRuntime::new(ProcessRuntimeOptions {
            shim_program: options.shim_program,
            owner: options.owner,
            shims: options.shims.clone(),
            ..ProcessRuntimeOptions::new(options.logs, options.shims)
        })
        .await?;
        if !shims.features().contains(&Feature::PidNamespaces) {
            return unsupported("this host does not allow namespaces of process ids");
        }
        collect_from_time_to_time(images.clone());
        let parts = Parts { host: shims.host().clone(), images, groups, policy: Arc::new(options.policy) };
        Ok(OciRuntime { shims, parts })
    }

    /// Its images.
    pub fn images(&self) -> &ImageStore {
        &self.parts.images
    }
}

/// For as long as anybody else has the store.
fn collect_from_time_to_time(images: ImageStore) {
    let images = images.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(limits::COLLECTION_INTERVAL_MS)).await;
            let Some(images) = images.upgrade() else { return };
            if let Err(error) = images.collect_garbage().await {
                tracing::warn!(%error, "images can't be collected");
            }
        }
    });
}

impl Runtime for OciRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn conditions(&self) -> Vec<Condition> {
        // What processes see of the host is none of containers, which have mounts of their own.
        let conditions = self.shims.conditions().into_iter();
        conditions.filter(|condition| condition.kind != "IsolationDegraded").collect()
    }

    fn image_folders(&self) -> Vec<PathBuf> {
        vec![self.parts.images.folder().to_owned()]
    }

    fn features(&self) -> BTreeSet<Feature> {
        let groups = match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => Feature::CgroupsV2,
            false => Feature::CgroupsV1,
        };
        [
            Feature::PidNamespaces,
            Feature::MountNamespaces,
            Feature::Users,
            Feature::Images,
            Feature::Exec,
            groups,
        ]
        .into()
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>> {
        Box::pin(async move {
            let mut pods = Vec::new();
            for (pod_uid, (_, containers)) in adopt_all(self.shims.host()).await? {
                let containers: Vec<_> = containers
                    .into_iter()
                    .map(|container| Arc::new(OciContainer::recovered(container, &self.parts)))
                    .collect();
                let directory = containers.first().and_then(|container| container.pod_directory());
                let spec = record::read(&pod_uid, directory.unwrap_or_default());
                let sandbox = Arc::new(OciSandbox::new(self.parts.clone(), spec));
                containers.iter().for_each(|container| sandbox.keep(container.clone()));
                let containers =
                    containers.into_iter().map(|container| container as Arc<dyn RunningContainer>).collect();
                pods.push(RecoveredPod { pod_uid, sandbox: sandbox as Arc<dyn PodSandbox>, containers });
            }
            let groups = self.parts.groups.clone();
            let kept: Vec<_> = pods
                .iter()
                .flat_map(|pod: &RecoveredPod| pod.containers.iter().map(|container| container.id().clone()))
                .collect();
            // Those of containers whose shims were killed, too.
            let _ = tokio::task::spawn_blocking(move || groups.sweep(kept.iter())).await;
            Ok(pods)
        })
    }

    fn may_have_run(&self, pod_directory: &Path, run: &ContainerId) -> bool {
        begun::may_have_begun(pod_directory, run)
    }

    fn set_deadline(&self, moment: Duration) {
        self.shims.set_deadline(moment);
    }

    fn open_pod(&self, spec: PodSandboxSpec) -> BoxFuture<'_, Result<Arc<dyn PodSandbox>, Error>> {
        Box::pin(async move {
            crate::container_id::check_pod_uid(&spec.uid)?;
            self.parts
                .policy
                .check_pod(Rootfs::Image, &spec)
                .map_err(|violation| Error::NotAllowed { of: format!("pod {:?}", spec.name), violation })?;
            let kept = spec.clone();
            // A folder that can't be written to is the business of the start.
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || record::write(&kept)).await {
                tracing::warn!(%error, "who a pod is can't be written down for the next agent");
            }
            let sandbox = OciSandbox::new(self.parts.clone(), spec);
            Ok(Arc::new(sandbox) as Arc<dyn PodSandbox>)
        })
    }
}
