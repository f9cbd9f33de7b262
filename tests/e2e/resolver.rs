//! Names that are resolved while weir runs: `server … resolve`, and names in variables.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

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

/// A location whose `proxy_pass` goes where `?to=` says.
fn anywhere(lines: &str) -> Setup {
    Setup::server(&format!(
        "location / {{ {lines} proxy_pass http://$arg_to; }}\nlocation = /plain {{ return 200 plain; }}"
    ))
    .workers(1)
}

fn resolver(dns: &Dns) -> String {
    format!("resolver {} ipv6=off;", dns.address())
}

#[test]
fn a_name_in_a_variable_is_resolved_and_followed() {
    let (_backends, port) = backends(&["127.0.0.2", "127.0.0.3"]);
    let dns = Dns::start();
    dns.is("back.test", &["127.0.0.2"], 1);
    let weir = anywhere(&resolver(&dns)).start();
    let target = format!("/?to=back.test:{port}");
    let get = || weir.get(&target).text().trim().to_owned();
    assert_eq!(get(), "127.0.0.2");
    for _ in 0..5 {
        get();
    }
    let asked = dns.asked("back.test").len();
    assert!(asked <= 2, "it is cached: {asked}");
    // After the TTL, and not before it is asked for.
    dns.is("back.test", &["127.0.0.3"], 60);
    wait_until(PATIENCE, "it has moved", || get() == "127.0.0.3");
    // Names are the same in any case, and each port is a server of its own.
    let upper = weir.get(&format!("/?to=BACK.test.:{port}"));
    assert_eq!(upper.text().trim(), "127.0.0.3");
    let refused = weir.get(&format!("/?to=back.test:{}", crate::support::free_port()));
    assert_eq!(refused.status, 502);
    assert_eq!(dns.asked("back.test").len(), asked + 1);
}

#[test]
fn several_addresses_take_turns_and_stand_in_for_each_other() {
    let (mut backends, port) = backends(&["127.0.0.2", "127.0.0.3", "::1"]);
    let dns = Dns::start();
    let all = ips(&["127.0.0.2", "127.0.0.3", "::1"]);
    dns.set("back.test", Say::AliasOf("real.test".to_owned(), all, 60));
    let both = format!("resolver {};", dns.address());
    let weir = anywhere(&format!("add_header X-Addr $upstream_addr; {both}")).start();
    let target = format!("/?to=back.test:{port}");
    let answers = (0..6).map(|_| weir.get(&target).text().trim().to_owned());
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers[..3], ["127.0.0.2", "127.0.0.3", "::1"]);
    assert_eq!(answers[..3], answers[3..]);
    drop(backends.remove(0));
    let response = weir.get(&target);
    let tried = format!("127.0.0.2:{port}, 127.0.0.3:{port}");
    assert_eq!(response.field("x-addr"), Some(tried.as_str()));
    assert_eq!(response.text().trim(), "127.0.0.3");
}

#[test]
fn failures_are_nginxs_words_and_502() {
    let dns = Dns::start();
    dns.set("fails.test", Say::Fail);
    dns.is("empty.test", &["::1"], 60);
    let weir = anywhere(&resolver(&dns)).start();
    for (name, told) in [
        (
            "unknown.test",
            "unknown.test could not be resolved (3: Host not found)",
        ),
        (
            "fails.test",
            "fails.test could not be resolved (2: Server failure)",
        ),
        (
            "empty.test",
            "empty.test could not be resolved (3: Host not found)",
        ),
        (
            "a..test",
            "a..test could not be resolved (3: Host not found)",
        ),
    ] {
        assert_eq!(weir.get(&format!("/?to={name}")).status, 502);
        weir.wait_log(told);
    }
    // What failed is not kept.
    let before = dns.asked("unknown.test").len();
    weir.get("/?to=unknown.test");
    assert_eq!(dns.asked("unknown.test").len(), before + 1);
    for (to, reason) in [
        ("", "invalid URL prefix in \"http://\""),
        (":81", "no host in upstream \":81\""),
        ("a:b", "invalid port in upstream \"a:b\""),
        ("[::z]", "invalid IPv6 address in upstream \"[::z]\""),
    ] {
        assert_eq!(weir.get(&format!("/?to={to}")).status, 500, "{to}");
        weir.wait_log(reason);
    }
    let none = anywhere("").start();
    assert_eq!(none.get("/?to=back.test:81").status, 502);
    none.wait_log("no resolver defined to resolve back.test");
}

