//! Logs with variables in their names: opened by the worker when there is something to write, and
//! kept open as `open_log_file_cache` says.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::links::{Links, List};
use crate::settings::LogFileCache;

/// The rights of a log that is created, as in nginx; the umask takes from them.
const MODE: u32 = 0o644;

/// Files that were not written to for long are closed, at most so many with each line.
const CLOSED_A_LINE: usize = 2;

/// What went wrong.
#[derive(Debug)]
pub enum Failed {
    /// The file could not be opened.
    Open(io::Error),
    /// The line could not be written.
    Write(io::Error),
}

/// Writes a line into the file of this name, without a cache.
///
/// # Errors
/// See [`Failed`].
pub fn write_once(path: &[u8], line: &[u8]) -> Result<(), Failed> {
    let mut file = open(path).map_err(Failed::Open)?;
    file.write_all(line).map_err(Failed::Write)
}

fn open(path: &[u8]) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .open(Path::new(OsStr::from_bytes(path)))
}

/// Open files by their names, the least recently used of which goes when it is full.
#[derive(Debug)]
pub struct Cache {
    settings: LogFileCache,
    places: HashMap<Vec<u8>, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    links: Links,
    used: List,
}

#[derive(Debug, Default)]
struct Entry {
    path: Vec<u8>,
    /// With what tells it from another one of the same name: device and inode.
    file: Option<(File, (u64, u64))>,
    uses: u64,
    checked: u64,
    accessed: u64,
}

impl Cache {
    /// An empty one.
    pub fn new(settings: LogFileCache) -> Cache {
        Cache {
            settings,
            places: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            links: Links::default(),
            used: List::default(),
        }
    }

    /// Writes a line into the file of this name, at the time `now` in seconds.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn write(&mut self, path: &[u8], line: &[u8], now: u64) -> Result<(), Failed> {
        let place = self.place(path);
        let entry = &mut self.entries[place as usize];
        entry.uses += 1;
        entry.accessed = now;
        let opened = entry.open(self.settings.valid.as_secs(), now);
        let written = match opened {
            Err(error) => Err(Failed::Open(error)),
            Ok(file) => file.write_all(line).map_err(Failed::Write),
        };
        if entry.uses < self.settings.min_uses {
            entry.file = None;
        }
        if matches!(written, Err(Failed::Open(_))) {
            self.forget(place);
        }
        self.close_idle(now);
        written
    }

    /// Closes all files: they are to be opened anew.
    pub fn clear(&mut self) {
        *self = Cache::new(self.settings);
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        let open = |entry: &&Entry| entry.file.is_some();
        self.entries.iter().filter(open).count()
    }

    /// The entry of this name, which is the latest used from now on.
    fn place(&mut self, path: &[u8]) -> u32 {
        let place = match self.places.get(path) {
            Some(&place) => {
                self.links.remove(&mut self.used, place);
                place
            }
            None => self.insert(path),
        };
        self.links.push(&mut self.used, place);
        place
    }

    fn insert(&mut self, path: &[u8]) -> u32 {
        if self.places.len() >= self.settings.max
            && let Some(oldest) = self.used.oldest()
        {
            self.forget(oldest);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            // `max` is far below.
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.entries[place as usize].path.extend_from_slice(path);
        self.places.insert(path.to_vec(), place);
        place
    }

    fn forget(&mut self, place: u32) {
        let entry = std::mem::take(&mut self.entries[place as usize]);
        self.places.remove(&entry.path);
        self.links.remove(&mut self.used, place);
        self.free.push(place);
    }

    fn close_idle(&mut self, now: u64) {
        for _ in 0..CLOSED_A_LINE {
            let Some(oldest) = self.used.oldest() else {
                return;
            };
            let idle = now.saturating_sub(self.entries[oldest as usize].accessed);
            if idle <= self.settings.inactive.as_secs() {
                return;
            }
            self.forget(oldest);
        }
    }
}

