//! `host:port`, `[::1]:port`, `unix:/path`, as workers read them too.

use weir_master::settings::Host;

pub use weir_worker::url::{Rules, Url, UrlHost, parse};

/// The server that a URL is; `written` is how messages name one that is not found.
pub fn server(url: &Url, written: &str) -> Host {
    match url.address() {
        Some(address) => Host::Address(address),
        None => Host::Name {
            host: url.text.clone(),
            port: url.port,
            written: written.to_owned(),
        },
    }
}
