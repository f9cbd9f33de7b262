//! Signals, the pid file, process titles, users.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Then, ok};
use crate::support::client::Client;
use crate::support::process::{alive, children, read_lossy, send, title};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_for, wait_until};

/// A server whose answers wait until the gate opens.
pub fn gated() -> (Backend, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let backend = Backend::answering(move |request, out| {
        while request.target == "/slow" && !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = out.write_all(&ok("finished"));
        Then::Keep
    });
    (backend, open)
}

pub fn proxied(backend: &Backend) -> Setup {
    Setup::server(&format!(
        "location / {{ proxy_pass http://{}; }}",
        backend.address()
    ))
}

/// A client whose `GET /slow` has reached the server.
pub fn in_flight(weir: &Weir, backend: &Backend) -> Client {
    let mut client = weir.connect();
    let before = backend.count();
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "the request is in flight", || {
        backend.count() > before
    });
    client
}

#[test]
fn term_and_int_end_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (backend, _gate) = gated();
        let mut weir = proxied(&backend).start();
        let mut client = in_flight(&weir, &backend);
        let all = children(weir.pid());
        weir.signal(signal);
        let status = weir.process().wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(
            client.response("GET").is_err(),
            "it did not wait for the request"
        );
        assert!(
            !weir.path("logs/weir.pid").exists(),
            "the pid file is removed"
        );
        wait_until(PATIENCE, "no child is left", || {
            !all.iter().any(|pid| alive(*pid))
        });
        assert!(Client::try_connect(weir.address()).is_err());
    }
}

#[test]
fn quit_finishes_what_is_in_flight() {
    let (backend, gate) = gated();
    let mut weir = proxied(&backend).start();
    let mut client = in_flight(&weir, &backend);
    let mut idle = weir.connect();
    assert_eq!(idle.get("/fast").unwrap().status, 200);
    let pid = weir.pid();
    weir.signal(Signal::SIGQUIT);
    assert!(idle.closed().unwrap(), "an idle connection is closed");
    wait_until(PATIENCE, "nobody listens any more", || {
        Client::try_connect(weir.address()).is_err()
    });
    assert!(alive(pid));
    let working: Vec<_> = children(pid)
        .into_iter()
        .filter(|pid| title(*pid).contains("worker process"))
        .collect();
    assert!(
        !working.is_empty(),
        "the worker with the request is still there"
    );
    gate.store(true, Ordering::Release);
    let response = client.response("GET").unwrap();
    assert_eq!(
        (response.text().as_str(), response.keeps()),
        ("finished", false)
    );
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    assert!(!weir.path("logs/weir.pid").exists());
}

#[test]
fn worker_shutdown_timeout_ends_a_quit() {
    let (backend, _gate) = gated();
    let text = in_http(&in_server(&format!(
        "location / {{ proxy_pass http://{}; }}",
        backend.address()
    )));
    let mut weir = Setup::whole(&format!("worker_shutdown_timeout 300ms;\n{text}")).start();
    let mut client = in_flight(&weir, &backend);
    weir.signal(Signal::SIGQUIT);
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    assert!(client.response("GET").is_err());
}

#[test]
fn usr1_reopens_the_logs() {
    let weir = Setup::server("").start();
    weir.connect().get("/before").unwrap();
    wait_until(PATIENCE, "it is logged", || {
        weir.access_log().contains("/before")
    });
    for name in ["access", "error"] {
        std::fs::rename(
            weir.path(&format!("logs/{name}.log")),
            weir.path(&format!("logs/{name}.old")),
        )
        .unwrap();
    }
    weir.signal(Signal::SIGUSR1);
    wait_until(PATIENCE, "new logs are there", || {
        weir.path("logs/access.log").exists() && weir.path("logs/error.log").exists()
    });
    wait_until(PATIENCE, "every worker writes to the new log", || {
        let old = read_lossy(&weir.path("logs/access.old")).len();
        for client in weir.each_worker(2).values_mut() {
            client.get("/after").unwrap();
        }
        weir.access_log().contains("/after")
            && read_lossy(&weir.path("logs/access.old")).len() == old
    });
    let old = read_lossy(&weir.path("logs/error.old"));
    assert!(
        !old.contains("[alert]") && !old.contains("panicked"),
        "{old}"
    );
}

