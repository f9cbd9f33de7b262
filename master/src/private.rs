//! Files that only the master may be able to read: tokens, certificates, keys. It opens them for
//! the syncer, and again when they change. It looks at them now and then: that finds a file that is
//! written in place, one that is renamed into its place and one behind a symbolic link that now
//! points elsewhere, on every file system.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::errno::describe;
use crate::settings::{PrivateFile, Settings};
use crate::syncer::tls;
use crate::syncer::vault::Vault;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// A file that changed so little ago may change again without another time on it.
const UNSETTLED: Duration = Duration::from_secs(2);

/// The opened files of a configuration, by number.
#[derive(Debug, Default)]
pub(crate) struct PrivateFiles {
    opened: Vec<Opened>,
    /// When to look again; never where there is no file.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    stamp: Stamp,
    /// The last look failed, which is told once.
    failing: bool,
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether what is written from now on is sure to give another one.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.map_or(0, |now| now.as_nanos() as i128);
        let age_ns = now_ns - self.changed_ns.max(self.modified_ns);
        age_ns.unsigned_abs() > UNSETTLED.as_nanos()
    }
}

impl PrivateFiles {
    /// Opens the files of `settings`, and makes sure that each holds what its directive is about.
    ///
    /// # Errors
    /// The first that does not, with the directive's place.
    pub(crate) fn open(settings: &Settings) -> Result<PrivateFiles, String> {
        let opened = settings
            .private
            .iter()
            .map(|private| open(&private.path).map_err(|error| failed(private, &error)))
            .collect::<Result<Vec<_>, _>>()?;
        let vault = Vault::default();
        for (private, opened) in settings.private.iter().zip(&opened) {
            vault.put(private, &opened.file)?;
        }
        for upsync in settings.sources() {
            if let Some(token) = &upsync.token {
                vault.token(token)?;
            }
            if let Some(certificates) = &upsync.tls {
                tls::config(certificates, &vault)?;
            }
        }
        let due = (!opened.is_empty()).then(|| Instant::now() + PAUSE);
        Ok(PrivateFiles { opened, due })
    }

    /// Descriptors of one's own.
    ///
    /// # Errors
    /// As `dup`.
    pub(crate) fn duplicate(&self) -> io::Result<Vec<File>> {
        self.files().map(File::try_clone).collect()
    }

    /// By number.
    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.opened.iter().map(|opened| &opened.file)
    }

    /// When [`look`](PrivateFiles::look) is to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Looks at the files once it is time, `files` being their names: the numbers of those that
    /// have changed, which are opened anew, and what went wrong.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        files: &[PrivateFile],
    ) -> (Vec<usize>, Vec<String>) {
        let (mut changed, mut errors) = (Vec::new(), Vec::new());
        if self.due.is_none_or(|due| now < due) {
            return (changed, errors);
        }
        self.due = Some(now + PAUSE);
        for (number, (known, private)) in self.opened.iter_mut().zip(files).enumerate() {
            match renewed(known, &private.path) {
                Ok(true) => changed.push(number),
                Ok(false) => {}
                Err(error) => {
                    if !std::mem::replace(&mut known.failing, true) {
                        errors.push(failed(private, &error));
                    }
                    continue;
                }
            }
            known.failing = false;
        }
        (changed, errors)
    }
}

/// Follows what is at `path` now; whether it may be something else than before.
fn renewed(known: &mut Opened, path: &Path) -> io::Result<bool> {
    let stamp = Stamp::of(&std::fs::metadata(path)?);
    if stamp == known.stamp && stamp.is_settled() {
        return Ok(false);
    }
    *known = open(path)?;
    Ok(true)
}

fn open(path: &Path) -> io::Result<Opened> {
    // A FIFO would not open before somebody writes to it.
    let nonblocking = nix::libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(Opened {
        file,
        stamp: Stamp::of(&metadata),
        failing: false,
    })
}

fn failed(private: &PrivateFile, error: &io::Error) -> String {
    let (path, place) = (private.path.display(), &private.place);
    let error = describe(error);
    format!(
        "open() \"{path}\" failed {error} in {}:{}",
        place.file, place.line
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Place;
    use std::io::Read as _;

    fn private(path: &Path) -> PrivateFile {
        PrivateFile {
            path: path.to_owned(),
            place: Place {
                file: "weir.conf".into(),
                line: 3,
            },
        }
    }

    fn settled(path: &Path) {
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }

    #[test]
    fn a_file_that_changes_is_opened_anew_however_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let names = [private(&path)];
        let mut files = PrivateFiles {
            opened: vec![open(&path).unwrap()],
            due: Some(Instant::now()),
        };
        let content = |files: &PrivateFiles| {
            let mut text = String::new();
            let mut file = files.files().next().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        };
        let mut now = Instant::now();
        let mut look = |files: &mut PrivateFiles| {
            now += PAUSE;
            files.look(now, &names)
        };
        // Just written: it may change again without another time on it.
        assert_eq!(look(&mut files), (vec![0], vec![]));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(look(&mut files), (vec![0], vec![]));
        assert_eq!(content(&files), "two");
        let other = folder.path().join("other");
        std::fs::write(&other, "three").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(look(&mut files), (vec![0], vec![]));
        assert_eq!(content(&files), "three");
        std::fs::remove_file(&path).unwrap();
        let (changed, errors) = look(&mut files);
        let expected = format!(
            "open() \"{}\" failed (2: No such file or directory) in weir.conf:3",
            path.display()
        );
        assert_eq!((changed, errors), (vec![], vec![expected]));
        assert_eq!(look(&mut files), (vec![], vec![]), "told once");
        std::os::unix::fs::symlink(folder.path().join("four"), &path).unwrap();
        std::fs::write(folder.path().join("four"), "four").unwrap();
        assert_eq!(look(&mut files), (vec![0], vec![]));
        assert_eq!(content(&files), "four");
    }

    #[test]
    fn a_settled_file_is_left_alone_and_nothing_is_looked_at_too_early() {
        let old = Path::new("/proc/self/exe");
        let metadata = std::fs::metadata(old).unwrap();
        let mut stamp = Stamp::of(&metadata);
        stamp.changed_ns = 0;
        stamp.modified_ns = 0;
        assert!(stamp.is_settled());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        settled(&path);
        let fresh = Stamp::of(&std::fs::metadata(&path).unwrap());
        assert!(
            !fresh.is_settled(),
            "its change time is now, whatever it says"
        );
        let now = Instant::now();
        let mut files = PrivateFiles {
            opened: vec![open(&path).unwrap()],
            due: Some(now + PAUSE),
        };
        assert_eq!(files.look(now, &[private(&path)]), (vec![], vec![]));
        assert_eq!(PrivateFiles::default().due(), None);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path()).is_err());
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&fifo).is_err());
    }
}
