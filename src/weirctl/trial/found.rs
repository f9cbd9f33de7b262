//! What entries do to upstreams that `upsync_discover` finds, by the syncer's own reading of a prefix.

use weir_master::syncer::decode::{Decoded, Entry, Refused, below};
use weir_master::syncer::poll::folders;
use weir_master::syncer::recorder::report::DiscoverStatus;
use weir_shm::{Table, Upstream};

use super::{Trial, Tried, decoded};

/// Adds what the folders below a prefix come to.
pub fn find(trial: &mut Trial, table: &Table, discover: &DiscoverStatus, entries: &[Entry<'_>]) {
    let prefix = decoded(&discover.prefix);
    let heard = folders::hear(&prefix, below(&prefix, entries, |entry| &entry.key), false);
    let mut shown: Vec<String> = Vec::new();
    for (name, own) in heard.folders {
        shown.extend(own.refused.iter().map(|entry| entry.key.clone()));
        let mut all = table.upstreams.iter();
        let known = all.find(|upstream| upstream.name.eq_ignore_ascii_case(&name));
        if let Some(why) = known.and_then(|known| taken(known, discover)) {
            // An upstream of the configuration may have this very folder.
            let is_tried = |tried: &Tried| tried.before.name.eq_ignore_ascii_case(&name);
            if !trial.tried.iter().any(is_tried) {
                trial.refused.push(Refused {
                    key: format!("{prefix}/{name}/"),
                    modify_index: 0,
                    reason: why.to_owned(),
                });
            }
            continue;
        }
        let decoded = Decoded {
            servers: own.servers.to_vec(),
            refused: own.refused,
        };
        trial.tried.push(match known {
            Some(known) => Tried::new(known, decoded, trial.whole),
            None => Tried::found(&name, &discover.template, decoded),
        });
    }
    let rest = heard.refused.into_iter();
    trial
        .refused
        .extend(rest.filter(|entry| !shown.contains(&entry.key)));
}

/// Whether a key lies in a folder below the prefix.
pub fn is_below(discover: &DiscoverStatus, key: &str) -> bool {
    let rest = key.strip_prefix(&decoded(&discover.prefix));
    let rest = rest.and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|rest| rest.contains('/'))
}

/// Why a folder is no upstream, as the syncer says it.
fn taken(known: &Upstream, discover: &DiscoverStatus) -> Option<&'static str> {
    match known.template.as_deref() {
        None => Some("the configuration has an upstream of this name"),
        Some(template) if *template != *discover.template => {
            Some("there is a folder of this name below another prefix")
        }
        Some(_) => None,
    }
}
