//! The folders of temporary files: made by the master, which may do so as root, for its workers.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::errno::describe;
use crate::settings::User;

/// What the owner of such a folder may do with it: everything. Nobody else may do anything.
const OWNERS: u32 = 0o700;

/// Makes the folders that are not there, and gives each to the workers' user when root does it.
///
/// # Errors
/// nginx's `mkdir() "PATH" failed (13: Permission denied)` and the like for the first that fails.
pub(crate) fn make(folders: &[PathBuf], user: Option<&User>) -> Result<(), String> {
    let user = user.filter(|_| geteuid().is_root());
    folders.iter().try_for_each(|folder| make_one(folder, user))
}

/// Makes the folder of a file, if it is not there, for the syncer's user. One that is there is left as
/// it is.
///
/// # Errors
/// As [`make`].
pub(crate) fn make_for(file: Option<&Path>, user: Option<&User>) -> Result<(), String> {
    let folder = file.and_then(Path::parent);
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let folder: Vec<PathBuf> = folder.map(Path::to_owned).into_iter().collect();
    make(&folder, user)
}

fn make_one(folder: &Path, user: Option<&User>) -> Result<(), String> {
    let failed = |call: &str, error: &io::Error| {
        format!("{call} \"{}\" failed {}", folder.display(), describe(error))
    };
    match DirBuilder::new().mode(OWNERS).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("mkdir()", &error)),
    }
    let Some(user) = user else {
        return Ok(());
    };
    let found = fs::metadata(folder).map_err(|error| failed("stat()", &error))?;
    if found.uid() != user.uid {
        chown(folder, Some(user.uid), None).map_err(|error| {
            let shown = folder.display();
            format!(
                "chown(\"{shown}\", {}) failed {}",
                user.uid,
                describe(&error)
            )
        })?;
    }
    if found.mode() & OWNERS != OWNERS {
        let mode = Permissions::from_mode(found.mode() | OWNERS);
        fs::set_permissions(folder, mode).map_err(|error| failed("chmod()", &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_once_for_their_owner_alone() {
        let prefix = tempfile::tempdir().unwrap();
        let folder = prefix.path().join("temp");
        for _ in 0..2 {
            make(std::slice::from_ref(&folder), None).unwrap();
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, OWNERS);
        }
        let missing = make(&["/nonexistent/temp".into()], None).unwrap_err();
        let expected = "mkdir() \"/nonexistent/temp\" failed (2: No such file or directory)";
        assert_eq!(missing, expected);
    }
}
