//! The region as the master holds it: made once, mapped whole, shared with what it forks.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;

use crate::counters::{self, Counts};
use crate::encode::checksum;
use crate::error::{Error, ReadError};
use crate::latch::{Load, Ring, Store};
use crate::latency;
use crate::layout::{Capacity, Layout, WORD, header};
use crate::map::{self, Part};
use crate::reader::{Reader, check_kind};
use crate::scoreboard::{self, Status, WorkerRow};
use crate::table::CounterId;
use crate::word::{Words, WordsMut};
use crate::worker::WorkerRegion;

/// A region that this process made, mapped for writing.
///
/// A forked child inherits the mapping. The syncer keeps it; a worker maps its own with
/// [`Region::worker`], tables read-only, and drops this one.
#[derive(Debug)]
pub struct Region {
    path: PathBuf,
    file: File,
    words: WordsMut,
    layout: Layout,
}

impl Region {
    /// Makes an empty region (table version 0) of mode 0644 and puts it at `path`, where it
    /// replaces an older one, which lives on for those who have it mapped.
    ///
    /// All its memory is reserved here, so that a full file system is an error now (ENOSPC) and
    /// no SIGBUS later.
    pub fn create(path: &Path, capacity: Capacity) -> Result<Region, Error> {
        capacity.check().map_err(Error::Capacity)?;
        let layout = Layout::new(capacity);
        let failed = |action| {
            move |source: io::Error| Error::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Removed again when anything below fails.
        let temporary = tempfile::Builder::new()
            .prefix(".weir-region-")
            .tempfile_in(folder)
            .map_err(failed("creation"))?;
        let file = temporary.as_file();
        file.set_permissions(Permissions::from_mode(0o644))
            .map_err(failed("chmod()"))?;
        reserve(file, layout.bytes()).map_err(failed("posix_fallocate()"))?;
        let boot = random().map_err(failed("boot id"))?;
        write_header(file, &layout, boot).map_err(failed("write()"))?;
        let words = WordsMut::new(map::writable(file, Part::ALL).map_err(failed("mmap()"))?);
        let file = temporary
            .persist(path)
            .map_err(|e| failed("rename()")(e.error))?;
        Ok(Region {
            path: path.to_owned(),
            file,
            words,
            layout,
        })
    }

    /// Maps an existing region for writing: for a process that was not forked by its maker.
    pub fn open(path: &Path) -> Result<Region, Error> {
        let failed = |action| {
            move |source: io::Error| Error::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let unreadable = |source| Error::Unreadable {
            path: path.to_owned(),
            source,
        };
        check_kind(path).map_err(unreadable)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open()"))?;
        let reader = file.try_clone().map_err(failed("dup()"))?;
        let layout = *Reader::new(reader).map_err(unreadable)?.layout();
        let words = WordsMut::new(map::writable(&file, Part::ALL).map_err(failed("mmap()"))?);
        Ok(Region {
            path: path.to_owned(),
            file,
            words,
            layout,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it has room for.
    pub fn capacity(&self) -> Capacity {
        self.layout.capacity
    }

    /// The version of the table published last; 0 before the first.
    pub fn table_version(&self) -> u64 {
        ring(&self.layout).version(&self.words)
    }

    /// Writes the master's process id into the header: after it has become a daemon.
    pub fn set_master(&self, pid: u32) {
        self.words.store(header::MASTER, u64::from(pid));
    }

    /// An own open file description for the writer's lock, made before privileges are dropped. It
    /// is of this region, whatever has its place in the file system by now. The lock lives as long
    /// as the last copy of the descriptor, so only the syncer may keep one.
    pub fn writer_file(&self) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        File::options().read(true).write(true).open(path)
    }

    /// A reader of this region, whatever has its place in the file system by now.
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::new(self.file.try_clone()?)
    }

    /// Adds to what dead workers have counted: for the servers of a table of this region, and for
    /// all of them together. Only the process that folds may do so.
    pub(crate) fn credit<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a (CounterId, Counts)>,
        status: &Status,
    ) {
        for (id, counts) in servers {
            counters::credit(&self.words, &self.layout, *id, counts);
        }
        scoreboard::credit(&self.words, &self.layout, status);
    }

    /// Maps the region anew for a worker, tables read-only, and takes the worker slot for this
    /// process: its id is on the scoreboard before it reads a table. Called in the child.
    pub fn worker(&self, slot: u32) -> Result<WorkerRegion, Error> {
        let workers = self.layout.capacity.workers;
        if slot >= workers {
            return Err(Error::NoSuchSlot { slot, workers });
        }
        let failed = |source| Error::Io {
            action: "mmap()",
            path: self.path.clone(),
            source,
        };
        let live = self.layout.live * WORD;
        let tables = map::readable(
            &self.file,
            Part {
                begin: 0,
                end: live,
            },
        );
        let end = self.layout.words * WORD;
        let shared = map::writable(&self.file, Part { begin: live, end });
        Ok(WorkerRegion::new(
            self.layout,
            slot,
            Words::new(tables.map_err(failed)?),
            WordsMut::new(shared.map_err(failed)?),
        ))
    }

    /// Adds what a dead worker counted to the rows of all dead ones and clears its rows: nothing
    /// of it is in flight any more. Before its successor starts.
    pub fn fold(&self, slot: u32) {
        if slot < self.layout.capacity.workers {
            counters::fold(&self.words, &self.layout, slot);
            latency::fold(&self.words, &self.layout, slot);
            scoreboard::fold(&self.words, &self.layout, slot);
        }
    }

    /// The rows of all workers, by slot.
    pub fn scoreboard(&self) -> Vec<WorkerRow> {
        let slots = 0..self.layout.capacity.workers;
        slots.filter_map(|slot| self.worker_row(slot)).collect()
    }

    /// The row of the worker of a slot.
    pub fn worker_row(&self, slot: u32) -> Option<WorkerRow> {
        let first = (slot < self.layout.capacity.workers).then(|| self.layout.row(slot))?;
        WorkerRow::parse(slot, |word| self.words.load(first + word))
    }

    /// The latch and its memory, for tests that race against it.
    #[doc(hidden)]
    pub fn latch(&self) -> (Ring, &(impl Load + Store)) {
        (ring(&self.layout), &self.words)
    }

    pub(crate) fn set_path(&mut self, path: &Path) {
        path.clone_into(&mut self.path);
    }

    pub(crate) fn words(&self) -> &WordsMut {
        &self.words
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// The latch of a region.
pub(crate) fn ring(layout: &Layout) -> Ring {
    let slots = u64::from(layout.capacity.slots);
    Ring::new(header::VERSION, layout.tables, layout.slot_words, slots)
}

fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    loop {
        match posix_fallocate(file, 0, length) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

fn write_header(file: &File, layout: &Layout, boot: u64) -> io::Result<()> {
    let words = layout.header(boot);
    let sum = u64::from(checksum(&[&words]));
    let bytes: Vec<u8> = words
        .iter()
        .chain([&sum])
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    file.write_all_at(&bytes, 0)
}

/// Tells regions apart that were made one after another at one path.
fn random() -> io::Result<u64> {
    let mut bytes = [0; WORD];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
