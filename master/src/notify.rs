//! What the service manager is told: systemd's notify protocol (`sd_notify(3)`), lines of text to a
//! datagram socket that the environment names.
//!
//! Written by hand, as it is a page of code, and no library lets a master hold its tongue while
//! another is the service's main process.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getppid};
use socket2::{Domain, Type};

use crate::process::take_variable;
use crate::socket;

/// Where the manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Within so many microseconds it wants to hear that the service lives.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// Of whom it wants to hear that; without it, of whoever reads this.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// What a manager that does not read may hold the master up.
const PATIENCE: Duration = Duration::from_millis(200);
/// It is told twice as often as it wants to hear, as `sd_watchdog_enabled(3)` has it.
const OFTEN: u32 = 2;
/// Who cannot vouch for the service tries again this many times as often.
const AGAIN: u32 = 8;
/// The longest text of `STATUS=`, in bytes.
const STATUS_MAX: usize = 512;

/// The way to the service manager; none, and nothing is done, where nobody is to be told.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    manager: Option<Manager>,
    watchdog: Option<Watchdog>,
    /// The master that this one follows. While it lives, it speaks for the service.
    predecessor: Option<Pid>,
    told: Told,
    status: String,
}

#[derive(Debug)]
struct Manager {
    /// As the environment names it.
    name: OsString,
    address: SocketAddr,
    socket: UnixDatagram,
}

#[derive(Debug)]
struct Watchdog {
    limit: Duration,
    due: Instant,
    is_withheld: bool,
}

/// What the manager takes the service for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// It starts.
    #[default]
    Nothing,
    Ready,
    Reloading,
    Stopping,
}

impl Notify {
    /// Takes what a manager has put into the environment out of it, so that no child gets it. To be
    /// called before a daemon detaches: the process that was started is the one that is meant.
    pub(crate) fn claim(now: Instant, report: impl Fn(String)) -> Notify {
        let name = take_variable(SOCKET);
        let limit = take_variable(WATCHDOG);
        let whose = take_variable(WATCHDOG_PID);
        let Some(name) = name else {
            return Notify::default();
        };
        let manager = match connect(&name) {
            Ok((address, socket)) => Manager {
                name,
                address,
                socket,
            },
            Err(error) => {
                let (name, error) = (name.display(), crate::errno::describe(&error));
                report(format!("{SOCKET} \"{name}\" is not used {error}"));
                return Notify::default();
            }
        };
        let own = std::process::id();
        let is_ours = whose.is_none_or(|pid| number(&pid) == Some(own.into()));
        let limit = limit.filter(|_| is_ours).and_then(|text| number(&text));
        let limit = limit
            .filter(|&micros| micros > 0)
            .map(Duration::from_micros);
        Notify {
            manager: Some(manager),
            watchdog: limit.map(|limit| Watchdog {
                limit,
                due: now,
                is_withheld: false,
            }),
            ..Notify::default()
        }
    }

    /// Whether there is somebody to tell.
    pub(crate) fn is_heard(&self) -> bool {
        self.manager.is_some()
    }

    /// What the manager takes the service for.
    pub(crate) fn told(&self) -> Told {
        self.told
    }

    /// The service is ready, or so again after a reload. `main` is the process to look at, if it is
    /// not the one that the manager has started.
    pub(crate) fn ready(&mut self, status: &str, main: Option<u32>) {
        let main = main.map_or(String::new(), |pid| format!("MAINPID={pid}\n"));
        self.tell(Told::Ready, &format!("READY=1\n{main}"), status);
    }

    /// A reload begins now.
    pub(crate) fn reloading(&mut self, status: &str) {
        let micros = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        let state = format!("RELOADING=1\nMONOTONIC_USEC={micros}\n");
        self.tell(Told::Reloading, &state, status);
    }

    /// The service ends.
    pub(crate) fn stopping(&mut self, status: &str) {
        self.tell(Told::Stopping, "STOPPING=1\n", status);
    }

    /// Only the text that an operator sees, if it is another one.
    pub(crate) fn status(&mut self, status: &str) {
        if self.status != cut(status) {
            self.tell(self.told, "", status);
        }
    }

    /// When the manager is to hear again that the service lives.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Tells that the service lives, once it is due and if it `does`. True when this is the first
    /// time that it does not.
    pub(crate) fn beat(&mut self, now: Instant, does: bool) -> bool {
        let Some(watchdog) = self.watchdog.as_mut().filter(|each| each.due <= now) else {
            return false;
        };
        let pause = watchdog.limit / OFTEN;
        watchdog.due = now + if does { pause } else { pause / AGAIN };
        let was_withheld = std::mem::replace(&mut watchdog.is_withheld, !does);
        if does {
            self.send("WATCHDOG=1\n");
        }
        !does && !was_withheld
    }

    fn tell(&mut self, told: Told, state: &str, status: &str) {
        self.told = told;
        let status = cut(status);
        self.send(&format!("{state}STATUS={status}\n"));
        // Whoever has been silent says it when its time has come.
        self.status = if self.speaks() { status } else { String::new() };
    }

    fn speaks(&self) -> bool {
        self.predecessor.is_none_or(|master| getppid() != master)
    }

    fn send(&self, text: &str) {
        if let Some(manager) = self.manager.as_ref().filter(|_| self.speaks()) {
            // A manager that is being restarted asks nobody what it missed, and no service fails.
            let _ = manager
                .socket
                .send_to_addr(text.as_bytes(), &manager.address);
        }
    }
}

/// What a binary upgrade takes.
impl Notify {
    /// Says nothing for as long as `master`, the parent of this process, is there.
    pub(crate) fn follow(&mut self, master: Pid) {
        self.predecessor = Some(master);
    }

