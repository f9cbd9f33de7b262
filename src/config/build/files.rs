//! Where the region, the control socket and the state file lie, and how large the region is.

use std::path::{Path, PathBuf};

use weir_master::settings::{Region, Settings};
use weir_shm::Capacity;

use super::super::draft::Main;
use super::super::error::Fault;
use super::super::source::Source;

/// `region … servers=`, `upstreams=`, `slots=` and `history=`
const SERVERS: u32 = 32_768;
const UPSTREAMS: u32 = 4096;
const SLOTS: u32 = Capacity::MIN_SLOTS;
const HISTORY: u32 = 4 << 20;
/// `region … workers=` is `worker_processes` and as many again, to grow in: of those at least and at
/// most so many, as each takes room whether it comes or not.
const MORE_WORKERS: (u32, u32) = (4, 16);
/// The longest path of a control socket: what a unix address holds, and one byte for the name that it
/// is made under.
const CONTROL_MAX: usize = 106;
/// Where `upsync_state` lies unless it is given.
const STATE_FOLDER: &str = "state";

pub fn region(main: &Main, pid: &str, processes: usize, source: &Source) -> Region {
    let draft = main.region.as_ref();
    let path = match draft {
        Some(region) => source.paths().full(&region.path),
        None => default_region(&source.absolute(pid)),
    };
    let processes = u32::try_from(processes).unwrap_or(u32::MAX);
    let more = processes.clamp(MORE_WORKERS.0, MORE_WORKERS.1);
    let workers = processes.saturating_add(more).min(Capacity::MAX_WORKERS);
    let servers = draft.and_then(|region| region.servers);
    let capacity = Capacity {
        servers: servers.unwrap_or(SERVERS),
        upstreams: draft
            .and_then(|region| region.upstreams)
            .unwrap_or(UPSTREAMS),
        workers: draft.and_then(|region| region.workers).unwrap_or(workers),
        slots: draft.and_then(|region| region.slots).unwrap_or(SLOTS),
        history: draft.and_then(|region| region.history).unwrap_or(HISTORY),
    };
    Region {
        path: PathBuf::from(path),
        capacity,
        workers_given: draft.is_some_and(|region| region.workers.is_some()),
        servers_given: servers.is_some(),
    }
}

/// The control socket: beside the region unless it is given.
pub fn control_path(
    given: Option<&str>,
    region: &Path,
    source: &Source,
) -> Result<Option<PathBuf>, Fault> {
    let path = match given {
        Some("off") => return Ok(None),
        Some(path) => PathBuf::from(source.paths().full(path)),
        None => region.with_extension("control"),
    };
    let bytes = path.as_os_str().len();
    if bytes > CONTROL_MAX {
        return Err(Fault::whole(format!(
            "the path of the \"control\" socket \"{}\" has {bytes} bytes, more than {CONTROL_MAX}",
            path.display()
        )));
    }
    Ok(Some(path))
}

/// The state file: named after the pid file, in a folder of its own below the prefix, unless it is
/// given; none without a source.
pub fn state_path(given: Option<&str>, settings: &Settings, source: &Source) -> Option<PathBuf> {
    settings.sources().next()?;
    match given {
        Some("off") => None,
        Some(path) => Some(source.paths().full(path).into()),
        None => {
            let pid = settings.pid.file_stem().unwrap_or_default();
            let folder = PathBuf::from(source.paths().full(STATE_FOLDER));
            Some(folder.join(pid).with_extension("state"))
        }
    }
}

/// On a tmpfs that every Linux has, one an instance: named after its pid file.
fn default_region(pid: &str) -> String {
    format!("/dev/shm/weir{}.region", pid.replace('/', "-"))
}
