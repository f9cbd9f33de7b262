//! A lesson: what one answer of a source says about an upstream, or about several. It goes into
//! the table as a whole, under one table version.

use std::sync::Arc;

use weir_shm::Server;

use super::book::FeedId;
use super::decode::{Decoded, Refused};

/// Where a lesson comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The watch's source, for people: address and folder, no secret.
    pub source: Arc<str>,
    /// The index of the answer.
    pub index: u64,
    /// When the answer's last byte was read, in nanoseconds of CLOCK_MONOTONIC.
    pub seen_ns: u64,
}

/// What an answer says about one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// In key order, each address once; none: the source has no server for it. A list that says the
    /// same as the one before it may be the same one.
    pub servers: Arc<[Server]>,
    /// The entries that are none, in key order.
    pub refused: Vec<Refused>,
    /// Of an `upsync_discover`: the folders in it by their names, in lower case.
    pub folders: Vec<(String, Heard)>,
    /// The source says that it left out what the token may not read.
    pub filtered: bool,
}

impl Heard {
    /// Neither a server nor a folder that may have one.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.folders.is_empty()
    }

    /// Not even an entry that was refused.
    pub fn is_nothing(&self) -> bool {
        self.is_empty() && self.refused.is_empty()
    }
}

impl From<Decoded> for Heard {
    fn from(decoded: Decoded) -> Heard {
        Heard {
            servers: decoded.servers.into(),
            refused: decoded.refused,
            ..Heard::default()
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Where it comes from.
    pub origin: Origin,
    /// What it says about each feed.
    pub lists: Vec<(FeedId, Heard)>,
    /// It is what a second read found, after a [`Verdict`] had asked for one.
    pub confirmed: bool,
}

/// What became of a lesson.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It changed the table.
    pub changed: bool,
    /// Feeds whose list was not applied: it is to be read once more, directly, a moment later.
    pub confirm: Vec<FeedId>,
    /// A list waits for somebody to accept it.
    pub held: bool,
}

impl Verdict {
    /// All that the lesson said is in force, or will be as soon as the region has room for it: nobody has
    /// to read or to accept anything.
    pub fn is_settled(&self) -> bool {
        !self.held && self.confirm.is_empty()
    }
}
