//! A program that is an engine process and nothing else, but for what the tests of the sandbox ask of it.

mod probe;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&arguments)
}

fn run(arguments: &[&str]) -> ExitCode {
    match *arguments {
        // An engine process that tries something instead of a conversion.
        ["probe", what, with, ..] => engine::engine_main_probing(&|| probe::attempt(what, with)),
        // An engine process on a machine that lacks something.
        ["lacks", what, ref then @ ..] => {
            probe::lack(what);
            run(then)
        }
        // Another process, for the probes to attack.
        ["victim"] => probe::stand(),
        // A process that waits for an engine process of its own, which notices nothing.
        ["parent", name] => probe::wait_for_ever(name),
        _ => engine::engine_main(),
    }
}
