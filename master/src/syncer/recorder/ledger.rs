//! What the recorder knows: the table in force, each watch, each upstream. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use weir_shm::Table;

use super::history::{Cause, Changes, Peer, Record};
use super::note::{Configured, Discovered};
use super::report::{
    DiscoverStatus, FORM, From, Hold, Pin, REFUSED_MAX, RefusedEntry, Report, SourceStatus, State,
    UpstreamStatus,
};
use super::state::{Saved, SavedUpstream};
use super::{Beginning, Note};
use crate::settings::Kind;

/// What a note came to, for the history and the log.
#[derive(Debug, Default)]
pub struct Told {
    /// A version was published.
    pub record: Option<Record>,
    /// Something else that the log tells.
    pub news: Vec<News>,
}

/// What the log tells beside published changes.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// An answer is held back, or no longer is.
    Held(String, Option<Hold>),
    /// An upstream is pinned, or no longer is.
    Pinned(String, Option<Pin>),
    /// An entry is refused.
    Refused(RefusedEntry),
}

/// An upstream, as far as the table does not say it.
#[derive(Debug, Default)]
struct Entry {
    is_fed: bool,
    folder: Option<String>,
    /// Confirmed since the syncer started.
    is_fresh: bool,
    confirmed_ms: Option<u64>,
    from: Option<From>,
    held: Option<Hold>,
    pinned: Option<Pin>,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    started_ms: u64,
    table: Arc<Table>,
    /// In the configuration's order.
    names: Vec<String>,
    /// Those that were discovered follow them.
    discovered: Vec<String>,
    discovers: Vec<DiscoverStatus>,
    /// The discovered ones by their prefix.
    by_prefix: HashMap<String, Arc<[String]>>,
    entries: HashMap<String, Entry>,
    sources: BTreeMap<u64, SourceStatus>,
    refused: BTreeMap<String, Vec<RefusedEntry>>,
    control: Option<PathBuf>,
}

impl Ledger {
    /// Goes on from a table and the report beside it.
    pub fn new(beginning: Beginning, now_ms: u64) -> Ledger {
        let Beginning { table, report, .. } = beginning;
        let report = report.unwrap_or_default();
        let statuses = report.upstreams.into_iter().map(|status| {
            let entry = Entry {
                is_fed: status.is_fed,
                folder: status.folder,
                is_fresh: false,
                confirmed_ms: status.confirmed_ms,
                from: status.from.or(status.confirmed_ms.map(|_| From::Region)),
                held: None,
                pinned: status.pinned,
            };
            (status.name, entry)
        });
        let mut ledger = Ledger {
            started_ms: now_ms,
            names: Vec::new(),
            discovered: discovered(&table),
            discovers: report.discovers,
            by_prefix: HashMap::new(),
            entries: statuses.collect(),
            sources: BTreeMap::new(),
            refused: BTreeMap::new(),
            control: report.control,
            table: Arc::new(table),
        };
        ledger.names = ledger.listed();
        ledger
    }

    fn listed(&self) -> Vec<String> {
        let upstreams = self.table.upstreams.iter();
        let listed = upstreams.filter(|upstream| upstream.template.is_none());
        listed.map(|upstream| upstream.name.clone()).collect()
    }

    /// The table version in force.
    pub fn version(&self) -> u64 {
        self.table.version
    }

    /// Takes a note in.
    pub fn take(&mut self, note: Note) -> Told {
        let mut told = Told::default();
        match note {
            Note::Configured {
                upstreams,
                discovers,
                discovered,
                ..
            } => {
                self.discovers = discovers;
                self.configure(upstreams, discovered);
            }
            Note::Discovered { upstreams } => self.discover(upstreams),
            Note::Published {
                table,
                at_ms,
                cause,
            } => told.record = Some(self.publish(table, at_ms, cause)),
            Note::Confirmed { upstreams, at_ms } => {
                for name in upstreams {
                    let entry = self.entries.entry(name).or_default();
                    entry.is_fresh = true;
                    entry.confirmed_ms = Some(at_ms);
                    entry.from = None;
                }
            }
            Note::Source(mut status) => {
                let known = self.sources.get(&status.id);
                let answer = |of: &SourceStatus| (of.success_ms, of.index);
                status.version = match known {
                    Some(known) if answer(known) == answer(&status) => known.version,
                    _ if status.success_ms.is_none() => 0,
                    // An answer was handled: what it changed was noted before this.
                    _ => self.table.version,
                };
                self.confirm_again(&status);
                self.sources.insert(status.id, status);
            }
            Note::SourceGone { id } => drop(self.sources.remove(&id)),
            Note::Refused {
                upstream,
                entries,
                at_ms,
            } => told.news = self.refuse(upstream, entries, at_ms),
            Note::Held { upstream, hold } => {
                let entry = self.entries.entry(upstream.clone()).or_default();
                if entry.held != hold {
                    entry.held.clone_from(&hold);
                    told.news.push(News::Held(upstream, hold));
                }
            }
            Note::Pinned { upstream, pin } => {
                let entry = self.entries.entry(upstream.clone()).or_default();
                if entry.pinned != pin {
                    entry.pinned.clone_from(&pin);
                    told.news.push(News::Pinned(upstream, pin));
                }
            }
        }
        told
    }

