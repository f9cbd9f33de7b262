//! What the syncer's threads tell the recorder. A note is a plain value: whoever sends one waits
//! for nothing.

use std::path::PathBuf;
use std::sync::Arc;

use weir_shm::Table;

use super::audit::To;
use super::history::Cause;
use super::report::{DiscoverStatus, Hold, Pin, SourceStatus};

/// An upstream of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// A source feeds it.
    pub is_fed: bool,
    /// The folder of a KV store that its keys lie in, as the configuration has it.
    pub folder: Option<String>,
}

/// An upstream that `upsync_discover` has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Its name.
    pub name: String,
    /// The prefix that its folder is below, if an answer has told.
    pub prefix: Option<String>,
}

/// Something to record.
#[derive(Clone, Debug)]
pub enum Note {
    /// The upstreams of the configuration that comes into force, in its order, and where to log
    /// changes. Said before the table that it leads to is published.
    Configured {
        /// Each of them.
        upstreams: Vec<Configured>,
        /// Each `upsync_discover`.
        discovers: Vec<DiscoverStatus>,
        /// The names of those that were discovered, in the table's order.
        discovered: Vec<String>,
        /// `upsync_log`
        log: Option<To>,
        /// `upsync_state`
        state: Option<PathBuf>,
    },
    /// What `upsync_discover` has found, in the table's order.
    Discovered {
        /// Each of them.
        upstreams: Vec<Discovered>,
    },
    /// A table was published.
    Published {
        /// As it is in the region now.
        table: Arc<Table>,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
        /// Why.
        cause: Cause,
    },
    /// A source's answer has the servers of these upstreams as the table has them now.
    Confirmed {
        /// Their names.
        upstreams: Vec<String>,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// How a watch does now. It takes the place of what was said before under its id; all of it is
    /// the sender's but `version`.
    Source(SourceStatus),
    /// A watch has ended.
    SourceGone {
        /// Its id.
        id: u64,
    },
    /// The entries that the latest answer has for an upstream and that are not applied; none if
    /// all are good.
    Refused {
        /// Its name, or the prefix of an `upsync_discover`.
        upstream: String,
        /// Key and reason of each.
        entries: Vec<(String, String)>,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// An answer is held back, or no longer is.
    Held {
        /// The upstream.
        upstream: String,
        /// `None`: not any more.
        hold: Option<Hold>,
    },
    /// An upstream is pinned, or no longer is.
    Pinned {
        /// Its name.
        upstream: String,
        /// `None`: not any more.
        pin: Option<Pin>,
    },
}
