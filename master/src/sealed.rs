//! A file of weir's own, read by a later run: a line with what follows it, and one JSON value. It is
//! replaced as a whole, and what is damaged is found.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::errno::describe;

/// A file that is larger is none of ours: a million servers fit.
const SIZE_MAX: u64 = 256 << 20;
/// The first line is no longer.
const HEAD_MAX: usize = 100;

/// What a file is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// How it begins; its number rises when the form changes.
    pub(crate) magic: &'static str,
    /// As messages call it.
    pub(crate) name: &'static str,
    /// It has to be there after a power cut.
    pub(crate) lasts: bool,
}

impl Kind {
    /// The file's bytes.
    pub(crate) fn render(self, value: &impl Serialize) -> Vec<u8> {
        let body = serde_json::to_vec(value).unwrap_or_default();
        let mut text = format!(
            "{} crc32={:08x} bytes={}\n",
            self.magic,
            crc32fast::hash(&body),
            body.len()
        )
        .into_bytes();
        text.extend(body);
        text
    }

    fn parse<T: DeserializeOwned>(self, text: &[u8]) -> Result<T, String> {
        let end = text.iter().take(HEAD_MAX).position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| format!("it is no {} of weir", self.name))?;
        let (head, body) = (&text[..end], &text[end + 1..]);
        let head = std::str::from_utf8(head).unwrap_or_default();
        let sums = head
            .strip_prefix(self.magic)
            .and_then(|rest| rest.strip_prefix(" crc32="))
            .and_then(|rest| rest.split_once(" bytes="))
            .ok_or_else(|| format!("it is no {} of this weir", self.name))?;
        if sums.1 != body.len().to_string() {
            return Err(format!("it has {} bytes, not {}", body.len(), sums.1));
        }
        let sum = format!("{:08x}", crc32fast::hash(body));
        if sums.0 != sum {
            return Err(format!("its checksum is {sum}, not {}", sums.0));
        }
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// Why it cannot be used, with its name.
    pub(crate) fn read<T: DeserializeOwned>(self, path: &Path) -> Result<Option<T>, String> {
        let unused = format!("{} \"{}\" is not used", self.name, path.display());
        let fail = |error: io::Error| format!("{unused} {}", describe(&error));
        // Neither a FIFO that nobody writes nor a link of the folder's owner is followed.
        let flags = O_NONBLOCK | O_NOFOLLOW;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(fail)?,
        };
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() || metadata.len() > SIZE_MAX {
            return Err(format!(
                "{unused}: it is no file, or has more than {SIZE_MAX} bytes"
            ));
        }
        let mut text = Vec::new();
        file.take(SIZE_MAX).read_to_end(&mut text).map_err(fail)?;
        let value = self.parse(&text);
        value.map(Some).map_err(|why| format!("{unused}: {why}"))
    }

    /// Replaces the file, of mode 0600, by a temporary one beside it and a rename, with both synced if it
    /// lasts.
    ///
    /// # Errors
    /// As the file system says; the old file stays whole.
    pub(crate) fn write(self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let done = write_whole(&temporary, &self.render(value)).and_then(|file| {
            if self.lasts {
                file.sync_all()?;
            }
            fs::rename(&temporary, path)?;
            if self.lasts {
                let folder = path.parent().filter(|folder| *folder != Path::new(""));
                File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Ok(())
        });
        if done.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        done
    }
}

fn write_whole(path: &Path, text: &[u8]) -> io::Result<File> {
    // A leftover may be a link or belong to someone else: it is never written through.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        magic: "weir-test 1",
        name: "test file",
        lasts: true,
    };

    fn value(version: u64) -> Vec<u64> {
        vec![version, 5]
    }

    fn read(path: &Path) -> Result<Option<Vec<u64>>, String> {
        KIND.read(path)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.test");
        assert!(read(&path).unwrap().is_none());
        KIND.write(&path, &value(1)).unwrap();
        KIND.write(&path, &value(2)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(value(2)));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_damage_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.test");
        let good = KIND.render(&value(1));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.starts_with("test file"), "{error}");
            assert!(error.contains("weir.test\" is not used: it"), "{error}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(read(&path).is_err(), "{length} bytes");
        }
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(read(&path).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.test");
        KIND.write(&path, &value(1)).unwrap();
        // A folder in the temporary file's place cannot be removed as a file.
        fs::create_dir(folder.path().join("weir.test.tmp")).unwrap();
        assert!(KIND.write(&path, &value(2)).is_err());
        assert_eq!(read(&path).unwrap(), Some(value(1)));
    }
}
