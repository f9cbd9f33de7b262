//! Temporary files: made under nginx's names, without a name from then on unless it is asked for.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, remove_file};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::proxy::errno;
use crate::settings::TempFolder;
use crate::socket::is_shortage;

/// What one who is not the owner may do with a file, or a folder below: nothing.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// How far the next number lies when one is taken.
const COLLISION_STEP: u32 = 123_457;
/// Names that are tried for one file.
const MOST_NAMES: usize = 1000;

/// A file, open for reading and writing.
#[derive(Debug)]
pub struct TempFile {
    file: File,
    path: PathBuf,
    name: Name,
}

/// What becomes of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// It is taken away at once: the file goes with its descriptor, however that comes about.
    None,
    /// It goes with the file.
    Clean,
    /// It stays.
    Kept,
}

/// A call about a temporary file that failed, shown as nginx shows it.
#[derive(Debug)]
pub struct TempError {
    call: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for TempError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(
            f,
            "{} \"{path}\" failed ({})",
            self.call,
            errno(&self.error)
        )
    }
}

impl TempError {
    /// Whether there was no descriptor.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        Errno::from_io_error(&self.error).is_some_and(is_shortage)
    }
}

impl TempFile {
    /// The name that it has or had.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of this at `offset`.
    ///
    /// # Errors
    /// As `pwrite(2)`; how much of it was written is not known then.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), TempError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| TempError {
                call: "pwrite()",
                path: self.path.clone(),
                error,
            })
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.name == Name::Clean {
            // Somebody may have taken it away already.
            let _ = remove_file(&self.path);
        }
    }
}

/// Gives temporary files their numbers.
#[derive(Debug)]
pub struct Numbers(u32);

impl Numbers {
    /// Begins behind `seed`, which had better not be that of another worker.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// A new file in this folder.
    ///
    /// # Errors
    /// As `open(2)` and, for the folders below it, `mkdir(2)`.
    pub fn create(&mut self, folder: &TempFolder, name: Name) -> Result<TempFile, TempError> {
        self.0 = self.0.wrapping_add(1);
        let mut tries = 0;
        let mut made = false;
        loop {
            tries += 1;
            let path = path_of(folder, self.0);
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .open(&path);
            let error = match opened {
                Ok(file) => {
                    if name == Name::None {
                        let _ = remove_file(&path);
                    }
                    return Ok(TempFile { file, path, name });
                }
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::AlreadyExists if tries < MOST_NAMES => {
                    self.0 = self.0.wrapping_add(COLLISION_STEP);
                }
                io::ErrorKind::NotFound if !made && !folder.levels.is_empty() => {
                    make_levels(folder, &path)?;
                    made = true;
                }
                _ => {
                    return Err(TempError {
                        call: "open()",
                        path,
                        error,
                    });
                }
            }
        }
    }
}

/// Ten digits, below folders that are named after the last of them.
fn path_of(folder: &TempFolder, number: u32) -> PathBuf {
    let name = format!("{number:010}");
    let mut path = folder.path.clone();
    let mut end = name.len();
    for level in &folder.levels {
        let begin = end.saturating_sub(*level);
        path.push(&name[begin..end]);
        end = begin;
    }
    path.push(name);
    path
}

/// Makes the folders between the configured one and the file.
fn make_levels(folder: &TempFolder, file: &Path) -> Result<(), TempError> {
    let depth = folder.levels.len();
    let levels: Vec<&Path> = file.ancestors().skip(1).take(depth).collect();
    for level in levels.iter().rev() {
        match DirBuilder::new().mode(FOLDER_MODE).create(level) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(TempError {
                    call: "mkdir()",
                    path: level.to_path_buf(),
                    error,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &Path, levels: &[usize]) -> TempFolder {
        TempFolder {
            path: path.to_owned(),
            levels: levels.to_vec(),
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn names_are_nginxs() {
        let folder = |levels: &[usize]| folder(Path::new("/t"), levels);
        let shown = |levels: &[usize], number| path_of(&folder(levels), number);
        assert_eq!(shown(&[], 7), Path::new("/t/0000000007"));
        assert_eq!(shown(&[1, 2], 1234567890), Path::new("/t/0/89/1234567890"));
        assert_eq!(shown(&[2, 1, 3], 42), Path::new("/t/42/0/000/0000000042"));
    }

    #[test]
    fn a_file_has_its_name_for_as_long_as_was_asked() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path(), &[]);
        let mut numbers = Numbers::new(0);
        let unnamed = numbers.create(&folder, Name::None).unwrap();
        unnamed.write_at(b"abc", 2).unwrap();
        let mut read = [0; 5];
        unnamed.file().read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0abc");
        assert!(names(place.path()).is_empty());
        let clean = numbers.create(&folder, Name::Clean).unwrap();
        let kept = numbers.create(&folder, Name::Kept).unwrap();
        assert_eq!(names(place.path()).len(), 2);
        drop((clean, kept));
        assert_eq!(names(place.path()), ["0000000003"]);
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over_and_folders_are_made() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path(), &[1, 2]);
        let one = Numbers::new(0).create(&folder, Name::Kept).unwrap();
        let two = Numbers::new(0).create(&folder, Name::Kept).unwrap();
        assert!(one.path().ends_with("1/00/0000000001"), "{one:?}");
        assert!(two.path().ends_with("8/45/0000123458"), "{two:?}");
    }

    #[test]
    fn what_fails_is_said_in_nginxs_words() {
        let missing = |levels: &[usize]| {
            let folder = folder(Path::new("/nonexistent"), levels);
            let error = Numbers::new(0).create(&folder, Name::None).unwrap_err();
            error.to_string()
        };
        let reason = "failed (2: No such file or directory)";
        assert_eq!(
            missing(&[]),
            format!("open() \"/nonexistent/0000000001\" {reason}")
        );
        assert_eq!(
            missing(&[1]),
            format!("mkdir() \"/nonexistent/1\" {reason}")
        );
    }
}
