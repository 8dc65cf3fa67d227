//! The store: what callers see of images.

use super::collection::{Collected, collect};
use super::config::ImageConfig;
use super::digest::Digest;
use super::failure::Failure;
use super::manifest::Platform;
use super::pull::pull;
use super::registry::Access;
use super::state::{Folders, KnownImage, State, storing};
use crate::registry_mirror::RegistryMirror;
use crate::{Error, ImageDisk, ImageReason, PullPolicy, image_reference, limits};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture, WeakShared};
use oci_spec::distribution::Reference;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;
use tokio::sync::Semaphore;

/// How an [`ImageStore`] is set up.
#[derive(Debug, Clone)]
pub struct ImageStoreOptions {
    /// Its folder, on a file system that overlayfs can use. Nobody else may use it at the same time.
    pub directory: PathBuf,
    /// Asked before the registries that they stand for, in this order.
    pub mirrors: Vec<RegistryMirror>,
    /// A Docker `config.json` with credentials for registries; read at every pull.
    pub credentials: Option<PathBuf>,
    /// Certificate authorities in PEM that are trusted besides the system's.
    pub authorities: Vec<PathBuf>,
    /// What images must be built for.
    pub platform: Platform,
    /// When images are removed.
    pub disk: ImageDisk,
}

impl ImageStoreOptions {
    /// Registries as they are, for this host.
    pub fn new(directory: PathBuf) -> ImageStoreOptions {
        ImageStoreOptions {
            directory,
            mirrors: Vec::new(),
            credentials: None,
            authorities: Vec::new(),
            platform: Platform::of_host(),
            disk: ImageDisk::default(),
        }
    }
}

/// The images of a node. Cheap to clone.
#[derive(Clone)]
pub struct ImageStore {
    shared: Arc<Shared>,
}

/// An image that is in use: as long as this is held, it is not collected. Cheap to clone.
#[derive(Clone)]
pub struct Image {
    inner: Arc<ImageInner>,
}

struct ImageInner {
    id: String,
    config: Arc<ImageConfig>,
    hold: Hold,
}

type SharedPull = SharedFuture<BoxFuture<'static, Result<Image, Failure>>>;
type WeakPull = WeakShared<BoxFuture<'static, Result<Image, Failure>>>;

/// What every handle of the store has in common.
pub(super) struct Shared {
    pub options: ImageStoreOptions,
    pub access: Access,
    pub folders: Folders,
    /// Root gives files their owners, and makes devices.
    pub is_root: bool,
    state: Mutex<State>,
    /// Pulls that somebody waits for, by whole reference.
    pulls: Mutex<HashMap<String, WeakPull>>,
    layer_locks: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    pub layer_pulls: Semaphore,
}

impl ImageStore {
    /// Opens the store, and removes what a crash left. Blocks for as long as that takes.
    pub fn open(options: ImageStoreOptions) -> Result<ImageStore, Error> {
        let failed =
            |source| Error::Images { path: options.directory.clone(), action: "open the store", source };
        let folders = Folders::open(&options.directory).map_err(failed)?;
        let state = folders.load().map_err(failed)?;
        let access =
            Access { credentials: options.credentials.clone(), authorities: options.authorities.clone() };
        Ok(ImageStore {
            shared: Arc::new(Shared {
                options,
                access,
                folders,
                is_root: nix::unistd::geteuid().is_root(),
                state: Mutex::new(state),
                pulls: Mutex::default(),
                layer_locks: Mutex::default(),
                layer_pulls: Semaphore::new(limits::LAYER_PULLS_CONCURRENT_MAX),
            }),
        })
    }

    /// Sees to it that the node has an image, as the policy says. Callers who want the same image at the same time share
    /// one pull; it is given up when the last of them gives up.
    ///
    /// # Errors
    /// [`Error::Image`].
    pub async fn prepare(&self, text: &str, policy: PullPolicy) -> Result<Image, Error> {
        self.try_prepare(text, policy).await.map_err(|failure| failure.into_error(text))
    }

