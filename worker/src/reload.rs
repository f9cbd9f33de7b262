//! New settings in a running worker, in two phases; and what else the master orders.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use weir_shm::Address;

use crate::channel::{Answer, Order, Role, cut};
use crate::conf::Conf;
use crate::cycle::Cycle;
use crate::log::cache::Cache;
use crate::log::{Files, panics_to};
use crate::settings::{Level, Settings};

type Build = fn(&str) -> Result<Settings, String>;

/// What has come of the next generation.
pub(crate) struct Reload {
    build: Build,
    /// Descriptors of an order whose last packet has not come.
    partial: Vec<(Role, OwnedFd)>,
    prepared: Option<Prepared>,
}

/// A generation that can take effect.
struct Prepared {
    generation: u64,
    settings: Settings,
    logs: Vec<File>,
    listeners: Vec<(Address, OwnedFd)>,
}

impl Reload {
    pub fn new(build: Build) -> Self {
        Self {
            build,
            partial: Vec::new(),
            prepared: None,
        }
    }

    fn prepare(&self, generation: u64, passed: Vec<(Role, OwnedFd)>) -> Result<Prepared, String> {
        let mut text = None;
        let mut logs: Vec<Option<File>> = Vec::new();
        let mut named = Vec::new();
        for (role, descriptor) in passed {
            match role {
                Role::Text => text = Some(File::from(descriptor)),
                Role::Listener(name) => named.push((name, descriptor)),
                Role::Resource(id) => {
                    if id >= logs.len() {
                        logs.resize_with(id + 1, || None);
                    }
                    logs[id] = Some(File::from(descriptor));
                }
                Role::Private(_) => {}
            }
        }
        let text = text.ok_or("no configuration came with the order")?;
        let text = read_text(text).map_err(|error| format!("read() failed: {error}"))?;
        let settings = (self.build)(&text)?;
        let logs: Option<Vec<File>> = logs.into_iter().collect();
        let logs = logs.ok_or("a log file did not come with the order")?;
        let listeners = named
            .into_iter()
            .map(|(name, socket)| {
                let known = settings.listeners.iter().map(|listener| &listener.address);
                let mut same = known.filter(|address| address.to_string() == name);
                let address = same.next().cloned();
                let address =
                    address.ok_or_else(|| format!("no listener has the address {name}"))?;
                Ok((address, socket))
            })
            .collect::<Result<_, String>>()?;
        Ok(Prepared {
            generation,
            settings,
            logs,
            listeners,
        })
    }
}

impl Cycle {
    /// Takes the master's orders; its end of the channel is its own end, and ours.
    pub(crate) fn hear(&mut self) {
        loop {
            match self.channel.receive::<Order>() {
                Ok(Some((order, Some(descriptors)))) => self.obey(order, descriptors),
                Ok(Some((order, None))) => self.unread(Some(order), &cut()),
                Ok(None) => {
                    self.watcher.forget(&self.channel);
                    return self.begin_quit();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.unread(None, &error);
                }
                Err(error) => return self.tell_recv(&error),
            }
        }
    }

    /// An order was cut: the master has to know which.
    fn unread(&mut self, order: Option<Order>, error: &io::Error) {
        self.tell_recv(error);
        self.reload.partial.clear();
        if let Some(Order::Help { slot, .. }) = order {
            // Those of before may be no neighbour's any more.
            self.listeners.help(slot, Vec::new());
        }
        let message = error.to_string();
        self.answer(&Answer::Unread { order, message });
    }

    fn tell_recv(&self, error: &io::Error) {
        let log = self.proxy.shared.log();
        log.log(
            Level::Alert,
            format_args!("recvmsg() failed ({})", crate::proxy::errno(error)),
        );
    }

    fn obey(&mut self, order: Order, descriptors: Vec<OwnedFd>) {
        match order {
            Order::Prepare {
                generation,
                descriptors: roles,
                more,
            } => {
                if let Some(passed) = self.gather(roles, descriptors, more) {
                    self.prepare(generation, passed);
                }
            }
            Order::Commit { generation } => self.commit(generation),
            Order::Abort { .. } => {
                self.reload.prepared = None;
                self.reload.partial.clear();
            }
            Order::Reopen {
                generation,
                descriptors: roles,
                more,
            } => {
                let passed = self.gather(roles, descriptors, more);
                // In another generation the numbers are other logs'.
                let is_own = generation == self.proxy.shared.conf.generation;
                for (role, descriptor) in passed.into_iter().flatten() {
                    if let Role::Resource(id) = role
                        && is_own
                    {
                        let files = &self.proxy.shared.conf.files;
                        self.log_lost(files.replace(id, File::from(descriptor)));
                    }
                }
                let caches = &self.proxy.shared.conf.log_caches;
                caches.borrow_mut().iter_mut().for_each(Cache::clear);
            }
            Order::Adopt {
                descriptors: roles,
                more,
            } => {
                let passed = self.gather(roles, descriptors, more);
                for (role, descriptor) in passed.into_iter().flatten() {
                    if let Role::Listener(name) = role {
                        self.adopt(&name, descriptor);
                    }
                }
            }
            Order::Help {
                slot,
                descriptors: roles,
                more,
            } => {
                if let Some(passed) = self.gather(roles, descriptors, more) {
                    self.listeners.help(slot, passed);
                }
            }
            // The syncer's.
            Order::Command { .. } => {}
            Order::Quit => self.begin_quit(),
        }
    }

