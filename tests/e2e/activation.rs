//! Listening sockets that a service manager opens, passes in, and keeps.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use crate::support::client::{Client, get};
use crate::support::process::{Process, alive, children, guarded, read_lossy, send, title};
use crate::support::weir::{Setup, WHO, in_http};
use crate::support::{PATIENCE, wait_until};

/// Gets the sockets as standard input and output, and hands them on as a manager does.
const HAND_ON: &str = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=${WHOM:-$$}; \
                       export LISTEN_PID; exec \"$@\"";

/// A weir that gets sockets from here.
struct Activated {
    setup: Setup,
    sockets: [OwnedFd; 2],
    process: Option<Process>,
}

fn copy(socket: &impl AsFd) -> OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

impl Activated {
    fn new(body: &str, sockets: [OwnedFd; 2], more: &[(&str, &str)]) -> Activated {
        let mut setup = Setup::whole(&in_http(body));
        for (name, value) in more {
            setup = setup.set(name, value);
        }
        setup.write();
        Activated {
            setup,
            sockets,
            process: None,
        }
    }

    fn start(&mut self) {
        self.start_as("");
    }

    /// Starts it with sockets that are for the process `whom`, or for it if that is empty.
    #[track_caller]
    fn start_as(&mut self, whom: &str) {
        let dir = self.setup.dir();
        let mut command = guarded("sh");
        command.args(["-c", HAND_ON, "sh", env!("CARGO_BIN_EXE_weir"), "-p"]);
        command.arg(dir).arg("-c").arg(dir.join("conf/weir.conf"));
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "a:b");
        command.env("WHOM", whom);
        let [first, second] = &self.sockets;
        command.stdin(Stdio::from(copy(first)));
        command.stdout(Stdio::from(copy(second)));
        command.stderr(File::create(dir.join("output")).unwrap());
        let mut process = Process::spawn(&mut command);
        let pid_file = dir.join("logs/weir.pid");
        wait_until(PATIENCE, "it serves", || {
            assert!(process.ended().is_none(), "{}", self.log());
            read_lossy(&pid_file).trim() == process.pid().to_string()
        });
        self.process = Some(process);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    #[track_caller]
    fn stop(&mut self) {
        self.signal(Signal::SIGQUIT);
        let status = self.process.take().unwrap().wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    fn log(&self) -> String {
        let dir = self.setup.dir();
        read_lossy(&dir.join("output")) + &read_lossy(&dir.join("logs/error.log"))
    }

    fn children(&self) -> Vec<u32> {
        children(self.process.as_ref().unwrap().pid())
    }
}

fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The inode of a socket.
fn inode(socket: &impl AsFd) -> u64 {
    File::from(copy(socket)).metadata().unwrap().ino()
}

/// Whether a process holds it.
fn holds(pid: u32, inode: u64) -> bool {
    let name = format!("socket:[{inode}]");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|link| link.as_os_str() == name.as_str())
}

fn pid_of(response: crate::support::client::Response) -> String {
    response.field("x-pid").unwrap().to_owned()
}

#[test]
fn every_worker_serves_what_was_passed_and_what_was_not_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let (tcp, address) = bound();
    let unix = UnixListener::bind(&path).unwrap();
    let of_tcp = inode(&tcp);
    let body = format!(
        "server {{ listen {address}; listen 127.0.0.1:@PORT@; listen unix:@PATH@; {WHO} }}"
    );
    let shown = path.display().to_string();
    let mut weir = Activated::new(
        &body,
        [copy(&tcp), copy(&unix)],
        &[("WORKERS", "3"), ("PATH", &shown)],
    );
    weir.start();
    let workers: Vec<u32> = weir.children();
    let (workers, syncer): (Vec<u32>, Vec<u32>) = workers
        .into_iter()
        .partition(|pid| title(*pid) == "weir: worker process");
    assert_eq!((workers.len(), syncer.len()), (3, 1));
    assert!(workers.iter().all(|pid| holds(*pid, of_tcp)));
    assert!(!holds(syncer[0], of_tcp));
    for _ in 0..20 {
        let pid = pid_of(get(address.to_string(), "/who"));
        assert!(workers.contains(&pid.parse().unwrap()));
        pid_of(Client::connect_unix(&path).get("/who").unwrap());
    }
    let conf = read_lossy(&weir.setup.dir().join("conf/weir.conf"));
    let port = conf.split("listen 127.0.0.1:").nth(2).unwrap();
    let own = format!("127.0.0.1:{}", port.split(';').next().unwrap());
    pid_of(get(own.clone(), "/who"));

    // Its own socket is gone with it. The manager's are as they were: clients wait.
    weir.stop();
    assert!(Client::try_connect(own).is_err());
    let mut waiting: Vec<Client> = (0..10)
        .map(|_| Client::connect(address.to_string()))
        .chain((0..10).map(|_| Client::connect_unix(&path)))
        .collect();
    weir.start();
    for client in &mut waiting {
        assert_eq!(client.get("/who").unwrap().status, 200);
    }
    // As all that a manager passes, the socket is not the worker's to keep for itself.
    weir.signal(Signal::SIGTTOU);
    wait_until(PATIENCE, "there are two", || weir.children().len() == 3);
    pid_of(get(address.to_string(), "/who"));
    weir.stop();
    assert!(path.exists(), "the manager's file");
    drop(unix);
}

