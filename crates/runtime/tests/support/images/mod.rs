//! Small images for tests, made without any registry, and a registry of the tests' own.
//!
//! Shared by the tests of several packages by `#[path]`; not all of them use all of it.
#![allow(dead_code, unused_imports, reason = "each test binary uses another part")]

mod layer;
mod registry;

pub use layer::{Compression, Layer};
#[allow(unused_imports, reason = "as above")]
pub use registry::{Fault, Registry};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// From Debian's package busybox-static, so that one file is a whole root.
pub const BUSYBOX: &str = "/bin/busybox";

/// An image and everything that it consists of.
#[derive(Debug, Clone)]
pub struct TestImage {
    /// Manifest, config and layers, by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifest_digest: String,
    pub config_digest: String,
    /// As sent, from the lowest up.
    pub layer_digests: Vec<String>,
    /// Before compression.
    pub diff_ids: Vec<String>,
}

impl TestImage {
    /// `config` is what the image says about its containers: `Cmd`, `Env` and so on.
    pub fn new(layers: Vec<Layer>, compression: Compression, config: Value) -> TestImage {
        let mut image = TestImage {
            blobs: BTreeMap::new(),
            manifest_digest: String::new(),
            config_digest: String::new(),
            layer_digests: Vec::new(),
            diff_ids: Vec::new(),
        };
        let mut descriptors = Vec::new();
        for layer in layers {
            let archive = layer.archive();
            image.diff_ids.push(digest(&archive));
            let (bytes, media_type) = compression.apply(archive);
            let size = bytes.len();
            let digest = image.add(bytes);
            image.layer_digests.push(digest.clone());
            descriptors.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
        }
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": image.diff_ids},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let size = config.len();
        image.config_digest = image.add(config);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": image.config_digest, "size": size,
            },
            "layers": descriptors,
        });
        image.manifest_digest = image.add(serde_json::to_vec(&manifest).unwrap());
        image
    }

    /// One layer with every command of busybox, and users `root` (0) and `app` (1000, group `staff`, 50).
    pub fn busybox(config: Value) -> TestImage {
        TestImage::new(vec![Layer::busybox()], Compression::Gzip, config)
    }

    /// Perl as this host has it, and a shell: what stands in for `docker.io/library/perl`.
    pub fn perl() -> TestImage {
        let mut layer = Layer::default();
        for (link, target) in
            [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")]
        {
            layer = layer.symlink(link, target);
        }
        let packages = [
            "dash",
            "libc6",
            "libcrypt1",
            "perl-base",
            "perl",
            "perl-modules-5*",
            "libperl5*",
            "libmath-bigint-perl",
        ];
        let layer = layer.folder("tmp", 0o1777).of_packages(&packages);
        TestImage::new(vec![layer], Compression::None, json!({"Cmd": ["perl", "-de0"]}))
    }

    /// An index with this image for this platform, behind one for another.
    pub fn index(&self) -> (String, Vec<u8>) {
        let entry = |architecture: &str, digest: &str| {
            json!({
                "mediaType": MANIFEST_TYPE, "digest": digest, "size": self.blobs[&self.manifest_digest].len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        };
        let other = digest(b"of another platform");
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX_TYPE,
            "manifests": [entry("riscv64", &other), entry(architecture(), &self.manifest_digest)],
        });
        let bytes = serde_json::to_vec(&index).unwrap();
        (digest(&bytes), bytes)
    }

    /// Writes an OCI layout, which `ctr images import`, skopeo and others read once it is in a tar.
    pub fn write_layout(&self, directory: &Path, reference: &str) {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in &self.blobs {
            std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        }
        std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX_TYPE,
            "manifests": [{
                "mediaType": MANIFEST_TYPE, "digest": self.manifest_digest,
                "size": self.blobs[&self.manifest_digest].len(),
                "annotations": {
                    "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag,
                },
            }],
        });
        std::fs::write(directory.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }

    /// The same as one tar file, as `ctr images import` takes it.
    pub fn write_archive(&self, file: &Path, reference: &str) {
        let folder = tempfile::tempdir().unwrap();
        self.write_layout(folder.path(), reference);
        let mut builder = tar::Builder::new(std::fs::File::create(file).unwrap());
        builder.append_dir_all(".", folder.path()).unwrap();
        builder.finish().unwrap();
    }

    fn add(&mut self, bytes: Vec<u8>) -> String {
        let digest = digest(&bytes);
        self.blobs.insert(digest.clone(), bytes);
        digest
    }
}

pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
