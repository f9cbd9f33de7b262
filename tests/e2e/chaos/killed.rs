//! What a worker has at the moment of its death, and which failures that explains.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use super::clients::Failed;
use crate::support::process::send;
use crate::support::{PATIENCE, wait_until};
use nix::sys::signal::Signal;

/// A worker that was stopped, looked at and killed.
#[derive(Clone, Debug)]
pub struct Killed {
    pub pid: u32,
    /// It was stopped already, and not yet looked at.
    pub looked: Instant,
    /// All its connections are closed.
    pub dead: Instant,
    /// Its connections, by the clients' ports.
    pub connections: BTreeSet<u16>,
    /// Those with bytes in the kernel that it has not read.
    pub unread: BTreeSet<u16>,
    /// The requests in flight, as its row in the region says. Unknown where it was stopped at work:
    /// the row is of the last time that it waited for events.
    pub in_flight: Option<usize>,
}

impl Killed {
    /// Looks at a worker that stands still, and kills it. `in_flight` is its row's number.
    pub fn kill(pid: u32, ports: &[u16], in_flight: Option<usize>) -> Killed {
        let looked = Instant::now();
        let (connections, unread) = connections(pid, ports);
        send(pid, Signal::SIGKILL);
        wait_until(PATIENCE, "a killed worker is dead", || {
            !crate::support::process::alive(pid)
        });
        Killed {
            pid,
            looked,
            dead: Instant::now(),
            connections,
            unread,
            in_flight,
        }
    }

    /// Whether it was this one's connection, and nothing was asked on it after its death.
    fn explains(&self, failed: &Failed) -> bool {
        failed
            .port
            .is_some_and(|port| self.connections.contains(&port))
            && failed.opened < self.looked
            && failed.at > self.looked
            && failed.asked.is_none_or(|asked| asked.begun < self.dead)
    }

    /// Requests that it had read when it died. What the row says is no bound for all that fails:
    /// a request that the kernel has and the worker has not read, and one that is sent while it
    /// dies, cannot be in the row.
    fn read(&self, failed: &[&Failed]) -> usize {
        let was_read = |failed: &&&Failed| {
            let sent_before = failed.asked.is_some_and(|asked| asked.sent < self.looked);
            sent_before && !failed.port.is_some_and(|port| self.unread.contains(&port))
        };
        failed.iter().filter(was_read).count()
    }

    /// One line for a report.
    pub fn told(&self, failed: &[Failed]) -> String {
        let its: Vec<&Failed> = failed.iter().filter(|one| self.explains(one)).collect();
        let idle = its.iter().filter(|one| one.asked.is_none()).count();
        let read = self.read(&its);
        let row = match self.in_flight {
            Some(number) => format!("row: {number} in flight"),
            None => "at work".to_owned(),
        };
        format!(
            "worker {} killed with {} connections, {} of them unread, {row}: {idle} closed idle; failed: {read} read, {} unread or sent meanwhile",
            self.pid,
            self.connections.len(),
            self.unread.len(),
            its.len() - idle - read
        )
    }
}

/// Failures that no killed worker explains, and workers on whose account more requests have failed
/// than their rows said.
pub fn unexplained(failed: &[Failed], killed: &[Killed]) -> Vec<String> {
    let explained = |one: &&Failed| killed.iter().any(|killed| killed.explains(one));
    let bad = failed.iter().filter(|one| !explained(one));
    let mut bad: Vec<String> = bad.map(Failed::to_string).collect();
    for one in killed {
        let its: Vec<&Failed> = failed
            .iter()
            .filter(|failed| one.explains(failed))
            .collect();
        if one.in_flight.is_some_and(|row| one.read(&its) > row) {
            bad.push(format!("more than in flight: {}", one.told(failed)));
            bad.extend(its.into_iter().map(Failed::to_string));
        }
    }
    bad
}

/// The connections of a process at these local ports, by the other side's, and which of them have
/// bytes that are not read.
pub fn connections(pid: u32, ports: &[u16]) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let folder = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = folder.into_iter().flatten().flatten();
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes: BTreeSet<String> = links
        .filter_map(|link| {
            let inode = link
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .to_owned();
            Some(inode)
        })
        .collect();
    let (mut all, mut unread) = (BTreeSet::new(), BTreeSet::new());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    for line in table.lines().skip(1) {
        // sl local remote state tx:rx timer retransmits uid timeout inode
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |word: &str| u16::from_str_radix(word.rsplit(':').next()?, 16).ok();
        let (Some(local), Some(remote)) = (port(words[1]), port(words[2])) else {
            continue;
        };
        if remote == 0 || !ports.contains(&local) || !inodes.contains(words[9]) {
            continue;
        }
        all.insert(remote);
        if !words[4].ends_with(":00000000") {
            unread.insert(remote);
        }
    }
    (all, unread)
}
