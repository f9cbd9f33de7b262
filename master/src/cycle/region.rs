//! A reload that changes `region`: another region takes the place of the one in force, with its
//! table, its history and what was counted, and workers and syncer begin anew in it.
//!
//! It is made, and its memory reserved, before the commit, beside its place. It is filled and put
//! there once the old syncer has ended, as from then on nobody changes the table. Workers of the
//! earlier region finish what they have by the table that they know; what they count is added when
//! they have ended.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use weir_shm::{Publisher, Region, SameServers, Seen};

use super::Master;
use super::seat::{Former, Seat};
use super::shared::{give_away, wakers};
use super::start::refuse_live_region;
use crate::room::{self, workers_of};
use crate::settings::{self, Settings};

/// A region that is to take the place of the one in force.
pub(super) struct NextRegion {
    region: Region,
    /// What the configuration said of the one in force.
    before: settings::Region,
    /// So many workers were configured.
    workers: usize,
}

impl NextRegion {
    /// Takes the file away again.
    pub(super) fn remove(self) {
        // It is empty yet, and nobody looks for it there.
        let _ = fs::remove_file(self.region.path());
    }
}

impl Master {
    /// Makes the region that a reload asks for, if it is another; else the settings keep what is in
    /// force.
    pub(super) fn draft_region(&self, next: &mut Settings) -> Result<Option<NextRegion>, String> {
        let before = &self.cycle.settings.region;
        if !differs(before, &next.region, workers_of(next)) {
            next.region = before.clone();
            return Ok(None);
        }
        if self.is_paired() {
            return Err("\"region\" cannot change during a change of the binary".into());
        }
        let path = &next.region.path;
        if *path != before.path {
            refuse_live_region(path, None)?;
        }
        room::check(next, &[])?;
        let capacity = room::capacity(&next.region);
        let reader = self.region.reader().map_err(|error| error.to_string())?;
        let table = reader.table().map_err(|error| error.to_string())?;
        let upstreams = table.upstreams.iter();
        let servers: usize = upstreams.map(|upstream| upstream.servers.len()).sum();
        let counts = [
            (servers, "servers", capacity.servers),
            (table.upstreams.len(), "upstreams", capacity.upstreams),
        ];
        for (count, what, room) in counts {
            if count > room as usize {
                return Err(format!(
                    "the {count} {what} in force do not fit \"region\", which has room for {room}"
                ));
            }
        }
        let region = Region::create(&beside(path), capacity).map_err(|error| error.to_string())?;
        Ok(Some(NextRegion {
            region,
            before: before.clone(),
            workers: workers_of(&self.cycle.settings),
        }))
    }

    /// No syncer writes: the next region takes the place of the one in force.
    pub(super) fn switch_region(&mut self, next: NextRegion) {
        let NextRegion {
            mut region,
            before,
            workers,
        } = next;
        let filled = fill(&mut region, &self.region, &self.cycle.settings).and_then(|servers| {
            let wakers = wakers(region.capacity().workers)?;
            Ok((servers, wakers))
        });
        let (servers, wakers) = match filled {
            Ok(filled) => filled,
            Err(message) => {
                self.log.emerg(message);
                self.log.error_line("the region stays as it was");
                let _ = fs::remove_file(region.path());
                self.cycle.settings.region = before;
                return self.resize(workers);
            }
        };
        if before.path != *region.path() {
            // Nobody looks for it there any more.
            let _ = fs::remove_file(&before.path);
        }
        self.wakers = wakers;
        let former = std::mem::replace(&mut self.region, Rc::new(region));
        self.move_workers(former, Rc::new(servers));
        self.resize(workers);
    }