#[test]
fn addresses_and_upstreams_need_no_resolver() {
    let (backends, port) = backends(&["127.0.0.2", "::1"]);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let _unix = Backend::answering_unix(&socket, |request, out| {
        let _ = out.write_all(&ok(&request.target));
        Then::Keep
    });
    let weir = Setup::http(&format!(
        "upstream back {{ server 127.0.0.2:{port}; }}\n{}",
        in_server(
            "location / { proxy_pass http://$arg_to; } \
             location /at { add_header X-Host $proxy_host; proxy_pass http://$arg_to/x?y; } \
             location /unix { proxy_pass http://unix:$arg_to:/u; }"
        )
    ))
    .start();
    let get = |target: &str| weir.get(target).text().trim().to_owned();
    assert_eq!(get("/?to=back"), "127.0.0.2");
    assert_eq!(get("/?to=BACK"), "127.0.0.2");
    assert_eq!(get(&format!("/?to=127.0.0.2:{port}")), "127.0.0.2");
    assert_eq!(get(&format!("/?to=[::1]:{port}")), "::1");
    let at = weir.get(&format!("/at?to=127.0.0.2:{port}"));
    assert_eq!(
        at.field("x-host"),
        Some(format!("127.0.0.2:{port}").as_str())
    );
    let last = backends[0].requests().pop().unwrap();
    assert_eq!(last.target, "/x?y");
    assert_eq!(
        last.field("host"),
        Some(format!("127.0.0.2:{port}").as_str())
    );
    assert_eq!(get(&format!("/unix?to={}", socket.display())), "/u");
}

#[test]
fn a_silent_resolver_holds_nobody_else_up_and_ends_in_time() {
    let dns = Dns::start();
    dns.set("back.test", Say::Silence);
    let weir = anywhere(&format!("{} resolver_timeout 700ms;", resolver(&dns))).start();
    let mut waiting = weir.connect();
    let began = Instant::now();
    waiting
        .send(b"GET /?to=back.test HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "it is asked", || {
        !dns.asked("back.test").is_empty()
    });
    for _ in 0..20 {
        assert_eq!(weir.get("/plain").text(), "plain");
    }
    let response = waiting.response("GET").unwrap();
    assert_eq!(response.status, 502);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(700) && took < PATIENCE,
        "{took:?}"
    );
    weir.wait_log("back.test could not be resolved (110: Operation timed out)");
    // The connection goes on.
    assert_eq!(waiting.get("/plain").unwrap().text(), "plain");
}

#[test]
fn the_next_server_is_asked_and_all_who_wait_share_the_question() {
    let (_backends, port) = backends(&["127.0.0.2"]);
    let [silent, good] = [Dns::start(), Dns::start()];
    silent.set("back.test", Say::Silence);
    good.is("back.test", &["127.0.0.2"], 60);
    let both = format!("resolver {} {} ipv6=off;", silent.address(), good.address());
    let mut weir = anywhere(&both).start();
    let mut clients: Vec<_> = (0..10).map(|_| weir.connect()).collect();
    for client in &mut clients {
        let request = format!("GET /?to=back.test:{port} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
    }
    wait_until(PATIENCE, "it is asked", || {
        !silent.asked("back.test").is_empty()
    });
    // Who goes is not waited for, and another configuration changes nothing for who stays.
    drop(clients.pop());
    wait_until(PATIENCE, "it is noticed", || {
        weir.access_log().contains(" 499 ")
    });
    let text = weir.text().replace("return 200 plain", "return 200 other");
    weir.rewrite(&text);
    weir.reload();
    for client in &mut clients {
        assert_eq!(client.response("GET").unwrap().text().trim(), "127.0.0.2");
    }
    assert_eq!(silent.asked("back.test").len(), 1);
    assert_eq!(good.asked("back.test").len(), 1);
    // A worker that is to end waits for the names that its requests wait for.
    silent.set("slow.test", Say::Silence);
    good.set("slow.test", Say::Unknown);
    let mut last = weir.connect();
    last.send(b"GET /?to=slow.test HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    wait_until(PATIENCE, "it is asked", || {
        silent.asked("slow.test").len() + good.asked("slow.test").len() > 0
    });
    weir.signal(Signal::SIGQUIT);
    assert_eq!(last.response("GET").unwrap().status, 502);
    weir.process().wait(PATIENCE);
}

#[test]
fn a_body_waits_for_its_name() {
    let (backends, port) = backends(&["127.0.0.2"]);
    let dns = Dns::start();
    dns.is("back.test", &["127.0.0.2"], 0);
    let weir = anywhere(&resolver(&dns)).start();
    let mut client = weir.connect();
    let body = vec![b'x'; 100_000];
    let head = format!(
        "POST /?to=back.test:{port} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..3 {
        client.send(head.as_bytes()).unwrap();
        client.send(&body).unwrap();
        assert_eq!(client.response("POST").unwrap().status, 200);
    }
    assert!(
        backends[0]
            .requests()
            .iter()
            .all(|request| request.body == body)
    );
    assert_eq!(dns.asked("back.test").len(), 3, "a TTL of 0 is not kept");
}
