//! The file of contexts: clusters by name.
//!
//! Owns: its place, its form, reading it, and changing it without losing what people wrote into it. Does not own: which of its
//! values are used (`settings`).
//!
//! Invariant: whoever reads the file sees it whole, before or after a change; only its owner can read it.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::near::did_you_mean;

/// What is read of the file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a context.
const NAME_CHARACTERS_MAX: usize = 63;
/// How long another command may be changing the file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// Keys of the file.
const CURRENT: &str = "current";
const CONTEXTS: &str = "contexts";

/// The environment variable that names another file.
pub const FILE_VARIABLE: &str = "STINT_CONFIG";

/// The contexts of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one that is used if no other is asked for.
    pub current: Option<String>,
    /// All of them, by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, ContextEntry>,
}

/// How a cluster is reached, as the file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ContextEntry {
    /// Addresses of some or all servers, separated by commas.
    pub server: Option<String>,
    /// File that holds the token; relative to the folder of this file.
    pub token_file: Option<PathBuf>,
    /// The namespace that is meant if none is given.
    pub namespace: Option<String>,
    /// How long a request may take, such as `15s`.
    pub request_timeout: Option<String>,
}

impl Contexts {
    /// The context of this name.
    pub fn get(&self, name: &str, file: &Path) -> Result<&ContextEntry> {
        self.contexts.get(name).with_context(|| {
            let near = did_you_mean(name, self.contexts.keys().map(String::as_str));
            let others = match self.contexts.is_empty() {
                true => "it names none, stint context add makes one".to_owned(),
                false => "stint context list shows all".to_owned(),
            };
            format!("there is no context {name:?} in {}: {others}{near}", file.display())
        })
    }
}

/// Where the file is: `STINT_CONFIG`, else in `$XDG_CONFIG_HOME/stint` or `~/.config/stint`. None without a home.
pub fn file_path(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let given = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = given(FILE_VARIABLE) {
        return Some(std::path::absolute(&file).unwrap_or(file));
    }
    // The XDG rules ignore a path that is relative.
    let folder = |name| given(name).filter(|folder| folder.is_absolute());
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("stint/config.toml"))
}

/// Reads the file; one that is not there holds nothing.
pub fn read(file: &Path) -> Result<Contexts> {
    parse(file, &read_text(file)?)
}

fn read_text(file: &Path) -> Result<String> {
    let failed = || format!("the configuration {} can't be read", file.display());
    let opened = match File::open(file) {
        // Of a HOME such as /dev/null there is nothing either.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        opened => opened.with_context(failed)?,
    };
    let mut text = String::new();
    // One byte more than may be: then it is refused by its limit, however long it is.
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(failed)?;
    ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "the configuration {} has more than {FILE_BYTES_MAX} bytes: is it the right file?",
        file.display()
    );
    Ok(text)
}

fn parse(file: &Path, text: &str) -> Result<Contexts> {
    let wrong = |message: &str, span: Option<Range<usize>>| {
        let place = span.map(|span| place_of(text, span.start)).unwrap_or_default();
        anyhow::anyhow!("{}{place}: {}", file.display(), message.trim().replace('\n', ", "))
    };
    let contexts: Contexts =
        toml_edit::de::from_str(text).map_err(|error| wrong(error.message(), error.span()))?;
    for name in contexts.contexts.keys() {
        check_name(name).with_context(|| file.display().to_string())?;
    }
    Ok(contexts)
}

/// `:3:7`, as compilers say it: line and column, from 1.
fn place_of(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |position| position + 1);
    let line = before.matches('\n').count() + 1;
    format!(":{line}:{}", before[line_start..].chars().count() + 1)
}

/// What a context may be called: it is typed in shells.
pub fn check_name(name: &str) -> Result<()> {
    let is_good = |one: char| one.is_alphanumeric() || matches!(one, '-' | '_' | '.');
    let is_short = name.chars().count() <= NAME_CHARACTERS_MAX;
    if name.is_empty() || !is_short || !name.chars().all(is_good) || name.starts_with('-') {
        bail!(
            "{name:?} can't be the name of a context: write 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_' and '.', not \
             beginning with '-'"
        );
    }
    Ok(())
}

