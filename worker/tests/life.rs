//! What changes under a running worker: tables, settings, its own end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use common::backend::Backend;
use common::client::Client;
use common::settings::{edit, settings, text};
use common::{Worker, listener, wait_until};
use weir_shm::Address;
use weir_worker::channel::{Answer, Order, Role};
use weir_worker::settings::{AccessLog, Escape, Listener, LogFormat, LogName, Return, Settings};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_table_change_takes_effect_on_the_next_request() {
    let (one, two) = (Backend::start(), Backend::start());
    let mut worker = Worker::start(&[one.address]);
    let (mut busy, mut idle) = (worker.connect(), worker.connect());
    busy.send("GET /busy HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = one.accept();
    server.head();
    idle.send("GET /idle HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut kept = one.accept();
    kept.head();
    kept.send(OK);
    idle.message();
    worker.publish(&[two.address]);
    assert!(
        kept.is_closed(),
        "an idle connection to a server that is gone"
    );
    idle.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut next = two.accept();
    assert!(next.head().starts_with("GET /next "));
    next.send(OK);
    assert_eq!(idle.message().text(), "ok");
    // What was in flight finishes where it is, and its connection is not kept.
    server.send(OK);
    assert_eq!(busy.message().text(), "ok");
    assert!(server.is_closed());
    let reader = weir_shm::Reader::open(worker.region.path()).unwrap();
    for counters in reader.counters(worker.publisher.table()).unwrap() {
        assert_eq!(counters.total.in_flight, 0, "{counters:?}");
    }
    // The table that it started with kept nobody waiting, the other one is counted.
    assert_eq!(reader.latencies().unwrap().used[0].1.count(), 1);
}

#[test]
fn a_server_that_stays_keeps_its_connections() {
    let (one, two) = (Backend::start(), Backend::start());
    let mut worker = Worker::start(&[one.address]);
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = one.accept();
    server.head();
    server.send(OK);
    client.message();
    worker.publish(&[one.address, two.address]);
    worker.publish(&[one.address]);
    client.send("GET /again HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(server.head().starts_with("GET /again "));
    server.send(OK);
    assert_eq!(client.message().status(), 200);
}

#[test]
fn a_graceful_end_finishes_what_is_in_flight() {
    let backend = Backend::start();
    let mut worker = Worker::start(&[backend.address]);
    let (mut busy, mut idle) = (worker.connect(), worker.connect());
    idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    server.send(OK);
    idle.message();
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    server.head();
    worker.order(&Order::Quit);
    assert!(idle.is_closed(), "an idle connection");
    wait_until("nobody listens", || {
        std::net::TcpStream::connect(worker.address).is_err()
    });
    assert!(!worker.has_ended());
    server.send(OK);
    let answer = busy.message();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.field("Connection"), Some("close"));
    assert_eq!(worker.ended(), Ok(()));
}

#[test]
fn a_graceful_end_has_a_limit() {
    let backend = Backend::start();
    let mut worker = Worker::with(&[backend.address], |settings| {
        settings.shutdown_timeout = Some(Duration::from_millis(100));
    });
    let mut client = worker.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    worker.order(&Order::Quit);
    assert_eq!(worker.ended(), Ok(()));
    assert!(client.is_closed());
}

#[test]
fn a_master_that_is_gone_ends_the_worker() {
    let mut worker = Worker::start(&[Backend::echo()]);
    let mut client = worker.connect();
    assert_eq!(client.get("/x").text(), "/x");
    let (other, _) = weir_worker::channel::Channel::pair().unwrap();
    drop(std::mem::replace(&mut worker.master, other));
    assert_eq!(worker.ended(), Ok(()));
    assert!(client.is_closed());
}

/// Settings from lines such as `listen 127.0.0.1:80` and `return 204`.
fn build(text: &str) -> Result<Settings, String> {
    let mut built: Option<Settings> = None;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("listen", address)) => {
                let address: SocketAddr = address.parse().map_err(|_| format!("bad {line}"))?;
                match &mut built {
                    None => built = Some(settings(address)),
                    Some(settings) => settings.listeners.push(Listener {
                        address: Address::Ip(address),
                        servers: vec![0],
                        default: 0,
                    }),
                }
            }
            Some(("return", status)) => {
                let status = status.parse().map_err(|_| format!("bad {line}"))?;
                let settings = built.as_mut().ok_or("listen comes first")?;
                edit(settings, |location| {
                    location.ret = Some(Return {
                        status,
                        text: Some(common::settings::text("new")),
                    });
                });
            }
            _ => return Err(format!("unknown directive in {line}")),
        }
    }
    built.ok_or_else(|| "no listen".to_owned())
}

