//! References such as `busybox`, and where what they name is to be had.

use super::failure::Failure;
use crate::ImageReason;
use oci_spec::distribution::Reference;
use std::net::IpAddr;
use std::str::FromStr;

/// The registry of references that name none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Another place to ask for what a registry has: `docker.io=127.0.0.1:5000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryMirror {
    registry: String,
    place: Place,
}

/// An address that speaks the registry protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
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

/// Reads a reference, with the defaults that all engines know: `busybox` is `docker.io/library/busybox:latest`.
pub(super) fn parse(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error: oci_spec::distribution::ParseError| Failure {
        reason: ImageReason::InvalidImageName,
        message: format!("not an image reference: {error}").into(),
    })
}

/// Repository and digest: what `imageID` says.
pub(super) fn with_digest(reference: &Reference, digest: &str) -> String {
    format!("{}/{}@{digest}", reference.registry(), reference.repository())
}

/// Where to ask, in order: the mirrors as given, then the registry itself.
pub(super) fn places(reference: &Reference, mirrors: &[RegistryMirror]) -> Vec<Place> {
    let registry = canonical_registry(reference.registry());
    let mut places: Vec<_> = mirrors
        .iter()
        .filter(|mirror| mirror.registry == registry)
        .map(|mirror| mirror.place.clone())
        .collect();
    // The host of this name serves web pages.
    let address = if registry == DEFAULT_REGISTRY { "index.docker.io" } else { registry };
    places.push(Place { address: address.to_owned(), prefix: String::new(), is_plain: is_loopback(address) });
    places
}

impl Place {
    /// The same tag or digest, asked for here.
    pub fn reference(&self, reference: &Reference) -> Reference {
        let repository = format!("{}{}", self.prefix, reference.repository());
        let address = self.address.clone();
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Reference::with_digest(address, repository, digest.to_owned()),
            (None, tag) => Reference::with_tag(address, repository, tag.unwrap_or("latest").to_owned()),
        }
    }
}

/// One name for each registry.
pub(super) fn canonical_registry(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        registry => registry,
    }
}

/// `localhost` or a loopback address, with or without a port.
fn is_loopback(address: &str) -> bool {
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
    fn references_get_their_defaults() {
        for (text, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("perl:5.34", "docker.io/library/perl:5.34"),
            ("someone/thing", "docker.io/someone/thing:latest"),
            ("index.docker.io/library/perl:5.34", "docker.io/library/perl:5.34"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("registry.example/x", "registry.example/x:latest"),
        ] {
            assert_eq!(parse(text).unwrap().whole(), whole, "{text}");
        }
        for text in ["", "UPPER", "a b", "-x", "x:", "x@sha256:1", "../x", "a//b", "http://x/y"] {
            assert_eq!(parse(text).unwrap_err().reason, ImageReason::InvalidImageName, "{text:?}");
        }
    }

    #[test]
    fn mirrors_come_before_the_registry_and_only_for_theirs() {
        let mirrors: Vec<RegistryMirror> = ["docker.io=127.0.0.1:5000/cache", "other.example=mirror.example"]
            .map(|text| text.parse().unwrap())
            .into();
        let perl = parse("perl:5.34").unwrap();
        let found = places(&perl, &mirrors);
        let shown: Vec<_> =
            found.iter().map(|place| (place.reference(&perl).whole(), place.is_plain)).collect();
        assert_eq!(
            shown,
            [
                ("127.0.0.1:5000/cache/library/perl:5.34".to_owned(), true),
                ("index.docker.io/library/perl:5.34".to_owned(), false),
            ]
        );
        assert_eq!(places(&parse("third.example/x").unwrap(), &mirrors).len(), 1);
    }

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
