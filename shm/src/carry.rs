//! One region takes the place of another in the same run: what was counted in the one goes on in the
//! other.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::counters;
use crate::error::{Error, ReadError};
use crate::latency;
use crate::layout::counter;
use crate::region::Region;
use crate::scoreboard;
use crate::table::{CounterId, Table};

/// The counter rows of servers in one region, and of the same servers in another.
pub type SameServers = Vec<(CounterId, CounterId)>;

impl Region {
    /// The counter rows of the servers that the present tables of `earlier` and of this region both
    /// have: an upstream's server of the same address, the n-th of them where there are several.
    pub fn same_servers(&self, earlier: &Region) -> Result<SameServers, ReadError> {
        let (old, new) = (earlier.reader()?.table()?, self.reader()?.table()?);
        let known: HashMap<_, _> = identified(&old).collect();
        let same = identified(&new).filter_map(|(name, id)| Some((*known.get(&name)?, id)));
        Ok(same.collect())
    }

    /// Takes over what dead workers counted in `earlier`, which is nought there then. By the master,
    /// which alone writes the rows of the dead.
    pub fn take_counts(&self, earlier: &Region, servers: &SameServers) {
        let (from, to) = (earlier.layout(), self.layout());
        let (source, words) = (earlier.words(), self.words());
        let row = |block: usize, id: CounterId| block + id.index as usize * counter::WORDS;
        for &(old, new) in servers {
            counters::carry(
                (source, row(from.block(from.folded()), old)),
                (words, row(to.block(to.folded()), new)),
                Some(new.incarnation),
            );
        }
        latency::carry(
            (source, from.latency(from.folded())),
            (words, to.latency(to.folded())),
        );
        scoreboard::carry(
            (source, from.row(from.folded())),
            (words, to.row(to.folded())),
        );
    }

    /// Puts the region at another path, in the place of what may be there.
    pub fn rename(&mut self, path: &Path) -> Result<(), Error> {
        fs::rename(self.path(), path).map_err(|source| Error::Io {
            action: "rename()",
            path: path.to_owned(),
            source,
        })?;
        self.set_path(path);
        Ok(())
    }
}

/// A server by what two regions call it alike: upstream, address, and its number among those of the
/// same address there, from 1 on.
pub type Identity = (String, String, usize);

/// Every server by upstream, address and number among those of the same address.
pub(crate) fn identified(table: &Table) -> impl Iterator<Item = (Identity, CounterId)> {
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    table.upstreams.iter().flat_map(move |upstream| {
        let servers = upstream.servers.iter().map(|server| {
            let name = (upstream.name.clone(), server.address.to_string());
            let number = seen.entry(name.clone()).or_default();
            *number += 1;
            ((name.0, name.1, *number), server.counter)
        });
        servers.collect::<Vec<_>>()
    })
}
