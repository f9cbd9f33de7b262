//! What can go wrong, split by whom it happens to.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A region could not be made, mapped or taken over.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    Io {
        /// What was tried, such as `create`.
        action: &'static str,
        /// The region's file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The capacity asked for is out of range.
    Capacity(String),
    /// There is no worker slot of this number.
    NoSuchSlot {
        /// The number asked for.
        slot: u32,
        /// How many there are.
        workers: u32,
    },
    /// An existing region cannot be opened.
    Unreadable {
        /// The region's file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The last table in the region cannot be continued from.
    Damaged(Damage),
}

/// `(28: No space left on device)`, as nginx shows an error of the system.
fn described(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.split_once(" (os error ")) {
        (Some(number), Some((text, _))) => format!("({number}: {text})"),
        _ => format!("({text})"),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io {
                action,
                path,
                source,
            } => {
                write!(
                    f,
                    "{action} of region \"{}\" failed {}",
                    path.display(),
                    described(source)
                )
            }
            Error::Capacity(why) => write!(f, "region cannot be laid out: {why}"),
            Error::NoSuchSlot { slot, workers } => {
                write!(f, "region has no worker slot {slot}, it has {workers}")
            }
            Error::Unreadable { path, source } => write!(f, "\"{}\": {source}", path.display()),
            Error::Damaged(damage) => write!(f, "the region's last table is damaged: {damage}"),
        }
    }
}

impl std::error::Error for Error {}

/// A table was not published; the previous one stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// More servers than the region has counter rows for.
    TooManyServers {
        /// Servers of the table.
        has: usize,
        /// Rows that it could have had: the capacity without those still leaving.
        room: usize,
        /// Rows of removed servers that requests or workers still hold, those that this table
        /// removes included: servers that are swapped for others need room for both. Rows of
        /// earlier tables come free by themselves, so publishing again later may succeed.
        leaving: usize,
    },
    /// More upstreams than the region has room for.
    TooManyUpstreams {
        /// Upstreams of the table.
        has: usize,
        /// The region's capacity.
        room: usize,
    },
    /// Two upstreams have one name.
    NameTwice {
        /// The name.
        name: String,
    },
    /// The names and paths together are longer than the region has room for.
    TextTooLong {
        /// Bytes of the table.
        has: usize,
        /// The region's capacity in bytes.
        room: usize,
    },
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::TooManyServers {
                has,
                room,
                leaving: 0,
            } => write!(
                f,
                "table with {has} servers does not fit the region, which has room for {room}; \
                 the previous table stays (see \"region ... servers=\")"
            ),
            PublishError::TooManyServers { has, room, leaving } => write!(
                f,
                "table with {has} servers does not fit the region, which has room for {room} \
                 while {leaving} removed servers are still in use; the previous table stays \
                 (see \"region ... servers=\")"
            ),
            PublishError::TooManyUpstreams { has, room } => write!(
                f,
                "table with {has} upstreams does not fit the region, which has room for {room}; \
                 the previous table stays (see \"region ... upstreams=\")"
            ),
            PublishError::NameTwice { name } => write!(
                f,
                "table with two upstreams \"{name}\" is not published; the previous table stays"
            ),
            PublishError::TextTooLong { has, room } => write!(
                f,
                "table with {has} bytes of names and paths does not fit the region, which has \
                 room for {room}; the previous table stays (see \"region ... upstreams= servers=\")"
            ),
        }
    }
}

impl std::error::Error for PublishError {}

/// A report was not put into the region; the previous one stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Bytes of the report.
    pub has: usize,
    /// Bytes that the region has room for.
    pub room: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLong { has, room } = self;
        write!(
            f,
            "report of {has} bytes does not fit the region, which has room for {room} \
             (see \"region ... upstreams=\")"
        )
    }
}

impl std::error::Error for TooLong {}

/// Words that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage(pub(crate) String);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damage {}

/// A worker did not get a newer table; it keeps the one it has and tries again by timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The writer overtook every attempt.
    Lapped,
    /// What was published is no table.
    Damaged(Damage),
    /// There is no memory for a copy.
    NoMemory {
        /// The size of the table.
        words: usize,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Lapped => f.write_str("tables are published faster than they are read"),
            SnapshotError::Damaged(damage) => write!(f, "the table is damaged: {damage}"),
            SnapshotError::NoMemory { words } => {
                write!(f, "there is no memory for its {words} words")
            }
        }
    }
}

impl std::error::Error for SnapshotError {}

/// A reader outside the process tree could not read.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be opened or read.
    Io(io::Error),
    /// It is no region of weir, or one of a machine with the other byte order.
    NotARegion,
    /// It ends before its header does, or before the size that its header states.
    Truncated {
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        has: u64,
    },
    /// It was made by another release of weir.
    LayoutVersion {
        /// The file's.
        has: u64,
        /// The one that this release reads.
        reads: u64,
    },
    /// The header contradicts itself.
    Header(String),
    /// The file is larger than its header states.
    Size {
        /// Bytes that the header states.
        stated: u64,
        /// Bytes that it has.
        has: u64,
    },
    /// The current table is no table.
    Table(Damage),
    /// The current report is none.
    Report(Damage),
    /// The history is none.
    History(Damage),
    /// The region changes faster than it can be read.
    Busy,
    /// The table to look up counters for is not of this region.
    ForeignTable,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => error.fmt(f),
            ReadError::NotARegion => f.write_str("not a region of weir"),
            ReadError::Truncated { expected, has } => {
                write!(f, "region is truncated: {has} bytes instead of {expected}")
            }
            ReadError::LayoutVersion { has, reads } => {
                write!(
                    f,
                    "region has layout version {has}, this release reads {reads}"
                )
            }
            ReadError::Header(why) => write!(f, "region has a damaged header: {why}"),
            ReadError::Size { stated, has } => {
                write!(f, "region has {has} bytes, its header says {stated}")
            }
            ReadError::Table(damage) => write!(f, "region has a damaged table: {damage}"),
            ReadError::Report(damage) => write!(f, "region has a damaged report: {damage}"),
            ReadError::History(damage) => write!(f, "region has a damaged history: {damage}"),
            ReadError::Busy => f.write_str("tables are published faster than they are read"),
            ReadError::ForeignTable => f.write_str("the table is not one of this region"),
        }
    }
}

impl std::error::Error for ReadError {}
