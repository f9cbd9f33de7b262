//! Bodies that wait in memory and in temporary files, and answers at a given pace.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Then, answer, ok};
use crate::support::client::{Client, Failure};
use crate::support::process::read_lossy;
use crate::support::weir::{Setup, WHO, Weir, in_server};
use crate::support::{PATIENCE, free_port, wait_for, wait_until};

use super::http_basic::forwarding;

/// More than the sockets between weir and a client that reads nothing can hold.
const LARGE: usize = 48 << 20;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// A body that has a different byte at every place of a period that no buffer's size divides.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 23) as u8).collect()
}

/// Answers with `length` bytes and counts the answers that it got rid of.
fn giver(length: usize) -> (Backend, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&given);
    let whole = answer("200 OK", "", &body(length));
    let backend = Backend::answering(move |_, out| {
        if out.write_all(&whole).is_err() {
            return Then::Close;
        }
        counter.fetch_add(1, Ordering::AcqRel);
        Then::Keep
    });
    (backend, given)
}

/// The deleted files below a folder that a process has open.
fn temporary(pid: u32, folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let links = links.map(|link| link.display().to_string());
    let below = folder.display().to_string();
    links
        .filter(|link| link.starts_with(&below) && link.ends_with(" (deleted)"))
        .collect()
}

/// The worker's temporary files, of both kinds.
fn held(weir: &Weir) -> usize {
    let pid = weir.workers()[0];
    let folders = ["client_body_temp", "proxy_temp"].map(|name| weir.path(name));
    folders
        .iter()
        .map(|folder| temporary(pid, folder).len())
        .sum()
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_its_server() {
    for sendfile in ["on", "off"] {
        let (backend, given) = giver(LARGE);
        let weir = forwarding(&backend, &format!("sendfile {sendfile};")).start();
        let mut client = weir.connect();
        client.send(REQUEST).unwrap();
        wait_until(PATIENCE, "the server has given all of it", || {
            given.load(Ordering::Acquire) == 1
        });
        assert_eq!(held(&weir), 1);
        weir.wait_log("[warn]");
        let log = weir.error_log();
        let folder = weir.path("proxy_temp").display().to_string();
        let said = format!("an upstream response is buffered to a temporary file {folder}/");
        assert!(log.contains(&said) && log.contains(" while reading upstream, client: "));
        // The connection serves others meanwhile.
        let response = client.response("GET").unwrap();
        assert!(response.body == body(LARGE), "sendfile {sendfile}");
        assert_eq!(weir.get("/").body.len(), LARGE);
        assert_eq!(backend.connections(), 1);
        wait_until(PATIENCE, "the file is gone", || held(&weir) == 0);
        assert_eq!(names_below(&weir.path("proxy_temp")), Vec::<String>::new());
    }
}

/// The files below a folder.
fn names_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names
}

