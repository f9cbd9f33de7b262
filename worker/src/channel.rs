//! The control channel between the master and a child: one SEQPACKET packet a message, JSON in
//! the packet, descriptors beside it. A message with more descriptors than one packet carries
//! is sent in several packets of the same generation.

use serde::{Deserialize, Serialize};

/// At most this many descriptors ride on one packet (the kernel's SCM_MAX_FD is 253).
pub const DESCRIPTORS_A_PACKET: usize = 250;

/// What the master tells a worker or the syncer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Build the settings of this config generation and answer [`Answer::Prepared`] or
    /// [`Answer::Refused`]; nothing takes effect yet. The packet with `more` false is the last.
    Prepare {
        /// The config generation.
        generation: u64,
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets of this generation follow.
        more: bool,
    },
    /// The prepared generation takes effect now; answer [`Answer::Committed`].
    Commit {
        /// The config generation.
        generation: u64,
    },
    /// Forget what was prepared.
    Abort {
        /// The config generation.
        generation: u64,
    },
    /// Log files were opened anew: use these from now on.
    Reopen {
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets follow.
        more: bool,
    },
    /// A retired worker's listening sockets: accept from them too.
    Adopt {
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets follow.
        more: bool,
    },
    /// Stop accepting, finish what is in flight, exit.
    Quit,
}

/// What a descriptor beside a packet is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A sealed memfd with the configuration's text (`# configuration file PATH:` marks).
    Text,
    /// A listening socket, by the display form of its address.
    Listener(String),
    /// An opened log, by its resource number.
    Resource(usize),
}

/// What a child tells the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A worker polls its listeners; the syncer has first answers, or its time for them is up.
    Ready,
    /// The syncer cannot go on: `strong_dependency=on`, and no source, dump or table has data.
    Failed {
        /// For the error log and the start's standard error.
        message: String,
    },
    /// The generation can be committed.
    Prepared {
        /// The config generation.
        generation: u64,
    },
    /// The generation cannot be built; everything stays as it was.
    Refused {
        /// The config generation.
        generation: u64,
        /// Why, for the error log.
        message: String,
    },
    /// The generation is live here.
    Committed {
        /// The config generation.
        generation: u64,
    },
}
