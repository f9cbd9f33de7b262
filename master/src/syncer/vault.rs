//! The contents of private files, read through the descriptors that the master passes: tokens,
//! certificates, keys. By path, as numbers change with each configuration.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::tls::Configs;
use crate::settings::{Certificates, Place, PrivateFile, Secret, Token};

/// The largest file that is read, in bytes.
pub const LARGEST: usize = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Vault {
    state: RwLock<State>,
    /// Made of certificates in it.
    pub configs: Configs,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<PathBuf, Private>,
    /// Rises with each change.
    version: u64,
}

/// A file as it was last read.
#[derive(Clone)]
pub struct Private {
    path: Arc<Path>,
    place: Place,
    /// All of it.
    pub content: Arc<[u8]>,
    /// The vault's since it has this content.
    version: u64,
}

impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Private").field("path", &self.path).finish()
    }
}

impl Private {
    /// `"PATH" in FILE:LINE`, for errors.
    pub fn named(&self) -> impl Display {
        named(&self.path, &self.place)
    }
}

fn named(path: &Path, place: &Place) -> String {
    format!("\"{}\" in {}:{}", path.display(), place.file, place.line)
}

impl Vault {
    /// Reads `file` anew from its start; whether that changed something.
    ///
    /// # Errors
    /// It cannot be read, or is larger than [`LARGEST`]; the last content stays.
    pub fn put(&self, private: &PrivateFile, file: &File) -> Result<bool, String> {
        let failed = |why: &dyn Display| {
            let named = named(&private.path, &private.place);
            format!("cannot read {named}: {why}")
        };
        let content = read(file).map_err(|error| failed(&error))?;
        if content.len() > LARGEST {
            return Err(failed(&format_args!("it is larger than {LARGEST} bytes")));
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let known = state.files.get(&private.path);
        let same = known.filter(|known| *known.content == *content);
        let same = same.map(|known| known.version);
        let held = Private {
            path: private.path.as_path().into(),
            place: private.place.clone(),
            content: content.into(),
            version: same.unwrap_or(state.version + 1),
        };
        state.version = state.version.max(held.version);
        state.files.insert(private.path.clone(), held);
        Ok(same.is_none())
    }

    /// A file.
    pub fn get(&self, path: &Path) -> Option<Private> {
        self.read().files.get(path).cloned()
    }

    /// Rises with each change of a file that is among these certificates.
    pub fn version(&self, certificates: &Certificates) -> u64 {
        let state = self.read();
        let own = certificates.own.iter();
        let own = own.flat_map(|(certificate, key)| [certificate, key]);
        let used = certificates.trusted.iter().chain(own);
        let known = used.filter_map(|path| state.files.get(path));
        known.map(|file| file.version).max().unwrap_or_default()
    }

    /// What `token` stands for.
    ///
    /// # Errors
    /// Its file holds none: one line of visible characters, with space around it at most.
    pub fn token(&self, token: &Token) -> Result<Secret, String> {
        let path = match token {
            Token::Text(secret) => return Ok(secret.clone()),
            Token::File(path) => path,
        };
        let Some(file) = self.get(path) else {
            return Err(format!("\"{}\" was not opened", path.display()));
        };
        let text = file.content.trim_ascii();
        if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
            return Err(format!("there is no token in {}", file.named()));
        }
        Ok(Secret(String::from_utf8_lossy(text).into_owned()))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The descriptor's offset is shared with the master's: it is not relied upon. One byte more than
/// [`LARGEST`] is read at most.
fn read(file: &File) -> std::io::Result<Vec<u8>> {
    let mut content = vec![0; LARGEST + 1];
    let mut length = 0;
    while length < content.len() {
        match file.read_at(&mut content[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    content.truncate(length);
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_file_is_read_through_its_descriptor_and_again_when_it_is_handed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let private = PrivateFile {
            path: path.clone(),
            place: Place {
                file: "weir.conf".into(),
                line: 7,
            },
        };
        let vault = Vault::default();
        let token = Token::File(path.clone());
        assert!(vault.token(&token).is_err());
        std::fs::write(&path, " \n").unwrap();
        let opened = File::open(&path).unwrap();
        assert_eq!(vault.put(&private, &opened), Ok(true));
        let why = vault.token(&token).unwrap_err();
        assert!(why.ends_with("token\" in weir.conf:7"), "{why}");
        std::fs::write(&path, "  one-token\n").unwrap();
        assert_eq!(vault.put(&private, &opened), Ok(true));
        assert_eq!(vault.put(&private, &opened), Ok(false));
        assert_eq!(vault.token(&token).unwrap().0, "one-token");
        assert!(!format!("{vault:?}").contains("one-token"));
        let mut large = File::create(&path).unwrap();
        large.write_all(&vec![b'x'; LARGEST + 1]).unwrap();
        assert!(vault.put(&private, &opened).unwrap_err().contains("larger"));
        assert_eq!(vault.token(&token).unwrap().0, "one-token");
        std::fs::write(&path, "two tokens").unwrap();
        assert_eq!(vault.put(&private, &opened), Ok(true));
        assert!(vault.token(&token).is_err());
    }
}
