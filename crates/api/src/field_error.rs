//! Errors about fields, in Kubernetes' words (job-semantics 1.2).
//!
//! Owns: the kinds of errors and their texts. Does not own: when a field is wrong.

use std::fmt;

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path, such as `spec.template.spec.containers[0].name`.
    pub field: String,
    /// What is wrong.
    pub kind: FieldErrorKind,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// It is missing.
    Required {
        /// What is expected; may be empty.
        detail: String,
    },
    /// Its value can't be used.
    Invalid {
        /// The value as it is shown: texts in quotes.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Its value is none of those known.
    Unsupported {
        /// The value.
        value: String,
        /// Those known, in the order in which they are shown.
        supported: Vec<&'static str>,
    },
    /// It may not be set.
    Forbidden {
        /// Why.
        detail: String,
    },
    /// The value is there twice.
    Duplicate {
        /// The value.
        value: String,
    },
    /// It names something that is not there.
    NotFound {
        /// The name.
        value: String,
    },
    /// It is too long.
    TooLong {
        /// Bytes that it may have.
        bytes_max: usize,
    },
    /// It has too many items.
    TooMany {
        /// Items that it has.
        count: usize,
        /// Items that it may have.
        count_max: usize,
    },
}

impl FieldError {
    /// A field that is missing.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError { field: field.into(), kind: FieldErrorKind::Required { detail: detail.into() } }
    }

    /// A field whose value, shown as it is, can't be used.
    pub fn invalid(
        field: impl Into<String>,
        value: impl fmt::Display,
        detail: impl Into<String>,
    ) -> FieldError {
        let kind = FieldErrorKind::Invalid { value: value.to_string(), detail: detail.into() };
        FieldError { field: field.into(), kind }
    }

    /// A field whose text can't be used.
    pub fn invalid_text(field: impl Into<String>, value: &str, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(field, format!("{value:?}"), detail)
    }

    /// A field whose value is none of those known.
    pub fn unsupported(field: impl Into<String>, value: &str, supported: &[&'static str]) -> FieldError {
        let kind = FieldErrorKind::Unsupported { value: value.to_owned(), supported: supported.to_vec() };
        FieldError { field: field.into(), kind }
    }

    /// A field that may not be set.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError { field: field.into(), kind: FieldErrorKind::Forbidden { detail: detail.into() } }
    }

    /// Kubernetes' word for the kind, as a Status' cause has it.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            FieldErrorKind::Required { .. } => "FieldValueRequired",
            FieldErrorKind::Invalid { .. } => "FieldValueInvalid",
            FieldErrorKind::Unsupported { .. } => "FieldValueNotSupported",
            FieldErrorKind::Forbidden { .. } => "FieldValueForbidden",
            FieldErrorKind::Duplicate { .. } => "FieldValueDuplicate",
            FieldErrorKind::NotFound { .. } => "FieldValueNotFound",
            FieldErrorKind::TooLong { .. } => "FieldValueTooLong",
            FieldErrorKind::TooMany { .. } => "FieldValueTooMany",
        }
    }

    /// What is wrong, without the path.
    pub fn detail(&self) -> String {
        self.kind.to_string()
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.kind)
    }
}

impl fmt::Display for FieldErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldErrorKind::Required { detail } if detail.is_empty() => formatter.write_str("Required value"),
            FieldErrorKind::Required { detail } => write!(formatter, "Required value: {detail}"),
            FieldErrorKind::Invalid { value, detail } => {
                write!(formatter, "Invalid value: {value}: {detail}")
            }
            FieldErrorKind::Unsupported { value, supported } => {
                let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
                write!(formatter, "Unsupported value: {value:?}: supported values: {}", supported.join(", "))
            }
            FieldErrorKind::Forbidden { detail } => write!(formatter, "Forbidden: {detail}"),
            FieldErrorKind::Duplicate { value } => write!(formatter, "Duplicate value: {value:?}"),
            FieldErrorKind::NotFound { value } => write!(formatter, "Not found: {value:?}"),
            FieldErrorKind::TooLong { bytes_max } => {
                write!(formatter, "Too long: may not be more than {bytes_max} bytes")
            }
            FieldErrorKind::TooMany { count, count_max } => {
                write!(formatter, "Too many: {count}: must have at most {count_max} items")
            }
        }
    }
}

/// The message of a refused object: `Job.batch "x" is invalid: <field>: <kind>: <detail>`, several errors in brackets.
pub fn invalid_message(kind: &str, name: &str, errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match &texts[..] {
        [one] => format!("{kind} {name:?} is invalid: {one}"),
        several => format!("{kind} {name:?} is invalid: [{}]", several.join(", ")),
    }
}