/// The file while it is changed: nobody else changes it meanwhile.
#[derive(Debug)]
pub struct Change {
    file: PathBuf,
    document: DocumentMut,
    /// As it is now.
    pub contexts: Contexts,
    /// The folder, whose lock is held.
    _folder: File,
}

impl Change {
    /// Begins a change; makes the folder if it is not there.
    pub fn begin(file: &Path) -> Result<Change> {
        // A link, as people keep such files elsewhere, stays one.
        let file = match file.canonicalize() {
            Ok(real) => real,
            Err(_) if file.is_symlink() => bail!("{} is a link to a file that is not there", file.display()),
            Err(_) => file.to_owned(),
        };
        // The new file takes the place of the old one: a device such as /dev/null would be gone.
        ensure!(
            !file.exists() || file.is_file(),
            "the configuration {} is no file: {FILE_VARIABLE} can name another one",
            file.display()
        );
        let folder = file.parent().filter(|folder| folder.is_dir() || !folder.as_os_str().is_empty());
        let folder = folder.with_context(|| format!("{} has no folder", file.display()))?;
        let failed = || format!("the folder {} can't be used", folder.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(failed)?;
        let lock = File::open(folder).with_context(failed)?;
        let begun = Instant::now();
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            ensure!(
                begun.elapsed() < LOCK_TIMEOUT,
                "{} is being changed by another command for more than {LOCK_TIMEOUT:?}: try again",
                file.display()
            );
            std::thread::sleep(LOCK_INTERVAL);
        }
        let text = read_text(&file)?;
        let contexts = parse(&file, &text)?;
        let document = text.parse().with_context(|| file.display().to_string())?;
        Ok(Change { file, document, contexts, _folder: lock })
    }

    /// Puts a context in, in the place of one of its name.
    pub fn put(&mut self, name: &str, entry: &ContextEntry) -> Result<()> {
        let mut table = Table::new();
        let token_file = entry.token_file.as_ref().map(|path| path_text(path)).transpose()?;
        for (key, text) in [
            ("server", entry.server.as_deref()),
            ("token-file", token_file),
            ("namespace", entry.namespace.as_deref()),
            ("request-timeout", entry.request_timeout.as_deref()),
        ] {
            if let Some(text) = text {
                table.insert(key, value(text));
            }
        }
        let contexts = self.document.entry(CONTEXTS).or_insert_with(|| {
            let mut all = Table::new();
            all.set_implicit(true);
            Item::Table(all)
        });
        let contexts = contexts.as_table_like_mut();
        contexts.context("contexts is no table")?.insert(name, Item::Table(table));
        self.contexts.contexts.insert(name.to_owned(), entry.clone());
        Ok(())
    }

    /// Takes a context out.
    pub fn remove(&mut self, name: &str) {
        if let Some(contexts) = self.document.get_mut(CONTEXTS).and_then(Item::as_table_like_mut) {
            contexts.remove(name);
        }
        self.contexts.contexts.remove(name);
    }

