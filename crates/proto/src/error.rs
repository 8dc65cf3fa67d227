//! What can be wrong with a message or a token.
//!
//! Owns: the error types. Does not own: codes of the wire (module `status`), rules about Jobs (validation in `api`).

use std::fmt;

/// A message that is no object. The texts are Kubernetes' own, so that people find the same words on every way in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversionError {
    /// A field that must be there is not.
    #[error("{field}: Required value")]
    Required {
        /// Path of the field, in the names of Kubernetes' JSON, such as `status.containerStatuses[0].state`.
        field: String,
    },
    /// A field has none of the values that it may have.
    #[error("{field}: Unsupported value: {value:?}: supported values: {}", Quoted(.supported))]
    Unsupported {
        /// Path of the field.
        field: String,
        /// What was sent.
        value: String,
        /// What may be sent.
        supported: &'static [&'static str],
    },
    /// A field's value cannot be read.
    #[error("{field}: Invalid value: {value:?}: {detail}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What was sent.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl ConversionError {
    /// Path of the field that is wrong.
    pub fn field(&self) -> &str {
        match self {
            ConversionError::Required { field }
            | ConversionError::Unsupported { field, .. }
            | ConversionError::Invalid { field, .. } => field,
        }
    }

    /// What is wrong, without the path: the description of a field violation.
    pub fn detail(&self) -> String {
        let text = self.to_string();
        text.strip_prefix(self.field()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text).to_owned()
    }

    pub(crate) fn required(field: &str) -> ConversionError {
        ConversionError::Required { field: field.to_owned() }
    }

    pub(crate) fn unsupported(
        field: &str,
        value: impl Into<String>,
        supported: &'static [&'static str],
    ) -> ConversionError {
        ConversionError::Unsupported { field: field.to_owned(), value: value.into(), supported }
    }

    pub(crate) fn invalid(
        field: &str,
        value: impl Into<String>,
        detail: impl Into<String>,
    ) -> ConversionError {
        ConversionError::Invalid { field: field.to_owned(), value: value.into(), detail: detail.into() }
    }

    /// The same error, seen from the object that holds the part.
    fn below(mut self, parent: &str) -> ConversionError {
        let (ConversionError::Required { field }
        | ConversionError::Unsupported { field, .. }
        | ConversionError::Invalid { field, .. }) = &mut self;
        let separator = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        *field = format!("{parent}{separator}{field}");
        self
    }
}

/// Puts the path of the part before the path within the part.
pub(crate) trait Within<T> {
    /// Says that the part is `field` of what is being converted.
    fn within(self, field: &str) -> Result<T, ConversionError>;
}

impl<T> Within<T> for Result<T, ConversionError> {
    fn within(self, field: &str) -> Result<T, ConversionError> {
        self.map_err(|error| error.below(field))
    }
}

/// Converts the parts of a list; an error names the position.
pub(crate) fn each<T, U>(
    field: &str,
    items: Vec<T>,
    convert: impl Fn(T) -> Result<U, ConversionError>,
) -> Result<Vec<U>, ConversionError> {
    items
        .into_iter()
        .enumerate()
        .map(|(position, item)| convert(item).map_err(|error| error.below(&format!("{field}[{position}]"))))
        .collect()
}

/// A text that cannot be a bearer token. The text itself is not shown: it may be a secret all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing there.
    #[error("the bearer token is empty: give one, or none at all")]
    Empty,
    /// Longer than a header may be.
    #[error(
        "the bearer token is {bytes} bytes long, more than {}: use a shorter one",
        crate::limits::TOKEN_BYTES_MAX
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Something that no header can carry.
    #[error("the bearer token has a character at byte {position} that is not visible ASCII: remove it")]
    Character {
        /// Where.
        position: usize,
    },
}

struct Quoted<'a>(&'a [&'static str]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, value) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(formatter, "{separator}{value:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_grow_from_the_inside_out() {
        let inner = ConversionError::invalid("[cpu]", "1x", "no quantity");
        let error = Err::<(), _>(inner).within("requests").within("containers[0]").unwrap_err();
        assert_eq!(error.field(), "containers[0].requests[cpu]");
        assert_eq!(error.to_string(), "containers[0].requests[cpu]: Invalid value: \"1x\": no quantity");
        assert_eq!(error.detail(), "Invalid value: \"1x\": no quantity");
    }

    #[test]
    fn supported_values_are_listed_as_kubernetes_lists_them() {
        let error = ConversionError::unsupported("operator", "like", &["In", "NotIn"]);
        assert_eq!(
            error.to_string(),
            "operator: Unsupported value: \"like\": supported values: \"In\", \"NotIn\""
        );
    }
}
