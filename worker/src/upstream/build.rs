//! A new plan in the making: from the old one and what changed, a slice of bounded work at a time,
//! while the old one serves. What did not change is shared.

mod draft;

use std::collections::HashMap;
use std::rc::Rc;

use weir_shm::{CounterId, Snapshot};

use super::plan::{Names, Plan, UpstreamPlan};
use draft::Draft;

/// Numbers that stay with upstreams' names over all plans that have them.
#[derive(Debug, Default)]
pub struct Numbering {
    by_name: HashMap<String, usize>,
    /// Those of names that are gone.
    free: Vec<usize>,
}

impl Numbering {
    fn of(&mut self, name: &str) -> usize {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = self.free.pop().unwrap_or(self.by_name.len());
        self.by_name.insert(name.to_owned(), number);
        number
    }

    /// The plan in the making has no upstream of this name, and all of its names have their numbers:
    /// the next plan may give this one away, whose idle connections are closed by then.
    fn give_back(&mut self, name: &str) {
        self.free.extend(self.by_name.remove(name));
    }
}

/// A plan, and what it does not have any more.
#[derive(Debug)]
pub struct Built {
    /// The plan.
    pub plan: Rc<Plan>,
    /// Counters of servers that are gone, with their upstreams as they were.
    pub dropped: Vec<(Rc<UpstreamPlan>, CounterId)>,
    /// Upstreams of the one before that it does not have, or has otherwise.
    pub replaced: Vec<Rc<UpstreamPlan>>,
}

/// A plan in the making.
#[derive(Debug)]
pub struct Builder {
    old: Rc<Plan>,
    new: Plan,
    names: Names,
    dropped: Vec<(Rc<UpstreamPlan>, CounterId)>,
    replaced: Vec<Rc<UpstreamPlan>>,
    /// The new plan has the same upstreams in the same order, so far.
    same: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Upstreams are taken over, the one in the draft first.
    Upstreams(Option<Box<Draft>>),
    /// They get their names, from this one on.
    Names(usize),
    /// Of the old ones, this one is looked for.
    Gone(usize),
    /// Of the old one of this number, which is gone, servers go from this one on.
    Dropping(usize, usize),
}

impl Builder {
    /// Begins a plan from what changed since `old`.
    #[must_use]
    pub fn new(old: &Rc<Plan>, snapshot: &Snapshot) -> Self {
        Self {
            old: Rc::clone(old),
            new: Plan {
                version: snapshot.version,
                upstreams: Vec::with_capacity(snapshot.upstreams.len()),
                names: Rc::clone(&old.names),
                places: old.places.clone(),
            },
            names: Names::default(),
            dropped: Vec::new(),
            replaced: Vec::new(),
            same: old.upstreams.len() == snapshot.upstreams.len(),
            stage: Stage::Upstreams(None),
        }
    }

    /// Goes up to `budget` steps further, taking servers out of `snapshot`, which is the same each
    /// time; the plan when it is whole.
    pub fn step(
        &mut self,
        mut budget: usize,
        snapshot: &mut Snapshot,
        numbering: &mut Numbering,
    ) -> Option<Built> {
        while budget > 0 {
            match &mut self.stage {
                Stage::Upstreams(draft) => {
                    if let Some(mut open) = draft.take() {
                        if !open.step(&mut budget, &self.old, &mut self.new, &mut self.dropped) {
                            *draft = Some(open);
                            return None;
                        }
                        self.replaced.extend(open.old.clone());
                        let whole = Rc::new(open.finish(&self.new));
                        self.new.upstreams.push(whole);
                    }
                    budget = budget.saturating_sub(1);
                    if self.next_upstream(snapshot, numbering) {
                        continue;
                    }
                    if self.same {
                        return Some(self.finish());
                    }
                    self.stage = Stage::Names(0);
                }
                Stage::Names(at) => {
                    budget -= 1;
                    if let Some(upstream) = self.new.upstreams.get(*at) {
                        self.names.insert(upstream, *at);
                        *at += 1;
                    } else {
                        self.new.names = Rc::new(std::mem::take(&mut self.names));
                        self.stage = Stage::Gone(0);
                    }
                }
                Stage::Gone(at) => {
                    budget -= 1;
                    match self.old.upstreams.get(*at) {
                        Some(old) if self.new.names.at(&old.name).is_none() => {
                            self.stage = Stage::Dropping(*at, 0);
                        }
                        Some(_) => *at += 1,
                        None => return Some(self.finish()),
                    }
                }
                Stage::Dropping(upstream, at) => {
                    budget -= 1;
                    let old = &self.old.upstreams[*upstream];
                    if let Some(server) = old.servers.get(*at) {
                        self.new.places.clear(server.counter);
                        self.dropped.push((Rc::clone(old), server.counter));
                        *at += 1;
                    } else {
                        numbering.give_back(&old.name);
                        self.replaced.push(Rc::clone(old));
                        self.stage = Stage::Gone(*upstream + 1);
                    }
                }
            }
        }
        None
    }

    /// Takes over the next upstream, or begins its draft; false if there is none.
    fn next_upstream(&mut self, snapshot: &mut Snapshot, numbering: &mut Numbering) -> bool {
        let at = self.new.upstreams.len();
        let Some(next) = snapshot.upstreams.get_mut(at) else {
            return false;
        };
        let mut old = self.old.upstreams.get(at);
        if old.is_none_or(|old| old.name != next.name) {
            self.same = false;
            old = self.old.upstream(&next.name);
        }
        match (next.servers.take(), old) {
            (None, Some(old)) => self.new.upstreams.push(Rc::clone(old)),
            (servers, old) => {
                let draft = Draft::new(
                    next.name.clone(),
                    next.template.clone(),
                    numbering.of(&next.name),
                    servers.unwrap_or_default(),
                    old.cloned(),
                );
                self.stage = Stage::Upstreams(Some(Box::new(draft)));
            }
        }
        true
    }

    fn finish(&mut self) -> Built {
        Built {
            plan: Rc::new(std::mem::take(&mut self.new)),
            dropped: std::mem::take(&mut self.dropped),
            replaced: std::mem::take(&mut self.replaced),
        }
    }
}

#[cfg(test)]
mod tests;
