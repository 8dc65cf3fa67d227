//! The `stint` command: what users and operators type, and the server and dev processes.
//!
//! Owns: arguments, printing, exit codes. Does not own: any rule; commands call the client, the server and the agent.
//!
//! Data goes to stdout, everything else to stderr. The exit codes stand in the help ([`arguments`]).

mod arguments;
mod color;
mod commands;
mod complete;
mod contexts;
mod hints;
mod near;
mod output;
mod progress;
mod settings;
mod sheet;
mod table;
mod terminal;

use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;

fn main() -> ExitCode {
    // An agent inside `stint dev` starts Pods by running this binary again as their shim.
    stint_agent::maybe_run_shim();
    complete::answer_shell();
    let command = arguments::Arguments::command().color(color::for_clap(std::env::args_os()));
    let arguments = match arguments::Arguments::from_arg_matches(&command.get_matches()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    color::choose(arguments.connection.color);
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
