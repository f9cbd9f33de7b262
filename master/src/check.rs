//! What a configuration needs from the machine, beyond its own text.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess, geteuid};

use crate::errno::describe;
use crate::private::PrivateFiles;
use crate::settings::{Settings, User};
use crate::{listening, process, resolve, resources, room, temp};

/// What `weir -t` checks after the text: logs can be opened, tokens and
/// certificates are what they should be, and the folders of
/// temporary files are there (and are created, as nginx does), the
/// folders of pid file, region and dumps can be written, addresses can be bound, names resolve, and
/// the region has room.
///
/// # Errors
/// nginx's message of the first that fails, without the level.
pub fn check(settings: &Settings) -> Result<(), String> {
    temp::make(&settings.temp_folders, settings.user.as_ref())?;
    resources::open(&settings.resources)?;
    PrivateFiles::open(settings)?;
    room::check(settings, &resolve(&settings.upstreams)?)?;
    pid_folder(settings)?;
    folder_of(&settings.region.path, None)?;
    dumps(settings)?;
    listening::test(&settings.listeners)
}

/// Whether the pid file can be written, which is known before anybody is let in.
///
/// # Errors
/// nginx's `open() "PATH" failed (13: Permission denied)`.
pub(crate) fn pid_folder(settings: &Settings) -> Result<(), String> {
    folder_of(&settings.pid, None)
}

/// Whether the syncer, as `user`, will be able to write each dump.
///
/// # Errors
/// nginx's `open() "PATH" failed (13: Permission denied)`.
pub(crate) fn dumps(settings: &Settings) -> Result<(), String> {
    let paths: Vec<&PathBuf> = settings
        .upstreams
        .iter()
        .filter_map(|upstream| upstream.dump.as_ref())
        .collect();
    let user = settings.user.as_ref().filter(|_| geteuid().is_root());
    paths.iter().try_for_each(|path| folder_of(path, user))
}

fn folder_of(path: &Path, user: Option<&User>) -> Result<(), String> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let writable = || writable_folder(folder);
    let result = match user {
        Some(user) => process::as_user(user, writable),
        None => writable().map_err(io::Error::from),
    };
    result.map_err(|error| format!("open() \"{}\" failed {}", path.display(), describe(&error)))
}

fn writable_folder(folder: &Path) -> Result<(), Errno> {
    // The trailing dot makes a file in a folder's place an error.
    eaccess(&folder.join("."), AccessFlags::W_OK | AccessFlags::X_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_nginx_names_files() {
        let folder = tempfile::tempdir().unwrap();
        folder_of(&folder.path().join("x.pid"), None).unwrap();
        let missing = folder_of(Path::new("/nonexistent/x.pid"), None).unwrap_err();
        let expected = "open() \"/nonexistent/x.pid\" failed (2: No such file or directory)";
        assert_eq!(missing, expected);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = folder_of(&file.join("x.pid"), None).unwrap_err();
        assert!(error.ends_with("failed (20: Not a directory)"), "{error}");
    }
}
