//! Every refusal in nginx's words, with its file and line.

mod core;
mod discovery;
mod http;
mod location;
mod server;
mod syntax;
mod upstream;

use super::refused;

/// A configuration whose third line is the one at fault.
fn main(line: &str) -> String {
    format!("# one\n# two\n{line}\nevents {{}}\n")
}

fn in_http(line: &str) -> String {
    format!("events {{}}\nhttp {{\n{line}\n}}\n")
}

fn in_server(line: &str) -> String {
    format!("events {{}}\nhttp {{ server {{\n{line}\n}} }}\n")
}

fn in_location(line: &str) -> String {
    format!("events {{}}\nhttp {{ server {{ location / {{\n{line}\n}} }} }}\n")
}

fn in_upstream(line: &str) -> String {
    format!("events {{}}\nhttp {{ upstream u {{\n{line}\n}} }}\n")
}

fn check(frame: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (line, message) in cases {
        assert_eq!(
            refused(&frame(line)),
            format!("{message} in weir.conf:3"),
            "{line}"
        );
    }
}
