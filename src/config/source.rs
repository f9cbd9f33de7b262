//! Everything that a configuration is made of: its files, and what it asks of the machine. Read
//! from the machine once and written down, so that the same text gives the same settings anywhere.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::error::errno;

/// The largest file that is read, in bytes.
const LARGEST_FILE: u64 = 64 << 20;

/// Before a file in the text; [`Source::text`] adds its length, so that no content is taken for a mark.
const MARK: &str = "# configuration file ";
/// Before the facts in the text.
const FACTS: &str = "# weir facts: ";

/// Where files lie and what the command line adds to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// `-p`, with a `/` at its end: where relative paths start.
    pub prefix: String,
    /// `-c`: the first file.
    pub file: String,
    /// `-e`: the log that is used where the configuration names none.
    pub error_log: String,
    /// `-g`: directives of the main context.
    pub directives: Option<String>,
}

impl Paths {
    /// The folder of the first file, where relative includes start.
    fn file_prefix(&self) -> &str {
        match self.file.rfind('/') {
            Some(end) if end > 0 => &self.file[..=end],
            _ => &self.prefix,
        }
    }

    /// A path as nginx completes that of a certificate: beside the first file.
    pub fn beside(&self, path: &str) -> String {
        under(self.file_prefix(), path)
    }

    /// A path as nginx completes it.
    pub fn full(&self, path: &str) -> String {
        under(&self.prefix, path)
    }
}

fn under(prefix: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{prefix}{path}")
    }
}

/// What a configuration asked of the machine, and the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    paths: Paths,
    /// CPUs that may be used.
    cpus: usize,
    /// The effective user is root.
    root: bool,
    hostname: String,
    /// RLIMIT_NOFILE.
    nofile: u64,
    /// The working folder.
    folder: String,
    /// User and group id by `user NAME GROUP`.
    users: BTreeMap<String, (u32, u32)>,
    /// Addresses by the host names of `listen`.
    hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Files by the patterns of `include`.
    globs: BTreeMap<String, Vec<String>>,
}

/// The files and the facts.
#[derive(Debug)]
pub struct Source {
    facts: Facts,
    /// By path, in the order in which they were first read.
    files: Vec<(String, Rc<[u8]>)>,
    /// Files are read; otherwise all are in `files`.
    live: bool,
    /// Questions are asked; otherwise all answers are in `facts`.
    asks: bool,
}

impl Source {
    /// Reads from the machine.
    pub fn live(paths: Paths) -> Source {
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        let nofile = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        let facts = Facts {
            paths,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            root: nix::unistd::geteuid().is_root(),
            hostname: hostname.to_string_lossy().to_lowercase(),
            nofile: nofile.map_or(u64::MAX, |(soft, _)| soft),
            folder: std::env::current_dir()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            ..Facts::default()
        };
        Source {
            facts,
            files: Vec::new(),
            live: true,
            asks: true,
        }
    }

    /// Reads from what [`Source::text`] gave. Text without the facts (such as `-T` prints) is read
    /// with this machine's; text without any mark is one file.
    pub fn from_text(text: &str) -> Result<Source, String> {
        let mut rest = text;
        let mut source = match line_after(rest, FACTS) {
            Some((facts, after)) => {
                rest = after;
                let facts = serde_json::from_str(facts).map_err(|error| {
                    format!("the text of the configuration is damaged: {error}")
                })?;
                Source {
                    facts,
                    files: Vec::new(),
                    live: false,
                    asks: false,
                }
            }
            None => Source {
                live: false,
                ..Source::live(Paths::default())
            },
        };
        while let Some((mark, after)) = line_after(rest, MARK) {
            let (path, content, next) = file_after(mark, after)?;
            source.keep(path, content.as_bytes().into());
            rest = next;
        }
        if source.files.is_empty() {
            source.keep("weir.conf", rest.as_bytes().into());
        } else if !rest.is_empty() {
            return Err("the text of the configuration is damaged: no file begins here".into());
        }
        if source.facts.paths.file.is_empty() {
            source.facts.paths.file = source.files[0].0.clone();
        }
        Ok(source)
    }

    /// The whole configuration as one text: the facts, then every file once.
    pub fn text(&self) -> String {
        let facts = serde_json::to_string(&self.facts).unwrap_or_default();
        let mut text = format!("{FACTS}{facts}\n");
        for (path, bytes) in &self.files {
            // Only comments can hold bytes that are not UTF-8: the lexer refuses them in words.
            let content = String::from_utf8_lossy(bytes);
            text.push_str(&format!(
                "{MARK}{path}: {} bytes\n{content}\n",
                content.len()
            ));
        }
        text
    }

    /// Every file that was read, in the order of the first reading.
    pub fn files(&self) -> &[(String, Rc<[u8]>)] {
        &self.files
    }

    /// Paths and command line.
    pub fn paths(&self) -> &Paths {
        &self.facts.paths
    }

    /// CPUs that may be used.
    pub fn cpus(&self) -> usize {
        self.facts.cpus.max(1)
    }

    /// Whether the master runs as root.
    pub fn root(&self) -> bool {
        self.facts.root
    }

    /// `$hostname`, lower case.
    pub fn hostname(&self) -> &str {
        &self.facts.hostname
    }

    /// RLIMIT_NOFILE.
    pub fn nofile(&self) -> u64 {
        self.facts.nofile
    }