    /// The status of a source says no more than that all is as it was, once more.
    pub fn is_quiet(&self, status: &SourceStatus) -> bool {
        let known = self.sources.get(&status.id);
        status.known_ms.is_some()
            && known.is_some_and(|known| {
                (known.state, known.index) == (status.state, status.index)
                    && known.error == status.error
                    && known.upstreams == status.upstreams
            })
    }

    fn confirm_again(&mut self, status: &SourceStatus) {
        if status.known_ms.is_none() {
            return;
        }
        for name in self.source(status).upstreams.iter() {
            if let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.is_fresh) {
                entry.confirmed_ms = status.known_ms;
            }
        }
    }

    /// What is known of upstreams that were prepared, or that had or get a block of their own, stays.
    fn configure(&mut self, upstreams: Vec<Configured>, discovered: Vec<String>) {
        let mut old = std::mem::take(&mut self.entries);
        self.names.clear();
        for name in &discovered {
            let mut entry = old.remove(name).unwrap_or_default();
            (entry.is_fed, entry.folder) = (true, None);
            self.entries.insert(name.clone(), entry);
        }
        self.discovered = discovered;
        for Configured {
            name,
            is_fed,
            folder,
        } in upstreams
        {
            let mut entry = old.remove(&name).unwrap_or_default();
            (entry.is_fed, entry.folder) = (is_fed, folder);
            self.refused.retain(|of, _| is_fed || *of != name);
            self.names.push(name.clone());
            self.entries.insert(name, entry);
        }
        self.keep_refused();
    }

    /// Forgets the refused entries of what is gone.
    fn keep_refused(&mut self) {
        let (entries, discovers) = (&self.entries, &self.discovers);
        let is_prefix = |of: &str| discovers.iter().any(|discover| discover.prefix == of);
        self.refused
            .retain(|of, _| entries.contains_key(of) || is_prefix(of));
    }

    /// Forgets those that are gone, but none of a configuration that is only prepared yet.
    fn discover(&mut self, found: Vec<Discovered>) {
        let mut by_prefix: HashMap<String, Vec<String>> = HashMap::new();
        let mut upstreams = Vec::with_capacity(found.len());
        for Discovered { name, prefix } in found {
            if let Some(prefix) = prefix {
                by_prefix.entry(prefix).or_default().push(name.clone());
            }
            upstreams.push(name);
        }
        let by_prefix = by_prefix.into_iter();
        self.by_prefix = by_prefix
            .map(|(prefix, names)| (prefix, names.into()))
            .collect();
        let known = self.names.iter().chain(&upstreams);
        let known: HashSet<&String> = known.collect();
        for name in self.discovered.iter().filter(|name| !known.contains(name)) {
            self.entries.remove(name);
            self.refused.remove(name);
        }
        for name in &upstreams {
            self.entries.entry(name.clone()).or_default().is_fed = true;
        }
        self.discovered = upstreams;
    }

    fn publish(&mut self, table: Arc<Table>, at_ms: u64, cause: Cause) -> Record {
        let before = std::mem::replace(&mut self.table, table);
        // Without a table before, there is nothing to go back to.
        let changes = match before.version {
            0 => Changes::default(),
            _ => Changes::between(&before.upstreams, &self.table.upstreams),
        };
        Record {
            version: self.table.version,
            before: before.version,
            time_ms: at_ms,
            cause,
            held: self.entries.values().filter(|e| e.held.is_some()).count(),
            refused: self.refused.values().map(Vec::len).sum(),
            changes,
        }
    }

    fn refuse(
        &mut self,
        upstream: String,
        entries: Vec<(String, String)>,
        at_ms: u64,
    ) -> Vec<News> {
        let old = self.refused.remove(&upstream).unwrap_or_default();
        let mut old: HashMap<String, RefusedEntry> =
            old.into_iter().map(|e| (e.key.clone(), e)).collect();
        let mut news = Vec::new();
        let mut now = Vec::with_capacity(entries.len());
        for (key, reason) in entries {
            let known = old.remove(&key).filter(|known| known.reason == reason);
            now.push(known.unwrap_or_else(|| {
                let entry = RefusedEntry {
                    upstream: upstream.clone(),
                    key,
                    reason,
                    since_ms: at_ms,
                };
                news.push(News::Refused(entry.clone()));
                entry
            }));
        }
        if !now.is_empty() {
            self.refused.insert(upstream, now);
        }
        news
    }

    /// The report as of now.
    pub fn report(&self, now_ms: u64) -> Report {
        let learned = |name: &str| {
            let found = self.table.upstreams.iter().find(|u| u.name == name);
            found.is_some_and(|upstream| upstream.learned)
        };
        // The table's order is the configuration's, so that a search is seldom needed.
        let mut in_order = self.table.upstreams.iter();
        let statuses = self.names.iter().chain(&self.discovered).map(|name| {
            let learned = match in_order.next() {
                Some(upstream) if upstream.name == *name => upstream.learned,
                _ => learned(name),
            };
            self.status(name, learned)
        });
        let refused = self.refused.values().flatten();
        Report {
            form: FORM,
            time_ms: now_ms,
            syncer_pid: std::process::id(),
            started_ms: self.started_ms,
            control: self.control.clone(),
            sources: self.sources.values().map(|s| self.source(s)).collect(),
            upstreams: statuses.collect(),
            discovers: self.discovers.clone(),
            refused_total: refused.clone().count(),
            refused: refused.take(REFUSED_MAX).cloned().collect(),
            is_cut: false,
        }
    }

    /// A watch of a prefix feeds what was found there.
    fn source(&self, status: &SourceStatus) -> SourceStatus {
        let mut status = status.clone();
        if let [prefix] = &*status.upstreams
            && status.path.strip_prefix(Kind::Consul.path()) == Some(prefix)
            && let Some(found) = self.by_prefix.get(prefix)
        {
            status.upstreams = Arc::clone(found);
        }
        status
    }

    /// What is to be on disk.
    pub fn saved(&self, now_ms: u64) -> Saved {
        let none = Entry::default();
        let upstreams = self.table.upstreams.iter().map(|upstream| {
            let entry = self.entries.get(&upstream.name).unwrap_or(&none);
            SavedUpstream {
                name: upstream.name.clone(),
                changed: upstream.changed,
                learned: upstream.learned,
                confirmed_ms: entry.confirmed_ms,
                pinned: entry.pinned.clone(),
                template: upstream.template.as_deref().map(str::to_owned),
                servers: upstream.servers.iter().map(Peer::from).collect(),
            }
        });
        Saved {
            saved_ms: now_ms,
            version: self.table.version,
            upstreams: upstreams.collect(),
            history: Vec::new(),
        }
    }

    fn status(&self, name: &str, learned: bool) -> UpstreamStatus {
        let none = Entry::default();
        let entry = self.entries.get(name).unwrap_or(&none);
        let state = match entry {
            Entry {
                pinned: Some(_), ..
            } => State::Pinned,
            Entry { held: Some(_), .. } => State::Held,
            Entry { is_fresh: true, .. } => State::Fresh,
            _ if learned => State::Stale,
            _ => State::Configured,
        };
        UpstreamStatus {
            name: name.to_owned(),
            state,
            is_fed: entry.is_fed,
            folder: entry.folder.clone(),
            confirmed_ms: entry.confirmed_ms,
            from: entry.from.filter(|_| state == State::Stale),
            held: entry.held.clone(),
            pinned: entry.pinned.clone(),
        }
    }
}

/// The upstreams that `upsync_discover` found.
fn discovered(table: &Table) -> Vec<String> {
    let upstreams = table.upstreams.iter();
    let found = upstreams.filter(|upstream| upstream.template.is_some());
    found.map(|upstream| upstream.name.clone()).collect()
}
