//! The clients of all `resolver` directives in use.

use std::sync::Arc;

use super::{Client, Lookup, Outcome, Protocol, Random};
use crate::connection::Key;
use crate::settings;

/// A client for each distinct `resolver` that was needed so far.
#[derive(Debug)]
pub struct Clients<W> {
    /// A place stays with its client for as long as that lives.
    clients: Vec<Option<Client<W>>>,
    random: Random,
}

impl<W> Default for Clients<W> {
    fn default() -> Self {
        Self {
            clients: Vec::new(),
            random: Random::default(),
        }
    }
}

impl<W: Copy + PartialEq> Clients<W> {
    /// No name was asked for yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// As [`Client::look_up`], of the client with these settings.
    pub fn look_up(
        &mut self,
        settings: &Arc<settings::Resolver>,
        name: &str,
        who: W,
        now_ms: u64,
    ) -> Lookup {
        let at = self.find(settings).unwrap_or_else(|| self.add(settings));
        let random = &mut self.random;
        match &mut self.clients[at] {
            Some(client) => client.look_up(name, who, now_ms, || random.number()),
            None => Lookup::Waiting,
        }
    }

    /// As [`Client::forget`].
    pub fn forget(&mut self, settings: &Arc<settings::Resolver>, name: &str, who: W) {
        if let Some(at) = self.find(settings)
            && let Some(client) = &mut self.clients[at]
        {
            client.forget(name, who);
        }
    }

    fn find(&self, settings: &Arc<settings::Resolver>) -> Option<usize> {
        self.clients.iter().position(|client| {
            let client = client.as_ref();
            client.is_some_and(|client| {
                Arc::ptr_eq(client.settings(), settings) || client.settings() == settings
            })
        })
    }

    fn add(&mut self, settings: &Arc<settings::Resolver>) -> usize {
        let client = Some(Client::new(Arc::clone(settings)));
        match self.clients.iter().position(Option::is_none) {
            Some(free) => {
                self.clients[free] = client;
                free
            }
            None => {
                self.clients.push(client);
                self.clients.len() - 1
            }
        }
    }

    /// The configuration is another one: forgets every client that has nothing to do, and what its
    /// cache holds.
    pub fn renew(&mut self) {
        for client in &mut self.clients {
            if client.as_ref().is_some_and(Client::is_idle) {
                *client = None;
            }
        }
        while self.clients.last().is_some_and(Option::is_none) {
            self.clients.pop();
        }
    }

    /// The next who need wait no longer.
    pub fn next_outcome(&mut self) -> Option<Outcome<W>> {
        self.each().find_map(|(_, client)| client.next_outcome())
    }

    /// When [`Clients::expire`] has something to do next, in milliseconds.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        let clients = self.clients.iter().flatten();
        clients.filter_map(Client::next_ms).min()
    }

    /// As [`Client::expire`].
    pub fn expire(&mut self, now_ms: u64) {
        self.each().for_each(|(_, client)| client.expire(now_ms));
    }

    /// As [`Client::receive`], of the client at this place.
    pub(super) fn receive(
        &mut self,
        at: usize,
        lookup: Key,
        over: Protocol,
        bytes: &[u8],
        now_ms: u64,
    ) {
        let random = &mut self.random;
        if let Some(Some(client)) = self.clients.get_mut(at) {
            client.receive(lookup, over, bytes, now_ms, || random.number());
        }
    }

    /// The client at this place.
    pub(super) fn at(&mut self, at: usize) -> Option<&mut Client<W>> {
        self.clients.get_mut(at)?.as_mut()
    }

    /// Each client and its place.
    pub(super) fn each(&mut self) -> impl Iterator<Item = (usize, &mut Client<W>)> {
        let clients = self.clients.iter_mut().enumerate();
        clients.filter_map(|(at, client)| Some((at, client.as_mut()?)))
    }
}
