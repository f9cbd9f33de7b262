//! What nginx's directives say of a client's connection: how its requests are read, how it is
//! kept and how it ends.

mod answer;
mod closing;
mod head;
mod keepalive;

use crate::support::weir::{Setup, Weir, in_server};

fn one(directives: &str, locations: &str) -> Weir {
    Setup::http(&format!("{directives}\n{}", in_server(locations)))
        .workers(1)
        .start()
}
