//! The `weir` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use weir::{cli, demo};

fn main() -> ExitCode {
    let arguments = match cli::arguments(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if arguments.first().is_some_and(|word| word == "demo") {
        return demo::run(&arguments[1..]);
    }
    cli::run(&arguments)
}
