//! What the old master of a binary upgrade puts aside, as nginx its pid file: PATH is left to the
//! new one, PATH.oldbin is the old one's, which takes PATH back if the new one ends first.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::errno::describe;

/// What nginx puts behind the name of a pid file.
const OLDBIN: &str = ".oldbin";

/// Where the old master keeps what was at `path`.
pub(crate) fn name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OLDBIN);
    name.into()
}

/// Gives the file at `path` its other name too: the new master puts its own in the place by a
/// rename, so that there is one at any time. What an earlier upgrade left behind goes.
///
/// # Errors
/// `link() "PATH" to "PATH.oldbin" failed (…)`.
pub(crate) fn link(path: &Path) -> Result<(), String> {
    let aside = name(path);
    let done = match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::hard_link(path, &aside),
    };
    done.map_err(|error| failed("link()", path, &aside, &error))
}

/// Moves the file at `path` to its other name.
///
/// # Errors
/// `rename() "PATH" to "PATH.oldbin" failed (…)`.
pub(crate) fn rename(path: &Path) -> Result<(), String> {
    let aside = name(path);
    fs::rename(path, &aside).map_err(|error| failed("rename()", path, &aside, &error))
}

/// Puts the file back to `path`, in the place of whatever is there; nothing if it was not put aside.
///
/// # Errors
/// `rename() "PATH.oldbin" back to "PATH" failed (…)`.
pub(crate) fn take_back(path: &Path) -> Result<(), String> {
    let aside = name(path);
    let done = match fs::rename(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Two names of one file: rename() leaves both.
        Ok(()) if is_same(&aside, path) => fs::remove_file(&aside),
        done => done,
    };
    done.map_err(|error| failed("rename()", &aside, path, &error))
}

/// Removes the file that was put aside, if there is one.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(name(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whether the file at `path` is one whose owner has put it aside: it may be replaced.
pub(crate) fn is_left(path: &Path) -> bool {
    is_same(&name(path), path)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::symlink_metadata(one), fs::symlink_metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn failed(call: &str, from: &Path, to: &Path, error: &io::Error) -> String {
    let (from, to) = (from.display(), to.display());
    format!("{call} \"{from}\" to \"{to}\" failed {}", describe(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn a_linked_file_is_replaced_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.region");
        fs::write(name(&path), "left behind").unwrap();
        fs::write(&path, "old").unwrap();
        assert!(!is_left(&path));
        link(&path).unwrap();
        assert!(is_left(&path));
        let new = folder.path().join("new");
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(!is_left(&path));
        assert_eq!(read(&name(&path)).as_deref(), Some("old"));
        take_back(&path).unwrap();
        assert_eq!(read(&path).as_deref(), Some("old"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_never_replaced_keeps_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        fs::write(&path, "old").unwrap();
        link(&path).unwrap();
        take_back(&path).unwrap();
        assert_eq!(read(&path).as_deref(), Some("old"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        take_back(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).as_deref(), Some("old"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = link(Path::new("/nonexistent/weir.region")).unwrap_err();
        assert_eq!(
            error,
            "link() \"/nonexistent/weir.region\" to \"/nonexistent/weir.region.oldbin\" failed \
             (2: No such file or directory)"
        );
        assert!(rename(Path::new("/nonexistent/weir.pid")).is_err());
    }
}
