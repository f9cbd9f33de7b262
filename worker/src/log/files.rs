//! Opened logs by their numbers.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

use crate::settings::ResourceId;

/// The opened logs of one process, shared by its threads.
#[derive(Debug, Default)]
pub struct Files {
    files: RwLock<Vec<Option<Arc<File>>>>,
}

impl Files {
    /// By resource number.
    pub fn new(files: Vec<File>) -> Files {
        let files = files.into_iter().map(|file| Some(Arc::new(file))).collect();
        Files {
            files: RwLock::new(files),
        }
    }

    /// Puts a log that was opened anew in the place of the old one, which is closed.
    pub fn replace(&self, id: ResourceId, file: File) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if id >= files.len() {
            files.resize_with(id + 1, || None);
        }
        files[id] = Some(Arc::new(file));
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// No number at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes one line, its newline included, by one write(2) where the system takes it whole.
    ///
    /// # Errors
    ///
    /// The system's, such as a full disk, or a pipe that nobody empties; the rest of the line is
    /// lost. `NotFound` for a number without a file.
    pub fn write(&self, id: ResourceId, line: &[u8]) -> io::Result<()> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Some(file)) = files.get(id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut file: &File = file;
        // Goes on after a short write and after EINTR.
        file.write_all(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_replaced_file_gets_the_lines_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let files = Files::new(vec![File::create(&old).unwrap()]);
        files.write(0, b"one\n").unwrap();
        files.replace(0, File::create(&new).unwrap());
        files.write(0, b"two\n").unwrap();
        assert_eq!(std::fs::read(old).unwrap(), b"one\n");
        assert_eq!(std::fs::read(new).unwrap(), b"two\n");
        assert_eq!(
            files.write(1, b"x").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_full_disk_and_a_full_pipe_are_errors_and_no_more() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let files = Files::new(vec![full, File::from(writer)]);
        assert_eq!(
            files.write(0, b"x\n").unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        while files.write(1, &[b'x'; 4096]).is_ok() {}
        assert_eq!(
            files.write(1, b"x").unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let mut some = [0; 8192];
        reader.read_exact(&mut some).unwrap();
        files.write(1, b"again\n").unwrap();
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let files = Files::new(vec![file]);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let files = &files;
                scope.spawn(move || {
                    let line = format!("{}\n", thread.to_string().repeat(200));
                    for _ in 0..200 {
                        files.write(0, line.as_bytes()).unwrap();
                    }
                });
            }
        });
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 800);
        for line in text.lines() {
            assert!(line.len() == 200 && line.bytes().all(|byte| byte == line.as_bytes()[0]));
        }
    }
}