#[test]
fn an_answer_that_breaks_off_in_the_file_is_not_the_whole() {
    for (head, whole) in [
        ("Content-Length: 900000000", "length"),
        ("Transfer-Encoding: chunked", "chunked"),
    ] {
        let chunked = whole == "chunked";
        let backend = Backend::answering(move |_, out| {
            let _ = write!(out, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
            if chunked {
                let _ = write!(out, "fffffff\r\n");
            }
            let _ = out.write_all(&body(LARGE));
            Then::Close
        });
        let weir = forwarding(&backend, "").start();
        let mut client = weir.connect();
        client.send(REQUEST).unwrap();
        weir.wait_log("upstream prematurely closed connection while reading upstream");
        assert_eq!(held(&weir), 1);
        match client.response("GET") {
            Err(Failure::Truncated(_) | Failure::Io(_)) => {}
            other => panic!("{:?}", other.map(|response| response.body.len())),
        }
    }
}

#[test]
fn a_large_body_goes_to_the_next_server() {
    let taken = Backend::named("taken");
    let dead = free_port();
    let length = 3 << 20;
    for sendfile in ["on", "off"] {
        let servers = format!(
            "upstream back {{ server 127.0.0.1:{dead}; server {}; }}",
            taken.address()
        );
        let weir = Setup::http(&format!(
            "{servers}\n{}",
            in_server(&format!(
                "location / {{ proxy_pass http://back; client_max_body_size 0; sendfile {sendfile}; }}"
            ))
        ))
        .workers(1)
        .start();
        let mut client = weir.connect();
        for _ in 0..2 {
            let response = client.request("POST", "/", "", &body(length)).unwrap();
            assert_eq!(response.status, 200);
        }
        weir.wait_log("connect() failed (111: Connection refused) while connecting to upstream");
        let folder = weir.path("client_body_temp").display().to_string();
        weir.wait_log(&format!(
            "a client request body is buffered to a temporary file {folder}/"
        ));
        wait_until(PATIENCE, "the files are gone", || held(&weir) == 0);
    }
    for request in taken.requests() {
        assert!(request.body == body(length), "{}", request.head);
    }
}

#[test]
fn a_slow_upload_occupies_no_server() {
    let backend = Backend::named("a");
    let weir = forwarding(&backend, "client_body_buffer_size 1k;").start();
    let mut client = weir.connect();
    let length = 200_000;
    let whole = body(length);
    client
        .send(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").as_bytes())
        .unwrap();
    client.send(&whole[..length - 1]).unwrap();
    wait_until(PATIENCE, "the body is in a file", || held(&weir) == 1);
    assert_eq!(backend.connections(), 0);
    client.send(&whole[length - 1..]).unwrap();
    assert_eq!(client.response("PUT").unwrap().status, 200);
    assert!(backend.requests()[0].body == whole);
    // One that goes away leaves nothing behind.
    let mut gone = weir.connect();
    gone.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n")
        .unwrap();
    gone.send(&whole[..150_000]).unwrap();
    wait_until(PATIENCE, "the next body is in a file", || held(&weir) == 1);
    drop(gone);
    wait_until(PATIENCE, "the file is gone", || held(&weir) == 0);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn bodies_are_kept_in_files_that_are_asked_for() {
    let backend = Backend::named("a");
    let weir = forwarding(
        &backend,
        "client_body_in_file_only on; client_body_temp_path @DIR@/kept 2;
         proxy_set_header X-File $request_body_file;",
    )
    .start();
    let mut client = weir.connect();
    client.request("POST", "/", "", b"some words").unwrap();
    let request = backend.requests()[0].clone();
    assert_eq!(request.body, b"some words");
    let file = request.field("x-file").unwrap().to_owned();
    assert_eq!(fs::read(&file).unwrap(), b"some words");
    let found = fs::metadata(&file).unwrap();
    let owner = crate::support::process::owner(weir.workers()[0]);
    assert_eq!((found.mode() & 0o7777, Some(found.uid())), (0o600, owner));
    let name = Path::new(&file).file_name().unwrap().to_str().unwrap();
    assert_eq!(
        (
            name.len(),
            file.ends_with(&format!("/kept/{}/{name}", &name[8..]))
        ),
        (10, true)
    );
}

/// A worker that may not let any file grow beyond so many bytes.
fn limit_files(weir: &Weir, bytes: &str) {
    let pid = weir.workers()[0];
    let status = read_lossy(format!("/proc/{pid}/status").as_ref());
    let id = |name: &str| -> u32 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    // Its own user may, where root lacks the capability.
    let done = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={bytes}")])
        .uid(id("Uid:"))
        .gid(id("Gid:"))
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn a_file_that_cannot_grow_concerns_its_own_request_alone() {
    let (backend, given) = giver(LARGE);
    let weir = forwarding(&backend, "client_max_body_size 0;").start();
    limit_files(&weir, "1048576:unlimited");
    let mut client = weir.connect();
    let response = client.request("POST", "/", "", &body(3 << 20)).unwrap();
    assert_eq!(response.status, 500);
    let log = weir.error_log();
    let folder = weir.path("client_body_temp").display().to_string();
    assert!(
        log.contains("[crit]") && log.contains(&format!("pwrite() \"{folder}/")),
        "{log}"
    );
    assert!(
        log.contains("failed (27: File too large), client: "),
        "{log}"
    );
    assert_eq!(given.load(Ordering::Acquire), 0);
    // An answer goes on without its file: the server waits.
    let mut client = weir.connect();
    client.send(REQUEST).unwrap();
    weir.wait_log("failed (27: File too large) while reading upstream");
    assert!(client.response("GET").unwrap().body == body(LARGE));
    limit_files(&weir, "unlimited:unlimited");
    let mut client = weir.connect();
    let response = client.request("POST", "/", "", &body(3 << 20)).unwrap();
    assert_eq!((response.status, response.body.len()), (200, LARGE));
}

#[test]
fn a_thousand_slow_clients_have_bounded_memory() {
    const CLIENTS: usize = 1000;
    /// More than memory and the small socket of a client hold.
    const LENGTH: usize = 1 << 20;
    // KiB: three buffers each, and what weir needs anyway.
    const MOST: usize = CLIENTS * 130 + (64 << 10);
    let (backend, _) = giver(LENGTH);
    let weir = Setup::http(&format!(
        "upstream back {{ server {}; }}
         server {{ listen 127.0.0.1:@PORT@ sndbuf=8k;
             {WHO}location / {{ proxy_max_temp_file_size 256k; proxy_pass http://back; }} }}",
        backend.address()
    ))
    .workers(1)
    .start();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(weir.address()).unwrap();
        socket2::SockRef::from(&stream)
            .set_recv_buffer_size(4096)
            .unwrap();
        stream.write_all(REQUEST).unwrap();
        clients.push(stream);
    }
    wait_until(PATIENCE * 2, "each has its file", || held(&weir) == CLIENTS);
    let status = read_lossy(format!("/proc/{}/status", weir.workers()[0]).as_ref());
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = line.unwrap().trim().trim_end_matches(" kB");
    let resident: usize = resident.parse().unwrap();
    assert!(resident < MOST, "the worker holds {resident} KiB");
    assert_eq!(weir.get("/who").status, 200);
    drop(clients);
    wait_until(PATIENCE, "the files are gone", || held(&weir) == 0);
}

/// How long it takes until so many bytes have come.
fn time_of(weir: &Weir, target: &str, length: usize) -> Duration {
    let mut stream = TcpStream::connect(weir.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let begun = Instant::now();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.len() > length, "{}", got.len());
    begun.elapsed()
}

#[test]
fn rates_are_kept() {
    let length = 200_000;
    let (backend, given) = giver(length);
    let weir = Setup::http(&format!(
        "upstream back {{ server {}; }}\n{}",
        backend.address(),
        in_server(
            "location /client { limit_rate $arg_rate; limit_rate_after 50k; proxy_pass http://back; }
             location /server { proxy_limit_rate 100k; proxy_pass http://back; }
             location /free { proxy_pass http://back; }"
        )
    ))
    .workers(1)
    .start();
    // 200 kB less 50 KiB at 50 KiB a second, of which one second goes ahead: about two seconds.
    let paced = time_of(&weir, "/client?rate=50k", length);
    assert!(paced > Duration::from_millis(1500), "{paced:?}");
    let free = time_of(&weir, "/client?rate=0", length);
    let server = time_of(&weir, "/server", length);
    assert!(server > Duration::from_millis(700), "{server:?}");
    assert!(free < paced, "{free:?} {paced:?}");
    assert_eq!(given.load(Ordering::Acquire), 3);
    time_of(&weir, "/client?rate=fast", length);
    weir.wait_log("invalid size \"fast\"");
}

#[test]
fn folders_are_made_for_the_workers_user() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("a"));
        Then::Keep
    });
    let mut setup = forwarding(&backend, "client_body_temp_path @DIR@/missing/body;");
    let done = setup.run(&["-t"]);
    assert_ne!(done.code, Some(0));
    let said = "missing/body\" failed (2: No such file or directory)";
    assert!(
        done.stderr.contains("mkdir() \"") && done.stderr.contains(said),
        "{}",
        done.stderr
    );
    let weir = forwarding(&backend, "").start();
    let owner = crate::support::process::owner(weir.workers()[0]);
    for name in ["client_body_temp", "proxy_temp"] {
        let found = fs::metadata(weir.path(name)).unwrap();
        assert_eq!((found.mode() & 0o777, Some(found.uid())), (0o700, owner));
    }
    let _ = wait_for(PATIENCE, "it serves", || {
        Client::try_connect(weir.address()).ok()
    });
}

/// A server that tells a rate where the path says so.
fn telling() -> Backend {
    Backend::answering(|request, out| {
        let fields = match request.target.ends_with("told") {
            true => "X-Accel-Limit-Rate: 5000\r\nX-Accel-Buffering: yes\r\n",
            false => "",
        };
        let _ = out.write_all(&answer("200 OK", fields, b"a"));
        Then::Keep
    })
}

#[test]
fn variables_tell_rate_and_port() {
    let backend = telling();
    let locations = [
        ("plain", "limit_rate 1m;"),
        ("told", "limit_rate 1m;"),
        (
            "ignored/told",
            "limit_rate 1m; proxy_ignore_headers X-Accel-Limit-Rate X-Accel-Buffering;",
        ),
        ("unbuffered", "limit_rate 1m; proxy_buffering off;"),
    ]
    .map(|(name, more)| format!("location /{name} {{ {more} proxy_pass http://back; }}\n"));
    let locations = locations.concat()
        + "location /unix { proxy_pass http://unix:@DIR@/none.sock; }
           add_header X-Rate $limit_rate always; add_header X-Port $proxy_host|$proxy_port| always;
           access_log logs/rate.log rate;";
    let weir = Setup::http(&format!(
        "log_format rate \"$uri $limit_rate\";\nupstream back {{ server {}; }}\n{}",
        backend.address(),
        in_server(&locations)
    ))
    .workers(1)
    .start();
    let rates = [
        ("/plain", "0", "1048576"),
        ("/told", "5000", "5000"),
        ("/ignored/told", "0", "1048576"),
        ("/unbuffered", "0", "0"),
    ];
    for (target, rate, _) in rates {
        let response = weir.get(target);
        assert_eq!(response.field("x-rate"), Some(rate), "{target}");
        assert_eq!(response.field("x-port"), Some("back|80|"));
        assert!(!response.head.contains("X-Accel"), "{}", response.head);
    }
    let response = weir.get("/unix");
    assert_eq!(response.status, 502);
    assert_eq!(response.field("x-port"), Some("localhost||"));
    let log = weir.path("logs/rate.log");
    for (target, _, rate) in rates {
        let line = format!("{target} {rate}\n");
        wait_until(PATIENCE, &line, || read_lossy(&log).contains(&line));
    }
}

#[test]
fn a_chunk_that_is_too_much_is_told_as_nginx_does() {
    let backend = Backend::named("a");
    for buffering in ["on", "off"] {
        let weir = forwarding(
            &backend,
            &format!("client_max_body_size 10; proxy_request_buffering {buffering};"),
        )
        .start();
        let mut client = weir.connect();
        let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = "4\r\nabcd\r\n7\r\n12";
        client.send(format!("{head}{chunks}").as_bytes()).unwrap();
        assert_eq!(client.response("PUT").unwrap().status, 413);
        let said = "client intended to send too large chunked body: 4+7 bytes, client: ";
        weir.wait_log(said);
    }
}
