//! The parameters of `listen`, on the sockets themselves.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::client::Client;
use crate::support::process::{Process, guarded, read_lossy, send};
use crate::support::weir::{Setup, Weir};
use crate::support::{PATIENCE, free_port, holds_for, tool, wait_until};

/// One server with these `listen` parameters; what answers is the address that was asked.
fn server(parameters: &str) -> String {
    format!(
        "server {{
            listen 127.0.0.1:@PORT@ {parameters};
            location / {{ return 200 $server_addr:$server_port; }}
            location = /status {{ stub_status; }}
            location = /who {{ add_header X-Pid $pid; return 200 who; }}
        }}"
    )
}

#[test]
fn a_range_of_ports_is_listened_at() {
    // Ports that follow one another, each of them given to nobody else.
    let mut range = Vec::new();
    wait_until(PATIENCE, "there are four in a row", || {
        let port = free_port();
        if range.last() != Some(&(port - 1)) {
            range.clear();
        }
        range.push(port);
        range.len() == 4
    });
    let (first, last) = (range[0], range[3]);
    let weir = Setup::http(&server("").replace("@PORT@", &format!("{first}-{last}")))
        .workers(1)
        .start();
    for port in first..=last {
        let address = format!("127.0.0.1:{port}");
        let response = Client::connect(&address).get("/").unwrap();
        assert_eq!(response.text(), address);
    }
    drop(weir);
}

#[test]
fn a_unix_socket_is_for_everyone_and_taken_away_at_the_end() {
    let mut weir =
        Setup::http("server { listen unix:@DIR@/weir.sock; return 200 $remote_addr; }").start();
    let path = weir.path("weir.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    for _ in 0..4 {
        let response = Client::connect_unix(&path).get("/").unwrap();
        assert_eq!(response.text(), "unix:");
    }
    // What a crash leaves behind is no obstacle.
    weir.signal(Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    wait_until(PATIENCE, "nobody listens any more", || {
        std::os::unix::net::UnixStream::connect(&path).is_err()
    });
    weir.start_again();
    assert_eq!(Client::connect_unix(&path).get("/").unwrap().status, 200);
    weir.stop();
    assert!(!path.exists());
}

/// The kernel's timer of weir's end of a connection: its kind, 2 for keepalive, and the seconds
/// left.
fn timer(weir: &Weir, client: &Socket) -> (u8, u64) {
    let port = |column: &str| u16::from_str_radix(&column[9..], 16).unwrap();
    let own = client.local_addr().unwrap().as_socket().unwrap().port();
    let ends = (weir.port("PORT"), own);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let found = table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        ((port(columns[1]), port(columns[2])) == ends).then(|| columns[5].to_owned())
    });
    let found = found.expect("the connection is there");
    let (kind, left) = found.split_once(':').unwrap();
    // The kernel shows hundredths of a second.
    let left = u64::from_str_radix(left, 16).unwrap() / 100;
    (kind.parse().unwrap(), left)
}

fn connect(weir: &Weir) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address: SocketAddr = weir.address().parse().unwrap();
    socket.connect(&address.into()).unwrap();
    socket
}

#[test]
fn keepalive_is_inherited_and_changes_with_a_reload() {
    let mut weir = Setup::http(&server("so_keepalive=500:7:3"))
        .workers(1)
        .start();
    let (kind, left) = timer(&weir, &connect(&weir));
    assert_eq!(kind, 2);
    assert!((400..=500).contains(&left), "{left}");
    let text = weir.text();
    weir.rewrite(&text.replace("500:7:3", "900::"));
    weir.reload();
    let (kind, left) = timer(&weir, &connect(&weir));
    assert!(kind == 2 && (800..=900).contains(&left), "{kind} {left}");
    weir.rewrite(&text.replace("500:7:3", "off"));
    weir.reload();
    assert_eq!(timer(&weir, &connect(&weir)), (0, 0));
}

/// How many connections a queue takes while nobody accepts.
fn queued(weir: &Weir) -> usize {
    const TRIED: usize = 12;
    let worker = weir.workers()[0];
    send(worker, Signal::SIGSTOP);
    let address: SocketAddr = weir.address().parse().unwrap();
    let waiting: Vec<Socket> = (0..TRIED)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let taken = waiting
        .iter()
        .filter(|socket| socket.peer_addr().is_ok())
        .count();
    drop(waiting);
    send(worker, Signal::SIGCONT);
    taken
}