#[test]
fn ttin_and_ttou_change_the_number_of_workers() {
    let weir = Setup::server("").workers(2).start();
    let before = weir.workers();
    weir.signal(Signal::SIGTTIN);
    wait_until(PATIENCE, "there are three", || weir.workers().len() == 3);
    assert!(before.iter().all(|pid| weir.workers().contains(pid)));
    assert_eq!(weir.each_worker(3).len(), 3);
    for left in [2, 1] {
        weir.signal(Signal::SIGTTOU);
        wait_until(PATIENCE, "there is one less", || {
            weir.workers().len() == left
        });
    }
    let last = weir.workers();
    for _ in 0..50 {
        assert_eq!(
            weir.get("/who").field("x-pid"),
            Some(last[0].to_string().as_str())
        );
    }
}

#[test]
fn a_retired_worker_loses_no_connection() {
    let weir = Setup::server("location /x { return 200 x; }")
        .workers(4)
        .start();
    let load = NewConnections::start(weir.address());
    for left in [3, 2, 1] {
        weir.signal(Signal::SIGTTOU);
        wait_until(PATIENCE, "there is one less", || {
            weir.workers().len() == left
        });
    }
    assert_eq!(load.stop(), Vec::<String>::new());
}

/// A connection for each request: those that wait in a retired worker's queue would be lost.
struct NewConnections {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl NewConnections {
    fn start(address: String) -> NewConnections {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                let asked = Client::try_connect(&address).and_then(|mut client| client.get("/x"));
                match asked {
                    Ok(response) if response.status == 200 => {}
                    Ok(response) => failures.push(response.head),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            failures
        });
        NewConnections { stop, thread }
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

#[test]
fn winch_retires_all_workers() {
    let (backend, gate) = gated();
    let mut weir = proxied(&backend).start();
    let mut client = in_flight(&weir, &backend);
    let workers = weir.workers();
    weir.signal(Signal::SIGWINCH);
    gate.store(true, Ordering::Release);
    assert_eq!(client.response("GET").unwrap().text(), "finished");
    wait_until(PATIENCE, "no worker is left", || {
        !workers.iter().any(|pid| alive(*pid))
    });
    assert!(alive(weir.pid()), "the master stays");
    assert!(weir.workers().is_empty());
    weir.stop();
}

#[test]
fn hup_after_winch_starts_workers_which_are_live_when_it_says_so() {
    let weir = Setup::server("").workers(3).start();
    weir.signal(Signal::SIGWINCH);
    wait_until(PATIENCE, "no worker is left", || weir.workers().is_empty());
    weir.signal(Signal::SIGHUP);
    weir.wait_log("config generation 2 live in 3 workers");
    assert_eq!(weir.each_worker(3).len(), 3);
}

#[test]
fn signals_that_wait_for_a_reload_keep_their_order() {
    let mut weir = Setup::server("").start();
    // Never answers, which makes the first reload last.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!(
        "upstream mute {{ server 127.0.0.1:1; upsync {}/v1/kv/x upsync_type=consul; }}\nserver {{",
        mute.local_addr().unwrap()
    );
    weir.rewrite(&weir.text().replacen("server {", &upstream, 1));
    for (signal, nth) in [
        (Signal::SIGHUP, 1),
        (Signal::SIGHUP, 2),
        (Signal::SIGWINCH, 1),
        (Signal::SIGHUP, 3),
    ] {
        weir.signal(signal);
        let received = format!("({}) received", signal.as_str());
        wait_until(PATIENCE, "the signal is taken", || {
            weir.error_log().matches(&received).count() == nth
        });
    }
    assert!(!weir.error_log().contains("reconfigured"), "it still waits");
    weir.wait_log("config generation 4 live in 2 workers");
    assert_eq!(weir.each_worker(2).len(), 2);
}

#[test]
fn a_worker_added_after_winch_serves_every_queue() {
    let weir = Setup::server("").workers(4).start();
    weir.signal(Signal::SIGWINCH);
    wait_until(PATIENCE, "no worker is left", || weir.workers().is_empty());
    let mut waiting: Vec<Client> = (0..40).map(|_| weir.connect()).collect();
    weir.signal(Signal::SIGTTIN);
    for client in &mut waiting {
        assert_eq!(client.get("/who").unwrap().status, 200);
    }
    weir.signal(Signal::SIGTTIN);
    wait_until(PATIENCE, "there are two", || weir.workers().len() == 2);
    assert_eq!(weir.each_worker(2).len(), 2);
}

#[test]
fn a_worker_that_finishes_its_last_request_logs_it_where_usr1_says() {
    let (backend, gate) = gated();
    let weir = proxied(&backend).start();
    let mut client = in_flight(&weir, &backend);
    weir.signal(Signal::SIGWINCH);
    wait_until(PATIENCE, "only the one in flight is left", || {
        weir.workers().len() == 1
    });
    let log = weir.path("logs/access.log");
    std::fs::rename(&log, weir.path("logs/access.old")).unwrap();
    weir.signal(Signal::SIGUSR1);
    wait_until(PATIENCE, "the new log is there", || log.exists());
    gate.store(true, Ordering::Release);
    assert_eq!(client.response("GET").unwrap().text(), "finished");
    wait_until(PATIENCE, "it has ended", || weir.workers().is_empty());
    assert!(weir.access_log().contains("/slow"), "{}", weir.access_log());
    assert_eq!(read_lossy(&weir.path("logs/access.old")), "");
}

#[test]
fn the_s_option_signals_the_master() {
    let mut weir = Setup::server("location = /x { return 200 old; }").start();
    std::fs::rename(weir.path("logs/access.log"), weir.path("logs/access.old")).unwrap();
    assert_eq!(weir.command(&["-s", "reopen"]).code, Some(0));
    wait_until(PATIENCE, "the log is reopened", || {
        weir.path("logs/access.log").exists()
    });
    let text = weir.text().replace("200 old", "200 new");
    weir.rewrite(&text);
    assert_eq!(weir.command(&["-s", "reload"]).code, Some(0));
    wait_until(PATIENCE, "it is reloaded", || {
        weir.get("/x").text() == "new"
    });
    assert_eq!(weir.command(&["-s", "quit"]).code, Some(0));
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    let late = weir.command(&["-s", "stop"]);
    assert_eq!(late.code, Some(1));
    assert!(
        late.stderr
            .contains("logs/weir.pid\" failed (2: No such file or directory)"),
        "{}",
        late.stderr
    );
    weir.start_again();
    assert_eq!(weir.command(&["-s", "stop"]).code, Some(0));
    assert_eq!(weir.process().wait(PATIENCE).code(), Some(0));
    let wrong = weir.command(&["-s", "wrong"]);
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains("invalid option: \"-s wrong\""),
        "{wrong:?}"
    );
}

#[test]
fn what_is_asked_during_the_start_is_done_after_it() {
    // A Consul that never answers holds the start up; nothing happens after it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::whole(&in_http(&format!(
        "upstream test {{ upsync {}/v1/kv/test upsync_type=consul; server 127.0.0.1:9; }}\n{}",
        silent.local_addr().unwrap(),
        in_server("location / { return 204; }")
    )));
    let log = setup.dir().join("logs/error.log");
    // The master would end with the thread that starts it.
    let weir = std::thread::scope(|scope| {
        scope.spawn(|| {
            let master = wait_for(PATIENCE, "the start is under way", || {
                let log = read_lossy(&log);
                let (before, _) = log.split_once("#0: start syncer process")?;
                before.rsplit(' ').next()?.parse().ok()
            });
            send(master, Signal::SIGHUP);
        });
        setup.start()
    });
    weir.wait_log("config generation 2 live");
}
