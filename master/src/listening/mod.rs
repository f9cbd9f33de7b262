//! The listening sockets. The master owns every one for as long as its address is configured:
//! Linux resets what waits in the queue of a SO_REUSEPORT socket that is closed for good.
//!
//! A TCP address has one socket in each *set*, and a running worker serves one set or more; a unix
//! address has one socket that all workers share, and so has one that a service manager passed in.

mod bind;
mod options;
mod passed;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use socket2::Socket;
use weir_shm::Address;

use crate::errno::describe;
use crate::settings::ListenSocket;

use bind::{BindError, bind, overlap, probe, remove_unix};
pub(crate) use bind::{remove_dead, test, wait_until_free};
pub(crate) use passed::{Passed, address_of, claim, for_addresses};

/// One set of TCP sockets, or all unix sockets: an address and its socket.
pub(crate) type Set = Vec<(Address, Socket)>;

/// All listening sockets.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    configured: Vec<ListenSocket>,
    sets: Vec<Set>,
    shared: Set,
    /// Those of a service manager that are or were in use: it keeps them too, so that no other can be
    /// bound to their addresses, and the files of unix sockets are its own.
    passed: Set,
    /// Where another master, older or newer, listens too: files of its unix sockets stay.
    elsewhere: Vec<Address>,
}

/// Sockets for addresses that a reload adds; bound, not listening yet.
#[derive(Debug, Default)]
pub(crate) struct Added {
    sets: Vec<Set>,
    shared: Set,
    /// Copies of a service manager's.
    passed: Set,
}

impl Listening {
    /// Takes over sockets of another master, those of `configured` addresses, and knows those that a
    /// service manager has `passed` in; then the others of
    /// them are [`missing`](Listening::missing). There are as many sets as the other one has: one
    /// more would be closed if this one ended first, with all that waits in it. Without any, there
    /// are `sets`.
    pub(crate) fn take(
        configured: &[ListenSocket],
        sets: usize,
        inherited: Set,
        passed: Set,
    ) -> Listening {
        let mut all = Listening {
            passed,
            ..Listening::default()
        };
        for (address, socket) in inherited {
            all.elsewhere.push(address.clone());
            if !configured.iter().any(|listen| listen.address == address) {
                continue;
            }
            if let Address::Unix(_) = address {
                all.shared.push((address, socket));
                continue;
            }
            let has = |set: &Set| set.iter().any(|(other, _)| *other == address);
            match all.sets.iter_mut().find(|set| !has(set)) {
                Some(set) => set.push((address, socket)),
                None => all.sets.push(vec![(address, socket)]),
            }
        }
        if all.sets.is_empty() {
            all.sets.resize_with(sets, Vec::new);
        }
        let taken = |listen: &&ListenSocket| all.addresses().any(|had| *had == listen.address);
        all.configured = configured.iter().filter(taken).cloned().collect();
        all
    }

    /// Those of `configured` that are not there yet.
    pub(crate) fn missing(&self, configured: &[ListenSocket]) -> Vec<ListenSocket> {
        let missing = configured
            .iter()
            .filter(|listen| !self.has(&listen.address));
        missing.cloned().collect()
    }

    /// Those of them that have to be free to be bound: an address beside a wildcard of ours, or the
    /// wildcard beside it, only looks in use.
    pub(crate) fn to_probe(&self, missing: &[ListenSocket]) -> Vec<ListenSocket> {
        let configured = self.configured.iter().map(|listen| &listen.address);
        let ours: Vec<&Address> = configured.chain(&self.elsewhere).collect();
        let probed = missing
            .iter()
            .filter(|listen| !ours.iter().any(|ours| overlap(ours, &listen.address)))
            .filter(|listen| !self.is_passed(&listen.address));
        probed.cloned().collect()
    }

    /// Binds what is missing; nothing of it listens yet.
    ///
    /// # Errors
    /// nginx's `bind() to ADDRESS failed (…)`.
    pub(crate) fn complete(&mut self, configured: &[ListenSocket]) -> Result<(), String> {
        let missing = self.missing(configured);
        let added = self.add(&missing).map_err(|error| error.text)?;
        self.commit(configured, added);
        Ok(())
    }

