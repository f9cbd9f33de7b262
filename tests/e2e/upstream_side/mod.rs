//! What is said to upstream servers, and what becomes of their answers.

mod connection;
mod failover;
mod instead;
mod passing;
mod request;
mod response;

use crate::support::backend::Backend;
use crate::support::weir::{Setup, Weir};

/// One worker whose upstream `back` is the backend; `lines` stand in its server.
fn weir(backend: &Backend, lines: &str) -> Weir {
    Setup::http(&format!(
        "upstream back {{ server {}; }}
         server {{ listen 127.0.0.1:@PORT@; {lines} }}",
        backend.address()
    ))
    .workers(1)
    .start()
}
