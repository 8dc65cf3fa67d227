//! What names and labels may look like (RFC 1123, Kubernetes' label syntax).
//!
//! Owns: the checks and their texts. Does not own: which field is a name of which kind (validation).

use crate::limits::{DNS_LABEL_BYTES_MAX, DNS_SUBDOMAIN_BYTES_MAX, LABEL_PART_BYTES_MAX};

/// Checks a DNS label: lower case letters, digits and `-`, at most 63 bytes.
///
/// # Errors
/// What is wrong, in Kubernetes' words.
pub fn check_dns_label(text: &str) -> Result<(), String> {
    if text.len() > DNS_LABEL_BYTES_MAX {
        return Err(format!("must be no more than {DNS_LABEL_BYTES_MAX} bytes"));
    }
    if is_label(text) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
         end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        .to_owned())
}

/// Checks a DNS subdomain: labels joined by dots, at most 253 bytes.
///
/// # Errors
/// What is wrong, in Kubernetes' words.
pub fn check_dns_subdomain(text: &str) -> Result<(), String> {
    if text.len() > DNS_SUBDOMAIN_BYTES_MAX {
        return Err(format!("must be no more than {DNS_SUBDOMAIN_BYTES_MAX} bytes"));
    }
    if is_subdomain(text) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        .to_owned())
}

/// Checks the key of a label, annotation or resource: a name, or a DNS subdomain, `/` and a name.
///
/// # Errors
/// What is wrong, in Kubernetes' words.
pub fn check_qualified_name(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        Some((prefix, name)) if !prefix.is_empty() => {
            check_dns_subdomain(prefix).map_err(|problem| format!("prefix part {problem}"))?;
            name
        }
        Some(_) => return Err("prefix part must be non-empty".to_owned()),
        None => text,
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_PART_BYTES_MAX {
        return Err(format!("name part must be no more than {LABEL_PART_BYTES_MAX} bytes"));
    }
    if is_label_part(name) {
        return Ok(());
    }
    Err("name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
         character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        .to_owned())
}

/// Checks the value of a label; may be empty.
///
/// # Errors
/// What is wrong, in Kubernetes' words.
pub fn check_label_value(text: &str) -> Result<(), String> {
    if text.len() > LABEL_PART_BYTES_MAX {
        return Err(format!("must be no more than {LABEL_PART_BYTES_MAX} bytes"));
    }
    if text.is_empty() || is_label_part(text) {
        return Ok(());
    }
    Err("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and \
         end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        .to_owned())
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if is_inner(*first) && is_inner(*last))
        && bytes.iter().all(|byte| is_inner(*byte) || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_label_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if is_inner(first) && is_inner(last))
        && bytes.iter().all(|byte| is_inner(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for text in ["a", "0", "a-b", "pi-calculator", &"a".repeat(63)] {
            assert_eq!(check_dns_label(text), Ok(()), "{text}");
        }
        for text in ["", "A", "-a", "a-", "a.b", "a_b", "ä", &"a".repeat(64), "a/b", "../a"] {
            assert!(check_dns_label(text).is_err(), "{text}");
        }
        assert_eq!(check_dns_subdomain("a.b-c.0"), Ok(()));
        for text in ["", ".", "a..b", ".a", "a.", "A.b", &"a".repeat(254)] {
            assert!(check_dns_subdomain(text).is_err(), "{text}");
        }
        for text in ["app", "example.com/App_1", "a.b"] {
            assert_eq!(check_qualified_name(text), Ok(()), "{text}");
        }
        for text in ["", "/a", "a/", "a/b/c", "-a", "Example.com/a", &"a".repeat(64)] {
            assert!(check_qualified_name(text).is_err(), "{text}");
        }
        assert_eq!(check_label_value(""), Ok(()));
        for text in ["-", "a b", "ä", &"a".repeat(64)] {
            assert!(check_label_value(text).is_err(), "{text}");
        }
    }
}
