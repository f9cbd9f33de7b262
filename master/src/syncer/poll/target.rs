//! What a poller asks for.

use super::super::book::FeedId;
use super::super::consul;
use crate::settings::Upsync;

/// An upstream whose servers a poller learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose list it is.
    pub feed: FeedId,
    /// Its name, for the log.
    pub upstream: String,
    /// Its own source, whatever folder it is asked for with.
    pub upsync: Upsync,
    /// Where its keys lie, decoded.
    pub(super) folder: String,
}

impl Target {
    /// An upstream with keys below `upsync.prefix`.
    pub fn new(feed: FeedId, upstream: &str, upsync: &Upsync) -> Target {
        Target {
            feed,
            upstream: upstream.to_owned(),
            folder: consul::folder(&upsync.prefix),
            upsync: upsync.clone(),
        }
    }
}
