//! The start of a hub: it waits for the region's lock, goes on with what the region holds, and
//! listens to the master.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use weir_shm::{Publisher, Reader, Region, Table, Upstream};
use weir_worker::channel::Channel;
use weir_worker::settings::Level;

use super::super::book::{Book, Pin, Pins};
use super::super::lesson::Verdict;
use super::super::log::Log;
use super::super::place::Place;
use super::super::publish::{Learned, Tables};
use super::super::recorder::audit::To;
use super::super::recorder::history::Cause;
use super::super::recorder::note::Configured;
use super::super::recorder::report::{DiscoverStatus, Report};
use super::super::recorder::{Beginning, Note, Recorder};
use super::super::vault::Vault;
use super::super::watch::{Tell, Told};
use super::super::watches::Watches;
use super::{Event, Hub, Phase};
use crate::ResolvedUpstream;
use crate::settings::{Discover, Kind, Settings, Upsync};

/// The region, with its lock.
pub struct Opened {
    publisher: Publisher,
    /// For what others wrote: the report, the history.
    reader: Reader,
}

/// What the first table is made of, kept until the lock is had.
pub(super) struct First {
    pub settings: Settings,
    pub resolved: Vec<ResolvedUpstream>,
    pub wakers: Vec<OwnedFd>,
}

impl Hub {
    pub(super) fn opened(&mut self, opened: Opened) -> Result<(), String> {
        let Opened { publisher, reader } = opened;
        let Some(first) = self.first.take() else {
            return Ok(());
        };
        // A report that cannot be read is missed by people only, and by pins.
        let report = Report::parse(&reader.report().unwrap_or_default());
        self.book = Book::new(&first.settings, first.resolved, publisher.table());
        self.book.set_pins(pins(report.as_ref(), publisher.table()));
        let reader = Arc::new(reader);
        let place = Place::new(Arc::clone(&reader), first.settings.region.path.clone());
        self.reader = Some(reader);
        let journal = publisher.journal();
        let records = journal.history().unwrap_or_default().into_iter();
        let beginning = Beginning {
            table: publisher.table().clone(),
            report: report.clone(),
            records: records.filter_map(|record| record.text).collect(),
            place: place.clone(),
            log: self.log.clone(),
        };
        let thread_error = |error| format!("thread: {error}");
        self.recorder = Recorder::start(journal, beginning).map_err(thread_error)?;
        self.configured(&first.settings);
        let recorder = self.recorder.clone();
        self.watches = watches(&self.events, &self.vault, &self.log, recorder.clone());
        let log = self.log.clone();
        let mut tables =
            Tables::new(publisher, first.wakers, recorder, place, log).map_err(thread_error)?;
        tables.publish_or_retry(&self.book, Cause::Start);
        self.tables = Some(tables);
        let deadline = Instant::now() + self.start_timeout;
        self.phase = Phase::Starting { deadline };
        self.watch(0)
    }

    /// Tells the recorder what comes into force.
    pub(super) fn configured(&self, settings: &Settings) {
        let upstreams = settings.upstreams.iter();
        let discovered = self.book.discovered().into_iter();
        self.recorder.note(Note::Configured {
            upstreams: upstreams
                .map(|upstream| Configured {
                    name: upstream.name.clone(),
                    is_fed: upstream.upsync.is_some(),
                    folder: upstream.upsync.as_ref().and_then(folder),
                })
                .collect(),
            discovers: settings.discovers.iter().map(discover).collect(),
            discovered: discovered.map(|(name, _)| name).collect(),
            state: settings.state.clone(),
            log: settings.upsync_log.map(|log| To {
                files: Arc::clone(self.log.current().files()),
                log,
            }),
        });
    }
}

/// Watches that tell the hub what they learn and wait until it is handled: what became of it, `None`
/// when the hub has ended, which drops what it did not handle.
pub(super) fn watches(
    events: &Sender<Event>,
    vault: &Arc<Vault>,
    log: &Log,
    recorder: Recorder,
) -> Watches {
    let events = events.clone();
    let speak = move |watch| -> Tell {
        let events = events.clone();
        Box::new(move |told| match told {
            Told::Split(is_split) => {
                let sent = events.send(Event::Split(watch, is_split));
                sent.ok().map(|()| Verdict::default())
            }
            Told::Lesson(lesson) => {
                let (done, handled) = mpsc::sync_channel(1);
                let learned = Learned { lesson, done };
                events.send(Event::Learned(watch, learned)).ok()?;
                handled.recv().ok()
            }
        })
    };
    Watches::new(Box::new(speak), Arc::clone(vault), log.clone(), recorder)
}

/// Waits for the region's lock: an orphan of a killed master may still hold it.
pub(super) fn open(region: Region, writer: File, events: Sender<Event>) -> std::io::Result<()> {
    thread::Builder::new()
        .name("lock".to_owned())
        .spawn(move || {
            let opened = take_over(&region, writer).map(Box::new);
            let _ = events.send(Event::Opened(opened));
        })?;
    Ok(())
}

fn discover(discover: &Discover) -> DiscoverStatus {
    DiscoverStatus {
        prefix: discover.upsync.prefix.clone(),
        template: discover.template.clone(),
    }
}

/// The folder of a source that has keys.
fn folder(upsync: &Upsync) -> Option<String> {
    match upsync.kind {
        Kind::Consul | Kind::Etcd | Kind::Etcd3 => Some(upsync.prefix.clone()),
        Kind::ConsulServices | Kind::ConsulHealth => None,
    }
}

/// The pins that a report tells of; the table has their content.
fn pins(report: Option<&Report>, table: &Table) -> Pins {
    let pin = |upstream: &Upstream| {
        let pin = report?.upstream(&upstream.name)?.pinned.as_ref()?;
        let pin = Pin {
            version: pin.version,
            servers: upstream.servers.clone(),
            learned: upstream.learned,
        };
        Some((upstream.name.clone(), pin))
    };
    table.upstreams.iter().filter_map(pin).collect()
}

fn take_over(region: &Region, writer: File) -> Result<Opened, String> {
    let shared = writer.try_clone().map_err(|error| error.to_string())?;
    Ok(Opened {
        publisher: Publisher::new(region, writer).map_err(|error| error.to_string())?,
        reader: Reader::new(shared).map_err(|error| error.to_string())?,
    })
}

/// Reads the master's orders until its end of the channel is closed.
pub(super) fn listen(
    channel: Arc<Channel>,
    events: Sender<Event>,
    log: Log,
) -> std::io::Result<()> {
    thread::Builder::new()
        .name("orders".to_owned())
        .spawn(move || {
            loop {
                let event = match channel.recv() {
                    Ok(Some((order, descriptors))) => Event::Order(order, descriptors),
                    Ok(None) => Event::End,
                    Err(error) => {
                        log.log(
                            Level::Alert,
                            format_args!("order of the master is lost ({error})"),
                        );
                        Event::End
                    }
                };
                let ended = matches!(event, Event::End);
                if events.send(event).is_err() || ended {
                    return;
                }
            }
        })?;
    Ok(())
}
