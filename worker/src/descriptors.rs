//! How many connections there are descriptors for.

use nix::sys::resource::{Resource, getrlimit};

/// Descriptors besides connections that a worker may need at one time, apart from those that a
/// reload brings: temporary files, logs with variables in their names, questions to name servers.
const OTHERS: usize = 8;

/// One entry for each descriptor.
const FOLDER: &str = "/proc/self/fd";

/// For how many connections `RLIMIT_NOFILE` has room, of which there are `connections` now. A reload
/// brings `reload` descriptors before it takes the old ones away. Without /proc nobody knows, and
/// there is no limit.
#[must_use]
pub fn room(connections: usize, reload: usize) -> usize {
    let (Ok((limit, _)), Some(open)) = (getrlimit(Resource::RLIMIT_NOFILE), open()) else {
        return usize::MAX;
    };
    let others = open.saturating_sub(connections);
    fitted(usize::try_from(limit).unwrap_or(usize::MAX), others, reload)
}

/// How many there are. Linux tells it since 6.2; before, they have to be counted.
fn open() -> Option<usize> {
    let told = std::fs::metadata(FOLDER).ok()?.len();
    if told > 0 {
        return usize::try_from(told).ok();
    }
    // One of them is the folder itself.
    Some(std::fs::read_dir(FOLDER).ok()?.count().saturating_sub(1))
}

/// What `limit` leaves beside `open` ones: most of it, where there are few.
fn fitted(limit: usize, open: usize, reload: usize) -> usize {
    let free = limit.saturating_sub(open);
    free - (reload + OTHERS).min(free / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_for_others_but_never_more_than_a_quarter() {
        assert_eq!(fitted(1024, 24, 12), 980);
        assert_eq!(fitted(20, 12, 12), 6);
        assert_eq!(fitted(20, 30, 12), 0);
        assert_eq!(fitted(usize::MAX, 10, 0), usize::MAX - 18);
    }

    #[test]
    fn those_that_are_open_count() {
        let before = room(0, 0);
        let file = std::fs::File::open("/dev/null").unwrap();
        // Other tests open and close files meanwhile.
        assert!(before.abs_diff(room(0, 0)) < 500);
        assert!(room(100_000, 0) > before);
        drop(file);
    }
}
