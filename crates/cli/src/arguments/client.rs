//! Arguments of the commands that are about the command line itself: contexts, settings, completion, manual pages.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

use super::{Status, StatusFormat};
use crate::complete;
use clap_complete::engine::ArgValueCandidates;

/// `stint context`.
#[derive(Debug, Clone, Subcommand)]
pub enum Context {
    /// Show all contexts
    #[command(visible_alias = "ls")]
    List(Status),
    /// Show one context
    Show {
        /// Its name [default: the one that is used]
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
        name: Option<String>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t = StatusFormat::Table, hide_default_value = true)]
        output: StatusFormat,
    },
    /// Add a context: what --server, --token-file, --namespace and --request-timeout say here
    ///
    /// The first context becomes the current one.
    Add {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Put it in the place of the one that has this name
        #[arg(long)]
        replace: bool,
    },
    /// Use a context from now on
    Use {
        /// Its name
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
        name: String,
    },
    /// Remove contexts
    #[command(visible_alias = "rm")]
    Remove {
        /// Their names
        #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(complete::contexts))]
        names: Vec<String>,
    },
}

/// `stint config`.
#[derive(Debug, Clone, Subcommand)]
pub enum Config {
    /// Show which server, token, namespace and so on are used, and where each value comes from
    Show(ConfigShow),
}

/// `stint config show`.
#[derive(Debug, Clone, Args)]
pub struct ConfigShow {
    /// How to print
    #[arg(short, long, value_enum, global = true, default_value_t = StatusFormat::Table, hide_default_value = true)]
    pub output: StatusFormat,
    /// Of whom; of the command line if nobody is named.
    #[command(subcommand)]
    #[allow(
        dead_code,
        reason = "a server's are put together before its command line is whole: server_settings"
    )]
    pub of: Option<ConfigOf>,
}

/// Whose settings are shown.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigOf {
    /// Show the settings that stint server would have with these flags, this environment and this file
    #[command(after_help = super::SOURCES)]
    Server(#[allow(dead_code, reason = "see ConfigShow")] Box<super::Server>),
}

/// `stint completion`.
#[derive(Debug, Clone, Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Shells whose completion is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// In ~/.bashrc: source <(stint completion bash)
    Bash,
    /// In ~/.zshrc, behind compinit: source <(stint completion zsh)
    Zsh,
    /// In ~/.config/fish/config.fish: stint completion fish | source
    Fish,
}

/// `stint man`.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The command whose page is printed, such as run or context add [default: stint itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}
