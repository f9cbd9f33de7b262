//! The report: the syncer's state as JSON in the region, for `weirctl` and for the next syncer.
//! `docs/region.md` describes it. Times are milliseconds of Unix time.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The number of this form; it rises when a field changes its meaning.
pub const FORM: u32 = 1;
/// Entries that a report lists; more are only counted.
pub const REFUSED_MAX: usize = 200;

/// Everything that the syncer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`FORM`]
    pub form: u32,
    /// When it was written.
    pub time_ms: u64,
    /// The syncer, 0 in what a master writes before the first one.
    pub syncer_pid: u32,
    /// When that syncer started.
    pub started_ms: u64,
    /// The master's control socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<PathBuf>,
    /// Each watch.
    pub sources: Vec<SourceStatus>,
    /// Each upstream, in the table's order.
    pub upstreams: Vec<UpstreamStatus>,
    /// Each `upsync_discover`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovers: Vec<DiscoverStatus>,
    /// Entries of sources that are not applied, [`REFUSED_MAX`] at most.
    pub refused: Vec<RefusedEntry>,
    /// How many there are.
    pub refused_total: usize,
    /// There was no room for `upstreams` that are fresh or configured, or for refused entries.
    pub is_cut: bool,
}

/// A watch and how it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Of this syncer's watches.
    pub id: u64,
    /// `consul`, `consul_services`, `consul_health`, `etcd` or `etcd3`.
    pub kind: String,
    /// Where it is asked, without secrets: `127.0.0.1:8500`; several are separated by commas.
    pub address: String,
    /// The folder or service.
    pub path: String,
    /// The upstreams that it feeds.
    pub upstreams: Arc<[String]>,
    /// The index of the latest answer that was handled; 0 before the first.
    pub index: u64,
    /// The table version in force once that answer was handled.
    pub version: u64,
    /// What it does now.
    pub state: SourceState,
    /// The latest answer.
    pub success_ms: Option<u64>,
    /// The same, if that said of each upstream what was in force already.
    #[serde(skip)]
    pub known_ms: Option<u64>,
    /// The latest error, which stays when answers come again.
    pub error: Option<SourceError>,
    /// The delay before the next request, in milliseconds; 0 when one is under way.
    pub delay_ms: u64,
    /// Requests so far.
    pub requests: u64,
    /// Requests that failed, so far.
    pub failures: u64,
}

impl SourceStatus {
    /// As the history and the log name it: `consul 127.0.0.1:8500/v1/kv/upstreams/test`.
    pub fn name(&self) -> String {
        format!("{} {}{}", self.kind, self.address, self.path)
    }
}

/// What a watch does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It has had no answer yet.
    #[default]
    Starting,
    /// A request is parked at the source, or about to be sent.
    Watching,
    /// It waits its turn, or out of politeness.
    Waiting,
    /// The latest request failed.
    Failing,
}

impl SourceState {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            SourceState::Starting => "starting",
            SourceState::Watching => "watching",
            SourceState::Waiting => "waiting",
            SourceState::Failing => "failing",
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceError {
    /// When.
    pub time_ms: u64,
    /// Foreign bytes are escaped.
    pub text: String,
}

/// What an upstream's servers are worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its servers' state.
    pub state: State,
    /// A source feeds it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_fed: bool,
    /// The folder of a KV store that its keys lie in, as the configuration has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// When a source last confirmed its servers, in this life of weir or one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_ms: Option<u64>,
    /// Where stale servers came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// An answer that waits to be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Hold>,
    /// It is pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pin>,
}

/// An `upsync_discover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoverStatus {
    /// The prefix below which each folder is an upstream, as the configuration has it.
    pub prefix: String,
    /// The upstream that they are like.
    pub template: String,
}

/// The state of an upstream's servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The configuration's, its names resolved; a source has none or has not answered yet.
    #[default]
    Configured,
    /// A source confirmed them since the syncer started.
    Fresh,
    /// From the region, the state file or a dump.
    Stale,
    /// An answer waits to be accepted.
    Held,
    /// Kept as they are, whatever the source says.
    Pinned,
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            State::Configured => "configured",
            State::Fresh => "fresh",
            State::Stale => "stale",
            State::Held => "held",
            State::Pinned => "pinned",
        }
    }
}

/// Where servers came from that no source has confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// What was shared in memory before.
    Region,
    /// `upsync_state`
    State,
    /// `upsync_dump_path`
    Dump,
}

impl From {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            From::Region => "the region",
            From::State => "the state file",
            From::Dump => "its dump",
        }
    }
}

/// An answer that is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hold {
    /// Since when.
    pub since_ms: u64,
    /// Why.
    pub reason: String,
    /// Servers in the answer that are not down.
    pub servers: usize,
    /// Servers in force that it would take away.
    pub removes: usize,
}

/// A pin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pin {
    /// Since when.
    pub since_ms: u64,
    /// The version whose content it keeps.
    pub version: u64,
}

/// An entry of a source that is not applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedEntry {
    /// Whose list it would be in, or the prefix of the `upsync_discover` of a folder that is no upstream.
    pub upstream: String,
    /// The whole key, or what identifies it.
    pub key: String,
    /// Foreign bytes are escaped.
    pub reason: String,
    /// Since when it is refused.
    pub since_ms: u64,
}

impl Report {
    /// Reads a report; one of another form counts as none.
    pub fn parse(text: &[u8]) -> Option<Report> {
        let report: Report = serde_json::from_slice(text).ok()?;
        (report.form == FORM).then_some(report)
    }

    /// The status of an upstream.
    pub fn upstream(&self, name: &str) -> Option<&UpstreamStatus> {
        self.upstreams.iter().find(|status| status.name == name)
    }

    /// What fits when the whole does not: upstreams and entries about which there is little to say
    /// are left out.
    pub fn cut(mut self) -> Report {
        let unusual = |status: &UpstreamStatus| {
            matches!(status.state, State::Stale | State::Held | State::Pinned)
        };
        self.upstreams.retain(unusual);
        self.refused.clear();
        self.is_cut = true;
        self
    }
}
