//! The floor of the comparison as a process of its own: `forwarder PORT SERVER_PORT SERVERS`.
#![forbid(unsafe_code)]
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<u16> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [listen, server, count] = words[..] else {
        eprintln!("usage: forwarder PORT SERVER_PORT SERVERS");
        return ExitCode::FAILURE;
    };
    let servers = weir_bench::peer::servers(server, count);
    match weir_bench::forwarder::serve(([127, 0, 0, 1], listen).into(), &servers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}
