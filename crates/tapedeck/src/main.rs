//! The binary: one program, its roles and its tools as subcommands.

#[macro_use]
mod say;

mod adopt;
mod cli;
mod config;
mod convert;
mod doctor;
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

/// Passwords are hashed in 19 MiB each, on changing threads: what is as large is to go back to the system when it is freed. Left to
/// itself, glibc would keep such blocks in an arena for each thread.
fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator, before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

fn main() -> ExitCode {
    // The engine process comes first and alone: no runtime, no configuration, no log.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "engine") {
        return engine::engine_main();
    }
    return_memory();
    let Cli { command, place } = Cli::parse();
    let done = match command {
        Command::Convert(wish) => return convert::run(&wish),
        Command::Serve(wish) => serve::run(&place, &wish),
        Command::User(command) => users::run(&place, command),
        Command::Config(ConfigCommand::Check) => config::check(&place),
        Command::Config(ConfigCommand::Show) => config::show(&place),
        Command::Healthcheck(wish) => life::healthcheck(&place, &wish),
        Command::Migrate => users::migrate(&place),
        Command::Adopt(wish) => adopt::run(&place, &wish),
        Command::Doctor => return doctor::run(&place),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("tapedeck: {error:#}");
            ExitCode::FAILURE
        }
    }
}
