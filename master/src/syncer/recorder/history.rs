//! The history: what each table version changed, exactly enough to go back to the version before.
//! Pure. A record is one line of JSON in the region; `docs/region.md` describes it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weir_shm::{Address, CounterId, Server, Upstream};

use super::sequence::{Moved, align, put_in, take_out};

/// One published table version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The table version.
    pub version: u64,
    /// The version that it took the place of; 0 at the beginning of a history, which has no
    /// changes.
    pub before: u64,
    /// When, in milliseconds of Unix time.
    pub time_ms: u64,
    /// Why.
    pub cause: Cause,
    /// Upstreams that hold an answer back at this time.
    #[serde(default)]
    pub held: usize,
    /// Entries that are refused at this time.
    #[serde(default)]
    pub refused: usize,
    /// What is different.
    #[serde(flatten)]
    pub changes: Changes,
}

/// What had a table published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Cause {
    /// The start of weir or of a syncer.
    Start,
    /// Another configuration.
    Reload,
    /// A name resolved to other addresses.
    Names,
    /// A source's answer.
    Source {
        /// The source as `weirctl sources` shows it.
        source: String,
        /// The index of the answer; 0 if it has none.
        index: u64,
        /// Other sources whose answers came into the same version.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<Also>,
    },
    /// An answer that had waited for room in the region.
    Room,
    /// `weirctl guard accept`.
    Accept,
    /// `weirctl pin`.
    Pin,
    /// `weirctl unpin`.
    Unpin,
    /// `weirctl rollback`.
    Rollback {
        /// The version whose content it is.
        version: u64,
    },
}

/// A source beside another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Also {
    /// As `weirctl sources` shows it.
    pub source: String,
    /// The index of its answer.
    pub index: u64,
}

impl Cause {
    /// The answers of these sources, at least one; of several of one source the latest.
    pub fn answers(answers: impl IntoIterator<Item = (String, u64)>) -> Cause {
        let mut all: Vec<Also> = Vec::new();
        for (source, index) in answers {
            match all.iter_mut().find(|known| known.source == source) {
                Some(known) => known.index = index,
                None => all.push(Also { source, index }),
            }
        }
        let mut all = all.into_iter();
        let first = all.next();
        let (source, index) = first.map_or_else(Default::default, |a| (a.source, a.index));
        Cause::Source {
            source,
            index,
            also: all.collect(),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Start => f.write_str("start"),
            Cause::Reload => f.write_str("reload"),
            Cause::Names => f.write_str("names"),
            Cause::Source { source, also, .. } => {
                f.write_str(source)?;
                also.iter()
                    .try_for_each(|also| write!(f, ", {}", also.source))
            }
            Cause::Room => f.write_str("room"),
            Cause::Accept => f.write_str("accept"),
            Cause::Pin => f.write_str("pin"),
            Cause::Unpin => f.write_str("unpin"),
            Cause::Rollback { version } => write!(f, "rollback to {version}"),
        }
    }
}

/// How one table differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Upstreams that are in both and differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Change>,
    /// Upstreams that are only in the later one, with their places there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub new: Vec<Whole>,
    /// Upstreams that are only in the earlier one, with their places there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<Whole>,
    /// Upstreams that changed places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
}

/// A whole upstream at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Its place in its table, from 0.
    pub at: usize,
    /// Its name.
    pub name: String,
    /// The version that last changed it.
    pub changed: u64,
    /// As in the table.
    pub learned: bool,
    /// The upstream that it is like, if `upsync_discover` found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// In the table's order.
    pub servers: Vec<Peer>,
}

impl Changes {
    /// The upstreams in both tables whose servers differ. A start gives every upstream another
    /// version that last changed it, which is no difference to anybody.
    pub fn differing(&self) -> impl Iterator<Item = &Change> {
        self.upstreams.iter().filter(|change| {
            let kept = change.removed.is_empty() && change.added.is_empty();
            let kept = kept && change.updated.is_empty() && change.moved.is_empty();
            !kept || change.learned[0] != change.learned[1]
        })
    }
}

/// How one upstream differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The versions that last changed it: in the earlier table, in the later one.
    pub changed: [u64; 2],
    /// Whether it is learned: in the earlier table, in the later one.
    pub learned: [bool; 2],
    /// Servers that are only in the earlier one, with their places there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Placed>,
    /// Servers that are only in the later one, with their places there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Placed>,
    /// Servers with other parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updated: Vec<Updated>,
    /// Servers that changed places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
}

