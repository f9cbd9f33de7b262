//! Mappings of the region's file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use crate::fault::{self, Call};

/// Bytes of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub begin: usize,
    pub end: usize,
}

impl Part {
    /// The whole file, however long it is.
    pub const ALL: Part = Part {
        begin: 0,
        end: usize::MAX,
    };

    fn options(self) -> io::Result<MmapOptions> {
        fault::check(Call::Mmap)?;
        let mut options = MmapOptions::new();
        options.offset(self.begin as u64);
        if self.end != Part::ALL.end {
            options.len(self.end - self.begin);
        }
        Ok(options)
    }
}

/// For reading alone.
pub(crate) fn readable(file: &File, part: Part) -> io::Result<Arc<MmapRaw>> {
    part.options()?.map_raw_read_only(file).map(Arc::new)
}

/// For writing too.
pub(crate) fn writable(file: &File, part: Part) -> io::Result<Arc<MmapRaw>> {
    part.options()?.map_raw(file).map(Arc::new)
}
