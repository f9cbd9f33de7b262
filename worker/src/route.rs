//! Which server and which location a request belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::settings::{
    Handler, Listener, Location, LocationKind, LocationSettings, ServerId, ServerName,
    VirtualServer,
};

/// The `server_name`s of one listener, ready to be looked up.
#[derive(Clone, Debug)]
pub struct Names {
    default: ServerId,
    exact: HashMap<Vec<u8>, ServerId>,
    leading: HashMap<Vec<u8>, Leading>,
    trailing: HashMap<Vec<u8>, ServerId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Leading {
    /// For the name itself: `.example.com`.
    itself: Option<ServerId>,
    /// For any name below it.
    below: Option<ServerId>,
}

impl Names {
    /// For a listener; the first server that has a name keeps it.
    pub fn new(listener: &Listener, servers: &[VirtualServer]) -> Names {
        let mut names = Names {
            default: listener.default,
            exact: HashMap::new(),
            leading: HashMap::new(),
            trailing: HashMap::new(),
        };
        for &id in &listener.servers {
            let Some(server) = servers.get(id) else {
                continue;
            };
            for name in &server.names {
                names.add(name, id);
            }
        }
        names
    }

    fn add(&mut self, name: &ServerName, id: ServerId) {
        match name {
            ServerName::Exact(name) => {
                self.exact.entry(name.clone().into_bytes()).or_insert(id);
            }
            ServerName::Leading(name) => {
                self.leading
                    .entry(name.clone().into_bytes())
                    .or_default()
                    .below
                    .get_or_insert(id);
            }
            ServerName::Dotted(name) => {
                let entry = self.leading.entry(name.clone().into_bytes()).or_default();
                entry.itself.get_or_insert(id);
                entry.below.get_or_insert(id);
            }
            ServerName::Trailing(name) => {
                self.trailing.entry(name.clone().into_bytes()).or_insert(id);
            }
        }
    }

    /// The server for a host in lower case, without port and final dot: by exact name, by the
    /// longest `*.name`, by the longest `name.*`, or the default one.
    pub fn find(&self, host: &[u8]) -> ServerId {
        self.find_exact(host)
            .or_else(|| self.find_leading(host))
            .or_else(|| self.find_trailing(host))
            .unwrap_or(self.default)
    }

    fn find_exact(&self, host: &[u8]) -> Option<ServerId> {
        if self.exact.is_empty() {
            None
        } else {
            self.exact.get(host).copied()
        }
    }

    fn find_leading(&self, host: &[u8]) -> Option<ServerId> {
        if self.leading.is_empty() {
            return None;
        }
        if let Some(id) = self.leading.get(host).and_then(|entry| entry.itself) {
            return Some(id);
        }
        dots(host).find_map(|at| self.leading.get(&host[at + 1..])?.below)
    }

    fn find_trailing(&self, host: &[u8]) -> Option<ServerId> {
        if self.trailing.is_empty() {
            return None;
        }
        dots(host)
            .rev()
            .find_map(|at| self.trailing.get(&host[..at]).copied())
    }
}

/// Where a host can be cut, with something on both sides.
fn dots(host: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
    let inside = 1..host.len().saturating_sub(1);
    inside.filter(move |&at| host[at] == b'.')
}

/// The locations of one level, ready to be looked up.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    exact: HashMap<Vec<u8>, Arc<LocationSettings>>,
    /// Sorted by path; each knows the longest other one that is a prefix of it.
    prefixes: Vec<Prefix>,
    /// Paths that are redirected to themselves with a slash.
    redirects: HashMap<Vec<u8>, Arc<LocationSettings>>,
}

#[derive(Clone, Debug)]
struct Prefix {
    path: Vec<u8>,
    location: Arc<LocationSettings>,
    parent: Option<usize>,
    /// The locations within it.
    inner: Option<Box<Locations>>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// This location.
    Location(&'a Arc<LocationSettings>),
    /// A 301 to the same path with a slash at its end: `location /x/` that proxies was asked for as
    /// `/x`. The location is the one with the slash.
    Redirect(&'a Arc<LocationSettings>),
    /// No location.
    Nothing,
}

impl Locations {
    /// For the locations of one server, or within one location.
    pub fn new(locations: &[Location]) -> Locations {
        let mut made = Locations::default();
        let mut prefixes: Vec<Prefix> = Vec::new();
        for location in locations {
            let (path, settings) = (&location.path, &location.settings);
            if location.kind == LocationKind::Exact {
                let entry = made.exact.entry(path.clone());
                entry.or_insert_with(|| Arc::clone(settings));
            } else {
                let inner = !location.inner.is_empty();
                prefixes.push(Prefix {
                    path: path.clone(),
                    location: Arc::clone(settings),
                    parent: None,
                    inner: inner.then(|| Box::new(Locations::new(&location.inner))),
                });
            }
            let proxies = matches!(settings.handler, Handler::Proxy(_));
            if let Some(bare) = path
                .strip_suffix(b"/")
                .filter(|bare| proxies && !bare.is_empty())
            {
                let entry = made.redirects.entry(bare.to_vec());
                entry.or_insert_with(|| Arc::clone(settings));
            }
        }
        prefixes.sort_by(|left, right| left.path.cmp(&right.path));
        prefixes.dedup_by(|later, first| later.path == first.path);
        link(&mut prefixes);
        made.prefixes = prefixes;
        made
    }

    /// For a normalized path.
    pub fn find(&self, path: &[u8]) -> Found<'_> {
        if let Some(location) = self.exact.get(path).filter(|_| !self.exact.is_empty()) {
            return Found::Location(location);
        }
        let longest = self.longest(path);
        if let Some(redirect) = self
            .redirects
            .get(path)
            .filter(|_| !self.redirects.is_empty())
        {
            // A location of this very path is asked for by its name.
            if longest.is_none_or(|prefix| prefix.path != path) {
                return Found::Redirect(redirect);
            }
        }
        let Some(prefix) = longest else {
            return Found::Nothing;
        };
        match prefix.inner.as_ref().map(|inner| inner.find(path)) {
            None | Some(Found::Nothing) => Found::Location(&prefix.location),
            Some(inner) => inner,
        }
    }

    /// All prefixes of a path sort before it, and the last entry that does not sort after it is the
    /// longest one or descends from it.
    fn longest(&self, path: &[u8]) -> Option<&Prefix> {
        let after = self
            .prefixes
            .partition_point(|prefix| prefix.path.as_slice() <= path);
        let mut at = after.checked_sub(1);
        while let Some(index) = at {
            let prefix = &self.prefixes[index];
            if path.starts_with(&prefix.path) {
                return Some(prefix);
            }
            at = prefix.parent;
        }
        None
    }
}

/// Finds each entry's parent in a sorted list, with the chain of open prefixes as a stack.
fn link(prefixes: &mut [Prefix]) {
    let mut open: Vec<usize> = Vec::new();
    for at in 0..prefixes.len() {
        while let Some(&last) = open.last() {
            if prefixes[at].path.starts_with(&prefixes[last].path) {
                break;
            }
            open.pop();
        }
        prefixes[at].parent = open.last().copied();
        open.push(at);
    }
}

#[cfg(test)]
mod tests;
