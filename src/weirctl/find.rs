//! Finds the region of a running weir.

use std::collections::{BTreeMap, BTreeSet};
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
    let mut regions: BTreeMap<PathBuf, u32> = BTreeMap::new();
    let mapped = masters.iter().flat_map(|pid| mapped_files(*pid));
    for path in mapped.chain(files_in(Path::new(RUN))) {
        if let Ok(reader) = Reader::open(&path) {
            let master = reader.header().master_pid;
            if masters.contains(&master) {
                regions.insert(path, master);
            }
        }
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

/// Whether a process of this id exists.
pub fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
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
        .filter(is_weir)
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
