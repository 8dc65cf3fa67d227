//! Images: what the node has, what is fetched, what is given up.
//!
//! Owns: pull policies, credentials, mirrors, which images go when the disk fills. Does not own: layers, which are the engine's.

use super::api::AuthConfig;
use super::config::{ImageUser, stop_signal_of_info};
use super::engine::{Engine, Refusal};
use crate::registry_mirror::{DEFAULT_REGISTRY, RegistryMirror, canonical_registry};
use crate::{Error, ImageReason, ImageSpec, PullPolicy, limits};
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
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
    /// Percent of the disk's size: above the first, images go until the second is reached.
    watermarks: (u8, u8),
    /// Images by the engine's id, and when they were last asked for, or first seen by the collection.
    last_used: Mutex<HashMap<String, Instant>>,
    /// One pull of a reference at a time: the others find what it fetched.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    pub fn new(
        engine: Engine,
        credentials: Option<PathBuf>,
        mirrors: Vec<RegistryMirror>,
        watermarks: (u8, u8),
    ) -> Images {
        Images {
            engine,
            credentials,
            mirrors,
            watermarks,
            last_used: Mutex::default(),
            pulls: Mutex::default(),
        }
    }

    /// An image that the node has, or has after fetching it as the policy says.
    pub async fn prepare(&self, image: &ImageSpec) -> Result<ImageFacts, Error> {
        let refused = |reason, message| Error::Image { reference: image.reference.clone(), reason, message };
        let Some((registry, path)) = split_reference(&image.reference) else {
            let message = "is no reference to an image: write [REGISTRY/]NAME[:TAG][@DIGEST] in lower case";
            return Err(refused(ImageReason::InvalidImageName, message.to_owned()));
        };
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
            None => self.pull(&image.reference, &registry, &path).await,
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
        let mut names = vec![reference.to_owned()];
        if let Some((registry, path)) = split_reference(reference) {
            names.extend(self.mirrored(&registry, &path));
        }
        for name in names {
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
    async fn pull(&self, reference: &str, registry: &str, path: &str) -> Result<ImageFacts, Refusal> {
        let mut last = None;
        for name in self.mirrored(registry, path).into_iter().chain([reference.to_owned()]) {
            let host = split_reference(&name).map_or_else(|| registry.to_owned(), |(host, _)| host);
            let auth = self.credentials.as_deref().and_then(|file| credentials(file, &host));
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

    fn mirrored(&self, registry: &str, path: &str) -> Vec<String> {
        let mirrors = self.mirrors.iter().filter(|mirror| mirror.registry == registry);
        mirrors.map(|mirror| format!("{}/{}{path}", mirror.place.address, mirror.place.prefix)).collect()
    }

    /// Removes images that nothing uses, oldest use first, if the disk is full above the watermark. `in_use` are references
    /// and ids of the images of all containers that exist.
    pub async fn collect(&self, in_use: &BTreeSet<String>) -> Result<(), Refusal> {
        let (high, low) = self.watermarks;
        let folders = self.engine.image_folders().await?;
        let fullest =
            || folders.iter().filter_map(|folder| percent_used(Path::new(folder))).max().unwrap_or(0);
        if fullest() < high {
            return Ok(());
        }
        let images = self.engine.all_images().await?;
        let mut candidates = {
            let mut last_used = self.lock_last_used();
            last_used.retain(|id, _| images.iter().any(|image| image.id == *id));
            let unused = images.iter().filter(|image| {
                let mut names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
                !image.pinned && !names.any(|name| in_use.contains(name))
            });
            unused
                .map(|image| (*last_used.entry(image.id.clone()).or_insert_with(Instant::now), image))
                .collect::<Vec<_>>()
        };
        candidates.sort_by_key(|(last_used, _)| *last_used);
        for (last_used, image) in candidates {
            // What was just asked for may be about to be started.
            if last_used.elapsed().as_millis() < u128::from(limits::IMAGE_UNUSED_MS) {
                break;
            }
            self.engine.remove_image(&image.id).await?;
            tracing::info!(image = image.id, bytes = image.size, "image removed: the disk was full");
            if fullest() < low {
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

fn percent_used(folder: &Path) -> Option<u8> {
    let disk = statvfs(folder).ok()?;
    let (all, free) = (disk.blocks(), disk.blocks_available());
    u8::try_from((all.saturating_sub(free)).saturating_mul(100).checked_div(all)?).ok()
}

/// Registry and rest of a reference to an image, with what is left out filled in; `None` if it is none.
fn split_reference(reference: &str) -> Option<(String, String)> {
    let is_short = reference.len() <= limits::IMAGE_REFERENCE_BYTES_MAX;
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let is_path = path.split('/').all(|part| {
        let ends =
            |end: Option<char>| end.is_some_and(|end| end.is_ascii_lowercase() || end.is_ascii_digit());
        ends(part.chars().next())
            && ends(part.chars().next_back())
            && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    });
    let is_tag = |tag: &str| {
        (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let is_digest = |digest: &str| {
        digest.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let is_registry = registry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    if !(is_short && is_path && is_registry && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)) {
        return None;
    }
    let library = if registry == DEFAULT_REGISTRY && !path.contains('/') { "library/" } else { "" };
    let mut rest = format!("{library}{path}");
    match (tag, digest) {
        (tag, Some(digest)) => {
            rest.extend(tag.map(|tag| format!(":{tag}")));
            rest.push_str(&format!("@{digest}"));
        }
        (tag, None) => rest.push_str(&format!(":{}", tag.unwrap_or("latest"))),
    }
    Some((canonical_registry(registry).to_owned(), rest))
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

    fn check(reference: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map(|(registry, rest)| (registry.to_owned(), rest.to_owned()));
        assert_eq!(split_reference(reference), expected, "{reference}");
    }

    #[test]
    fn references_are_filled_in() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check("busybox", Some(("docker.io", "library/busybox:latest")));
        check("perl:5.34", Some(("docker.io", "library/perl:5.34")));
        check("me/tool:1", Some(("docker.io", "me/tool:1")));
        check("docker.io/library/perl:5.34", Some(("docker.io", "library/perl:5.34")));
        check("127.0.0.1:5000/a/b_c", Some(("127.0.0.1:5000", "a/b_c:latest")));
        check("localhost/a", Some(("localhost", "a:latest")));
        check(&format!("ghcr.io/a/b@{digest}"), Some(("ghcr.io", &format!("a/b@{digest}"))));
        check(&format!("a:1@{digest}"), Some(("docker.io", &format!("library/a:1@{digest}"))));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(limits::IMAGE_REFERENCE_BYTES_MAX + 1);
        for text in [
            "",
            "A",
            "a b",
            "a:",
            "a/",
            "/a",
            "a//b",
            "a:b:c",
            "a@sha256:xyz",
            "-a",
            "a-",
            "a:-1",
            "a\n",
            &long,
        ] {
            check(text, None);
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
