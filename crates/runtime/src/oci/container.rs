//! One container: what the shim knows of it, and what only its image and its control groups know.

use super::groups::Groups;
use super::images::{Image, LayerHold};
use super::sandbox::Parts;
use crate::process::ProcessContainer;
use crate::{
    AttachSession, AttachSpec, BoxFuture, ContainerId, Error, ExecSession, ExecSpec, Exit, ExitReason,
    RunningContainer, Usage,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tokio::sync::OnceCell;

/// In the container's folder: what a later agent has to know of its image.
const RECORD: &str = "image.json";

#[derive(Serialize, Deserialize, Default)]
struct Record {
    image_id: String,
    layer_ids: Vec<String>,
}

/// Layers that must stay as long as the container may run.
enum Held {
    Image { _image: Image },
    Layers { _layers: Option<LayerHold> },
}

pub(super) struct OciContainer {
    shim: ProcessContainer,
    image_id: String,
    directory: PathBuf,
    groups: Groups,
    _held: Held,
    /// Looked at once, before its control groups go.
    exit: OnceCell<Exit>,
    is_released: AtomicBool,
}

impl OciContainer {
    /// Writes down what [`recovered`](Self::recovered) reads.
    pub fn record(directory: &Path, image: &Image) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let record = Record { image_id: image.id().to_owned(), layer_ids: image.layer_ids() };
        std::fs::write(directory.join(RECORD), serde_json::to_vec(&record)?)
    }

    pub fn started(shim: ProcessContainer, image: Image, directory: PathBuf, groups: Groups) -> OciContainer {
        let image_id = image.id().to_owned();
        OciContainer::new(shim, image_id, directory, groups, Held::Image { _image: image })
    }

    /// One of an earlier agent.
    pub fn recovered(shim: ProcessContainer, parts: &Parts) -> OciContainer {
        let directory = shim.home();
        let record: Record = std::fs::read(directory.join(RECORD))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let layers = parts.images.hold(&record.layer_ids);
        if layers.is_none() {
            tracing::warn!(container = %shim.id(), "layers of a container that was taken over are not known any more");
        }
        OciContainer::new(
            shim,
            record.image_id,
            directory,
            parts.groups.clone(),
            Held::Layers { _layers: layers },
        )
    }

    fn new(
        shim: ProcessContainer,
        image_id: String,
        directory: PathBuf,
        groups: Groups,
        held: Held,
    ) -> OciContainer {
        OciContainer {
            shim,
            image_id,
            directory,
            groups,
            _held: held,
            exit: OnceCell::new(),
            is_released: AtomicBool::new(false),
        }
    }

    /// The folder of its Pod, out of which its own was made.
    pub fn pod_directory(&self) -> Option<PathBuf> {
        self.directory.parent()?.parent().map(Path::to_owned)
    }

    /// The process that all of its processes descend from, while it runs.
    pub fn ancestor(&self) -> Option<i32> {
        self.shim.ancestor()
    }

    pub fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Relaxed)
    }

    async fn end(&self) -> Exit {
        let mut exit = self.shim.wait().await;
        let (id, groups) = (self.id().clone(), self.groups.clone());
        let looking = tokio::task::spawn_blocking(move || {
            let is_out_of_memory = groups.is_out_of_memory(&id);
            groups.remove(&id);
            is_out_of_memory
        });
        if looking.await.unwrap_or(false) && exit.exit_code != 0 && !exit.fenced {
            exit.reason = ExitReason::OomKilled;
        }
        exit
    }
}

impl RunningContainer for OciContainer {
    fn id(&self) -> &ContainerId {
        self.shim.id()
    }

    fn runtime_id(&self) -> String {
        format!("{}://{}", super::NAME, self.id())
    }

    fn image_id(&self) -> String {
        self.image_id.clone()
    }

    fn started_at(&self) -> Option<SystemTime> {
        self.shim.started_at()
    }

    fn signal(&self, signal: i32) {
        self.shim.signal(signal);
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        self.shim.kill()
    }

    fn wait(&self) -> BoxFuture<'_, Exit> {
        Box::pin(async { self.exit.get_or_init(|| self.end()).await.clone() })
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.shim.release().await;
            if self.is_released.swap(true, Ordering::Relaxed) {
                return;
            }
            let (id, directory, groups) = (self.id().clone(), self.directory.clone(), self.groups.clone());
            let removing = tokio::task::spawn_blocking(move || {
                groups.remove(&id);
                crate::remove_tree(&directory)
            });
            if let Ok(Err(error)) = removing.await {
                // It goes with the Pod's folder.
                tracing::warn!(container = %self.id(), %error, "the folder of a container can't be removed");
            }
        })
    }

    fn exec(&self, spec: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>> {
        self.shim.exec(spec)
    }

    fn attach(&self, spec: AttachSpec) -> BoxFuture<'_, Result<AttachSession, Error>> {
        self.shim.attach(spec)
    }

    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async {
            let (id, groups) = (self.id().clone(), self.groups.clone());
            let usage = tokio::task::spawn_blocking(move || groups.usage(&id)).await.ok().flatten();
            usage.ok_or_else(|| Error::NotRunning { container: self.id().container_name().to_owned() })
        })
    }
}
