//! What an answer says about each target, and how much of it is about them: pure.

use super::{Target, etcd, folders};
use crate::settings::Kind;
use crate::syncer::client::Fault;
use crate::syncer::consul;
use crate::syncer::decode::{self, Decoded, Entry, service};
use crate::syncer::lesson::Heard;
use crate::syncer::response::Response;

/// How much of an answer is about the targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Bytes of the targets' keys and values.
    pub ours: usize,
    /// Bytes of all others.
    pub foreign: usize,
    /// The latest index at which one of the targets' keys changed.
    pub newest: u64,
}

/// The index of an answer, what it says about each target, and how much of it is about them.
pub type Said = Result<(u64, Vec<Heard>, Share), Fault>;

/// What one answer says about each target.
pub fn read(kind: Kind, targets: &[Target], response: &Response) -> Said {
    if !kind.is_consul() {
        let folder = etcd::folder(kind, response)?;
        let (heard, share) = hear_each(targets, folder.entries, false);
        return Ok((folder.index, heard, share));
    }
    let filtered = consul::is_filtered(response);
    let service = |decode: fn(&[u8]) -> Result<Decoded, String>| {
        consul::status(response, &[200])?;
        let decoded = decode(&response.body).map_err(Fault::Invalid)?;
        let heard = Heard {
            filtered,
            ..decoded.into()
        };
        let share = Share {
            ours: response.body.len(),
            foreign: 0,
            newest: consul::index(response)?,
        };
        // The targets of one question about a service are alike.
        Ok((vec![heard; targets.len()], share))
    };
    let (heard, share) = match kind {
        Kind::ConsulServices => service(service::catalog)?,
        Kind::ConsulHealth => service(service::health)?,
        _ => hear_each(targets, consul::entries(response)?, filtered),
    };
    Ok((consul::index(response)?, heard, share))
}

/// What the entries of one answer say about each target.
fn hear_each(
    targets: &[Target],
    mut entries: Vec<Entry<'_>>,
    filtered: bool,
) -> (Vec<Heard>, Share) {
    // One search a target finds its entries, so that many targets do not cost a scan each.
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let all: usize = entries.iter().map(size).sum();
    let mut share = Share::default();
    let hear = |target: &Target| {
        let folder = &target.folder;
        let own = decode::below(folder, &entries, |entry| &entry.key);
        share.ours += own.iter().map(size).sum::<usize>();
        let newest = own.iter().map(|entry| entry.modify_index).max();
        share.newest = share.newest.max(newest.unwrap_or_default());
        if target.upsync.folders {
            return folders::hear(folder, own, filtered);
        }
        Heard {
            filtered,
            ..decode::decode(folder, own).into()
        }
    };
    let heard = targets.iter().map(hear).collect();
    share.foreign = all.saturating_sub(share.ours);
    (heard, share)
}

fn size(entry: &Entry<'_>) -> usize {
    entry.key.len() + entry.value.as_deref().map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Upsync;
    use crate::syncer::book::FeedId;

    fn target(feed: FeedId, prefix: &str) -> Target {
        let upsync = Upsync::folder("127.0.0.1", 8500, prefix);
        Target::new(feed, prefix, &upsync)
    }

    fn entry(key: &str, modify_index: u64) -> Entry<'_> {
        Entry {
            key: key.into(),
            value: Some("e30=".into()),
            modify_index,
        }
    }

    #[test]
    fn an_answer_is_split_by_target_and_what_is_not_theirs_is_weighed() {
        let targets = [target(0, "up/a"), target(1, "up/b"), target(2, "up/none")];
        let entries = vec![
            entry("up/c/10.0.0.9:1", 99),
            entry("up/b/10.0.0.2:1", 7),
            entry("up/a/10.0.0.1:1", 5),
            entry("up/b/bad", 8),
        ];
        let (heard, share) = hear_each(&targets, entries, true);
        let servers = |at: usize| -> Vec<String> {
            let servers = heard[at].servers.iter();
            servers.map(|server| server.address.to_string()).collect()
        };
        assert_eq!(servers(0), ["10.0.0.1:1"]);
        assert_eq!(servers(1), ["10.0.0.2:1"]);
        assert_eq!(heard[1].refused.len(), 1);
        assert!(servers(2).is_empty() && heard.iter().all(|heard| heard.filtered));
        let expected = Share {
            ours: 15 + 15 + 8 + 3 * 4,
            foreign: 15 + 4,
            newest: 8,
        };
        assert_eq!(share, expected);
    }
}
