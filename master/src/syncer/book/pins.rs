//! Pins: upstreams that keep a content whatever is learned meanwhile.

use std::collections::BTreeMap;

use weir_shm::{Server, Table, Upstream};

use super::{Book, Slot};

/// What an upstream is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The table version whose content it is.
    pub version: u64,
    /// The servers, in the table's order.
    pub servers: Vec<Server>,
    /// They were learned; else they are configured.
    pub learned: bool,
}

/// The pins by upstream.
pub type Pins = BTreeMap<String, Pin>;

impl Book {
    /// The pins in force.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The pins of an earlier life, by upstream and the version whose content it has: `table` is the
    /// last that was in force, which shows that content.
    pub fn pin_again<'a>(&mut self, table: &Table, pins: impl Iterator<Item = (&'a str, u64)>) {
        let shown = |name: &str| table.upstreams.iter().find(|u| u.name == name);
        let pins = pins.filter_map(|(name, version)| {
            let shown = shown(name)?;
            let pin = Pin {
                version,
                servers: shown.servers.clone(),
                learned: shown.learned,
            };
            Some((name.to_owned(), pin))
        });
        self.set_pins(pins.collect());
    }

    /// Puts pins in force in the place of all that there are.
    pub fn set_pins(&mut self, pins: Pins) {
        self.pins = pins;
        self.drop_pins();
    }

    /// Pins an upstream, or all that are fed, to what they have in table `version`, the one in
    /// force. What is pinned already stays as it is. Returns the names of those that were not.
    ///
    /// # Errors
    /// No upstream of this name has servers that change.
    pub fn pin(&mut self, upstream: Option<&str>, version: u64) -> Result<Vec<String>, String> {
        let slots = match upstream {
            Some(name) => vec![self.fed(name)?],
            None => self.all_fed().collect(),
        };
        let free = slots.into_iter();
        let free = free.filter(|slot| !self.pins.contains_key(&slot.name));
        let pins: Vec<(String, Pin)> = free
            .map(|slot| {
                let now = self.upstream(slot);
                let pin = Pin {
                    version,
                    servers: now.servers,
                    learned: now.learned,
                };
                (now.name, pin)
            })
            .collect();
        let names = pins.iter().map(|(name, _)| name.clone()).collect();
        self.pins.extend(pins);
        Ok(names)
    }

    /// Lets an upstream, or all, follow what is learned again. Returns the names of those that
    /// were pinned. What was discovered and is gone goes.
    ///
    /// # Errors
    /// The upstream is not pinned.
    pub fn unpin(&mut self, upstream: Option<&str>) -> Result<Vec<String>, String> {
        let names = match upstream {
            None => std::mem::take(&mut self.pins).into_keys().collect(),
            Some(name) if self.pins.remove(name).is_some() => vec![name.to_owned()],
            Some(name) => return Err(format!("upstream \"{name}\" is not pinned")),
        };
        self.lose_unpinned();
        Ok(names)
    }

    /// Pins every upstream that is fed and that table `version` had to what it had there. Returns
    /// their names.
    ///
    /// # Errors
    /// There is none.
    pub fn rollback(&mut self, version: u64, content: &[Upstream]) -> Result<Vec<String>, String> {
        let fed: Vec<&str> = self.all_fed().map(|slot| slot.name.as_str()).collect();
        let old = content
            .iter()
            .filter(|old| fed.contains(&old.name.as_str()));
        let pins: Vec<(String, Pin)> = old
            .map(|old| {
                let pin = Pin {
                    version,
                    servers: old.servers.clone(),
                    learned: old.learned,
                };
                (old.name.clone(), pin)
            })
            .collect();
        if pins.is_empty() {
            return Err(format!(
                "table version {version} has no upstream whose servers change"
            ));
        }
        let names = pins.iter().map(|(name, _)| name.clone()).collect();
        self.pins.extend(pins);
        Ok(names)
    }

    /// Forgets the pins of upstreams that are no more, or that nothing feeds.
    pub(super) fn drop_pins(&mut self) {
        let mut pins = std::mem::take(&mut self.pins);
        pins.retain(|name, _| self.fed(name).is_ok());
        self.pins = pins;
    }

    /// Their names.
    pub fn fed_names(&self) -> impl Iterator<Item = &str> {
        self.all_fed().map(|slot| slot.name.as_str())
    }

    /// The upstreams in force that something feeds: a source or a name.
    pub(super) fn all_fed(&self) -> impl Iterator<Item = &Slot> {
        let slots = self.current.iter().filter(|slot| slot.is_fed());
        slots.chain(self.found.values().map(|found| &found.slot))
    }

    /// One of them.
    pub(super) fn fed(&self, name: &str) -> Result<&Slot, String> {
        if let Some(found) = self.found.get(name) {
            return Ok(&found.slot);
        }
        let mut slots = self.current.iter();
        match slots.find(|slot| slot.name == name) {
            Some(slot) if slot.is_fed() => Ok(slot),
            Some(_) => Err(format!(
                "upstream \"{name}\" has no source: its servers are those of the configuration"
            )),
            None => Err(format!("there is no upstream \"{name}\"")),
        }
    }
}
