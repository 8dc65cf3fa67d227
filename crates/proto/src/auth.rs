//! The bearer token of a client or agent.
//!
//! Owns: its form in the metadata of a request, on both ends. Does not own: whose token it is, and whether it is right
//! (the servers compare it, in constant time).
//!
//! Invariant: no token is ever shown by `Debug` or in an error.

use std::fmt;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::TokenError;
use crate::limits::TOKEN_BYTES_MAX;

/// The metadata key, and HTTP header, that carries the token.
pub const AUTHORIZATION: &str = "authorization";

const SCHEME: &str = "Bearer";

/// A token as a request carries it.
#[derive(Clone)]
pub struct BearerToken(MetadataValue<Ascii>);

impl BearerToken {
    /// Takes the text of a token file; white space around it, such as the file's last line end, does not belong to it.
    pub fn new(text: &str) -> Result<BearerToken, TokenError> {
        let token = text.trim_ascii();
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { bytes: token.len() });
        }
        if let Some(position) = token.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(TokenError::Character { position });
        }
        let mut value = MetadataValue::try_from(format!("{SCHEME} {token}"))
            .map_err(|_| TokenError::Character { position: 0 })?;
        value.set_sensitive(true);
        Ok(BearerToken(value))
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken(…)")
    }
}

/// Adds the token to every request; without one it adds nothing. For `XClient::with_interceptor(channel, …)`.
#[derive(Debug, Clone, Default)]
pub struct BearerInterceptor {
    token: Option<BearerToken>,
}

impl BearerInterceptor {
    /// With the token, if there is one.
    pub fn new(token: Option<BearerToken>) -> BearerInterceptor {
        BearerInterceptor { token }
    }
}

impl Interceptor for BearerInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert(AUTHORIZATION, token.0.clone());
        }
        Ok(request)
    }
}

/// The token that a request carries. `None` also if the header is there twice: then nobody can tell which is meant.
pub fn bearer_token(metadata: &MetadataMap) -> Option<&str> {
    let mut values = metadata.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    parse_authorization(value)
}

/// The token in the value of an `authorization` header; the scheme is read without regard to case (RFC 9110).
pub fn parse_authorization(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_with(token: Option<&str>) -> Request<()> {
        let token = token.map(|text| BearerToken::new(text).unwrap());
        BearerInterceptor::new(token).call(Request::new(())).unwrap()
    }

    #[test]
    fn what_a_client_adds_a_server_reads() {
        let request = request_with(Some("s3cret/+=\n"));
        assert_eq!(bearer_token(request.metadata()), Some("s3cret/+="));
        assert!(request.metadata().get(AUTHORIZATION).unwrap().is_sensitive());
        assert_eq!(bearer_token(request_with(None).metadata()), None);
    }

    #[test]
    fn two_authorizations_are_none() {
        let mut request = request_with(Some("one"));
        request.metadata_mut().append(AUTHORIZATION, MetadataValue::from_static("Bearer two"));
        assert_eq!(bearer_token(request.metadata()), None);
    }

    #[test]
    fn authorizations_that_carry_no_bearer_token() {
        for value in ["", "Bearer", "Bearer ", "Bearer  ", "Basic abc", "Bearerabc", "abc"] {
            assert_eq!(parse_authorization(value), None, "{value:?}");
        }
        assert_eq!(parse_authorization("bearer abc"), Some("abc"));
    }

    #[test]
    fn texts_that_are_no_token() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for (text, error) in [
            ("", TokenError::Empty),
            (" \n", TokenError::Empty),
            ("two words", TokenError::Character { position: 3 }),
            ("line\nline", TokenError::Character { position: 4 }),
            ("schlüssel", TokenError::Character { position: 4 }),
            (&long, TokenError::TooLong { bytes: TOKEN_BYTES_MAX + 1 }),
        ] {
            assert_eq!(BearerToken::new(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let shown = format!("{:?}", BearerInterceptor::new(Some(BearerToken::new("s3cret").unwrap())));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
