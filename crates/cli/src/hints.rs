//! What to do next about an error.
//!
//! Owns: the table of hints. Does not own: the errors' own words, names near a wrong one (`commands::suggestion`).

use stint_client::{Error, ErrorReason};

/// What helps against an error, if anything general does. An error's own words already name the object and the limit.
pub fn next_step(error: &anyhow::Error) -> Option<&'static str> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
    match (error, error.reason()) {
        (Error::Address { address }, _) if address.starts_with("https:") => {
            Some("servers speak no TLS: write HOST:PORT alone")
        }
        (Error::Address { address }, _) if !address.contains('[') && address.matches(':').count() > 1 => {
            Some("an IPv6 address stands in brackets, as in [::1]:7440")
        }
        (Error::Address { .. }, _) => Some("stint config show tells where the address comes from"),
        (Error::Token { .. }, _) => Some("stint config show tells where the token comes from"),
        (Error::Unreachable { .. }, _) => Some(
            "stint config show tells where the address comes from; a cluster of one machine is started by: stint dev",
        ),
        (Error::Unavailable { .. }, _) | (_, Some(ErrorReason::NoLeader)) => Some(
            "the servers answer without a leader: stint status shows which of them run; more than half of them must",
        ),
        (_, Some(ErrorReason::Unauthenticated)) => Some(
            "give the cluster's token by --token-file, STINT_TOKEN_FILE or stint context add; stint config show tells which one \
             is used",
        ),
        _ => None,
    }
}

/// True if the servers don't know who asks.
pub fn is_unauthenticated(error: &anyhow::Error) -> bool {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    error.is_some_and(|error| error.reason() == Some(ErrorReason::Unauthenticated))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: ErrorReason) -> anyhow::Error {
        let (word, code) = (Some(reason.as_str().to_owned()), reason.code());
        let message = "no".to_owned();
        Error::Refused { reason: Some(reason), word, code, message, field_violations: Vec::new() }.into()
    }

    #[test]
    fn errors_of_the_way_to_a_cluster_say_what_to_do_next() {
        let unreachable = Error::Unreachable {
            addresses: "a:1".to_owned(),
            timeout: std::time::Duration::from_secs(1),
            last: "refused".to_owned(),
        };
        for (error, expected) in [
            (Error::Address { address: "x".to_owned() }.into(), "stint config show"),
            (Error::Address { address: "[::1]".to_owned() }.into(), "stint config show"),
            (Error::Address { address: "::1:7440".to_owned() }.into(), "in brackets"),
            (Error::Address { address: "https://a:1".to_owned() }.into(), "no TLS"),
            (anyhow::Error::from(unreachable).context("job \"a\""), "stint dev"),
            (refused(ErrorReason::NoLeader), "stint status"),
            (refused(ErrorReason::Unauthenticated), "--token-file"),
        ] {
            assert!(next_step(&error).is_some_and(|hint| hint.contains(expected)), "{error}");
        }
        assert!(is_unauthenticated(&refused(ErrorReason::Unauthenticated).context("job \"a\"")));
        assert!(!is_unauthenticated(&refused(ErrorReason::NotFound)));
        assert_eq!(next_step(&refused(ErrorReason::NotFound)), None);
        assert_eq!(next_step(&anyhow::anyhow!("the file can't be read")), None);
    }
}