    /// A path from the root folder, for names that must not depend on the working folder.
    pub fn absolute(&self, path: &str) -> String {
        under(
            &format!("{}/", self.facts.folder.trim_end_matches('/')),
            path,
        )
    }

    /// The bytes of a file; each is read once.
    pub fn read(&mut self, path: &str) -> Result<Rc<[u8]>, String> {
        if let Some((_, bytes)) = self.files.iter().find(|(kept, _)| kept == path) {
            return Ok(Rc::clone(bytes));
        }
        if !self.live {
            return Err(format!("open() \"{path}\" failed (not in the text)"));
        }
        let file = std::fs::File::open(path)
            .map_err(|error| format!("open() \"{path}\" failed {}", errno(&error)))?;
        let mut bytes = Vec::new();
        file.take(LARGEST_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("read() \"{path}\" failed {}", errno(&error)))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(format!(
                "\"{path}\" is larger than {} MB",
                LARGEST_FILE >> 20
            ));
        }
        Ok(self.keep(path, bytes.into()))
    }

    fn keep(&mut self, path: &str, bytes: Rc<[u8]>) -> Rc<[u8]> {
        self.files.push((path.to_owned(), Rc::clone(&bytes)));
        bytes
    }

    /// The files that `include` names, sorted; without `*`, `?` or `[` it is one, which may be missing.
    pub fn include(&mut self, pattern: &str) -> Result<Vec<String>, String> {
        let pattern = under(self.facts.paths.file_prefix(), pattern);
        if pattern.chars().any(char::is_control) {
            return Err(format!("control character in the file name \"{pattern}\""));
        }
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![pattern]);
        }
        if let Some(names) = self.facts.globs.get(&pattern) {
            return Ok(names.clone());
        }
        let failed =
            |reason: &dyn std::fmt::Display| format!("glob() \"{pattern}\" failed ({reason})");
        // As glob(3): `*` passes no `/` and takes no file whose name begins with a dot.
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        if !self.live {
            let glob = glob::Pattern::new(&pattern).map_err(|error| failed(&error))?;
            let names = self.files.iter().map(|(path, _)| path);
            let mut names: Vec<_> = names
                .filter(|path| glob.matches_with(path, options))
                .cloned()
                .collect();
            names.sort();
            return Ok(names);
        }
        let mut names = Vec::new();
        for entry in glob::glob_with(&pattern, options).map_err(|error| failed(&error))? {
            let path = entry.map_err(|error| failed(&error))?;
            match path.to_str() {
                Some(name) if !name.chars().any(char::is_control) => names.push(name.to_owned()),
                _ => {
                    return Err(failed(&format_args!(
                        "a file name is not plain text: {path:?}"
                    )));
                }
            }
        }
        names.sort();
        self.facts.globs.insert(pattern, names.clone());
        Ok(names)
    }

    /// The ids of a user and a group, from the system's databases.
    pub fn user(&mut self, name: &str, group: &str) -> Result<(u32, u32), String> {
        let key = format!("{name} {group}");
        if let Some(&ids) = self.facts.users.get(&key) {
            return Ok(ids);
        }
        if !self.asks {
            return Err(format!("getpwnam(\"{name}\") failed (not in the text)"));
        }
        let reason = |error: nix::errno::Errno| format!(" {}", errno(&error.into()));
        let user = nix::unistd::User::from_name(name)
            .map_err(|error| format!("getpwnam(\"{name}\") failed{}", reason(error)))?
            .ok_or_else(|| format!("getpwnam(\"{name}\") failed"))?;
        let group = nix::unistd::Group::from_name(group)
            .map_err(|error| format!("getgrnam(\"{group}\") failed{}", reason(error)))?
            .ok_or_else(|| format!("getgrnam(\"{group}\") failed"))?;
        let ids = (user.uid.as_raw(), group.gid.as_raw());
        self.facts.users.insert(key, ids);
        Ok(ids)
    }

    /// The addresses of a host that `listen` names; `None` if it has none.
    pub fn host(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(addresses) = self.facts.hosts.get(name) {
            return Some(addresses.clone());
        }
        if !self.asks {
            return None;
        }
        let mut addresses: Vec<_> = (name, 0)
            .to_socket_addrs()
            .ok()?
            .map(|found| found.ip())
            .collect();
        addresses.dedup();
        if addresses.is_empty() {
            return None;
        }
        self.facts.hosts.insert(name.to_owned(), addresses.clone());
        Some(addresses)
    }
}

/// The rest of the first line if it begins with `start`, and what follows the line.
fn line_after<'a>(text: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix(start)?;
    Some(rest.split_once('\n').unwrap_or((rest, "")))
}

/// Path, content and what follows, after the mark of a file.
fn file_after<'a>(mark: &'a str, after: &'a str) -> Result<(&'a str, &'a str, &'a str), String> {
    let damaged = || format!("the text of the configuration is damaged at \"{MARK}{mark}\"");
    if let Some(path) = mark.strip_suffix(':') {
        let end = after
            .find(&format!("\n{MARK}"))
            .map_or(after.len(), |end| end + 1);
        return Ok((path, &after[..end], &after[end..]));
    }
    let (path, length) = mark
        .strip_suffix(" bytes")
        .and_then(|mark| mark.rsplit_once(": "))
        .ok_or_else(damaged)?;
    let length: usize = length.parse().map_err(|_| damaged())?;
    let (content, next) = after.split_at_checked(length).ok_or_else(damaged)?;
    Ok((path, content, next.strip_prefix('\n').ok_or_else(damaged)?))
}