    /// Makes a context the current one, or none.
    pub fn set_current(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self.document[CURRENT] = value(name),
            None => drop(self.document.remove(CURRENT)),
        }
        self.contexts.current = name.map(str::to_owned);
    }

    /// Writes it.
    pub fn commit(self) -> Result<()> {
        let failed = || format!("the configuration {} can't be written", self.file.display());
        let text = self.document.to_string();
        // What is written must be readable again, whatever was edited into it by hand.
        ensure!(
            parse(&self.file, &text)? == self.contexts,
            "{}: its form is not understood",
            self.file.display()
        );
        let folder = self.file.parent().with_context(failed)?;
        // Made for its owner alone.
        let mut new = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
        new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all()).with_context(failed)?;
        new.persist(&self.file).with_context(failed)?;
        Ok(())
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{path:?} is not UTF-8: a configuration is text, choose another place"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(server: &str) -> ContextEntry {
        ContextEntry { server: Some(server.to_owned()), ..ContextEntry::default() }
    }

    fn problem(text: &str) -> String {
        parse(Path::new("config.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("curent = \"a\"", "config.toml:1:1: unknown field `curent`, expected `current` or `contexts`"),
            ("current = \"a\"\n[contexts.a]\n  servr = \"b:1\"", "config.toml:3:3: unknown field `servr`"),
            ("[contexts.a]\nserver = 7440", "config.toml:2:10: invalid type: integer `7440`"),
            ("[contexts.a]\nserver = \"b:1\"\nserver = \"c:1\"", "config.toml:3:1: duplicate key"),
            ("contexts = 3", "config.toml:1:12: "),
            ("current = ", "config.toml:1:11: "),
            ("ü = [", "config.toml:1:"),
            ("[contexts.\"a b\"]\nserver = \"c:1\"", "config.toml"),
        ] {
            assert!(problem(text).starts_with(expected), "{text}: {}", problem(text));
            assert_eq!(problem(text).lines().count(), 1, "{}", problem(text));
        }
    }

    #[test]
    fn a_change_keeps_what_people_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/config.toml");
        let change = |what: &dyn Fn(&mut Change)| {
            let mut change = Change::begin(&file).unwrap();
            what(&mut change);
            change.commit().unwrap();
        };
        change(&|one| one.put("a", &entry("b:1")).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        let commented =
            format!("# mine\n{}namespace = \"team\" # of a\n", std::fs::read_to_string(&file).unwrap());
        std::fs::write(&file, commented).unwrap();
        change(&|one| {
            one.put("b", &ContextEntry { token_file: Some("/t".into()), ..entry("c:1") }).unwrap();
            one.set_current(Some("b"));
        });
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("# mine") && text.contains("namespace = \"team\" # of a"), "{text}");
        let read_back = read(&file).unwrap();
        assert_eq!(read_back.current.as_deref(), Some("b"));
        assert_eq!(read_back.contexts["a"].namespace.as_deref(), Some("team"));
        assert_eq!(read_back.contexts["b"].token_file.as_deref(), Some(Path::new("/t")));
        change(&|one| {
            one.remove("b");
            one.set_current(None);
        });
        let read_back = read(&file).unwrap();
        assert_eq!((read_back.current, read_back.contexts.len()), (None, 1));
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn changes_wait_for_each_other_and_links_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (link, real) = (folder.path().join("config.toml"), folder.path().join("real.toml"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let link = &link;
                scope.spawn(move || {
                    let mut change = Change::begin(link).unwrap();
                    change.put(&format!("c{number}"), &entry("b:1")).unwrap();
                    change.commit().unwrap();
                });
            }
        });
        assert_eq!(read(&link).unwrap().contexts.len(), 8);
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for (file, expected) in [
            (pipe.as_path(), "is no file"),
            (folder.path(), "is no file"),
            (&link, "is a link to a file that is not there"),
        ] {
            let error = Change::begin(file).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", file.display());
        }
        assert!(!pipe.is_file() && link.is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let of = |variables: &[(&str, &str)]| {
            file_path(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("STINT_CONFIG", "/a"), ("HOME", "/h")]), Some("/a".into()));
        assert_eq!(of(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), Some("/x/stint/config.toml".into()));
        let of_home = Some("/h/.config/stint/config.toml".into());
        assert_eq!(of(&[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")]), of_home);
        assert_eq!(of(&[("STINT_CONFIG", ""), ("HOME", "/h")]), of_home);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "a b", "-a", "a/b", "a\n", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["prod", "eu-1.prod_x", "größe", &"x".repeat(63)] {
            check_name(name).unwrap();
        }
    }
}
