//! The binary: one program, its roles and its tools as subcommands.

mod cli;
mod config;
mod convert;
mod life;
mod ports;
mod roles;
mod serve;
mod telemetry;
mod units;
mod users;

use clap::Parser;
use cli::{Cli, Command, ConfigCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    // The engine process comes first and alone: no runtime, no configuration, no log.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "engine") {
        return engine::engine_main();
    }
    let Cli { command, place } = Cli::parse();
    let done = match command {
        Command::Convert(wish) => return convert::run(&wish),
        Command::Serve(wish) => serve::run(&place, &wish),
        Command::User(command) => users::run(&place, command),
        Command::Config(ConfigCommand::Check) => config::check(&place),
        Command::Config(ConfigCommand::Show) => config::show(&place),
        Command::Healthcheck(wish) => life::healthcheck(&place, &wish),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapedeck: {error:#}");
            ExitCode::FAILURE
        }
    }
}
