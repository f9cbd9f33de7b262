//! HUP: new settings in the running workers, in two phases.

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::client::{Client, get};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::load::Load;
use crate::support::process::alive;
use crate::support::weir::{Setup, WHO, Weir, in_http};
use crate::support::{PATIENCE, wait_until};

/// A configuration with a server on `port`, and what more there is.
fn server(port: &str, locations: &str) -> String {
    format!("server {{ listen 127.0.0.1:@{port}@; {WHO} {locations} }}\n")
}

#[test]
fn routes_change_under_load_and_no_process_is_replaced() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let config = |backend: &Backend, answer: &str| {
        in_http(&format!(
            "upstream back {{ server {}; }}\n{}",
            backend.address(),
            server(
                "PORT",
                &format!(
                    "location / {{ proxy_pass http://back; }} location = /x {{ return 200 {answer}; }}"
                )
            )
        ))
    };
    let mut weir = Setup::whole(&config(&a, "0")).start();
    let (workers, syncer) = (weir.workers(), weir.syncer());
    let mut held = weir.each_worker(2);
    let load = Load::start(&weir.address(), "/", 4);
    for round in 1..=6 {
        let backend = if round % 2 == 0 { &a } else { &b };
        weir.rewrite(&config(backend, &round.to_string()));
        weir.reload();
        for client in held.values_mut() {
            assert_eq!(
                client.get("/x").unwrap().text(),
                round.to_string(),
                "on an old connection too"
            );
        }
        let before = backend.count();
        load.progress();
        assert!(backend.count() > before, "the load goes to the new server");
    }
    let outcome = load.stop();
    assert!(
        outcome.failures.is_empty() && outcome.answered > 0,
        "{:?}",
        outcome.failures
    );
    assert_eq!((weir.workers(), weir.syncer()), (workers, syncer));
    for (pid, client) in &mut held {
        assert_eq!(crate::support::weir::who(client), *pid);
    }
}

#[test]
fn listeners_come_and_go_under_load() {
    let first = in_http(&server("PORT", "location = /x { return 200 x; }"));
    let both = in_http(&format!(
        "{}{}server {{ listen unix:@DIR@/new.sock; return 200 unix; }}",
        server("PORT", "location = /x { return 200 x; }"),
        server("PORT2", "return 200 second;")
    ));
    let mut weir = Setup::whole(&first).start();
    let workers = weir.workers();
    let load = Load::start(&weir.address(), "/x", 3);
    for _ in 0..3 {
        weir.rewrite(&both);
        weir.reload();
        let second = format!("127.0.0.1:{}", weir.port("PORT2"));
        for _ in 0..20 {
            assert_eq!(get(&second, "/").text(), "second");
        }
        assert_eq!(
            Client::connect_unix(&weir.path("new.sock"))
                .get("/")
                .unwrap()
                .text(),
            "unix"
        );
        weir.rewrite(&first);
        weir.reload();
        wait_until(PATIENCE, "the second is gone", || {
            Client::try_connect(&second).is_err()
        });
        assert!(
            !weir.path("new.sock").exists(),
            "the unix socket's file goes with it"
        );
        load.progress();
    }
    // The first port may also be given up for another one.
    let outcome = load.stop();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    weir.rewrite(&in_http(&server(
        "PORT3",
        "location = /x { return 200 x; }",
    )));
    weir.reload();
    let moved = format!("127.0.0.1:{}", weir.port("PORT3"));
    wait_until(PATIENCE, "the first port is free", || {
        Client::try_connect(weir.address()).is_err()
    });
    assert_eq!(get(moved, "/x").text(), "x");
    assert_eq!(weir.workers(), workers);
}

#[test]
fn a_bad_configuration_is_refused_and_the_old_one_stays() {
    let good = in_http(&server("PORT", "location = /x { return 200 good; }"));
    let mut weir = Setup::whole(&good).allow("[emerg]").start();
    let workers = weir.workers();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap();
    let file = weir.path("conf/weir.conf").display().to_string();
    let cases = [
        (
            good.replace("return 200 good;", "retrun 200 bad;"),
            format!("unknown directive \"retrun\" in {file}:"),
        ),
        (
            good.replace("return 200 good;", "return 200 \"bad;"),
            format!("in {file}:"),
        ),
        (
            format!("{good}\nlisten 80;"),
            "\"listen\" directive is not allowed here".to_owned(),
        ),
        (
            good.replace("server {", &format!("server {{ listen {taken_port};")),
            format!("bind() to {taken_port} failed (98: Address already in use)"),
        ),
        (
            good.replace(
                "return 200 good;",
                "proxy_pass http://no-such-host.invalid;",
            ),
            "host not found in upstream \"no-such-host.invalid".to_owned(),
        ),
        (
            good.replace("logs/access.log", "no-such-folder/access.log"),
            "no-such-folder/access.log\" failed (2: No such file or directory)".to_owned(),
        ),
    ];
    for (text, message) in cases {
        weir.rewrite(&text);
        weir.signal(Signal::SIGHUP);
        weir.wait_log(&message);
        assert_eq!(weir.get("/x").text(), "good");
        assert!(
            weir.generations()
                .iter()
                .all(|generation| *generation == weir.generations()[0])
        );
    }
    weir.rewrite(&good.replace("200 good", "200 better"));
    weir.reload();
    assert_eq!(
        weir.get("/x").text(),
        "better",
        "a good one is taken after that"
    );
    assert_eq!(weir.workers(), workers);
}

