//! Other places that have what a registry has.
//!
//! Owns: how they are written. Does not own: who asks them for what.

use std::net::IpAddr;
use std::str::FromStr;

/// The registry of references that name none.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";

/// Another place to ask for what a registry has: `docker.io=127.0.0.1:5000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMirror {
    pub(crate) registry: String,
    pub(crate) place: Place,
}

/// An address that speaks the registry protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host and port.
    pub address: String,
    /// Put before the repository's name; empty or ending in `/`.
    pub prefix: String,
    /// Without TLS.
    pub is_plain: bool,
}

impl FromStr for RegistryMirror {
    type Err = String;

    /// Reads `REGISTRY=[http://|https://]ADDRESS[/PREFIX]`. Without a scheme it is TLS, except on loopback.
    fn from_str(text: &str) -> Result<RegistryMirror, String> {
        let usage = || format!("registry mirror {text:?} is not REGISTRY=[http://|https://]ADDRESS[/PREFIX]");
        let (registry, place) = text.split_once('=').ok_or_else(usage)?;
        let (scheme, place) = match place.split_once("://") {
            Some((scheme, place)) => (Some(scheme), place),
            None => (None, place),
        };
        let (address, prefix) = place.split_once('/').unwrap_or((place, ""));
        let is_host = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
        };
        let prefix = prefix.trim_matches('/');
        let is_prefix = prefix
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte));
        if !is_host(registry) || !is_host(address) || !is_prefix {
            return Err(usage());
        }
        let is_plain = match scheme {
            Some("http") => true,
            Some("https") => false,
            Some(_) => return Err(usage()),
            None => is_loopback(address),
        };
        Ok(RegistryMirror {
            registry: canonical_registry(registry).to_owned(),
            place: Place {
                address: address.to_owned(),
                prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
                is_plain,
            },
        })
    }
}

/// One name for each registry.
pub(crate) fn canonical_registry(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        registry => registry,
    }
}

/// `localhost` or a loopback address, with or without a port.
pub(crate) fn is_loopback(address: &str) -> bool {
    let host = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => address.split_once(':').map_or(address, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_for_those_who_ask_for_it() {
        for (text, is_plain) in [
            ("a=127.9.9.9:1", true),
            ("a=localhost", true),
            ("a=[::1]:5", true),
            ("a=10.0.0.1:1", false),
            ("a=localhost.example", false),
            ("a=http://10.0.0.1:1", true),
            ("a=https://127.0.0.1:1", false),
        ] {
            assert_eq!(text.parse::<RegistryMirror>().unwrap().place.is_plain, is_plain, "{text}");
        }
        for text in ["", "a", "a=", "=b", "a=ftp://b", "a=b/UP", "a=b c", "a=user@b"] {
            assert!(text.parse::<RegistryMirror>().is_err(), "{text:?}");
        }
    }
}
