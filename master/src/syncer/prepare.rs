//! The slow half of a reload, off the publishing thread: building, resolving, reading dumps.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use weir_shm::Server;
use weir_worker::channel::Role;

use crate::settings::Settings;
use crate::{Built, ResolvedUpstream};

/// The descriptors of one order, gathered from its packets.
#[derive(Debug, Default)]
pub struct Handed {
    /// The configuration's text.
    pub text: Option<File>,
    /// Opened logs by resource number.
    pub files: Vec<(usize, File)>,
    /// Opened private files by number.
    pub private: Vec<(usize, File)>,
}

impl Handed {
    /// Takes one packet's descriptors in; listeners are the workers' business.
    pub fn add(&mut self, roles: Vec<Role>, descriptors: Vec<OwnedFd>) {
        for (role, descriptor) in roles.into_iter().zip(descriptors) {
            match role {
                Role::Text => self.text = Some(descriptor.into()),
                Role::Resource(id) => self.files.push((id, descriptor.into())),
                Role::Private(id) => self.private.push((id, descriptor.into())),
                Role::Listener(_) => {}
            }
        }
    }
}

/// A configuration that can be taken in.
pub struct Plan {
    /// What it says.
    pub settings: Settings,
    /// Its configured servers.
    pub resolved: Vec<ResolvedUpstream>,
    /// The dumps of its `upsync` upstreams, those that can be read.
    pub dumped: HashMap<String, Vec<Server>>,
    /// The dumps that are there and cannot be read, for the log.
    pub bad_dumps: Vec<String>,
    /// Its logs.
    pub files: Vec<(usize, File)>,
    /// Its private files.
    pub private: Vec<(usize, File)>,
}

/// Builds a plan; blocks in the resolver.
///
/// # Errors
/// The text does not build, or a name does not resolve.
pub fn plan(handed: Handed, build: fn(&str) -> Result<Built, String>) -> Result<Plan, String> {
    let text = handed
        .text
        .ok_or("the order to prepare came without a text")?;
    let settings = build(&read(&text)?)?.settings;
    let resolved = crate::resolve(&settings.upstreams)?;
    let mut dumped = HashMap::new();
    let mut bad_dumps = Vec::new();
    for upstream in settings
        .upstreams
        .iter()
        .filter(|upstream| upstream.upsync.is_some())
    {
        let Some(path) = upstream.dump.as_ref().filter(|path| path.exists()) else {
            continue;
        };
        match super::dump::read(path) {
            Ok(servers) => {
                dumped.insert(upstream.name.clone(), servers);
            }
            Err(why) => bad_dumps.push(why),
        }
    }
    Ok(Plan {
        settings,
        resolved,
        dumped,
        bad_dumps,
        files: handed.files,
        private: handed.private,
    })
}

/// The descriptor's offset is shared with every other child's: it is not relied upon.
fn read(text: &File) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("the configuration's text: {error}");
    let mut bytes = Vec::new();
    Cursor { file: text, at: 0 }
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    String::from_utf8(bytes).map_err(|_| "the configuration's text is not UTF-8".to_owned())
}

struct Cursor<'f> {
    file: &'f File,
    at: u64,
}

impl std::io::Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
