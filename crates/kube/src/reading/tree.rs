//! YAML and JSON as a tree that knows where each value stands.
//!
//! Owns: parsing, finding a place by a field's path. Does not own: what the values mean.
//!
//! Invariant: the size of the tree is bounded by the limits, whatever aliases the text has.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::error::{ManifestError, ManifestProblem, Position};
use crate::limits;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub position: Option<Position>,
    pub content: Content,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key stands.
    pub position: Option<Position>,
    pub value: Node,
}

/// Parses all documents of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, ManifestError> {
    if text.len() > limits::MANIFEST_BYTES_MAX {
        let problem = ManifestProblem::TooLong { bytes: text.len() };
        return Err(ManifestError { position: None, problem });
    }
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
        let position = error.location().and_then(position_of);
        ManifestError { position, problem: problem_of(&error) }
    })
}

/// A limit of ours by its name; else the parser's words, without the position, which has a field of its own.
fn problem_of(error: &serde_saphyr::Error) -> ManifestProblem {
    use serde_saphyr::Error;
    let too_many = |what, limit| ManifestProblem::TooMany { what, limit };
    let mut error = error;
    // What goes wrong behind an alias comes wrapped.
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    let detail = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("duplicate key {:?}: it is there twice", shortened(key))
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::Budget {
            breach:
                BudgetBreach::Aliases { .. }
                | BudgetBreach::Anchors { .. }
                | BudgetBreach::AliasAnchorRatio { .. },
            ..
        } => return too_many("values behind aliases", limits::ALIASED_NODES_MAX),
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            return too_many("documents", limits::DOCUMENTS_MAX);
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            return too_many("lists and mappings within each other", limits::NESTING_MAX);
        }
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            return too_many("values", limits::NODES_MAX);
        }
        other => UserMessageFormatter.format_message(other).into_owned(),
    };
    ManifestProblem::Syntax { detail }
}

/// A text as an error may show it.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(limits::SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: limits::NESTING_MAX,
            max_nodes: limits::NODES_MAX,
            // A value is one event, or two if others are within; a document is two.
            max_events: 2 * limits::NODES_MAX + 2 * limits::DOCUMENTS_MAX + 2,
            max_documents: limits::DOCUMENTS_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::ALIASED_NODES_MAX,
        },
        with_snippet: false,
        // Modes of files are written as `0400`, which Kubernetes' own reader takes for octal.
        legacy_octal_numbers: true,
    }
}

impl Node {
    /// The tree of a JSON value; it has no positions.
    pub fn from_json(value: &Value) -> Node {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(*value),
            Value::String(text) => Content::Text(text.clone()),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), ..) => Content::Signed(number),
                (_, Some(number), _) => Content::Unsigned(number),
                (_, _, number) => Content::Float(number.unwrap_or(f64::NAN)),
            },
            Value::Array(items) => Content::List(items.iter().map(Node::from_json).collect()),
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| Entry {
                    key: key.clone(),
                    position: None,
                    value: Node::from_json(value),
                };
                Content::Map(map.iter().map(entry).collect())
            }
        };
        Node { position: None, content }
    }

    /// The entry of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text of an entry of a mapping.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Drops entries of a mapping.
    pub fn remove(&mut self, keys: &[&str]) {
        if let Content::Map(entries) = &mut self.content {
            entries.retain(|entry| !keys.contains(&entry.key.as_str()));
        }
    }

    /// The value of an entry, to be changed.
    pub fn entry_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.content {
            Content::Map(entries) => {
                entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
            }
            _ => None,
        }
    }

    /// Where the field of a path such as `spec.template.spec.containers[0].env` stands, or the innermost part of the path
    /// that is there: a missing field is reported where it would have to be.
    pub fn locate(&self, path: &str) -> Option<Position> {
        let mut node = self;
        let mut position = self.position;
        let mut rest = path;
        while !rest.is_empty() {
            let (segment, after, is_bracket) = match rest.strip_prefix('[') {
                Some(inner) => {
                    let end = inner.find(']').unwrap_or(inner.len());
                    (&inner[..end], inner.get(end + 1..).unwrap_or(""), true)
                }
                None => {
                    let rest = rest.strip_prefix('.').unwrap_or(rest);
                    let end = rest.find(['.', '[']).unwrap_or(rest.len());
                    (&rest[..end], &rest[end..], false)
                }
            };
            let found = match &node.content {
                Content::List(items) if is_bracket => segment
                    .parse()
                    .ok()
                    .and_then(|index: usize| items.get(index))
                    .map(|item| (item.position, item)),
                Content::Map(_) => node.entry(segment).map(|entry| (entry.position, &entry.value)),
                _ => None,
            };
            let Some((at, next)) = found else { break };
            position = at.or(position);
            node = next;
            rest = after;
        }
        position
    }
}

