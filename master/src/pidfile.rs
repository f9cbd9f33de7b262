//! The pid file. The master holds a lock on it for as long as it lives, so that a second one can
//! tell a stale file from a live master, whoever has its number now.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::errno::describe;
use crate::oldbin;

/// A pid file that this process wrote.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// The path is a new binary's for now.
    is_aside: bool,
    /// Held for its lock.
    file: File,
}

/// Refuses a pid file that a live master holds; a stale one is fine.
///
/// # Errors
/// A message that names the file and its master.
pub(crate) fn refuse_live(path: &Path) -> Result<(), String> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    // Shared, so that two starts that look at the same time do not take each other for a master.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = fs::read_to_string(path).unwrap_or_default();
            let (pid, path) = (pid.trim(), path.display());
            Err(format!(
                "pid file \"{path}\" is held by the running master process {pid}"
            ))
        }
        _ => Ok(()),
    }
}

impl PidFile {
    /// Writes `pid` to `path`, whole or not at all, mode 0644.
    ///
    /// # Errors
    /// nginx's `open() "PATH" failed (…)`.
    pub(crate) fn write(path: &Path, pid: u32) -> Result<PidFile, String> {
        PidFile::try_write(path, pid)
            .map_err(|error| format!("open() \"{}\" failed {}", path.display(), describe(&error)))
    }

    fn try_write(path: &Path, pid: u32) -> io::Result<PidFile> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{pid}.tmp"));
        // What a master of the same number left behind.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)?;
        let done = (|| {
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(format!("{pid}\n").as_bytes())?;
            fs::rename(&temporary, path)
        })();
        if let Err(error) = done {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(PidFile {
            path: path.to_owned(),
            is_aside: false,
            file,
        })
    }

    /// Leaves the name to a new binary.
    ///
    /// # Errors
    /// As [`oldbin::rename`].
    pub(crate) fn put_aside(&mut self) -> Result<(), String> {
        oldbin::rename(&self.path)?;
        self.is_aside = true;
        Ok(())
    }

    /// Takes the name back, if it was left.
    ///
    /// # Errors
    /// As [`oldbin::take_back`].
    pub(crate) fn take_back(&mut self) -> Result<(), String> {
        if self.is_aside {
            oldbin::take_back(&self.path)?;
            self.is_aside = false;
        }
        Ok(())
    }

    /// Removes the file if it is still the one that was written.
    pub(crate) fn remove(self) -> io::Result<()> {
        let path = match self.is_aside {
            true => oldbin::name(&self.path),
            false => self.path,
        };
        let (ours, there) = (self.file.metadata()?, fs::metadata(&path));
        match there {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                fs::remove_file(&path)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_master_is_refused_and_a_stale_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.pid");
        refuse_live(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        refuse_live(&path).unwrap();

        let held = PidFile::write(&path, 4711).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
        let error = refuse_live(&path).unwrap_err();
        assert!(
            error.ends_with("held by the running master process 4711"),
            "{error}"
        );
        held.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_another_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.pid");
        let first = PidFile::write(&path, 1).unwrap();
        let second = PidFile::write(&path, 2).unwrap();
        first.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
        second.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_was_put_aside_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.pid");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut old = PidFile::write(&path, 1).unwrap();
        old.put_aside().unwrap();
        refuse_live(&path).unwrap();
        let new = PidFile::write(&path, 2).unwrap();
        assert_eq!(
            (read(&path), read(&oldbin::name(&path))),
            ("2\n".into(), "1\n".into())
        );
        // As if killed: its file stays.
        drop(new);
        old.take_back().unwrap();
        assert_eq!(read(&path), "1\n");
        assert!(refuse_live(&path).is_err(), "the lock came along");
        old.put_aside().unwrap();
        let new = PidFile::write(&path, 3).unwrap();
        old.remove().unwrap();
        assert_eq!(read(&path), "3\n");
        new.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = PidFile::write(Path::new("/nonexistent/weir.pid"), 1).unwrap_err();
        let expected = "open() \"/nonexistent/weir.pid\" failed (2: No such file or directory)";
        assert_eq!(error, expected);
    }
}
