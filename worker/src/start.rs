//! What a worker is given to begin with.

use std::fs::File;
use std::os::fd::OwnedFd;

use weir_shm::{Address, WorkerRegion};

use crate::settings::Settings;

/// Everything of a worker's own; it has no other descriptors than these.
///
/// TERM, INT and QUIT come blocked, so that none is lost before the worker looks for them; signals
/// that are the master's alone come ignored.
pub struct Start {
    /// Its slot of the region.
    pub slot: u32,
    /// The config generation of the settings.
    pub generation: u64,
    /// The configuration in force.
    pub settings: Settings,
    /// Its listening sockets. After another worker has retired, an address may be there twice.
    pub listeners: Vec<(Address, OwnedFd)>,
    /// The opened resources, by number.
    pub files: Vec<File>,
    /// The tables, read-only, and its own rows.
    pub region: WorkerRegion,
    /// An eventfd, written after each publish.
    pub wake: OwnedFd,
    /// The worker's end of the control channel.
    pub channel: OwnedFd,
    /// Builds settings from the text of a configuration.
    pub build: fn(&str) -> Result<Settings, String>,
}
