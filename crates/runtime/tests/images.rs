//! The store of images against a registry of the tests' own.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

#[path = "support/images/mod.rs"]
mod images;

use images::{Compression, Fault, Layer, Registry, TestImage};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stint_runtime::oci::{Image, ImageStore, ImageStoreOptions, Platform};
use stint_runtime::{Error, ImageDisk, ImageReason, PullPolicy};

/// A store in a folder of its own, with a registry that stands for docker.io.
struct Bench {
    registry: Registry,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        Bench { registry: Registry::start().await, folder: tempfile::tempdir().unwrap() }
    }

    fn options(&self) -> ImageStoreOptions {
        ImageStoreOptions {
            mirrors: vec![self.registry.mirror_of("docker.io").parse().unwrap()],
            ..ImageStoreOptions::new(self.folder.path().join("images"))
        }
    }

    fn store(&self) -> ImageStore {
        ImageStore::open(self.options()).unwrap()
    }

    /// Reads a file of the image's uppermost layer that has it.
    fn read(image: &Image, path: &str) -> String {
        let folders = layer_folders(image);
        let found = folders.iter().rev().find_map(|folder| std::fs::read_to_string(folder.join(path)).ok());
        found.unwrap_or_else(|| panic!("no layer has {path}"))
    }

    fn temporary(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("images/temporary")).unwrap().count()
    }
}

fn layer_folders(image: &Image) -> Vec<PathBuf> {
    image.layer_names().iter().map(|name| image.layers_directory().join(name)).collect()
}

fn small(content: &str) -> TestImage {
    let layers = vec![
        Layer::default().file("base", "the same in all").file("hidden", "x"),
        Layer::default().file("etc/content", content).whiteout("hidden"),
    ];
    TestImage::new(layers, Compression::Gzip, json!({"Cmd": ["/bin/sh"], "User": "app"}))
}

async fn refused(store: &ImageStore, reference: &str, policy: PullPolicy) -> (ImageReason, String) {
    match store.prepare(reference, policy).await {
        Err(Error::Image { reference: named, reason, message }) => {
            assert_eq!(named, reference);
            (reason, message)
        }
        Err(error) => panic!("another error: {error}"),
        Ok(image) => panic!("{image:?} was had"),
    }
}

