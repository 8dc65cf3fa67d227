//! What goes when the disk fills: images that were not used for longest, and layers that no image has.

use super::digest::Digest;
use super::state::{Folders, State};
use crate::limits;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// References.
    pub images: Vec<String>,
    /// Layers.
    pub layers: usize,
    /// Bytes of those layers' files.
    pub bytes: u64,
}

/// Takes out of the state, and out of the store's folders, what may go to free `excess` bytes. The folders that are returned
/// are to be deleted, which takes long.
pub(super) fn collect(
    state: &mut State,
    folders: &Folders,
    excess: u64,
    now: SystemTime,
) -> io::Result<(Collected, Vec<PathBuf>)> {
    let mut collected = Collected::default();
    let mut doomed = Vec::new();
    // A layer that is being pulled belongs to no image yet, but is held; one whose pull has failed is kept for the next try.
    let kept_for = Duration::from_millis(limits::LAYER_WITHOUT_IMAGE_MS);
    let old = |made_at: SystemTime| now.duration_since(made_at).is_ok_and(|age| age > kept_for);
    let orphans = orphans(state);
    let orphans: Vec<_> = orphans.into_iter().filter(|layer| old(state.layers[layer].made_at)).collect();
    remove_layers(state, folders, &orphans, &mut collected, &mut doomed)?;
    let mut by_use: Vec<_> =
        state.images.iter().map(|(reference, image)| (image.used_at, reference.clone())).collect();
    by_use.sort();
    for (_, reference) in by_use {
        if collected.bytes >= excess {
            break;
        }
        let image = &state.images[&reference];
        // In use, or nothing would be won.
        if image.layers.iter().all(|layer| state.holds.contains_key(layer)) {
            continue;
        }
        folders.remove_image(&reference)?;
        let Some(image) = state.images.remove(&reference) else { continue };
        if !state.images.values().any(|other| other.config_digest == image.config_digest) {
            folders.remove_config(&image.config_digest)?;
        }
        collected.images.push(reference);
        let orphans = orphans_among(state, &image.layers);
        remove_layers(state, folders, &orphans, &mut collected, &mut doomed)?;
    }
    Ok((collected, doomed))
}

fn orphans(state: &State) -> Vec<Digest> {
    let all: Vec<_> = state.layers.keys().copied().collect();
    orphans_among(state, &all)
}

/// Those that no image has and nobody uses.
fn orphans_among(state: &State, layers: &[Digest]) -> Vec<Digest> {
    let used: BTreeSet<_> = state.images.values().flat_map(|image| &image.layers).collect();
    layers.iter().filter(|layer| !used.contains(layer) && !state.holds.contains_key(layer)).copied().collect()
}

fn remove_layers(
    state: &mut State,
    folders: &Folders,
    layers: &[Digest],
    collected: &mut Collected,
    doomed: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for diff_id in layers {
        let temporary = folders.temporary();
        std::fs::rename(folders.layer(diff_id), &temporary)?;
        doomed.push(temporary);
        if let Some(layer) = state.layers.remove(diff_id) {
            collected.layers += 1;
            collected.bytes += layer.bytes;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::ImageConfig;
    use super::super::state::{KnownImage, KnownLayer};
    use super::*;
    use std::sync::Arc;

    /// Images by reference, last use and layers; all layers have 10 bytes.
    fn store(images: &[(&str, u64, &str)]) -> (tempfile::TempDir, Folders, State) {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::open(folder.path()).unwrap();
        let mut state = State::default();
        for (reference, used_at, layers) in images {
            let layers: Vec<_> = layers.bytes().map(|name| Digest::of(&[name])).collect();
            for layer in &layers {
                if !state.layers.contains_key(layer) {
                    let unpacked = folders.temporary();
                    std::fs::create_dir_all(unpacked.join("fs")).unwrap();
                    folders.store_layer(&unpacked, layer, 10).unwrap();
                    state.layers.insert(*layer, KnownLayer { bytes: 10, made_at: SystemTime::UNIX_EPOCH });
                }
            }
            let config = br#"{"rootfs": {}}"#;
            let image = KnownImage {
                id: (*reference).to_owned(),
                config_digest: Digest::of(config),
                config: Arc::new(ImageConfig::default()),
                layers,
                used_at: at(*used_at),
            };
            folders.store_image(reference, &image, config).unwrap();
            folders.touch(reference, at(*used_at)).unwrap();
            state.images.insert((*reference).to_owned(), image);
        }
        (folder, folders, state)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_image_unused_for_longest_goes_first_and_only_as_many_as_needed() {
        let (_folder, folders, mut state) =
            store(&[("new", 300, "ab"), ("old", 100, "ac"), ("mid", 200, "ad")]);
        let (collected, doomed) = collect(&mut state, &folders, 15, at(301)).unwrap();
        // The layer that all share stays.
        assert_eq!(collected, Collected { images: vec!["old".into(), "mid".into()], layers: 2, bytes: 20 });
        assert!(doomed.iter().all(|path| path.is_dir()));
        // What is left is what a new process finds.
        let found = folders.load().unwrap();
        assert_eq!(found.images.keys().collect::<Vec<_>>(), ["new"]);
        assert_eq!(found.layers.keys().collect::<Vec<_>>(), state.layers.keys().collect::<Vec<_>>());
        assert_eq!(found.layers.len(), 2);
        assert_eq!(found.images["new"].used_at, at(300));
    }

    #[test]
    fn what_is_in_use_stays() {
        let (_folder, folders, mut state) = store(&[("old", 100, "a"), ("new", 200, "b")]);
        state.hold(&[Digest::of(b"a")]);
        let (collected, _) = collect(&mut state, &folders, 1000, at(300)).unwrap();
        assert_eq!(collected.images, ["new"]);
        assert!(state.layers.contains_key(&Digest::of(b"a")));
    }

    #[test]
    fn layers_of_no_image_go_when_they_are_old_even_if_there_is_room() {
        let (_folder, folders, mut state) = store(&[("x", 100, "abc")]);
        let image = state.images.remove("x").unwrap();
        state.hold(&image.layers[..1]);
        state.layers.get_mut(&image.layers[1]).unwrap().made_at = at(9_000_000);
        let (collected, _) = collect(&mut state, &folders, 0, at(9_000_001)).unwrap();
        assert_eq!(collected, Collected { images: vec![], layers: 1, bytes: 10 });
        assert_eq!(
            state.layers.keys().copied().collect::<BTreeSet<_>>(),
            image.layers[..2].iter().copied().collect()
        );
    }
}
