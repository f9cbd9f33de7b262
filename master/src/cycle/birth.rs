//! The first steps of a child: it takes its own out of the master's things and drops the rest,
//! which closes every descriptor that is not its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use weir_shm::Region;
use weir_worker::channel::{Answer, Channel};

use super::{Master, Role};
use crate::errno::{describe, describe_errno};
use crate::private::PrivateFiles;
use crate::resolve::{Named, ResolvedUpstream, named, resolve};
use crate::settings::{Settings, Upstream};
use crate::{daemon, privileges, resources, signal, syncer};

/// The longest reason that a child gives for its end, in bytes.
const REASON_MAX: usize = 4096;

/// Becomes the child of `role`, to its end.
pub(super) fn begin(master: Master, role: Role, channel: Channel) -> ExitCode {
    weir_worker::log::panics_to(None);
    let reports = channel.as_fd().try_clone_to_owned().map(Channel::new);
    let ended = match role {
        Role::Worker(slot) => worker(master, slot, channel.into_socket()),
        Role::Syncer => syncer(master, channel.into_socket()),
    };
    let Err(message) = ended else {
        return ExitCode::SUCCESS;
    };
    if let Ok(reports) = reports {
        let message = cut(message);
        // A master that is gone has no log to write it to either.
        let _ = reports.send(&Answer::Failed { message }, &[]);
    }
    ExitCode::FAILURE
}

fn worker(master: Master, slot: usize, channel: OwnedFd) -> Result<(), String> {
    introduce(&master, "weir: worker process")?;
    let own = |error: io::Error| format!("dup() failed {}", describe(&error));
    let sets = &master.workers[slot].sets;
    let start = weir_worker::Start {
        slot: slot as u32,
        generation: master.cycle.generation,
        settings: master.cycle.worker.clone(),
        listeners: master.listening.duplicate(sets).map_err(own)?,
        files: resources::duplicate(&master.cycle.files).map_err(own)?,
        region: master
            .region
            .worker(slot as u32)
            .map_err(|error| error.to_string())?,
        wake: master.wakers[slot].try_clone().map_err(own)?,
        channel,
        build: master.program.build_worker,
    };
    let settings = master.cycle.settings.clone();
    drop(master);
    confine(&settings)?;
    weir_worker::run(start)
}

fn syncer(mut master: Master, channel: OwnedFd) -> Result<(), String> {
    introduce(&master, "weir: syncer process")?;
    let own = |error: io::Error| format!("dup() failed {}", describe(&error));
    let settings = master.cycle.settings.clone();
    let first = master.cycle.first.take();
    let wakers = master.wakers.iter().map(OwnedFd::try_clone);
    let wakers = wakers.collect::<io::Result<_>>().map_err(own)?;
    let files = resources::duplicate(&master.cycle.files).map_err(own)?;
    let private = master.cycle.private.duplicate().map_err(own)?;
    let (generation, build) = (master.cycle.generation, master.program.build);
    let region = only_region(master).ok_or("the region is held twice")?;
    let writer = region.writer_file().map_err(|error| {
        let error = describe(&error);
        format!("open() \"{}\" failed {error}", region.path().display())
    })?;
    confine(&settings)?;
    open_many();
    let respawned = first.is_none();
    let resolved = match first {
        Some(first) => first.resolved,
        None => resolve_or_keep(&settings, &region),
    };
    syncer::run(syncer::Start {
        settings,
        resolved,
        respawned,
        region,
        writer,
        wakers,
        channel,
        files,
        private,
        build,
        generation,
    })
}

/// `master_process off`: the master goes on as the one worker, as the user that it is.
pub(super) fn single(mut master: Master) -> ExitCode {
    let ended = serve_alone(&mut master);
    if let Err(message) = &ended {
        master.log.alert(message);
    }
    // Its end of the channel closes with it, should the signal be lost.
    master.end_syncer_and_wait();
    master.finish();
    ExitCode::from(u8::from(ended.is_err()))
}

