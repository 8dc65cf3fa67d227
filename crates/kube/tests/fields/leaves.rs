//! All fields of a type, found by reading one value of it that has all of them.
//!
//! Owns: the walk, values that say something, putting one into a document and finding it there again. Does not own: what
//! is expected of a field.

use std::cell::RefCell;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};

/// The error of a walk that comes to what it does not know.
type Error = serde::de::value::Error;

/// A time, for fields that hold one.
const TIME: &str = "2026-01-31T12:00:00Z";

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// A key of the user's own.
    Key(&'static str),
    First,
}

/// A field that holds a plain value.
#[derive(Debug, Clone)]
pub struct Leaf {
    steps: Vec<Step>,
    value: Value,
}

/// All fields that hold plain values.
pub fn leaves_of<T: DeserializeOwned>() -> Vec<Leaf> {
    let found = RefCell::default();
    T::deserialize(Walk { steps: Vec::new(), found: &found }).expect("a type of Kubernetes");
    found.into_inner()
}

impl Leaf {
    /// Such as `spec.template.spec.containers[0].name`.
    pub fn path(&self) -> String {
        path_of(&self.steps)
    }

    /// Path of the object that it is in.
    pub fn parent(&self) -> String {
        let name = self.steps.iter().rposition(|step| matches!(step, Step::Field(_)));
        path_of(&self.steps[..name.unwrap_or(0)])
    }

    pub fn put_into(&self, document: &mut Value) {
        let mut place = document;
        for step in &self.steps {
            place = match step {
                Step::Field(name) => entry(place, name),
                Step::Key(key) => entry(place, key),
                Step::First => {
                    if !place.is_array() {
                        *place = json!([null]);
                    }
                    &mut place[0]
                }
            };
        }
        *place = self.value.clone();
    }

    /// True if the document has the value at its place.
    pub fn is_in(&self, document: &Value) -> bool {
        let found = self.steps.iter().try_fold(document, |place, step| match step {
            Step::Field(name) => place.get(name),
            Step::Key(key) => place.get(key),
            Step::First => place.get(0),
        });
        found == Some(&self.value)
    }
}

fn entry<'a>(place: &'a mut Value, name: &str) -> &'a mut Value {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    &mut place[name]
}

fn path_of(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Field(name) if path.is_empty() => path.push_str(name),
            Step::Field(name) => path.extend([".", name]),
            Step::Key(key) => path.extend(["[", key, "]"]),
            Step::First => path.push_str("[0]"),
        }
    }
    path
}

struct Walk<'a> {
    steps: Vec<Step>,
    found: &'a RefCell<Vec<Leaf>>,
}

impl Walk<'_> {
    fn below(&self, step: Step) -> Walk<'_> {
        let mut steps = self.steps.clone();
        steps.push(step);
        Walk { steps, found: self.found }
    }

    fn note(&self, value: Value) {
        self.found.borrow_mut().push(Leaf { steps: self.steps.clone(), value });
    }

    /// What a key of the user's own is called, so that it is one of those that exist.
    fn key(&self) -> &'static str {
        match self.steps.last() {
            Some(Step::Field(name)) if matches!(name.as_str(), "limits" | "requests") => "memory",
            _ => "key",
        }
    }
}

impl<'de> Deserializer<'de> for Walk<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!(true));
        visitor.visit_bool(true)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!(7));
        visitor.visit_i32(7)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.note(json!(7));
        visitor.visit_i64(7)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = match self.steps.as_slice() {
            [Step::Field(name)] if name == "apiVersion" => "batch/v1",
            [Step::Field(name)] if name == "kind" => "Job",
            // A text, a number, a quantity.
            _ => "7",
        };
        self.note(json!(text));
        visitor.visit_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if matches!(name, "Time" | "MicroTime") {
            self.note(json!(TIME));
            return visitor.visit_newtype_struct(StrDeserializer::new(TIME));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One { walk: self, is_done: false })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let key = self.key();
        visitor.visit_map(Fields { walk: self, names: vec![Step::Key(key)], current: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let names = names.iter().rev().map(|name| Step::Field((*name).to_owned())).collect();
        visitor.visit_map(Fields { walk: self, names, current: None })
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}

struct One<'a> {
    walk: Walk<'a>,
    is_done: bool,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if std::mem::replace(&mut self.is_done, true) {
            return Ok(None);
        }
        seed.deserialize(self.walk.below(Step::First)).map(Some)
    }
}

struct Fields<'a> {
    walk: Walk<'a>,
    /// The next is the last.
    names: Vec<Step>,
    current: Option<Step>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.current = self.names.pop();
        let name = match &self.current {
            None => return Ok(None),
            Some(Step::Field(name)) => name.as_str(),
            Some(Step::Key(key)) => *key,
            Some(Step::First) => "",
        };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let step = self.current.take().expect("its key was asked for");
        seed.deserialize(self.walk.below(step))
    }
}
