//! Where servers come from: each kind of source, real, and how it is asked.

mod addresses;
mod etcd;
mod services;
mod tls;
mod tokens;

use crate::support::wait_until;
use crate::support::weir::{SOON, Setup, Weir, in_server};

const SHOW: &str =
    "location = /upstream_show { upstream_show; } location / { proxy_pass http://test; }";

/// An upstream `test` with these directives.
fn upstream(directives: &str) -> Setup {
    let show = in_server(SHOW);
    Setup::http(&format!(
        "upstream test {{ server 127.0.0.1:11111; {directives} }}\n{show}"
    ))
    .workers(1)
}

/// The servers that are shown, each with its parameters, in order of their text.
fn shown(weir: &Weir) -> Vec<String> {
    let text = weir.shown("test");
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("server "));
    let mut servers: Vec<_> = lines
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect();
    servers.sort();
    servers
}

/// Waits until exactly servers that begin so are shown.
#[track_caller]
fn wait_servers(weir: &Weir, expected: &[&str]) {
    wait_until(SOON, &format!("{expected:?} are shown"), || {
        let shown = shown(weir);
        let fits = |(shown, expected): (&String, &&str)| {
            format!("{shown} ").starts_with(&format!("{expected} "))
        };
        shown.len() == expected.len() && shown.iter().zip(expected).all(fits)
    });
}
