//! Under a service manager: what systemd's notify protocol is told, by a manager of the tests' own.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::process::{Leash, alive, children, finish, read_lossy, send};
use crate::support::weir::{Setup, command, in_http, in_server};
use crate::support::{PATIENCE, unique, wait_for, wait_until};

/// The manager's end.
struct Manager {
    socket: UnixDatagram,
    /// What nobody has waited for yet.
    heard: Vec<String>,
}

impl Manager {
    fn at(path: &Path) -> Manager {
        Manager::new(UnixDatagram::bind(path).unwrap())
    }

    fn new(socket: UnixDatagram) -> Manager {
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Manager {
            socket,
            heard: Vec::new(),
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                self.heard.push(text);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// Waits for the next datagram that begins so; those before it are forgotten.
    #[track_caller]
    fn wait(&mut self, begin: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.heard.iter().position(|text| text.starts_with(begin));
            if let Some(found) = found {
                return self.heard.drain(..=found).next_back().unwrap();
            }
            assert!(Instant::now() < deadline, "no {begin}: {:?}", self.heard);
            self.listen();
        }
    }
}

fn monotonic_micros() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000
}

/// What a datagram says of a variable.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn each_step_of_a_life_is_told() {
    let setup = Setup::server("").workers(2).allow("unknown directive");
    let path = setup.dir().join("notify");
    let mut manager = Manager::at(&path);
    let mut weir = setup.environment("NOTIFY_SOCKET", path.display()).start();
    assert_eq!(manager.wait("STATUS="), "STATUS=starting\n");
    assert_eq!(
        manager.wait("READY=1\n"),
        "READY=1\nSTATUS=serving, config generation 1, 2 workers\n"
    );
    for pid in children(weir.pid()) {
        let environment = read_lossy(Path::new(&format!("/proc/{pid}/environ")));
        assert!(!environment.contains("NOTIFY"), "{environment}");
        let own = read_lossy(Path::new("/proc/self/environ"));
        assert!(own.contains("PATH="), "an environment can be read");
    }

    weir.signal(Signal::SIGTTIN);
    assert_eq!(
        manager.wait("STATUS=serving"),
        "STATUS=serving, config generation 1, 3 workers\n"
    );

    // It serves, too, or the reload would find a worker more than there was before.
    assert_eq!(weir.each_worker(3).len(), 3);
    let before = monotonic_micros();
    weir.reload();
    let begun = manager.wait("RELOADING=1\n");
    let at: i64 = value(&begun, "MONOTONIC_USEC").unwrap().parse().unwrap();
    assert!((before..=monotonic_micros()).contains(&at), "{begun}");
    let ready = manager.wait("READY=1\n");
    assert_eq!(
        value(&ready, "STATUS"),
        Some("serving, config generation 2, 3 workers")
    );

    let good = weir.text();
    weir.rewrite(&format!("nonsense;\n{good}"));
    weir.signal(Signal::SIGHUP);
    manager.wait("RELOADING=1\n");
    let ready = manager.wait("READY=1\n");
    let status = value(&ready, "STATUS").unwrap();
    let expected = "serving, config generation 2, 3 workers; reload refused: unknown directive \"nonsense\" in ";
    assert!(status.starts_with(expected), "{status}");

    weir.rewrite(&good);
    weir.signal(Signal::SIGHUP);
    manager.wait("RELOADING=1\n");
    let ready = manager.wait("READY=1\n");
    assert_eq!(
        value(&ready, "STATUS"),
        Some("serving, config generation 4, 3 workers")
    );

    weir.signal(Signal::SIGQUIT);
    assert_eq!(
        manager.wait("STOPPING=1\n"),
        "STOPPING=1\nSTATUS=finishing the requests in flight\n"
    );
    weir.process().wait(PATIENCE);
}

#[test]
fn a_start_that_fails_says_why_and_is_never_ready() {
    let mut setup = Setup::whole(&in_http(&in_server("")).replace("pid logs", "pid missing"));
    let path = setup.dir().join("notify");
    let mut manager = Manager::at(&path);
    setup.write();
    let done = finish(command(setup.dir()).env("NOTIFY_SOCKET", &path));
    assert_eq!(done.code, Some(1));
    let status = manager.wait("STATUS=");
    assert!(status.contains("missing/weir.pid\" failed (2:"), "{status}");
    manager.listen();
    assert_eq!(manager.heard, [""; 0]);
}

#[test]
fn a_daemon_tells_its_number_at_an_abstract_address() {
    let mut setup = Setup::whole(&in_http(&in_server("")).replace("daemon off;", ""));
    setup.write();
    let name = unique("weir-notify");
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut manager = Manager::new(UnixDatagram::bind_addr(&address).unwrap());
    let mut start = command(setup.dir());
    let done = finish(start.env("NOTIFY_SOCKET", format!("@{name}")));
    assert_eq!(done.code, Some(0), "{done:?}");
    let pid = read_lossy(&setup.dir().join("logs/weir.pid"));
    let leash = Leash::new(pid.trim().parse().unwrap()).unwrap();
    let ready = manager.wait("READY=1\n");
    assert_eq!(value(&ready, "MAINPID"), Some(pid.trim()));
    drop(leash);
}