/// Sends a generation's text and sockets; the worker's answer.
fn prepare(
    worker: &Worker,
    generation: u64,
    text: &str,
    sockets: &[(SocketAddr, std::net::TcpListener)],
) -> Answer {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let log = std::fs::File::options()
        .append(true)
        .open(worker.folder.path().join("error.log"))
        .unwrap();
    let mut roles = vec![Role::Text, Role::Resource(0)];
    let mut descriptors = vec![file.as_fd(), log.as_fd()];
    for (address, socket) in sockets {
        roles.push(Role::Listener(address.to_string()));
        descriptors.push(socket.as_fd());
    }
    // In two packets, as when there are more descriptors than one carries.
    let order = |roles: &[Role], more| Order::Prepare {
        generation,
        descriptors: roles.to_vec(),
        more,
    };
    worker
        .master
        .send(&order(&roles[..1], true), &descriptors[..1])
        .unwrap();
    worker
        .master
        .send(&order(&roles[1..], false), &descriptors[1..])
        .unwrap();
    worker.master.recv().unwrap().unwrap().0
}

#[test]
fn new_settings_serve_the_next_request() {
    let backend = Backend::start();
    let worker = Worker::build(&[backend.address], build, |_| ());
    let old = worker.address;
    let (socket, new) = listener();
    let (mut busy, mut idle) = (worker.connect(), worker.connect());
    busy.send("GET /busy HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut kept = backend.accept();
    kept.head();
    kept.send(OK);
    idle.message();
    let text = format!("listen {old}\nlisten {new}\nreturn 200");
    let answer = prepare(&worker, 2, &text, &[(new, socket)]);
    assert_eq!(answer, Answer::Prepared { generation: 2 });
    // Nothing has changed so far.
    idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    kept.head();
    kept.send(OK);
    assert_eq!(idle.message().text(), "ok");
    worker.order(&Order::Commit { generation: 2 });
    let committed: Answer = worker.master.recv().unwrap().unwrap().0;
    assert_eq!(committed, Answer::Committed { generation: 2 });
    assert_eq!(idle.get("/").text(), "new");
    assert_eq!(Client::connect(new).get("/").text(), "new");
    server.send(OK);
    assert_eq!(busy.message().text(), "ok", "served by what it began with");
    assert_eq!(worker.region.scoreboard()[0].generation, 2);
    // The old address goes, with its clients.
    let text = format!("listen {new}\nreturn 200");
    assert_eq!(
        prepare(&worker, 3, &text, &[]),
        Answer::Prepared { generation: 3 }
    );
    worker.order(&Order::Commit { generation: 3 });
    worker.master.recv::<Answer>().unwrap();
    assert!(idle.is_closed());
    assert!(std::net::TcpStream::connect(old).is_err());
    assert_eq!(Client::connect(new).get("/").text(), "new");
}

#[test]
fn settings_that_cannot_be_built_change_nothing() {
    let worker = Worker::build(&[Backend::echo()], build, |_| ());
    let refused = prepare(&worker, 2, "nonsense", &[]);
    let message = "unknown directive in nonsense".to_owned();
    assert_eq!(
        refused,
        Answer::Refused {
            generation: 2,
            message
        }
    );
    let text = format!("listen {}\nreturn 200", worker.address);
    assert_eq!(
        prepare(&worker, 3, &text, &[]),
        Answer::Prepared { generation: 3 }
    );
    worker.order(&Order::Abort { generation: 3 });
    worker.order(&Order::Commit { generation: 3 });
    let mut client = worker.connect();
    assert_eq!(client.get("/x").text(), "/x");
    assert_eq!(worker.region.scoreboard()[0].generation, 1);
}

#[test]
fn logs_that_were_opened_anew_are_used() {
    let worker = Worker::with(&[], |settings| {
        edit(settings, |location| {
            location.access_logs = vec![AccessLog {
                to: LogName::File(1),
                format: Arc::new(LogFormat {
                    line: text("a line"),
                    escape: Escape::Default,
                }),
                filter: None,
            }];
        });
    });
    let mut client = worker.connect();
    client.get("/");
    wait_until("the old log has the line", || {
        worker.access_log() == "a line\n"
    });
    let reopen = |generation, name: &str| {
        let path = worker.folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        let order = Order::Reopen {
            generation,
            descriptors: vec![Role::Resource(1)],
            more: false,
        };
        worker.master.send(&order, &[file.as_fd()]).unwrap();
        path
    };
    let other = reopen(1, "other.log");
    // In another configuration the number is another log's.
    let foreign = reopen(2, "foreign.log");
    wait_until("the new log has lines", || {
        worker.connect().get("/");
        !std::fs::read_to_string(&other).unwrap().is_empty()
    });
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "");
}

