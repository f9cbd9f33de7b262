//! Finds the region of a running weir.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use weir_shm::Reader;

use super::text::shown;
use crate::cli::Options;
use crate::config;

/// How a master begins its process title.
const TITLE: &[u8] = b"weir: master process";
/// How the kernel names the program.
const NAME: &[u8] = b"weir\n";
/// Where regions lie that no configuration puts elsewhere.
const RUN: &str = "/dev/shm";

/// The region of the only weir that runs here; the error lists those there are.
pub fn running() -> Result<PathBuf, String> {
    let masters = processes();
    let mapped = masters.iter().flat_map(|pid| mapped_files(*pid));
    let mut regions = theirs(mapped.chain(files_in(Path::new(RUN))), &masters);
    if regions.is_empty() {
        // Who may not see what the process of another user has mapped may read where that is.
        regions = theirs(configured(None, None), &masters);
    }
    let mut found = regions.into_iter();
    match (found.next(), found.next()) {
        (Some((path, _)), None) => Ok(path),
        (None, _) if masters.is_empty() => {
            Err("no weir runs here; name one with -c, -p or --region".to_owned())
        }
        (None, _) => Err(format!(
            "weir runs here (process {}), but its region cannot be read; name it with --region",
            masters
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        )),
        (Some(first), Some(second)) => {
            let mut message =
                "more than one weir runs here; name one with -c, -p or --region:".to_owned();
            for (path, master) in [first, second].into_iter().chain(found) {
                let path = shown(&path.to_string_lossy());
                message.push_str(&format!("\n  --region {path}  (process {master})"));
            }
            Err(message)
        }
    }
}

/// Those of some files that are the regions of some masters.
fn theirs(
    paths: impl IntoIterator<Item = PathBuf>,
    masters: &BTreeSet<u32>,
) -> BTreeMap<PathBuf, u32> {
    let mut regions = BTreeMap::new();
    for path in paths {
        // During a binary upgrade the old master has put its own aside.
        if path.extension() != Some(OsStr::new("oldbin"))
            && let Ok(reader) = Reader::open(&path)
            && masters.contains(&reader.header().master_pid)
        {
            regions.insert(path, reader.header().master_pid);
        }
    }
    regions
}

/// The region that a configuration names, found as weir finds it.
pub fn configured(file: Option<String>, prefix: Option<String>) -> Result<PathBuf, String> {
    let options = Options {
        file,
        prefix,
        ..Options::default()
    };
    let loaded = config::load(options.paths())
        .map_err(|error| format!("{error}\nthe region itself can be named with --region"))?;
    Ok(loaded.settings.region.path)
}

/// Whether a process of this id runs. One that nobody has reaped, as in a container whose first process
/// does not do that, has ended.
pub fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| !has_ended(&stat))
}

/// Of a `/proc/PID/stat`, in which the state follows a name that may hold anything.
fn has_ended(stat: &[u8]) -> bool {
    let name_ends = stat.iter().rposition(|&byte| byte == b')');
    let state = name_ends.and_then(|end| stat.get(end + 2));
    matches!(state, Some(b'Z' | b'X' | b'x'))
}

/// The processes that may be a master: the header of a region says which one is.
fn processes() -> BTreeSet<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    // A title is cut to the room that the command line and the environment left for it.
    let is_weir = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(TITLE))
            || fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == NAME)
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| is_weir(pid) && is_alive(*pid))
        .collect()
}

/// The files that a process has mapped, as far as this user may know them.
fn mapped_files(pid: u32) -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    // Only what is mapped as shared can be a region.
    maps.lines()
        .filter(|line| {
            line.split(' ')
                .nth(1)
                .is_some_and(|mode| mode.ends_with('s'))
        })
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "region")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_reaped_has_ended() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
        assert!(has_ended(b"7 (we) R (ir) Z 1 7"));
        assert!(!has_ended(b"7 (we) Z (ir) S 1 7"));
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("weir");
        let shell = fs::canonicalize("/bin/sh").unwrap();
        std::os::unix::fs::symlink(shell, &program).unwrap();
        let mut child = std::process::Command::new(program);
        let mut child = child.args(["-c", "exit 0"]).spawn().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Nobody reaps it before wait().
        while is_alive(child.id()) {
            assert!(std::time::Instant::now() < until, "it has not ended");
            std::thread::yield_now();
        }
        let name = fs::read(format!("/proc/{}/comm", child.id())).unwrap();
        assert_eq!(name, NAME, "it still has its name");
        assert!(!processes().contains(&child.id()));
        assert!(child.wait().unwrap().success());
    }
}
