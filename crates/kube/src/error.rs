//! What can be wrong with a manifest, and where.
//!
//! Owns: the errors and their texts. Does not own: the texts of field errors (crate `api`).

use std::fmt;

use stint_api::FieldError;

use crate::limits;

/// A place in a text; both numbers begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", Place(.position))]
pub struct ManifestError {
    /// Where; `None` if the text as a whole is meant, or if the object did not come from a text.
    pub position: Option<Position>,
    /// What.
    pub problem: ManifestProblem,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestProblem {
    /// The text is neither YAML nor JSON, repeats a key, or goes beyond a limit of the parser.
    #[error("the manifest can't be read: {detail}")]
    Syntax {
        /// What the parser found.
        detail: String,
    },
    /// The text is too long.
    #[error("the manifest has {bytes} bytes and may have {}: split it", limits::MANIFEST_BYTES_MAX)]
    TooLong {
        /// Bytes that it has.
        bytes: usize,
    },
    /// There is too much of something.
    #[error("the manifest has more than {limit} {what}, the limit: split it or make it simpler")]
    TooMany {
        /// Of what, such as `Jobs`.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A field that Kubernetes does not have.
    #[error("unknown field {path:?}{}", Suggestion(.suggestion))]
    UnknownField {
        /// Path of the field.
        path: String,
        /// A field of that place with a similar name.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type.
    #[error("{path}: {detail}")]
    WrongType {
        /// Path of the field.
        path: String,
        /// What was expected and what is there.
        detail: String,
    },
    /// A field whose value can't be accepted.
    #[error("{0}")]
    Field(FieldError),
}

impl ManifestProblem {
    /// Path of the field; empty if the whole text is meant.
    pub fn path(&self) -> &str {
        match self {
            ManifestProblem::UnknownField { path, .. } | ManifestProblem::WrongType { path, .. } => path,
            ManifestProblem::Field(error) => &error.field,
            _ => "",
        }
    }
}

struct Place<'a>(&'a Option<Position>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(position) => write!(formatter, "line {}, column {}: ", position.line, position.column),
            None => Ok(()),
        }
    }
}

struct Suggestion<'a>(&'a Option<&'static str>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(formatter, " (did you mean {name:?}?)"),
            None => Ok(()),
        }
    }
}
