//! The configuration language as a whole.

mod article;
mod client;
mod docs;
mod fuzz;
mod inheritance;
mod proxying;
mod rebuild;
mod resolver;
mod unknown;
mod upsync;
mod wording;

use weir_master::Built;
use weir_worker::settings::{Handler, Location, LocationSettings, Proxy};

use super::build;

/// Builds one file.
fn built(text: &str) -> Built {
    build(text).unwrap_or_else(|message| panic!("{message}\n{text}"))
}

/// Builds what stands in a `server {}` of an otherwise plain configuration.
fn server(text: &str) -> Built {
    built(&format!("events {{}} http {{ server {{ {text} }} }}"))
}

/// Builds what stands in `http {}`.
fn http(text: &str) -> Built {
    built(&format!("events {{}} http {{ {text} }}"))
}

/// Why a configuration is refused.
fn refused(text: &str) -> String {
    build(text).map(|_| ()).expect_err(text)
}

/// The settings of the location of a path, in the first server.
fn at<'a>(built: &'a Built, path: &str) -> &'a LocationSettings {
    let server = &built.worker.servers[0];
    let mut named = server.named.iter();
    if let Some((_, settings)) = named.find(|(name, _)| name == path.as_bytes()) {
        return settings;
    }
    within(&server.locations, path).unwrap_or_else(|| panic!("no location {path}"))
}

fn within<'a>(locations: &'a [Location], path: &str) -> Option<&'a LocationSettings> {
    locations.iter().find_map(|location| {
        let found = (location.path == path.as_bytes()).then_some(&*location.settings);
        found.or_else(|| within(&location.inner, path))
    })
}

/// The `proxy_pass` of a location.
fn proxy<'a>(built: &'a Built, path: &str) -> &'a Proxy {
    match &at(built, path).handler {
        Handler::Proxy(proxy) => proxy,
        other => panic!("{other:?}"),
    }
}
