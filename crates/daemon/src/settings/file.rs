//! The file of settings, in TOML.
//!
//! Owns: what of TOML is which setting, and saying what is wrong where. Does not own: the table of settings.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item, Value};

use super::{Kind, Setting, Settings, beside};
use crate::limits::SETTINGS_FILE_BYTES_MAX;

/// What a file says of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its values, as flags would have them.
    pub values: Vec<String>,
    /// Where, counted from 1.
    pub line: usize,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("the configuration {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no file of settings.
    #[error("the configuration {} has more than {SETTINGS_FILE_BYTES_MAX} bytes: name the right file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no TOML.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What the parser says.
        problem: String,
    },
    /// There is no such setting.
    #[error("{}:{line}: there is no setting {key:?}{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// As it is written.
        key: String,
        /// The one that was probably meant, or nothing.
        hint: String,
    },
    /// The setting is of another kind.
    #[error("{}:{line}: {key}: {found} is not what it takes: write {expected}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The setting.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        found: &'static str,
    },
    /// The value can't be understood.
    #[error("{}:{line}: {key}: {problem}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The setting.
        key: String,
        /// What the flag's parser says.
        problem: String,
    },
}

/// Reads a file of settings.
///
/// # Errors
/// The first thing in it that can't be used.
pub fn read(path: &Path, settings: &Settings) -> Result<BTreeMap<String, Said>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(SETTINGS_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SETTINGS_FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    parse(path, &text, settings)
}

fn parse(path: &Path, text: &str, settings: &Settings) -> Result<BTreeMap<String, Said>, Error> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = place(text, at);
        Error::Syntax { path: path.to_owned(), line, column, problem: error.message().to_owned() }
    })?;
    let mut said = BTreeMap::new();
    for (key, item) in document.as_table() {
        let key_at = document.as_table().key(key).and_then(toml_edit::Key::span);
        let at = key_at.or_else(|| item.span()).map_or(0, |span| span.start);
        let (line, _) = place(text, at);
        let Some(setting) = settings.by_key(key) else {
            let near = settings.near_key(key).map(|near| format!("; did you mean {near}?"));
            let hint = near.unwrap_or_else(|| ": each flag is one, without its dashes".to_owned());
            return Err(Error::UnknownKey { path: path.to_owned(), line, key: key.to_owned(), hint });
        };
        let reader = Reader { path, text, setting };
        let values = reader.values(item, line)?;
        said.insert(key.to_owned(), Said { values, line });
    }
    Ok(said)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    setting: &'a Setting,
}

impl Reader<'_> {
    fn values(&self, item: &Item, line: usize) -> Result<Vec<String>, Error> {
        let setting = self.setting;
        let mut values = Vec::new();
        match item {
            Item::Value(Value::Array(array)) if setting.is_list => {
                for value in array {
                    values.push((self.text_of(value, line)?, self.line_of(value, line)));
                }
            }
            _ if setting.is_list && setting.is_table && item.is_table_like() => {
                for (key, value) in item.as_table_like().into_iter().flat_map(|table| table.iter()) {
                    let value = value.as_value().ok_or_else(|| self.wrong(line, "a table of tables"))?;
                    let at = self.line_of(value, line);
                    values.push((format!("{key}={}", self.text_of(value, line)?), at));
                }
            }
            Item::Value(value) => values.push((self.text_of(value, line)?, self.line_of(value, line))),
            Item::Table(_) => return Err(self.wrong(line, "a table")),
            Item::ArrayOfTables(_) | Item::None => return Err(self.wrong(line, "an array of tables")),
        }
        for (value, line) in &values {
            setting.check(value).map_err(|problem| Error::BadValue {
                path: self.path.to_owned(),
                line: *line,
                key: setting.key.clone(),
                problem,
            })?;
        }
        Ok(values.into_iter().map(|(value, _)| value).collect())
    }

    /// One value as a flag would have it.
    fn text_of(&self, value: &Value, line: usize) -> Result<String, Error> {
        let text = match (value, self.setting.kind) {
            (Value::Boolean(value), Kind::Switch) => value.value().to_string(),
            (Value::Integer(value), Kind::Number | Kind::Amount) => value.value().to_string(),
            (Value::Float(value), Kind::Amount) => value.value().to_string(),
            (Value::String(value), Kind::Path) => {
                beside(self.path, value.value()).to_string_lossy().into_owned()
            }
            (Value::String(value), Kind::Text | Kind::Amount) => value.value().clone(),
            _ => return Err(self.wrong(self.line_of(value, line), name(value))),
        };
        Ok(text)
    }

    fn line_of(&self, value: &Value, otherwise: usize) -> usize {
        value.span().map_or(otherwise, |span| place(self.text, span.start).0)
    }

    fn wrong(&self, line: usize, found: &'static str) -> Error {
        Error::WrongType {
            path: self.path.to_owned(),
            line,
            key: self.setting.key.clone(),
            expected: self.setting.describe(),
            found,
        }
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::InlineTable(_) => "a table",
    }
}

/// Line and column, counted from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
