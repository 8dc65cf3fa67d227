//! The settings of a process: each is a flag, a variable of the environment and a key of a file, out of one table, which is
//! clap's description of the flags.
//!
//! Owns: what the three are called, their order (a flag goes before the environment, that before the file, that before the
//! default), where each value comes from. Does not own: which settings there are, what they mean.
//!
//! Invariant: what the file and the environment say is judged by the very parsers of the flags: there is nothing that one of
//! them takes and another does not.

mod file;
#[cfg(test)]
mod tests;

use clap::builder::Command;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::near::{did_you_mean, nearest};

pub use file::Error as FileError;

/// Name of the flag that names the file; it is no key.
const FILE_FLAG: &str = "config";

/// How the settings of a process are called beside its flags.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// What all variables begin with, such as `STINT_AGENT_`.
    pub prefix: &'static str,
    /// Keys that have another variable too, which counts if the first is not set.
    pub also: &'static [(&'static str, &'static str)],
}

/// The table of all settings of a process.
#[derive(Debug, Clone)]
pub struct Settings {
    names: Names,
    table: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Flag without its dashes, and key of the file.
    pub key: String,
    /// What its values are.
    pub kind: Kind,
    /// May have several values.
    pub is_list: bool,
    /// Its values are `KEY=VALUE`: a table in the file.
    pub is_table: bool,
    argument: Arg,
}

/// What a value of a setting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Switch,
    /// A whole number.
    Number,
    /// An amount: a number, or a text such as `500m` or `8Gi`.
    Amount,
    /// A file or a folder. One of the file that is not absolute is beside the file.
    Path,
    /// Anything else.
    Text,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// A variable of the environment.
    Variable(String),
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

/// What a setting has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// See [`Setting::key`].
    pub key: String,
    /// Empty: the setting has no value.
    pub values: Vec<String>,
    /// Where they come from.
    pub origin: Origin,
}

/// What all settings have come to.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// In the order of the table.
    pub values: Vec<Value>,
    /// Variables that look like settings and are none: not an error, as clusters set variables that nobody asked for.
    pub warnings: Vec<String>,
}

/// Why settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A variable.
    #[error("{variable}: {problem}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => formatter.write_str("flag"),
            Origin::Variable(name) => formatter.write_str(name),
            Origin::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Origin::Default => formatter.write_str("default"),
        }
    }
}

impl Setting {
    fn new(argument: &Arg) -> Option<Setting> {
        let key = argument.get_long().filter(|long| !["help", "version", FILE_FLAG].contains(long))?;
        let value_names = argument.get_value_names().unwrap_or_default();
        let is_named = |names: &[&str]| value_names.iter().any(|name| names.contains(&name.as_str()));
        let parsed = argument.get_value_parser().type_id();
        let kind = if parsed == TypeId::of::<bool>() {
            Kind::Switch
        } else if parsed == TypeId::of::<u32>() || parsed == TypeId::of::<u64>() {
            Kind::Number
        } else if parsed == TypeId::of::<PathBuf>() {
            Kind::Path
        } else if is_named(&["QUANTITY", "PERCENT", "RATIO"]) {
            Kind::Amount
        } else {
            Kind::Text
        };
        Some(Setting {
            key: key.to_owned(),
            kind,
            is_list: matches!(argument.get_action(), ArgAction::Append),
            is_table: value_names.iter().any(|name| name.contains('=')),
            // What it needs beside it is judged when everything is put together.
            argument: argument.clone().required(false),
        })
    }

    /// The variable that has its value, under a prefix.
    fn variable(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.key.to_uppercase().replace('-', "_"))
    }

    /// What it is for, as the help says it.
    pub fn help(&self) -> String {
        self.argument.get_help().map(ToString::to_string).unwrap_or_default()
    }

    /// What it is if nobody says anything; empty: nothing, or what its help says.
    pub fn default(&self) -> Vec<String> {
        let defaults = self.argument.get_default_values().iter();
        defaults.map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty()).collect()
    }

    /// Its value in a file, as people would say it.
    pub fn describe(&self) -> &'static str {
        match (self.is_list, self.is_table, self.kind) {
            (true, true, _) => "a table of texts, or an array of KEY=VALUE",
            (true, false, _) => "an array of texts",
            (false, _, Kind::Switch) => "true or false",
            (false, _, Kind::Number) => "a whole number",
            (false, _, Kind::Amount) => "a text or a number",
            (false, _, Kind::Path | Kind::Text) => "a text",
        }
    }

    /// Lets the flag's own parser judge a value.
    fn check(&self, value: &str) -> Result<(), String> {
        let flag = format!("--{}={value}", self.key);
        let command = Command::new("setting").no_binary_name(true).disable_help_flag(true);
        match command.arg(self.argument.clone()).try_get_matches_from([flag]) {
            Ok(_) => Ok(()),
            Err(refused) => Err(in_one_line(&refused.render().to_string())),
        }
    }
}

