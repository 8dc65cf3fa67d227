//! What the store has, in memory and on disk.
//!
//! On disk, below the store's folder: `images/<digest of the reference>` (a [`Record`]), `configs/<digest>` (as pulled),
//! `layers/<start of the diff id>/{layer,fs}`, and `temporary`, which is emptied when the store is opened.

use super::config::{self, ImageConfig};
use super::digest::Digest;
use super::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Digits of a diff id that name a layer's folder. Few, because overlayfs takes all names in one page; that two layers do
/// not share them is checked.
const LAYER_NAME_DIGITS: usize = 16;

/// An image that the node has.
#[derive(Debug, Clone)]
pub(super) struct KnownImage {
    /// Repository and digest, as in `imageID`.
    pub id: String,
    pub config_digest: Digest,
    pub config: Arc<ImageConfig>,
    /// Diff ids, from the lowest up, each once.
    pub layers: Vec<Digest>,
    pub used_at: SystemTime,
}

/// A layer that the node has.
#[derive(Debug, Clone)]
pub(super) struct KnownLayer {
    pub bytes: u64,
    pub made_at: SystemTime,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// By whole reference.
    pub images: BTreeMap<String, KnownImage>,
    /// By diff id.
    pub layers: BTreeMap<Digest, KnownLayer>,
    /// How many users each layer has.
    pub holds: BTreeMap<Digest, usize>,
}

/// The file of an image.
#[derive(Serialize, Deserialize)]
struct Record {
    reference: String,
    id: String,
    config: String,
    layers: Vec<String>,
}

/// The file of a layer.
#[derive(Serialize, Deserialize)]
struct LayerRecord {
    diff_id: String,
    bytes: u64,
}

/// Where things are.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    next_temporary: AtomicU64,
}

impl Folders {
    /// Makes what is missing, and removes what a crash left.
    pub fn open(root: &Path) -> io::Result<Folders> {
        use std::os::unix::fs::DirBuilderExt;
        let folders = Folders { root: root.to_owned(), next_temporary: AtomicU64::new(0) };
        let temporary = folders.path("temporary");
        crate::remove_tree(&temporary)?;
        for name in ["", "images", "configs", "layers", "temporary"] {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(folders.path(name))?;
        }
        Ok(folders)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A new name in `temporary`.
    pub fn temporary(&self) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.path("temporary").join(number.to_string())
    }