#[test]
fn no_client_is_refused_over_restarts() {
    let (tcp, address) = bound();
    let (other, beside) = bound();
    let body = format!("server {{ listen {address}; listen {beside}; {WHO} }}");
    let mut weir = Activated::new(&body, [copy(&tcp), copy(&other)], &[]);
    weir.start();
    let done = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&done);
    let clients = std::thread::spawn(move || -> (usize, Vec<String>) {
        let (mut answered, mut failed) = (0, Vec::new());
        while !its.load(Ordering::Acquire) {
            let asked = Client::try_connect(address.to_string());
            match asked.and_then(|mut client| client.get("/who")) {
                Ok(_) => answered += 1,
                Err(error) => failed.push(error.to_string()),
            }
        }
        (answered, failed)
    });
    for _ in 0..3 {
        weir.stop();
        weir.start();
    }
    done.store(true, Ordering::Release);
    let (answered, failed) = clients.join().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(answered > 3, "{answered}");
}

#[test]
fn what_nothing_names_or_is_no_socket_is_told_and_closed() {
    let (tcp, address) = bound();
    let of_tcp = inode(&tcp);
    let file = File::open("/dev/null").unwrap();
    let body = format!("server {{ listen 127.0.0.1:@PORT@; {WHO} }}");
    let mut weir = Activated::new(&body, [copy(&tcp), copy(&file)], &[]);
    weir.start();
    let log = weir.log();
    let expected = format!(
        "[warn] descriptor 3 (\"a\") of the service manager listens on {address}, which no \"listen\" names, closed"
    );
    assert!(log.contains(&expected), "{log}");
    let expected =
        "[warn] descriptor 4 (\"b\") of the service manager is no listening stream socket, closed";
    assert!(log.contains(expected), "{log}");
    let master = weir.process.as_ref().unwrap().pid();
    for pid in [weir.children(), vec![master]].concat() {
        assert!(!holds(pid, of_tcp), "{}", title(pid));
    }
    weir.stop();
}

#[test]
fn what_is_for_another_process_is_left_alone() {
    let (tcp, address) = bound();
    let file = File::open("/dev/null").unwrap();
    let body = format!("server {{ listen 127.0.0.1:@PORT@; {WHO} }}");
    let mut weir = Activated::new(&body, [copy(&tcp), copy(&file)], &[]);
    weir.start_as("1");
    let log = weir.log();
    assert!(!log.contains("[warn]"), "of {address}: {log}");
    weir.stop();
}

#[test]
fn a_reload_lets_go_of_a_passed_socket_and_takes_it_up_again() {
    let (tcp, address) = bound();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let both = format!(
        "server {{ listen 127.0.0.1:@PORT@; listen {address}; listen unix:{}; {WHO} }}",
        path.display()
    );
    let mut weir = Activated::new(&both, [copy(&tcp), copy(&unix)], &[]);
    weir.start();
    let conf = weir.setup.dir().join("conf/weir.conf");
    let first = read_lossy(&conf);
    let without = first
        .replace(&format!("listen {address};"), "")
        .replace(&format!("listen unix:{};", path.display()), "");
    let reload = |text: &str, generation: u32| {
        fs::write(&conf, text).unwrap();
        weir.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "it is reloaded", || {
            let live = format!("config generation {generation} live in");
            weir.log().contains(&live)
        });
    };
    reload(&without, 2);
    // Nobody takes it from the manager's queue for now.
    let mut waiting = Client::connect(address.to_string());
    let mut also = Client::connect_unix(&path);
    reload(&first, 3);
    assert_eq!(waiting.get("/who").unwrap().status, 200);
    assert_eq!(also.get("/who").unwrap().status, 200);
    reload(&without, 4);
    assert!(path.exists(), "the manager's file");
    weir.stop();
    assert!(path.exists(), "the manager's file");
}

#[test]
fn a_new_binary_gets_what_was_passed_and_leaves_it_to_the_manager_too() {
    let (tcp, address) = bound();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let body = format!(
        "server {{ listen {address}; listen 127.0.0.1:@PORT@; listen unix:{}; {WHO} }}",
        path.display()
    );
    let mut weir = Activated::new(&body, [copy(&tcp), copy(&unix)], &[("WORKERS", "2")]);
    weir.start();
    let old = weir.process.as_ref().unwrap().pid();
    let pid_file = weir.setup.dir().join("logs/weir.pid");
    let (new, leash) = super::manager::change_binary(old, &pid_file);
    weir.stop();
    wait_until(PATIENCE, "it has found out", || {
        weir.log()
            .contains(&format!("old master process {old} is gone"))
    });
    let of_tcp = inode(&tcp);
    let workers = children(new)
        .into_iter()
        .filter(|pid| title(*pid) == "weir: worker process");
    let workers: Vec<u32> = workers.collect();
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().all(|pid| holds(*pid, of_tcp)));
    pid_of(get(address.to_string(), "/who"));
    pid_of(Client::connect_unix(&path).get("/who").unwrap());
    send(new, Signal::SIGQUIT);
    wait_until(PATIENCE, "it ends", || !alive(new));
    assert!(path.exists(), "the manager's file");
    // Whoever asks now waits for the next one.
    let mut waiting = Client::connect(address.to_string());
    weir.start();
    assert_eq!(waiting.get("/who").unwrap().status, 200);
    weir.stop();
    drop(leash);
}