/// What clap says, without its frame: the usage, and where there is help.
fn in_one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let said = message.split("\n\n").next().unwrap_or(message);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Settings {
    /// Of these flags, which are all that a process has.
    pub fn new<'a>(names: Names, arguments: impl IntoIterator<Item = &'a Arg>) -> Settings {
        Settings { names, table: arguments.into_iter().filter_map(Setting::new).collect() }
    }

    /// All of them.
    pub fn table(&self) -> &[Setting] {
        &self.table
    }

    /// The variable of a setting.
    pub fn variable(&self, setting: &Setting) -> String {
        setting.variable(self.names.prefix)
    }

    /// Puts together what the command line, the environment and the file say.
    ///
    /// # Errors
    /// The first thing that the file or the environment says and that can't be understood.
    pub fn resolve(
        &self,
        flags: &ArgMatches,
        environment: &BTreeMap<String, OsString>,
    ) -> Result<Resolved, Error> {
        let given = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let file_variable = format!("{}{}", self.names.prefix, FILE_FLAG.to_uppercase());
        let path = match flags.try_get_one::<PathBuf>(FILE_FLAG) {
            Ok(Some(path)) => Some(path.clone()),
            Ok(None) | Err(_) => given(&file_variable).map(PathBuf::from),
        };
        let mut of_file = match &path {
            Some(path) => file::read(path, self)?,
            None => BTreeMap::new(),
        };
        let mut values = Vec::with_capacity(self.table.len());
        for setting in &self.table {
            let file_value = of_file.remove(&setting.key);
            let value = match self.of_flags(setting, flags) {
                Some(value) => value,
                None => match self.of_environment(setting, &given)? {
                    Some(value) => value,
                    None => match (file_value, &path) {
                        (Some(said), Some(path)) => Value {
                            key: setting.key.clone(),
                            values: said.values,
                            origin: Origin::File { path: path.clone(), line: said.line },
                        },
                        _ => Value {
                            key: setting.key.clone(),
                            values: setting.default(),
                            origin: Origin::Default,
                        },
                    },
                },
            };
            values.push(value);
        }
        Ok(Resolved { values, warnings: self.unknown_variables(environment, &file_variable) })
    }

    fn of_flags(&self, setting: &Setting, flags: &ArgMatches) -> Option<Value> {
        let id = setting.argument.get_id().as_str();
        if flags.value_source(id) != Some(ValueSource::CommandLine) {
            return None;
        }
        let values = flags.get_raw(id).into_iter().flatten();
        let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
        Some(Value { key: setting.key.clone(), values, origin: Origin::Flag })
    }

    fn of_environment<'a>(
        &self,
        setting: &Setting,
        given: &impl Fn(&str) -> Option<&'a OsString>,
    ) -> Result<Option<Value>, Error> {
        let also = self.names.also.iter().filter(|(key, _)| *key == setting.key).map(|(_, also)| *also);
        let candidates = std::iter::once(self.variable(setting)).chain(also.map(str::to_owned));
        let Some((variable, value)) =
            candidates.into_iter().find_map(|name| given(&name).map(|value| (name, value)))
        else {
            return Ok(None);
        };
        let wrong = |problem: String| Error::Variable { variable: variable.clone(), problem };
        let text = value.to_str().ok_or_else(|| wrong("is not text: it must be UTF-8".to_owned()))?;
        let values: Vec<String> = match setting.is_list {
            true => {
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
            false => vec![text.to_owned()],
        };
        values.iter().try_for_each(|value| setting.check(value)).map_err(wrong)?;
        Ok(Some(Value { key: setting.key.clone(), values, origin: Origin::Variable(variable) }))
    }

    fn unknown_variables(
        &self,
        environment: &BTreeMap<String, OsString>,
        file_variable: &str,
    ) -> Vec<String> {
        let known: Vec<String> = self.table.iter().map(|setting| self.variable(setting)).collect();
        let unknown = environment
            .keys()
            .filter(|name| name.starts_with(self.names.prefix))
            .filter(|name| !known.contains(name) && *name != file_variable);
        unknown
            .map(|name| {
                let near = did_you_mean(name, known.iter().map(String::as_str));
                format!("the variable {name} is no setting, and has no effect{near}")
            })
            .collect()
    }

    fn by_key(&self, key: &str) -> Option<&Setting> {
        self.table.iter().find(|setting| setting.key == key)
    }

    fn near_key(&self, wrong: &str) -> Option<&str> {
        nearest(&wrong.replace('_', "-"), self.table.iter().map(|setting| setting.key.as_str()))
    }
}

impl Resolved {
    /// Flags that say what the command line does not say itself: behind it they make it whole.
    pub fn flags(&self) -> Vec<OsString> {
        let others = self
            .values
            .iter()
            .filter(|value| matches!(value.origin, Origin::Variable(_) | Origin::File { .. }));
        others
            .flat_map(|one| one.values.iter().map(move |value| format!("--{}={value}", one.key).into()))
            .collect()
    }

    /// Setting, value and origin of each, for a table.
    pub fn rows(&self) -> Vec<[String; 3]> {
        let rows = self.values.iter().map(|one| {
            let value = match one.values.is_empty() {
                true => "<none>".to_owned(),
                false => one.values.join(","),
            };
            [one.key.clone(), value, one.origin.to_string()]
        });
        rows.collect()
    }

    /// The same as a JSON array of objects, one on each line.
    pub fn to_json(&self) -> String {
        let lines = self.values.iter().map(|one| {
            let fact = serde_json::json!({
                "setting": one.key, "values": one.values, "origin": one.origin.to_string(),
            });
            format!("  {fact}")
        });
        format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
    }
}

/// All variables of this process that may be settings.
pub fn environment() -> BTreeMap<String, OsString> {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    variables.filter(|(name, _)| name.starts_with("STINT_")).collect()
}

/// A path that a file names: beside that file, unless it is absolute.
pub fn beside(file: &Path, path: impl AsRef<Path>) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