    /// All descriptors of an order, once its last packet is there.
    fn gather(
        &mut self,
        roles: Vec<Role>,
        descriptors: Vec<OwnedFd>,
        more: bool,
    ) -> Option<Vec<(Role, OwnedFd)>> {
        let partial = &mut self.reload.partial;
        partial.extend(roles.into_iter().zip(descriptors));
        (!more).then(|| std::mem::take(partial))
    }

    fn prepare(&mut self, generation: u64, passed: Vec<(Role, OwnedFd)>) {
        let answer = match self.reload.prepare(generation, passed) {
            Ok(prepared) => {
                self.reload.prepared = Some(prepared);
                Answer::Prepared { generation }
            }
            Err(message) => {
                self.reload.prepared = None;
                Answer::Refused {
                    generation,
                    message,
                }
            }
        };
        self.answer(&answer);
    }

    /// The prepared generation serves from the next request on; those in flight keep theirs.
    fn commit(&mut self, generation: u64) {
        let prepared = self.reload.prepared.take();
        let Some(prepared) = prepared.filter(|prepared| prepared.generation == generation) else {
            let log = self.proxy.shared.log();
            log.log(
                Level::Alert,
                format_args!(
                    "config generation {generation} was to be committed, which is not prepared"
                ),
            );
            return;
        };
        self.catch_up();
        let old = &self.proxy.shared.conf.files;
        let names = &prepared.settings.logs.files;
        let (files, lost) = Files::succeed(old, prepared.logs, names);
        self.log_lost(lost);
        let mut conf = Conf::new(prepared.settings, generation, Arc::new(files), &[]);
        let mut gone = Vec::new();
        for (number, address) in self.listeners.addresses().into_iter().enumerate() {
            let Some(address) = address else { continue };
            let number = number as u32;
            if conf.has_listener(&address) {
                conf.add_socket(number, &address);
            } else {
                gone.push(number);
            }
        }
        self.listeners
            .stop_helping(|address| !conf.has_listener(address));
        let conf_of_sockets = &mut conf;
        for (address, socket) in prepared.listeners {
            listen(self, conf_of_sockets, address, socket);
        }
        self.proxy.set_conf(Rc::new(conf));
        panics_to(Some(self.proxy.shared.log()));
        for number in gone {
            self.listeners.remove(number, &self.watcher);
            self.proxy.close_listener(number);
        }
        self.limit();
        let row = self.proxy.shared.region.scoreboard();
        row.set_generation(generation);
        self.answer(&Answer::Committed { generation });
    }

    /// Accepts from a retired worker's socket too.
    fn adopt(&mut self, name: &str, socket: OwnedFd) {
        let conf = &self.proxy.shared.conf;
        let mut known = conf
            .settings
            .listeners
            .iter()
            .map(|listener| &listener.address);
        let Some(address) = known.find(|address| address.to_string() == name).cloned() else {
            return;
        };
        let mut conf = Conf::new(
            conf.settings.clone(),
            conf.generation,
            Arc::clone(&conf.files),
            &self.listeners.addresses(),
        );
        listen(self, &mut conf, address, socket);
        self.proxy.set_conf(Rc::new(conf));
    }
}

/// Accepts from one more socket.
fn listen(cycle: &mut Cycle, conf: &mut Conf, address: Address, socket: OwnedFd) {
    let (nodelay, is_open) = (conf.nodelay(&address), cycle.accepting.is_open());
    match cycle
        .listeners
        .add(address.clone(), socket, nodelay, is_open, &cycle.watcher)
    {
        Ok(number) => conf.add_socket(number, &address),
        Err(error) => cycle.proxy.shared.log().log(
            Level::Alert,
            format_args!("no connection is accepted at {address}: {error}"),
        ),
    }
}

fn read_text(mut file: File) -> io::Result<String> {
    let mut text = String::new();
    // Every worker reads the same open file.
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
