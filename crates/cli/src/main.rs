//! The `stint` command: what users and operators type, and the server and dev processes.
//!
//! Owns: arguments, printing, exit codes. Does not own: any rule; commands call the client, the server and the agent.
//!
//! Data goes to stdout, everything else to stderr. The exit codes stand in the help ([`arguments`]).

mod arguments;
mod commands;
mod output;
mod sheet;
mod table;
mod terminal;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // An agent inside `stint dev` starts Pods by running this binary again as their shim.
    stint_agent::maybe_run_shim();
    let arguments = arguments::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}
