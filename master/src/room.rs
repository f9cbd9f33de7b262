//! How many entries the region gets room for, and whether the configured servers fit.

use std::path::Path;

use weir_shm::Capacity;

use crate::resolve::ResolvedUpstream;
use crate::settings::{Region, Settings};

/// A region that has to be small becomes so in steps of this many servers, and has room for at
/// least as many.
const STEP: u32 = 1024;

/// How many workers these settings ask for.
pub(crate) fn workers_of(settings: &Settings) -> usize {
    match settings.master_process {
        true => settings.worker_processes,
        false => 1,
    }
}

/// What the region is made for: what `region` says; and where that says nothing about servers, as
/// many as leave the region half of its file system. The other half is for the next start, which
/// makes its region before it takes this one's away.
pub(crate) fn capacity(region: &Region) -> Capacity {
    if region.servers_given {
        return region.capacity;
    }
    match half_of_file_system(&region.path) {
        Some(room) => fitted(region.capacity, room),
        None => region.capacity,
    }
}

/// In bytes; `None` where there is no limit, or none that can be asked for.
fn half_of_file_system(path: &Path) -> Option<u64> {
    let folder = path.parent()?;
    let system = rustix::fs::statvfs(folder).ok()?;
    let size = system.f_blocks.checked_mul(system.f_frsize)?;
    (size > 0).then_some(size / 2)
}

fn fitted(wanted: Capacity, room: u64) -> Capacity {
    let mut fitted = wanted;
    while fitted.bytes() > room && fitted.servers > STEP {
        fitted.servers = fitted.servers.saturating_sub(STEP).max(STEP);
    }
    fitted
}

/// Whether the configured workers, upstreams and servers fit.
///
/// # Errors
/// What does not, and how much room there is.
pub(crate) fn check(settings: &Settings, resolved: &[ResolvedUpstream]) -> Result<(), String> {
    let room = capacity(&settings.region);
    let servers: usize = resolved.iter().map(|upstream| upstream.servers.len()).sum();
    let counts = [
        (
            workers_of(settings),
            "worker_processes",
            room.workers,
            "workers",
        ),
        (resolved.len(), "upstreams", room.upstreams, "upstreams"),
        (servers, "configured servers", room.servers, "servers"),
    ];
    for (count, what, room, parameter) in counts {
        if count > room as usize {
            return Err(format!(
                "{count} {what} do not fit \"region\", which has room for {room} (see \"region ... {parameter}=\")"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Capacity = Capacity {
        servers: 32_768,
        upstreams: 4096,
        workers: 8,
        slots: 4,
        history: 4 << 20,
    };

    #[test]
    fn all_that_is_wanted_if_it_fits() {
        assert_eq!(fitted(WANTED, WANTED.bytes()), WANTED);
        let less = fitted(WANTED, WANTED.bytes() - 1);
        assert_eq!(less.servers, WANTED.servers - STEP);
        assert!(less.bytes() < WANTED.bytes());
    }

    #[test]
    fn half_of_dockers_64_mb_holds_a_region_for_many_workers() {
        for (workers, servers) in [(8, 24_576), (32, 9_216), (80, 4_096), (272, 1_024)] {
            let room = fitted(Capacity { workers, ..WANTED }, 32 << 20);
            assert!(room.servers >= servers, "{workers}: {room:?}");
            assert!(room.bytes() <= 32 << 20, "{workers}: {room:?}");
        }
    }

    #[test]
    fn never_less_than_a_step_nor_more_than_is_wanted() {
        assert_eq!(fitted(WANTED, 0).servers, STEP);
        let few = Capacity {
            servers: 10,
            ..WANTED
        };
        assert_eq!(fitted(few, 0), few);
    }

    #[test]
    fn a_file_system_has_a_size_and_a_missing_folder_none() {
        assert!(half_of_file_system(Path::new("/dev/shm/x.region")).is_some_and(|half| half > 0));
        assert_eq!(
            half_of_file_system(Path::new("/nonexistent/x.region")),
            None
        );
    }
}
