//! What a running process cannot take over replaces it, and nothing is lost.

use std::fs;

use crate::support::backend::{Backend, Then};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::load::Load;
use crate::support::process::{alive, owner};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, wait_until};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

/// How many files a process may open.
pub fn files_limit(pid: u32) -> Option<u32> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn is_served(weir: &Weir, generation: &str) -> bool {
    (0..12).all(|_| weir.get("/x").text() == generation)
}

/// A server that answers in two halves, the second when it is told.
fn halting(senders: &'static Mutex<Vec<Sender<()>>>) -> Backend {
    Backend::answering(move |_, out| {
        let (sender, told) = channel();
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-");
        senders.lock().unwrap().push(sender);
        let _ = told.recv_timeout(PATIENCE);
        let _ = out.write_all(b"whole");
        Then::Keep
    })
}

#[test]
fn another_limit_replaces_workers_under_load() {
    static SENDERS: Mutex<Vec<Sender<()>>> = Mutex::new(Vec::new());
    let backend = halting(&SENDERS);
    let config = |number: u32| {
        format!(
            "worker_rlimit_nofile {};\n{}",
            4096 + number,
            in_http(&in_server(&format!(
                "location /x {{ add_header X-Pid $pid; return 200 {number}; }}
                 location /slow {{ proxy_pass http://{}; }}",
                backend.address()
            )))
        )
    };
    let mut weir = Setup::whole(&config(0)).start();
    let mut before = weir.workers();
    let master = weir.pid();
    let load = Load::start(&weir.address(), "/x", 4);
    let mut download = weir.connect();
    download
        .send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "a download is under way", || {
        !SENDERS.lock().unwrap().is_empty()
    });
    for number in 1..=2 {
        weir.rewrite(&config(number));
        weir.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "all new connections come to new workers", || {
            is_served(&weir, &number.to_string())
                && weir
                    .workers()
                    .iter()
                    .filter(|pid| !before.contains(pid))
                    .count()
                    == 2
        });
        load.progress();
        let now = weir.workers();
        wait_until(
            PATIENCE,
            "all but the download's have the new limit",
            || {
                let mut new = now.iter().filter(|pid| !before.contains(pid));
                let is_new = |pid: u32| files_limit(pid) == Some(4096 + number);
                new.all(|pid| is_new(*pid)) && is_new(weir.syncer())
            },
        );
        before = now;
    }
    // The old worker of the download is still there, and that alone.
    wait_until(PATIENCE, "one old worker is left", || {
        weir.workers().len() == 3
    });
    SENDERS.lock().unwrap().clear();
    let response = download.response("GET").unwrap();
    assert_eq!(response.text(), "half-whole");
    drop(download);
    wait_until(PATIENCE, "the old worker ends with it", || {
        weir.workers().len() == 2
    });
    let outcome = load.stop();
    assert!(outcome.answered > 0);
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
    assert_eq!(weir.pid(), master);
}

#[test]
fn another_user_replaces_workers_and_syncer() {
    let config = |user: &str| {
        let text = in_http(&in_server("location /x { return 200 x; }"));
        format!("user {user};\n{text}")
    };
    if !nix::unistd::geteuid().is_root() {
        // Nobody but root can change users: then nothing is replaced.
        let mut weir = Setup::whole(&config("nobody nogroup")).start();
        let before = weir.workers();
        weir.rewrite(&config("daemon"));
        weir.reload();
        assert_eq!(weir.workers(), before);
        return;
    }
    let uid = |name: &str| nix::unistd::User::from_name(name).unwrap().unwrap().uid;
    let mut weir = Setup::whole(&config("nobody nogroup")).start();
    let before = [weir.workers(), vec![weir.syncer()]].concat();
    weir.rewrite(&config("daemon"));
    weir.signal(Signal::SIGHUP);
    weir.wait_log("\"user\" has changed, which a running process cannot take over");
    wait_until(PATIENCE, "the old ones are gone", || {
        !before.iter().any(|pid| alive(*pid)) && weir.workers().len() == 2
    });
    wait_until(PATIENCE, "the new ones are another user's", || {
        let all = [weir.workers(), vec![weir.syncer()]].concat();
        all.iter()
            .all(|pid| owner(*pid) == Some(uid("daemon").as_raw()))
    });
    assert_eq!(weir.get("/x").text(), "x");
    assert_eq!(weir.weirctl(&["verify"]).code, Some(0));
}

