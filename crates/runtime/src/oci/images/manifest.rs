//! Manifests and indexes: which blobs an image is made of.

use super::digest::Digest;
use super::failure::Failure;
use crate::limits;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

/// What is asked for, indexes first.
pub(super) const ACCEPTED_MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// What layers may be. Which compression it really is says the blob itself.
const LAYER_MEDIA_TYPES: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// What an image must have been built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// Such as `v8`; empty: any.
    pub variant: String,
}

impl Platform {
    /// That of this host.
    pub fn of_host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform { architecture: architecture.to_owned(), variant: variant.to_owned() }
    }
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// An image's blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub config: Blob,
    /// From the lowest up.
    pub layers: Vec<Blob>,
}

/// What a registry answers when asked for a reference.
#[derive(Debug)]
pub(super) enum Answer {
    Manifest(Manifest),
    /// Ask for this digest.
    Index(Digest),
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(rename = "schemaVersion", default)]
    schema_version: u32,
}

/// Reads a manifest, or chooses from an index.
pub(super) fn read(bytes: &[u8], platform: &Platform) -> Result<Answer, Failure> {
    if bytes.len() > limits::MANIFEST_BYTES_MAX {
        let limit = limits::MANIFEST_BYTES_MAX;
        return Err(Failure::pull(format!("the manifest has {} bytes; the limit is {limit}", bytes.len())));
    }
    let unreadable = |error: serde_json::Error| Failure::because("the manifest can't be read", &error);
    // By its content, not by its media type, which registries get wrong.
    let kind: Kind = serde_json::from_slice(bytes).map_err(unreadable)?;
    if kind.schema_version != 2 {
        let version = kind.schema_version;
        return Err(Failure::pull(format!(
            "the manifest's schemaVersion is {version}; only 2 is understood"
        )));
    }
    if kind.manifests.is_some() {
        let index: ImageIndex = serde_json::from_slice(bytes).map_err(unreadable)?;
        return choose(&index, platform).map(Answer::Index);
    }
    let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(unreadable)?;
    let layers = manifest.layers();
    if layers.len() > limits::IMAGE_LAYERS_MAX {
        let limit = limits::IMAGE_LAYERS_MAX;
        return Err(Failure::pull(format!("the image has {} layers; the limit is {limit}", layers.len())));
    }
    let config = blob(manifest.config(), limits::IMAGE_CONFIG_BYTES_MAX, "config")?;
    let layers = layers.iter().map(|layer| {
        let media_type = layer.media_type().as_ref();
        if !LAYER_MEDIA_TYPES.contains(&media_type) {
            return Err(Failure::pull(format!("layers of type {media_type:?} can't be unpacked")));
        }
        blob(layer, limits::LAYER_BLOB_BYTES_MAX, "layer")
    });
    Ok(Answer::Manifest(Manifest { config, layers: layers.collect::<Result<_, _>>()? }))
}

fn blob(descriptor: &Descriptor, limit: u64, what: &str) -> Result<Blob, Failure> {
    let size = descriptor.size();
    if size > limit {
        return Err(Failure::pull(format!("a {what} has {size} bytes; the limit is {limit}")));
    }
    Ok(Blob { digest: Digest::parse(descriptor.digest().as_ref())?, size })
}

/// The first of this architecture and variant, else the first of this architecture.
fn choose(index: &ImageIndex, platform: &Platform) -> Result<Digest, Failure> {
    let mut second_best = None;
    let mut offered: Vec<String> = Vec::new();
    for entry in index.manifests() {
        let Some(its) = entry.platform() else { continue };
        let (os, architecture) = (its.os().to_string(), its.architecture().to_string());
        let variant = its.variant().as_deref().unwrap_or("");
        if os == "linux" && architecture == platform.architecture {
            if variant == platform.variant || platform.variant.is_empty() {
                return Digest::parse(entry.digest().as_ref());
            }
            second_best = second_best.or(Some(entry));
        } else if offered.len() < limits::SHOWN_PLATFORMS_MAX {
            offered.push(format!("{os}/{architecture}"));
        }
    }
    match second_best {
        Some(entry) => Digest::parse(entry.digest().as_ref()),
        None => Err(Failure::pull(format!(
            "there is no image for linux/{}; there is for: {}",
            platform.architecture,
            if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn platform(architecture: &str, variant: &str) -> Platform {
        Platform { architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    fn index(entries: &[(&str, &str, &str)]) -> Vec<u8> {
        let manifests: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(at, (os, architecture, variant))| {
                let mut platform = json!({"os": os, "architecture": architecture});
                if !variant.is_empty() {
                    platform["variant"] = json!(variant);
                }
                json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                    "digest": Digest::of(at.to_string().as_bytes()).to_string(), "platform": platform,
                })
            })
            .collect();
        serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    }

    #[test]
    fn the_image_for_this_platform_is_chosen() {
        let bytes = index(&[
            ("unknown", "unknown", ""),
            ("linux", "arm64", "v9"),
            ("linux", "amd64", ""),
            ("windows", "amd64", ""),
            ("linux", "arm64", "v8"),
        ]);
        for (wanted, at) in
            [(platform("amd64", ""), "2"), (platform("arm64", "v8"), "4"), (platform("arm64", "v7"), "1")]
        {
            match read(&bytes, &wanted).unwrap() {
                Answer::Index(digest) => assert_eq!(digest, Digest::of(at.as_bytes()), "{wanted:?}"),
                Answer::Manifest(_) => panic!("not an index"),
            }
        }
        let failure = read(&bytes, &platform("riscv64", "")).unwrap_err();
        assert!(failure.message.contains("linux/riscv64"), "{}", failure.message);
        assert!(failure.message.contains("linux/amd64"), "{}", failure.message);
    }

    #[test]
    fn what_is_too_large_or_not_understood_is_refused() {
        let digest = Digest::of(b"").to_string();
        let manifest = |layer_type: &str, size: u64, n_layers: usize| {
            let layer = json!({"mediaType": layer_type, "digest": digest, "size": size});
            serde_json::to_vec(&json!({
                "schemaVersion": 2,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
                "layers": vec![layer; n_layers],
            }))
            .unwrap()
        };
        let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert!(matches!(read(&manifest(gzip, 1, 3), &platform("amd64", "")), Ok(Answer::Manifest(_))));
        for (bytes, word) in [
            (manifest("application/vnd.oci.image.layer.v1.tar+encrypted", 1, 1), "+encrypted"),
            (manifest(gzip, limits::LAYER_BLOB_BYTES_MAX + 1, 1), "limit"),
            (manifest(gzip, 1, limits::IMAGE_LAYERS_MAX + 1), "limit"),
            (vec![b' '; limits::MANIFEST_BYTES_MAX + 1], "limit"),
            (br#"{"schemaVersion": 1}"#.to_vec(), "schemaVersion"),
            (b"<html>".to_vec(), "can't be read"),
        ] {
            let failure = read(&bytes, &platform("amd64", "")).unwrap_err();
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }
}
