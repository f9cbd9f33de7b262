//! Which feeds share a query: Consul does not take a connection for each of hundreds.

use std::collections::HashMap;

use super::book::FeedId;
use crate::settings::Upsync;

/// Feeds of one Consul that get a connection of their own. Consul closes what is beyond 200 from
/// one address (`limits.http_max_conns_per_client`), and others on this machine need some too.
pub const OWN_MAX: usize = 128;

/// One query, and the feeds that its answers are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Where it goes; the prefix may be the parent of the feeds' own.
    pub upsync: Upsync,
    /// At least one.
    pub feeds: Vec<FeedId>,
}

/// The queries for the feeds from `first_new` on, among `all` that there are. A feed has a query
/// of its own, unless there are more than [`OWN_MAX`] of its Consul: then the new ones with the
/// same parent folder share one for that folder. The root of the store is nobody's parent folder:
/// it may hold anything.
pub fn queries(all: &[(FeedId, &Upsync)], first_new: FeedId) -> Vec<Query> {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for (_, upsync) in all {
        *crowd.entry(&upsync.host).or_default() += 1;
    }
    let mut queries = Vec::new();
    let mut families: Vec<(Upsync, Vec<(FeedId, &Upsync)>)> = Vec::new();
    for &(id, upsync) in all.iter().filter(|(id, _)| *id >= first_new) {
        let is_crowded = crowd[upsync.host.as_str()] > OWN_MAX;
        match upsync
            .prefix
            .rsplit_once('/')
            .filter(|_| is_crowded && upsync.kind.has_folders())
        {
            None => queries.push(Query::of_one(id, upsync)),
            Some((parent, _)) => {
                let parent = Upsync {
                    prefix: parent.to_owned(),
                    strong: false,
                    ..upsync.clone()
                };
                match families.iter_mut().find(|(shared, _)| *shared == parent) {
                    Some((_, feeds)) => feeds.push((id, upsync)),
                    None => families.push((parent, vec![(id, upsync)])),
                }
            }
        }
    }
    queries.extend(families.into_iter().map(|(parent, feeds)| match feeds[..] {
        [(id, upsync)] => Query::of_one(id, upsync),
        _ => Query {
            upsync: parent,
            feeds: feeds.into_iter().map(|(id, _)| id).collect(),
        },
    }));
    queries
}

impl Query {
    fn of_one(id: FeedId, upsync: &Upsync) -> Query {
        Query {
            upsync: upsync.clone(),
            feeds: vec![id],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn upsync(prefix: &str, port: u16) -> Upsync {
        Upsync {
            strong: prefix.ends_with('1'),
            ..Upsync::folder("127.0.0.1", port, prefix)
        }
    }

    fn asked(sources: &[Upsync], first_new: FeedId) -> Vec<(String, usize)> {
        let all: Vec<_> = (0..).zip(sources).collect();
        let queries = queries(&all, first_new).into_iter();
        queries
            .map(|query| (query.upsync.prefix, query.feeds.len()))
            .collect()
    }

    fn many(count: usize) -> Vec<Upsync> {
        (0..count).map(|n| upsync(&format!("up/{n}"), 1)).collect()
    }

    #[test]
    fn a_feed_has_its_own_query_up_to_the_limit() {
        let queries = asked(&many(OWN_MAX), 0);
        assert_eq!(queries.len(), OWN_MAX);
        assert_eq!(queries[7], ("up/7".to_owned(), 1));
        assert_eq!(asked(&many(OWN_MAX + 1), 0), [("up".into(), OWN_MAX + 1)]);
    }

    #[test]
    fn only_those_of_a_crowded_consul_with_one_parent_share() {
        let mut sources = many(OWN_MAX + 1);
        sources.push(upsync("up/x", 2));
        sources.push(upsync("root", 1));
        sources.push(upsync("a/b/only", 1));
        let mut slow = upsync("up/slow", 1);
        slow.timeout = Duration::from_secs(1);
        sources.push(slow);
        let expected = ["up/x", "root", "up", "a/b/only", "up/slow"];
        let sizes = [1, 1, OWN_MAX + 1, 1, 1];
        let expected: Vec<_> = expected.map(str::to_owned).into_iter().zip(sizes).collect();
        assert_eq!(asked(&sources, 0), expected);
    }

    #[test]
    fn feeds_that_have_a_query_already_keep_it() {
        let sources = many(OWN_MAX + 3);
        let old = OWN_MAX as FeedId;
        assert_eq!(asked(&sources, old), [("up".into(), 3)]);
        assert_eq!(asked(&sources, old + 2), [("up/130".into(), 1)]);
        assert_eq!(asked(&sources, old + 3), []);
    }
}
