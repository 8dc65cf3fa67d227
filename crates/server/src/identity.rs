//! Who makes a request: known for every request from the moment it is taken off the wire.
//!
//! Owns: the identity type, the token and its comparison. Does not own: where the identity is checked (`auth`), how servers
//! prove theirs to each other (`stint-raft`).
//!
//! Invariant: a token is never printed, nor compared byte by byte.

use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name for logs: `token`, `loopback`, `anyone`.
    pub name: String,
    /// What it was recognised by.
    pub kind: IdentityKind,
}

/// What an identity was recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// The cluster's bearer token.
    Token,
    /// No token is configured and the server listens on loopback only.
    Loopback,
    /// No token is configured and the operator chose `--insecure`.
    Insecure,
}

impl IdentityKind {
    /// The text used between servers and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            IdentityKind::Token => "token",
            IdentityKind::Loopback => "loopback",
            IdentityKind::Insecure => "insecure",
        }
    }

    /// The kind of a text that [`IdentityKind::as_str`] made.
    pub fn parse(text: &str) -> Option<IdentityKind> {
        match text {
            "token" => Some(IdentityKind::Token),
            "loopback" => Some(IdentityKind::Loopback),
            "insecure" => Some(IdentityKind::Insecure),
            _ => None,
        }
    }
}

/// The cluster's shared secret. Clients, agents and peers know it.
#[derive(Clone)]
pub struct ClusterToken {
    text: String,
    digest: [u8; 32],
}

impl ClusterToken {
    /// Takes a token as it stands in its file; white space around it is dropped. Length and characters are checked with
    /// the rest of the configuration.
    pub fn new(text: &str) -> ClusterToken {
        let text = text.trim().to_owned();
        let digest = Sha256::digest(text.as_bytes()).into();
        ClusterToken { text, digest }
    }

    /// The secret itself, for the handshake with peers.
    pub fn secret(&self) -> &str {
        &self.text
    }

    /// Whether `presented` is this token. Takes the same time for every text of one length: digests are compared, in
    /// constant time.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        digest.ct_eq(&self.digest).into()
    }
}

impl fmt::Debug for ClusterToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_itself_only_and_is_not_printed() {
        let token = ClusterToken::new(" correct horse battery\n");
        assert!(token.matches(b"correct horse battery"));
        for other in ["", "correct horse", "correct horse battery ", "Correct horse battery"] {
            assert!(!token.matches(other.as_bytes()), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "ClusterToken(..)");
    }

    #[test]
    fn kinds_round_trip() {
        for kind in [IdentityKind::Token, IdentityKind::Loopback, IdentityKind::Insecure] {
            assert_eq!(IdentityKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(IdentityKind::parse("root"), None);
    }
}