    /// Makes `pid` the main process of the service: the new binary, when this one ends.
    pub(crate) fn hand_over(&mut self, pid: Pid) {
        self.send(&format!("MAINPID={pid}\nREADY=1\nWATCHDOG=1\n"));
    }

    /// What a new binary gets of the environment that this one has taken out of its own. Without
    /// the process id, which is not known yet: the watchdog is then anybody's.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let Some(manager) = &self.manager else {
            return Vec::new();
        };
        let limit = self.watchdog.as_ref().map(|watchdog| watchdog.limit);
        let limit = limit.map(|limit| (WATCHDOG, limit.as_micros().to_string().into()));
        let mut all = vec![(SOCKET, manager.name.clone())];
        all.extend(limit);
        all
    }
}

/// A path, or a name of the abstract kind after `@`.
fn connect(name: &OsStr) -> io::Result<(SocketAddr, UnixDatagram)> {
    let address = match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => return Err(io::Error::from(nix::errno::Errno::EAFNOSUPPORT)),
    };
    let socket = socket::open(Domain::UNIX, Type::DGRAM)?;
    let socket = UnixDatagram::from(OwnedFd::from(socket));
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((address, socket))
}

fn number(text: &OsStr) -> Option<u64> {
    text.to_str()?.parse().ok()
}

/// One line that is not too long.
fn cut(status: &str) -> String {
    let line = status.lines().next().unwrap_or_default();
    let end = (0..=STATUS_MAX.min(line.len()))
        .rev()
        .find(|&end| line.is_char_boundary(end));
    line[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(name: &OsStr, limit: Option<Duration>, now: Instant) -> Notify {
        let (address, socket) = connect(name).unwrap();
        let name = name.to_owned();
        Notify {
            manager: Some(Manager {
                name,
                address,
                socket,
            }),
            watchdog: limit.map(|limit| Watchdog {
                limit,
                due: now,
                is_withheld: false,
            }),
            ..Notify::default()
        }
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        manager.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| {
            let length = manager.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .collect()
    }

    #[test]
    fn each_state_is_a_datagram_at_either_kind_of_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("weir-test-{}", std::process::id());
        let of_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let managers = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&of_name).unwrap(),
                format!("@{abstract_name}").into(),
            ),
        ];
        for (manager, name) in managers {
            let mut notify = notify(&name, None, Instant::now());
            assert_eq!(notify.told(), Told::Nothing);
            notify.ready("serving", None);
            notify.status("serving");
            notify.status("four\nlines");
            notify.ready("serving", Some(7));
            notify.stopping(&"é".repeat(STATUS_MAX));
            notify.hand_over(Pid::from_raw(8));
            assert_eq!(
                heard(&manager),
                [
                    "READY=1\nSTATUS=serving\n".to_owned(),
                    "STATUS=four\n".to_owned(),
                    "READY=1\nMAINPID=7\nSTATUS=serving\n".to_owned(),
                    format!("STOPPING=1\nSTATUS={}\n", "é".repeat(STATUS_MAX / 2)),
                    "MAINPID=8\nREADY=1\nWATCHDOG=1\n".to_owned(),
                ]
            );
            assert_eq!(notify.told(), Told::Stopping);
            assert_eq!(notify.environment(), [(SOCKET, name)]);
        }
    }

    #[test]
    fn a_reload_says_when_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str(), None, Instant::now()).reloading("reloading");
        let [said] = &heard(&manager)[..] else {
            panic!("one datagram")
        };
        let micros = said
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|rest| rest.strip_suffix("\nSTATUS=reloading\n"))
            .unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn the_watchdog_hears_twice_as_often_as_it_has_to_unless_nobody_vouches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let (limit, start) = (Duration::from_secs(16), Instant::now());
        let mut notify = notify(path.as_os_str(), Some(limit), start);
        assert!(!notify.beat(start, true));
        assert_eq!(heard(&manager), ["WATCHDOG=1\n"]);
        assert_eq!(notify.due(), Some(start + limit / 2));
        assert!(!notify.beat(start + limit / 4, true));
        assert!(notify.beat(start + limit / 2, false), "the first time");
        let again = start + limit / 2 + limit / 16;
        assert_eq!(notify.due(), Some(again));
        assert!(!notify.beat(again, false), "not for the first time");
        assert_eq!(heard(&manager), [""; 0]);
        assert!(!notify.beat(again + limit, true));
        assert_eq!(heard(&manager), ["WATCHDOG=1\n"]);
        assert!(notify.beat(again + limit * 2, false), "another time");
        let variables = notify.environment();
        assert_eq!(variables[1], (WATCHDOG, "16000000".into()));
    }

    #[test]
    fn a_follower_is_silent_while_its_predecessor_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut notify = notify(path.as_os_str(), None, Instant::now());
        notify.follow(getppid());
        notify.ready("serving", None);
        assert_eq!(heard(&manager), [""; 0]);
        notify.follow(Pid::from_raw(i32::MAX));
        notify.status("serving");
        notify.status("serving");
        assert_eq!(heard(&manager), ["STATUS=serving\n"]);
    }

    #[test]
    fn a_manager_that_is_not_there_is_no_error_and_a_strange_address_is() {
        notify(OsStr::new("/nonexistent/notify"), None, Instant::now()).ready("serving", None);
        for name in ["", "notify", "vsock:2:1234"] {
            let error = connect(OsStr::new(name)).unwrap_err();
            assert_eq!(
                crate::errno::describe(&error),
                "(97: Address family not supported by protocol)"
            );
        }
        assert!(connect(OsStr::new(&format!("/{}", "x".repeat(200)))).is_err());
    }
}
