//! The masters of the campaign: the binary is changed now and then, for good or for a while.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::random::Random;
use crate::support::process::{alive, read_lossy, send};
use crate::support::weir::Weir;
use crate::support::{PATIENCE, wait_until};
use crate::upgrade::New;

/// What connections that are in use all the time may take to end, on a machine that is busy.
const FINISH: Duration = Duration::from_secs(60);

/// How far a change of the binary has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Alone,
    /// The last one and the one before it serve side by side.
    Paired,
    /// The one that is leaving finishes what it has; the other goes on.
    Forward {
        leaving: u32,
    },
    Back {
        leaving: u32,
    },
}

/// The master that the test has started, and those that USR2 has.
pub struct Masters {
    first: u32,
    /// Each was started by the one before it; those before the last two are gone.
    later: Vec<New>,
    stage: Stage,
    /// How often the binary was changed for good, and how often it was not.
    pub there: usize,
    pub back: usize,
}

impl Masters {
    pub fn new(first: u32) -> Masters {
        Masters {
            first,
            later: Vec::new(),
            stage: Stage::Alone,
            there: 0,
            back: 0,
        }
    }

    /// The one that signals are for: the one that stays, if that is known.
    pub fn current(&self) -> u32 {
        match self.stage {
            Stage::Back { .. } => self.before(),
            _ => self.last(),
        }
    }

    /// The region's file of the current one.
    pub fn region(&self, weir: &Weir) -> PathBuf {
        weir.path(match self.stage {
            Stage::Back { .. } => "weir.region.oldbin",
            _ => "weir.region",
        })
    }

    /// A region of a master that serves, at times the old one's.
    pub fn any_region(&self, weir: &Weir, random: &mut Random) -> PathBuf {
        match self.stage {
            Stage::Paired if random.below(2) == 0 => weir.path("weir.region.oldbin"),
            _ => self.region(weir),
        }
    }

    fn last(&self) -> u32 {
        self.later.last().map_or(self.first, |new| new.pid)
    }

    fn before(&self) -> u32 {
        let before = self.later.len().checked_sub(2);
        before.map_or(self.first, |index| self.later[index].pid)
    }

    /// The next step of a change, in one direction or the other.
    pub fn step(&mut self, weir: &Weir, random: &mut Random) {
        match self.stage {
            Stage::Alone => {
                self.later.push(New::start(weir, self.last()));
                self.stage = Stage::Paired;
            }
            Stage::Paired => self.decide(weir, random),
            Stage::Forward { leaving } | Stage::Back { leaving } => {
                wait_until(FINISH, "a master has finished what it had", || {
                    !alive(leaving)
                });
                self.look(weir);
            }
        }
    }

    /// There or back, with and without WINCH before it.
    fn decide(&mut self, weir: &Weir, random: &mut Random) {
        let (old, new) = (self.before(), self.last());
        let (is_back, winch) = (random.below(2) == 0, random.below(2) == 0);
        if winch {
            send(old, Signal::SIGWINCH);
            wait_until(PATIENCE, "the new one serves", || {
                weir.get("/short").status == 200
            });
        }
        if is_back {
            if winch && random.below(2) == 0 {
                send(old, Signal::SIGHUP);
            }
            send(new, Signal::SIGQUIT);
            self.stage = Stage::Back { leaving: new };
        } else {
            send(old, Signal::SIGQUIT);
            self.stage = Stage::Forward { leaving: old };
        }
    }

    /// Notices that the one that was leaving is gone.
    pub fn look(&mut self, weir: &Weir) {
        match self.stage {
            Stage::Forward { leaving } if !alive(leaving) => {
                let line = format!("{}#0: old master process {leaving} is gone", self.last());
                weir.wait_log(&line);
                self.there += 1;
            }
            Stage::Back { leaving } if !alive(leaving) => {
                let (pid_file, old) = (weir.path("logs/weir.pid"), self.before().to_string());
                wait_until(PATIENCE, "the old one has its pid file back", || {
                    read_lossy(&pid_file).trim() == old
                });
                self.later.pop();
                self.back += 1;
            }
            _ => return,
        }
        self.stage = Stage::Alone;
    }

    /// Until there is only one.
    pub fn settle(&mut self, weir: &Weir, random: &mut Random) {
        while !matches!(self.stage, Stage::Alone) {
            self.step(weir, random);
        }
    }
}
