//! One pull: from a reference to an image that the state knows.

use super::config;
use super::digest::Digest;
use super::failure::Failure;
use super::manifest::{self, Answer, Blob, Manifest};
use super::registry::Registry;
use super::state::{KnownImage, KnownLayer, each_once, storing};
use super::store::{Hold, Image, Shared};
use super::unpack::unpack;
use crate::{image_reference, limits};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use oci_spec::distribution::Reference;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Asks each place in turn.
pub(super) async fn pull(shared: Arc<Shared>, wanted: Reference) -> Result<Image, Failure> {
    let mut failures: Vec<String> = Vec::new();
    for place in image_reference::places(&wanted, &shared.options.mirrors) {
        let result = match Registry::new(&place, &wanted, &shared.access) {
            Ok(registry) => pull_from(&shared, &registry, &wanted).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(image) => return Ok(image),
            Err(failure) => failures.push(format!("from {}: {}", place.address, failure.message)),
        }
    }
    Err(Failure::pull(format!("can't be pulled {}", failures.join("; "))))
}

async fn pull_from(shared: &Arc<Shared>, registry: &Registry, wanted: &Reference) -> Result<Image, Failure> {
    let (bytes, digest) = registry.manifest(None).await?;
    let manifest = match manifest::read(&bytes, &shared.options.platform)? {
        Answer::Manifest(manifest) => manifest,
        Answer::Index(chosen) => {
            let (bytes, _) = registry.manifest(Some(&chosen)).await?;
            match manifest::read(&bytes, &shared.options.platform)? {
                Answer::Manifest(manifest) => manifest,
                Answer::Index(_) => return Err(Failure::pull("an index of indexes is not understood")),
            }
        }
    };
    let config_bytes = registry.small_blob(&manifest.config).await?;
    let (config, diff_ids) = config::read(&config_bytes)?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(Failure::pull(format!(
            "the manifest has {} layers and the config {}",
            manifest.layers.len(),
            diff_ids.len()
        )));
    }
    let holds = layers(shared, registry, &manifest, &diff_ids).await?;
    let image = KnownImage {
        id: image_reference::with_digest(wanted, &digest.to_string()),
        config_digest: manifest.config.digest,
        config: Arc::new(config),
        layers: each_once(&diff_ids),
        used_at: SystemTime::now(),
    };
    // Written while the layers are held, so that none of them is collected before somebody knows them.
    let image = shared.add_image(&wanted.whole(), image, config_bytes).await?;
    drop(holds);
    tracing::info!(image = wanted.whole(), id = image.id(), "pulled an image");
    Ok(image)
}

async fn layers(
    shared: &Arc<Shared>,
    registry: &Registry,
    manifest: &Manifest,
    diff_ids: &[Digest],
) -> Result<Vec<Hold>, Failure> {
    let mut pulls: Vec<BoxFuture<'_, _>> = Vec::with_capacity(diff_ids.len());
    for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
        pulls.push(layer(shared, registry, blob, *diff_id).boxed());
    }
    let pulled: Vec<_> =
        futures::stream::iter(pulls).buffer_unordered(limits::LAYERS_PER_PULL_MAX).collect().await;
    // Only now: a layer that takes long must not begin anew with every failure of another.
    pulled.into_iter().collect()
}

/// A layer, whether it was there or had to be pulled. Two images that share it wait for one pull of it.
async fn layer(
    shared: &Arc<Shared>,
    registry: &Registry,
    blob: &Blob,
    diff_id: Digest,
) -> Result<Hold, Failure> {
    let lock = shared.layer_lock(diff_id);
    let _guard = lock.lock().await;
    if let Some(hold) = Hold::of_known(shared, &[diff_id]) {
        return Ok(hold);
    }
    // Never closed.
    let _permit = shared.layer_pulls.acquire().await;
    shared.check_room(blob.size)?;
    let folder = TemporaryFolder::new(shared.folders.temporary()).map_err(storing)?;
    let file = folder.path().join("blob");
    registry.blob_into(blob, &file).await?;
    let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let is_cancelled = cancel.0.clone();
    let task_shared = shared.clone();
    // Not awaited if this pull is given up: it ends by itself then, and takes its folder with it.
    let unpacking =
        tokio::task::spawn_blocking(move || unpack_layer(&task_shared, folder, &file, diff_id, is_cancelled));
    match unpacking.await {
        Ok(result) => result,
        Err(error) => Err(Failure::because("unpacking a layer", &error)),
    }
}

fn unpack_layer(
    shared: &Arc<Shared>,
    mut folder: TemporaryFolder,
    file: &Path,
    diff_id: Digest,
    is_cancelled: Arc<AtomicBool>,
) -> Result<Hold, Failure> {
    let blob = fs::File::open(file).map_err(storing)?;
    let root = folder.path().join("fs");
    fs::create_dir(&root).map_err(storing)?;
    let unpacked = unpack(blob, &root, shared.is_root, is_cancelled)?;
    if unpacked.diff_id != diff_id {
        let is = unpacked.diff_id;
        return Err(Failure::pull(format!("a layer unpacks to {is}, the image's config says {diff_id}")));
    }
    fs::remove_file(file).map_err(storing)?;
    shared.folders.store_layer(folder.path(), &diff_id, unpacked.bytes).map_err(storing)?;
    folder.is_gone = true;
    let mut state = shared.state();
    state.layers.insert(diff_id, KnownLayer { bytes: unpacked.bytes, made_at: SystemTime::now() });
    state.hold(&[diff_id]);
    Ok(Hold::new(shared, vec![diff_id]))
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A folder that goes unless it was moved.
struct TemporaryFolder {
    path: PathBuf,
    is_gone: bool,
}

impl TemporaryFolder {
    fn new(path: PathBuf) -> std::io::Result<TemporaryFolder> {
        fs::create_dir(&path)?;
        Ok(TemporaryFolder { path, is_gone: false })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if !self.is_gone
            && let Err(error) = crate::remove_tree(&self.path)
        {
            // The next start tries again.
            tracing::warn!(path = %self.path.display(), %error, "an unfinished layer can't be removed");
        }
    }
}
