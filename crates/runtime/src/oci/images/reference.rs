//! References such as `busybox`, and where what they name is to be had.

use super::failure::Failure;
use crate::ImageReason;
use crate::registry_mirror::{DEFAULT_REGISTRY, Place, RegistryMirror, canonical_registry, is_loopback};
use oci_spec::distribution::Reference;

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
}