    async fn try_prepare(&self, text: &str, policy: PullPolicy) -> Result<Image, Failure> {
        let invalid =
            |message: String| Failure { reason: ImageReason::InvalidImageName, message: message.into() };
        let wanted = image_reference::parse(text).map_err(invalid)?;
        let whole = wanted.whole();
        // What a digest names can't have changed.
        if policy != PullPolicy::Always || wanted.digest().is_some() {
            if let Some(image) = self.shared.find(&whole) {
                return Ok(image);
            }
            if policy == PullPolicy::Never {
                return Err(Failure {
                    reason: ImageReason::ErrImageNeverPull,
                    message: "is not on this node, and its pull policy is Never".into(),
                });
            }
        }
        self.pull_shared(whole, wanted).await
    }

    fn pull_shared(&self, whole: String, wanted: Reference) -> SharedPull {
        let mut pulls = lock(&self.shared.pulls);
        if let Some(pull) = pulls.get(&whole).and_then(WeakShared::upgrade)
            && pull.peek().is_none()
        {
            return pull;
        }
        // Those that nobody waits for any more.
        pulls.retain(|_, pull| pull.upgrade().is_some_and(|pull| pull.peek().is_none()));
        let pull = pull(self.shared.clone(), wanted).boxed().shared();
        if let Some(weak) = pull.downgrade() {
            pulls.insert(whole, weak);
        }
        pull
    }

    /// Keeps the layers of a container that an earlier process started, by its [`Image::layer_ids`], whether or not there
    /// is still an image that has them. `None` if one is missing.
    pub fn hold(&self, layer_ids: &[String]) -> Option<LayerHold> {
        let layers: Vec<_> =
            layer_ids.iter().map(|text| Digest::parse(text)).collect::<Result<_, _>>().ok()?;
        Hold::of_known(&self.shared, &layers).map(|hold| LayerHold { _hold: hold })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.shared.folders.root()
    }

    /// Removes images that were not used for longest while the file system is too full, and what failed pulls left.
    pub async fn collect_garbage(&self) -> Result<Collected, Error> {
        let shared = self.shared.clone();
        let excess = shared.options.disk.excess(shared.folders.root());
        self.collect_bytes(excess).await
    }

    async fn collect_bytes(&self, excess: std::io::Result<u64>) -> Result<Collected, Error> {
        let shared = self.shared.clone();
        let collecting = tokio::task::spawn_blocking(move || {
            let (collected, doomed) =
                collect(&mut shared.state(), &shared.folders, excess?, SystemTime::now())?;
            for path in doomed {
                crate::remove_tree(&path)?;
            }
            Ok(collected)
        });
        let result = collecting.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let path = self.shared.folders.root().to_owned();
        let collected = result.map_err(|source| Error::Images { path, action: "remove images", source })?;
        if collected != Collected::default() {
            tracing::info!(images = ?collected.images, layers = collected.layers, bytes = collected.bytes, "removed images");
        }
        Ok(collected)
    }

    /// A handle that does not keep the store.
    pub(in crate::oci) fn downgrade(&self) -> WeakImageStore {
        WeakImageStore(Arc::downgrade(&self.shared))
    }

    /// References of the images that the node has, each with [`Image::id`].
    pub fn images(&self) -> Vec<(String, String)> {
        let state = self.shared.state();
        state.images.iter().map(|(reference, image)| (reference.clone(), image.id.clone())).collect()
    }
}

impl Image {
    /// Repository and digest, such as `docker.io/library/perl@sha256:…`: what the Pod's status calls `imageID`.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What it says about its containers.
    pub fn config(&self) -> &ImageConfig {
        &self.inner.config
    }

    /// The folder that [`layer_names`](Self::layer_names) are in.
    pub fn layers_directory(&self) -> PathBuf {
        self.inner.hold.shared.folders.layers()
    }

