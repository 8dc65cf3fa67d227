//! The `stint` command: what users and operators type, and the server and dev processes.
//!
//! Owns: arguments, printing, exit codes. Does not own: any rule; commands call the client, the server and the agent.
//!
//! Data goes to stdout, everything else to stderr. The exit codes stand in the help ([`arguments`]).

mod arguments;
mod color;
mod commands;
mod complete;
#[cfg(test)]
mod configuration_page;
mod contexts;
mod ending_signals;
mod hints;
mod output;
mod progress;
mod server_settings;
mod settings;
mod sheet;
mod table;
mod terminal;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};
use server_settings::Completed;
use std::process::ExitCode;
use stint_daemon::near;

/// What was asked for can't be understood: the command line, or what a server's settings come from.
const EXIT_NOT_UNDERSTOOD: u8 = 2;

fn main() -> ExitCode {
    // An agent inside `stint dev` starts Pods by running this binary again as their shim.
    stint_agent::maybe_run_shim();
    complete::answer_shell();
    let command = arguments::Arguments::command().color(color::for_clap(std::env::args_os()));
    let environment = stint_daemon::settings::environment();
    let completed = server_settings::complete(command.clone(), std::env::args_os().collect(), &environment);
    let (line, warnings) = match completed {
        Ok(Completed::Line(line, warnings)) => (line, warnings),
        Ok(Completed::Shown(resolved, format)) => {
            return ended(commands::config::show_server(&resolved, format));
        }
        Err(error) => {
            output::error(&error.into());
            return ExitCode::from(EXIT_NOT_UNDERSTOOD);
        }
    };
    let parsed =
        command.try_get_matches_from(line).and_then(|read| arguments::Arguments::from_arg_matches(&read));
    let mut arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return not_understood(&error),
    };
    if let arguments::Command::Server(server) = &mut arguments.command {
        server.warnings = warnings;
    }
    color::choose(arguments.connection.color);
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    outcome.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    output::error(error);
    ExitCode::FAILURE
}

/// Says what clap says of a command line, and which command was probably meant where clap has no idea.
fn not_understood(error: &clap::Error) -> ExitCode {
    // Help and versions are data; of errors nobody can be told that stderr is gone.
    if let (Err(failed), false) = (error.print(), error.use_stderr()) {
        return output::not_written(failed);
    }
    if let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand)
        && error.get(ContextKind::SuggestedSubcommand).is_none()
        && let Some(near) = near_command(std::env::args().skip(1), wrong)
    {
        output::hint(&format!("did you mean {near}?"));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// The command near a wrong one, among those that stand at its place.
fn near_command(words: impl Iterator<Item = String>, wrong: &str) -> Option<String> {
    let root = arguments::Arguments::command();
    let before = words.take_while(|word| word != wrong);
    let parent = before.fold(&root, |command, word| command.find_subcommand(&word).unwrap_or(command));
    near::nearest(wrong, parent.get_subcommands().map(clap::Command::get_name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_has_a_near_one_at_its_place() {
        for (line, wrong, expected) in [
            ("rnu -- true", "rnu", Some("run")),
            ("-n team gte jobs", "gte", Some("get")),
            ("context sue prod", "sue", Some("use")),
            ("context rnu", "rnu", None),
            ("frobnicate", "frobnicate", None),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(near_command(words, wrong).as_deref(), expected, "{line}");
        }
    }
}