/// Table, pins, history and counters go on in the new region.
#[test]
fn a_region_of_another_size_takes_over_what_is_known() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let [first, second] = ["a", "b"].map(Backend::named);
    consul.put(&format!("{folder}/{}", first.address()), ENTRY);
    let text = in_http(&format!(
        "upstream test {{ upsync {}/v1/kv/{folder} upsync_type=consul; }}\n{}",
        consul.address(),
        in_server(
            "location / { add_header X-Pid $pid; proxy_pass http://test; }
             location = /upstream_show { add_header X-Pid $pid; upstream_show; }"
        )
    ));
    let mut weir = Setup::whole(&text).start();
    wait_until(PATIENCE, "it serves", || weir.get("/").status == 200);
    for _ in 0..25 {
        assert_eq!(weir.get("/").status, 200);
    }
    assert_eq!(weir.weirctl(&["pin", "test"]).code, Some(0));
    consul.put(&format!("{folder}/{}", second.address()), ENTRY);
    let requests = |weir: &Weir| {
        let counters = weir.weirctl_json(&["counters"]);
        let rows = counters["servers"].as_array().unwrap().clone();
        let row = rows
            .into_iter()
            .find(|row| row["upstream"] == "test" && row["address"] == first.address());
        row.and_then(|row| row["requests"].as_u64())
    };
    wait_until(PATIENCE, "26 are counted", || requests(&weir) == Some(26));
    let old = weir.workers();
    let load = Load::start(&weir.address(), "/upstream_show", 3);
    weir.rewrite(&text.replace("upstreams=512", "upstreams=300 history=1m"));
    weir.signal(Signal::SIGHUP);
    weir.wait_log("\"region\" has changed, which a running process cannot take over");
    wait_until(PATIENCE, "the old ones are gone", || {
        !old.iter().any(|pid| alive(*pid)) && weir.workers().len() == 2
    });
    load.progress();
    let outcome = load.stop();
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
    assert_eq!(requests(&weir), Some(26));
    let header = "Upstream name: test; Backend server count: ";
    assert!(
        weir.shown("test").starts_with(&format!("{header}1\n")),
        "still pinned"
    );
    let history = weir.weirctl(&["history"]).stdout;
    assert!(history.contains("(learned)"), "{history}");
    assert_eq!(weir.weirctl(&["unpin", "test"]).code, Some(0));
    wait_until(PATIENCE, "Consul is followed again", || {
        weir.shown("test").starts_with(&format!("{header}2\n"))
    });
    assert_eq!(weir.weirctl(&["verify"]).code, Some(0));
}

/// Workers that are to be replaced for another region are still there when the next reload begins. The
/// table that they follow has nothing of what it adds, and they serve their clients for a while.
#[test]
fn a_reload_does_not_reach_workers_of_the_region_before() {
    let backend = Backend::named("spare");
    // Never answer, which makes reloads last.
    let mute = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let slow = |number: usize| {
        let address = mute[number].local_addr().unwrap();
        format!(
            "upstream mute{number} {{ server 127.0.0.1:1; upsync {address}/v1/kv/x \
             upsync_type=consul; }}\n"
        )
    };
    let text = |more: &str, location: &str| {
        let location = format!("location = /x {{ add_header X-Pid $pid; {location} }}");
        in_http(&format!(
            "upsync_start_timeout 500ms; keepalive_min_timeout 5s;\n{more}{}",
            in_server(&location)
        ))
    };
    // The first successor that is ready wakes the master for the next reload, and others are not.
    let mut weir = Setup::whole(&text("", "return 200;")).workers(12).start();
    let load = Load::start(&weir.address(), "/x", 36);
    let another = |text: String| text.replacen("upstreams=512", "upstreams=300", 1);
    weir.rewrite(&another(text(&slow(0), "return 200;")));
    weir.signal(Signal::SIGHUP);
    // It has read the configuration.
    let _asked = mute[0].accept().unwrap();
    let spare = format!("upstream spare {{ server {}; }}\n", backend.address());
    let last = text(&(slow(0) + &slow(1) + &spare), "proxy_pass http://spare;");
    weir.rewrite(&another(last));
    weir.signal(Signal::SIGHUP);
    weir.wait_log("config generation 3 live");
    load.progress();
    let outcome = load.stop();
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
    assert_eq!(weir.get("/x").text(), "spare\n");
}

/// What a worker counts that has outlived two regions comes to the same servers in the third.
#[test]
fn a_worker_that_two_regions_have_replaced_counts_for_its_own_servers() {
    static SENDERS: Mutex<Vec<Sender<()>>> = Mutex::new(Vec::new());
    let held = halting(&SENDERS);
    let [first, second, other] = ["a", "b", "c"].map(Backend::named);
    let config = |more: &str, upstreams: u32| {
        let text = in_http(&format!(
            "{more} upstream test {{ server {}; server {}; }}\n{}",
            first.address(),
            second.address(),
            in_server(&format!(
                "location / {{ proxy_pass http://test; }}
                 location /slow {{ proxy_pass http://{}; }}",
                held.address()
            ))
        ));
        text.replace("upstreams=512", &format!("upstreams={upstreams}"))
    };
    // Servers in front of the others move these to other places in the second region alone.
    let more = format!(
        "upstream more {{ server {}; server 192.0.2.1; }}",
        other.address()
    );
    let mut weir = Setup::whole(&config("", 512)).workers(1).start();
    let oldest = weir.workers()[0];
    for _ in 0..10 {
        assert_eq!(weir.get("/").status, 200);
    }
    let mut download = weir.connect();
    download
        .send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "a download is under way", || {
        !SENDERS.lock().unwrap().is_empty()
    });
    let mut known = vec![oldest];
    for text in [config(&more, 300), config("", 200)] {
        weir.rewrite(&text);
        weir.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "the oldest and a new worker are left", || {
            let now = weir.workers();
            let is_new = |pid: &u32| !known.contains(pid);
            now.len() == 2 && now.contains(&oldest) && now.iter().any(is_new)
        });
        known.extend(weir.workers());
    }
    SENDERS.lock().unwrap().clear();
    assert_eq!(download.response("GET").unwrap().text(), "half-whole");
    drop(download);
    wait_until(PATIENCE, "the oldest ends", || !alive(oldest));
    let requests = |backend: &Backend| {
        let counters = weir.weirctl_json(&["counters"]);
        let rows = counters["servers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["address"] == backend.address());
        row.and_then(|row| row["requests"].as_u64())
    };
    let all = || [&first, &second, &held].map(requests);
    wait_until(PATIENCE, "each has its own", || {
        all() == [Some(5), Some(5), Some(1)]
    });
}