fn serve_alone(master: &mut Master) -> Result<(), String> {
    let own = |error: io::Error| format!("dup() failed {}", describe(&error));
    master.cycle.private = PrivateFiles::default();
    // Kept open, so that the worker does not see its master go.
    let (_ours, theirs) =
        Channel::pair().map_err(|error| format!("socketpair() failed {}", describe(&error)))?;
    let sets: Vec<usize> = (0..master.listening.sets()).collect();
    let start = weir_worker::Start {
        slot: 0,
        generation: master.cycle.generation,
        settings: master.cycle.worker.clone(),
        listeners: master.listening.duplicate(&sets).map_err(own)?,
        files: resources::duplicate(&master.cycle.files).map_err(own)?,
        region: master.region.worker(0).map_err(|error| error.to_string())?,
        wake: master.wakers[0].try_clone().map_err(own)?,
        channel: theirs.into_socket(),
        build: master.program.build_worker,
    };
    signal::of_child().map_err(|error| format!("signal() failed {}", describe(&error)))?;
    weir_worker::run(start)
}

/// Drops everything but the region.
fn only_region(master: Master) -> Option<Region> {
    let region = master.region;
    Rc::into_inner(region)
}

fn introduce(master: &Master, title: &str) -> Result<(), String> {
    if let Some(area) = master.title {
        area.set(title);
    }
    if master.cycle.settings.daemon {
        daemon::silence().map_err(|error| format!("dup2() failed {}", describe(&error)))?;
    }
    signal::of_child().map_err(|error| format!("signal() failed {}", describe(&error)))
}

/// The limits and the user that the child works under from here on.
fn confine(settings: &Settings) -> Result<(), String> {
    if let Some(limit) = settings.rlimit_nofile {
        setrlimit(Resource::RLIMIT_NOFILE, limit, limit).map_err(|error| {
            format!(
                "setrlimit(RLIMIT_NOFILE, {limit}) failed {}",
                describe_errno(error)
            )
        })?;
    }
    privileges::give_up(settings.user.as_ref())
}

/// Lets the syncer have as many descriptors as the system allows: each watch of etcd has a connection
/// on which it is told of changes, and the usual limit of 1024 is one for those who call `select`.
fn open_many() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // It goes without, as long as that is enough.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Resolves again for a syncer that is started again. A name that is not found now keeps what the
/// table has: a resolver that fails takes no server away.
fn resolve_or_keep(settings: &Settings, region: &Region) -> Vec<ResolvedUpstream> {
    let reader = region.reader();
    let table = reader.and_then(|reader| reader.table()).ok();
    let known = |name: &str| {
        let upstreams = &table.as_ref()?.upstreams;
        let upstream = upstreams.iter().find(|upstream| upstream.name == name)?;
        Some(upstream.servers.clone())
    };
    // What the syncer resolves by itself it finds in the table.
    let fixed = |upstream: &Upstream, names: &[Named]| {
        let mut servers = known(&upstream.name).unwrap_or_default();
        servers.retain(|server| names.iter().all(|named| named.address_of(server).is_none()));
        servers
    };
    let upstreams = settings.upstreams.iter();
    upstreams
        .map(|upstream| match resolve(std::slice::from_ref(upstream)) {
            Ok(mut resolved) if resolved.len() == 1 => resolved.remove(0),
            _ => {
                let names = named(upstream);
                ResolvedUpstream {
                    name: upstream.name.clone(),
                    servers: fixed(upstream, &names),
                    names,
                }
            }
        })
        .collect()
}

fn cut(mut message: String) -> String {
    let end = (0..=REASON_MAX.min(message.len()))
        .rev()
        .find(|&end| message.is_char_boundary(end));
    message.truncate(end.unwrap_or(0));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(cut("short".into()), "short");
        let long = "é".repeat(REASON_MAX);
        assert_eq!(cut(long).len(), REASON_MAX);
        let odd = format!("x{}", "é".repeat(REASON_MAX));
        assert_eq!(cut(odd).len(), REASON_MAX - 1);
    }
}