    /// Every socket of weir's own.
    pub(crate) fn own_sockets(&self) -> impl Iterator<Item = &Socket> {
        let all = self.sets.iter().chain([&self.shared]).flatten();
        all.filter(|(address, _)| !self.is_passed(address))
            .map(|(_, socket)| socket)
    }

    /// Every socket of the service manager's.
    pub(crate) fn passed_sockets(&self) -> impl Iterator<Item = &Socket> {
        self.passed.iter().map(|(_, socket)| socket)
    }

    fn addresses(&self) -> impl Iterator<Item = &Address> {
        let all = self.sets.iter().chain([&self.shared]).flatten();
        all.map(|(address, _)| address)
    }

    /// Another master is to listen on everything here too.
    pub(crate) fn share(&mut self) {
        self.elsewhere = self.addresses().cloned().collect();
        self.elsewhere.sort();
        self.elsewhere.dedup();
    }

    /// The other master is gone.
    pub(crate) fn own(&mut self) {
        self.elsewhere.clear();
    }

    /// Binds the addresses of `next` that are not configured yet.
    ///
    /// # Errors
    /// nginx's `bind() to ADDRESS failed (…)`.
    pub(crate) fn prepare(&self, next: &[ListenSocket]) -> Result<Added, String> {
        let new = self.missing(next);
        self.to_probe(&new)
            .iter()
            .try_for_each(probe)
            .and_then(|()| self.add(&new))
            .map_err(|error| error.text)
    }

    fn add(&self, new: &[ListenSocket]) -> Result<Added, BindError> {
        let is_new = |socket: &&ListenSocket| !self.is_passed(&socket.address);
        let (unix, tcp): (Vec<_>, Vec<_>) = new
            .iter()
            .filter(is_new)
            .partition(|socket| matches!(socket.address, Address::Unix(_)));
        let bind_one = |socket: &ListenSocket| Ok((socket.address.clone(), bind(socket, true)?));
        let bind_tcp = |_| tcp.iter().copied().map(bind_one).collect();
        let mut added = Added {
            sets: (0..self.sets.len())
                .map(bind_tcp)
                .collect::<Result<_, _>>()?,
            shared: Vec::new(),
            passed: self.copies(new)?,
        };
        for socket in unix {
            match bind_one(socket) {
                Ok(bound) => added.shared.push(bound),
                Err(error) => {
                    added.abandon();
                    return Err(error);
                }
            }
        }
        Ok(added)
    }

    /// Takes the sockets of `added` in, and closes those whose address `next` has no more.
    pub(crate) fn commit(&mut self, next: &[ListenSocket], added: Added) {
        for (set, new) in self.sets.iter_mut().zip(added.sets) {
            set.extend(new);
        }
        self.shared.extend(added.shared);
        self.shared.extend(added.passed);
        self.configured = next.to_vec();
        let configured = &self.configured;
        let stays = |address: &Address| configured.iter().any(|socket| socket.address == *address);
        for set in &mut self.sets {
            set.retain(|(address, _)| stays(address));
        }
        let passed = &self.passed;
        for (address, _) in self.shared.extract_if(.., |(address, _)| !stays(address)) {
            if !has(passed, &address) && !self.elsewhere.contains(&address) {
                remove_unix(&address);
            }
        }
    }

    /// Lets every socket listen; those that do so already get the backlog and the options of now.
    /// Returns what was not to be had and does not matter so much: nginx's
    /// `setsockopt(…) ADDRESS failed, ignored (…)`.
    ///
    /// # Errors
    /// nginx's `listen() to ADDRESS, backlog N failed (…)`.
    pub(crate) fn listen(&self) -> Result<Vec<String>, String> {
        listen(self.sets.iter().chain([&self.shared]), &self.configured)
    }

    /// Lets sockets listen that are not in force yet.
    ///
    /// # Errors
    /// As [`Listening::listen`].
    pub(crate) fn listen_added(&self, added: &Added, next: &[ListenSocket]) -> Result<(), String> {
        // Their options are set, and told of, once more with all the others'.
        let all = added.sets.iter().chain([&added.shared, &added.passed]);
        listen(all, next).map(drop)
    }

