//! `completion` and `man`: what clap's description of the commands is turned into.
//!
//! Owns: where it is written. Does not own: the descriptions (`arguments`).

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory;
use std::path::{Path, PathBuf};

use crate::arguments::{Arguments, Completion, Man, Shell};
use crate::near::did_you_mean;
use crate::{complete, output};

/// `stint completion`.
pub fn completion(completion: &Completion) -> Result<()> {
    let name = match completion.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shell =
        complete::SHELLS.into_iter().find(|shell| shell.is(name)).context("the shell is not known")?;
    let mut script = Vec::new();
    shell.write_registration(complete::VARIABLE, "stint", "stint", &own_path()?, &mut script)?;
    output::data(&script)
}

/// What the shell calls: this program, as it was called if it is found by its name.
fn own_path() -> Result<String> {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_else(|| "stint".into());
    let path = match called.components().count() {
        0 | 1 => called,
        _ => std::path::absolute(called).context("this program has no path")?,
    };
    path.into_os_string().into_string().ok().context("this program's path is not UTF-8: put it elsewhere")
}

/// `stint man`.
pub fn man(man: &Man) -> Result<()> {
    let mut root = Arguments::command();
    root.build();
    match &man.out {
        Some(folder) => write_all(root, folder),
        None => {
            let mut page = Vec::new();
            page_of(find(&root, &man.command)?).render(&mut page)?;
            output::data(&page)
        }
    }
}

fn find<'a>(root: &'a clap::Command, words: &[String]) -> Result<&'a clap::Command> {
    let mut command = root;
    for word in words {
        let Some(found) = command.find_subcommand(word) else {
            let names = command.get_subcommands().map(clap::Command::get_name);
            bail!("{} has no command {word:?}{}", command.get_name(), did_you_mean(word, names));
        };
        command = found;
    }
    Ok(command)
}

fn page_of(command: &clap::Command) -> clap_mangen::Man {
    clap_mangen::Man::new(command.clone()).manual("stint manual")
}

fn write_all(root: clap::Command, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} can't be made", folder.display()))?;
    let mut left = vec![&root];
    let mut count = 0;
    while let Some(command) = left.pop() {
        let page = page_of(command);
        let file = folder.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text)?;
        std::fs::write(&file, text).with_context(|| format!("{} can't be written", file.display()))?;
        count += 1;
        left.extend(command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help"));
    }
    output::line(&format!("{count} pages written to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let mut root = Arguments::command();
        root.build();
        write_all(root.clone(), folder.path()).unwrap();
        for name in ["stint", "stint-run", "stint-context-add", "stint-create-configmap", "stint-server"] {
            let text = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"), "{name}: {text}");
        }
        assert!(!folder.path().join("stint-help.1").exists());
        assert_eq!(find(&root, &["context".to_owned(), "add".to_owned()]).unwrap().get_name(), "add");
        let error = find(&root, &["rnu".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("did you mean run?"), "{error}");
    }
}
