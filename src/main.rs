//! The `weir` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use weir::{cli, demo};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "demo") {
        return demo::run(&arguments[1..]);
    }
    cli::run(&arguments)
}
