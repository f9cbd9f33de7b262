//! Names that are resolved while weir runs: `server … resolve`, and names in variables.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Then, ok};
use crate::support::dns::{Dns, Say, Wrong, ips};
use crate::support::process::send;
use crate::support::weir::{Setup, Weir, in_server};
use crate::support::{PATIENCE, holds_for, wait_until};

/// Backends at these addresses of one port, each named by its address, and that port.
fn backends(addresses: &[&str]) -> (Vec<Backend>, u16) {
    'port: for _ in 0..100 {
        let port = crate::support::free_port();
        // Another process may take the port at one of them meanwhile.
        for address in addresses {
            if TcpListener::bind((*address, port)).is_err() {
                continue 'port;
            }
        }
        let backends = addresses.iter().map(|address| {
            let name = ok(&format!("{address}\n"));
            Backend::answering_at(&format!("{address}:{port}"), move |_, out| {
                let _ = out.write_all(&name);
                Then::Keep
            })
        });
        return (backends.collect(), port);
    }
    panic!("no port is free at all of {addresses:?}");
}

/// An upstream whose only server is `back.test`.
fn upstream(dns: &Dns, port: u16, resolver: &str) -> Setup {
    Setup::http(&format!(
        "upstream back {{ zone back 64k; server back.test:{port} resolve; \
         resolver {} ipv6=off {resolver}; resolver_timeout 1s; }}\n{}",
        dns.address(),
        in_server(
            "location / { proxy_pass http://back; } location = /upstream_show { upstream_show; }"
        )
    ))
}

/// Who answers a few requests.
fn who_answers(weir: &Weir) -> BTreeSet<String> {
    let mut client = weir.connect();
    let answers = (0..6).map(|_| {
        let response = client.get("/").unwrap();
        match response.status {
            200 => response.text().trim().to_owned(),
            status => status.to_string(),
        }
    });
    answers.collect()
}

#[track_caller]
fn wait_answers(weir: &Weir, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
    wait_until(PATIENCE, &format!("{expected:?} answer"), || {
        who_answers(weir) == expected
    });
}

