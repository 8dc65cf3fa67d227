//! Images: what the node has, what is fetched, what is given up.
//!
//! Owns: pull policies, credentials, mirrors, which images go when the disk fills. Does not own: layers, which are the engine's.

use super::api::AuthConfig;
use super::config::{ImageUser, stop_signal_of_info};
use super::engine::{Engine, Refusal};
use crate::image_reference;
use crate::registry_mirror::{RegistryMirror, canonical_registry};
use crate::{Error, ImageDisk, ImageReason, ImageSpec, PullPolicy, limits};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tonic::Code;

/// An image that the node has.
#[derive(Debug, Clone)]
pub(super) struct ImageFacts {
    /// What the engine calls it.
    pub id: String,
    pub user: ImageUser,
    /// `None`: SIGTERM.
    pub stop_signal: Option<i32>,
}

/// The images of a runtime.
#[derive(Debug)]
pub(super) struct Images {
    engine: Engine,
    /// A file as `docker login` writes it, read at every pull.
    credentials: Option<PathBuf>,
    mirrors: Vec<RegistryMirror>,
    /// When images go.
    pub disk: ImageDisk,
    /// Those that were asked for within this time stay.
    pub age_min: Duration,
    /// One that stays whatever happens.
    pub kept: Option<String>,
    /// Images by the engine's id, and when they were last asked for, or first seen by the collection.
    last_used: Mutex<HashMap<String, Instant>>,
    /// One pull of a reference at a time: the others find what it fetched.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    pub fn new(engine: Engine, credentials: Option<PathBuf>, mirrors: Vec<RegistryMirror>) -> Images {
        Images {
            engine,
            credentials,
            mirrors,
            disk: ImageDisk::default(),
            age_min: Duration::from_millis(limits::IMAGE_UNUSED_MS),
            kept: None,
            last_used: Mutex::default(),
            pulls: Mutex::default(),
        }
    }

    /// An image that the node has, or has after fetching it as the policy says.
    pub async fn prepare(&self, image: &ImageSpec) -> Result<ImageFacts, Error> {
        let refused = |reason, message| Error::Image { reference: image.reference.clone(), reason, message };
        if let Err(message) = image_reference::parse(&image.reference) {
            return Err(refused(ImageReason::InvalidImageName, message));
        }
        if image.pull_policy != PullPolicy::Always
            && let Some(facts) = self.find(&image.reference).await?
        {
            return Ok(facts);
        }
        if image.pull_policy == PullPolicy::Never {
            let message = "the node does not have it, and imagePullPolicy is Never".to_owned();
            return Err(refused(ImageReason::ErrImageNeverPull, message));
        }
        let pull = self.lock_pulls().entry(image.reference.clone()).or_default().clone();
        let guard = pull.lock().await;
        // Another may have fetched it while this one waited.
        let result = match image.pull_policy {
            PullPolicy::IfNotPresent => self.find(&image.reference).await?,
            _ => None,
        };
        let result = match result {
            Some(facts) => Ok(facts),
            None => self.pull(&image.reference).await,
        };
        drop(guard);
        let mut pulls = self.lock_pulls();
        // Ours and the table's.
        if Arc::strong_count(&pull) <= 2 {
            pulls.remove(&image.reference);
        }
        drop(pulls);
        result.map_err(|refusal| match refusal.code {
            Code::Unavailable => self.engine.error(refusal),
            _ => refused(ImageReason::ErrImagePull, refusal.message),
        })
    }

    /// An image that was prepared.
    pub async fn get(&self, image: &ImageSpec) -> Result<ImageFacts, Error> {
        match self.find(&image.reference).await? {
            Some(facts) => Ok(facts),
            None => self.prepare(image).await,
        }
    }

    async fn find(&self, reference: &str) -> Result<Option<ImageFacts>, Error> {
        for name in [reference.to_owned()].into_iter().chain(self.mirrored(reference)) {
            if let Some(facts) = self.facts(&name).await.map_err(|refusal| self.engine.error(refusal))? {
                return Ok(Some(facts));
            }
        }
        Ok(None)
    }

    async fn facts(&self, name: &str) -> Result<Option<ImageFacts>, Refusal> {
        let Some((image, info)) = self.engine.image(name).await? else { return Ok(None) };
        self.lock_last_used().insert(image.id.clone(), Instant::now());
        let stop_signal = stop_signal_of_info(&info);
        Ok(Some(ImageFacts { user: ImageUser::of(&image), id: image.id, stop_signal }))
    }

    /// From the mirrors, in order, then from the registry itself.
    async fn pull(&self, reference: &str) -> Result<ImageFacts, Refusal> {
        let mut last = None;
        for name in self.mirrored(reference).into_iter().chain([reference.to_owned()]) {
            let auth = self.credentials.as_deref().and_then(|file| credentials(file, &registry_of(&name)));
            match self.engine.pull(&name, auth).await {
                Ok(id) => {
                    // Some engines answer a digest that they know the image by, others its id.
                    let facts = match self.facts(&id).await? {
                        Some(facts) => Some(facts),
                        None => self.facts(&name).await?,
                    };
                    return facts.ok_or_else(|| Refusal {
                        action: "pull",
                        code: Code::NotFound,
                        message: "it was fetched, but the engine does not have it".to_owned(),
                    });
                }
                Err(refusal) if refusal.code == Code::Unavailable => return Err(refusal),
                Err(refusal) => {
                    tracing::debug!(image = name, message = refusal.message, "image not fetched");
                    last = Some(refusal);
                }
            }
        }
        Err(last.unwrap_or_else(|| Refusal {
            action: "pull",
            code: Code::NotFound,
            message: "there is nowhere to fetch it from".to_owned(),
        }))
    }

    fn mirrored(&self, reference: &str) -> Vec<String> {
        image_reference::parse(reference)
            .map(|reference| image_reference::mirrored(&reference, &self.mirrors))
            .unwrap_or_default()
    }

    /// Removes images that nothing uses, oldest use first, if the disk is full above the watermark. `in_use` are references
    /// and ids of the images of all containers that exist.
    pub async fn collect(&self, in_use: &BTreeSet<String>) -> Result<(), Refusal> {
        let folders = self.engine.image_folders().await?;
        // One that can't be looked at is not known to be full.
        let is_full = |folder: &String| self.disk.excess(Path::new(folder)).is_ok_and(|bytes| bytes > 0);
        let is_above_low = |folder: &String| self.disk.is_above_low(Path::new(folder)).unwrap_or(false);
        if !folders.iter().any(is_full) {
            return Ok(());
        }
        let images = self.engine.all_images().await?;
        let mut candidates = {
            let mut last_used = self.lock_last_used();
            last_used.retain(|id, _| images.iter().any(|image| image.id == *id));
            let kept = self.kept.as_deref().and_then(whole);
            let unused = images.iter().filter(|image| {
                let mut names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
                let is_kept = kept.is_some() && image.repo_tags.iter().any(|tag| whole(tag) == kept);
                !image.pinned && !is_kept && !names.any(|name| in_use.contains(name))
            });
            unused
                .map(|image| (*last_used.entry(image.id.clone()).or_insert_with(Instant::now), image))
                .collect::<Vec<_>>()
        };
        candidates.sort_by_key(|(last_used, _)| *last_used);
        for (last_used, image) in candidates {
            // What was just asked for may be about to be started.
            if last_used.elapsed() < self.age_min {
                break;
            }
            self.engine.remove_image(&image.id).await?;
            tracing::info!(image = image.id, bytes = image.size, "image removed: the disk was full");
            if !folders.iter().any(is_above_low) {
                break;
            }
        }
        Ok(())
    }

    fn lock_last_used(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // A map is whole after any panic.
        self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pulls(&self) -> MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reference with all that it may leave out.
fn whole(reference: &str) -> Option<String> {
    image_reference::parse(reference).ok().map(|reference| reference.whole())
}

/// The registry that a name is fetched from; empty if it is none.
fn registry_of(name: &str) -> String {
    let reference = image_reference::parse(name);
    reference.map(|reference| canonical_registry(reference.registry()).to_owned()).unwrap_or_default()
}

/// What a file as `docker login` writes it says about a registry.
fn credentials(file: &Path, registry: &str) -> Option<AuthConfig> {
    let mut text = String::new();
    let read = fs::File::open(file)
        .and_then(|file| file.take(limits::CREDENTIALS_BYTES_MAX).read_to_string(&mut text));
    if let Err(error) = read {
        tracing::warn!(file = %file.display(), %error, "credentials of registries can't be read");
        return None;
    }
    match serde_json::from_str(&text) {
        Ok(config) => find_credentials(&config, registry),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "credentials of registries can't be read");
            None
        }
    }
}