/// A server at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its place in its upstream, from 0.
    pub at: usize,
    /// The server.
    #[serde(flatten)]
    pub server: Peer,
}

/// A server with other parameters than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Its place in the earlier upstream, from 0.
    pub from: usize,
    /// Its place in the later one.
    pub to: usize,
    /// What it was.
    pub before: Peer,
    /// What it is.
    pub after: Peer,
}

/// A server as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// As in a configuration: `127.0.0.1:80`, `[::1]:80`, `unix:/path`.
    pub address: String,
    /// `weight=`
    pub weight: u32,
    /// `max_fails=`
    pub max_fails: u32,
    /// `fail_timeout=` in milliseconds.
    pub fail_timeout_ms: u64,
    /// `down`; left out when it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
    /// `backup`; left out when it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
}

impl From<&Server> for Peer {
    fn from(server: &Server) -> Peer {
        Peer {
            address: server.address.to_string(),
            weight: server.weight,
            max_fails: server.max_fails,
            fail_timeout_ms: server.fail_timeout_ms,
            down: server.down,
            backup: server.backup,
        }
    }
}

impl Peer {
    /// The server, without a counter row; `None` if the address is none.
    pub fn server(&self) -> Option<Server> {
        Some(Server {
            address: address(&self.address)?,
            weight: self.weight,
            max_fails: self.max_fails,
            fail_timeout_ms: self.fail_timeout_ms,
            down: self.down,
            backup: self.backup,
            counter: CounterId::default(),
        })
    }
}

/// An address as [`Address`] is displayed.
pub fn address(text: &str) -> Option<Address> {
    match text.strip_prefix("unix:") {
        Some(path) => (!path.is_empty()).then(|| Address::Unix(path.into())),
        None => text.parse::<SocketAddr>().ok().map(Address::Ip),
    }
}

impl Changes {
    /// What became different from `before` to `after`; counter rows do not count.
    pub fn between(before: &[Upstream], after: &[Upstream]) -> Changes {
        let alignment = align(&names(before), &names(after));
        let pairs = alignment.kept.iter();
        let pairs = pairs.map(|pair| (&before[pair.from], &after[pair.to]));
        Changes {
            upstreams: pairs.filter_map(|(b, a)| Change::between(b, a)).collect(),
            new: wholes(after, &alignment.added),
            gone: wholes(before, &alignment.removed),
            moved: alignment.moved,
        }
    }

    /// The earlier table from the later one; `None` if the changes are not of this table.
    pub fn undo(&self, after: Vec<Upstream>) -> Option<Vec<Upstream>> {
        let out: Vec<usize> = places(self.new.iter().map(|u| u.at), &self.moved, |m| m.to);
        let (mut taken, mut rest) = take_out(after, &out)?;
        for change in &self.upstreams {
            let mut all = taken[self.new.len()..].iter_mut().chain(&mut rest);
            change.undo(all.find(|upstream| upstream.name == change.name)?)?;
        }
        let moved = taken.drain(self.new.len()..);
        let moved = self.moved.iter().map(|moved| moved.from).zip(moved);
        let gone = self.gone.iter().map(Whole::upstream);
        let gone = gone.collect::<Option<Vec<_>>>()?;
        put_in(rest, gone.into_iter().chain(moved).collect())
    }

    /// The later table from the earlier one; `None` if the changes are not of this table.
    pub fn apply(&self, before: Vec<Upstream>) -> Option<Vec<Upstream>> {
        self.inverse().undo(before)
    }

