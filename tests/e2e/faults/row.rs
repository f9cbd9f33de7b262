//! One fault: how it comes and goes, and what is expected of weir meanwhile and afterwards.

use std::time::{Duration, Instant};

use super::checks::{few, kept, lines_of, named, seen, short};
use super::scene::{Asked, Scene, too};
use super::{LASTS, RECOVERED, lines, requests};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::holds_for;
use crate::support::weir::SOON;

/// How a fault comes.
#[derive(Clone, Debug)]
pub enum How {
    /// Not at all: what Consul holds is the fault.
    Entries,
    /// With the next answer.
    Standing(Fault),
    /// At once: open connections are reset.
    Broken(Fault),
    /// With the next answer, and only that.
    Once(Fault),
    /// Nobody listens.
    Refused,
}

/// A fault and what is expected of weir.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    how: How,
    /// The log says one of these; none: there is nothing to say.
    says: Vec<String>,
    /// The change is seen although the fault lasts.
    passes: bool,
    lasts: Duration,
    /// From the fault's end, or if it passes from the change, until it is seen.
    bound: Duration,
    /// Keys and values that come before the change, for what Consul holds.
    entries: Vec<(String, String)>,
    /// Of the change's key, if it is to have a certain one.
    value: Option<String>,
}

/// What a row has taken.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub learnt: Duration,
    pub later: Duration,
    pub asked: usize,
    pub lines: usize,
}

impl Row {
    /// A fault that holds every change back until it ends.
    pub fn new(name: &'static str, how: How) -> Row {
        Row {
            name,
            how,
            says: Vec::new(),
            passes: false,
            lasts: LASTS,
            bound: RECOVERED,
            entries: Vec::new(),
            value: None,
        }
    }

    pub fn says(mut self, any: &[&str]) -> Row {
        self.says.extend(any.iter().map(|text| (*text).to_owned()));
        self
    }

    pub fn passes(mut self) -> Row {
        self.passes = true;
        self
    }

    pub fn lasts(mut self, span: Duration) -> Row {
        self.lasts = span;
        self
    }

    pub fn within(mut self, bound: Duration) -> Row {
        self.bound = bound;
        self
    }

    pub fn entry(mut self, key: &str, value: &str) -> Row {
        self.entries.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn value(mut self, value: &str) -> Row {
        self.value = Some(value.to_owned());
        self
    }

    /// Runs the row on its upstream of the scene.
    pub fn run(&self, scene: &Scene) -> Result<Figures, String> {
        let (proxy, first) = (scene.proxy(self.name), scene.stage.server(0));
        let (before, asked) = (Instant::now(), asked(proxy));
        self.begin(scene, proxy);
        let put = Instant::now();
        match &self.value {
            Some(value) => scene.put(self.name, scene.stage.server(1), value),
            None => scene.add(self.name, scene.stage.server(1)),
        }
        if self.passes {
            self.wait(scene, 1, put)?;
        } else {
            self.hold(scene)?;
        }
        self.end(proxy);
        let end = if self.passes { put } else { Instant::now() };
        let learnt = self.wait(scene, 1, end)?;
        let figures = Figures {
            learnt,
            asked: self::asked(proxy) - asked,
            lines: lines_of(&scene.stage.weir.error_log(), self.name).len(),
            later: scene.stage.later_puts(self.name, |server| {
                scene.add(self.name, server);
            })?,
        };
        for upstream in [self.name.to_owned(), too(self.name)] {
            let looks = scene.stage.sight.history(&upstream);
            if upstream == self.name || !looks.is_empty() {
                kept(&looks, before, first)?;
            }
        }
        self.check_log(scene)?;
        few("requests", figures.asked, requests(before.elapsed()))?;
        few("lines", figures.lines, lines(before.elapsed()))?;
        Ok(figures)
    }

    /// Brings the fault.
    pub fn strike(&self, proxy: &FaultProxy) {
        match &self.how {
            How::Entries => {}
            How::Standing(fault) => proxy.set(fault.clone()),
            How::Broken(fault) => {
                proxy.set(fault.clone());
                proxy.reset_open();
            }
            How::Once(fault) => proxy.once(fault.clone()),
            How::Refused => proxy.refuse(),
        }
    }

    fn begin(&self, scene: &Scene, proxy: &FaultProxy) {
        self.strike(proxy);
        for (key, value) in &self.entries {
            scene.put(self.name, key, value);
        }
        if !self.entries.is_empty() {
            crate::support::wait_until(SOON, "the answer with the fault", || proxy.scripted() == 0);
        }
    }

    fn end(&self, proxy: &FaultProxy) {
        proxy.set(Fault::None);
        if matches!(self.how, How::Refused) {
            proxy.listen();
        }
    }

    /// The change must not be seen while the fault lasts: else the row would test nothing.
    fn hold(&self, scene: &Scene) -> Result<(), String> {
        let mut early = None;
        holds_for(self.lasts, "the thread runs", || {
            early = early.or(seen(
                &scene.stage.sight.history(self.name),
                scene.stage.server(1),
            ));
            true
        });
        match early {
            Some(_) => Err("the change was seen although the fault lasted".to_owned()),
            None => Ok(()),
        }
    }

    fn wait(&self, scene: &Scene, number: usize, since: Instant) -> Result<Duration, String> {
        scene.stage.wait(self.name, number, since, self.bound)
    }

    fn check_log(&self, scene: &Scene) -> Result<(), String> {
        let log = scene.stage.weir.error_log();
        let said = lines_of(&log, self.name);
        named(&said, &self.says)?;
        short(&said)
    }
}

/// What a Consul behind the proxy got or would have got.
fn asked(proxy: &FaultProxy) -> usize {
    proxy.accepted().max(proxy.requests().len())
}

/// Runs the rows side by side; what went wrong with any of them.
pub fn run(rows: &[Row], scene: &Scene) -> Vec<String> {
    let one = |row: &Row| match row.run(scene) {
        Ok(figures) => {
            eprintln!(
                "{:<24} seen after {:>9.1?}, later PUTs within {:>8.1?}; {} requests, {} lines",
                row.name, figures.learnt, figures.later, figures.asked, figures.lines
            );
            None
        }
        Err(why) => Some(format!("{}: {why}", row.name)),
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = rows
            .iter()
            .map(|row| scope.spawn(move || one(row)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended
            .filter_map(|end| end.unwrap_or_else(|_| Some("a row panicked".to_owned())))
            .collect()
    })
}

/// A scene of its own for the rows, none of which goes wrong.
#[track_caller]
pub fn check(rows: &[Row]) {
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    check_in(Scene::start(&names, Asked::Alone), rows);
}

/// As [`check`], in a scene that is there.
#[track_caller]
pub fn check_in(scene: Scene, rows: &[Row]) {
    let mut wrong = run(rows, &scene);
    wrong.extend(scene.stage.finish().err());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
