//! Credentials for registries, out of a Docker `config.json`.

use super::failure::Failure;
use crate::limits;
use crate::registry_mirror::canonical_registry;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// The part of the file that is understood. Credential helpers are programs, and none is run.
#[derive(Deserialize, Default)]
pub(super) struct Credentials {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

impl Credentials {
    /// Reads the file, anew for each pull, so that it may change under a running agent.
    pub fn read(path: &Path) -> Result<Credentials, Failure> {
        let what = format!("credentials of registries in {}", path.display());
        let mut text = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(limits::CREDENTIALS_BYTES_MAX + 1).read_to_end(&mut text));
        read.map_err(|error| Failure::because(&what, &error))?;
        if text.len() as u64 > limits::CREDENTIALS_BYTES_MAX {
            let limit = limits::CREDENTIALS_BYTES_MAX;
            return Err(Failure::pull(format!("{what}: the file has more than {limit} bytes")));
        }
        // serde's message would show the line, and with it a secret.
        serde_json::from_slice(&text).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            Failure::pull(format!("{what}: not what Docker writes, at {at}"))
        })
    }

    /// For a repository of an address: the entry that names the most of it.
    pub fn find(&self, address: &str, repository: &str) -> Result<RegistryAuth, Failure> {
        let wanted = format!("{}/{repository}", canonical_registry(address));
        let best = self
            .auths
            .iter()
            .filter_map(|(key, entry)| {
                let key = canonical_key(key);
                let rest = wanted.strip_prefix(&key)?;
                (rest.starts_with('/') || rest.is_empty()).then_some((key.len(), entry))
            })
            .max_by_key(|(length, _)| *length);
        match best {
            None => Ok(RegistryAuth::Anonymous),
            Some((_, entry)) => entry.to_auth().map_err(|problem| {
                Failure::pull(format!("credentials for {}: {problem}", canonical_registry(address)))
            }),
        }
    }
}

impl Entry {
    fn to_auth(&self) -> Result<RegistryAuth, &'static str> {
        if let Some(token) = self.registrytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(RegistryAuth::Bearer(token.clone()));
        }
        if let (Some(name), Some(password)) = (&self.username, &self.password) {
            return Ok(RegistryAuth::Basic(name.clone(), password.clone()));
        }
        let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) else {
            return Err("the entry has neither `auth` nor `username` and `password` nor `registrytoken`");
        };
        let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth));
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some((name, password)) => {
                Ok(RegistryAuth::Basic(name.to_owned(), password.trim_end_matches('\0').to_owned()))
            }
            None => Err("`auth` is not base64 of NAME:PASSWORD"),
        }
    }
}

/// `https://index.docker.io/v1/` is `docker.io`.
fn canonical_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/') {
        Some((registry, path)) => format!("{}/{path}", canonical_registry(registry)),
        None => canonical_registry(key).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, address: &str, repository: &str) -> Result<RegistryAuth, Failure> {
        serde_json::from_str::<Credentials>(text).unwrap().find(address, repository)
    }

    fn basic(name: &str, password: &str) -> RegistryAuth {
        RegistryAuth::Basic(name.to_owned(), password.to_owned())
    }

    #[test]
    fn the_entry_that_names_the_most_wins() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "example:5000": {"username": "all", "password": "p:q"},
            "example:5000/team": {"registrytoken": "t"}
        }, "credsStore": "x"}"#;
        assert_eq!(find(text, "index.docker.io", "library/perl").unwrap(), basic("hub", "secret"));
        assert_eq!(find(text, "example:5000", "other/x").unwrap(), basic("all", "p:q"));
        assert_eq!(find(text, "example:5000", "teammate").unwrap(), basic("all", "p:q"));
        assert_eq!(find(text, "example:5000", "team/x").unwrap(), RegistryAuth::Bearer("t".to_owned()));
        assert_eq!(find(text, "example", "team/x").unwrap(), RegistryAuth::Anonymous);
        assert_eq!(find(text, "example:50001", "x").unwrap(), RegistryAuth::Anonymous);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for text in [r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#, r#"{"auths":{"a":{"auth":"secret!"}}}"#] {
            let failure = find(text, "a", "x").unwrap_err();
            assert!(failure.message.contains("NAME:PASSWORD"), "{}", failure.message);
            assert!(!failure.message.contains("secret"), "{}", failure.message);
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, r#"{"auths": {"a": "secret"}}"#).unwrap();
        let failure = Credentials::read(&file).map(|_| ()).unwrap_err();
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}
