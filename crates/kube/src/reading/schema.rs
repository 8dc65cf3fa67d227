//! Names and types of fields, checked against Kubernetes' own types.
//!
//! Owns: reading a tree into a type while noting each field that the type does not have. Does not own: the types
//! (`k8s-openapi`), what is supported.
//!
//! Invariant: a field is either in the value or in the errors.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::{Content, Entry, Node, shortened};
use crate::error::{ManifestError, ManifestProblem, Position};
use crate::limits;

/// Reads a tree as `T`. All unknown fields are found at once, of values of the wrong type the first.
pub(super) fn read<T: DeserializeOwned>(node: &Node, path: &str) -> Result<T, Vec<ManifestError>> {
    let walk = Walk { path: RefCell::new(path.to_owned()), unknown: RefCell::default() };
    let result = T::deserialize(Reader { node, walk: &walk });
    let mut errors = walk.unknown.into_inner();
    match result {
        Ok(value) if errors.is_empty() => return Ok(value),
        Ok(_) => {}
        Err(TypeError { detail, place }) => {
            let (path, position) = place.unwrap_or_else(|| (path.to_owned(), node.position));
            errors.push(ManifestError { position, problem: ManifestProblem::WrongType { path, detail } });
        }
    }
    errors.sort_by_key(|error| error.position);
    Err(errors)
}

/// What is shared by all readers of one tree.
struct Walk {
    /// Where the walk is.
    path: RefCell<String>,
    unknown: RefCell<Vec<ManifestError>>,
}

impl Walk {
    /// Does something one step further down.
    fn within<T>(
        &self,
        step: &str,
        position: Option<Position>,
        act: impl FnOnce() -> Result<T, TypeError>,
    ) -> Result<T, TypeError> {
        let length = self.path.borrow().len();
        {
            let mut path = self.path.borrow_mut();
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        let result = act().map_err(|mut error| {
            error.place.get_or_insert_with(|| (self.path.borrow().clone(), position));
            error
        });
        self.path.borrow_mut().truncate(length);
        result
    }

    fn note_unknown(&self, entry: &Entry, known: &'static [&'static str]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() >= limits::ERRORS_MAX {
            return;
        }
        let path = self.path.borrow();
        let key = shortened(&entry.key);
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        let problem = ManifestProblem::UnknownField { path, suggestion: similar(&entry.key, known) };
        unknown.push(ManifestError { position: entry.position, problem });
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    walk: &'a Walk,
}

impl<'de, 'a: 'de> Deserializer<'de> for Reader<'a> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Signed(value) => visitor.visit_i64(*value),
            Content::Unsigned(value) => visitor.visit_u64(*value),
            Content::Float(value) => visitor.visit_f64(*value),
            Content::Text(value) => visitor.visit_str(value),
            Content::List(items) => {
                visitor.visit_seq(Items { items: items.iter().enumerate(), walk: self.walk })
            }
            Content::Map(entries) => visitor.visit_map(Entries {
                entries: entries.iter(),
                value: None,
                known: None,
                walk: self.walk,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.node.content {
            Content::Map(entries) => {
                let known = Some(known);
                visitor.visit_map(Entries { entries: entries.iter(), value: None, known, walk: self.walk })
            }
            // `field:` with nothing behind it is an empty object, as in Kubernetes.
            Content::Null => {
                visitor.visit_map(Entries { entries: [].iter(), value: None, known: None, walk: self.walk })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    walk: &'a Walk,
}

impl<'de, 'a: 'de> SeqAccess<'de> for Items<'a> {
    type Error = TypeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let walk = self.walk;
        walk.within(&format!("[{index}]"), node.position, || seed.deserialize(Reader { node, walk }))
            .map(Some)
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    value: Option<&'a Entry>,
    /// Names of the fields if it is an object, not a mapping with keys of the user's own.
    known: Option<&'static [&'static str]>,
    walk: &'a Walk,
}

impl<'de, 'a: 'de> MapAccess<'de> for Entries<'a> {
    type Error = TypeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, TypeError> {
        for entry in self.entries.by_ref() {
            if let Some(known) = self.known
                && !known.contains(&entry.key.as_str())
            {
                self.walk.note_unknown(entry, known);
                continue;
            }
            self.value = Some(entry);
            return seed.deserialize(entry.key.as_str().into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, TypeError> {
        let walk = self.walk;
        let Some(entry) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let step = if self.known.is_some() { entry.key.clone() } else { format!("[{}]", entry.key) };
        let position = entry.value.position.or(entry.position);
        walk.within(&step, position, || seed.deserialize(Reader { node: &entry.value, walk }))
    }
}

/// The first value that is not of the type of its field.
#[derive(Debug)]
struct TypeError {
    detail: String,
    /// Path and position, set on the way up.
    place: Option<(String, Option<Position>)>,
}

impl std::error::Error for TypeError {}

impl fmt::Display for TypeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail)
    }
}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> TypeError {
        TypeError { detail: message.to_string(), place: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> TypeError {
        let expected = expected.to_string();
        let hint = match (&found, expected.as_str()) {
            (
                Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_),
                "a string",
            ) => ": put it in quotes",
            (Unexpected::Str(text), "i32" | "i64") if text.parse::<i64>().is_ok() => ": leave out the quotes",
            _ => "",
        };
        de::Error::custom(format!(
            "expected {}, found {}{hint}",
            expected_words(&expected),
            found_words(&found)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> TypeError {
        let (expected, found) = (expected.to_string(), found_words(&found));
        de::Error::custom(format!("expected {}, found {found}", expected_words(&expected)))
    }
}

fn expected_words(expected: &str) -> String {
    match expected {
        "i32" => "a whole number of 32 bits".to_owned(),
        "i64" => "a whole number of 64 bits".to_owned(),
        "u8" | "u16" | "u32" | "u64" => "a number that is not negative".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        // Kubernetes' types are called by their names.
        name if name.chars().all(char::is_alphanumeric) => format!("a mapping ({name})"),
        other => other.to_owned(),
    }
}

fn found_words(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("the boolean {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text {:?}", shortened(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// A known name that a wrong one was probably meant to be.
fn similar(wrong: &str, known: &'static [&'static str]) -> Option<&'static str> {
    /// Longer keys are no misspelt names of fields.
    const NAME_MAX: usize = 64;
    if wrong.len() > NAME_MAX {
        return None;
    }
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let wrong = plain(wrong);
    let distances = known.iter().map(|name| (distance(&wrong, &plain(name)), *name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2 && distance * 3 <= wrong.len().max(3)).then_some(name)
}

/// Characters to be inserted, removed or replaced to make one text of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, left) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for column in 0..right.len() {
            let replaced = diagonal + usize::from(left != right[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognized() {
        let known: &[&str] = &["completions", "parallelism", "backoffLimit", "name", "env"];
        for (wrong, meant) in [
            ("completionz", Some("completions")),
            ("backoff_limit", Some("backoffLimit")),
            ("BackoffLimit", Some("backoffLimit")),
            ("paralelism", Some("parallelism")),
            ("nmae", None),
            ("nam", Some("name")),
            ("x", None),
            ("", None),
            ("something", None),
        ] {
            assert_eq!(similar(wrong, known), meant, "{wrong}");
        }
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")), (3, 3, 0));
    }
}