    /// How many sets there are.
    pub(crate) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Makes one more set, listening.
    ///
    /// # Errors
    /// As binding and listening.
    pub(crate) fn grow(&mut self) -> Result<usize, String> {
        let tcp = self
            .configured
            .iter()
            .filter(|socket| matches!(socket.address, Address::Ip(_)))
            .filter(|socket| !self.is_passed(&socket.address));
        let set: Set = tcp
            .map(|socket| Ok((socket.address.clone(), bind(socket, true)?)))
            .collect::<Result<_, BindError>>()
            .map_err(|error| error.text)?;
        // What is ignored here was when the other sets were made.
        listen([&set], &self.configured)?;
        self.sets.push(set);
        Ok(self.sets.len() - 1)
    }

    /// The sets for the worker number `index` of `count`: each has one who serves it, and if there
    /// are too few, several serve the same.
    pub(crate) fn share_of(&self, index: usize, count: usize) -> Vec<usize> {
        let sets = self.sets();
        match index < sets {
            true => (index..sets).step_by(count.max(1)).collect(),
            false => vec![index % sets.max(1)],
        }
    }

    /// The sockets of one set.
    pub(crate) fn set(&self, index: usize) -> &Set {
        &self.sets[index]
    }

    /// Descriptors of their own for a worker that serves `sets`.
    ///
    /// # Errors
    /// As `dup`.
    pub(crate) fn duplicate(&self, sets: &[usize]) -> io::Result<Vec<(Address, OwnedFd)>> {
        sets.iter()
            .flat_map(|&index| &self.sets[index])
            .chain(&self.shared)
            .map(|(address, socket)| Ok((address.clone(), socket.as_fd().try_clone_to_owned()?)))
            .collect()
    }

    /// Closes everything, and removes the files of unix sockets that are weir's own and that no other
    /// master has.
    pub(crate) fn close(&mut self) {
        for (address, _) in &self.shared {
            if !self.is_passed(address) && !self.elsewhere.contains(address) {
                remove_unix(address);
            }
        }
        *self = Listening::default();
    }

    fn is_passed(&self, address: &Address) -> bool {
        has(&self.passed, address)
    }

    /// The passed sockets of `new` addresses once more; all of them where there are several.
    fn copies(&self, new: &[ListenSocket]) -> Result<Set, BindError> {
        let named = |address: &Address| new.iter().any(|socket| socket.address == *address);
        let passed = self.passed.iter().filter(|(address, _)| named(address));
        passed
            .map(|(address, socket)| match socket.try_clone() {
                Ok(copy) => Ok((address.clone(), copy)),
                Err(error) => Err(BindError::new(address, &error)),
            })
            .collect()
    }

    fn has(&self, address: &Address) -> bool {
        self.configured
            .iter()
            .any(|socket| socket.address == *address)
    }
}

impl Added {
    /// What a worker that serves `sets` has to be given.
    pub(crate) fn of_sets(&self, sets: &[usize]) -> Vec<&(Address, Socket)> {
        let sets = sets.iter().filter_map(|&index| self.sets.get(index));
        let shared = self.shared.iter().chain(&self.passed);
        sets.flatten().chain(shared).collect()
    }

    /// Undoes what binding left in the file system.
    pub(crate) fn abandon(self) {
        for (address, _) in &self.shared {
            remove_unix(address);
        }
    }
}

fn has(set: &Set, address: &Address) -> bool {
    set.iter().any(|(other, _)| other == address)
}

/// Sets the options of sockets and lets them listen.
fn listen<'a>(
    sets: impl IntoIterator<Item = &'a Set>,
    configured: &[ListenSocket],
) -> Result<Vec<String>, String> {
    let mut ignored = Vec::new();
    for (address, socket) in sets.into_iter().flatten() {
        let mut all = configured.iter();
        let Some(listen) = all.find(|listen| listen.address == *address) else {
            continue;
        };
        options::set(socket, listen, &mut ignored);
        let backlog = listen.backlog;
        socket.listen(backlog).map_err(|error| {
            let error = describe(&error);
            format!("listen() to {address}, backlog {backlog} failed {error}")
        })?;
    }
    // The sets of several workers all have the same to tell.
    ignored.sort_unstable();
    ignored.dedup();
    Ok(ignored)
}
