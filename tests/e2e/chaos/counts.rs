//! What a process tree takes, and what is left of it.

use std::fs;
use std::path::Path;

use crate::support::process::{alive, descendants};

/// Open descriptors of a process and everything below it.
pub fn descriptors(pid: u32) -> usize {
    let count = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    tree(pid).iter().map(count).sum()
}

/// Memory of a process and everything below it, in kB: the share of each in what several have
/// mapped (PSS), without the shared region, all of which is taken at the start.
pub fn memory_kb(pid: u32) -> u64 {
    let one = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kb = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok())
        };
        kb("Pss:")
            .unwrap_or_default()
            .saturating_sub(kb("Pss_Shmem:").unwrap_or_default())
    };
    tree(pid).iter().map(one).sum()
}

/// The processes that have a file open whose path begins with this: they belong to a weir, if it is
/// its prefix.
pub fn holders(path: &Path) -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holds = |pid: &u32| {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let mut links = links.flatten().flatten();
        links.any(|link| fs::read_link(link.path()).is_ok_and(|file| begins(&file, path)))
    };
    pids.filter(holds).filter(|pid| alive(*pid)).collect()
}

fn begins(file: &Path, path: &Path) -> bool {
    let (file, path) = (file.as_os_str(), path.as_os_str());
    file.as_encoded_bytes().starts_with(path.as_encoded_bytes())
}

/// A process and everything below it.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut all = descendants(pid);
    all.push(pid);
    all
}
