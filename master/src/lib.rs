//! The process tree of weir: listeners, fork, signals, reload, and the syncer.
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that fails may panic")
)]

use std::ffi::OsString;
use std::path::PathBuf;

mod backoff;
mod check;
mod control;
mod cycle;
mod daemon;
mod errno;
mod first_table;
mod handover;
mod inherit;
mod last_run;
mod listening;
mod log;
mod notify;
mod oldbin;
mod orders;
mod pidfile;
mod private;
mod privileges;
#[allow(unsafe_code, reason = "forks, and writes its title")]
mod process;
pub mod resolve;
mod resources;
mod room;
mod sealed;
pub mod settings;
mod signal;
mod socket;
pub mod syncer;
mod temp;

pub use check::check;
pub use resolve::{ResolvedUpstream, resolve};

pub use signal::{Signal, send_signal};

use std::process::ExitCode;

use settings::Settings;

/// Runs weir as `loaded` says, from the start to the end of the master. Called before any thread
/// is started. Errors go to standard error, as `weir: [emerg] …`, and to the error log.
///
/// Every child that is forked on the way returns from here too, at its own end.
pub fn run(program: Program, loaded: Loaded) -> ExitCode {
    cycle::run(program, loaded)
}

/// What the crate above gives the master to run: how to read and build configurations, and names.
pub struct Program {
    /// Reads and builds the configuration files; called again on SIGHUP.
    pub load: Box<dyn Fn() -> Result<Loaded, String>>,
    /// Builds from text alone, in a child. The error is nginx-worded, with file and line.
    pub build: fn(&str) -> Result<Built, String>,
    /// The same, only the worker's half.
    pub build_worker: fn(&str) -> Result<weir_worker::settings::Settings, String>,
    /// The master's process title: `weir: master process /usr/sbin/weir -c …`.
    pub title: String,
    /// The arguments that it was started with, the program's name first: a new binary gets the same.
    pub command: Vec<OsString>,
    /// The prefix; the master changes into no other folder, relative paths are resolved already.
    pub prefix: PathBuf,
}

/// A configuration as read from its files.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every file after `# configuration file PATH:`; building from it gives the same settings.
    pub text: String,
    /// The master's and the syncer's half.
    pub settings: Settings,
    /// The worker's half.
    pub worker: weir_worker::settings::Settings,
    /// Warnings of the configuration, without the `[warn]` before them.
    pub warnings: Vec<String>,
}

/// A configuration as built from its text.
#[derive(Clone, Debug)]
pub struct Built {
    /// The master's and the syncer's half.
    pub settings: Settings,
    /// The worker's half.
    pub worker: weir_worker::settings::Settings,
}
