//! Images for Pods of tests, on a registry of the tests' own.
//!
//! Owns: which images there are, and what an agent must be told to find them. Does not own: how images are made (`images`).

use crate::images::{Registry, TestImage};
use serde_json::json;
use std::net::TcpListener;

/// A busybox: the image of most Pods. Its registry is the one that `localhost` names.
pub const BUSYBOX_IMAGE: &str = "localhost/stint-test/busybox:1";

/// Served until this is dropped.
pub struct ServedImages {
    registry: Registry,
    runtime: tokio::runtime::Runtime,
}

impl std::fmt::Debug for ServedImages {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "images at {}", self.registry.address())
    }
}

impl ServedImages {
    /// Serves a busybox, as [`BUSYBOX_IMAGE`].
    pub fn start() -> ServedImages {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a tokio runtime can be made");
        let registry = runtime.block_on(Registry::start());
        let config = json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "OF_IMAGE=1"]});
        registry.add("stint-test/busybox:1", &TestImage::busybox(config));
        ServedImages { registry, runtime }
    }

    /// Serves the perl of this host too, as `perl:5.34` of Docker Hub.
    pub fn with_perl(self) -> ServedImages {
        self.registry.add("library/perl:5.34", &TestImage::perl());
        self
    }

    /// What an agent must be told.
    pub fn agent_arguments(&self) -> Vec<String> {
        let mirrors = ["localhost", "docker.io"].map(|registry| self.registry.mirror_of(registry));
        mirrors.into_iter().flat_map(|mirror| ["--registry-mirror".to_owned(), mirror]).collect()
    }

    /// Host and port, as names of images begin that are fetched from nowhere else.
    pub fn address(&self) -> String {
        self.registry.address()
    }

    /// From now on only who gets a token for this name and password is served.
    pub fn require_token(&self, name: &str, password: &str) {
        self.registry.require_token(name, password);
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.registry.port()
    }

    /// Serves on another socket too, for agents whose 127.0.0.1 is another.
    pub fn serve_also(&self, listener: TcpListener) {
        let _within = self.runtime.enter();
        self.registry.serve_also(listener);
    }

    /// Paths that were asked for, in order, which contain this.
    pub fn requests(&self, path_part: &str) -> Vec<String> {
        self.registry.requests(path_part)
    }
}