    /// Paths of the unpacked layers below [`layers_directory`](Self::layers_directory), from the lowest up: short, because
    /// overlayfs takes all of them in one page.
    pub fn layer_names(&self) -> Vec<PathBuf> {
        let folders = &self.inner.hold.shared.folders;
        let name = |layer: &Digest| folders.layer(layer).file_name().map(|name| Path::new(name).join("fs"));
        self.inner.hold.layers.iter().filter_map(name).collect()
    }

    /// Names of its layers, to hold them again later.
    pub fn layer_ids(&self) -> Vec<String> {
        self.inner.hold.layers.iter().map(Digest::to_string).collect()
    }
}

/// See [`ImageStore::downgrade`].
pub(in crate::oci) struct WeakImageStore(Weak<Shared>);

impl WeakImageStore {
    pub fn upgrade(&self) -> Option<ImageStore> {
        self.0.upgrade().map(|shared| ImageStore { shared })
    }
}

/// Layers that are not collected as long as this is held.
pub struct LayerHold {
    _hold: Hold,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn find(self: &Arc<Shared>, whole: &str) -> Option<Image> {
        let mut state = self.state();
        let known = state.images.get_mut(whole)?;
        known.used_at = SystemTime::now();
        let known = known.clone();
        state.hold(&known.layers);
        drop(state);
        if let Err(error) = self.folders.touch(whole, known.used_at) {
            tracing::warn!(image = whole, %error, "the use of an image can't be noted");
        }
        Some(self.image(known))
    }

    /// Makes it known, in place of what had its name.
    pub async fn add_image(
        self: &Arc<Shared>,
        whole: &str,
        image: KnownImage,
        config: Vec<u8>,
    ) -> Result<Image, Failure> {
        let (shared, whole) = (self.clone(), whole.to_owned());
        let adding = tokio::task::spawn_blocking(move || {
            let mut state = shared.state();
            shared.folders.store_image(&whole, &image, &config)?;
            state.hold(&image.layers);
            let old = state.images.insert(whole, image.clone());
            if let Some(old) = old
                && !state.images.values().any(|other| other.config_digest == old.config_digest)
            {
                shared.folders.remove_config(&old.config_digest)?;
            }
            drop(state);
            Ok(shared.image(image))
        });
        adding.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(storing)
    }

    /// The layers are held already.
    fn image(self: &Arc<Shared>, known: KnownImage) -> Image {
        let hold = Hold::new(self, known.layers);
        Image { inner: Arc::new(ImageInner { id: known.id, config: known.config, hold }) }
    }

    pub fn layer_lock(&self, diff_id: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = lock(&self.layer_locks);
        if let Some(lock) = locks.get(&diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(diff_id, Arc::downgrade(&lock));
        lock
    }

    /// Refuses a blob that would take the last of the disk, which Pods need too.
    pub fn check_room(&self, bytes: u64) -> Result<(), Failure> {
        let stat = rustix::fs::statvfs(self.folders.root()).map_err(|error| storing(error.into()))?;
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        let left = limits::STORE_FREE_BYTES_MIN;
        if available < bytes.saturating_add(left) {
            return Err(Failure::pull(format!(
                "a layer of {bytes} bytes would leave less than {left} bytes free on the disk"
            )));
        }
        Ok(())
    }
}

/// Keeps layers from being collected.
pub(super) struct Hold {
    shared: Arc<Shared>,
    layers: Vec<Digest>,
}

impl Hold {
    /// The layers are counted as held already.
    pub fn new(shared: &Arc<Shared>, layers: Vec<Digest>) -> Hold {
        Hold { shared: shared.clone(), layers }
    }

    /// None if one of them is not there.
    pub fn of_known(shared: &Arc<Shared>, layers: &[Digest]) -> Option<Hold> {
        let mut state = shared.state();
        if !layers.iter().all(|layer| state.layers.contains_key(layer)) {
            return None;
        }
        state.hold(layers);
        Some(Hold::new(shared, layers.to_vec()))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.state().release(&self.layers);
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Image").field(&self.inner.id).finish()
    }
}

/// Whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
