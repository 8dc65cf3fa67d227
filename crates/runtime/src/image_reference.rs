//! References such as `busybox`, and where what they name is to be had.

use crate::limits;
#[cfg(feature = "oci")]
use crate::registry_mirror::{DEFAULT_REGISTRY, Place, is_loopback};
use crate::registry_mirror::{RegistryMirror, canonical_registry};
use oci_spec::distribution::{ParseError, Reference};

/// Reads a reference, with the defaults that all engines know: `busybox` is `docker.io/library/busybox:latest`.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn parse(text: &str) -> Result<Reference, String> {
    if text.len() > limits::IMAGE_REFERENCE_BYTES_MAX {
        let most = limits::IMAGE_REFERENCE_BYTES_MAX;
        return Err(format!("not an image reference: {} bytes are more than {most}", text.len()));
    }
    text.parse().map_err(|error: ParseError| {
        format!("not an image reference: {error}; write [REGISTRY/]NAME[:TAG][@DIGEST] in lower case")
    })
}

/// Its names in the mirrors of its registry, in their order.
#[cfg(feature = "cri")]
pub(crate) fn mirrored(reference: &Reference, mirrors: &[RegistryMirror]) -> Vec<String> {
    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = reference.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    let of_registry = |mirror: &&RegistryMirror| mirror.registry == canonical_registry(reference.registry());
    let name = |mirror: &RegistryMirror| {
        format!("{}/{}{}{tag}{digest}", mirror.place.address, mirror.place.prefix, reference.repository())
    };
    mirrors.iter().filter(of_registry).map(name).collect()
}

/// Repository and digest: what `imageID` says.
#[cfg(feature = "oci")]
pub(crate) fn with_digest(reference: &Reference, digest: &str) -> String {
    format!("{}/{}@{digest}", reference.registry(), reference.repository())
}

/// Where to ask, in order: the mirrors as given, then the registry itself.
#[cfg(feature = "oci")]
pub(crate) fn places(reference: &Reference, mirrors: &[RegistryMirror]) -> Vec<Place> {
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

#[cfg(feature = "oci")]
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
        let long = "a".repeat(limits::IMAGE_REFERENCE_BYTES_MAX + 1);
        for text in [
            "",
            "UPPER",
            "a b",
            "-x",
            "a-",
            "x:",
            "a/",
            "/a",
            "a:b:c",
            "a:-1",
            "a\n",
            "x@sha256:1",
            "../x",
            "a//b",
            "http://x/y",
            &long,
        ] {
            assert!(parse(text).unwrap_err().contains("not an image reference"), "{text:?}");
        }
    }

    #[cfg(feature = "cri")]
    #[test]
    fn a_mirror_has_the_same_tag_and_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let mirrors: Vec<RegistryMirror> = ["docker.io=127.0.0.1:5000/cache", "other.example=mirror.example"]
            .map(|text| text.parse().unwrap())
            .into();
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(mirrored(&parse(text).unwrap(), &mirrors), expected, "{text}");
        };
        check("busybox", &["127.0.0.1:5000/cache/library/busybox:latest"]);
        check("index.docker.io/me/tool:1", &["127.0.0.1:5000/cache/me/tool:1"]);
        check(&format!("other.example/a/b_c:1@{digest}"), &[&format!("mirror.example/a/b_c:1@{digest}")]);
        check(&format!("other.example/a@{digest}"), &[&format!("mirror.example/a@{digest}")]);
        check("ghcr.io/a", &[]);
    }

    #[cfg(feature = "oci")]
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