fn find_credentials(config: &Value, registry: &str) -> Option<AuthConfig> {
    let host = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        canonical_registry(key.split('/').next().unwrap_or(key)).to_owned()
    };
    let (key, entry) = config["auths"].as_object()?.iter().find(|(key, _)| host(key) == registry)?;
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    Some(AuthConfig {
        username: text("username"),
        password: text("password"),
        auth: text("auth"),
        server_address: if key.contains("://") { key.clone() } else { String::new() },
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_the_registry_that_a_name_is_fetched_from() {
        for (name, registry) in [
            ("perl:5.34", "docker.io"),
            ("index.docker.io/a/b", "docker.io"),
            ("127.0.0.1:5000/cache/library/perl:5.34", "127.0.0.1:5000"),
            ("localhost/a", "localhost"),
            ("No Name", ""),
        ] {
            assert_eq!(registry_of(name), registry, "{name}");
        }
    }

    #[test]
    fn credentials_are_found_by_registry() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "127.0.0.1:5000": {"username": "u", "password": "p"},
        }});
        assert_eq!(find_credentials(&config, "docker.io").unwrap().auth, "aHViOnB3");
        let local = find_credentials(&config, "127.0.0.1:5000").unwrap();
        assert_eq!((local.username.as_str(), local.password.as_str()), ("u", "p"));
        assert_eq!(find_credentials(&config, "ghcr.io"), None);
        assert_eq!(find_credentials(&serde_json::json!([]), "ghcr.io"), None);
    }
}