    /// What goes the other way.
    pub fn inverse(&self) -> Changes {
        Changes {
            upstreams: self.upstreams.iter().map(Change::inverse).collect(),
            new: self.gone.clone(),
            gone: self.new.clone(),
            moved: inverse(&self.moved),
        }
    }

    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

fn wholes(table: &[Upstream], places: &[usize]) -> Vec<Whole> {
    let whole = |&at: &usize| Whole {
        at,
        name: table[at].name.clone(),
        changed: table[at].changed,
        learned: table[at].learned,
        template: table[at].template.as_deref().map(str::to_owned),
        servers: table[at].servers.iter().map(Peer::from).collect(),
    };
    places.iter().map(whole).collect()
}

fn places(
    first: impl Iterator<Item = usize>,
    moved: &[Moved],
    of: impl Fn(&Moved) -> usize,
) -> Vec<usize> {
    first.chain(moved.iter().map(of)).collect()
}

fn inverse(moved: &[Moved]) -> Vec<Moved> {
    let turned = moved.iter().map(|moved| Moved {
        from: moved.to,
        to: moved.from,
    });
    turned.collect()
}

impl Whole {
    fn upstream(&self) -> Option<(usize, Upstream)> {
        let servers = self.servers.iter().map(Peer::server).collect::<Option<_>>();
        let upstream = Upstream {
            name: self.name.clone(),
            changed: self.changed,
            learned: self.learned,
            template: self.template.as_deref().map(Into::into),
            servers: servers?,
        };
        Some((self.at, upstream))
    }
}

impl Change {
    /// `None` if nothing is different.
    fn between(before: &Upstream, after: &Upstream) -> Option<Change> {
        let alike = before.servers.len() == after.servers.len()
            && before.servers.iter().zip(&after.servers).all(same);
        if alike && before.learned == after.learned && before.changed == after.changed {
            return None;
        }
        let alignment = align(&addresses(&before.servers), &addresses(&after.servers));
        let placed = |list: &[Server], places: &[usize]| {
            let placed = places.iter().map(|&at| Placed {
                at,
                server: Peer::from(&list[at]),
            });
            placed.collect()
        };
        let pairs = alignment.kept.iter();
        let pairs = pairs.map(|pair| (pair, &before.servers[pair.from], &after.servers[pair.to]));
        let updated = pairs.filter(|(_, old, new)| !same((old, new)));
        Some(Change {
            name: after.name.clone(),
            changed: [before.changed, after.changed],
            learned: [before.learned, after.learned],
            removed: placed(&before.servers, &alignment.removed),
            added: placed(&after.servers, &alignment.added),
            updated: updated
                .map(|(pair, old, new)| Updated {
                    from: pair.from,
                    to: pair.to,
                    before: old.into(),
                    after: new.into(),
                })
                .collect(),
            moved: alignment.moved,
        })
    }

    fn undo(&self, upstream: &mut Upstream) -> Option<()> {
        let mut servers = std::mem::take(&mut upstream.servers);
        for updated in &self.updated {
            let server = servers.get_mut(updated.to)?;
            let before = updated.before.server()?;
            // Its counter row stays its own.
            let counter = server.counter;
            *server = Server { counter, ..before };
        }
        let out = places(self.added.iter().map(|s| s.at), &self.moved, |m| m.to);
        let (mut taken, rest) = take_out(servers, &out)?;
        let moved = taken.drain(self.added.len()..);
        let moved = self.moved.iter().map(|moved| moved.from).zip(moved);
        let removed = self.removed.iter();
        let removed = removed.map(|placed| Some((placed.at, placed.server.server()?)));
        let removed = removed.collect::<Option<Vec<_>>>()?;
        upstream.servers = put_in(rest, removed.into_iter().chain(moved).collect())?;
        upstream.changed = self.changed[0];
        upstream.learned = self.learned[0];
        Some(())
    }

    fn inverse(&self) -> Change {
        let updated = self.updated.iter().map(|updated| Updated {
            from: updated.to,
            to: updated.from,
            before: updated.after.clone(),
            after: updated.before.clone(),
        });
        Change {
            name: self.name.clone(),
            changed: [self.changed[1], self.changed[0]],
            learned: [self.learned[1], self.learned[0]],
            removed: self.added.clone(),
            added: self.removed.clone(),
            updated: updated.collect(),
            moved: inverse(&self.moved),
        }
    }
}

fn names(table: &[Upstream]) -> Vec<&str> {
    table
        .iter()
        .map(|upstream| upstream.name.as_str())
        .collect()
}

fn addresses(servers: &[Server]) -> Vec<&Address> {
    servers.iter().map(|server| &server.address).collect()
}

fn same((one, other): (&Server, &Server)) -> bool {
    let parameters = |s: &Server| (s.weight, s.max_fails, s.fail_timeout_ms, s.down, s.backup);
    one.address == other.address && parameters(one) == parameters(other)
}

#[cfg(test)]
mod tests;