fn position_of(location: Location) -> Option<Position> {
    (location.line() > 0).then(|| Position { line: location.line(), column: location.column() })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Node { position: position_of(spanned.referenced), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(i64::try_from(value).map_or(Content::Unsigned(value), Content::Signed))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Content::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let position = position_of(key.referenced);
            entries.push(Entry { key: key.value, position, value: map.next_value()? });
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_path() {
        let nodes = parse("a:\n  b:\n    - c: 1\n    - c: 2\n      d.e: x\n---\n{\"a\": [\t1]}\n").unwrap();
        let at = |line, column| Some(Position { line, column });
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].locate(""), at(1, 1));
        assert_eq!(nodes[0].locate("a"), at(1, 1));
        assert_eq!(nodes[0].locate("a.b"), at(2, 3));
        assert_eq!(nodes[0].locate("a.b[1]"), at(4, 7));
        assert_eq!(nodes[0].locate("a.b[1].c"), at(4, 7));
        assert_eq!(nodes[0].locate("a.b[1][d.e]"), at(5, 7));
        assert_eq!(nodes[0].locate("a.b[1].missing.more"), at(4, 7), "where it would have to be");
        assert_eq!(nodes[0].locate("a.b[9]"), at(2, 3));
        assert_eq!(nodes[1].locate("a"), at(7, 2));
    }

    #[test]
    fn scalars() {
        let nodes = parse("[1, -1, 18446744073709551615, 1.5, yes, ~, text, \"1\", {1: x}]").unwrap();
        let Content::List(items) = &nodes[0].content else { panic!("a list") };
        let contents: Vec<&Content> = items.iter().map(|item| &item.content).collect();
        assert_eq!(
            contents[..6],
            [
                &Content::Signed(1),
                &Content::Signed(-1),
                &Content::Unsigned(u64::MAX),
                &Content::Float(1.5),
                &Content::Bool(true),
                &Content::Null,
            ]
        );
        assert_eq!(contents[6..8], [&Content::Text("text".to_owned()), &Content::Text("1".to_owned())]);
        assert_eq!(items[8].text("1"), Some("x"), "keys are texts, as in Kubernetes");
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{},", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(parse(&bomb).is_err());
        for nested in [limits::NESTING_MAX + 1, 200, 100_000] {
            assert!(parse(&"[".repeat(nested)).is_err());
            assert!(parse(&"- ".repeat(nested)).is_err());
            assert!(parse(&format!("{}1{}", "[".repeat(nested), "]".repeat(nested))).is_err());
            assert!(parse(&format!("{}1{}", "{a: ".repeat(nested), "}".repeat(nested))).is_err());
        }
        let deepest = limits::NESTING_MAX - 1;
        assert!(parse(&format!("{}1{}", "{a: ".repeat(deepest), "}".repeat(deepest))).is_ok());
        assert!(parse(&" ".repeat(limits::MANIFEST_BYTES_MAX + 1)).is_err());
    }
}
