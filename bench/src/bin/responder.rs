//! The upstream server of the benchmarks as a process of its own, so that it can be pinned.
#![forbid(unsafe_code)]
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(Ok(port)) = std::env::args().nth(1).map(|word| word.parse::<u16>()) else {
        eprintln!("usage: responder PORT");
        return ExitCode::FAILURE;
    };
    match weir_bench::responder::serve(([0, 0, 0, 0], port).into(), |_| {}) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("responder: {error}");
            ExitCode::FAILURE
        }
    }
}
