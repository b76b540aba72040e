//! A program that is an engine process and nothing else.

fn main() -> std::process::ExitCode {
    engine::engine_main()
}