#[tokio::test]
async fn an_image_is_pulled_through_the_mirror_and_found_again_by_a_new_process() {
    let bench = Bench::new().await;
    let image = small("one");
    bench.registry.add("library/thing:1", &image);
    let store = bench.store();
    let pulled = store.prepare("thing:1", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(pulled.id(), format!("docker.io/library/thing@{}", image.manifest_digest));
    assert_eq!(pulled.layer_ids(), image.diff_ids);
    assert_eq!(pulled.config().cmd, ["/bin/sh"]);
    assert_eq!(pulled.config().user, "app");
    assert_eq!(Bench::read(&pulled, "etc/content"), "one");
    assert_eq!(bench.temporary(), 0);
    drop((pulled, store));
    // A crash leaves these.
    let images = bench.folder.path().join("images");
    std::fs::create_dir(images.join("temporary/0")).unwrap();
    std::fs::write(images.join("temporary/0/blob"), "half a layer").unwrap();
    std::fs::create_dir(images.join("layers/0123456789abcdef")).unwrap();
    let before = bench.registry.requests("").len();
    let store = bench.store();
    let found = store.prepare("docker.io/library/thing:1", PullPolicy::Never).await.unwrap();
    assert_eq!(found.layer_ids(), image.diff_ids);
    assert_eq!(found.config().user, "app");
    assert!(!images.join("temporary/0/blob").exists());
    assert!(!images.join("layers/0123456789abcdef").exists());
    assert_eq!(bench.registry.requests("").len(), before, "nothing was asked for again");
}

#[tokio::test]
async fn every_compression_and_an_index_of_platforms_are_understood() {
    let bench = Bench::new().await;
    let store = bench.store();
    for (tag, compression) in [("a", Compression::None), ("b", Compression::Gzip), ("c", Compression::Zstd)] {
        let layer = Layer::default().file("content", tag);
        let image = TestImage::new(vec![layer], compression, json!({}));
        let index_digest = bench.registry.add_index(&format!("team/x:{tag}"), &image);
        let pulled = store.prepare(&format!("team/x:{tag}"), PullPolicy::Always).await.unwrap();
        assert_eq!(Bench::read(&pulled, "content"), tag);
        assert_eq!(pulled.id(), format!("docker.io/team/x@{index_digest}"));
    }
    let platform = Platform { architecture: "sparc".to_owned(), variant: String::new() };
    let options =
        ImageStoreOptions { platform, directory: bench.folder.path().join("other"), ..bench.options() };
    let store = ImageStore::open(options).unwrap();
    let (reason, message) = refused(&store, "team/x:a", PullPolicy::Always).await;
    assert_eq!(reason, ImageReason::ErrImagePull);
    assert!(message.contains("linux/sparc"), "{message}");
}

#[tokio::test]
async fn the_pull_policy_says_when_the_registry_is_asked() {
    let bench = Bench::new().await;
    let store = bench.store();
    let (reason, _) = refused(&store, "thing:1", PullPolicy::Never).await;
    assert_eq!(reason, ImageReason::ErrImageNeverPull);
    let (reason, _) = refused(&store, "Thing:1", PullPolicy::Always).await;
    assert_eq!(reason, ImageReason::InvalidImageName);
    assert_eq!(bench.registry.requests("").len(), 0);
    let (old, new) = (small("old"), small("new"));
    bench.registry.add("library/thing:1", &old);
    let first = store.prepare("thing:1", PullPolicy::IfNotPresent).await.unwrap();
    // The tag moves on.
    bench.registry.add("library/thing:1", &new);
    let asked = bench.registry.requests("").len();
    let same = store.prepare("thing:1", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(same.id(), first.id());
    assert_eq!(bench.registry.requests("").len(), asked);
    let second = store.prepare("thing:1", PullPolicy::Always).await.unwrap();
    assert_eq!(Bench::read(&second, "etc/content"), "new");
    assert_eq!(second.layer_ids()[0], first.layer_ids()[0]);
    // A layer that both have was fetched once, and what is in use is whole.
    assert_eq!(bench.registry.requests(&old.layer_digests[0]).len(), 1);
    assert_eq!(Bench::read(&first, "etc/content"), "old");
    // What a digest names is asked for once, whatever the policy.
    let pinned = format!("thing@{}", old.manifest_digest);
    store.prepare(&pinned, PullPolicy::Always).await.unwrap();
    let asked = bench.registry.requests("").len();
    let image = store.prepare(&pinned, PullPolicy::Always).await.unwrap();
    assert_eq!(Bench::read(&image, "etc/content"), "old");
    assert_eq!(bench.registry.requests("").len(), asked);
}

#[tokio::test]
async fn pods_that_want_one_image_at_once_share_its_pull() {
    let bench = Bench::new().await;
    let image = small("x");
    bench.registry.add("library/thing:1", &image);
    // The same base under another name.
    let layers = vec![
        Layer::default().file("base", "the same in all").file("hidden", "x"),
        Layer::default().file("other", "x"),
    ];
    let other = TestImage::new(layers, Compression::Gzip, json!({}));
    assert_eq!(other.diff_ids[0], image.diff_ids[0]);
    bench.registry.add("library/other:1", &other);
    bench.registry.fail("/blobs/", Fault::Slow(Duration::from_millis(200)));
    let store = bench.store();
    let pulls = (0..40).map(|at| {
        let store = store.clone();
        let name = if at % 4 == 0 { "other:1" } else { "thing:1" };
        tokio::spawn(async move {
            store.prepare(name, PullPolicy::Always).await.map(|image| image.id().to_owned())
        })
    });
    let pulls: Vec<_> = pulls.collect();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    for digest in image.layer_digests.iter().chain(&other.layer_digests) {
        assert_eq!(bench.registry.requests(digest).len(), 1, "{digest}");
    }
    assert_eq!(bench.registry.requests("/library/thing/manifests/1").len(), 1);
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_is_given_up_and_leaves_nothing() {
    let bench = Bench::new().await;
    let image = small("x");
    bench.registry.add("library/thing:1", &image);
    bench.registry.fail("/blobs/", Fault::Slow(Duration::from_secs(600)));
    let store = bench.store();
    let pull = store.prepare("thing:1", PullPolicy::Always);
    assert!(tokio::time::timeout(Duration::from_millis(500), pull).await.is_err());
    assert_eq!(bench.temporary(), 0);
    bench.registry.heal();
    store.prepare("thing:1", PullPolicy::Always).await.unwrap();
}

#[tokio::test]
async fn what_a_registry_does_wrong_is_said_and_mended_by_the_next_try() {
    let bench = Bench::new().await;
    let image = small("x");
    bench.registry.add("library/thing:1", &image);
    let store = bench.store();
    let layer = image.layer_digests[1].as_str();
    for (path, fault, word) in [
        ("/manifests/", Fault::NotFound, "there is none"),
        ("/manifests/", Fault::Broken, "500"),
        ("/manifests/", Fault::Corrupt, ""),
        (layer, Fault::NotFound, ""),
        (layer, Fault::Broken, "500"),
        (layer, Fault::Corrupt, "igest"),
        (layer, Fault::Cut, ""),
        (&image.config_digest, Fault::Corrupt, "igest"),
    ] {
        bench.registry.fail(path, fault);
        let (reason, message) = refused(&store, "thing:1", PullPolicy::IfNotPresent).await;
        assert_eq!(reason, ImageReason::ErrImagePull, "{path} {fault:?}");
        assert!(message.contains(&bench.registry.address()), "{path} {fault:?}: {message}");
        assert!(message.contains(word), "{path} {fault:?}: {message}");
        assert_eq!(store.images(), [], "{path} {fault:?}");
        assert_eq!(bench.temporary(), 0, "{path} {fault:?}");
        bench.registry.heal();
    }
    store.prepare("thing:1", PullPolicy::IfNotPresent).await.unwrap();
    // The layer that was whole each time came once.
    assert_eq!(bench.registry.requests(&image.layer_digests[0]).len(), 1);
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_than_the_config_says_is_refused() {
    let bench = Bench::new().await;
    let mut image = small("x");
    let other = small("y");
    // The config of another image over these layers; every blob has the digest that the manifest gives.
    let config = image.blobs[&image.config_digest].clone();
    let config = String::from_utf8(config).unwrap().replace(&image.diff_ids[1], &other.diff_ids[1]);
    let (old, new) = (image.config_digest.clone(), images::digest(config.as_bytes()));
    image.blobs.insert(new.clone(), config.into_bytes());
    let manifest = image.blobs[&image.manifest_digest].clone();
    let manifest = String::from_utf8(manifest).unwrap().replace(&old, &new).into_bytes();
    image.manifest_digest = images::digest(&manifest);
    image.blobs.insert(image.manifest_digest.clone(), manifest);
    bench.registry.add("library/thing:1", &image);
    let (_, message) = refused(&bench.store(), "thing:1", PullPolicy::Always).await;
    assert!(message.contains("unpacks to"), "{message}");
}

#[tokio::test]
async fn credentials_are_given_to_those_that_ask_for_them() {
    for by_token in [false, true] {
        let bench = Bench::new().await;
        bench.registry.add("library/thing:1", &small("x"));
        match by_token {
            true => bench.registry.require_token("someone", "secret"),
            false => bench.registry.require_basic("someone", "secret"),
        }
        let (_, message) = refused(&bench.store(), "thing:1", PullPolicy::Always).await;
        assert!(message.contains("uth"), "{message}");
        let file = bench.folder.path().join("config.json");
        let options = ImageStoreOptions { credentials: Some(file.clone()), ..bench.options() };
        let write = |password: &str| {
            let entry = json!({"username": "someone", "password": password});
            let auths = json!({"auths": {bench.registry.address(): entry}});
            std::fs::write(&file, auths.to_string()).unwrap();
        };
        write("wrong");
        let store = ImageStore::open(options).unwrap();
        let (_, message) = refused(&store, "thing:1", PullPolicy::Always).await;
        assert!(!message.contains("wrong"), "{message}");
        // Mended under the running store.
        write("secret");
        store.prepare("thing:1", PullPolicy::Always).await.unwrap();
    }
}

#[tokio::test]
async fn layers_in_use_stay_until_the_last_user_is_gone() {
    let bench = Bench::new().await;
    let options = ImageStoreOptions {
        // Everything is too much.
        disk: ImageDisk { high_percent: 0, low_percent: 0 },
        ..bench.options()
    };
    let store = ImageStore::open(options.clone()).unwrap();
    for tag in ["a", "b"] {
        bench.registry.add(&format!("library/thing:{tag}"), &small(tag));
    }
    let a = store.prepare("thing:a", PullPolicy::Always).await.unwrap();
    drop(store.prepare("thing:b", PullPolicy::Always).await.unwrap());
    let collected = store.collect_garbage().await.unwrap();
    assert_eq!(collected.images, ["docker.io/library/thing:b"]);
    assert_eq!(collected.layers, 1, "the base is in use");
    assert_eq!(Bench::read(&a, "etc/content"), "a");
    assert_eq!(bench.temporary(), 0);
    // A new process takes over a container that runs from these layers.
    let layer_ids = a.layer_ids();
    drop((a, store));
    let store = ImageStore::open(options).unwrap();
    let hold = store.hold(&layer_ids).unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().layers, 0);
    drop(hold);
    assert_eq!(store.collect_garbage().await.unwrap().layers, 2);
    assert!(store.hold(&layer_ids).is_none());
    assert_eq!(std::fs::read_dir(bench.folder.path().join("images/layers")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_whole_root_is_unpacked_as_it_was_packed() {
    let bench = Bench::new().await;
    bench.registry.add("library/busybox:latest", &TestImage::busybox(json!({"Cmd": ["sh"]})));
    let image = bench.store().prepare("busybox", PullPolicy::IfNotPresent).await.unwrap();
    let root = layer_folders(&image).remove(0);
    let run = |program: &str| {
        let output = std::process::Command::new(Path::new(&root).join(program)).arg("hello").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(run("bin/echo"), "hello\n");
    assert!(Bench::read(&image, "etc/passwd").contains("app:x:1000:50"));
}
