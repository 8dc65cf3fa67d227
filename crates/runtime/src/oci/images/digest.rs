//! Digests: the names of everything in a registry and in the store.

use super::failure::Failure;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 digest. Registries may use others; none does, and one that isn't checked is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    pub fn of_hasher(hasher: Sha256) -> Digest {
        Digest(hasher.finalize().into())
    }

    /// Reads `sha256:` and 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Result<Digest, Failure> {
        let bad = || {
            let shown: String = text.chars().take(80).collect();
            Failure::pull(format!("digest {shown:?} is not sha256: and 64 hexadecimal digits"))
        };
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or_else(bad)?;
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let value = |digit: u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            let (Some(high), Some(low)) = (value(pair[0]), value(pair[1])) else { return Err(bad()) };
            *byte = high << 4 | low;
        }
        Ok(Digest(digest))
    }

    /// The digits alone: a file's name.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        for text in [
            "",
            "sha256:",
            &digest.hex(),
            &digest.to_string().to_uppercase(),
            &format!("sha256:{}", "g".repeat(64)),
            &format!("sha512:{}", digest.hex()),
            &format!("sha256:../{}", "a".repeat(61)),
        ] {
            assert!(Digest::parse(text).is_err(), "{text:?}");
        }
    }
}