#[test]
fn an_upstream_that_stays_keeps_its_table_and_counters() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("a");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let config = |more: &str| {
        in_http(&format!(
            "upstream test {{ server 127.0.0.1:1; upsync {}/v1/kv/{folder} upsync_type=consul; }}\n{more}{}",
            consul.address(),
            server(
                "PORT",
                "location / { proxy_pass http://test; } location = /upstream_show { upstream_show; }"
            )
        ))
    };
    let mut weir = Setup::whole(&config("")).start();
    let line = format!(
        "        server {} weight=1 max_fails=2 fail_timeout=10s;",
        backend.address()
    );
    let shown = format!("Upstream name: test; Backend server count: 1\n{line}");
    weir.wait_shown("test", &shown);
    for _ in 0..25 {
        assert_eq!(weir.get("/").status, 200);
    }
    let requests = |weir: &Weir| {
        let counters = weir.weirctl_json(&["counters"]);
        let rows = counters["servers"].as_array().unwrap().clone();
        let row = rows
            .iter()
            .find(|row| row["upstream"] == "test" && row["address"] == backend.address());
        row.unwrap_or_else(|| panic!("{counters}"))["requests"].as_u64()
    };
    wait_until(PATIENCE, "25 requests are counted", || {
        requests(&weir) == Some(25)
    });
    // Consul cannot be asked during the reload, so only what was kept can be shown.
    weir.rewrite(&config("upstream more { server 127.0.0.1:2; }\n"));
    weir.reload();
    assert_eq!(weir.shown("test").trim_end(), shown);
    assert_eq!(
        weir.shown("more").lines().next(),
        Some("Upstream name: more; Backend server count: 1")
    );
    assert_eq!(requests(&weir), Some(25));
    weir.rewrite(&config(""));
    weir.reload();
    assert!(
        weir.shown("more")
            .starts_with("The upstream you requested does not exist.")
    );
    assert_eq!(weir.shown("test").trim_end(), shown);
    // The watch goes on after a reload.
    let second = Backend::named("b");
    consul.put(&format!("{folder}/{}", second.address()), ENTRY);
    let newer = format!(
        "        server {} weight=1 max_fails=2 fail_timeout=10s;",
        second.address()
    );
    weir.wait_shown(
        "test",
        &format!("Upstream name: test; Backend server count: 2\n{newer}\n{line}"),
    );
}

#[test]
fn a_new_upsync_upstream_is_filled_before_it_is_in_force() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("from-consul");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let plain = in_http(&server("PORT", "location / { return 200 none; }"));
    let mut weir = Setup::whole(&plain).start();
    weir.rewrite(&in_http(&format!(
        "upstream test {{ upsync {}/v1/kv/{folder} upsync_type=consul; }}\n{}",
        consul.address(),
        server("PORT", "location / { proxy_pass http://test; }")
    )));
    let mut held = weir.each_worker(2);
    weir.signal(Signal::SIGHUP);
    for client in held.values_mut() {
        wait_until(PATIENCE, "it is forwarded", || {
            let response = client.get("/").unwrap();
            assert_eq!(response.status, 200, "never an upstream without servers");
            response.text() == "from-consul\n"
        });
    }
    assert!(weir.workers().iter().all(|pid| alive(*pid)));
}

#[test]
fn the_number_of_workers_changes_in_place() {
    let text = in_http(&server(
        "PORT",
        "location = /x { add_header X-Pid $pid; return 200 x; }",
    ));
    let mut weir = Setup::whole(&text).start();
    let before = weir.workers();
    let load = Load::start(&weir.address(), "/x", 3);
    for number in [4, 2] {
        let more = format!("worker_processes {number};");
        weir.rewrite(&text.replace("worker_processes @WORKERS@;", &more));
        weir.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "there are as many as configured", || {
            weir.workers().len() == number
        });
        load.progress();
    }
    assert_eq!(weir.workers(), before, "the first ones stay");
    let outcome = load.stop();
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
}

#[test]
fn what_needs_a_restart_says_so() {
    let text = in_http(&server("PORT", "location = /x { return 200 old; }"));
    let mut weir = Setup::whole(&text).start();
    weir.rewrite(
        &text
            .replace("200 old", "200 new")
            .replace("weir.pid", "other.pid"),
    );
    weir.signal(Signal::SIGHUP);
    wait_until(PATIENCE, "the rest is in force", || {
        weir.get("/x").text() == "new"
    });
    weir.wait_log("\"pid\" cannot change without a restart, the old value stays in force");
    assert!(!weir.path("logs/other.pid").exists());
}