#[test]
fn the_backlog_bounds_who_waits_and_changes_with_a_reload() {
    let mut weir = Setup::http(&server("backlog=2")).workers(1).start();
    // Linux lets in one more than it is told.
    assert_eq!(queued(&weir), 3);
    let text = weir.text();
    weir.rewrite(&text.replace("backlog=2", "backlog=5"));
    weir.reload();
    assert_eq!(queued(&weir), 6);
    weir.rewrite(&text.replace("backlog=2", ""));
    weir.reload();
    assert_eq!(queued(&weir), 12);
}

/// Connections that workers have accepted.
fn accepted(client: &mut Client) -> u64 {
    let status = client.get("/status").unwrap().text();
    let line = status.lines().nth(2).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_deferred_connection_is_accepted_with_its_request() {
    let mut weir = Setup::http(&server("deferred")).workers(1).start();
    let mut asking = weir.connect();
    let before = accepted(&mut asking);
    let silent = connect(&weir);
    holds_for(
        std::time::Duration::from_millis(200),
        "it is not accepted",
        || accepted(&mut asking) == before,
    );
    silent.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until(PATIENCE, "it is accepted", || {
        accepted(&mut asking) > before
    });

    let text = weir.text();
    weir.rewrite(&text.replace("deferred", ""));
    weir.reload();
    let before = accepted(&mut asking);
    let _silent = connect(&weir);
    wait_until(PATIENCE, "it is accepted", || {
        accepted(&mut asking) > before
    });
}

#[test]
fn every_socket_gets_its_options_again_with_a_reload() {
    const OPTIONS: [&str; 8] = [
        "SOL_SOCKET, SO_RCVBUF, [65536]",
        "SOL_SOCKET, SO_SNDBUF, [131072]",
        "SOL_SOCKET, SO_KEEPALIVE, [1]",
        "SOL_TCP, TCP_KEEPIDLE, [60]",
        "SOL_TCP, TCP_KEEPINTVL, [10]",
        "SOL_TCP, TCP_KEEPCNT, [4]",
        "SOL_TCP, TCP_FASTOPEN, [9]",
        "SOL_TCP, TCP_DEFER_ACCEPT, [1]",
    ];
    let mut weir = Setup::http(&server("")).workers(2).start();
    let log = weir.path("trace");
    let mut command = guarded(tool("strace"));
    command
        .args(["-qq", "-e", "trace=setsockopt", "-o"])
        .arg(&log)
        .args(["-p", &weir.pid().to_string()]);
    let mut strace = Process::start(&mut command, &weir.path("strace"));
    wait_until(PATIENCE, "strace is attached", || {
        let status = read_lossy(format!("/proc/{}/status", weir.pid()).as_ref());
        !status.contains("TracerPid:\t0\n")
    });
    let parameters = "rcvbuf=64k sndbuf=128k so_keepalive=1m:10s:4 fastopen=9 deferred";
    weir.rewrite(&format!(
        "{}\n",
        weir.text()
            .replace("@PORT@ ;", &format!("@PORT@ {parameters};"))
    ));
    weir.reload();
    strace.signal(Signal::SIGINT);
    strace.wait(PATIENCE);
    let trace = read_lossy(&log);
    for option in OPTIONS {
        let set = trace.lines().filter(|line| line.contains(option));
        let good = set.filter(|line| line.ends_with("= 0")).count();
        assert_eq!(good, 2, "{option}, once a worker: {trace}");
    }
}

#[test]
fn what_a_unix_socket_cannot_have_is_told_and_ignored() {
    let weir = Setup::http("server { listen unix:@DIR@/weir.sock deferred; return 200 x; }")
        .allow("setsockopt(TCP_DEFER_ACCEPT, 1)")
        .start();
    let path = weir.path("weir.sock");
    weir.wait_log(&format!(
        "[alert] {}#0: setsockopt(TCP_DEFER_ACCEPT, 1) unix:{} failed, ignored (95: Operation not supported)",
        weir.pid(),
        path.display()
    ));
    assert_eq!(Client::connect_unix(&path).get("/").unwrap().status, 200);
}
