//! The syncer: the one process that long-polls Consul and publishes upstream tables.
//!
//! Blocking code, a thread a task: a few for each source ask for its [watches], one
//! [resolves](names) the names of `server … resolve`, one reads the master's orders, one takes
//! signals, one writes dumps; all tell the [`hub`], which owns the [`book`] of what is known and is
//! the only one that publishes.

pub mod backoff;
pub mod book;
pub mod client;
pub mod connection;
pub mod consul;
pub mod decode;
pub mod dump;
pub mod guard;
pub mod hub;
pub mod index;
pub mod lesson;
pub mod log;
pub mod names;
pub mod order;
pub mod place;
pub mod poll;
mod pool;
mod prepare;
pub mod publish;
pub mod recorder;
pub mod response;
pub mod share;
pub mod stop;
pub mod tls;
pub mod turns;
pub mod vault;
pub mod watch;
pub mod watches;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Sender};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use weir_shm::Region;

use crate::settings::Settings;
use crate::{Built, ResolvedUpstream};
use hub::{Event, Hub};

/// What the master gives a syncer.
pub struct Start {
    /// The configuration in force.
    pub settings: Settings,
    /// Its config generation.
    pub generation: u64,
    /// Its configured servers, in the order of `settings.upstreams`.
    pub resolved: Vec<ResolvedUpstream>,
    /// Another syncer served before this one: `strong_dependency` is met already.
    pub respawned: bool,
    /// Holds a table already.
    pub region: Region,
    /// From [`Region::writer_file`].
    pub writer: File,
    /// The workers' eventfds by slot, written after each publish.
    pub wakers: Vec<OwnedFd>,
    /// The syncer's end of the control channel.
    pub channel: OwnedFd,
    /// The opened logs, by resource number.
    pub files: Vec<File>,
    /// The opened private files, by their number.
    pub private: Vec<File>,
    /// Builds settings from the text of a configuration.
    pub build: fn(&str) -> Result<Built, String>,
}

/// The whole life of the syncer; it ends with SIGTERM, SIGINT, SIGQUIT, the order to quit, or the
/// master. The caller exits then, which also ends the threads that are still blocked.
///
/// # Errors
/// The region cannot be taken over, `strong_dependency=on` is not met, or a thread or the channel
/// fails. The caller tells the master ([`weir_worker::channel::Answer::Failed`]), which logs it.
pub fn run(start: Start) -> Result<(), String> {
    let (events, queue) = mpsc::channel();
    take_signals(events.clone()).map_err(|error| format!("signals: {error}"))?;
    Hub::new(start, events, queue)?.run()
}

/// Blocks the signals in this thread and those it starts; one thread waits for them.
fn take_signals(events: Sender<Event>) -> std::io::Result<()> {
    let ending = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
    let ignored = [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGPIPE,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    let set: SigSet = ending.into_iter().chain(ignored).collect();
    set.thread_block()?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while let Ok(signal) = set.wait() {
                if ending.contains(&signal) && events.send(Event::End).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}
