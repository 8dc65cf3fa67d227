//! Who may talk to this server: the bearer token of the client port, the forwarded identity of the peer port.
//!
//! Owns: turning a request's headers into an [`Identity`], and the headers that carry it between servers. Does not own: what
//! an identity may do (later), the handshake by which peers prove theirs (`stint-raft`).
//!
//! Invariants: a forwarded identity counts only on the peer port, whose connections have proven to be peers; every refusal
//! looks the same, whatever was wrong (security checklist 18).

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use tonic::Status;

use crate::config::ServerConfig;
use crate::error;
use crate::identity::{ClusterToken, Identity, IdentityKind};

/// Carries `kind/name` of who made a forwarded request.
pub const FORWARDED_IDENTITY: HeaderName = HeaderName::from_static("stint-forwarded-identity");
/// The hop mark: name of the server that forwarded. A request that has it is never forwarded again.
pub const FORWARDED_BY: HeaderName = HeaderName::from_static("stint-forwarded-by");
const BEARER: &[u8] = b"Bearer ";

/// Recognises who makes a request on the client port.
#[derive(Debug, Clone)]
pub struct Authenticator {
    token: Option<ClusterToken>,
    open_to: Option<IdentityKind>,
}

impl Authenticator {
    /// The policy that a (validated) configuration says.
    pub fn new(config: &ServerConfig) -> Authenticator {
        Authenticator { token: config.token.clone(), open_to: config.open_to() }
    }

    /// Recognises the maker of a request by its headers.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, always with the same message.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Box<Status>> {
        if let Some(kind) = self.open_to {
            let name = if kind == IdentityKind::Loopback { "loopback" } else { "anyone" };
            return Ok(Identity { name: name.to_owned(), kind });
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let presented = match (values.next(), values.next()) {
            (Some(value), None) => bearer(value),
            // None, or several: which one counts would be a guess.
            _ => None,
        };
        let matches = match (&self.token, presented) {
            (Some(token), Some(presented)) => token.matches(presented),
            _ => false,
        };
        if matches {
            return Ok(Identity { name: "token".to_owned(), kind: IdentityKind::Token });
        }
        Err(Box::new(error::unauthenticated()))
    }
}

/// Reads the identity that a peer has forwarded.
///
/// # Errors
/// `UNAUTHENTICATED` if it is missing or cannot be read.
pub fn forwarded_identity(headers: &HeaderMap) -> Result<Identity, Box<Status>> {
    let parse = || {
        headers.get(FORWARDED_BY)?;
        let text = headers.get(FORWARDED_IDENTITY)?.to_str().ok()?;
        let (kind, name) = text.split_once('/')?;
        Some(Identity { name: name.to_owned(), kind: IdentityKind::parse(kind)? })
    };
    parse().ok_or_else(|| Box::new(error::unauthenticated()))
}

/// Marks a request as forwarded by the server `by`; the token does not travel further.
pub fn mark_forwarded(headers: &mut HeaderMap, identity: &Identity, by: &str) {
    headers.remove(AUTHORIZATION);
    let identity = format!("{}/{}", identity.kind.as_str(), identity.name);
    for (name, value) in [(FORWARDED_IDENTITY, identity.as_str()), (FORWARDED_BY, by)] {
        headers.remove(&name);
        // Names of servers and identities are ASCII; another one would travel without its mark and be refused there.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

/// Removes what only peers may say.
pub fn strip_forwarded(headers: &mut HeaderMap) {
    headers.remove(FORWARDED_IDENTITY);
    headers.remove(FORWARDED_BY);
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let bytes = value.as_bytes();
    let (scheme, token) = bytes.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a header value"));
        }
        headers
    }

    #[test]
    fn only_the_token_opens_a_guarded_server() {
        let guard = Authenticator { token: Some(ClusterToken::new("0123456789abcdef")), open_to: None };
        for good in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef"] {
            assert_eq!(guard.authenticate(&headers(&[good])).expect(good).kind, IdentityKind::Token);
        }
        let bad: &[&[&str]] = &[
            &[],
            &[""],
            &["Bearer "],
            &["0123456789abcdef"],
            &["Basic 0123456789abcdef"],
            &["Bearer 0123456789abcdeF"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ];
        let mut messages = Vec::new();
        for values in bad {
            messages.push(guard.authenticate(&headers(values)).expect_err("refused").to_string());
        }
        messages.dedup();
        assert_eq!(messages.len(), 1, "refusals tell nothing apart");
    }

    #[test]
    fn a_forwarded_identity_needs_both_marks_and_loses_the_token() {
        let identity = Identity { name: "token".to_owned(), kind: IdentityKind::Token };
        let mut marked = headers(&["Bearer 0123456789abcdef"]);
        mark_forwarded(&mut marked, &identity, "s2");
        assert!(marked.get(AUTHORIZATION).is_none());
        assert_eq!(forwarded_identity(&marked).expect("marked"), identity);
        let mut stripped = marked.clone();
        strip_forwarded(&mut stripped);
        assert!(forwarded_identity(&stripped).is_err());
        marked.remove(FORWARDED_BY);
        assert!(forwarded_identity(&marked).is_err());
    }
}