    pub fn layers(&self) -> PathBuf {
        self.path("layers")
    }

    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.path("layers").join(&diff_id.hex()[..LAYER_NAME_DIGITS])
    }

    fn image(&self, reference: &str) -> PathBuf {
        self.path("images").join(Digest::of(reference.as_bytes()).hex())
    }

    fn config(&self, digest: &Digest) -> PathBuf {
        self.path("configs").join(digest.hex())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Reads what is there. What can't be understood is removed: it can be pulled again.
    pub fn load(&self) -> io::Result<State> {
        let mut state = State::default();
        for entry in fs::read_dir(self.layers())? {
            let path = entry?.path();
            match self.load_layer(&path) {
                Some((diff_id, layer)) => {
                    state.layers.insert(diff_id, layer);
                }
                None => {
                    tracing::warn!(path = %path.display(), "removing a layer that can't be understood");
                    fs::rename(&path, self.temporary())?;
                }
            }
        }
        for entry in fs::read_dir(self.path("images"))? {
            let path = entry?.path();
            match self.load_image(&path, &state.layers) {
                Some((reference, image)) => {
                    state.images.insert(reference, image);
                }
                None => {
                    tracing::warn!(path = %path.display(), "removing an image that is not whole");
                    fs::remove_file(&path)?;
                }
            }
        }
        let used: BTreeSet<_> =
            state.images.values().map(|image| self.config(&image.config_digest)).collect();
        for entry in fs::read_dir(self.path("configs"))? {
            let path = entry?.path();
            if !used.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(state)
    }

    fn load_layer(&self, path: &Path) -> Option<(Digest, KnownLayer)> {
        let record: LayerRecord = serde_json::from_slice(&fs::read(path.join("layer")).ok()?).ok()?;
        let diff_id = Digest::parse(&record.diff_id).ok()?;
        let made_at = fs::metadata(path.join("layer")).and_then(|metadata| metadata.modified()).ok()?;
        let is_whole = self.layer(&diff_id) == path && path.join("fs").is_dir();
        is_whole.then_some((diff_id, KnownLayer { bytes: record.bytes, made_at }))
    }

    fn load_image(&self, path: &Path, layers: &BTreeMap<Digest, KnownLayer>) -> Option<(String, KnownImage)> {
        let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let used_at = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        let config_digest = Digest::parse(&record.config).ok()?;
        let config = fs::read(self.config(&config_digest)).ok()?;
        if self.image(&record.reference) != path || Digest::of(&config) != config_digest {
            return None;
        }
        let (config, _) = config::read(&config).ok()?;
        let layer_ids: Vec<_> =
            record.layers.iter().map(|text| Digest::parse(text)).collect::<Result<_, _>>().ok()?;
        if !layer_ids.iter().all(|layer| layers.contains_key(layer)) {
            return None;
        }
        let config = Arc::new(config);
        Some((
            record.reference,
            KnownImage { id: record.id, config_digest, config, layers: layer_ids, used_at },
        ))
    }

    /// Makes an image known, so that it outlasts a crash of the machine.
    pub fn store_image(&self, reference: &str, image: &KnownImage, config: &[u8]) -> io::Result<()> {
        let record = Record {
            reference: reference.to_owned(),
            id: image.id.clone(),
            config: image.config_digest.to_string(),
            layers: image.layers.iter().map(Digest::to_string).collect(),
        };
        self.store(&self.config(&image.config_digest), config)?;
        self.store(&self.image(reference), &serde_json::to_vec(&record)?)
    }

    /// Gives a layer that was unpacked to `folder` its place.
    pub fn store_layer(&self, folder: &Path, diff_id: &Digest, bytes: u64) -> io::Result<()> {
        let record = LayerRecord { diff_id: diff_id.to_string(), bytes };
        fs::write(folder.join("layer"), serde_json::to_vec(&record)?)?;
        // One call instead of one for each of thousands of files.
        rustix::fs::syncfs(File::open(folder)?)?;
        let place = self.layer(diff_id);
        if place.exists() {
            return Err(io::Error::other(format!("another layer has the name {}", place.display())));
        }
        fs::rename(folder, &place)?;
        sync_folder(&self.layers())
    }

    /// Notes when an image was used last. For the order of collection only, so it need not last.
    pub fn touch(&self, reference: &str, used_at: SystemTime) -> io::Result<()> {
        File::options().write(true).open(self.image(reference))?.set_modified(used_at)
    }

    pub fn remove_image(&self, reference: &str) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.image(reference)))
    }

    pub fn remove_config(&self, digest: &Digest) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.config(digest)))
    }

    fn store(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    }
}

impl State {
    pub fn hold(&mut self, layers: &[Digest]) {
        for layer in layers {
            *self.holds.entry(*layer).or_insert(0) += 1;
        }
    }

    pub fn release(&mut self, layers: &[Digest]) {
        for layer in layers {
            if let Some(count) = self.holds.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    self.holds.remove(layer);
                }
            }
        }
    }
}

/// What must be the same for each layer once in a stack: overlayfs refuses one folder twice, and the upper one of two
/// equal layers already says everything that the lower says.
pub(super) fn each_once(layers: &[Digest]) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<_> = layers.iter().rev().filter(|layer| seen.insert(**layer)).copied().collect();
    kept.reverse();
    kept
}

pub(super) fn storing(error: io::Error) -> Failure {
    Failure::because("the image can't be stored", &error)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_layers_the_uppermost_counts() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        assert_eq!(each_once(&[a, b, a, c, c]), [b, a, c]);
        assert_eq!(each_once(&[]), []);
    }

    #[test]
    fn a_hold_counts() {
        let layer = Digest::of(b"x");
        let mut state = State::default();
        state.hold(&[layer]);
        state.hold(&[layer]);
        state.release(&[layer]);
        assert_eq!(state.holds.get(&layer), Some(&1));
        state.release(&[layer]);
        assert!(state.holds.is_empty());
    }
}
