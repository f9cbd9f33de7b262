//! The logs: opened by the master, which may do so as root, for itself and its children.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::errno::describe;
use crate::settings::Resource;

/// Opens every resource, by its number.
///
/// # Errors
/// nginx's `open() "PATH" failed (2: No such file or directory)` for the first that fails.
pub(crate) fn open(resources: &[Resource]) -> Result<Vec<File>, String> {
    resources.iter().map(open_one).collect()
}

/// Opens one.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_one(resource: &Resource) -> Result<File, String> {
    match resource {
        Resource::Log(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .open(path)
            .map_err(|error| format!("open() \"{}\" failed {}", path.display(), describe(&error))),
        Resource::Stderr => io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .map(File::from)
            .map_err(|error| format!("dup() of standard error failed {}", describe(&error))),
    }
}

/// Opens the files a second time for a child, as descriptors of its own.
///
/// # Errors
/// As `dup`.
pub(crate) fn duplicate(files: &[File]) -> io::Result<Vec<File>> {
    files.iter().map(File::try_clone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn logs_are_made_and_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        std::fs::write(&path, "one\n").unwrap();
        let files = open(&[Resource::Log(path.clone()), Resource::Stderr]).unwrap();
        (&files[0]).write_all(b"two\n").unwrap();
        (&duplicate(&files).unwrap()[0])
            .write_all(b"three\n")
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "one\ntwo\nthree\n");
        let missing = Resource::Log("/nonexistent/error.log".into());
        let error = open(&[missing]).unwrap_err();
        let expected = "open() \"/nonexistent/error.log\" failed (2: No such file or directory)";
        assert_eq!(error, expected);
    }
}
