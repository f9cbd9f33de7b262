//! Giving up privileges, with no way back: user, groups, capabilities, set-user-ID programs.

use std::ffi::CString;

use nix::sys::prctl;
use nix::unistd::{self, Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::errno::{describe, describe_errno};
use crate::settings::User;

/// Capabilities that a kernel may know; those of today are 0 to 40.
const CAPABILITIES: u32 = 64;

/// Confines this process to what serving takes: as root it becomes `user` with that user's groups.
/// Every other user loses its capabilities too, such as the one to bind ports below 1024. `user
/// root` alone keeps them: whoever writes that wants workers that may do everything.
///
/// # Errors
/// nginx's `setuid(65534) failed (1: Operation not permitted)` and the like.
pub(crate) fn give_up(user: Option<&User>) -> Result<(), String> {
    let user = user.filter(|_| geteuid().is_root());
    if user.is_some_and(|user| user.uid != 0) {
        bound_capabilities().map_err(failed("prctl(PR_CAPBSET_DROP)"))?;
    }
    if let Some(user) = user {
        become_user(user)?;
    }
    if !geteuid().is_root() {
        drop_capabilities()?;
    }
    prctl::set_no_new_privs().map_err(|error| {
        let error = describe_errno(error);
        format!("prctl(PR_SET_NO_NEW_PRIVS) failed {error}")
    })
}

fn become_user(user: &User) -> Result<(), String> {
    let failed = |call: String| move |error| format!("{call} failed {}", describe_errno(error));
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let name = CString::new(user.name.as_str()).map_err(|error| error.to_string())?;
    unistd::setresgid(gid, gid, gid).map_err(failed(format!("setgid({gid})")))?;
    unistd::initgroups(&name, gid).map_err(failed(format!("initgroups({}, {gid})", user.name)))?;
    unistd::setresuid(uid, uid, uid).map_err(failed(format!("setuid({uid})")))?;
    // A change of the user takes core dumps away; an operator who set a core limit wants them.
    prctl::set_dumpable(true).map_err(failed("prctl(PR_SET_DUMPABLE)".into()))?;
    if !uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(format!("setuid({uid}) left a way back to root"));
    }
    Ok(())
}

/// Takes every capability out of the bounding set, so that no program that is executed gets one.
/// Where that is not allowed, as in a container without CAP_SETPCAP, `no_new_privs` says the same.
fn bound_capabilities() -> rustix::io::Result<()> {
    for number in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(rustix::io::Errno::INVAL) if number > 0 => return Ok(()),
            Err(rustix::io::Errno::PERM) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Empties all sets of this process: becoming another user leaves the inheritable one, and all of
/// them if the securebits say so.
fn drop_capabilities() -> Result<(), String> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    clear_ambient_capability_set().map_err(failed("prctl(PR_CAP_AMBIENT)"))?;
    set_capabilities(None, none).map_err(failed("capset()"))
}

fn failed(call: &str) -> impl Fn(rustix::io::Errno) -> String {
    move |error| format!("{call} failed {}", describe(&error.into()))
}
