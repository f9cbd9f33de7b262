//! The process tree of weir: listeners, fork, signals, reload, and the syncer.

pub mod settings;