impl Entry {
    /// The file, opened if it is not, or if its name belongs to another one by now.
    fn open(&mut self, valid: u64, now: u64) -> io::Result<&mut File> {
        if let Some((_, known)) = &self.file
            && now.saturating_sub(self.checked) >= valid
        {
            let named = std::fs::metadata(Path::new(OsStr::from_bytes(&self.path)));
            match named {
                Ok(named) if (named.dev(), named.ino()) == *known => self.checked = now,
                _ => self.file = None,
            }
        }
        let (file, _) = match self.file.take() {
            Some(open) => self.file.insert(open),
            None => {
                let file = open(&self.path)?;
                let metadata = file.metadata()?;
                self.checked = now;
                self.file.insert((file, (metadata.dev(), metadata.ino())))
            }
        };
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cache(max: usize, min_uses: u64) -> Cache {
        Cache::new(LogFileCache {
            max,
            inactive: Duration::from_secs(10),
            valid: Duration::from_secs(60),
            min_uses,
        })
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> Vec<u8> {
            self.0.path().join(name).as_os_str().as_bytes().to_vec()
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.path().join(name)).unwrap()
        }

        fn rename(&self, from: &str, to: &str) {
            std::fs::rename(self.0.path().join(from), self.0.path().join(to)).unwrap();
        }
    }

    #[test]
    fn the_least_recently_used_file_goes() {
        let folder = Folder::new();
        let mut cache = cache(2, 1);
        for name in ["a", "b", "a", "c", "a"] {
            cache.write(&folder.path(name), b"x\n", 0).unwrap();
            assert!(cache.open_files() <= 2);
        }
        assert_eq!(folder.text("a"), "x\nx\nx\n");
        let kept = |name: &str| cache.places.contains_key(&folder.path(name));
        assert!(kept("a") && kept("c") && !kept("b"));
    }

    #[test]
    fn a_file_that_was_renamed_is_written_to_until_it_is_looked_at_again() {
        let folder = Folder::new();
        let mut cache = cache(2, 1);
        cache.write(&folder.path("a"), b"1\n", 0).unwrap();
        folder.rename("a", "b");
        cache.write(&folder.path("a"), b"2\n", 59).unwrap();
        // Not long enough without a line to be closed, but long enough to be looked at.
        cache.write(&folder.path("a"), b"3\n", 60).unwrap();
        assert_eq!(
            (folder.text("b"), folder.text("a")),
            ("1\n2\n".into(), "3\n".into())
        );
        folder.rename("a", "c");
        cache.clear();
        cache.write(&folder.path("a"), b"4\n", 60).unwrap();
        assert_eq!(
            (folder.text("c"), folder.text("a")),
            ("3\n".into(), "4\n".into())
        );
    }

    #[test]
    fn a_file_stays_open_from_min_uses_on_and_closes_when_idle() {
        let folder = Folder::new();
        let mut cache = cache(9, 2);
        cache.write(&folder.path("a"), b"1\n", 0).unwrap();
        assert_eq!(cache.open_files(), 0);
        cache.write(&folder.path("a"), b"2\n", 10).unwrap();
        assert_eq!(cache.open_files(), 1);
        cache.write(&folder.path("b"), b"3\n", 20).unwrap();
        assert_eq!(cache.open_files(), 1, "ten seconds are not more than ten");
        cache.write(&folder.path("b"), b"4\n", 21).unwrap();
        assert_eq!(cache.open_files(), 1, "only b");
        cache.write(&folder.path("a"), b"5\n", 21).unwrap();
        assert_eq!(cache.open_files(), 1, "its uses count anew");
        assert_eq!(folder.text("a"), "1\n2\n5\n");
    }

    #[test]
    fn what_cannot_be_opened_is_said_and_not_kept() {
        let folder = Folder::new();
        let mut cache = cache(2, 1);
        for path in [folder.path("none/a"), folder.path("a\0b")] {
            let failed = cache.write(&path, b"x\n", 0).unwrap_err();
            assert!(matches!(failed, Failed::Open(_)), "{failed:?}");
            let failed = write_once(&path, b"x\n").unwrap_err();
            assert!(matches!(failed, Failed::Open(_)), "{failed:?}");
        }
        assert!(cache.places.is_empty());
        let failed = write_once(b"/dev/full", b"x\n").unwrap_err();
        assert!(matches!(failed, Failed::Write(_)), "{failed:?}");
    }
}
