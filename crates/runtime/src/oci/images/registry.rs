//! One registry, asked for one image.

use super::credentials::Credentials;
use super::digest::Digest;
use super::failure::Failure;
use super::manifest::{ACCEPTED_MEDIA_TYPES, Blob};
use super::state::storing;
use crate::limits;
use crate::registry_mirror::Place;
use futures::StreamExt;
use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_spec::distribution::Reference;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufWriter};

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    /// A Docker `config.json`.
    pub credentials: Option<PathBuf>,
    /// Certificate authorities in PEM, besides the system's.
    pub authorities: Vec<PathBuf>,
}

pub(super) struct Registry {
    client: Client,
    auth: RegistryAuth,
    /// As this place knows the image.
    reference: Reference,
}

impl Registry {
    /// Reads credentials and certificates, but connects to nothing.
    pub fn new(place: &Place, reference: &Reference, access: &Access) -> Result<Registry, Failure> {
        // The only provider that is compiled in; another part of the process may have said so before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let reference = place.reference(reference);
        let auth = match &access.credentials {
            Some(path) => Credentials::read(path)?.find(&place.address, reference.repository())?,
            None => RegistryAuth::Anonymous,
        };
        let mut authorities = Vec::new();
        for path in &access.authorities {
            let data = std::fs::read(path)
                .map_err(|error| Failure::because(&format!("certificates in {}", path.display()), &error))?;
            authorities.push(Certificate { encoding: CertificateEncoding::Pem, data });
        }
        let config = ClientConfig {
            protocol: if place.is_plain { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: authorities,
            connect_timeout: Some(Duration::from_millis(limits::REGISTRY_CONNECT_MS)),
            read_timeout: Some(Duration::from_millis(limits::REGISTRY_READ_MS)),
            user_agent: concat!("stint/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client =
            Client::try_from(config).map_err(|error| Failure::because("TLS can't be set up", &error))?;
        Ok(Registry { client, auth, reference })
    }

    /// The manifest or index that the reference names, or that has this digest.
    pub async fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, Digest), Failure> {
        let reference = match digest {
            Some(digest) => self.reference.clone_with_digest(digest.to_string()),
            None => self.reference.clone(),
        };
        let wanted = reference.digest().map(Digest::parse).transpose()?;
        let pull = self.client.pull_manifest_raw(&reference, &self.auth, &ACCEPTED_MEDIA_TYPES);
        let within = Duration::from_millis(limits::REGISTRY_MANIFEST_MS);
        let (bytes, _) = match tokio::time::timeout(within, pull).await {
            Ok(result) => result.map_err(|error| failure("manifest", &error))?,
            Err(_) => return Err(Failure::pull("manifest: the registry did not answer in time")),
        };
        let digest = Digest::of(&bytes);
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(Failure::pull(format!("the manifest that was sent has another digest, {digest}")));
        }
        Ok((bytes.into(), digest))
    }

    /// A blob that is small enough to be held in memory.
    pub async fn small_blob(&self, blob: &Blob) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        self.stream(blob, Sink::Memory(&mut bytes)).await?;
        Ok(bytes)
    }

    /// Writes a blob into a new file.
    pub async fn blob_into(&self, blob: &Blob, path: &Path) -> Result<(), Failure> {
        let file = tokio::fs::File::create_new(path).await.map_err(storing)?;
        let mut file = BufWriter::with_capacity(limits::DOWNLOAD_BUFFER_BYTES, file);
        self.stream(blob, Sink::File(&mut file)).await?;
        file.flush().await.map_err(storing)
    }

    async fn stream(&self, blob: &Blob, mut sink: Sink<'_>) -> Result<(), Failure> {
        let what = format!("blob {}", blob.digest);
        let digest = blob.digest.to_string();
        let response = self.client.pull_blob_stream(&self.reference, digest.as_str()).await;
        let mut stream = response.map_err(|error| failure(&what, &error))?;
        let mut hasher = Sha256::new();
        let mut size = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| Failure::because(&what, &error))?;
            size += chunk.len() as u64;
            if size > blob.size {
                break;
            }
            hasher.update(&chunk);
            match &mut sink {
                Sink::Memory(bytes) => bytes.extend_from_slice(&chunk),
                Sink::File(file) => file.write_all(&chunk).await.map_err(storing)?,
            }
        }
        if size != blob.size {
            let expected = blob.size;
            return Err(Failure::pull(format!(
                "{what}: the manifest says {expected} bytes, the registry sent others"
            )));
        }
        if Digest::of_hasher(hasher) != blob.digest {
            return Err(Failure::pull(format!("{what}: what was sent has another digest")));
        }
        Ok(())
    }
}

/// Where a blob goes.
enum Sink<'a> {
    Memory(&'a mut Vec<u8>),
    File(&'a mut BufWriter<tokio::fs::File>),
}

/// What registries say in so many words, in few.
fn failure(what: &str, error: &OciDistributionError) -> Failure {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => Failure::pull(format!("{what}: not found")),
        OciDistributionError::UnauthorizedError { .. } => {
            Failure::pull(format!("{what}: not authorized; give the agent credentials for this registry"))
        }
        OciDistributionError::ServerError { code, .. } => {
            Failure::pull(format!("{what}: the registry answered with HTTP status {code}"))
        }
        error => Failure::because(what, error),
    }
}