    /// Every worker gets a successor in the new region, and stays where it is until that is ready.
    fn move_workers(&mut self, region: Rc<Region>, servers: Rc<SameServers>) {
        // Where their servers are now, by the regions that still have workers.
        let mut moved = vec![(region, servers)];
        let old = std::mem::take(&mut self.workers);
        self.workers.resize_with(self.wakers.len(), Seat::default);
        let mut next = 0;
        for (slot, mut seat) in old.into_iter().enumerate() {
            if seat.wanted {
                // With less room than before, some serve the sockets of two.
                let heir = next % self.wakers.len();
                next += 1;
                self.workers[heir].wanted = true;
                self.workers[heir].sets.append(&mut seat.sets.clone());
                seat.heir = Some(heir);
                seat.wanted = false;
            }
            let (region, slot) = match seat.former.take() {
                Some(former) => (former.region, former.slot),
                None => (Rc::clone(&moved[0].0), slot as u32),
            };
            let known = moved.iter().find(|(known, _)| Rc::ptr_eq(known, &region));
            let servers = match known {
                Some((_, servers)) => Rc::clone(servers),
                None => {
                    // Its table has not changed since. What cannot be told apart is not counted.
                    let servers = self.region.same_servers(&region).unwrap_or_default();
                    let servers = Rc::new(servers);
                    moved.push((Rc::clone(&region), Rc::clone(&servers)));
                    servers
                }
            };
            seat.former = Some(Former {
                region,
                slot,
                servers,
            });
            self.workers.push(seat);
        }
    }

    /// What a dead worker counted is added to what all dead ones did.
    pub(super) fn fold(&self, slot: usize) {
        match &self.workers[slot].former {
            None => self.region.fold(slot as u32),
            Some(former) => {
                former.region.fold(former.slot);
                self.region.take_counts(&former.region, &former.servers);
            }
        }
    }

    /// Forgets the places in earlier regions whose workers have ended.
    pub(super) fn forget_former(&mut self) {
        let stays = |seat: &Seat| seat.former.is_none() || seat.child.is_some();
        self.workers.retain(stays);
    }

    /// The end has come before it took its place.
    pub(super) fn forget_next_region(&mut self) {
        if let Some(next) = self.next_region.take() {
            next.remove();
        }
    }
}

/// At a start: a region that a master which was killed has not put in its place.
pub(super) fn remove_stale(path: &Path) {
    let path = beside(path);
    if refuse_live_region(&path, None).is_ok() {
        let _ = fs::remove_file(path);
    }
}

/// Whether a configuration asks for another region: the default for `workers` is one only if there
/// is no room for as many as are to work.
fn differs(old: &settings::Region, new: &settings::Region, workers: usize) -> bool {
    let keeps_workers = !new.workers_given && workers <= old.capacity.workers as usize;
    let mut new = new.clone();
    if keeps_workers {
        new.capacity.workers = old.capacity.workers;
    }
    new.workers_given = old.workers_given;
    *old != new
}

/// Where a region is made that is not in force yet.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".next");
    name.into()
}

/// Gives the region the table, the report and the history of an earlier one, and puts it at its
/// place.
fn fill(region: &mut Region, from: &Region, settings: &Settings) -> Result<SameServers, String> {
    let unreadable = |error: weir_shm::ReadError| error.to_string();
    let reader = from.reader().map_err(unreadable)?;
    let table = reader.table().map_err(unreadable)?;
    region.set_master(std::process::id());
    let writer = region.writer_file().map_err(|error| error.to_string())?;
    let mut publisher = Publisher::new(region, writer).map_err(|error| error.to_string())?;
    // The same content as the same version.
    publisher.start_after(table.version.saturating_sub(1));
    let published = publisher.publish(table.upstreams, Seen::NOBODY);
    published.map_err(|error| error.to_string())?;
    let mut journal = publisher.journal();
    // These two are for people: what does not fit is left out.
    for record in reader.history().unwrap_or_default() {
        if let Some(text) = record.text {
            journal.append(record.version, &text);
        }
    }
    let _ = journal.report(&reader.report().unwrap_or_default());
    let servers = region.same_servers(from).map_err(unreadable)?;
    region.take_counts(from, &servers);
    region
        .rename(&settings.region.path)
        .map_err(|error| error.to_string())?;
    give_away(settings)?;
    Ok(servers)
}
