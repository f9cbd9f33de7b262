//! Listeners, and the virtual servers behind them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use weir_master::settings::{ListenSocket, Resource};
use weir_worker::settings::{
    self as worker, Buffering, ClientBody, Handler, LogTarget, ServerName, TempFolder,
};

use super::super::draft::{Common, Draft, Http, Level, Listen};
use super::super::error::Fault;
use super::super::level::{self, Outer};
use super::super::log;
use super::super::source::Source;
use crate::paths;

pub fn socket(listen: &Listen) -> ListenSocket {
    ListenSocket {
        address: listen.address.clone(),
        backlog: listen.backlog,
        ipv6only: listen.ipv6only,
        options: listen.options,
        place: listen.place.clone(),
    }
}

pub fn listeners(http: &Http, warnings: &mut Vec<Fault>) -> Result<Vec<worker::Listener>, Fault> {
    let mut listeners = Vec::new();
    for listen in &http.listens {
        let Some(&first) = listen.servers.first() else {
            continue;
        };
        if listen.servers.len() > 1 {
            check_names(http, listen, warnings)?;
        }
        listeners.push(worker::Listener {
            address: listen.address.clone(),
            servers: listen.servers.clone(),
            default: listen.default.unwrap_or(first),
        });
    }
    Ok(listeners)
}

/// Names that two servers of one address both have; the first has it.
fn check_names(http: &Http, listen: &Listen, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
    let mut exact = HashSet::new();
    let mut below = HashSet::new();
    let mut trailing = HashSet::new();
    let empty = [(String::new(), ServerName::Exact(String::new()))];
    for level in listen
        .servers
        .iter()
        .filter_map(|&server| http.servers.get(server))
    {
        let names = if level.names.is_empty() {
            &empty[..]
        } else {
            &level.names
        };
        for (text, name) in names {
            if !is_name(text) {
                let message = format!(
                    "invalid server name or wildcard \"{text}\" on {}",
                    listen.address
                );
                return Err(Fault::at(level.place.clone(), message));
            }
            let fresh = match name {
                ServerName::Exact(name) => exact.insert(name),
                ServerName::Leading(name) => below.insert(name),
                ServerName::Dotted(name) => exact.insert(name) && below.insert(name),
                ServerName::Trailing(name) => trailing.insert(name),
            };
            if !fresh {
                let message = format!(
                    "conflicting server name \"{text}\" on {}, ignored",
                    listen.address
                );
                warnings.push(Fault::at(level.place.clone(), message));
            }
        }
    }
    Ok(())
}

/// nginx's rule: at most one `*`, as a whole label at an end, and no empty label within.
fn is_name(name: &str) -> bool {
    let inner = name
        .strip_prefix("*.")
        .or_else(|| name.strip_suffix(".*"))
        .unwrap_or(name);
    !inner.contains('*') && !name.contains("..")
}

pub fn virtual_servers(
    draft: &mut Draft,
    http: &Http,
    order: &[usize],
    error_logs: &Arc<[LogTarget]>,
    source: &Source,
) -> Result<Vec<worker::VirtualServer>, Fault> {
    let mut common = http.level.common.clone();
    let named = |level: &Level| level.common.access_logs.is_some();
    if common.access_logs.is_none() && !http.servers.iter().all(named) {
        let path = source.paths().full(paths::ACCESS_LOG);
        let resource = draft.resource(Resource::Log(path.into()));
        let format = log::combined();
        let to = worker::LogName::File(resource);
        let filter = None;
        common.access_logs = Some(vec![worker::AccessLog { to, format, filter }]);
    }
    let main = Common {
        error_logs: Some(error_logs.to_vec()),
        client_body_temp_path: Some(default_temp(source, &ClientBody::default().temp)),
        proxy_temp_path: Some(default_temp(source, &Buffering::default().temp)),
        ..Common::default()
    };
    common.inherit(&main);
    let outer = Outer {
        common: &common,
        order,
    };
    http.servers
        .iter()
        .map(|server| level::server(server, &outer))
        .collect()
}

/// nginx's folder for temporary files, under the prefix.
fn default_temp(source: &Source, folder: &TempFolder) -> Arc<TempFolder> {
    let path = source.paths().full(&folder.path.to_string_lossy());
    Arc::new(TempFolder {
        path: path.into(),
        levels: folder.levels.clone(),
    })
}

/// Folders that some request may need a temporary file in, each once.
pub fn temp_folders(servers: &[worker::VirtualServer]) -> Result<Vec<PathBuf>, Fault> {
    let mut folders: Vec<&TempFolder> = Vec::new();
    let locations = servers.iter().flat_map(|server| {
        let own = server.locations.iter().map(|location| &location.settings);
        own.chain([&server.fallback])
    });
    for location in locations {
        let Handler::Proxy(proxy) = &location.handler else {
            continue;
        };
        for folder in [&location.client_body.temp, &proxy.buffering.temp] {
            match folders.iter().find(|known| known.path == folder.path) {
                Some(known) if known.levels == folder.levels => {}
                Some(_) => {
                    return Err(Fault::whole(format!(
                        "the path name \"{}\" has the same name, but the different levels",
                        folder.path.display()
                    )));
                }
                None => folders.push(folder),
            }
        }
    }
    Ok(folders.iter().map(|folder| folder.path.clone()).collect())
}