#[test]
fn a_retired_workers_socket_is_served_too() {
    let worker = Worker::start(&[Backend::echo()]);
    // Another socket of the same address, as SO_REUSEPORT has them, on its own port here.
    let (socket, address) = listener();
    let order = Order::Adopt {
        descriptors: vec![Role::Listener(worker.address.to_string())],
        more: false,
    };
    worker.master.send(&order, &[socket.as_fd()]).unwrap();
    assert_eq!(Client::connect(address).get("/x").text(), "/x");
    assert_eq!(worker.connect().get("/y").text(), "/y");
}

#[test]
fn more_connections_than_allowed_wait_their_turn() {
    let backend = Backend::start();
    // The listener, two clients and their two servers.
    let worker = Worker::with(&[backend.address], |settings| {
        settings.worker_connections = 5
    });
    let ask = || {
        let mut client = worker.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        client
    };
    let mut busy: Vec<(Client, Client)> = Vec::new();
    for _ in 0..2 {
        let client = ask();
        busy.push((client, backend.accept()));
    }
    let mut waiting = ask();
    let (mut client, mut server) = busy.remove(0);
    server.head();
    assert!(backend.connections.try_recv().is_err(), "one too many");
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    server.send(answer);
    assert_eq!(client.message().text(), "ok");
    let mut next = backend.accept();
    next.head();
    next.send(answer);
    assert_eq!(waiting.message().text(), "ok");
}

#[test]
fn an_idle_client_makes_room_for_a_new_one() {
    let worker = Worker::with(&[Backend::echo()], |settings| {
        settings.worker_connections = 4;
        settings.upstreams[0].keepalive = 0;
    });
    let mut old = worker.connect();
    assert_eq!(old.get("/").status(), 200);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..6 {
        let mut client = worker.connect();
        assert_eq!(client.get("/").status(), 200);
        clients.push(client);
    }
    assert!(old.is_closed());
    assert_eq!(clients.last_mut().unwrap().get("/last").text(), "/last");
}

#[test]
fn the_scoreboard_says_what_the_worker_does() {
    let worker = Worker::start(&[Backend::echo()]);
    let mut client = worker.connect();
    for _ in 0..5 {
        client.get("/");
    }
    wait_until("the worker rests", || {
        let row = &worker.region.scoreboard()[0];
        row.status.waiting == 1 && row.status.requests == 5
    });
    let row = &worker.region.scoreboard()[0];
    assert_eq!(row.pid, std::process::id());
    assert_eq!((row.generation, row.table_version), (1, 1));
    assert_eq!(
        (row.status.active, row.status.accepted, row.status.handled),
        (1, 1, 1)
    );
    wait_until("it is parked", || {
        worker.region.scoreboard()[0].state == weir_shm::WorkerState::Parked
    });
    drop(client);
    wait_until("the client is gone", || {
        worker.region.scoreboard()[0].status.active == 0
    });
}