#[test]
fn a_server_that_resolves_follows_its_name_without_a_reload() {
    let (_backends, port) = backends(&["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    let dns = Dns::start();
    dns.is("back.test", &["127.0.0.2"], 1);
    let weir = upstream(&dns, port, "").start();
    let workers = weir.workers();
    // The start waited for the first answer.
    assert_eq!(who_answers(&weir), BTreeSet::from(["127.0.0.2".to_owned()]));
    dns.is("back.test", &["127.0.0.3", "127.0.0.4"], 1);
    wait_answers(&weir, &["127.0.0.3", "127.0.0.4"]);
    // Each worker has it.
    for client in weir.each_worker(2).values_mut() {
        let answer = client.get("/").unwrap().text();
        assert_ne!(answer.trim(), "127.0.0.2");
    }
    dns.is("back.test", &["127.0.0.4"], 1);
    wait_answers(&weir, &["127.0.0.4"]);
    assert_eq!(weir.workers(), workers);
    assert_eq!(weir.generations(), [1, 1]);
    // Another order of the same addresses is no other table.
    dns.is("back.test", &["127.0.0.2", "127.0.0.3"], 1);
    wait_answers(&weir, &["127.0.0.2", "127.0.0.3"]);
    let shown = weir.shown("back");
    let version = || weir.error_log().matches("table version").count();
    let before = version();
    dns.is("back.test", &["127.0.0.3", "127.0.0.2"], 1);
    let asked = dns.asked("back.test").len();
    wait_until(PATIENCE, "it is asked again", || {
        dns.asked("back.test").len() >= asked + 2
    });
    assert_eq!((weir.shown("back"), version()), (shown, before));
}

#[test]
fn a_resolver_that_fails_takes_no_address_away_and_an_unknown_name_does() {
    let (_backends, port) = backends(&["127.0.0.2"]);
    let dns = Dns::start();
    dns.is("back.test", &["127.0.0.2"], 60);
    let weir = upstream(&dns, port, "valid=1s").start();
    let only = BTreeSet::from(["127.0.0.2".to_owned()]);
    assert_eq!(who_answers(&weir), only);
    dns.set("back.test", Say::Fail);
    weir.wait_log("[error]");
    weir.wait_log("back.test could not be resolved (2: Server failure)");
    assert_eq!(who_answers(&weir), only);
    dns.set("back.test", Say::Silence);
    weir.wait_log("back.test could not be resolved (110: Operation timed out)");
    assert_eq!(who_answers(&weir), only);
    dns.set("back.test", Say::Unknown);
    weir.wait_log("back.test could not be resolved (3: Host not found)");
    wait_answers(&weir, &["502"]);
    weir.wait_log("no live upstreams while connecting to upstream");
    dns.is("back.test", &["127.0.0.2"], 60);
    wait_answers(&weir, &["127.0.0.2"]);
}

#[test]
fn a_start_does_not_wait_for_a_silent_resolver_for_ever() {
    let (_backends, port) = backends(&["127.0.0.2"]);
    let dns = Dns::start();
    dns.set("back.test", Say::Silence);
    let weir = upstream(&dns, port, "valid=1s").start();
    assert_eq!(who_answers(&weir), BTreeSet::from(["502".to_owned()]));
    dns.is("back.test", &["127.0.0.2"], 60);
    wait_answers(&weir, &["127.0.0.2"]);
}

#[test]
fn a_new_syncer_and_a_reload_keep_the_addresses() {
    let (_backends, port) = backends(&["127.0.0.2"]);
    let dns = Dns::start();
    dns.is("back.test", &["127.0.0.2"], 1);
    let mut weir = upstream(&dns, port, "").allow("exited on signal 9").start();
    let only = BTreeSet::from(["127.0.0.2".to_owned()]);
    dns.set("back.test", Say::Silence);
    let old = weir.syncer();
    send(old, Signal::SIGKILL);
    wait_until(PATIENCE, "another syncer asks", || {
        weir.syncer() != old && weir.error_log().contains("110: Operation timed out")
    });
    holds_for(Duration::from_millis(300), "it serves", || {
        who_answers(&weir) == only
    });
    // Another resolver directive, which does not know the name yet.
    let text = weir.text().replace("ipv6=off", "ipv6=off valid=5s");
    weir.rewrite(&text);
    weir.reload();
    assert_eq!(who_answers(&weir), only);
    // A configuration without the name has nobody ask for it.
    let text = weir.text().replace("server back.test", "server 127.0.0.2");
    weir.rewrite(&text);
    weir.reload();
    assert_eq!(who_answers(&weir), only);
    let asked = dns.asked("back.test").len();
    holds_for(Duration::from_millis(1500), "nobody asks", || {
        dns.asked("back.test").len() == asked
    });
}

#[test]
fn an_answer_that_was_cut_off_comes_over_tcp_with_aliases_followed() {
    let (_backends, port) = backends(&["127.0.0.2", "127.0.0.3"]);
    let dns = Dns::start();
    let all = Say::AliasOf(
        "there.test".to_owned(),
        ips(&["127.0.0.2", "127.0.0.3"]),
        60,
    );
    dns.set("here.test", Say::Cut(Box::new(all)));
    dns.set("back.test", Say::Alias("here.test".to_owned(), 60));
    let weir = upstream(&dns, port, "").start();
    assert_eq!(who_answers(&weir).len(), 2);
    let asked = dns.asked("here.test");
    assert!(asked.iter().any(|asked| asked.tcp) && asked.iter().all(|asked| !asked.ipv6));
    assert!(dns.asked("there.test").is_empty());
}

#[test]
fn what_is_no_answer_is_told_and_not_taken() {
    // The wrong address has a server, so that it would be seen.
    let (backends, port) = backends(&["127.0.0.2", "127.0.0.3"]);
    let bad = ips(&["127.0.0.3"])[0];
    let wrongs = vec![
        Wrong::Id(bad),
        Wrong::Question(bad),
        Wrong::Source(bad),
        Wrong::Garbage,
        Wrong::Loop,
    ];
    let good = Say::Is(ips(&["127.0.0.2"]), 1);
    let dns = Dns::start();
    dns.set("back.test", Say::After(wrongs, Box::new(good)));
    let weir = upstream(&dns, port, "").start();
    wait_until(PATIENCE, "it is asked again", || {
        dns.asked("back.test").len() >= 3
    });
    assert_eq!(who_answers(&weir), BTreeSet::from(["127.0.0.2".to_owned()]));
    assert_eq!(backends[1].connections(), 0);
    let log = weir.error_log();
    for told in [
        "in DNS response for back.test, expect ",
        "unexpected DNS response for zack.test",
        "invalid DNS response",
    ] {
        assert!(log.contains(told), "{told}\n{log}");
    }
    // Each question has a number and a port of its own.
    let asked = dns.asked("back.test");
    let ids: BTreeSet<u16> = asked.iter().map(|asked| asked.id).collect();
    let ports: BTreeSet<u16> = asked.iter().map(|asked| asked.port).collect();
    assert!(ids.len() > 1 && ports.len() > 1, "{asked:?}");
}