#[test]
fn the_watchdog_hears_of_a_master_that_turns_while_a_worker_serves() {
    let limit = Duration::from_millis(400);
    let setup = Setup::server("")
        .workers(1)
        .allow("the service manager's watchdog is not told")
        .allow("exited on signal 9");
    let path = setup.dir().join("notify");
    let mut manager = Manager::at(&path);
    let weir = setup
        .environment("NOTIFY_SOCKET", path.display())
        .environment("WATCHDOG_USEC", limit.as_micros())
        .start();
    manager.wait("READY=1\n");
    let begin = Instant::now();
    for _ in 0..4 {
        manager.wait("WATCHDOG=1\n");
    }
    assert!(begin.elapsed() >= limit, "four halves, of which one ran");
    // A worker that is stopped is alive; a dead one whose successor dies too is not.
    wait_until(PATIENCE, "nobody vouches for it", || {
        for pid in weir.workers() {
            send(pid, Signal::SIGKILL);
        }
        weir.error_log().contains("watchdog is not told")
    });
    wait_until(PATIENCE, "a worker serves again", || {
        weir.workers().len() == 1
    });
    manager.heard.clear();
    manager.wait("WATCHDOG=1\n");
    // Without a worker because it was told so, it is in order.
    weir.signal(Signal::SIGWINCH);
    wait_until(PATIENCE, "no worker is left", || weir.workers().is_empty());
    manager.heard.clear();
    manager.wait("WATCHDOG=1\n");
    manager.wait("WATCHDOG=1\n");
}

#[test]
fn the_watchdog_of_another_process_is_left_alone() {
    let setup = Setup::server("").workers(1);
    let path = setup.dir().join("notify");
    let mut manager = Manager::at(&path);
    let weir = setup
        .environment("NOTIFY_SOCKET", path.display())
        .environment("WATCHDOG_USEC", 20_000)
        .environment("WATCHDOG_PID", 1)
        .start();
    manager.wait("READY=1\n");
    weir.signal(Signal::SIGTTIN);
    manager.wait("STATUS=serving, config generation 1, 2 workers\n");
    weir.reload();
    manager.wait("READY=1\n");
    assert!(alive(weir.pid()));
    assert!(
        !manager.heard.iter().any(|text| text.contains("WATCHDOG")),
        "{:?}",
        manager.heard
    );
}

/// Sends USR2 to `old`, and waits for the number of the new master.
#[track_caller]
pub fn change_binary(old: u32, pid_file: &Path) -> (u32, Leash) {
    send(old, Signal::SIGUSR2);
    let new = wait_for(PATIENCE, "the new master serves", || {
        let pid: u32 = read_lossy(pid_file).trim().parse().ok()?;
        (pid != old).then_some(pid)
    });
    (new, Leash::new(new).unwrap())
}

#[test]
fn the_old_master_speaks_until_it_hands_the_service_over() {
    let setup = Setup::server("").workers(1);
    let path = setup.dir().join("notify");
    let mut manager = Manager::at(&path);
    let limit = Duration::from_millis(400);
    let mut weir = setup
        .environment("NOTIFY_SOCKET", path.display())
        .environment("WATCHDOG_USEC", limit.as_micros())
        .start();
    manager.wait("READY=1\n");
    let (new, leash) = change_binary(weir.pid(), &weir.path("logs/weir.pid"));
    manager.heard.clear();
    for _ in 0..3 {
        manager.wait("WATCHDOG=1\n");
    }
    weir.signal(Signal::SIGQUIT);
    let handed = manager.wait("MAINPID=");
    assert_eq!(handed, format!("MAINPID={new}\nREADY=1\nWATCHDOG=1\n"));
    weir.process().wait(PATIENCE);
    // The new one introduces itself, and vouches for the service from now on.
    let status = manager.wait("STATUS=serving");
    assert_eq!(status, "STATUS=serving, config generation 1, 1 worker\n");
    manager.heard.clear();
    manager.wait("WATCHDOG=1\n");
    manager.wait("WATCHDOG=1\n");
    send(new, Signal::SIGTERM);
    manager.wait("STOPPING=1\n");
    wait_until(PATIENCE, "it ends", || !alive(new));
    drop(leash);
}

#[test]
fn a_new_binary_that_ends_again_was_never_the_service() {
    let setup = Setup::server("").workers(1);
    let path = setup.dir().join("notify");
    let mut manager = Manager::at(&path);
    let weir = setup.environment("NOTIFY_SOCKET", path.display()).start();
    manager.wait("READY=1\n");
    let (new, leash) = change_binary(weir.pid(), &weir.path("logs/weir.pid"));
    // The configuration is not read, and the manager does not wait for that either.
    weir.signal(Signal::SIGHUP);
    manager.wait("RELOADING=1\n");
    manager.wait("READY=1\nSTATUS=serving, config generation 1");
    send(new, Signal::SIGTERM);
    wait_until(PATIENCE, "it ends", || !alive(new));
    wait_until(PATIENCE, "the old one has its pid file again", || {
        read_lossy(&weir.path("logs/weir.pid")).trim() == weir.pid().to_string()
    });
    weir.signal(Signal::SIGHUP);
    let mut said = String::new();
    while !said.contains("READY=1\nSTATUS=serving, config generation 2") {
        said += &manager.wait("");
    }
    assert!(said.contains("RELOADING=1\n"), "{said}");
    assert!(
        !said.contains("STOPPING") && !said.contains("MAINPID"),
        "{said}"
    );
    drop(leash);
}
